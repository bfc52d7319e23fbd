"""``gammascope contexts``: draw pictures after rules, and test whether pictures keep them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gammascope.choices import ContextBounds, ContextFamily
from gammascope.cli import options
from gammascope.cli.failures import PARTLY_DONE

_BROKEN_SHOWN = 10


def contexts(  # noqa: PLR0913, PLR0917 - each is an option
    action: Annotated[Literal["draw", "test"], typer.Argument(help="draw or test.")],
    family: Annotated[ContextFamily, typer.Argument(help="Whose rules.")],
    pictures: Annotated[
        list[str] | None, typer.Argument(help="To test: files, folders and patterns.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for drawn pictures, masks, manifest.csv.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 600,
    side: Annotated[int, typer.Option(help="Of drawn pictures, pixels.")] = 256,
    breaks: Annotated[str, typer.Option(help="Rule to break in every picture drawn.")] = "",
    amount: Annotated[int, typer.Option(min=1, help="Tiles, cells or letters that do.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    thresholds: Annotated[ContextBounds, typer.Option(help="Bounds of the tests.")] = "calibrated",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw pictures whose rules are known, or test whether a generator that was trained on such pictures keeps them.

    What is drawn already is kept; --count may grow, not shrink. Exit code 4: some pictures could not be tested.
    """
    if action == "draw":
        if out is None or pictures:
            raise typer.BadParameter("draw takes --out FOLDER and no pictures", param_hint="draw")
        _draw(out, (family, side, breaks, amount, seed), count, quiet=quiet)
        return
    if out is not None or not pictures:
        raise typer.BadParameter("test takes pictures and no --out", param_hint="test")
    found, broken = _tested(family, pictures, thresholds, quiet=quiet or as_json)
    _tell(family, found, broken, as_json=as_json)
    raise typer.Exit(PARTLY_DONE if broken else 0)


def _draw(out: Path, plan: tuple[str, int, str, int, int], count: int, *, quiet: bool) -> None:
    from gammascope.cli import terminal
    from gammascope.data.context_pictures import ContextPlan, make_contexts
    from gammascope.data.products import MANIFEST

    with terminal.progress_bar("Drawing", shown=not quiet) as advance:
        made = make_contexts(out, ContextPlan(*plan), count, progress=advance)
    terminal.say(f"{len(made)} pictures: {out / MANIFEST}")


def _tested(
    name: str, pictures: list[str], thresholds: ContextBounds, *, quiet: bool
) -> tuple[Any, list[str]]:
    """Test what can be tested, and tell why the rest cannot."""
    from gammascope.cli import terminal
    from gammascope.data.context_pictures import pictures_to_test
    from gammascope.errors import MissingDataError, UndecodableImageError
    from gammascope.evaluation import context_tests
    from gammascope.imaging.decode import decode

    paths, masks = pictures_to_test(pictures)
    found, broken = [], []
    with terminal.progress_bar("Testing", shown=not quiet) as advance:
        for done, path in enumerate(paths, start=1):
            try:
                found.append(context_tests.examine(name, decode(path).image, thresholds))
            except (MissingDataError, UndecodableImageError) as error:
                broken.append(f"{path}: {error}")
            advance(done, len(paths))
    if not found:
        raise MissingDataError(f"None of {len(paths)} pictures could be tested; {broken[0]}")
    if masks:
        terminal.say(f"{masks} masks left out")
    return context_tests.report(name, found), broken


def _tell(name: str, found: Any, broken: list[str], *, as_json: bool) -> None:
    from rich.table import Table

    from gammascope.cli import terminal
    from gammascope.evaluation.context_tests import TESTS
    from gammascope.evaluation.intervals import wilson

    if as_json:
        typer.echo(json.dumps(asdict(found) | {"family": name, "not_tested": broken}))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("test", "fails", "of", "it counts"):
        table.add_column(title)
    for test, meaning in TESTS[name].items():
        asked = found.asked[test]
        table.add_row(test, str(wilson(found.rejected[test], asked)), str(asked), meaning)
    table.add_row(
        "none of them", str(wilson(found.perfect, found.pictures)), str(found.pictures), ""
    )
    terminal.output().print(table)
    if found.prevalence is not None:
        terminal.say(
            f"Kinds: {', '.join(map(str, found.kinds))}; chi-square against equal numbers {found.prevalence:.1f}, "
            f"at most {found.bound} in 95 of 100 sets."
        )
    for line in broken[:_BROKEN_SHOWN]:
        terminal.say(f"not tested: {line}")
    if len(broken) > _BROKEN_SHOWN:
        terminal.say(f"... and {len(broken) - _BROKEN_SHOWN} more")
