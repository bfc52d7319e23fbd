"""The benchmarks there are, for people and programs."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from gammascope.apps import terminal
from gammascope.data.benchmarks import base


def rows() -> list[dict[str, Any]]:
    """Describe every benchmark in plain types."""
    return [row(name) for name in base.names()]


def row(name: str) -> dict[str, Any]:
    """Describe one benchmark in plain types.

    Raises:
        UnknownBenchmarkError: If there is none of this name.
    """
    benchmark = base.get(name)
    return {
        "name": base.named(name),
        "title": benchmark.title,
        "paper": benchmark.paper,
        "licence": benchmark.licence,
        "url": benchmark.url,
        "splits": list(benchmark.splits),
        "labels": {word: label.name.lower() for word, label in benchmark.labels.items()},
        "our_reading": benchmark.reading,
        "tree": benchmark.tree,
    }


def table(described: list[dict[str, Any]]) -> Table:
    """Draw what ``rows`` returns."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("name", "title", "licence", "splits"):
        drawn.add_column(title, overflow="fold")
    for row in described:
        cells = (row["name"], row["title"], row["licence"], ", ".join(row["splits"]))
        drawn.add_row(*(terminal.literal(cell) for cell in cells))
    return drawn


def sheet(name: str) -> str:
    """Write out all that is known of one benchmark, with the tree to lay it out in.

    Raises:
        UnknownBenchmarkError: If there is none of this name.
    """
    benchmark = base.get(name)
    facts = {
        "paper": benchmark.paper,
        "licence": benchmark.licence,
        "data": benchmark.url,
        "splits": ", ".join(benchmark.splits),
        "labels": benchmark.direction(),
        "our reading": benchmark.reading,
    }
    lines = [benchmark.title, *(f"{what}: {fact}" for what, fact in facts.items() if fact)]
    return "\n".join([*lines, "", "DIR/", benchmark.tree])
