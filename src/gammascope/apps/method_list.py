"""The methods there are, for people and programs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from gammascope import checkpoints
from gammascope.apps import terminal
from gammascope.detectors import base


def rows() -> list[dict[str, Any]]:
    """Describe every method in plain types; "parameters" are those of the embedded weights."""
    embedded = checkpoints.default_path()
    facts = checkpoints.read_facts(embedded) if embedded.is_file() else None
    made = []
    for name in base.names():
        method = base.get(name)
        here = facts is not None and facts.method == name
        made.append(
            {
                "name": name,
                "title": method.title,
                "paper": method.paper,
                "parameters": _parameters(embedded) if here else None,
                "embedded_weights": here,
                "calibrated": here and facts is not None and bool(facts.calibration),
                "published_weights": sorted(method.weights),
                "extras": _extras(method),
            }
        )
    return made


def table(described: list[dict[str, Any]]) -> Table:
    """Draw what ``rows`` returns."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("name", "title", "paper", "parameters", "embedded weights", "extras"):
        drawn.add_column(title, overflow="fold")
    for row in described:
        calibrated = "calibrated" if row["calibrated"] else "not calibrated"
        cells = (
            row["name"],
            row["title"],
            row["paper"],
            "-" if row["parameters"] is None else f"{row['parameters'] / 1e6:.2f} million",
            f"yes, {calibrated}" if row["embedded_weights"] else "no",
            ", ".join(f"{name} ({use})" for name, use in row["extras"].items()) or "-",
        )
        drawn.add_row(*(terminal.literal(cell) for cell in cells))
    return drawn


def _extras(method: base.Method[Any]) -> dict[str, str]:
    """Name the optional parts of the installation, and what of the method needs them."""
    needs = {} if method.loss is None else {"train": "to train it"}
    if hasattr(method.config, "backbone"):
        needs["backbones"] = "for pretrained backbones"
    return needs


def _parameters(path: Path) -> int:
    """Count the numbers in a checkpoint without reading them."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - not a mapping
