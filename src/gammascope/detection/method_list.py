"""The methods there are, for people and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gammascope import checkpoints, weights
from gammascope.checkpoints.conversion import CONVERTERS
from gammascope.detectors import base
from gammascope.errors import BrokenPackageError


def rows(tell: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Describe every method in plain types.

    "parameters" are those of the embedded weights, "published_parameters" and "trained_parameters" those of the
    method's own config on ViT-L/14, where it wants a tower; with licence and measured score they come from a
    file that the documentation quotes. None: not known, as of methods that other packages add. "converted_from": the
    detectors whose published files ``gammascope convert`` takes.

    Args:
        tell: Called with the reason for each method that is left out, because its package cannot be loaded.
    """
    embedded = {}
    for path in (weights.named(name) for name in weights.DETECTORS):
        if path is not None and path.is_file():
            about_it = checkpoints.read_facts(path)
            embedded[about_it.method] = (path, about_it)
    about = json.loads(weights.methods_path().read_text("utf-8"))
    made = []
    for name in base.names():
        try:
            method = base.get(name)
        except BrokenPackageError as error:
            tell(str(error))
            continue
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
                "parameters": checkpoints.parameters_of(path) if path is not None else None,
                "embedded_weights": facts is not None,
                "calibrated": facts is not None and bool(facts.calibration),
                "published_weights": sorted(method.weights),
                "converted_from": sorted(
                    other for other, (ours, _) in CONVERTERS.items() if ours == name
                ),
                "extras": _extras(method),
            }
        )
    return made


def _extras(method: base.Method[Any]) -> dict[str, str]:
    """Name the optional parts of the installation, and what of the method needs them."""
    needs = {} if method.loss is None else {"train": "to train it"}
    if hasattr(method.config, "backbone"):
        needs["backbones"] = "for pretrained backbones"
    return needs
