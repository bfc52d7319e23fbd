"""Image in, report out: the whole story of one picture in one page of code."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from gammascope import checkpoints, forensics
from gammascope.choices import Engine, Precision, Profile
from gammascope.detection import eyes, runtime
from gammascope.detection.scores import Maps, Scores, scores_of
from gammascope.errors import IncompatibleCheckpointError, UndecodableImageError
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import Decoded, decode
from gammascope.imaging.provenance import TrustList, provenance_of
from gammascope.imaging.views import ViewSpec
from gammascope.report import (
    Answer,
    Coverage,
    Evidence,
    Recheck,
    Report,
    Strength,
    Tile,
    Verdict,
    about,
    shares,
)
from gammascope.sample import Image

if TYPE_CHECKING:
    from gammascope.detectors.base import Detector

FAST_VIEWS = 3
"""Views, the overview included, that the fast profile looks at at most; never more than half of the default's. Of a
detector that reads mosaics it takes these and the overview, and no tiles."""

SMALLEST_PX = 64
"""Shorter side below which there is no verdict, or half of a view if that is less (our choice): too little is left."""

HEAVY_COMPRESSION = 60
"""JPEG quality below which most high-frequency traces are gone (our choice)."""

PLAIN_LEVELS = 2
"""Grey levels between the darkest and the lightest pixel up to which a picture shows nothing (our choice)."""

QUIET_SIDE_PX = 1024
"""Longer side of maps that are shown on request: as large as pages show them, for nearly every picture has one."""

QUESTIONS: Mapping[str, str] = {
    "generated": "contains AI-generated pixels",
    "edited": "was edited",
}
"""What each image-level answer is about."""

ORDINARY_PROCESSING: Mapping[str, Callable[[Image], Image]] = {
    "saved as JPEG at quality 80": lambda image: codecs.reencode(
        image, codecs.Encoding("jpeg", 80)
    ),
    "reduced to half its size": lambda image: codecs.rescale(image, 0.5),
}
"""What a verdict should survive, for it happens to pictures when they are shared."""


@dataclass(frozen=True, slots=True)
class Besides:
    """What a report says besides the verdict on the pixels, none of which changes it.

    Attributes:
        provenance: Read what a file says about its origin.
        trust: Signers of Content Credentials who are trusted; None: whom the C2PA's bundled list names.
        stability: Answer again after ordinary processing; takes about twice the time more.
        quiet_maps: Keep maps beside answers of "no", too, reduced and marked as shown on request.
        forensics: Look for parts with another history than the rest, and answer *edited* where the detector does not:
            under "thorough" by all methods; by default by the quick ones, whose "no sign" means too little to be an
            answer and is left out; under "fast" not at all.
    """

    provenance: bool = True
    trust: TrustList | None = None
    stability: bool = False
    quiet_maps: bool = False
    forensics: bool = True


@dataclass(frozen=True, slots=True)
class Execution:
    """How a pipeline looks; thresholds were fitted to the defaults.

    Attributes:
        engine: What runs the network; "auto": the first of OpenVINO, ONNX Runtime and torch that can.
        precision: Of its arithmetic; "bf16" needs OpenVINO and moves logits by a few per cent; "f32" never uses int8.
        profile: "fast" looks at ``FAST_VIEWS`` views of an image, "default" at as many as the checkpoint says,
            "thorough" at these, never fewer, and at all tiles if the detector says something of places, by masks or
            about edits. A picture's answer goes by the tiles of the default.
    """

    engine: Engine = "auto"
    precision: Precision = "auto"
    profile: Profile = "default"


class Pipeline:
    """A detector, ready to answer for whole images of any size.

    >>> report = Pipeline.load().report(np.zeros((64, 64, 3), np.uint8))
    >>> 0.0 <= report.probability <= 1.0
    True
    """

    def __init__(
        self,
        detector: Detector | runtime.Network,
        facts: checkpoints.Facts,
        weights_sha256: str,
        besides: Besides = Besides(),
        profile: Profile = "default",
    ) -> None:
        self.detector, self.facts = detector, facts.under(profile)
        self.weights_sha256 = weights_sha256
        self.besides, self.profile = besides, profile
        self.view = view_under(facts.view, profile)
        self.network = (
            detector if isinstance(detector, runtime.Network) else runtime.TorchNetwork(detector)
        )

    @classmethod
    def load(
        cls,
        weights: str | Path = "default",
        *,
        method: str | None = None,
        device: str = "cpu",
        besides: Besides = Besides(),
        execution: Execution = Execution(),
    ) -> Pipeline:
        """Load a checkpoint or an exported graph.

        Args:
            weights: Path of a checkpoint or of what ``gammascope export`` wrote, or "default" for the embedded one.
            method: Refuse a checkpoint of another method.
            device: Where the network runs, as torch names it; without torch, "cpu".
            besides: What reports say besides the verdict.
            execution: What runs the network, and how many views it reads.

        Raises:
            MissingDataError: If there is no such file.
            MissingExtraError: If what is needed to run it is not installed.
            IncompatibleCheckpointError: If it is no checkpoint, or another method's.
            RecipeError: If execution and device do not go together.
        """
        path = checkpoints.resolve(weights)
        looks = besides.forensics and execution.profile != "fast"
        loaded = runtime.load(
            path,
            method=method,
            device=device,
            engine=execution.engine,
            precision=execution.precision,
            patches=looks and path == checkpoints.default_path(),
        )
        return cls(loaded.network, loaded.facts, loaded.sha256, besides, execution.profile)

    @property
    def answers_edited(self) -> bool:
        """Whether forensics may answer *edited* where the detector does not."""
        return self.besides.forensics and self.profile != "fast"

    @property
    def smallest_px(self) -> int:
        """Shorter side of a picture from which there is a verdict."""
        return min(SMALLEST_PX, self.view.size // 2)

    def scores(self, image: Image) -> Scores:
        """Look at an image and return logits and maps, uncalibrated."""
        return self.scores_of([image])[0]

    def scores_of(
        self,
        images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
        stop: threading.Event | None = None,
    ) -> list[Scores]:
        """Look at several images; their views go through the network in common batches.

        Args:
            images: Of any sizes. Views are cut as they are needed, but the maps of all images are held until the end.
            stop: Once it is set, nothing more is read.

        Returns:
            One for each image, in order; equal to ``scores`` up to the rounding of the network.

        Raises:
            InterruptedScanError: If it was told to stop.
            IncompatibleCheckpointError: If the weights are broken.
        """
        settled = self.facts.settled.get(self.profile)
        # More tiles do not make an answer better (docs/experiments.md, E41), and thresholds hold for so many.
        most = self.facts.view.max_tiles if self.profile == "thorough" else None
        found = scores_of(self.network, self.view, images, settled, stop, most)
        if not all(np.isfinite(one.by_view[""]).all() for one in found):
            # A comparison with NaN is false, so the verdict would silently read "no sign".
            raise IncompatibleCheckpointError(
                f"The detector's answer is not a number: the weights {self.weights_sha256[:12]} are broken."
            )
        return found

    def report(self, source: Path | bytes | Image) -> Report:
        """Look at an image and say what follows from it.

        Args:
            source: A file, its content, or upright sRGB pixels (``h w 3``, uint8).

        Raises:
            UndecodableImageError: If a file or its content is not a readable image, or an array has another shape or
                type.
        """
        if isinstance(source, np.ndarray):
            _check(source)
            decoded, name = Decoded(source, "", (), None, 0), "<memory>"
        else:
            if not isinstance(source, bytes | Path):
                raise UndecodableImageError(
                    f"A {type(source).__name__} is no image: expected a path, the content of a file, or an array of "
                    "height x width x 3, uint8 (numpy.asarray of a Pillow image in mode RGB)."
                )
            decoded = decode(source)
            name = "<memory>" if isinstance(source, bytes) else source.name
        return self.report_of(decoded, name)

    def report_of(self, decoded: Decoded, name: str, stop: threading.Event | None = None) -> Report:
        """Do as ``report`` where the pixels are at hand already; may be called from several threads.

        Raises:
            InterruptedScanError: If ``stop`` was set before the end.
        """
        return self.reports_of([(decoded, name)], stop)[0]

    def reports_of(
        self, pictures: Sequence[tuple[Decoded, str]], stop: threading.Event | None = None
    ) -> list[Report]:
        """Do as ``report_of`` for several pictures with their names, which share the network's batches."""
        scores = self.scores_of([decoded.image for decoded, _ in pictures], stop)
        return [
            self._report(decoded, name, found)
            for (decoded, name), found in zip(pictures, scores, strict=True)
        ]

    def _report(self, decoded: Decoded, name: str, scores: Scores) -> Report:
        answers = self._answers(scores)
        height, width = decoded.image.shape[:2]
        empty = self._nothing_to_judge(decoded.image)
        if empty:
            answers = {
                name: replace(answer, verdict=Verdict.UNCERTAIN, as_high=None)
                for name, answer in answers.items()
            }
        stability, untried = ((), ()) if empty else self._rechecks(decoded.image, answers)
        calibrated = not empty and not self._raw(answers)
        thorough = self.answers_edited and self.profile == "thorough"
        middle = None if thorough else scores.middle
        sight = eyes.of(self.network) if thorough or middle is not None else None
        picture = forensics.Picture(decoded.image, decoded.content, sight, middle)
        answered, parts = self._edited(picture, answers)
        coverage = self._coverage(decoded, scores)
        return Report(
            image=name,
            size=(width, height),
            method=self.facts.method,
            weights_sha256=self.weights_sha256,
            calibrated=calibrated,
            answers=answered,
            evidence=(
                *(() if empty else self._ranks(scores)),
                *_settled(coverage, scores.question),
                *_mask_evidence(
                    answers,
                    {} if empty else scores.maps,
                    coverage,
                    quiet=self.besides.quiet_maps,
                ),
                *parts,
                *self._provenance(picture),
            ),
            caveats=(
                *self._caveats(decoded, scores, coverage, empty),
                *_changes(stability),
                *untried,
            ),
            tiles=self._tiles(scores),
            stability=stability,
            coverage=coverage,
        )

    def _answers(self, scores: Scores) -> dict[str, Answer]:
        logits = {scores.question: scores.logit} | dict(scores.answers)
        return {question: self._answer(question, logit) for question, logit in logits.items()}

    def _ranks(self, scores: Scores) -> Iterator[Evidence]:
        """Say what a score means: how many held-out photos and fakes have one as high."""
        question = scores.question
        as_high = self._calibration(question).as_high(scores.logit)
        if as_high is not None:
            photos, fakes = map(_one_in, as_high)
            yield Evidence(
                f"rank:{question}",
                f"A score this high: {photos} held-out photos, {fakes} held-out generated pictures.",
                strength=Strength.NEUTRAL,
            )

    def _coverage(self, decoded: Decoded, scores: Scores) -> Coverage | None:
        """Return at how much of the picture the detector looked; None if at all of it, or if its views are no tiles."""
        if self.view.fit != "tiles":
            return None
        height, width = decoded.image.shape[:2]
        possible = len(views.tile_grid((width, height), self.view.size))
        if possible <= scores.tiles:
            return None
        return Coverage(scores.tiles, possible, scores.overview, scores.settled, scores.mosaic)

    def _edited(
        self, picture: forensics.Picture, answers: Mapping[str, Answer]
    ) -> tuple[Mapping[str, Answer], tuple[Evidence, ...]]:
        """Look for parts with another history, which answer "edited" where the detector does not."""
        if not self.answers_edited:
            return answers, ()
        thorough = self.profile == "thorough"
        outcomes = forensics.examine(picture, thorough=thorough)
        found = tuple(forensics.evidence_of(outcomes))
        edited = None if "edited" in answers else forensics.answered(outcomes)
        if edited is None or (edited.verdict is Verdict.NO_SIGN and not thorough):
            return answers, found
        # Each part that is shown by a method that may answer is enough for a yes: no hint, then.
        found = tuple(
            replace(one, strength=None) if one.map is not None and _may_answer(one) else one
            for one in found
        )
        return {**answers, "edited": edited}, (*forensics.reasons_of(outcomes), *found)

    def _provenance(self, picture: forensics.Picture) -> tuple[Evidence, ...]:
        if not self.besides.provenance or not picture.content:
            return ()
        quick, trust = self.profile == "fast", self.besides.trust
        # Quick findings need no brightness; for others it was decoded already, where parts were looked for.
        stored = None if quick else picture.stored
        luma = stored.pixels if stored else None
        return provenance_of(picture.content, trust, quick=quick, pixels=picture.image, luma=luma)

    def _rechecks(
        self, image: Image, answers: Mapping[str, Answer]
    ) -> tuple[tuple[Recheck, ...], tuple[str, ...]]:
        """Answer again after ordinary processing, if that is wanted; also say what could not be tried, and why."""
        found, untried = [], []
        for change, process in ORDINARY_PROCESSING.items() if self.besides.stability else ():
            try:
                processed = process(image)
                why = self._nothing_to_judge(processed)
            except ValueError as error:  # No JPEG file has such a side.
                why = str(error)
            if why:
                untried.append(f"Not asked again of the picture {change}: {why}")
                continue
            again = self._answers(self.scores(processed))
            holds = all(again[name].verdict is answer.verdict for name, answer in answers.items())
            found.append(Recheck(change, again, holds))
        return tuple(found), tuple(untried)

    def _tiles(self, scores: Scores) -> tuple[Tile, ...]:
        boxes = scores.boxes[: scores.tiles]
        if len(boxes) < 2:
            return ()
        logits = {scores.question: scores.by_view[""]} | {
            name: values for name, values in scores.by_view.items() if name
        }
        probabilities = {
            name: self._calibration(name).probability(values.astype(np.float64)).tolist()
            for name, values in logits.items()
        }
        return tuple(
            Tile(box, {name: values[number] for name, values in probabilities.items()})
            for number, box in enumerate(boxes)
        )

    def _calibration(self, question: str) -> checkpoints.Calibration:
        return self.facts.calibration.get(question, checkpoints.RAW)

    def _answer(self, question: str, logit: float) -> Answer:
        known = self._calibration(question)
        (probability,) = known.probability(np.array([logit])).tolist()
        return Answer(probability, known.verdict(logit), known.thresholds, known.as_high(logit))

    def _raw(self, questions: Iterable[str]) -> list[str]:
        """Return the questions whose thresholds were never fitted, each once."""
        return [name for name in dict.fromkeys(questions) if name not in self.facts.calibration]

    def _nothing_to_judge(self, image: Image) -> str:
        """Say why there is no verdict on a picture; empty if there is one."""
        height, width = image.shape[:2]
        if min(width, height) < self.smallest_px:
            least = f"{self.smallest_px} px on the shorter side"
            return f"{width} x {height} px: too small for a verdict, which needs {least}."
        # Of nearly every picture a sample says enough.
        if _plain(image[::16, ::16]) and _plain(image):
            return "One plain colour: there is nothing to judge."
        return ""

    def _caveats(
        self, decoded: Decoded, scores: Scores, coverage: Coverage | None, empty: str
    ) -> Iterator[str]:
        height, width = decoded.image.shape[:2]
        spec = self.view
        if empty:
            yield empty
        elif min(width, height) < spec.size and spec.fit != "resize":
            yield f"{width} x {height} px: smaller than the {spec.size} px views seen in training."
        if decoded.jpeg_quality is not None and decoded.jpeg_quality < HEAVY_COMPRESSION:
            yield f"Heavily compressed (JPEG quality about {decoded.jpeg_quality}): traces may be gone."
        if coverage is not None and not coverage.settled:
            yield str(coverage)
        if raw := self._raw((scores.question, *scores.answers)):
            which = f" for {', '.join(raw)}" if self.facts.calibration else ""
            yield f"Not calibrated{which}: probabilities and thresholds are raw."
        yield from (f"{note[0].upper()}{note[1:]}." for note in decoded.notes)


def detect(
    image: str | Path | bytes | Image,
    *,
    weights: str | Path = "default",
    method: str | None = None,
    provenance: bool = True,
    stability: bool = False,
) -> Report:
    """Say whether an image contains AI-generated pixels, whether it was edited, and where.

    The detector of the last call is kept, so a loop over files loads it once.

    Args:
        image: Path of a file, its content, or upright sRGB pixels (``h w 3``, uint8).
        weights: Path of a checkpoint, or "default" for the embedded one.
        method: Refuse a checkpoint of another method.
        provenance: Add what a file says about its origin as evidence; it never changes the verdict.
        stability: Answer again after ordinary processing (``Report.stability``).

    Raises:
        UndecodableImageError: If the file is not a readable image.
        MissingDataError: If there is no such checkpoint.
        IncompatibleCheckpointError: If it is no checkpoint, or another method's.
    """
    source = Path(image) if isinstance(image, str) else image
    besides = Besides(provenance=provenance, stability=stability)
    path = Path(weights)
    # Embedded weights are named, not placed; of other paths that are no file, loading tells.
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _last(weights, changed, method, besides).report(source)


@functools.lru_cache(maxsize=1)
def _last(weights: str | Path, _changed: int, method: str | None, besides: Besides) -> Pipeline:
    """Load a detector, unless it is the one that was loaded last and its file has not changed since."""
    return Pipeline.load(weights, method=method, besides=besides)


def view_under(spec: ViewSpec, profile: Profile) -> ViewSpec:
    """Return how an image is seen under a profile, given how its checkpoint wants to see it."""
    if spec.fit != "tiles" or profile == "default":
        return spec
    if profile == "thorough":
        return replace(spec, max_tiles=None)
    if spec.mosaic:
        # It stands in for tiles: with the overview it ranks as well (docs/experiments/e47.md).
        return replace(spec, max_tiles=0)
    whole = int(spec.overview > 0)
    most = spec.max_tiles if spec.max_tiles is not None else 2 * FAST_VIEWS
    views = min(FAST_VIEWS, (most + whole) // 2)
    return replace(spec, max_tiles=max(1, min(views - whole, most)))


def _one_in(share: float) -> str:
    """Return a share for people.

    >>> _one_in(0.62), _one_in(0.004), _one_in(0.0), _one_in(0.996)
    ('62 in 100', '1 in 250', 'fewer than 1 in 1,000', 'more than 99 in 100')
    """
    if 0.995 <= share < 1:
        return "more than 99 in 100"
    if share >= 0.0095:
        return f"{round(100 * share)} in 100"
    return f"1 in {round(1 / share):,}" if share >= 0.001 else "fewer than 1 in 1,000"


def _plain(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Tell whether every channel is the same all over, but for the rounding of a compression."""
    return all(int(np.ptp(image[..., channel])) <= PLAIN_LEVELS for channel in range(3))


def _may_answer(evidence: Evidence) -> bool:
    return forensics.METHODS[evidence.name.removeprefix("forensics:")].answers


def _settled(coverage: Coverage | None, question: str) -> Iterator[Evidence]:
    """State that few tiles were enough for an answer, which weakens nothing: its thresholds were fitted so."""
    if coverage is not None and coverage.settled:
        yield Evidence(
            f"coverage:{question}",
            f"Whether it {QUESTIONS.get(question, f'is {question}')}: {coverage}",
            strength=Strength.NEUTRAL,
        )


def _mask_evidence(
    answers: Mapping[str, Answer],
    maps: Mapping[str, Float[np.ndarray, "h w"]],
    coverage: Coverage | None,
    *,
    quiet: bool,
) -> Iterator[Evidence]:
    """State what each mask shows; beside an answer of "no" a map is shown on request only.

    A segmentation head always marks something; beside "no sign" such marks would mislead.

    Args:
        answers: By question.
        maps: By question.
        coverage: At how much of the picture the detector looked; None: at all of it.
        quiet: Keep a map beside "no", too.
    """
    where = f" in the {coverage.tiles} of {coverage.possible} tiles examined" if coverage else ""
    for name in QUESTIONS:
        if name not in maps or name not in answers:
            continue
        if answers[name].verdict is Verdict.NO_SIGN:
            nothing = Evidence(f"mask:{name}", f"No region stands out as {name}{where}.")
            if quiet and isinstance(maps, Maps):
                small = maps.reduced(name, QUIET_SIDE_PX)
                nothing = replace(nothing, map=small, on_request=True)
            yield nothing
            continue
        shown = maps[name]
        share = shares(shown)[1]
        yield Evidence(
            f"mask:{name}", f"About {about(share)} of the examined pixels look {name}.", shown
        )


def _changes(stability: Sequence[Recheck]) -> Iterator[str]:
    yield from (
        f"The verdict changes when the picture is {check.change}."
        for check in stability
        if not check.holds
    )


def _check(pixels: np.ndarray) -> None:
    """Refuse other layouts: pixels scaled to 0..1, say, would silently be taken for black."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UndecodableImageError(
            f"An array of shape {pixels.shape} and type {pixels.dtype} is no image: expected height x width x 3, uint8."
        )
