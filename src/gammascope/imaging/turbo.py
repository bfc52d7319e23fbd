"""Pixels of JPEG files from libjpeg-turbo's own interface: Pillow's to the bit, in half the time or less.

Pillow feeds the decoder 64 kB at a time, has each row unpacked to four bytes a pixel and copies the whole twice more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

_COLOURS = {"L": "GRAY", "RGB": "RGB"}

# Stray bytes before other markers stand between segments, and harm nothing.
_DAMAGED = re.compile(
    r"bad Huffman code|premature end of data|instead of RST|before marker 0x(d\d|da|c4)"
)


def jpeg_pixels(
    data: bytes, mode: str, size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w *c"] | None, str]:
    """Decode a JPEG file, if that is sure to give what Pillow gives, and say what Pillow does not: that it is damaged.

    Args:
        data: The file's content.
        mode: Pillow's for it; "L" or "RGB", others are left to Pillow.
        size: Width and height that were checked against the limits.

    Returns:
        Grey (``h w``) or colour (``h w 3``) as stored, not turned; None if simplejpeg is not installed, or has anything
        to complain about: what is wrong with a file, Pillow shall say. And what the decoder says of coded pixels that
        make no sense, which Pillow shows as they come; "" if it says nothing.
    """
    turbo = _turbo()
    if turbo is None or mode not in _COLOURS:
        return None, ""
    decode_header, decode = turbo
    try:
        height, width, *_ = decode_header(data)
        if (width, height) != size:  # Two headers in one file.
            return None, ""
        pixels: np.ndarray = decode(data, _COLOURS[mode], fastdct=False, fastupsample=False)
    except (ValueError, MemoryError) as error:
        return None, str(error) if _DAMAGED.search(str(error)) else ""
    return (pixels if mode == "RGB" else pixels[..., 0]), ""


@lru_cache(maxsize=1)
def _turbo() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg.decode_jpeg_header, simplejpeg.decode_jpeg
