"""``gammascope compare`` and ``leaderboard``: evaluations side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gammascope.cli import options
from gammascope.cli.failures import refuse_unwritable

FirstEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="A", help="Folder of an evaluation (evaluate --out).")
]
SecondEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="B", help="Folder of another detector's, on the same images.")
]
Evaluations: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="TABLE...", help="Folders of evaluations (evaluate --out)."),
]
LeaderboardPage: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Where to write the page (HTML, works from disk).")
]
PageTitle: TypeAlias = Annotated[str, typer.Option("--title", help="Heading of the page.")]


def compare(
    first: FirstEvaluation,
    second: SecondEvaluation,
    as_json: options.Json = False,
) -> None:
    """Say whether one of two detectors, evaluated on the same images, is better, or whether it may be chance."""
    from gammascope.cli import comparing, terminal

    compared = comparing.compared(first, second)
    if as_json:
        typer.echo(json.dumps(comparing.plain(compared), allow_nan=False))
    else:
        terminal.output().print(comparing.table(compared))
        terminal.say(comparing.notes(compared))


def leaderboard(
    tables: Evaluations,
    out: LeaderboardPage = None,
    title: PageTitle = "Leaderboard",
    as_json: options.Json = False,
) -> None:
    """Put evaluated detectors side by side on one page; those of different images never share a table."""
    from gammascope.cli import leaderboard_page as page
    from gammascope.cli import terminal

    if out is not None:
        refuse_unwritable(out)
    made = page.made_of(tables)
    if out is not None:
        page.write(made, out, title)
    if as_json:
        typer.echo(json.dumps(page.plain(made), allow_nan=False))
    else:
        terminal.output().print(*page.drawn(made))
    if out is not None:
        terminal.say(f"Page: {out}")
