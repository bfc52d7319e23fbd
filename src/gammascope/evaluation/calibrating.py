"""Fit a checkpoint's probabilities and thresholds on sources it never saw, and write them into it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gammascope import checkpoints
from gammascope.checkpoints import Calibration
from gammascope.choices import Curve, Zone
from gammascope.data.manifest import load_sample, read_manifest
from gammascope.data.pictures import Pictures
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    RecipeError,
    UndecodableImageError,
    did_you_mean,
)
from gammascope.evaluation.fitting import (
    fit_conformal,
    fit_curve,
    fit_scale,
    fit_thresholds,
    fit_worst,
    refuse_too_few,
    source_points,
)
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import row_of
from gammascope.imaging.codecs import EncodingLaw
from gammascope.imaging.decode import Decoded, decode
from gammascope.manipulation.base import SMALLEST_PX
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.sample import Entry, Image, KeptApart, Label, Sample

UNCERTAIN_RATE = 0.05
"""Share of held-out real photos that may be called uncertain or fake, with the zones "quantile" and "worst"."""

SOURCE_RATES = (0.05, 0.01, 0.001)
"""Shares of a source's photos for which its own thresholds are noted down."""

FOLDS = 5
"""Parts of the images, each judged by what was fitted on the others."""

_DONORS_BYTES = 1 << 30
_DONOR_TRIES = 20
"""Memory for decoded photos that splices take their parts from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to calibrate.

    Attributes:
        method: "platt" fits temperature and offset, "isotonic" any rising curve: it needs more images.
        zone: "quantile" keeps its rates on the images it is fitted on, each source weighing the same; "worst" in every
            source that has enough photos to tell; "conformal" keeps them for new images of the same sources
            (``fit_conformal``), and limits missed fakes too.
        false_alarms: Share of real photos that may be called fake; n photos can promise 1 / (n + 1) at best, and with
            any zone a lower rate is refused.
        missed: Share of fakes that may get "no sign"; only "conformal" looks at it.
    """

    method: Curve = "platt"
    zone: Zone = "quantile"
    false_alarms: float = 0.01
    missed: float = 0.1


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How a question was answered for images that the fit did not see: each by a fit on four fifths of the others.

    Attributes:
        table: A row for each image, as it is; its logit is that above the threshold of "fake".
        probability: Of yes, for each row.
        truth: 1 yes, 0 no, for each row.
        missing: Why there are no rows; "" if there are.
    """

    table: ScoreTable
    probability: Float[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was fitted, and how it does on images it was not fitted on; both by question."""

    calibration: Mapping[str, Calibration]
    held_out: Mapping[str, HeldOut]


@dataclass(slots=True)
class _Gathered:
    """Logits and truth of one question, one item for each version of each image.

    Attributes:
        facts: Of the file, for each image; versions name theirs by its number.
    """

    logits: list[float] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)
    photo: list[bool] = field(default_factory=list)
    as_is: list[bool] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Versions:
    """The same as arrays, and some of them."""

    logits: Float[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    photo: Bool[np.ndarray, " n"]
    image: Int[np.ndarray, " n"]
    sources: Shaped[np.ndarray, " n"]

    @classmethod
    def of(cls, found: _Gathered) -> _Versions:
        names = [str(found.facts[at]["source"]) for at in found.image]
        return cls(
            np.array(found.logits, np.float64),
            np.array(found.truth, np.int64),
            np.array(found.photo, np.bool_),
            np.array(found.image, np.int64),
            np.array(names, np.str_),
        )

    def where(self, rows: Bool[np.ndarray, " n"]) -> _Versions:
        return _Versions(
            self.logits[rows],
            self.truth[rows],
            self.photo[rows],
            self.image[rows],
            self.sources[rows],
        )

    def extreme(self, rows: Bool[np.ndarray, " n"], *, highest: bool) -> _Versions:
        """Keep one version of each image among some rows, that with the highest or lowest logit.

        Versions of an image resemble each other, so they must not count as images of their own where a promise
        rests on how many there are; and what holds for the worst version holds for each.
        """
        some = self.where(rows)
        order = np.lexsort((-some.logits if highest else some.logits, some.image))
        first = np.unique(some.image[order], return_index=True)[1]
        kept = np.zeros(len(order), dtype=np.bool_)
        kept[order[first]] = True
        return some.where(kept)


def calibrate(
    path: Path,
    entries: Sequence[Entry],
    plan: Plan = Plan(),
    *,
    like: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Fit and store probabilities and thresholds of every image-level answer.

    Every image counts twice, as it is and re-encoded once by the training law, so that thresholds hold for
    both. To teach "edited" its scale, each real photo also gives one copy-move or splice. Thresholds of "fake" are
    set on real photos alone.

    Few collections are kept apart in training, and thresholds are no better than the variety of what they are set on.
    So checkpoints of the same recipe that kept *other* collections apart may help (cross-fitting): what they answer on
    those counts as this one's answer on what it never saw.

    Args:
        path: The checkpoint; rewritten with the same weights.
        entries: Real and fake images of sources that were not trained on.
        plan: How.
        like: Further checkpoints of the same design; each runs on what it kept apart and those before did not.
        progress: Called with (done, all) after each image.

    Raises:
        MissingDataError: If there is no real photo, a source was trained on according to the checkpoint, or the
            images are too few for what the plan promises; the checkpoint is then left as it was.
        IncompatibleCheckpointError: If a file is no checkpoint, or those named in ``like`` are of another design.
        RecipeError: If one checkpoint is named twice.
    """
    pipelines, pictures = [Pipeline.load(each) for each in (path, *like)], Pictures(_DONORS_BYTES)
    for pipeline in pipelines:
        # Where few views are enough follows from thresholds, which are not known yet.
        pipeline.facts = replace(pipeline.facts, settled={})
    _refuse_unlike([pipeline.facts for pipeline in pipelines])
    _refuse_twice([path, *like], [pipeline.weights_sha256 for pipeline in pipelines])
    asked = [_never_saw(entry, pipelines) for entry in entries]
    photos = [entry for entry in entries if entry.label is Label.REAL]
    if not photos:
        raise MissingDataError(
            "No real photo among the images to calibrate on: thresholds need them."
        )
    refuse_too_few(len(photos), plan.false_alarms, "real photos")
    gathered: dict[str, _Gathered] = {}
    for done, (entry, pipeline) in enumerate(zip(entries, asked, strict=True), start=1):
        try:
            decoded = decode(entry.path)
            facts = _facts_of(entry, decoded)
            for number, version in enumerate(_versions(entry, decoded, photos, pictures)):
                answers = pipeline.scores(version.image).answers
                _gather(gathered, answers, version, facts, as_is=number == 0)
        except UndecodableImageError:
            pass  # a broken file calibrates nothing
        if progress is not None:
            progress(done, len(entries))
    if not gathered:
        raise MissingDataError(
            f"None of the {len(entries)} images can be read: the calibration stays as it was. First: {entries[0].path}."
        )
    for found in gathered.values():  # files that could not be read are not there
        readable = np.array(found.image)[np.array(found.photo, np.bool_)]
        refuse_too_few(len(np.unique(readable)), plan.false_alarms, "real photos")
    calibration = {
        question: _fit(_Versions.of(found), plan) for question, found in gathered.items()
    }
    held_out = {question: _held_out(found, question, plan) for question, found in gathered.items()}
    checkpoints.recalibrate(path, calibration)
    return Calibrated(calibration, held_out)


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of an image, the right answers about it, and whether it is a real photo."""

    image: Image
    truth: Mapping[str, int]
    photo: bool


def _versions(
    entry: Entry, decoded: Decoded, photos: Sequence[Entry], pictures: Pictures
) -> Iterator[_Version]:
    """Yield an image as it is, then changed versions of it."""
    # Random, but the same for the same file, whatever else is in the list.
    rng = np.random.default_rng(zlib.crc32(os.fsencode(entry.path.name)))
    law = EncodingLaw(untouched=0.0, jpeg=0.7, double_jpeg=0.2, webp=0.1)
    sample = load_sample(entry, decoded.image)
    truth = {}
    if sample.generated is not None:
        truth["generated"] = int(sample.generated.any())
    if sample.edited is not None:
        truth["edited"] = int(sample.edited.any())
    real = entry.label is Label.REAL
    yield _Version(sample.image, truth, real)
    yield _Version(law(sample.image, rng), truth, real)
    if real and min(sample.image.shape[:2]) >= SMALLEST_PX:
        copied = rng.random() < 0.5
        edit = CopyMove() if copied else Splicing(lambda r: _donor(photos, pictures, sample, r))
        yield _Version(law(edit(sample.image, rng).image, rng), {"edited": 1}, False)


def _donor(
    photos: Sequence[Entry], pictures: Pictures, host: Sample, rng: np.random.Generator
) -> Donor:
    """Draw a photo to take a piece from; the host itself where twenty in a row are broken or too small."""
    for _ in range(_DONOR_TRIES):
        with suppress(UndecodableImageError):
            image = pictures.image(photos[int(rng.integers(len(photos)))].path)
            if min(image.shape[:2]) >= SMALLEST_PX:
                return Donor(image)
    return Donor(host.image)


def _facts_of(entry: Entry, decoded: Decoded) -> dict[str, Any]:
    height, width = decoded.image.shape[:2]
    seen = {"format": decoded.format, "width": width, "height": height}
    return row_of(entry) | seen | {"jpeg_quality": decoded.jpeg_quality}


def _gather(
    gathered: dict[str, _Gathered],
    answers: Mapping[str, float],
    version: _Version,
    facts: dict[str, Any],
    *,
    as_is: bool,
) -> None:
    for question in answers.keys() & version.truth.keys():
        found = gathered.setdefault(question, _Gathered())
        if not found.facts or found.facts[-1] is not facts:
            found.facts.append(facts)
        found.logits.append(answers[question])
        found.truth.append(version.truth[question])
        found.photo.append(version.photo)
        found.as_is.append(as_is)
        found.image.append(len(found.facts) - 1)


def _fit(found: _Versions, plan: Plan) -> Calibration:
    photos = found.where(found.photo)
    worst = found.extreme(found.photo, highest=True)
    temperature, offset = fit_scale(found.logits, found.truth)
    if plan.zone == "conformal":
        faintest = found.extreme(found.truth == 1, highest=False)
        promises = (plan.false_alarms, plan.missed)
        thresholds = fit_conformal(worst.logits, faintest.logits, *promises)
        rates = (float(np.mean(worst.logits >= thresholds[0])), plan.false_alarms)
    else:
        rates = (max(UNCERTAIN_RATE, plan.false_alarms), plan.false_alarms)
        # A photo's versions count once where each source is to have enough photos of its own.
        fit, held = (fit_worst, worst) if plan.zone == "worst" else (fit_thresholds, photos)
        first, second = fit(held.logits, held.sources.tolist(), rates)
        thresholds = (first, second)
    return Calibration(
        temperature=temperature,
        offset=offset,
        uncertain_from=thresholds[0],
        fake_from=thresholds[1],
        rates=rates,
        photos=len(worst.logits),
        sources=tuple(sorted(set(photos.sources.tolist()))),
        method=plan.method,
        knots=fit_curve(found.logits, found.truth) if plan.method == "isotonic" else (),
        zone=plan.zone,
        missed=plan.missed if plan.zone == "conformal" else None,
        points=source_points(worst.logits, worst.sources.tolist(), SOURCE_RATES),
    )


def _held_out(gathered: _Gathered, question: str, plan: Plan) -> HeldOut:
    """Judge each image, as it is, by what is fitted without it."""
    found = _Versions.of(gathered)
    # By name, so that further images leave these where they are.
    names = [Path(str(facts["path"])).name for facts in gathered.facts]
    fold = np.array([zlib.crc32(name.encode()) % FOLDS for name in names], np.int64)
    margin, chance = np.full(len(found.logits), np.nan), np.full(len(found.logits), np.nan)
    for each in range(FOLDS):
        inside = fold[found.image] == each
        if not inside.any():
            continue
        try:
            fitted = _fit(found.where(~inside), plan)
        except MissingDataError as error:
            none = np.zeros(0)
            missing = f"Without a fifth of the images nothing could be fitted: {error}"
            return HeldOut(ScoreTable({}), none, none.astype(np.int64), missing)
        margin[inside] = found.logits[inside] - fitted.fake_from
        chance[inside] = fitted.probability(found.logits[inside])
    shown = np.array(gathered.as_is, np.bool_)
    rows = [
        gathered.facts[image] | {f"logit_{question}": above}
        for image, above in zip(found.image[shown].tolist(), margin[shown].tolist(), strict=True)
    ]
    return HeldOut(ScoreTable.of_rows(rows), chance[shown], found.truth[shown])


def _never_saw(entry: Entry, pipelines: Sequence[Pipeline]) -> Pipeline:
    """Return the first detector that was not trained on an image's source."""
    for pipeline in pipelines:
        if pipeline.facts.never_saw(entry):
            return pipeline
    if entry.source is None:
        raise MissingDataError(
            f"{entry.path.name} has no source: without one nobody can tell whether it was trained on."
        )
    apart = [str(pipeline.facts.kept_apart) for pipeline in pipelines]
    raise MissingDataError(
        f"Source {entry.source} was trained on: what was kept apart is {'; or '.join(apart)}."
    )


def _refuse_unlike(facts: Sequence[checkpoints.Facts]) -> None:
    first, *others = facts
    for other in others:
        if not other.recipe:
            raise IncompatibleCheckpointError(
                "A checkpoint without a recipe does not say what it kept apart: it cannot help to calibrate another."
            )
        if (other.method, other.config, other.view) != (first.method, first.config, first.view):
            raise IncompatibleCheckpointError(
                f"A checkpoint of {other.method!r} with other settings than the one to calibrate cannot help it: "
                "its logits have another scale."
            )


def _refuse_twice(paths: Sequence[Path], sha256: Sequence[str]) -> None:
    for number, (path, digest) in enumerate(zip(paths, sha256, strict=True)):
        if digest in sha256[:number]:
            other = paths[sha256.index(digest)]
            raise RecipeError(
                f"--like {path} is the same checkpoint as {other}: it kept nothing else apart. Name another, or leave "
                "it out."
            )


def entries_of(
    members: Sequence[Path], manifests: Sequence[Path], sources: Sequence[str]
) -> list[Entry]:
    """List the images to calibrate on.

    Args:
        members: The checkpoint, which says what was kept apart in its training, and those that help it.
        manifests: Where images are.
        sources: Which of them; none: what was kept apart, and all where nothing was.

    Raises:
        MissingDataError: If a source or a generator has no image.
    """
    kept = [checkpoints.read_facts(path).kept_apart for path in members]
    wanted = [KeptApart(frozenset(sources))] if sources else kept
    entries = [entry for path in manifests for entry in read_manifest(path)]
    for what, (name, *_), known in (gap for apart in wanted for gap in apart.absent(entries)):
        raise MissingDataError(
            f"No image of {what} {name!r}.{did_you_mean(name, known)} "
            f"Known: {', '.join(sorted(known)) or 'none'}."
            + ("" if sources else " It was kept apart in training; --source takes others.")
        )
    if not any(wanted):
        return entries
    return [entry for entry in entries if any(apart.holds(entry) for apart in wanted)]
