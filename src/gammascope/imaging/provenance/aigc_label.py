"""China's mandatory label of AI-generated pictures: a small JSON object called AIGC.

Since September 2025 services must put it into what they make, and platforms into what they pass on. Source: GB
45438-2025, annexes E and F (TC260): in XMP, in texts of PNG files, in EXIF's user comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gammascope.imaging.provenance.containers import excerpt
from gammascope.report import Evidence, Strength

_MEANINGS = {
    "1": ("says that the picture is AI-generated", Strength.MODERATE),
    "2": ("says that the picture may be AI-generated", Strength.WEAK),
    "3": ("says that the picture is suspected to be AI-generated", Strength.WEAK),
}
_LABEL = re.compile(r'"Label"\s*:\s*"?([0-9])"?')
_FIELDS = ("ContentProducer", "ProduceID", "ContentPropagator", "PropagateID")


def findings(texts: Iterable[tuple[str, str]]) -> Iterator[Evidence]:
    """State what labels say, each once.

    Args:
        texts: Keyword and text: XMP properties, PNG text chunks, EXIF fields, comments.
    """
    said: dict[str, str] = {}
    for keyword, text in texts:
        found = _label(keyword, text)
        if found is not None:
            said.setdefault(*found)
    for label, producer in said.items():
        words, strength = _MEANINGS.get(label, ("holds a value that is not known", Strength.WEAK))
        by = f", producer {producer}" if producer else ""
        yield Evidence(
            "provenance:aigc_label",
            f"China's label of AI-generated content {words} (AIGC, Label {excerpt(label, 20)}{by}).",
            strength=strength,
            limits="Services in China must write it, but nothing protects it: anyone can write, change or remove it. "
            "Its absence says nothing.",
        )


def _label(keyword: str, text: str) -> tuple[str, str] | None:
    """Return label and producer, if a text is one."""
    named = keyword.rpartition(":")[2].strip().upper() == "AIGC"
    if not named and "AIGC" not in text:
        return None
    values = _object(text)
    inner = values.get("AIGC", values if named else None)
    if isinstance(inner, str):  # The object is a text within the object, too.
        inner = _object(inner)
    if isinstance(inner, Mapping) and "Label" in inner:
        producer = inner.get("ContentProducer")
        return str(inner["Label"]).strip(), excerpt(producer, 40) if isinstance(
            producer, str
        ) else ""
    found = _LABEL.search(text)  # Broken JSON, or JSON with letters around it.
    return (found[1], "") if found and any(name in text for name in _FIELDS) else None


def _object(text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text.strip().strip("\0"))
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, Mapping) else {}
