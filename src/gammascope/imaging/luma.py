"""Brightness as a JPEG file stores it: block by block, neither converted to RGB and back nor turned upright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from PIL.ExifTags import Base as Tag

from gammascope.imaging import codecs
from gammascope.imaging.codecs import jpeg_tables
from gammascope.imaging.decode import opened

# Orientations whose picture lies on its side, and which of its sides then run backwards (columns, rows).
_ON_ITS_SIDE = frozenset((5, 6, 7, 8))
_BACKWARDS = {
    2: (True, False),
    3: (True, True),
    4: (False, True),
    6: (True, False),
    7: (True, True),
    8: (False, True),
}


@dataclass(frozen=True, slots=True)
class StoredLuma:
    """The first component of a JPEG file.

    Attributes:
        pixels: As decoded, 0..255; the first block begins at the first pixel.
        steps: Quantisation steps by vertical and horizontal frequency.
        orientation: How the picture is to be turned: 1..8, as EXIF numbers it.
    """

    pixels: UInt8[np.ndarray, "h w"]
    steps: Int[np.ndarray, "8 8"]
    orientation: int

    def upright(
        self, cells: Shaped[np.ndarray, "gh gw"], cell_px: int
    ) -> tuple[Shaped[np.ndarray, "_gh _gw"], tuple[int, int]]:
        """Turn cells of the stored picture upright.

        Args:
            cells: The first one begins at the first stored pixel.
            cell_px: Their side, pixels.

        Returns:
            The cells, and left and top of the first one in the upright picture; below zero where cells reach beyond.
        """
        height, width = self.pixels.shape
        if self.orientation in _ON_ITS_SIDE:
            cells, height, width = cells.T, width, height
        back_x, back_y = _BACKWARDS.get(self.orientation, (False, False))
        left = width - cells.shape[1] * cell_px if back_x else 0
        top = height - cells.shape[0] * cell_px if back_y else 0
        return cells[:: -1 if back_y else 1, :: -1 if back_x else 1], (left, top)


def stored_luma(data: bytes) -> StoredLuma | None:
    """Decode the brightness of a JPEG file.

    Returns:
        None if this is no JPEG file, stores no brightness (RGB, CMYK), or cannot be read whole.
    """
    tables = jpeg_tables(data) if data[:2] == b"\xff\xd8" else ()
    if not tables:
        return None
    try:
        file = opened(data, "jpeg")
        if file.mode not in ("L", "RGB") or file.info.get("adobe_transform") == 0:
            return None
        turn = file.getexif().get(Tag.Orientation, 1)
        pixels, damage = codecs.jpeg_pixels(data, "L", file.size)
        if damage:
            return None
        if pixels is None:
            file.draft("L", file.size)
            pixels = np.asarray(file)
    except (
        Exception
    ):  # Decoders raise almost any type on hostile bytes; ``decode`` says what is wrong.
        return None
    return StoredLuma(pixels, by_frequency(tables[0]), turn if isinstance(turn, int) else 1)


def by_frequency(table: Int[np.ndarray, " 64"]) -> Int[np.ndarray, "8 8"]:
    """Return the steps of a file's table by vertical and horizontal frequency."""
    steps = np.empty(64, np.int64)
    steps[_ZIGZAG] = table
    return steps.reshape(8, 8)


def _zigzag() -> Int[np.ndarray, " 64"]:
    """Return where each step of a file's table belongs, row by row: diagonals, run through to and fro."""
    places = ((row + column, row, column) for row in range(8) for column in range(8))
    ordered = sorted(places, key=lambda p: (p[0], p[1] if p[0] % 2 else p[2]))
    return np.array([8 * row + column for _, row, column in ordered])


_ZIGZAG = _zigzag()
