"""``gammascope contexts``: draw pictures after rules, and test whether pictures keep them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gammascope.choices import ContextBounds, ContextFamily
from gammascope.cli import options
from gammascope.cli.failures import PARTLY_DONE

if TYPE_CHECKING:
    from gammascope.data.context_pictures import ContextPlan

_BROKEN_SHOWN = 10
_COUNT = 600


def contexts(  # noqa: PLR0913, PLR0917 - each is an option
    context: typer.Context,
    action: Annotated[Literal["draw", "test"], typer.Argument(help="draw or test.")],
    family: Annotated[ContextFamily, typer.Argument(help="Whose rules.")],
    pictures: Annotated[
        list[str] | None, typer.Argument(help="To test: files, folders and patterns.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for drawn pictures, masks, manifest.csv.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help=f"How many to draw. Default: {_COUNT}.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Of drawn pictures, pixels. Default: 256.")
    ] = None,
    breaks: Annotated[str, typer.Option(help="Rule to break in every picture drawn.")] = "",
    amount: Annotated[
        int | None, typer.Option(min=1, help="Tiles, cells or letters that do. Default: 4.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all draws. Default: 0.")] = None,
    thresholds: Annotated[
        ContextBounds | None, typer.Option(help="Bounds of the tests. Default: calibrated.")
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw pictures whose rules are known, or test whether a generator that was trained on such pictures keeps them.

    What is drawn already is kept; --count may grow, not shrink. Exit code 4: some pictures could not be tested.
    """
    if action == "draw":
        from gammascope.generation.spatial_context import UNCOUNTED

        if out is None or pictures:
            raise typer.BadParameter("draw takes --out FOLDER and no pictures", param_hint="draw")
        options.refuse_useless(context, "draw", "thresholds", "as_json")
        if breaks in UNCOUNTED:
            how = f"draw with --breaks {breaks!r}" if breaks else "draw without --breaks"
            options.refuse_useless(context, how, "amount")
        _draw(out, _plan(family, side, breaks, amount, seed), count or _COUNT, quiet=quiet)
        return
    if out is not None or not pictures:
        raise typer.BadParameter("test takes pictures and no --out", param_hint="test")
    options.refuse_useless(context, "test", "count", "side", "breaks", "amount", "seed")
    bounds = thresholds or "calibrated"
    found, broken = _tested(family, pictures, bounds, quiet=quiet or as_json)
    _tell(family, found, broken, as_json=as_json)
    raise typer.Exit(PARTLY_DONE if broken else 0)


def _plan(
    family: ContextFamily, side: int | None, breaks: str, amount: int | None, seed: int | None
) -> ContextPlan:
    from gammascope.data.context_pictures import ContextPlan

    given = {"side": side, "amount": amount, "seed": seed}
    known = {name: value for name, value in given.items() if value is not None}
    return ContextPlan(family, breaks=breaks, **known)


def _draw(out: Path, plan: ContextPlan, count: int, *, quiet: bool) -> None:
    from gammascope.cli import terminal
    from gammascope.data.context_pictures import make_contexts
    from gammascope.data.products import MANIFEST

    with terminal.progress_bar("Drawing", shown=not quiet) as advance:
        made = make_contexts(out, plan, count, progress=advance)
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
