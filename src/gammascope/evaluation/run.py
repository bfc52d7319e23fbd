"""An evaluation from data to files: score tables, numbers with intervals, plots."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import gammascope
from gammascope import machine, settings
from gammascope.checkpoints import RAW, Calibration
from gammascope.choices import Black
from gammascope.data import benchmarks, hub
from gammascope.data.folder import read_folder
from gammascope.data.manifest import read_manifest
from gammascope.detection.pipeline import Pipeline
from gammascope.detection.scores import Scores
from gammascope.errors import MissingDataError, MissingExtraError, RecipeError, did_you_mean
from gammascope.evaluation import tables as laid_out
from gammascope.evaluation.columns import FakesAligned, Recoded
from gammascope.evaluation.contact_sheet import (
    WorstCase,
    draw_contact_sheet,
    false_alarm_slices,
    worst_cases,
)
from gammascope.evaluation.costs import Stopwatch
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import AsIs, Column, ScoreStore, StoredTables, score_columns
from gammascope.files import complete_or_absent, shown
from gammascope.imaging import codecs
from gammascope.sample import Entry, Label, Sample

FEW = 30
"""Pictures of a class, below which intervals that come from drawing them again are said to be too narrow."""

NATIVE, ALIGNED, ALL_RECODED = "native", "fakes_aligned", "all_recoded"
"""The columns that are always there: images as they are; fakes re-encoded as the reals are; all images re-encoded."""

ALL_RECODED_AS = codecs.Encoding("jpeg", 90)
"""Always the same, so that evaluations can be compared; ``--recode`` adds columns."""

PARTS = "parts"
"""Folder of the scores while they grow; an evaluation that was interrupted goes on from it."""

REALS_STREAMED = 500
"""Real images of a streamed dataset whose files fakes are aligned to: the first so many, for they are read twice."""

SUMMARY = "summary.json"
TABLES = "tables.md"
WORST = "worst.jpg"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All numbers of an evaluation.

    Attributes:
        plain: Plain types for JSON: facts about the run, and ``columns`` by name and question.
        calibration: By question; raw where the checkpoint has none.
    """

    plain: Mapping[str, Any]
    calibration: Mapping[str, Calibration]

    @property
    def columns(self) -> Mapping[str, Mapping[str, laid_out.Summary]]:
        """Summaries by column and question."""
        columns: Mapping[str, Mapping[str, laid_out.Summary]] = self.plain["columns"]
        return columns


@dataclass(frozen=True, slots=True)
class Told:
    """An evaluation with the scores that it rests on.

    Attributes:
        evaluation: Its numbers.
        tables: Its scores by column; of a replay, paths are the sha256 of the files.
    """

    evaluation: Evaluation
    tables: Mapping[str, ScoreTable]


def evaluate(  # noqa: PLR0913 - each has a default
    candidate: Candidate,
    entries: Sequence[Entry],
    columns: Mapping[str, Column] | None = None,
    folder: Path | None = None,
    *,
    about: Mapping[str, Any] | None = None,
    black: Black = "skip",
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Told:
    """Measure a detector on labelled images: as they are, with fakes' files made like the reals', and re-encoded.

    Args:
        candidate: What is measured; ``Candidate.of(pipeline)`` makes one.
        entries: The images.
        columns: What the detector gets in place of each image; None: those of ``columns_of(())``. The column of aligned
            fakes is added where there is a real image.
        folder: Keeps scores as they come, so that an interrupted evaluation can go on; None: nothing is kept.
        about: Facts that go into the summary as they are, in plain types; "speed" is filled in.
        black: What images without a true pixel count in F1 and IoU.
        progress: Called with (done, all).

    Raises:
        RecipeError: If the folder holds scores of another detector or of other images.
        MissingDataError: If no question can be measured on these images.
    """
    columns = with_aligned(columns_of(()) if columns is None else columns, entries)
    tables, speed = scored(candidate, entries, columns, folder, progress)
    evaluation = summarised(
        candidate,
        tables,
        definitions_of(columns),
        about={**(about or {}), "speed": speed},
        black=black,
    )
    return Told(evaluation, tables)


def entries_of(data: Path, split: str | None) -> tuple[list[Entry], str]:
    """List the images of a manifest or a labelled folder, and say what their labels were taken to be.

    Raises:
        MissingDataError: If there are none.
    """
    if not data.is_dir():
        entries = read_manifest(data, split)
        fakes = sum(entry.label is Label.FAKE for entry in entries)
        return entries, f"{len(entries) - fakes} real and {fakes} fake"
    folder = read_folder(data)
    entries = [entry for entry in folder.entries if split in {None, entry.split}]
    if not entries:
        splits = sorted({entry.split for entry in folder.entries})
        raise MissingDataError(
            f"{data} has no image in split {split!r}.{did_you_mean(str(split), splits)} "
            f"Known: {', '.join(splits)}."
        )
    return entries, folder.assumption


def benchmark_entries(
    name: str, root: Path, split: str | None, *, partial: bool
) -> tuple[list[Entry], str]:
    """List the images of a benchmark's split, and say how many there are and what their labels were taken from.

    Raises:
        UnknownBenchmarkError: If there is none of this name.
        MissingDataError: If the folder does not hold it, or only a part of it and ``partial`` is not set.
    """
    benchmark = benchmarks.get(name)
    entries = benchmark.entries(root, split, partial=partial)
    fakes = sum(entry.label is Label.FAKE for entry in entries)
    counted = f"{len(entries) - fakes} real and {fakes} fake"
    return entries, f"{counted} of split {entries[0].split!r} ({benchmark.direction()})"


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a streamed dataset is read.

    Attributes:
        image: Column of the images; None: found out.
        label: Column of the labels; None: found out.
        first: Only so many rows; None: all.
    """

    image: str | None = None
    label: str | None = None
    first: int | None = None


def listed(
    data: Path | None,
    benchmark: str | None,
    root: Path | None,
    split: str | None,
    *,
    partial: bool,
    streaming: Streaming = Streaming(),
) -> tuple[str, Sequence[Entry], str]:
    """List the images of a manifest, folder or benchmark, or of a streamed dataset (``hf:...``).

    Returns:
        A name for them, the images, and what their labels were taken to be.

    Raises:
        RecipeError: If none or several are named, or options contradict each other.
        MissingDataError: If there are none.
    """
    if data is not None and str(data).startswith(hub.PREFIX) and benchmark is None and root is None:
        name = hub.Name.parse(str(data), split)
        images = hub.stream(
            name, image=streaming.image, label=streaming.label, limit=streaming.first
        )
        return str(images.name), images, images.assumption
    if streaming != Streaming():
        raise RecipeError(
            "--image-column, --label-column and --first belong to a dataset that is streamed: hf:owner/name."
        )
    if data is not None and benchmark is None and root is None and not partial:
        return (shown(data), *entries_of(data, split))
    if data is None and benchmark is not None and root is not None:
        return (benchmark, *benchmark_entries(benchmark, root, split, partial=partial))
    raise RecipeError(
        "Name what to evaluate: DATA, or --benchmark NAME with --root DIR (and --partial)."
    )


def definitions_of(columns: Mapping[str, Column]) -> dict[str, Mapping[str, Any]]:
    """Return what is shown in each column, in plain types."""
    return {name: column.definition for name, column in columns.items()}


def columns_of(recodes: Sequence[str]) -> dict[str, Column]:
    """Read "jpeg:90" and the like: "native" and "all_recoded" are always there.

    Raises:
        RecipeError: If one cannot be read.
    """
    columns: dict[str, Column] = {NATIVE: AsIs(), ALL_RECODED: Recoded(ALL_RECODED_AS)}
    for text in recodes:
        name, _, quality = text.partition(":")
        if text == NATIVE:
            continue
        if name not in {"jpeg", "webp", "avif"}:
            raise RecipeError(
                f"--recode {text}: expected jpeg:QUALITY, webp:QUALITY, avif:QUALITY or native."
            )
        kind: codecs.Format = "jpeg" if name == "jpeg" else "webp" if name == "webp" else "avif"
        try:
            columns[f"{name}_{int(quality)}"] = Recoded(codecs.Encoding(kind, int(quality)))
        except ValueError:
            raise RecipeError(
                f"--recode {text}: quality {quality!r}, expected 1 to 100, as in {name}:90."
            ) from None
    return columns


def with_aligned(columns: Mapping[str, Column], entries: Sequence[Entry]) -> dict[str, Column]:
    """Add the column of aligned fakes, after the native one, if there is a real to align them to."""
    try:
        reals = entries.reals(REALS_STREAMED) if isinstance(entries, hub.HubImages) else None
        aligned = {
            ALIGNED: FakesAligned.to_reals_of(entries)
            if reals is None
            else FakesAligned.to_files(reals)
        }
    except MissingDataError:
        return dict(columns)
    return {NATIVE: columns[NATIVE]} | aligned | dict(columns)


@dataclass(frozen=True, slots=True)
class Answered:
    """Whose scores they are: a detector of ours, or a foreign one.

    Attributes:
        method: Its name.
        weights_sha256: "" where there are none that we know of.
        calibration: By question; empty if there is none.
    """

    method: str
    weights_sha256: str
    calibration: Mapping[str, Calibration]


@dataclass(frozen=True, slots=True)
class Candidate(Answered):
    """What is evaluated.

    Attributes:
        predict: Answers for samples, and counts how often.
        threads: How many images to work on at once.
        device: What it runs on, for a person.
    """

    predict: Counting
    threads: int
    device: str

    @classmethod
    def of(cls, pipeline: Pipeline) -> Candidate:
        """Return a detector of ours."""
        facts = pipeline.facts
        return cls(
            facts.method,
            pipeline.weights_sha256,
            facts.calibration,
            Predictor(pipeline),
            threads_of(pipeline),
            pipeline.network.name,
        )

    @property
    def identity(self) -> dict[str, str]:
        """What tells its scores from another's; a new version may decode differently."""
        return {
            "method": self.method,
            "weights_sha256": self.weights_sha256,
            "gammascope": gammascope.__version__,
        }


class Counting(Protocol):
    """A ``Predict`` that counts."""

    @property
    def answers(self) -> int:
        """How many were given."""

    def __call__(self, sample: Sample) -> Scores:
        """Answer for one sample."""


def scored(
    candidate: Candidate,
    entries: Sequence[Entry],
    columns: Mapping[str, Column],
    folder: Path | None,
    progress: Callable[[int, int], None],
) -> tuple[Mapping[str, ScoreTable], dict[str, Any] | None]:
    """Score all images in each column, each image being decoded once; say how long that took (``Stopwatch.speed``).

    With a folder (and pyarrow) scores are kept there as they come: a run that was interrupted goes on where it was,
    and what is there already is not scored again.

    Raises:
        RecipeError: If the folder holds scores of another detector or of other images.
    """
    watch, predict, threads = Stopwatch(), candidate.predict, candidate.threads
    if folder is not None:
        try:
            store = ScoreStore(folder / PARTS, threads=threads)
            store.score(predict, entries, columns, candidate.identity, progress)
            speed = watch.speed(predict.answers, candidate.device, folder / PARTS)
            return StoredTables(store, tuple(columns)), speed
        except MissingExtraError:
            pass  # without pyarrow, which ``write`` tells of, scores stay in memory until the end
    tables = score_columns(predict, entries, columns, threads=threads, progress=progress)
    return tables, watch.speed(predict.answers, candidate.device)


def threads_of(pipeline: Pipeline) -> int:
    """Return how many images to work on at once: one for each core, and one more to decode for a network elsewhere."""
    return machine.cores() + (not pipeline.network.name.startswith("openvino"))


class Predictor:
    """What answers for samples, alone or several together: a detector without named answers answers "fake".

    Attributes:
        answers: How many were given.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._lock = pipeline, threading.Lock()
        self.answers = 0

    def __call__(self, sample: Sample) -> Scores:
        """Answer for one sample."""
        return self.of_all([sample])[0]

    def of_all(self, samples: Sequence[Sample]) -> list[Scores]:
        """Answer for several samples, whose views share the network's batches."""
        every = self._pipeline.scores_of([sample.image for sample in samples])
        with self._lock:
            self.answers += len(samples)
        return [
            scores if scores.answers else replace(scores, answers={scores.question: scores.logit})
            for scores in every
        ]


def summarised(
    candidate: Answered,
    tables: Mapping[str, ScoreTable],
    definitions: Mapping[str, Mapping[str, Any]],
    *,
    about: Mapping[str, Any],
    black: Black = "skip",
) -> Evaluation:
    """Make numbers of score tables, at the thresholds of the checkpoint's calibration (0 without one).

    Args:
        candidate: Whose scores they are.
        tables: By column.
        definitions: What was shown in each column.
        about: Facts that go into the summary as they are, in plain types: "data" (name of the images), "labels" (what
            these were taken to be), "speed" and "size" (``evaluation.costs``).
        black: What images without a true pixel count in F1 and IoU.

    Raises:
        MissingDataError: If no question can be measured on these images.
    """
    questions = next(iter(tables.values())).questions
    calibration = {name: candidate.calibration.get(name, RAW) for name in questions}
    made: dict[str, dict[str, laid_out.Summary]] = {}
    unmeasured: dict[str, str] = {}
    for name, table in tables.items():
        made[name] = {}
        for question in questions:
            try:
                made[name][question] = laid_out.summarise(
                    table, question, calibration=calibration[question], black=black
                )
            except MissingDataError as error:
                unmeasured[question] = str(error)
    if not any(made.values()):
        raise MissingDataError(" ".join(unmeasured.values()))
    plain = {
        "gammascope": gammascope.__version__,
        "method": candidate.method,
        "weights_sha256": candidate.weights_sha256,
        "calibrated": bool(candidate.calibration),
        "calibration": {name: settings.plain(known) for name, known in calibration.items()},
        **about,
        "unmeasured": unmeasured,
        "definitions": {name: dict(definition) for name, definition in definitions.items()},
        "columns": made,
    }
    return Evaluation(plain, calibration)


def grids(evaluation: Evaluation) -> list[laid_out.Grid]:
    """Lay out the native column in full, and the columns side by side, for each question."""
    made = []
    for question in evaluation.calibration:
        summaries = {
            name: by_question[question]
            for name, by_question in evaluation.columns.items()
            if question in by_question
        }
        for name, summary in summaries.items():
            if name == NATIVE:
                made += laid_out.grids(summary)
        if len(summaries) > 1:
            sides = laid_out.comparison(summaries)
            made += [replace(side, title=f"{question}: {side.title}") for side in sides]
    return made


def operating_points(evaluation: Evaluation) -> str:
    """Return lines about the logits from which answers are yes, what fakes were aligned to, and too few pictures."""
    origin = "of the calibration" if evaluation.plain["calibrated"] else "raw, for want of one"
    points = (
        f"{name} from {value.fake_from:.3f}" for name, value in evaluation.calibration.items()
    )
    thresholds = f"Thresholds on logits ({origin}): {', '.join(points)}{_few(evaluation)}"
    aligned = evaluation.plain["definitions"].get(ALIGNED)
    if aligned is None:
        return f"{thresholds}\nNo real image to align the fakes' files to: no column {ALIGNED}."
    encodings: Mapping[str, int] = aligned["encodings_of_reals"]
    other, total = encodings.get("none", 0), sum(encodings.values())
    return (
        f"{thresholds}\nFakes aligned to {total - other} JPEG photos and {other} that are no JPEG"
    )


def _few(evaluation: Evaluation) -> str:
    counts = evaluation.plain["columns"][NATIVE].values()
    # Where a class is missing there is no interval.
    least = min((each for one in counts if (each := min(one["yes"], one["no"]))), default=FEW)
    return f"\n{too_few(least)}" if least < FEW else ""


def too_few(pictures: int) -> str:
    """Say what so few pictures of a class mean for intervals."""
    return (
        f"Of one class there are {pictures} pictures only: intervals of AUROC, error rates and calibration, which come "
        "from drawing the same pictures again, are too narrow."
    )


def write(
    evaluation: Evaluation,
    tables: Mapping[str, ScoreTable],
    folder: Path,
    *,
    pictures: bool = True,
) -> Iterator[str]:
    """Write everything into a folder; yield one line for people about each part.

    Files, besides those of ``scored``: ``scores_<column>.csv`` (and ``.parquet`` with pyarrow), ``summary.json``,
    ``tables.md``, ``worst.jpg`` (if the pictures are there), and with matplotlib ``roc_``, ``reliability_`` and
    ``scores_<question>.png``.
    """
    for name, table in tables.items():
        table.to_csv(folder / f"scores_{name}.csv")
        try:
            table.to_parquet(folder / f"scores_{name}.parquet")
        except MissingExtraError as error:
            yield str(error)
    slices = [
        false_alarm_slices(tables[NATIVE], question, threshold=known.fake_from)
        for question, known in evaluation.calibration.items()
    ]
    lists = [*grids(evaluation), *(grid for grid in slices if grid.rows)]
    write_numbers(evaluation.plain, lists, folder)
    if pictures:
        draw_contact_sheet(_worst(evaluation, tables[NATIVE]), folder / WORST)
    yield from _plot(evaluation, tables, folder)
    failed = sum(int((table["error"] != "").sum()) for table in tables.values())
    if failed:
        yield f"{failed} scores failed: column 'error' of the score tables says why."
    yield f"Scores, numbers and plots: {folder}"


def write_numbers(plain: Any, lists: Sequence[laid_out.Grid], folder: Path) -> None:
    """Write numbers as ``summary.json`` and tables as ``tables.md`` into a folder."""
    with complete_or_absent(folder / SUMMARY) as unfinished:
        unfinished.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", "utf-8")
    with complete_or_absent(folder / TABLES) as unfinished:
        unfinished.write_text(laid_out.markdown(lists), "utf-8")


def _worst(evaluation: Evaluation, table: ScoreTable) -> dict[str, list[WorstCase]]:
    """Return the most confident errors of each question by a title."""
    sections = {}
    for question, known in evaluation.calibration.items():
        chance = known.probability(table[f"logit_{question}"])
        cases = worst_cases(table, question, chance, threshold=known.fake_from)
        sections[f"{question}: false alarms"] = [case for case in cases if case.false_alarm]
        sections[f"{question}: misses"] = [case for case in cases if not case.false_alarm]
    return sections


def _plot(evaluation: Evaluation, tables: Mapping[str, ScoreTable], folder: Path) -> Iterator[str]:
    from gammascope.evaluation import plots

    for question in evaluation.calibration:
        curves = {}
        for name, table in tables.items():
            logits, truth = table[f"logit_{question}"], laid_out.truth_of(table, question)
            used = laid_out.usable(table, question, truth)
            curves[name] = logits[used], truth[used]
        logits, truth = curves[NATIVE]
        chance = evaluation.calibration[question].probability(logits)
        at = {"yes": evaluation.calibration[question].fake_from}
        try:
            plots.plot_scores(logits, truth, folder / f"scores_{question}.png", thresholds=at)
            plots.plot_reliability(chance, truth, folder / f"reliability_{question}.png")
            plots.plot_roc(curves, folder / f"roc_{question}.png")
        except MissingDataError as error:  # one class only: there is no curve
            yield f"{question}: {error}"
        except MissingExtraError as error:
            yield str(error)
            return
