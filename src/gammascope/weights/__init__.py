"""The embedded detector and the facts about it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def embedded_path() -> Path:
    """Return where the embedded detector lies."""
    return Path(str(resources.files("gammascope") / "weights" / "gamma_embedded.safetensors"))
