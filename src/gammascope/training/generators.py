"""Train a generator as a recipe with a section ``generator`` says; a resumed run equals an uninterrupted one.

What step n sees and draws depends on the seed and n alone. A generator's stages follow one another, each with the
parameters it trains, its own optimiser and a cosine of learning rates. What is kept are averaged weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gammascope import settings
from gammascope.data.manifest import read_manifest
from gammascope.errors import MissingDataError, RecipeError, UndecodableImageError
from gammascope.files import complete_or_absent
from gammascope.generation import base, spatial_context
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import crop_at
from gammascope.sample import Entry, Image, Label
from gammascope.training.run_folder import Progress, claim

STATE = "state.pt"
"""Name of the file that an interrupted run goes on from."""


_WARMUP_STEPS = 50
_EMA_RISE = 10.0  # the average forgets its first steps


@dataclass(frozen=True, slots=True)
class Pool:
    """What a generator sees.

    Attributes:
        manifests: Their real photos are learnt; relative paths count from the working directory.
        split: Rows of this split are used.
        held_out: Sources that are never seen.
        classes: Sources of each class; photos of others have none.
        photos: At most so many are held, spread evenly over the manifests.
        crops: So many crops of each photo are encoded for a generator that writes latents: each once, when a step first
            wants it, and kept in memory (of 256 px, 128 kB by TAEF2). Other generators see new crops in every step.
        context: A family of stochastic context models to draw anew in place of photos; its kinds are the classes.
    """

    manifests: tuple[str, ...] = ()
    split: str = "train"
    held_out: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    photos: int = 4000
    crops: int = 4
    context: str = ""

    def __post_init__(self) -> None:
        if min(self.photos, self.crops) < 1:
            raise RecipeError(
                f"photos={self.photos}, crops={self.crops}: expected 1 or more of each."
            )
        if self.context:
            spatial_context.family(self.context)  # refuses an unknown one


@dataclass(frozen=True, slots=True)
class Schedule:
    """How it is trained.

    Attributes:
        steps: Updates of all stages together.
        batch: Pictures per update.
        learning_rate: Of AdamW, after the warm-up.
        weight_decay: Of AdamW.
        ema: Highest decay of the averaged weights.
        save: The state is written after so many steps.
    """

    steps: int = 3000
    batch: int = 16
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    ema: float = 0.995
    save: int = 200

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.save) < 1 or not 0 <= self.ema < 1:
            raise RecipeError(
                f"steps={self.steps}, batch={self.batch}, save={self.save}: expected 1 or more; "
                f"ema={self.ema}: expected 0 or more, below 1."
            )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise RecipeError(
                f"learning_rate={self.learning_rate}, weight_decay={self.weight_decay}: "
                "expected above 0, 0 or more."
            )


@dataclass(frozen=True, slots=True)
class GeneratorRecipe:
    """A complete training run of a generator.

    Attributes:
        generator: Its name.
        config: Its config.
        data: What it sees.
        optimisation: How it is trained.
        first_stage: Folder of the autoencoder whose latents it writes; its weights become part of the generator's file.
        seed: Of all randomness.
        trained_on: One line about the data and its terms, for the file.
    """

    generator: str
    config: Any
    data: Pool = field(default_factory=Pool)
    optimisation: Schedule = field(default_factory=Schedule)
    first_stage: str = ""
    seed: int = 0
    trained_on: str = ""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise RecipeError(f"seed={self.seed}: expected 0 or more.")


_SECTIONS: Mapping[str, type] = {"generator": Mapping, "data": Mapping, "optimisation": Mapping}
_PLAIN: Mapping[str, type] = {"first_stage": str, "seed": int, "trained_on": str}


def recipe_of(values: Mapping[str, Any], where: str) -> GeneratorRecipe:
    """Build a recipe from plain types, as a TOML file holds them.

    Raises:
        RecipeError: If it has an unknown section or key, an unknown generator, or an impossible value.
    """
    _check_layout(values, where)
    config = dict(values.get("generator", {}))
    name = config.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(f"{where}: [generator] needs name = '...': {', '.join(base.names())}.")
    kind = base.get(name)
    merged = settings.plain(kind.config) | config
    rest = {key: value for key, value in values.items() if key in _PLAIN}
    return GeneratorRecipe(
        name,
        settings.parse(type(kind.config), merged, f"{where}, [generator]"),
        settings.parse(Pool, values.get("data", {}), f"{where}, [data]"),
        settings.parse(Schedule, values.get("optimisation", {}), f"{where}, [optimisation]"),
        **rest,
    )


def _check_layout(values: Mapping[str, Any], where: str) -> None:
    known = {**_SECTIONS, **_PLAIN}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(
                f"{where}: unknown key {key!r} beside [generator]. Known: {', '.join(sorted(known))}."
            )
        # To Python, true is the number 1.
        if not isinstance(value, known[key]) or isinstance(value, bool):
            expected = f"a section [{key}]" if key in _SECTIONS else known[key].__name__
            raise RecipeError(f"{where}: {key} = {value!r}: expected {expected}.")


def train(
    recipe: GeneratorRecipe,
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train a generator and write its file.

    Args:
        recipe: What to do.
        folder: Gets ``generator.safetensors``, the recipe, ``log.jsonl``, and the state to resume from.
        resume: Go on from the folder's state.
        stop_after: Stop, resumably, after this many steps; the file then holds the weights so far.
        report: Told about progress.

    Returns:
        The file.

    Raises:
        RecipeError: If the folder holds a run and ``resume`` is not said, or one of another recipe; if an autoencoder
            is named for a generator that takes none, or none for one that does; if the classes do not fit the data.
        MissingDataError: If there is no photo that can be read, no such autoencoder, or nothing to resume.
        IncompatibleCheckpointError: If the autoencoder is not the one of the config.
    """
    network = _begun(recipe)
    show = _shower(recipe, network, report)  # what cannot be shown leaves no folder behind
    claim(folder, settings.plain(recipe), STATE, resume=resume, known=_completed)
    run = _Run(recipe, folder, network)
    if resume:
        run.read()
    last = min(recipe.optimisation.steps, stop_after or recipe.optimisation.steps)
    while run.step < last:
        losses = run.advance(show(run.step))
        if run.step % recipe.optimisation.save == 0 or run.step == last:
            run.write(losses)
        report(Progress("training", run.step, recipe.optimisation.steps, losses))
    return run.finish()


def _completed(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give an older run's recipe the settings of data that it lacks."""
    return {**kept, "data": settings.plain(Pool()) | kept["data"]}


def _begun(recipe: GeneratorRecipe) -> base.Generator:
    """Build what is trained."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = base.build(recipe.generator, recipe.config)
    if isinstance(network, base.TwoStage):
        if not recipe.first_stage:
            raise RecipeError(
                f"{recipe.generator} writes the latents of an autoencoder: say first_stage = 'FOLDER'."
            )
        network.adopt(Path(recipe.first_stage))
    elif recipe.first_stage:
        raise RecipeError(
            f"{recipe.generator} writes pixels: leave out first_stage = {recipe.first_stage!r}."
        )
    return network


class _Run:
    """The mutable side of a training."""

    def __init__(self, recipe: GeneratorRecipe, folder: Path, network: base.Generator) -> None:
        self.recipe, self.folder, self.step = recipe, folder, 0
        self.kind, self.network = base.get(recipe.generator), network.train()
        self.averaged = {k: v.clone() for k, v in self.network.state_dict().items()}
        shares = accumulate(stage.share for stage in self.kind.stages)
        self.ends = [max(1, round(share * recipe.optimisation.steps)) for share in shares]
        self._begin_stage()

    def _begin_stage(self) -> None:
        plan = self.recipe.optimisation
        self.index = next(i for i, end in enumerate(self.ends) if self.step < end)
        trained = list(self.kind.stages[self.index].trained(self.network))
        self.network.requires_grad_(requires_grad=False)
        for parameter in trained:
            parameter.requires_grad_()
        self.optimiser = torch.optim.AdamW(
            trained, plan.learning_rate, weight_decay=plan.weight_decay
        )

    def advance(self, shown: base.Shown) -> dict[str, float]:
        """Take one step."""
        begun = self.ends[self.index - 1] if self.index else 0
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.step - begun, self.ends[self.index] - begun)
        with torch.random.fork_rng():
            torch.manual_seed(hash((self.recipe.seed, self.step)) % 2**63)
            terms = self.kind.stages[self.index].terms(self.network, shown)
            loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise RecipeError(f"Step {self.step}: the loss is {float(loss)}; lower learning_rate.")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.optimiser.param_groups[0]["params"], 1.0)
        self.optimiser.step()
        self._average(self.step - begun)
        self.step += 1
        if self.step == self.ends[self.index] and self.step < self.ends[-1]:
            # The next stage builds on what this one keeps.
            self.network.load_state_dict(self.averaged)
            self._begin_stage()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _average(self, done: int) -> None:
        decay = min(self.recipe.optimisation.ema, (1 + done) / (_EMA_RISE + done))
        for name, value in self.network.state_dict().items():
            kept = self.averaged[name]
            if value.is_floating_point():
                kept.lerp_(value.detach(), 1 - decay)
            else:
                kept.copy_(value)

    def _rate(self, done: int, steps: int) -> float:
        plan = self.recipe.optimisation
        rising = min(1.0, (done + 1) / min(_WARMUP_STEPS, steps))
        return plan.learning_rate * rising * (0.55 + 0.45 * math.cos(math.pi * done / steps))

    def write(self, losses: Mapping[str, float]) -> None:
        """Write the state, and a line of the log."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
        }
        with complete_or_absent(self.folder / STATE) as unfinished:
            torch.save(state, unfinished)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": self.step, **losses}) + "\n")

    def read(self) -> None:
        """Go on from the state."""
        state = torch.load(self.folder / STATE, map_location="cpu", weights_only=True)
        self.step = int(state["step"])
        self.network.load_state_dict(state["network"])
        self.averaged = state["averaged"]
        if self.step < self.ends[-1]:
            self._begin_stage()
            self.optimiser.load_state_dict(state["optimiser"])

    def finish(self) -> Path:
        """Write the generator."""
        self.network.load_state_dict(self.averaged)
        self.network.weights = "self-trained"
        path = self.folder / base.FILE
        with complete_or_absent(path) as unfinished:
            unfinished.write_bytes(base.to_bytes(self.network, self.recipe.trained_on))
        return path


def _shower(
    recipe: GeneratorRecipe, network: base.Generator, report: Callable[[Progress], None]
) -> Callable[[int], base.Shown]:
    """Return what says which pictures a step sees."""
    if recipe.data.context:
        return _drawer(recipe, network)
    arriving = _held(recipe, network.native_px, report)
    held = [next(arriving)]  # one photo can be read; the others are, before the first step

    def crop_of(photo: int, rng: np.random.Generator) -> Tensor:
        return base.to_pixels(_crop(held[photo][0], network.native_px, rng))

    @cache
    def tokens_of(photo: int, crop: int) -> Tensor:
        # Alone, not in a batch, whose other pictures could move the last digit: a resumed run encodes in another order.
        pixels = crop_of(photo, np.random.default_rng((recipe.seed, photo, crop)))
        return cast(base.TwoStage, network).tokens(pixels)

    def photographed(step: int) -> base.Shown:
        held.extend(arriving)
        rng = np.random.default_rng((recipe.seed, step))
        count = recipe.optimisation.batch
        chosen = rng.integers(len(held), size=count).tolist()
        if isinstance(network, base.TwoStage):
            crops = rng.integers(recipe.data.crops, size=count).tolist()
            pictures = [tokens_of(*each) for each in zip(chosen, crops, strict=True)]
        else:
            pictures = [crop_of(photo, rng) for photo in chosen]
        return base.Shown(torch.cat(pictures), torch.tensor([held[photo][1] for photo in chosen]))

    return photographed


def _drawer(recipe: GeneratorRecipe, network: base.Generator) -> Callable[[int], base.Shown]:
    """Return what draws the pictures of a step after the rules of a context."""
    family, px = recipe.data.context, network.native_px
    spatial_context.draw(family, np.random.default_rng(0), side=px)  # refuses what cannot be
    classes, kinds = _classes(recipe), spatial_context.family(family).kinds
    if classes and len(classes) != kinds:
        raise RecipeError(f"[generator] names {len(classes)} classes; {family} has {kinds} kinds.")

    def drawn(step: int) -> base.Shown:
        rng = np.random.default_rng((recipe.seed, step))
        count = recipe.optimisation.batch
        made = [spatial_context.draw(family, rng, side=px) for _ in range(count)]
        pictures = torch.cat([base.to_pixels(each.image) for each in made])
        if isinstance(network, base.TwoStage):
            pictures = network.tokens(pictures)
        return base.Shown(pictures, torch.tensor([each.kind if classes else -1 for each in made]))

    return drawn


def _classes(recipe: GeneratorRecipe) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(recipe.config, "classes", ())
    return found


def _held(
    recipe: GeneratorRecipe, px: int, report: Callable[[Progress], None]
) -> Iterator[tuple[Image, int]]:
    """Yield photos, reduced to twice the side that is learnt, with the index of their class."""
    pool, classes = recipe.data, _classes(recipe)
    photos = photos_of(pool)
    photos = photos[:: max(1, math.ceil(len(photos) / pool.photos))]
    unknown = sorted(set(pool.classes) - set(classes))
    if unknown:
        raise RecipeError(
            f"[data.classes] has {unknown[0]!r}, which [generator] has not: {', '.join(classes)}."
        )
    where = {
        source: classes.index(name) for name, given in pool.classes.items() for source in given
    }
    found = 0
    for done, photo in enumerate(photos, start=1):
        report(Progress("loading", done, len(photos), {}))
        try:
            image = decode(photo.path).image
        except UndecodableImageError:
            continue  # training needs photos, not this one
        found += 1
        reduced = codecs.rescale(image, min(1.0, 2 * px / min(image.shape[:2])))
        yield reduced, where.get(photo.source or "", -1)
    if not found:
        raise MissingDataError(f"None of {len(photos)} photos could be read.")


def photos_of(pool: Pool) -> list[Entry]:
    """List the photos that may be learnt.

    Raises:
        MissingDataError: If there is none.
    """
    entries = [
        entry
        for manifest in pool.manifests
        for entry in read_manifest(Path(manifest), pool.split)
        if entry.label is Label.REAL and entry.source not in pool.held_out
    ]
    if not entries:
        named = ", ".join(pool.manifests) or "no manifest (--data)"
        raise MissingDataError(f"No real photo to train on in {named}, split {pool.split!r}.")
    return entries


def _crop(image: Image, px: int, rng: np.random.Generator) -> UInt8[np.ndarray, "px px 3"]:
    smallest = px / min(image.shape[:2])
    image = codecs.rescale(image, rng.uniform(min(1.0, smallest), min(1.0, 1.5 * smallest)))
    left, top = (
        int(rng.integers(max(0, extent - px) + 1)) for extent in (image.shape[1], image.shape[0])
    )
    crop = crop_at(image, left, top, px)
    return crop[:, ::-1] if rng.random() < 0.5 else crop
