"""What ``gammascope compare`` reads from two evaluations, and its outcome as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from gammascope.cli import terminal
from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.evaluation import run
from gammascope.evaluation.comparing import Comparison, compare, pair
from gammascope.evaluation.scoring import ScoreTable

Comparisons = Mapping[tuple[str, str], Comparison]
"""Comparisons by column and question."""


def compared(first: Path, second: Path) -> Comparisons:
    """Compare two folders of ``gammascope evaluate`` in every column and question that both have.

    Raises:
        MissingDataError: If a folder holds no evaluation, or they have nothing in common.
    """
    summaries = [summary_of(folder) for folder in (first, second)]
    made: dict[tuple[str, str], Comparison] = {}
    for column, questions in summaries[0]["columns"].items():
        shared = [name for name in questions if name in summaries[1]["columns"].get(column, {})]
        if not shared:
            continue
        tables = [scores_in(folder, column) for folder in (first, second)]
        for question in shared:
            at, other = (each["columns"][column][question]["threshold"] for each in summaries)
            made[column, question] = compare(pair(tables[0], tables[1], question), (at, other))
    if not made:
        raise MissingDataError(f"{first} and {second} have no column and question in common.")
    return made


def plain(comparisons: Comparisons) -> dict[str, Any]:
    """Return plain types for JSON: by column, then by question."""
    made: dict[str, dict[str, Any]] = {}
    for (column, question), comparison in comparisons.items():
        made.setdefault(column, {})[question] = comparison.to_json()
    return {"difference": "second minus first", "columns": made}


def table(comparisons: Comparisons) -> Table:
    """Draw a row for each column, question and number."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    titles = ("column", "question", "number", "first", "second", "second - first [95 %]")
    for title in titles:
        drawn.add_column(title, justify="left" if title in titles[:3] else "right")
    for (column, question), one in comparisons.items():
        where = (terminal.literal(column), terminal.literal(question))
        for name, values in (("AUROC", one.auroc), ("balanced accuracy", one.balanced_accuracy)):
            drawn.add_row(*where, name, *(terminal.literal(str(value)) for value in values))
        only = one.mcnemar
        drawn.add_row(
            *(*where, "only this one right", str(only.only_first), str(only.only_second)),
            f"p = {only.p:.3g} (McNemar)",
        )
    return drawn


def notes(comparisons: Comparisons) -> str:
    """Say what the numbers rest on, and what they do not account for."""
    pairs = next(iter(comparisons.values())).pairs
    left_out = pairs.only_first + pairs.only_second
    return (
        f"{len(pairs.truth)} images that both answered for"
        + (f", {left_out} left out because only one did" if left_out else "")
        + f". {len(comparisons)} comparisons: p is not corrected for their number."
    )


def summary_of(folder: Path) -> dict[str, Any]:
    """Read what an evaluation found.

    Raises:
        MissingDataError: If the folder holds none, or a broken one.
    """
    path = folder / run.SUMMARY
    try:
        summary: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(
            f"No evaluation at {folder}: make one with gammascope evaluate ... --out {folder}."
        ) from error
    except ValueError as error:
        raise MissingDataError(f"{path} is broken: {error}.") from error
    return summary


def scores_in(folder: Path, column: str) -> ScoreTable:
    """Read the score table of a column of an evaluation.

    Raises:
        MissingDataError: If it is not there.
    """
    path = folder / f"scores_{column}.parquet"
    try:
        return ScoreTable.read(path)
    except (MissingExtraError, MissingDataError):
        return ScoreTable.read(path.with_suffix(".csv"))
