"""What a forensic method is: a picture goes in; a finding with a map, or the reason for silence, comes out.

Every method states what it assumes, and says nothing where that does not hold.

``StoredLuma`` is brightness as a JPEG file stores it: neither converted to RGB and back nor turned upright.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int, Real, Shaped, UInt8

from gammascope.imaging import codecs
from gammascope.imaging.codecs import jpeg_tables
from gammascope.imaging.decode import opened, orientation_of
from gammascope.report import Repeats
from gammascope.sample import Image

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

    def turned(
        self,
    ) -> tuple[UInt8[np.ndarray, "_h _w"], Int[np.ndarray, "8 8"], tuple[int, int]]:
        """Turn the whole blocks upright.

        Returns:
            Their pixels, the steps by frequency there, and left and top of the first block in the upright picture.
        """
        rows, columns = (side // CELL_PX * CELL_PX for side in self.pixels.shape)
        pixels, origin = self.upright(self.pixels[:rows, :columns], 1)
        return pixels, self.steps.T if self.orientation in _ON_ITS_SIDE else self.steps, origin


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
        turn = orientation_of(file) or 1
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
    return StoredLuma(pixels, by_frequency(tables[0]), turn)


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


CELL_PX = 8
"""Side of the cells that most maps are made of: a JPEG block."""

_GRAIN = 0.5  # standard deviation of a cell, grey levels, that photos have where they are neither black nor white
_DRAWN = 0.5  # share of cells without it
_BAND = 32  # rows of cells that are measured at once


Eyes: TypeAlias = Callable[[UInt8[np.ndarray, "n 224 224 3"]], Float[np.ndarray, "n d 14 14"]]
"""How a vision tower sees squares: tokens of their patches."""


@dataclass(frozen=True)
class Picture:
    """What methods look at; what several need is made once.

    Attributes:
        image: Upright sRGB pixels.
        content: The file it comes from; empty if there is none.
        eyes: Returns the tokens of a vision tower's patches, images x numbers x 14 x 14, for squares of 224 px; None:
            there is no tower.
        middle: The same of ``imaging.views.middle_square``, where the detector has read it; the tower then reads others
            only where it promises something. None: it has not, or all are wanted.
    """

    image: Image
    content: bytes = b""
    eyes: Eyes | None = None
    middle: Float[np.ndarray, "d 14 14"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.image.shape[1], self.image.shape[0]

    @cached_property
    def luma(self) -> UInt8[np.ndarray, "h w"]:
        """Brightness 0..255 of the upright pixels, rounded."""
        return np.asarray(PIL.Image.fromarray(self.image).convert("L"))

    @cached_property
    def stored(self) -> StoredLuma | None:
        """Brightness as the JPEG file stores it, before any conversion of colours; None if this is no such file."""
        return stored_luma(self.content)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a method saw in a picture.

    Attributes:
        score: How clearly a part differs from the rest, in the method's own unit; more is clearer.
        cells: By cell, 0..1: how much it belongs to that part, above one half if it does; NaN: nothing can be said.
        origin: Left and top of the first cell, pixels of the upright picture; may lie outside.
        cell_px: Side of a cell.
        size: Width and height of the picture.
        note: What it means for the picture as a whole, a sentence; empty: nothing.
        repeats: Groups of places that show the same piece, as (x, y), shares of the width and the height.
    """

    score: float
    cells: Float[np.ndarray, "gh gw"]
    origin: tuple[int, int]
    cell_px: int
    size: tuple[int, int]
    note: str = ""
    repeats: Repeats = ()

    def map(self) -> Float[np.ndarray, "h w"]:
        """Return the cells in the picture's frame, interpolated; NaN beyond them."""
        width, height = self.size
        rows = (np.arange(height) - self.origin[1]) // self.cell_px
        columns = (np.arange(width) - self.origin[0]) // self.cell_px
        inside = np.ix_(
            (rows >= 0) & (rows < self.cells.shape[0]),
            (columns >= 0) & (columns < self.cells.shape[1]),
        )
        out = np.full((height, width), np.nan, np.float32)
        out[inside] = self.cells[np.ix_(rows[inside[0][:, 0]], columns[inside[1][0]])]
        return out


@dataclass(frozen=True, slots=True)
class Silence:
    """Why a method cannot speak about a picture: one clause for a person ("not a JPEG file")."""

    reason: str


Outcome: TypeAlias = Finding | Silence
Method: TypeAlias = Callable[[Picture], Outcome]
"""A pure function of a picture; it never fails on one."""


def unrounded_luma(image: Image) -> Float[np.ndarray, "h w"]:
    """Return brightness 0..255 without rounding, which would blur what a compression left in the coefficients."""
    luma = image[..., 0] * np.float32(0.299)
    luma += image[..., 1] * np.float32(0.587)
    luma += image[..., 2] * np.float32(0.114)
    return np.asarray(luma)


def cell_sums(values: np.ndarray, cell_px: int = CELL_PX) -> Float[np.ndarray, "gh gw"]:
    """Add values up within whole cells; what is left over at the right and below is not counted."""
    rows, columns = values.shape[0] // cell_px, values.shape[1] // cell_px
    cut = values[: rows * cell_px, : columns * cell_px]
    # Rows first: whole rows are added in the order of memory.
    down = cut.reshape(rows, cell_px, columns * cell_px).sum(1, dtype=np.float32)
    return np.asarray(down.reshape(rows, columns, cell_px) @ np.ones(cell_px, np.float32))


def cell_variances(
    luma: Real[np.ndarray, "h w"], side: int = CELL_PX
) -> Float[np.ndarray, "gh gw"]:
    """Return the variance within whole cells."""
    out = np.empty((luma.shape[0] // side, luma.shape[1] // side), np.float32)
    # In bands: squares of a large picture, in floating point, would fill much memory.
    for first in range(0, len(out), _BAND):
        last = min(len(out), first + _BAND)
        values = luma[first * side : last * side].astype(np.float32)
        mean, square = (cell_sums(some, side) / side**2 for some in (values, values * values))
        out[first:last] = square - mean**2
    return out


def drawn(luma: Real[np.ndarray, "h w"]) -> bool:
    """Tell whether most of a picture has no grain, as that of drawings, charts and screenshots has none."""
    return bool((cell_variances(luma) < _GRAIN**2).mean() > _DRAWN)


_INPUTS = 6.0  # standard deviations of an input, beyond which nothing was seen in training


def standardised(
    inputs: Float[np.ndarray, "*c n"],
    mean: Float[np.ndarray, "*#n"],
    spread: Float[np.ndarray, "*#n"],
) -> Float[np.ndarray, "*c n"]:
    """Return inputs in standard deviations from their means, as the small networks take them."""
    seen = np.asarray((inputs - mean) / spread)
    return np.clip(seen, -_INPUTS, _INPUTS, out=seen)


_SUMMED = 3  # reach up to which adding shifted copies is quicker than running sums


def box_means(values: np.ndarray, reach: int) -> Float[np.ndarray, "gh gw *c"]:
    """Average over a square of ``2 reach + 1`` cells, or what of it lies inside."""
    out: Float[np.ndarray, "gh gw *c"] = values.astype(
        np.float32 if reach <= _SUMMED else np.float64
    )
    for axis in (0, 1):
        extent = out.shape[axis]
        ends = np.minimum(np.arange(extent) + reach + 1, extent)
        starts = np.maximum(np.arange(extent) - reach, 0)
        if reach <= _SUMMED:
            total = out.copy()
            one, other = np.moveaxis(out, axis, 0), np.moveaxis(total, axis, 0)
            for step in range(1, min(reach, extent - 1) + 1):
                other[step:] += one[:-step]
                other[:-step] += one[step:]
        else:
            total = np.cumsum(out, axis=axis)
            total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis=axis)
            total = total.take(ends, axis) - total.take(starts, axis)
        length = (ends - starts).reshape([-1 if a == axis else 1 for a in range(out.ndim)])
        out = total / length.astype(out.dtype)
    return out.astype(np.float32, copy=False)


def blobs(
    inside: Bool[np.ndarray, "gh gw"],
    linked: tuple[Bool[np.ndarray, "_gh _w1"], Bool[np.ndarray, "_h1 _gw"]] | None = None,
) -> Int[np.ndarray, "gh gw"]:
    """Number connected parts 1, 2, ... from the largest to the smallest; 0 outside.

    Args:
        inside: The cells to be connected.
        linked: Whether a cell belongs together with its right, and with its lower neighbour; None: wherever both lie
            inside.
    """
    across, down = inside[:, :-1] & inside[:, 1:], inside[:-1] & inside[1:]
    if linked is not None:
        across, down = across & linked[0], down & linked[1]
    number = np.arange(inside.size).reshape(inside.shape)
    one = np.concatenate([number[:, :-1][across], number[:-1][down]])
    other = np.concatenate([number[:, 1:][across], number[1:][down]])
    parent = number.ravel().copy()
    while len(one):
        a, b = parent[one], parent[other]
        apart = a != b
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while (parent != (above := parent[parent])).any():
            parent = above
    roots, part, sizes = np.unique(parent[inside.ravel()], return_inverse=True, return_counts=True)
    rank = np.empty(len(roots), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(1, len(roots) + 1)
    out = np.zeros(inside.shape, np.int64)
    out[inside] = rank[part]
    return out


def clearest_blob(
    evidence: Float[np.ndarray, "gh gw"], level: float, share: tuple[float, float]
) -> tuple[float, Bool[np.ndarray, "gh gw"]]:
    """Find the one connected part that stands out.

    Args:
        evidence: By cell; NaN = none.
        level: What a cell needs to be counted.
        share: Smallest and largest share of the cells that a part may cover.

    Returns:
        Its mean evidence times the square root of its cells over that of a tenth of all (a small part must be clearer),
        and where it is; 0 and nothing if there is none.
    """
    parts = blobs(evidence > level)
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    sums = np.bincount(parts.ravel(), np.nan_to_num(evidence).ravel(), minlength=2)[1:]
    fits = (sizes >= max(4, share[0] * evidence.size)) & (sizes <= share[1] * evidence.size)
    if not fits.any():
        return 0.0, np.zeros(evidence.shape, bool)
    scores = np.where(fits, sums / np.sqrt(np.maximum(sizes, 1)), 0) / np.sqrt(evidence.size / 10)
    return float(scores.max()), parts == int(scores.argmax()) + 1
