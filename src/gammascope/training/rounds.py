"""Train a detector in rounds: look where it errs, make pictures there, train anew with them (ActGen, arXiv:2403.06517).

Guides are photos of sources that the recipe's data lose, each with an edit of it; the detector of each round says what
it thinks of them, and ``data.policies.actgen`` which photos are edited next. ``choice="random"`` is what that has to be
compared with. Each round trains from the start, so its detector follows from recipe, seed and pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from gammascope import checkpoints
from gammascope.choices import GuideChoice
from gammascope.data.augmenting import PolicyPlan, augment
from gammascope.data.identity import distinct, network_sha256
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.data.policies import actgen
from gammascope.data.products import MANIFEST, claim
from gammascope.detection.pipeline import Execution, Pipeline
from gammascope.detectors.base import Detector
from gammascope.errors import MissingDataError, RecipeError
from gammascope.files import complete_or_absent
from gammascope.generation.base import Critic, Generator
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Image, Label
from gammascope.training import loop
from gammascope.training.following import follow
from gammascope.training.recipe import Recipe, plain_recipe
from gammascope.training.run_folder import RECIPE, Progress

LOG = "rounds.json"
"""Name of the file that says what each round found."""

OPINIONS = "opinions.json"
"""Name of the file of a round with its detector's logits of each guide, photo and edit, in the order of ``guides``."""

_POLICY = "actgen"
_DATA = "data.csv"


@dataclass(frozen=True, slots=True)
class Rounds:
    """What is done.

    Attributes:
        guides: Sources whose photos are examined, and edited; nothing else of them is learnt.
        count: Of rounds.
        budget: Pairs of an edit and its photo in each.
        choice: Which photos are edited.
        guided: Whether a growing share of the edits is made against the detector.
        most: At most so many photos are guides, spread evenly.
        seed: Of all draws but the training's.
        encoding: Of all pictures made.
        largest_side: Larger photos are reduced to this longer side before they are edited, pixels; None: never.
    """

    guides: tuple[str, ...]
    count: int = 3
    budget: int = 100
    choice: GuideChoice = "errors"
    guided: bool = True
    most: int = 1000
    seed: int = 0
    encoding: codecs.Encoding = field(default_factory=lambda: codecs.Encoding("jpeg", 90))
    largest_side: int | None = None

    def __post_init__(self) -> None:
        if min(self.count, self.budget) < 1 or self.most < self.budget:
            raise RecipeError(
                f"count={self.count}, budget={self.budget}, most={self.most}: expected 1 or more, and no fewer guides "
                "than a round edits."
            )


@dataclass(frozen=True, slots=True)
class Found:
    """What one round found.

    Attributes:
        guides: Photos examined, each beside its edit.
        false_alarms: Of them, called fake.
        missed: Edits of them called real.
        made: Pairs made.
        either_way: Photos chosen that the other choice takes, too; about ``budget**2 / guides`` by chance.
        hard: Edits made that the detector, which did not know them, calls real.
        survived: Of these, still called real after JPEG at quality 90 and a reduction to 0.9 of the side.
    """

    guides: int
    false_alarms: int
    missed: int
    made: int
    either_way: int
    hard: int
    survived: int


def run(
    recipe: Recipe,
    plan: Rounds,
    generator: Generator,
    folder: Path,
    report: Callable[[Progress], None] = lambda _: None,
) -> tuple[Path, list[Found]]:
    """Run all rounds, and train once more with all that they made; an interrupted run goes on.

    Args:
        recipe: How the detector is trained.
        plan: What is done.
        generator: What edits; goes against the detector if it can and the plan wants it.
        folder: Gets ``guides``, ``round-N/detector``, ``round-N/opinions.json``, ``round-N/made``, ``detector``, and
            ``rounds.json``.
        report: Told about progress.

    Returns:
        The last checkpoint, not calibrated, and what each round found.

    Raises:
        RecipeError: If a guide source or the generator is kept apart for validation, there are fewer guides than a
            round edits, generator or detector cannot do what is asked, or the folder holds another run.
        MissingDataError: If a guide source has no photo, or nothing else is left to train on.
    """
    generator.require("edit")
    if plan.guided:
        generator.require("guided")
    if generator.signature in recipe.data.validation_generators:
        raise RecipeError(
            f"{generator.signature} is kept apart for validation: nothing that it makes would be learnt."
        )
    training, guides = divided(recipe, plan)
    folder = folder.absolute()  # recipes of interrupted rounds name files in it
    wanted = _Claim(plain_recipe(recipe), plan, generator.signature)
    claim(folder, wanted, generator=network_sha256(generator))
    write_manifest(training, folder / _DATA)
    work = _Work(recipe, plan, generator, folder, report)
    pairs = work.guides(guides)
    made: list[Path] = []
    found = []
    for number in range(plan.count):
        detector = work.trained(folder / f"round-{number}" / "detector", made)
        found.append(work.round(number, detector, pairs))
        made.append(folder / f"round-{number}" / "made" / MANIFEST)
    with complete_or_absent(folder / LOG) as unfinished:
        unfinished.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    return work.trained(folder / "detector", made), found


def divided(recipe: Recipe, plan: Rounds) -> tuple[list[Entry], list[Entry]]:
    """List what is trained on, and the guides.

    Raises:
        RecipeError: If a guide source is kept apart for validation, there are fewer guides than a round edits, or
            pictures are streamed.
        MissingDataError: If a guide source has no photo, or nothing else is left.
    """
    if recipe.data.streaming.source:
        raise RecipeError("Rounds read pictures of this machine: leave out data.streaming.source.")
    if not recipe.data.manifests:
        raise MissingDataError("The recipe names no data: give --data MANIFEST.csv.")
    entries = [
        entry
        for manifest in recipe.data.manifests
        for entry in read_manifest(Path(manifest), recipe.data.split)
    ]
    kept = sorted(set(plan.guides) & set(recipe.data.validation_sources))
    if kept:
        raise RecipeError(f"Source {kept[0]} is kept apart for validation: it guides nothing.")
    photos = [e for e in entries if e.label is Label.REAL and e.source in plan.guides]
    hosts = {photo.path for photo in photos}
    absent = sorted(set(plan.guides) - {photo.source for photo in photos})
    if absent or not photos:
        raise MissingDataError(f"No photo of guide source {', '.join(absent) or '(none named)'}.")
    photos = distinct(sorted(photos, key=lambda entry: str(entry.path)))
    if len(photos) < plan.budget:
        raise RecipeError(f"A budget of {plan.budget} with {len(photos)} guides: expected no more.")
    training = [e for e in entries if e.source not in plan.guides and e.host_path not in hosts]
    if not training:
        raise MissingDataError("Nothing is left to train on: all pictures are of guide sources.")
    spread = np.linspace(0, len(photos) - 1, min(plan.most, len(photos))).round().astype(int)
    return training, [photos[index] for index in spread]


def critic_of(detector: Detector) -> Critic:
    """Make a critic of a detector: its mean logit over the views of a picture, with gradients to the pixels."""
    # Of no tiles beside a mosaic one is left, in the middle.
    most = detector.view.max_tiles
    spec = replace(detector.view, overview=0.0, mosaic=0.0, max_tiles=1 if most == 0 else most)
    detector = detector.eval().requires_grad_(requires_grad=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))

    def critic(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        seen = []
        height, width = pixels.shape[-2:]
        for place in views.places_of((width, height), spec):
            left, top, *_ = place.box
            if spec.fit == "resize":
                side = (spec.size, spec.size)
                view = functional.interpolate(pixels, side, mode="bicubic", antialias=True)
            else:
                rows = torch.from_numpy(views.mirrored(int(top), spec.size, height))
                columns = torch.from_numpy(views.mirrored(int(left), spec.size, width))
                view = pixels[..., rows, :][..., columns]
            said = detector((view - mean.to(view)) / std.to(view))
            seen.append(said.answers.get("generated", said.logit))
        return torch.stack(seen).mean(0)

    return critic


@dataclass(frozen=True, slots=True)
class _Claim:
    recipe: dict[str, Any]
    rounds: Rounds
    generator: str


class _Work:
    """What the rounds of one run share."""

    def __init__(
        self,
        recipe: Recipe,
        plan: Rounds,
        generator: Generator,
        folder: Path,
        report: Callable[[Progress], None],
    ) -> None:
        self.recipe, self.plan, self.generator = recipe, plan, generator
        self.folder, self.report = folder, report

    def guides(self, photos: Sequence[Entry]) -> list[tuple[Entry, Path, Path]]:
        """Edit each guide once; return photos, and the files of both."""
        plan = self._plan(len(photos))
        made = self._made("guides", photos, plan, self.folder / "guides")
        hosts = {str(job.twin): job.host for job, _ in plan.pairs(photos, self.generator)}
        files: dict[str, dict[Label, Path]] = {}
        for entry in made:
            files.setdefault(entry.origin.twin if entry.origin else "", {})[entry.label] = (
                entry.path
            )
        return [(hosts[twin], by[Label.REAL], by[Label.FAKE]) for twin, by in files.items()]

    def trained(self, folder: Path, made: Sequence[Path]) -> Path:
        """Train with what was made so far, unless that is done."""
        done = folder / loop.CHECKPOINT
        if done.is_file():
            return done
        manifests = (str(self.folder / _DATA), *map(str, made))
        recipe = replace(self.recipe, data=replace(self.recipe.data, manifests=manifests))
        begun = (loop.STATE, f"{loop.STATE}.old") if recipe.probing is None else (RECIPE,)
        resume = any((folder / name).exists() for name in begun)
        return follow(recipe, folder, resume=resume, report=self.report)

    def round(
        self, number: int, checkpoint: Path, pairs: Sequence[tuple[Entry, Path, Path]]
    ) -> Found:
        """Look at the guides, choose, make, and look at what was made."""
        pipeline = Pipeline.load(checkpoint, execution=Execution("torch"))
        place = self.folder / f"round-{number}"
        opinions = self._opinions(place / OPINIONS, pipeline, pairs)
        budget, state = self.plan.budget, (self.plan.seed, number)
        photos = actgen.chosen(opinions, budget, self.plan.choice, np.random.default_rng(state))
        share = actgen.guided_share(number, self.plan.count) if self.plan.guided else 0.0
        critic = _checked(critic_of(checkpoints.load(checkpoint).detector)) if share else None
        plan = replace(self._plan(len(photos)), seed=self.plan.seed + number + 1, guided=share)
        made = self._made(f"round {number}", photos, plan, place / "made", critic)
        fakes = [decode(entry.path).image for entry in made if entry.label is Label.FAKE]
        hard = [image for image in fakes if _logit(pipeline, image) <= 0]
        survived = [image for image in hard if _logit(pipeline, _processed(image)) <= 0]
        return Found(
            len(opinions),
            sum(opinion.photo > 0 for opinion in opinions),
            sum(opinion.edit <= 0 for opinion in opinions),
            len(fakes),
            actgen.either_way(opinions, budget, state),
            len(hard),
            len(survived),
        )

    def _opinions(
        self, place: Path, pipeline: Pipeline, pairs: Sequence[tuple[Entry, Path, Path]]
    ) -> list[actgen.Opinion]:
        """Judge the guides once: on another machine the last digits differ, and with them whom a resumed run chose."""
        if place.is_file():
            logits = json.loads(place.read_text("utf-8"))
        else:
            logits = []
            for done, (_, *files) in enumerate(pairs, start=1):
                logits.append([_logit(pipeline, decode(path).image) for path in files])
                self.report(Progress("guides", done, len(pairs), {}))
            with complete_or_absent(place) as unfinished:
                unfinished.write_text(json.dumps(logits) + "\n", "utf-8")
        return [
            actgen.Opinion(host, *said) for (host, _, _), said in zip(pairs, logits, strict=True)
        ]

    def _plan(self, budget: int) -> PolicyPlan:
        return PolicyPlan(
            _POLICY,
            budget,
            self.generator.signature,
            self.recipe.data.validation_sources,
            self.plan.seed,
            self.plan.encoding,
            None if self.generator.any_size else self.generator.native_px,
            largest_side=self.plan.largest_side,
        )

    def _made(
        self,
        stage: str,
        photos: Sequence[Entry],
        plan: PolicyPlan,
        folder: Path,
        critic: Critic | None = None,
    ) -> tuple[Entry, ...]:
        def progress(done: int, total: int) -> None:
            self.report(Progress(stage, done, total, {}))

        return augment(
            photos, folder, plan, self.generator, critic=critic, progress=progress
        ).entries


def _logit(pipeline: Pipeline, image: Image) -> float:
    scores = pipeline.scores(image)
    return float(scores.answers.get(scores.question, scores.logit))


def _processed(image: Image) -> UInt8[np.ndarray, "rows columns 3"]:
    return codecs.rescale(codecs.reencode(image, codecs.Encoding("jpeg", 90)), 0.9)


def _checked(critic: Critic) -> Critic:
    """Refuse a detector that gives no gradient, before anything is made against it."""
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        (slope,) = torch.autograd.grad(critic(pixels).sum(), pixels)
    except RuntimeError as error:
        raise RecipeError(
            "This detector gives no gradient, so nothing can be made against it: say --no-guided."
        ) from error
    if not torch.isfinite(slope).all():
        raise RecipeError("This detector's gradient is not finite: say --no-guided.")
    return critic
