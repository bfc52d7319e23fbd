"""The generators there are, for people and programs."""

from __future__ import annotations

from typing import Any

import torch
from rich.table import Table

from gammascope.apps import terminal
from gammascope.generation import base

_COLUMNS = ("name", "title", "paper", "family", "parameters", "can", "px", "licence")


def rows() -> list[dict[str, Any]]:
    """Describe every generator in plain types; parameters and abilities are those of its own config."""
    made = []
    for name in base.names():
        kind = base.get(name)
        with torch.device("meta"):
            network = kind.build(kind.config)
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


def table(described: list[dict[str, Any]]) -> Table:
    """Draw what ``rows`` returns."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in _COLUMNS:
        drawn.add_column(title, overflow="fold")
    for row in described:
        cells = row | {
            "parameters": f"{row['parameters'] / 1e6:.1f} M",
            "can": ", ".join(row["can"]),
            "px": f"{row['px']}, others" if row["any_size"] else str(row["px"]),
        }
        drawn.add_row(*(terminal.literal(cells[title]) for title in _COLUMNS))
    return drawn
