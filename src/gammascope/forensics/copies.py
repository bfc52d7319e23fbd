"""A part of a picture and where it is again: how one is laid onto the other, and how far both are alike.

Source: Baker and Matthews, Lucas-Kanade 20 years on: a unifying framework, IJCV 2004 (parts laid onto each other).
That a part grows over what correlates in fine detail, and the bounds, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int

from gammascope.forensics.base import blobs, box_means

NEAREST_PX = 24
"""Between a part and its copy; what lies nearer is alike in every picture."""

FINEST = 0.35
"""Standard deviation of fine detail, grey levels, below which it is nothing."""

_ROUNDS = 3
_SCALES = (0.4, 2.5)  # of a copy to its original
_FEWEST_PIXELS = 60
_MOST_PIXELS = 6_000  # that two parts are laid onto each other by
_GROWN_PX = 40  # that a part may reach beyond its points at once
_GROWTHS = 2
_SMALLEST = 150  # pixels of a part
_AROUND_PX = 8  # that two places are compared over
_ALIKE = 0.5  # correlation of places that belong to a part
_PERIOD_PX = 4  # shift from which a part that agrees with itself is a pattern
_OVERLAP = 0.3  # of a part with itself, for a shift to count


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
    def middle(self) -> tuple[float, float]:
        """Column and row of the middle of the box."""
        rows, columns = self.box
        return (columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2

    def moved(self, matrix: Float[np.ndarray, "2 3"]) -> Copy:
        """Lay the same part elsewhere."""
        return Copy(self.box, self.inside, matrix)

    def enlarged(self, factor: float, size: tuple[int, int]) -> Copy:
        """Bring it from a reduced picture to a larger one of the given height and width."""
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

    def marked(self, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """Return where both parts are in a picture of the given height and width."""
        marked = np.zeros(size, bool)
        marked[self.box] = self.inside
        x, y = self.places(size)[1]
        for shift in (0, 1):  # An enlarged copy has more pixels than the part.
            across = np.clip(x + shift, 0, size[1] - 1)
            marked[np.clip(y + shift, 0, size[0] - 1), across] = True
        return marked

    def places(
        self, size: tuple[int, ...]
    ) -> tuple[Int[np.ndarray, "2 n"], Int[np.ndarray, "2 n"]]:
        """Return columns and rows of the part, and where they are again, in a picture of the given height and width."""
        rows, columns = (
            found + axis.start
            for found, axis in zip(np.nonzero(self.inside), self.box, strict=True)
        )
        there = np.rint(self.matrix @ np.stack([columns, rows, np.ones(len(rows))])).astype(int)
        ends = np.array(size[::-1])[:, None] - 1
        return np.stack([columns, rows]), np.clip(there, 0, ends)


def sampled(values: Float[np.ndarray, "h w"], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Interpolate a picture at places, those outside at its border."""
    height, width = values.shape
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    across, down = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat, at = values.ravel(), top * width + left
    above = flat[at] * (1 - across) + flat[at + 1] * across
    below = flat[at + width] * (1 - across) + flat[at + width + 1] * across
    return np.asarray(above * (1 - down) + below * down)


def grown(
    luma: Float[np.ndarray, "h w"],
    picture: PIL.Image.Image,
    points: Float[np.ndarray, "n 2"],
    matrix: Float[np.ndarray, "2 3"],
) -> Copy | None:
    """Return the part around points that looks like what a map says it is again; None if nothing does.

    Args:
        luma: Brightness 0..255.
        picture: The same.
        points: Columns and rows, pixels.
        matrix: From (x, y, 1) to the other part.
    """
    copy = None
    for _ in range(_GROWTHS):
        low, high = points.min(0) - _GROWN_PX, points.max(0) + _GROWN_PX + 1
        left, top = (max(0, int(side)) for side in low)
        right, bottom = (min(int(s), n) for s, n in zip(high, luma.shape[::-1], strict=True))
        if min(right - left, bottom - top) < _AROUND_PX:
            return None
        box = slice(top, bottom), slice(left, right)
        copy = Copy(box, np.ones((bottom - top, right - left), bool), matrix)
        inside = _alike(luma, picture, copy)
        numbers = blobs(inside)
        at = np.rint(points).astype(int) - (left, top)
        at = at[(at >= 0).all(1) & (at < (right - left, bottom - top)).all(1)]
        kept = numbers[at[:, 1], at[:, 0]]
        inside = np.isin(numbers, kept[kept > 0])
        if inside.sum() < _SMALLEST:
            return None
        copy = aligned(luma, picture, Copy(box, inside, matrix), 1)
        if not copy.plausible:
            return None
        rows, columns = np.nonzero(inside)
        points = np.stack([columns[::7] + left, rows[::7] + top], 1).astype(float)
        matrix = copy.matrix
    return copy


def _alike(
    luma: Float[np.ndarray, "h w"], picture: PIL.Image.Image, copy: Copy
) -> Bool[np.ndarray, "_h _w"]:
    """Tell where both parts agree; a place without fine detail goes with what is around it."""
    there, within = fetched(picture, copy)
    rows, columns = copy.box
    y, x = np.ogrid[rows, columns]
    (a, b, c), (d, e, f) = copy.matrix
    within &= np.hypot(a * x + b * y + c - x, d * x + e * y + f - y) >= NEAREST_PX
    alike, told = agreement(fine_detail(luma[copy.box]), fine_detail(there), _AROUND_PX)
    told &= within
    known = box_means(told.astype(np.float32), 6)
    agree = box_means(((alike > _ALIKE) & told).astype(np.float32), 6)
    return np.asarray((agree > 0.5 * np.maximum(known, 0.15)) & within)


def fine_detail(luma: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return what is finer than five pixels, without what changes from pixel to pixel."""
    return np.asarray(box_means(luma, 1) - box_means(luma, 2))


def agreement(
    one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"], reach: int
) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Return how two pieces of fine detail correlate around each pixel, -1..1, and where both have any."""
    ours, theirs = box_means(one * one, reach), box_means(other * other, reach)
    both = box_means(one * other, reach)
    told = (ours >= FINEST**2) & (theirs >= FINEST**2)
    return both / np.sqrt(np.maximum(ours * theirs, 1e-6)), told


def fetched(
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
    y, x = np.ogrid[rows, columns]
    across, down = a * x + b * y + c, d * x + e * y + f
    within = (
        (across >= 1) & (across <= picture.width - 2) & (down >= 1) & (down <= picture.height - 2)
    )
    return there, within


def repetition(luma: Float[np.ndarray, "h w"], copy: Copy) -> float:
    """Return how well the fine detail of a part agrees with itself some pixels further, 0..1: 1 for a pattern."""
    inside = copy.inside.astype(np.float32)
    detail = fine_detail(luma[copy.box]) * inside
    size = tuple(fast_side(2 * side) for side in detail.shape)
    energy, spectrum, place = (np.fft.rfft2(part, size) for part in (detail**2, detail, inside))
    agree = np.fft.irfft2(np.abs(spectrum) ** 2, size)
    # In units of the energy that lies over the part at both ends of a shift.
    ours = np.fft.irfft2(np.conj(place) * energy, size)
    theirs = np.fft.irfft2(np.conj(energy) * place, size)
    both = np.fft.irfft2(np.abs(place) ** 2, size)
    down, right = (np.abs(np.fft.fftfreq(side, 1 / side)) for side in size)
    told = (both > _OVERLAP * inside.sum()) & (np.hypot(down[:, None], right) >= _PERIOD_PX)
    if not told.any():
        return 0.0
    usual = np.sqrt(np.maximum(ours * theirs, 0))[told]
    return float((agree[told] / (usual + 1e-3 * energy[0, 0].real + 1e-6)).max())


def fast_side(side: int) -> int:
    """Return the next number without prime factors above five, for which transforms are quick."""
    while True:
        rest = side
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return side
        side += 1


def alike_enough(off: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Tell which differences are like most of them: within three robust standard deviations, or a grey level."""
    away = np.abs(off - np.median(off))
    return np.asarray(away <= 3 * 1.4826 * np.median(away) + 1)


def aligned(
    luma: Float[np.ndarray, "h w"], picture: PIL.Image.Image, copy: Copy, blur: int
) -> Copy:
    """Move the other part until the difference to the first is least (Lucas and Kanade)."""
    rows, columns = copy.box
    here = box_means(luma[copy.box], blur)
    middle = copy.middle
    centre = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]])
    for _ in range(_ROUNDS):
        there, within = fetched(picture, copy)
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
        off = here.ravel()[used] - design[:, -1]
        # A part reaches a little beyond what was copied; what differs there must not pull the rest.
        like = alike_enough(off)
        scale = np.linalg.norm(design, axis=0) + 1e-9
        step = np.linalg.lstsq(design[like] / scale, off[like], rcond=None)[0] / scale
        change = np.array(
            [[1 + step[2], step[3], step[0]], [step[4], 1 + step[5], step[1]], [0, 0, 1]]
        )
        moved = np.vstack([copy.matrix, [0, 0, 1]]) @ centre @ change @ np.linalg.inv(centre)
        if not np.isfinite(moved).all() or np.abs(change - np.eye(3)).max() > 4 * (blur + 1):
            return copy
        copy = copy.moved(moved[:2])
    return copy
