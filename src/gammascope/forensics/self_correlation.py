"""Repeats found by laying the whole picture over itself, as it is, mirrored and upside down, for all shifts at once.

What was copied without turning or scaling agrees at one shift, however little structure it has: grain is enough. Fine
detail is compared, evened out so that a smooth place counts as much as a rough one, and its spectrum is flattened
half-way, or fences and edges, which agree with themselves at many shifts, would hide the rest.

Source: Fridrich, Soukal and Lukas, Detection of copy-move forgery in digital images, DFRWS 2003 (autocorrelation of
fine detail); Knapp and Carter, The generalized correlation method for estimation of time delay, IEEE TASSP 1976
(flattened spectra; half-way is ours).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from gammascope.forensics.base import blobs, box_means, cell_sums
from gammascope.forensics.copies import FINEST, NEAREST_PX, fast_side, fine_detail

_EVENED_PX = 6
_LARGEST = 3.0  # standard deviations
_FLIPS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_OVERLAP = 0.02  # share of the picture
_CLEAR = 6.0  # of the correlation, standard deviations
_MOST_SHIFTS = 6  # of each kind
_APART = 4  # between two of them, pixels
_STEP = 2  # pixels between places
_REACH_PX = 8
_ALIKE = 0.45
_PARTS = 2
_FEWEST = 40  # places, one in four pixels


def repeated(
    luma: Float[np.ndarray, "h w"],
) -> Iterator[tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2 3"]]]:
    """Yield parts that are repeated: columns and rows of points, and the map from (x, y, 1) to where they are again."""
    detail = _evened(luma)
    sides = tuple(fast_side(2 * side) for side in luma.shape)
    ours = _flattened(detail, sides)
    for flip in _FLIPS:
        flipped = detail[:: flip[0], :: flip[1]]
        theirs = ours if flip == (1, 1) else _flattened(flipped, sides)
        agreement = np.fft.irfft2(np.conj(theirs) * ours, sides)
        for shift in _clearest(agreement, luma.shape, plain=flip == (1, 1)):
            yield from _parts(detail, flip, shift)


def _evened(luma: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return fine detail in standard deviations of what is around."""
    fine = fine_detail(luma)
    usual = np.sqrt(np.maximum(box_means(fine * fine, _EVENED_PX), FINEST**2))
    return np.asarray(np.clip(fine / usual, -_LARGEST, _LARGEST))


def _flattened(detail: Float[np.ndarray, "h w"], sides: tuple[int, ...]) -> np.ndarray:
    """Return the spectrum in a frame of zeros, its magnitudes' roots in their place."""
    spectrum = np.fft.rfft2(detail, sides)
    size = np.abs(spectrum)
    return np.asarray(spectrum / np.sqrt(size + 1e-3 * size.mean() + 1e-12))


def _clearest(
    agreement: Float[np.ndarray, "_h _w"], shape: tuple[int, ...], *, plain: bool
) -> list[tuple[int, int]]:
    """Return the shifts, down and right, at which a picture agrees most with itself; not the reverse of one as well."""
    down, right = (np.rint(np.fft.fftfreq(side, 1 / side)).astype(int) for side in agreement.shape)
    rows, columns = (
        np.maximum(side - np.abs(at), 0) for side, at in zip(shape, (down, right), strict=True)
    )
    agreement[rows[:, None] * columns < _OVERLAP * shape[0] * shape[1]] = 0
    if plain:
        agreement[np.hypot(down[:, None], right) < NEAREST_PX] = 0
        agreement[down < 0] = 0
    sample = np.abs(agreement[::3, ::3])
    usual = 1.4826 * np.median(sample[sample > 0]) if sample.any() else np.inf
    places = np.nonzero(agreement > _CLEAR * usual)
    found: list[tuple[int, int]] = []
    for number in np.argsort(-agreement[places])[:400]:
        at = int(down[places[0][number]]), int(right[places[1][number]])
        if all(max(abs(at[0] - a), abs(at[1] - b)) >= _APART for a, b in found):
            found.append(at)
        if len(found) == _MOST_SHIFTS:
            break
    return found


def _parts(
    detail: Float[np.ndarray, "h w"], flip: tuple[int, int], shift: tuple[int, int]
) -> Iterator[tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2 3"]]]:
    """Yield what agrees at one shift."""
    kept = [
        (max(0, -by), min(side, side - by)) for side, by in zip(detail.shape, shift, strict=True)
    ]
    (top, bottom), (left, right) = kept
    if min(bottom - top, right - left) < 2 * _REACH_PX:
        return
    there = detail[top + shift[0] : bottom + shift[0], left + shift[1] : right + shift[1]]
    here = detail[:: flip[0], :: flip[1]][top:bottom, left:right]
    alike = box_means(cell_sums(here * there, _STEP) / _STEP**2, _REACH_PX // _STEP)
    (height, width), (rows_count, columns_count) = detail.shape, alike.shape
    rows = _places(height, flip[0], top, rows_count)
    columns = _places(width, flip[1], left, columns_count)
    down, across = (
        by + (side - 1 if sign < 0 else 0)
        for by, side, sign in zip(shift, detail.shape, flip, strict=True)
    )
    matrix = np.array([[flip[1], 0, across], [0, flip[0], down]], float)
    away = np.hypot((rows * (flip[0] - 1) + down)[:, None], columns * (flip[1] - 1) + across)
    numbers = blobs((alike > _ALIKE) & (away >= NEAREST_PX))
    sizes = np.bincount(numbers.ravel())
    for number in range(1, min(_PARTS, len(sizes) - 1) + 1):
        if sizes[number] < _FEWEST:
            return
        row, column = np.nonzero(numbers == number)
        yield np.stack([columns[column], rows[row]], 1).astype(float), matrix


def _places(side: int, sign: int, first: int, count: int) -> Int[np.ndarray, " n"]:
    """Return where pixels of the flipped picture, so many from the first on, were along one side."""
    at = first + _STEP * np.arange(count)
    return at if sign > 0 else side - 1 - at
