"""Pages in one HTML file each, which need no network: what a scan found, and how evaluated detectors compare.

They share parts from ``pages/web``, and a policy that lets nothing else in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources


def web_part(name: str) -> str:
    """Return the text of a file in ``pages/web``."""
    return (resources.files("gammascope.pages") / "web" / name).read_text("utf-8")


def template(name: str) -> list[str]:
    """Split a file in ``pages/web`` at its ``{{placeholders}}``: text at even places, their names at odd ones.

    Whoever fills them in one pass leaves a value that looks like a placeholder as it is.
    """
    return re.split(r"\{\{(\w+)\}\}", web_part(name))


def policy(script: str, style: str) -> str:
    """Forbid everything but a page's own script and style, and images inside the file."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
