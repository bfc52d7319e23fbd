"""The embedded detector and the facts about it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def embedded_path() -> Path:
    """Return where the embedded detector lies."""
    return Path(str(resources.files("gammascope") / "weights" / "gamma_embedded.safetensors"))


def methods_path() -> Path:
    """Return where facts about the methods lie: licence, sizes, measured scores."""
    return Path(__file__).with_name("methods.json")
