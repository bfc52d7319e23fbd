"""A robustness run from data to files: scores of every perturbation, tables, curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gammascope import settings
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.evaluation import robustness, run
from gammascope.evaluation import tables as laid_out
from gammascope.evaluation.replay_file import Kept
from gammascope.evaluation.robustness import Point
from gammascope.evaluation.scoring import Column, ScoreStore, StoredTables
from gammascope.files import complete_or_absent
from gammascope.sample import Entry

TABLE = "robustness.md"
NUMBERS = "robustness.csv"
OVERVIEW = "robustness.png"


KIND = "robustness"


@dataclass(frozen=True, slots=True)
class _About:
    """What points need besides scores.

    Attributes:
        method: Whose scores they are.
        weights_sha256: Of its weights.
        question: What was answered.
        threshold: Logit from which the answer is yes.
        shown: Family and severity by column; the family is "" where images are not perturbed.
    """

    method: str
    weights_sha256: str
    question: str
    threshold: float
    shown: Mapping[str, tuple[str, str]]


def scored(
    pipeline: Pipeline,
    entries: Sequence[Entry],
    suite: str,
    folder: Path,
    progress: Callable[[int, int], None],
) -> Kept:
    """Score all images under every perturbation, but for what the folder holds already.

    The first two columns are not perturbed: images as they are, and with fakes aligned to the reals' files.

    Raises:
        RecipeError: If the folder holds scores of another detector or of other images.
        MissingExtraError: If pyarrow is not installed.
    """
    perturbations = robustness.suite(suite)
    columns: dict[str, Column] = run.columns_of(())
    del columns[run.ALL_RECODED]
    columns = run.with_aligned(columns, entries)
    shown = {name: ("", name) for name in columns}
    shown |= {each.name: (each.family, each.severity) for each in perturbations}
    columns |= {each.name: each for each in perturbations}
    candidate = run.Candidate.of(pipeline)
    store = ScoreStore(folder / run.PARTS, threads=candidate.threads)
    store.score(candidate.predict, entries, columns, candidate.identity, progress)
    question = store.read(run.NATIVE).questions[0]
    known = pipeline.facts.calibration.get(question)
    about = _About(
        candidate.method,
        candidate.weights_sha256,
        question,
        known.fake_from if known else 0.0,
        shown,
    )
    return Kept(KIND, settings.plain(about), StoredTables(store, tuple(columns)))


def points_of(scores: Kept) -> list[Point]:
    """Make a point of the scores of every column (``scored``).

    Raises:
        RecipeError: If what a file says besides scores cannot be read.
        MissingDataError: If it is of other columns than the scores, or these have no answers to the question.
    """
    about = settings.parse(_About, scores.about, "perturbations")
    if about.shown.keys() != scores.tables.keys():
        raise MissingDataError(
            f"Perturbations {', '.join(about.shown)}, scores of {', '.join(scores.tables)}."
        )
    return [
        robustness.measured(
            scores.tables[column],
            about.question,
            about.threshold,
            family=family,
            severity=severity,
        )
        for column, (family, severity) in about.shown.items()
    ]


def plain(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return plain types for JSON, one object per point."""
    return [
        {
            "family": point.family,
            "severity": point.severity,
            "auroc": point.auroc.to_json(),
            "real_accuracy": point.real_accuracy.to_json(),
            "fake_accuracy": point.fake_accuracy.to_json(),
            "failed": point.failed,
        }
        for point in points
    ]


def write(points: Sequence[Point], folder: Path) -> Iterator[str]:
    """Write table, numbers and curves; yield one line for people about each part.

    Files: ``robustness.md``, ``robustness.csv``, and with matplotlib ``robustness.png`` and ``<family>.png``.
    """
    from gammascope.evaluation import plots

    with complete_or_absent(folder / TABLE) as unfinished:
        unfinished.write_text(laid_out.markdown([robustness.grid(points)]), "utf-8")
    robustness.write_csv(points, folder / NUMBERS)
    unperturbed = [point for point in points if not point.family]
    families: dict[str, list[Point]] = {}
    for point in points:
        if point.family:
            families.setdefault(point.family, []).append(point)
    curves = {robustness.TITLES[name]: members for name, members in families.items()}
    try:
        for name, members in families.items():
            one = {robustness.TITLES[name]: members}
            plots.plot_robustness(one, unperturbed, folder / f"{name}.png")
        plots.plot_robustness(curves, unperturbed, folder / OVERVIEW)
    except MissingExtraError as error:
        yield str(error)
    failed = sum(point.failed for point in points)
    if failed and (folder / run.PARTS).is_dir():
        yield f"{failed} scores failed: column 'error' of {folder / run.PARTS} says why."
    yield f"Scores, numbers and curves: {folder}"
