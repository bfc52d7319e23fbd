"""Copy-move: a part that is there twice, found in two ways and judged by how exact the copy is.

A dense field finds copies of about the same size, also where they have few corners; corners find copies that were
scaled and turned. Either way says how one part is laid onto the other; then the two are compared at full resolution.
What is there a third time, one step further, is architecture.

Source: as in ``dense_field`` and ``keypoints``; the exactness that the score is made of is ours.

A copy repeats grain and all; a second window of the same house does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float

from gammascope.forensics import dense_field, keypoints
from gammascope.forensics.base import (
    Finding,
    Outcome,
    Picture,
    Silence,
    blobs,
    box_means,
    cell_sums,
    cell_variances,
    drawn,
)

_PATCH_PX = 16  # side of the squares that are compared
_CONTRAST = 2.5  # slope, grey levels a pixel, that a square needs in every direction to be compared
_ROUNDS = 4
_SCALES = (0.4, 2.5)  # of a copy to its original
_FEWEST_PIXELS = 60
_MOST_PIXELS = 20_000  # that two parts are laid onto each other by
_GROWN_PX = 48  # that a part may reach beyond its points at once
_ALIKE = 0.75  # correlation of squares that belong to a part
_FLAT = 2.0  # standard deviation of a square of nothing
_APART_PX = 24
_TWO_TONE = (
    0.15  # share of a square's variance that two tones leave, below which it is letters or one edge
)
_REPEATED = 0.5  # share of a part that has to look alike at a third place


@dataclass(frozen=True, slots=True)
class Copy:
    """Two parts of a picture.

    Attributes:
        box: Rows and columns of the picture around the first part.
        inside: Where in the box the part is.
        matrix: From (x, y, 1) in the picture to the other part.
    """

    box: tuple[slice, slice]
    inside: Bool[np.ndarray, "h w"]
    matrix: Float[np.ndarray, "2 3"]

    @property
    def plausible(self) -> bool:
        """Whether sizes are kept within what people do to a copy."""
        linear = self.matrix[:, :2]
        if not np.isfinite(linear).all():
            return False
        scales = np.linalg.svd(linear, compute_uv=False)
        return bool(_SCALES[0] <= scales[1] and scales[0] <= _SCALES[1])

    @property
    def resampled(self) -> bool:
        """Whether the other part was interpolated, so that its finest detail is not the first one's."""
        return bool(np.abs(self.matrix - np.rint(self.matrix)).max() > 0)

    def enlarged(self, factor: float, size: tuple[int, int]) -> Copy:
        """Bring it from a reduced picture to the full one of the given height and width."""
        offset, linear = (factor - 1) / 2, self.matrix[:, :2]
        moved = factor * self.matrix[:, 2] + offset - linear.sum(1) * offset
        slices, places = [], []
        for axis, side in zip(self.box, size, strict=True):
            start, stop = int(axis.start * factor), min(side, int(axis.stop * factor))
            slices.append(slice(start, stop))
            there = np.rint((np.arange(start, stop) - offset) / factor).astype(int)
            places.append(np.clip(there - axis.start, 0, axis.stop - axis.start - 1))
        inside = self.inside[np.ix_(*places)]
        return Copy((slices[0], slices[1]), inside, np.column_stack([linear, moved]))


def grown(
    luma: Float[np.ndarray, "h w"], points: Float[np.ndarray, "n 2"], matrix: np.ndarray
) -> Copy | None:
    """Return the part around points that looks like what a map says it is again; None if nothing does.

    Args:
        luma: Brightness 0..255.
        points: Columns and rows, pixels.
        matrix: From (x, y, 1) to the other part.
    """
    low, high = points.min(0) - _GROWN_PX, points.max(0) + _GROWN_PX + 1
    left, top = (max(0, int(side)) for side in low)
    right, bottom = (min(int(s), n) for s, n in zip(high, luma.shape[::-1], strict=True))
    everywhere = np.ones((bottom - top, right - left), bool)
    whole = Copy((slice(top, bottom), slice(left, right)), everywhere, matrix)
    there, within = _fetched(PIL.Image.fromarray(luma), whole)
    x, y = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
    (a, b, c), (d, e, f) = matrix
    within &= np.hypot(a * x + b * y + c - x, d * x + e * y + f - y) >= _APART_PX
    alike = _alike(luma[whole.box], there) & within
    numbers = blobs(alike)
    at = np.rint(points).astype(int) - (left, top)
    kept = numbers[np.clip(at[:, 1], 0, bottom - top - 1), np.clip(at[:, 0], 0, right - left - 1)]
    inside = np.isin(numbers, kept[kept > 0])
    return Copy(whole.box, inside, matrix) if inside.sum() >= _FEWEST_PIXELS else None


def _alike(
    here: Float[np.ndarray, "h w"], there: Float[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Tell where squares of 11 pixels correlate; what is flat on both sides belongs to what is around it."""
    one, other = box_means(here, 1), box_means(there, 1)
    mean, middle = box_means(one, 5), box_means(other, 5)
    ours = np.maximum(box_means(one * one, 5) - mean**2, 0)
    theirs = np.maximum(box_means(other * other, 5) - middle**2, 0)
    both = box_means(one * other, 5) - mean * middle
    flat = (ours < _FLAT**2) & (theirs < _FLAT**2)
    alike = (both > _ALIKE * np.sqrt(ours * theirs)) & ~flat
    said = box_means((~flat).astype(np.float32), 8)
    return np.asarray(box_means(alike.astype(np.float32), 8) > 0.5 * np.maximum(said, 0.2))


def _fetched(
    picture: PIL.Image.Image, copy: Copy
) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Return the other part in the frame of the first, and where it lies inside the picture."""
    rows, columns = copy.box
    (a, b, c), (d, e, f) = copy.matrix
    # Pillow counts corners of pixels where the matrix counts centres.
    x0, y0 = columns.start - 0.5, rows.start - 0.5
    data = (a, b, a * x0 + b * y0 + c + 0.5, d, e, d * x0 + e * y0 + f + 0.5)
    size = columns.stop - columns.start, rows.stop - rows.start
    kind = PIL.Image.Transform.AFFINE
    there = np.asarray(picture.transform(size, kind, data, PIL.Image.Resampling.BICUBIC))
    x, y = np.meshgrid(np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop))
    across, down = a * x + b * y + c, d * x + e * y + f
    within = (
        (across >= 1) & (across <= picture.width - 2) & (down >= 1) & (down <= picture.height - 2)
    )
    return there, within


def aligned(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy, blur: int) -> Copy:
    """Move the other part until the difference to the first is least (Lucas and Kanade)."""
    rows, columns = copy.box
    here = box_means(luma[copy.box], blur)
    middle = (columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2
    centre = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]])
    for _ in range(_ROUNDS):
        there, within = _fetched(picture, copy)
        there = box_means(there, blur)
        used = np.flatnonzero(copy.inside & within)
        if len(used) < _FEWEST_PIXELS:
            return copy
        used = used[:: max(1, len(used) // _MOST_PIXELS)]
        y, x = np.divmod(used, there.shape[1])
        x, y = x + columns.start - middle[0], y + rows.start - middle[1]
        down, right = (slope.ravel()[used] for slope in np.gradient(there))
        # Of the warped part, so steps are in its frame: a change of places before the matrix.
        terms = [right, down, right * x, right * y, down * x, down * y]
        design = np.stack([*terms, np.ones(len(used)), there.ravel()[used]], 1)
        scale = np.linalg.norm(design, axis=0) + 1e-9
        off = here.ravel()[used] - design[:, -1]
        step = np.linalg.lstsq(design / scale, off, rcond=None)[0] / scale
        change = np.array(
            [[1 + step[2], step[3], step[0]], [step[4], 1 + step[5], step[1]], [0, 0, 1]]
        )
        moved = np.vstack([copy.matrix, [0, 0, 1]]) @ centre @ change @ np.linalg.inv(centre)
        if not np.isfinite(moved).all() or np.abs(change - np.eye(3)).max() > 4 * (blur + 1):
            return copy
        copy = Copy(copy.box, copy.inside, moved[:2])
    return copy


def whole(copy: Copy) -> Copy:
    """Return the nearest copy without interpolation if there is one within a quarter of a pixel."""
    linear = np.rint(copy.matrix[:, :2])
    if abs(np.linalg.det(linear)) != 1 or np.abs(linear - copy.matrix[:, :2]).max() > 0.02:
        return copy
    rows, columns = copy.box
    centre = np.array([(columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2])
    exact = copy.matrix @ [*centre, 1] - linear @ centre
    shift = np.rint(exact)
    if np.abs(exact - shift).max() > 0.25:
        return copy
    return Copy(copy.box, copy.inside, np.column_stack([linear, shift]))


def exactness(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy) -> float:
    """Return how alike the fine detail of both parts is, square by square: -1..1, less for few squares."""
    there, within = _fetched(picture, copy)
    used = (copy.inside & within).astype(np.float32)
    here = luma[copy.box]
    one, other = ((values - box_means(values, 2)) * used for values in (here, there))
    both, ours, theirs, count = (
        cell_sums(values, _PATCH_PX) for values in (one * other, one * one, other * other, used)
    )
    corners = np.minimum(_cornered(here, used), _cornered(there, used))
    told = (count >= 0.75 * _PATCH_PX**2) & (corners >= _CONTRAST**2)
    told &= np.minimum(_toned(luma[copy.box]), _toned(there)) >= _TWO_TONE
    if told.sum() < 2:
        return 0.0
    alike = both[told] / np.sqrt(ours[told] * theirs[told])
    return float(np.quantile(alike, 0.25) * (1 - 1 / told.sum()))


def in_a_row(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy) -> bool:
    """Tell whether one more step of the same map, or half or a third of one, leads to the same look again.

    Windows, tiles, fences and keys stand at equal steps; whoever copies a part puts it somewhere.
    """
    once = np.vstack([copy.matrix, [0, 0, 1]])
    steps = [once @ once, np.linalg.inv(once)]
    if np.abs(once[:2, :2] - np.eye(2)).max() < 0.05:
        steps += [np.eye(3) + (once - np.eye(3)) / parts for parts in (2, 3)]
    return any(_again(luma, picture, Copy(copy.box, copy.inside, step[:2])) for step in steps)


def _again(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy) -> bool:
    """Tell whether a part is at a place, somewhere else and inside the picture, up to small shifts."""
    rows, columns = copy.box
    middle = np.array([(columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2])
    if np.hypot(*(copy.matrix @ [*middle, 1] - middle)) < _APART_PX / 2:
        return False
    copy = aligned(luma, picture, copy, 3)
    there, within = _fetched(picture, copy)
    seen = copy.inside & within
    if seen.sum() < max(_FEWEST_PIXELS, 0.3 * copy.inside.sum()):
        return False
    return bool(_alike(luma[copy.box], there)[seen].mean() >= _REPEATED)


def _toned(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "gh gw"]:
    """Return by square how much of its variance is left within two tones, split at their mean: 0..1."""
    mean, square = (cell_sums(v, _PATCH_PX) / _PATCH_PX**2 for v in (values, values**2))
    side = values[: mean.shape[0] * _PATCH_PX, : mean.shape[1] * _PATCH_PX]
    above = (side > np.kron(mean, np.ones((_PATCH_PX, _PATCH_PX)))).astype(np.float32)
    high = cell_sums(above, _PATCH_PX) / _PATCH_PX**2
    upper = cell_sums(side * above, _PATCH_PX) / _PATCH_PX**2
    total = np.maximum(square - mean**2, 1e-6)
    between = (upper - mean * high) ** 2 / np.maximum(high * (1 - high), 1e-6)
    return np.asarray(1 - between / total)


def _cornered(
    values: Float[np.ndarray, "h w"], used: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "gh gw"]:
    """Return by square the mean squared slope along its flattest direction: an edge matches itself further along."""
    down, right = np.gradient(values)
    one, other, both = (
        cell_sums(product * used, _PATCH_PX) / _PATCH_PX**2
        for product in (down * down, right * right, down * right)
    )
    return (one + other) / 2 - np.sqrt(((one - other) / 2) ** 2 + both**2)


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
            # A part that only resembles another may hide the true one, so it is examined again.
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
