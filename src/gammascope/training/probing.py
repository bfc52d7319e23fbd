"""Fit a method to cached features of its frozen backbone: what costs is looked at once, whatever is tried on it.

A training view is a function of (seed, number), so what a frozen backbone sees in it is one, too. Features are kept in
chunks under a key made from the content of all that decides them: image files, mixture, nuisance, seed, view, and the
backbone's weights. A changed penalty finds them there; a changed image does not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch

import gammascope
from gammascope import settings
from gammascope.detectors import base
from gammascope.detectors.base import FittedDetector, Seen
from gammascope.errors import MissingDataError, RecipeError, UndecodableImageError
from gammascope.files import complete_or_absent
from gammascope.imaging.decode import content_of
from gammascope.networks.pretrained import refuse_untaught
from gammascope.prediction import Batch
from gammascope.sample import Entry
from gammascope.training import loop, views
from gammascope.training.loop import CHECKPOINT, LOG
from gammascope.training.recipe import Probing, Recipe, plain_recipe
from gammascope.training.run_folder import RECIPE, Progress, claim
from gammascope.training.validation import summarise

FEATURES = "features"
CHUNK = 256
"""Views in one file; an interrupted run loses at most so many."""


def fit(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Fit the recipe's method to features, in one process, and write ``checkpoint.safetensors`` into a folder.

    Args:
        recipe: What to do; has a section ``probing``.
        folder: Gets the recipe, ``log.jsonl``, the checkpoint, and the features unless ``probing.cache`` names a place.
        resume: Go on in a folder of the same recipe: features that are there are not computed again.
        report: Told about progress.

    Returns:
        The checkpoint's path; not calibrated yet.

    Raises:
        MissingDataError: If there is nothing to fit to, one class is missing, or there is nothing to resume.
        RecipeError: If the method has no frozen backbone, or one with random weights, or the folder holds another run.
    """
    how = recipe.probing or Probing()
    if how.views < 1:
        raise RecipeError(f"probing.views = {how.views}: expected at least 1.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("A fit runs in one process: start it without a launcher.")
    if recipe.data.streaming.source:
        raise RecipeError("A fit reads pictures of this machine: leave out data.streaming.source.")
    torch.manual_seed(recipe.seed)
    detector = base.get(recipe.method).build(recipe.config)
    if not isinstance(detector, FittedDetector):
        raise RecipeError(
            f"Method {recipe.method!r} has no frozen part to fit on: leave out the section probing."
        )
    refuse_untaught(recipe.config, detector)
    loop.keep_states(detector, recipe)
    detector.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    features = _Features(recipe, detector, Path(how.cache or folder / FEATURES), report)
    # Only now: a recipe whose pictures are not there leaves nothing behind that would have to be resumed.
    claim(folder, settings.plain(plain_recipe(recipe)), RECIPE, resume=resume)
    training = features.seen("training", how.views)
    if training is None:
        raise MissingDataError("No image to train on: all belong to validation sources.")
    validation = features.seen("validating", recipe.rhythm.validation_views)
    detector.cpu()
    torch.manual_seed(recipe.seed)  # the same fit, however many features had to be computed
    figures = detector.fit(training, validation)
    if validation is not None:
        figures |= _validated(detector, validation)
    line = {"step": 0, "stage": "validation"} | figures
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    loop.write_checkpoint(
        folder / CHECKPOINT, detector, recipe, views.sources_of(features.entries["training"])
    )
    report(Progress("training", how.views, how.views, figures))
    return folder / CHECKPOINT


class _Features:
    """Features by stage, from the cache as far as they are there."""

    def __init__(
        self,
        recipe: Recipe,
        detector: FittedDetector,
        cache: Path,
        report: Callable[[Progress], None],
    ) -> None:
        self.recipe, self.detector, self.cache, self.report = recipe, detector, cache, report
        training, validation = views.entries_of(recipe)
        self.entries = {"training": training, "validating": validation}
        self.key = _key(recipe, detector, training, validation)
        self.streams: dict[str, views.Views | None] = {}  # opened when first something is missing

    def seen(self, stage: str, views: int) -> Seen | None:
        """Return the features of the first views of a stage; None where it has no images."""
        if not self.entries[stage]:
            return None
        parts = []
        for start in range(0, views, CHUNK):
            stop = min(start + CHUNK, views)
            parts.append(self._chunk(stage, start, stop))
            self.report(Progress(stage, stop, views, {}))
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        known = found["generated"] >= 0  # nothing can be fitted to the others
        features, label, *_ = (found.pop(name)[known] for name in ("features", "label"))
        return Seen(features, label, {name: answer[known] for name, answer in found.items()})

    def _chunk(self, stage: str, start: int, stop: int) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load, save

        path = self.cache / self.key / f"{stage}-{start:07d}-{stop:07d}.safetensors"
        if path.is_file():
            with suppress(SafetensorError):  # broken by whatever else: made again
                kept: dict[str, torch.Tensor] = load(path.read_bytes())
                return kept
        found = self._computed(stage, start, stop)
        with complete_or_absent(path) as unfinished:
            unfinished.write_bytes(save(found))
        return found

    @torch.inference_mode()
    def _computed(self, stage: str, start: int, stop: int) -> dict[str, torch.Tensor]:
        batches = list(self._batches(stage, start, stop))
        device = next(self.detector.parameters()).device
        features = [self.detector.features(b.pixels.to(device)).float().cpu() for b in batches]
        answers = {
            name: torch.cat([b.answers[name] for b in batches]) for name in batches[0].answers
        }
        label = torch.cat([b.label for b in batches])
        return {"features": torch.cat(features), "label": label} | answers

    def _batches(self, stage: str, start: int, stop: int) -> Iterator[Batch]:
        if not self.streams:
            training, validation = views.streams(self.recipe, self.detector, self.report)
            self.streams = {"training": training, "validating": validation}
        stream = cast(views.Views, self.streams[stage])  # its entries exist, or no step would draw
        batch, workers = min(CHUNK, self.recipe.optimisation.batch), self.recipe.data.workers
        yield from views.loader_of(stream, start, stop, batch, self.detector.view, workers)


def _key(
    recipe: Recipe, detector: FittedDetector, training: list[Entry], validation: list[Entry]
) -> str:
    """Hash the content of everything that decides the features of the views of both stages."""
    data = recipe.data
    facts: dict[str, Any] = {
        "gammascope": gammascope.__version__,  # another version may draw other views
        "seed": recipe.seed,
        "view": settings.plain(detector.view),
        "seen_through": settings.plain(detector.seen_through),
        "mixture": settings.plain(data.mixture),
        "nuisance": settings.plain(data.nuisance),
        "cap": data.cap,
    }
    if data.pairs.share:
        facts["pairs"] = settings.plain(data.pairs)
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(detector.backbone.state_dict().items()):
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    for stage, entries in (("training", training), ("validating", validation)):
        for entry in entries:
            host = entry.host_path
            described = [stage, int(entry.label), entry.generator, entry.kind, entry.source]
            described += [entry.panels, entry.path.suffix.lower(), host and _content(host)]
            for masks in ((entry.generated_path,), (entry.edited_path,), entry.object_paths):
                described.append([_content(mask) for mask in masks if mask])
            digest.update(json.dumps([*described, _content(entry.path)]).encode())
    return digest.hexdigest()


def _content(path: Path) -> str:
    """Hash a file's content; one that cannot be read counts as itself, for the stream leaves it out."""
    try:
        return hashlib.blake2b(content_of(path), digest_size=16).hexdigest()
    except UndecodableImageError as error:
        return f"unreadable: {error}"


def _validated(detector: FittedDetector, validation: Seen) -> dict[str, float]:
    with torch.inference_mode():
        prediction = detector.answer(validation.features)
    nothing = torch.zeros(len(validation.label), 3, 1, 1)  # figures need no pixels
    return summarise([(prediction, Batch(nothing, validation.label, validation.answers))])
