"""The methods there are, for people and programs."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table

from gammascope import checkpoints, weights
from gammascope.apps import terminal
from gammascope.apps.costs import parameters_of
from gammascope.detectors import base


def rows() -> list[dict[str, Any]]:
    """Describe every method in plain types.

    "parameters" are those of the embedded weights, "published_parameters" and "trained_parameters" those of the
    method's own config on ViT-L/14, where it wants a tower; with licence and measured score they come from a
    file that the documentation quotes. None: not known, as of methods that other packages add.
    """
    embedded = {}
    for path in (weights.named(name) for name in weights.DETECTORS):
        if path is not None and path.is_file():
            about_it = checkpoints.read_facts(path)
            embedded[about_it.method] = (path, about_it)
    about = json.loads(weights.methods_path().read_text("utf-8"))
    made = []
    for name in base.names():
        method = base.get(name)
        known = about.get(name, {})
        path, facts = embedded.get(name, (None, None))
        made.append(
            {
                "name": name,
                "title": method.title,
                "paper": method.paper,
                "licence": known.get("licence"),
                "published_parameters": known.get("parameters"),
                "trained_parameters": known.get("trained"),
                "measured": known.get("measured"),
                "parameters": parameters_of(path) if path is not None else None,
                "embedded_weights": facts is not None,
                "calibrated": facts is not None and bool(facts.calibration),
                "published_weights": sorted(method.weights),
                "extras": _extras(method),
            }
        )
    return made


def table(described: list[dict[str, Any]]) -> Table:
    """Draw the gist of what ``rows`` returns, a line for each method in at most 120 columns."""
    drawn = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 2, 0, 0),
        caption="Licences, extras, what a method trains, and where its score is quoted: --json",
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
    return ", ".join(row["published_weights"]) or "train or convert"


def _score(measured: dict[str, Any] | None) -> tuple[str, str]:
    """Return AUROC with its interval, and on how many images."""
    if measured is None:
        return "-", "-"
    low, high = measured["interval"]
    return f"{measured['auroc']:.3f} [{low:.3f}, {high:.3f}]", str(measured["images"])


def _extras(method: base.Method[Any]) -> dict[str, str]:
    """Name the optional parts of the installation, and what of the method needs them."""
    needs = {} if method.loss is None else {"train": "to train it"}
    if hasattr(method.config, "backbone"):
        needs["backbones"] = "for pretrained backbones"
    return needs
