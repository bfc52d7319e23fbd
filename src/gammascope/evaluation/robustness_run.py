"""A robustness run from data to files: scores of every perturbation, tables, curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gammascope.detection.pipeline import Pipeline
from gammascope.errors import MissingExtraError
from gammascope.evaluation import robustness, run
from gammascope.evaluation import tables as laid_out
from gammascope.evaluation.robustness import Point
from gammascope.evaluation.scoring import Column, ScoreStore
from gammascope.files import complete_or_absent
from gammascope.sample import Entry

TABLE = "robustness.md"
NUMBERS = "robustness.csv"
OVERVIEW = "robustness.png"


def measured(
    pipeline: Pipeline,
    entries: Sequence[Entry],
    suite: str,
    folder: Path,
    progress: Callable[[int, int], None],
) -> list[Point]:
    """Score all images under every perturbation, but for what the folder holds already, and make points of it.

    The first two points are not perturbed: images as they are, and with fakes aligned to the reals' files.

    Raises:
        RecipeError: If the folder holds scores of another detector or of other images.
        MissingExtraError: If pyarrow is not installed.
    """
    perturbations = robustness.suite(suite)
    columns: dict[str, Column] = run.columns_of(())
    del columns[run.ALL_RECODED]
    columns = run.with_aligned(columns, entries)
    unperturbed = tuple(columns)
    columns |= {each.name: each for each in perturbations}
    candidate = run.Candidate.of(pipeline)
    store = ScoreStore(folder / run.PARTS, threads=candidate.threads)
    store.score(candidate.predict, entries, columns, candidate.identity, progress)
    question = store.read(run.NATIVE).questions[0]
    known = pipeline.facts.calibration.get(question)
    threshold = known.fake_from if known else 0.0
    names = [("", name, name) for name in unperturbed]
    names += [(each.family, each.severity, each.name) for each in perturbations]
    return [
        robustness.measured(
            store.read(column), question, threshold, family=family, severity=severity
        )
        for family, severity, column in names
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
    if failed:
        yield f"{failed} scores failed: column 'error' of {folder / run.PARTS} says why."
    yield f"Scores, numbers and curves: {folder}"
