"""Settings that generators hide in the lowest bit of pixels: NovelAI's, and an extension of Stable Diffusion WebUI.

The bits go down the columns: a name of 15 letters, a length of 32 bits, then text, mostly packed. Converting, resizing
or lossy saving destroys them. The layout is described by example, not by a standard.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL.Image

from gammascope.imaging.decode import opened

_ALPHA = {
    b"stealth_pnginfo": False,
    b"stealth_pngcomp": True,
}  # Name, and whether the text is packed.
_COLOURS = {b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
_NAME_BYTES, _LENGTH_BYTES = 15, 4
_MOST_PIXELS = 64_000_000
_LONGEST_BYTES = 2**20


def texts_of(data: bytes, kind: str) -> list[tuple[str, str]]:
    """Return keyword and text of what is hidden, as PNG text chunks would hold it; empty if nothing is.

    Args:
        data: The file's content.
        kind: Its format; only those without loss can hide anything.
    """
    if kind not in ("png", "webp"):
        return []
    try:
        with opened(data, kind) as file:
            if file.mode not in ("RGB", "RGBA") or file.width * file.height > _MOST_PIXELS:
                return []
            return _found(file)
    except Exception:  # Decoders of hostile bytes raise almost any type.
        return []


def _found(file: PIL.Image.Image) -> list[tuple[str, str]]:
    pixels = np.asarray(file)
    # Down the columns; the three colours of a pixel one after the other.
    places = ((_ALPHA, pixels[..., 3:]), (_COLOURS, pixels[..., :3]))
    for names, values in places:
        if not values.size:
            continue
        columns = -(-8 * (_NAME_BYTES + _LENGTH_BYTES) // (len(values) * values.shape[2]))
        head = _bytes(values[:, :columns])
        packed = names.get(head[:_NAME_BYTES])
        if packed is None:
            continue
        start = _NAME_BYTES + _LENGTH_BYTES
        length = int.from_bytes(head[_NAME_BYTES:start], "big") // 8
        if not 0 < length <= min(_LONGEST_BYTES, values.size // 8):
            return []
        columns = -(-8 * (start + length) // (len(values) * values.shape[2]))
        return _texts(_bytes(values[:, :columns])[start : start + length], packed=packed)
    return []


def _bytes(values: np.ndarray) -> bytes:
    return np.packbits(values.swapaxes(0, 1).reshape(-1) & 1).tobytes()


def _texts(content: bytes, *, packed: bool) -> list[tuple[str, str]]:
    if packed:
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(_LONGEST_BYTES)
        except (OSError, EOFError, zlib.error):
            return []
    text = content.decode("utf-8", "replace")
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        return [("parameters", text)]
    if not isinstance(values, Mapping):
        return [("parameters", text)]
    return [
        (str(key), value if isinstance(value, str) else json.dumps(value))
        for key, value in values.items()
    ]
