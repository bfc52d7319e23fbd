"""``gammascope compare`` and ``leaderboard``: evaluations side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from gammascope.cli import options
from gammascope.cli.failures import refuse_unwritable

if TYPE_CHECKING:
    from rich.table import Table

    from gammascope.evaluation.comparing import Comparisons
    from gammascope.evaluation.tables import Grid

FirstEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="A", help="Folder of an evaluation (evaluate --out).")
]
SecondEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="B", help="Folder of another detector's, on the same images.")
]


def compare(
    first: FirstEvaluation,
    second: SecondEvaluation,
    as_json: options.Json = False,
) -> None:
    """Say whether one of two detectors, evaluated on the same images, is better, or whether it may be chance."""
    from gammascope.cli import terminal
    from gammascope.evaluation import comparing

    compared = comparing.compared(first, second)
    if as_json:
        typer.echo(json.dumps(comparing.plain(compared), allow_nan=False))
    else:
        terminal.output().print(comparison_table(compared))
        terminal.say(comparing.notes(compared))


def comparison_table(comparisons: Comparisons) -> Table:
    """Draw a row for each column, question and number."""
    from rich.table import Table

    from gammascope.cli import terminal

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


Evaluations: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="TABLE...", help="Folders of evaluations (evaluate --out)."),
]
LeaderboardPage: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Where to write the page (HTML, works from disk).")
]
PageTitle: TypeAlias = Annotated[str, typer.Option("--title", help="Heading of the page.")]


def leaderboard(
    tables: Evaluations,
    out: LeaderboardPage = None,
    title: PageTitle = "Leaderboard",
    as_json: options.Json = False,
) -> None:
    """Put evaluated detectors side by side on one page; those of different images never share a table."""
    from gammascope.cli import terminal
    from gammascope.pages import leaderboard_page as page

    if out is not None:
        refuse_unwritable(out)
    made = page.made_of(tables)
    if out is not None:
        page.write(made, out, title)
    if as_json:
        typer.echo(json.dumps(page.plain(made), allow_nan=False))
    else:
        terminal.output().print(*(_board(grid, notes) for grid, notes in page.grids(made)))
    if out is not None:
        terminal.say(f"Page: {out}")


def _board(grid: Grid, notes: str) -> Table:
    from rich.table import Table

    from gammascope.cli import terminal

    table = Table(
        title=terminal.literal(grid.title), title_justify="left", caption=terminal.literal(notes)
    )
    for title in grid.header:
        table.add_column(title, justify="right" if table.columns else "left")
    for row in grid.rows:
        table.add_row(*map(terminal.literal, row))
    return table
