"""The embedded detectors, the towers they see with, and the facts about them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

DETECTORS: Mapping[str, str] = {
    "default": "clip_probe.safetensors",
    "clip": "clip_probe.safetensors",
    "mobilenet": "gamma_embedded.safetensors",
}
"""Files of the embedded detectors by the name that ``--weights`` takes; older ones stay, for who validated them.
The default has a second name, which it keeps when another one takes its place."""

TOWERS: Mapping[str, str] = {"clip-vit-b16": "clip_vit_b16.safetensors"}
"""Files of the vision towers that came with the package, by the name that ``method.backbone`` takes."""


def named(name: str) -> Path | None:
    """Return where the embedded detector of that name lies; None if there is none of that name."""
    return _folder() / DETECTORS[name] if name in DETECTORS else None


def default_path() -> Path:
    """Return where the detector lies that scans use unless told otherwise."""
    return _folder() / DETECTORS["default"]


def embedded_path() -> Path:
    """Return where the detector lies whose small backbone methods call "embedded"."""
    return _folder() / DETECTORS["mobilenet"]


def towers() -> dict[str, Path]:
    """Return where the vision towers lie, by name."""
    return {name: _folder() / file for name, file in TOWERS.items()}


def methods_path() -> Path:
    """Return where facts about the methods lie: licence, sizes, measured scores."""
    return Path(__file__).with_name("methods.json")


@functools.cache
def _folder() -> Path:
    return Path(str(resources.files("gammascope") / "weights"))
