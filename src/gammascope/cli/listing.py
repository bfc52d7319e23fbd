"""``gammascope methods``, ``benchmarks`` and ``generators``: what there is, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from gammascope.cli import options
from gammascope.cli.failures import PARTLY_DONE
from gammascope.errors import BrokenPackageError

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("name", "title", "paper", "family", "parameters", "can", "px", "licence")

OneBenchmark: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Show the layout and source of this one."),
]


def methods(as_json: options.Json = False) -> None:
    """List the detection methods. Exit code 4: a method of another package cannot be loaded."""
    from gammascope.detection import method_list

    broken: list[str] = []
    _show(method_list.rows(broken.append), method_table, as_json=as_json)
    _tell(broken)


def benchmarks(name: OneBenchmark = None, as_json: options.Json = False) -> None:
    """List the public datasets that can be evaluated by name, or show how one of them must lie on disk.

    Exit code 4: a benchmark of another package cannot be loaded.
    """
    if name and as_json:
        typer.echo(json.dumps(benchmark(name)))
    elif name:
        typer.echo(benchmark_sheet(name))
    else:
        broken: list[str] = []
        _show(_benchmarks(broken.append), benchmark_table, as_json=as_json)
        _tell(broken)


def generators(as_json: options.Json = False) -> None:
    """List the generators: what each can do, and under which terms."""
    _show(generator_rows(), generator_table, as_json=as_json)


def _show(
    rows: list[dict[str, Any]], table: Callable[[list[dict[str, Any]]], Table], *, as_json: bool
) -> None:
    from gammascope.cli import terminal

    if as_json:
        typer.echo(json.dumps(rows))
    else:
        terminal.output().print(table(rows))


def _benchmarks(tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Describe every benchmark that can be loaded, and tell why the others cannot."""
    from gammascope.data import benchmarks

    made = []
    for known in benchmarks.names():
        try:
            made.append(benchmark(known))
        except BrokenPackageError as error:
            tell(str(error))
    return made


def _tell(broken: list[str]) -> None:
    """Say what was left out; the list of the others is done."""
    from gammascope.cli import terminal

    for line in broken:
        terminal.say(f"left out: {line}")
    if broken:
        raise typer.Exit(PARTLY_DONE)


def method_table(described: list[dict[str, Any]]) -> Table:
    """Draw the gist of the methods, a line for each in at most 120 columns."""
    from rich.table import Table

    from gammascope.cli import terminal

    drawn = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        caption="Licences, extras, what a method trains, and where its score is quoted: --json\n"
        "Beside these: gammascope judge, a vision-language model",
        caption_justify="left",
    )
    for title in ("name", "title", "arXiv", "parameters", "weights", "AUROC", "images"):
        numbers = title in ("parameters", "images")
        drawn.add_column(title, overflow="fold", justify="right" if numbers else "left")
    for row in described:
        parameters = row["parameters"] or row["published_parameters"]
        cells = (
            row["name"],
            row["title"],
            row["paper"].removeprefix("arXiv:"),
            "-" if parameters is None else f"{parameters / 1e6:.1f} M",
            _weights(row),
            *_score(row["measured"]),
        )
        drawn.add_row(*(terminal.literal(cell) for cell in cells))
    return drawn


def _weights(row: dict[str, Any]) -> str:
    if row["embedded_weights"]:
        return "embedded, calibrated" if row["calibrated"] else "embedded, not calibrated"
    of_ones_own = "train or convert" if row["converted_from"] else "train"
    return ", ".join(row["published_weights"]) or of_ones_own


def _score(measured: dict[str, Any] | None) -> tuple[str, str]:
    """Return AUROC with its interval, and on how many images."""
    if measured is None:
        return "-", "-"
    low, high = measured["interval"]
    return f"{measured['auroc']:.3f} [{low:.3f}, {high:.3f}]", str(measured["images"])


def benchmark(name: str) -> dict[str, Any]:
    """Describe one benchmark in plain types.

    Raises:
        UnknownBenchmarkError: If there is none of this name.
    """
    from gammascope.data import benchmarks

    found = benchmarks.get(name)
    return {
        "name": benchmarks.named(name),
        "title": found.title,
        "paper": found.paper,
        "licence": found.licence,
        "url": found.url,
        "splits": list(found.splits),
        "labels": {word: label.name.lower() for word, label in found.labels.items()},
        "our_reading": found.reading,
        "tree": found.tree,
    }


def benchmark_table(described: list[dict[str, Any]]) -> Table:
    """Draw benchmarks, a line for each."""
    from gammascope.cli import terminal

    drawn = _folded("name", "title", "licence", "splits")
    for row in described:
        cells = (row["name"], row["title"], row["licence"], ", ".join(row["splits"]))
        drawn.add_row(*(terminal.literal(cell) for cell in cells))
    return drawn


def benchmark_sheet(name: str) -> str:
    """Write out all that is known of one benchmark, with the tree to lay it out in.

    Raises:
        UnknownBenchmarkError: If there is none of this name.
    """
    from gammascope.data import benchmarks

    found = benchmarks.get(name)
    facts = {
        "paper": found.paper,
        "licence": found.licence,
        "data": found.url,
        "splits": ", ".join(found.splits),
        "labels": found.direction(),
        "our reading": found.reading,
    }
    lines = [found.title, *(f"{what}: {fact}" for what, fact in facts.items() if fact)]
    return "\n".join([*lines, "", "DIR/", found.tree])


def generator_rows() -> list[dict[str, Any]]:
    """Describe every generator in plain types: as its own config builds it, with a class where it can have some."""
    from dataclasses import replace

    import torch

    from gammascope.generation import base

    made = []
    for name in base.names():
        kind = base.get(name)
        named = {"classes": ("any",)} if hasattr(kind.config, "classes") else {}
        with torch.device("meta"):
            network = kind.build(replace(kind.config, **named))
        made.append(
            {
                "name": name,
                "title": kind.title,
                "paper": kind.paper,
                "family": kind.family,
                "parameters": sum(each.numel() for each in network.parameters()),
                "can": sorted(network.abilities),
                "px": network.native_px,
                "any_size": network.any_size,
                "licence": kind.licence,
            }
        )
    return made


def generator_table(described: list[dict[str, Any]]) -> Table:
    """Draw generators, a line for each."""
    from gammascope.cli import terminal

    drawn = _folded(*_COLUMNS)
    drawn.caption = "class: one of those that it was trained with, if it was trained with any"
    drawn.caption_justify = "left"
    for row in described:
        cells = row | {
            "parameters": f"{row['parameters'] / 1e6:.1f} M",
            "can": ", ".join(row["can"]),
            "px": f"{row['px']}, others" if row["any_size"] else str(row["px"]),
        }
        drawn.add_row(*(terminal.literal(cells[title]) for title in _COLUMNS))
    return drawn


def _folded(*titles: str) -> Table:
    """Return an empty table whose cells are broken rather than cut."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        drawn.add_column(title, overflow="fold")
    return drawn
