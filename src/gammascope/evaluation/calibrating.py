"""Fit a checkpoint's scale and thresholds on sources it never saw, and write them into it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gammascope import checkpoints
from gammascope.checkpoints import Calibration
from gammascope.data.manifest import load_sample
from gammascope.data.pictures import Pictures
from gammascope.errors import MissingDataError, UndecodableImageError
from gammascope.evaluation.calibration import fit_scale, fit_thresholds
from gammascope.imaging.codecs import EncodingLaw
from gammascope.manipulation.base import SMALLEST_PX
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.pipeline import Pipeline
from gammascope.sample import Entry, Image, Label

RATES = (0.05, 0.01)
"""Shares of held-out real photos that may be called uncertain or fake, and fake."""

_DONORS_BYTES = 1 << 30
"""Memory for decoded photos that splices take their parts from."""


@dataclass(slots=True)
class _Gathered:
    """Logits and truth of one question, with each image's source."""

    logits: list[float] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    real: list[bool] = field(default_factory=list)


def calibrate(
    path: Path, entries: Sequence[Entry], *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Calibration]:
    """Fit and store temperature, offset and thresholds of every image-level answer.

    Every image counts twice, as it is and re-encoded once by the training law, so that thresholds hold for
    both. To teach "edited" its scale, each real photo also gives one copy-move or splice. Thresholds are set on real
    photos alone, each source weighing the same (see ``fit_thresholds``).

    Args:
        path: The checkpoint; rewritten with the same weights.
        entries: Real and fake images of sources that were not trained on.
        progress: Called with (done, all) after each image.

    Raises:
        MissingDataError: If there is no real photo, or a source was trained on according to the checkpoint.
        IncompatibleCheckpointError: If the file is no checkpoint.
    """
    pipeline, pictures = Pipeline.load(path), Pictures(_DONORS_BYTES)
    _refuse_trained(pipeline.facts, entries)
    photos = [entry for entry in entries if entry.label is Label.REAL]
    if not photos:
        raise MissingDataError(
            "No real photo among the images to calibrate on: thresholds need them."
        )
    gathered: dict[str, _Gathered] = {}
    for done, entry in enumerate(entries, start=1):
        try:
            for image, truth, real in _versions(entry, photos, pictures):
                _gather(gathered, pipeline.scores(image).answers, truth, entry, real=real)
        except UndecodableImageError:
            pass  # a broken file calibrates nothing
        if progress is not None:
            progress(done, len(entries))
    calibration = {question: _fit(found) for question, found in gathered.items()}
    checkpoints.recalibrate(path, calibration)
    return calibration


def _versions(
    entry: Entry, photos: Sequence[Entry], pictures: Pictures
) -> Iterator[tuple[Image, Mapping[str, int], bool]]:
    """Yield an image's versions with the truth about each and whether it is a real photo."""
    # Random, but the same for the same file, whatever else is in the list.
    rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()))
    law = EncodingLaw(untouched=0.0, jpeg=0.7, double_jpeg=0.2, webp=0.1)
    sample = load_sample(entry)
    truth = {}
    if sample.generated is not None:
        truth["generated"] = int(sample.generated.any())
    if sample.edited is not None:
        truth["edited"] = int(sample.edited.any())
    real = entry.label is Label.REAL
    yield sample.image, truth, real
    yield law(sample.image, rng), truth, real
    if real and min(sample.image.shape[:2]) >= SMALLEST_PX:
        edit = CopyMove() if rng.random() < 0.5 else Splicing(lambda r: _donor(photos, pictures, r))
        yield law(edit(sample.image, rng).image, rng), {"edited": 1}, False


def _donor(photos: Sequence[Entry], pictures: Pictures, rng: np.random.Generator) -> Donor:
    return Donor(pictures.image(photos[int(rng.integers(len(photos)))].path))


def _gather(
    gathered: dict[str, _Gathered],
    answers: Mapping[str, float],
    truth: Mapping[str, int],
    entry: Entry,
    *,
    real: bool,
) -> None:
    for question in answers.keys() & truth.keys():
        found = gathered.setdefault(question, _Gathered())
        found.logits.append(answers[question])
        found.truth.append(truth[question])
        found.sources.append(entry.source or "")
        found.real.append(real)


def _fit(found: _Gathered) -> Calibration:
    logits, real = np.array(found.logits), np.array(found.real)
    sources = [name for name, is_real in zip(found.sources, found.real, strict=True) if is_real]
    uncertain_from, fake_from = fit_thresholds(logits[real], sources, RATES)
    temperature, offset = fit_scale(logits, np.array(found.truth))
    return Calibration(
        temperature=temperature,
        offset=offset,
        uncertain_from=uncertain_from,
        fake_from=fake_from,
        rates=RATES,
        photos=int(real.sum()) // 2,
        sources=tuple(sorted(set(sources))),
    )


def _refuse_trained(facts: checkpoints.Facts, entries: Sequence[Entry]) -> None:
    apart = set(facts.recipe.get("data", {}).get("validation_sources", ()))
    if not facts.recipe:
        return
    seen = sorted({entry.source or "(none)" for entry in entries} - apart)
    if seen:
        raise MissingDataError(
            f"Source {', '.join(seen)} was trained on: calibrate on {', '.join(sorted(apart)) or 'other data'}."
        )
