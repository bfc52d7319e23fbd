"""Copy-move: a part that is there twice, found in two ways and judged by how exact the copy is.

A dense field finds copies of about the same size, also where they have few corners; corners find copies that were
scaled and turned. Either way says how one part is laid onto the other; then the two are compared at full resolution.
What is there a third time, one step further, is architecture.

Source: as in ``dense_field`` and ``keypoints``; the exactness that the score is made of is ours.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float

from gammascope.forensics import dense_field, keypoints
from gammascope.forensics.base import Finding, Outcome, Picture, Silence, cell_variances, drawn
from gammascope.forensics.copies import Copy, aligned, exactness, grown, in_a_row, whole

SMALLEST_PX = 96
"""Shorter side below which a part and its copy do not fit beside each other."""

LARGEST_PIXELS = 700_000
"""Pixels that the search works on; larger pictures are reduced for it, and compared at full resolution."""

_MARKED = 0.75  # exactness from which a copy is shown
_CELL_PX = 4
_SQUARE_PX = 16
_FLATTEST = 3.5  # standard deviation of a square, grey levels, below which anything matches
_TEXTURED = 0.02  # share of the squares that a picture needs


def examine(picture: Picture) -> Outcome:
    """Mark the part that is repeated most exactly, and what it repeats."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    luma = picture.luma.astype(np.float32)
    factor = max(1.0, (luma.size / LARGEST_PIXELS) ** 0.5)
    small = _reduced(luma, factor)
    reason = _unfit(luma, small)
    if reason:
        return Silence(reason)
    full = PIL.Image.fromarray(luma)
    best, marked = 0.0, np.zeros(luma.shape, bool)
    seen = np.zeros(small.shape, bool)
    for points, matrix in chain(keypoints.repeated(small), dense_field.repeated(small)):
        at = np.rint(points).astype(int)
        if seen[at[:, 1], at[:, 0]].mean() > 0.5:
            continue
        copy = grown(small, points, matrix)
        if copy is None:
            continue
        box, inside = copy.box, copy.inside
        copy = _enlarged(luma, full, copy, factor)
        if not copy.plausible:
            continue
        score = exactness(luma, full, copy)
        if score > min(best, _MARKED) and in_a_row(luma, full, copy):
            continue
        best = max(best, score)
        if score >= _MARKED:
            _mark(marked, copy)
            # A part that only resembles another may hide the true one, so it is looked at again.
            seen[box] |= inside
    cells = marked[_CELL_PX // 2 :: _CELL_PX, _CELL_PX // 2 :: _CELL_PX]
    return Finding(best, cells.astype(np.float32), (0, 0), _CELL_PX, picture.size)


def _enlarged(luma: np.ndarray, full: PIL.Image.Image, copy: Copy, factor: float) -> Copy:
    """Lay both parts onto each other at full resolution."""
    copy = copy.enlarged(factor, luma.shape)
    for blur in sorted({round(factor), 1}, reverse=True):
        copy = aligned(luma, full, copy, blur)
    return whole(copy)


def _mark(marked: Bool[np.ndarray, "h w"], copy: Copy) -> None:
    """Mark both parts."""
    marked[copy.box] |= copy.inside
    rows, columns = np.nonzero(copy.inside)
    places = np.stack([columns + copy.box[1].start, rows + copy.box[0].start, np.ones(len(rows))])
    x, y = np.rint(copy.matrix @ places).astype(int)
    for shift in (0, 1):  # An enlarged copy has more pixels than the part.
        across, down = (
            np.clip(x + shift, 0, marked.shape[1] - 1),
            np.clip(y + shift, 0, marked.shape[0] - 1),
        )
        marked[down, across] = True


def _unfit(luma: Float[np.ndarray, "h w"], small: Float[np.ndarray, "_h _w"]) -> str:
    """Say why a picture cannot be judged, searched at the smaller size; empty if it can."""
    if (cell_variances(small, _SQUARE_PX) > _FLATTEST**2).mean() < _TEXTURED:
        return "too little texture to tell one part from another"
    if drawn(luma):
        return "mostly without grain, like drawings and screenshots, which repeat exactly"
    return ""


def _reduced(luma: Float[np.ndarray, "h w"], factor: float) -> Float[np.ndarray, "_h _w"]:
    if factor == 1:
        return luma
    size = round(luma.shape[1] / factor), round(luma.shape[0] / factor)
    return np.asarray(PIL.Image.fromarray(luma).resize(size, PIL.Image.Resampling.BOX))
