"""An evaluation from data to files: score tables, numbers with intervals, plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

import gammascope
from gammascope.data.benchmarks import base as benchmarks
from gammascope.data.folder import read_folder
from gammascope.data.manifest import complete_or_absent, read_manifest
from gammascope.errors import MissingDataError, MissingExtraError, RecipeError, did_you_mean
from gammascope.evaluation import tables as laid_out
from gammascope.evaluation.scoring import ScoreTable, score
from gammascope.imaging import codecs
from gammascope.pipeline import Pipeline, Scores
from gammascope.sample import Entry, Label, Sample

NATIVE = "native"
"""The column of images as they are; it always comes first."""

SUMMARY = "summary.json"
TABLES = "tables.md"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All numbers of an evaluation.

    Attributes:
        plain: Plain types for JSON: facts about the run, and ``columns`` by name and question.
        thresholds: Logit from which the answer is yes, by question.
        temperatures: P(yes) = sigmoid(logit / temperature), by question.
    """

    plain: Mapping[str, Any]
    thresholds: Mapping[str, float]
    temperatures: Mapping[str, float]

    @property
    def columns(self) -> Mapping[str, Mapping[str, laid_out.Summary]]:
        """Summaries by column and question."""
        columns: Mapping[str, Mapping[str, laid_out.Summary]] = self.plain["columns"]
        return columns


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


def listed(
    data: Path | None, benchmark: str | None, root: Path | None, split: str | None, *, partial: bool
) -> tuple[str, list[Entry], str]:
    """List the images of a manifest or folder, or of a benchmark, with a name for them before and the labels behind.

    Raises:
        RecipeError: If neither or both are named.
        MissingDataError: If there are none.
    """
    if data is not None and benchmark is None and root is None and not partial:
        return (str(data), *entries_of(data, split))
    if data is None and benchmark is not None and root is not None:
        return (benchmark, *benchmark_entries(benchmark, root, split, partial=partial))
    raise RecipeError(
        "Name what to evaluate: DATA, or --benchmark NAME with --root DIR (and --partial)."
    )


def columns_of(recodes: Sequence[str]) -> dict[str, codecs.Encoding | None]:
    """Read "jpeg:90" and the like; "native" comes first whether asked for or not.

    Raises:
        RecipeError: If one cannot be read.
    """
    columns: dict[str, codecs.Encoding | None] = {NATIVE: None}
    for text in recodes:
        name, _, quality = text.partition(":")
        if text == NATIVE:
            continue
        if name not in {"jpeg", "webp"}:
            raise RecipeError(f"--recode {text}: expected jpeg:QUALITY, webp:QUALITY or native.")
        try:
            columns[f"{name}_{int(quality)}"] = codecs.Encoding(
                "jpeg" if name == "jpeg" else "webp", int(quality)
            )
        except ValueError:
            raise RecipeError(
                f"--recode {text}: quality {quality!r}, expected 1 to 100, as in {name}:90."
            ) from None
    return columns


def scored(
    pipeline: Pipeline,
    entries: Sequence[Entry],
    encoding: codecs.Encoding | None,
    progress: Callable[[int, int], None],
) -> ScoreTable:
    """Score all images, re-encoded first if an encoding is given."""

    def predict(sample: Sample) -> Scores:
        scores = pipeline.scores(sample.image)
        return scores if scores.answers else replace(scores, answers={"fake": scores.logit})

    recode = None if encoding is None else lambda image: codecs.reencode(image, encoding)
    return score(predict, entries, recode=recode, progress=progress)


def summarised(
    pipeline: Pipeline, tables: Mapping[str, ScoreTable], *, data: str, assumption: str
) -> Evaluation:
    """Make numbers of score tables, at the thresholds of the checkpoint's calibration (0 without one).

    Raises:
        MissingDataError: If no question can be measured on these images.
    """
    facts, questions = pipeline.facts, next(iter(tables.values())).questions
    known = facts.calibration
    thresholds = {q: known[q].fake_from if q in known else 0.0 for q in questions}
    temperatures = {q: known[q].temperature if q in known else 1.0 for q in questions}
    columns: dict[str, dict[str, laid_out.Summary]] = {}
    unmeasured: dict[str, str] = {}
    for name, table in tables.items():
        columns[name] = {}
        for question in questions:
            try:
                columns[name][question] = laid_out.summarise(
                    table,
                    question,
                    threshold=thresholds[question],
                    temperature=temperatures[question],
                )
            except MissingDataError as error:
                unmeasured[question] = str(error)
    if not any(columns.values()):
        raise MissingDataError(" ".join(unmeasured.values()))
    plain = {
        "gammascope": gammascope.__version__,
        "method": facts.method,
        "weights_sha256": pipeline.weights_sha256,
        "calibrated": bool(known),
        "data": data,
        "labels": assumption,
        "unmeasured": unmeasured,
        "columns": columns,
    }
    return Evaluation(plain, thresholds, temperatures)


def drawn(evaluation: Evaluation) -> list[Table]:
    """Draw the tables of an evaluation for a terminal."""
    return laid_out.rich_tables(_grids(evaluation))


def operating_points(evaluation: Evaluation) -> str:
    """Return one line about the logits from which the answers are yes."""
    origin = "of the calibration" if evaluation.plain["calibrated"] else "raw, for want of one"
    points = (f"{name} from {value:.3f}" for name, value in evaluation.thresholds.items())
    return f"Thresholds on logits ({origin}): {', '.join(points)}"


def write(evaluation: Evaluation, tables: Mapping[str, ScoreTable], folder: Path) -> Iterator[str]:
    """Write everything into a folder; yield one line for people about each part.

    Files: ``scores_<column>.csv`` (and ``.parquet`` with pyarrow), ``summary.json``, ``tables.md``, and with
    matplotlib ``roc_``, ``reliability_`` and ``scores_<question>.png``.
    """
    for name, table in tables.items():
        table.to_csv(folder / f"scores_{name}.csv")
        try:
            table.to_parquet(folder / f"scores_{name}.parquet")
        except MissingExtraError as error:
            yield str(error)
    with complete_or_absent(folder / SUMMARY) as unfinished:
        unfinished.write_text(
            json.dumps(evaluation.plain, indent=1, allow_nan=False) + "\n", "utf-8"
        )
    with complete_or_absent(folder / TABLES) as unfinished:
        unfinished.write_text(laid_out.markdown(_grids(evaluation)), "utf-8")
    yield from _plot(evaluation, tables, folder)
    failed = sum(len(table.failures) for table in tables.values())
    if failed:
        yield f"{failed} scores failed: column 'error' of the score tables says why."
    yield f"Scores, numbers and plots: {folder}"


def _grids(evaluation: Evaluation) -> list[laid_out.Grid]:
    """Lay out the native column in full, and the columns side by side, for each question."""
    made = []
    for question in evaluation.thresholds:
        summaries = {
            name: by_question[question]
            for name, by_question in evaluation.columns.items()
            if question in by_question
        }
        for name, summary in summaries.items():
            if name == NATIVE:
                made += laid_out.grids(summary)
        if len(summaries) > 1:
            side = laid_out.comparison(summaries)
            made.append(replace(side, title=f"{question}: {side.title}"))
    return made


def _plot(evaluation: Evaluation, tables: Mapping[str, ScoreTable], folder: Path) -> Iterator[str]:
    from gammascope.evaluation import plots

    for question in evaluation.thresholds:
        curves = {}
        for name, table in tables.items():
            logits, truth = table[f"logit_{question}"], laid_out.truth_of(table, question)
            used = (table["error"] == "") & np.isfinite(logits) & (truth != laid_out.UNKNOWN)
            curves[name] = logits[used], truth[used]
        logits, truth = curves[NATIVE]
        chance = 1 / (1 + np.exp(-np.clip(logits / evaluation.temperatures[question], -60, 60)))
        at = {"yes": evaluation.thresholds[question]}
        try:
            plots.plot_scores(logits, truth, folder / f"scores_{question}.png", thresholds=at)
            plots.plot_reliability(chance, truth, folder / f"reliability_{question}.png")
            plots.plot_roc(curves, folder / f"roc_{question}.png")
        except MissingDataError as error:  # one class only: there is no curve
            yield f"{question}: {error}"
        except MissingExtraError as error:
            yield str(error)
            return
