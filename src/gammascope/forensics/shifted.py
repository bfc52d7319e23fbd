"""A part that was compressed once before on a grid other than the picture's own.

Whoever cuts a piece out of a JPEG file, pastes it at a place that is no multiple of eight pixels away and saves again,
leaves the coefficients of that piece near multiples of its first steps, but only where blocks begin as they began
then. So each of the other grids is tried. What is no JPEG grid helps all of them alike: a part counts by how much
better the best grid explains it than the second best.

Source: Bianchi and Piva, Detection of nonaligned double JPEG compression based on integer periodicity maps, IEEE TIFS
2012 (the lattice of coefficients on a shifted grid). The law of its noise, read from the last compression, and the
comparison with other grids inside one part are ours.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    box_means,
    by_frequency,
    cell_variances,
    clearest_blob,
    drawn,
)
from gammascope.forensics.quantisation import FREQUENCIES, coefficients, waves
from gammascope.imaging.codecs import standard_tables

SMALLEST_PX = 128
"""Shorter side below which a part and the rest hold too few blocks (our choice)."""

# On a line with the last grid, what is level across or down keeps the last steps: those grids prove nothing.
_GRIDS = tuple((down, right) for down in range(1, 8) for right in range(1, 8))
_QUALITIES = (50, 58, 65, 70, 75, 78, 80, 82, 85, 88, 90, 92)  # of the first compression
_BAND_PX = 256  # rows whose coefficients are all in memory at once
_FINE = 4  # parts of a grey level that coefficients are rounded to
_LARGEST = 400  # grey levels; larger coefficients count as this
_COARSEST = 0.3  # noise, in steps, above which a lattice cannot be seen
_FLATTEST = 4.0  # standard deviation of a cell, grey levels, that it needs to speak
_STRAY = 0.1  # share of coefficients that no lattice explains
_CLIP = (-2.0, 6.0)  # nats that a cell can say: few strays inside a part do not tear it
_WINDOW = 4  # cells along a side of the squares that the search adds up
_LEVEL = 0.15  # nats by cell
_SHARE = (0.004, 0.4)


def examine(picture: Picture) -> Outcome:
    """Mark the connected part whose coefficients lie on a lattice of another grid, if those of the rest do not."""
    stored = picture.stored
    if stored is None:
        return Silence("not a JPEG file with a channel of brightness")
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    luma = stored.pixels
    if drawn(luma):
        return Silence(
            "mostly without grain, like drawings and screenshots, whose lines lie on lattices"
        )
    laws = _laws(noise_of(luma, stored.steps))
    if laws is None:
        return Silence("the last compression left too much noise to see an earlier one")
    # A ramp of a few grey levels lies on a lattice because pixels are whole numbers.
    textured = cell_variances(luma) >= _FLATTEST**2
    grid, quality = _searched(luma, textured, laws)
    evidence = _evidence(luma, _GRIDS[grid], laws)[..., quality] * textured
    smooth = box_means(evidence, 1)
    score, part = clearest_blob(smooth, _LEVEL, _SHARE)
    if evidence[~part].sum() > 0:
        return Silence("the picture as a whole was compressed before on another grid")
    score = _score(luma, part & textured, laws) if score else 0.0
    shown = np.clip(smooth / (4 * _LEVEL) * 0.25, 0, 0.5) + 0.5 * part
    cells, origin = stored.upright(shown.astype(np.float32), CELL_PX)
    return Finding(score, cells, origin, CELL_PX, picture.size)


def noise_of(
    luma: UInt8[np.ndarray, "h w"], steps: Int[np.ndarray, "8 8"]
) -> Float[np.ndarray, "8 8"]:
    """Return the standard deviation that the last quantisation left in the coefficients of other grids, by frequency.

    What was rounded to nothing is taken to follow a Laplace law, of which the share that was tells the width.
    """
    half = steps / 2
    nothing, blocks = np.zeros(64), 0
    for first in range(0, luma.shape[0] - CELL_PX + 1, _BAND_PX):
        band = luma[first : first + _BAND_PX]
        values = np.abs(coefficients(band, frequencies=tuple(np.ndindex(8, 8))))
        nothing += (values < half.reshape(64, 1, 1)).sum((1, 2))
        blocks += values[0].size
    zeros = np.clip(nothing.reshape(8, 8) / blocks, 1e-3, 1 - 1e-6)
    width = half / -np.log(1 - zeros)
    kept = 1 - zeros
    small = 2 * width**2 - kept * (half**2 + 2 * half * width) / zeros
    errors = zeros * np.minimum(small, half**2 / 3) + kept * half**2 / 3
    return np.asarray(np.sqrt(_mixed() @ errors @ _mixed().T + 1 / 12))


@cache
def _mixed() -> Float[np.ndarray, "8 8"]:
    """Return how much of each frequency goes, on a grid that lies one to seven pixels further, to each one there."""
    two = np.kron(np.eye(2), waves())
    return np.asarray(
        np.mean(
            [
                np.square(waves() @ two[:, shift : shift + 8].T).reshape(8, 2, 8).sum(1)
                for shift in range(1, 8)
            ],
            axis=0,
        )
    )


def _laws(noise: Float[np.ndarray, "8 8"]) -> Float[np.ndarray, "f v q"] | None:
    """Return by frequency, value (in quarters) and quality how many nats a lattice explains it better than none.

    Returns:
        None if no lattice can be seen in that noise.
    """
    values = np.arange(_FINE * _LARGEST + 1)[:, None] / _FINE
    tables = [by_frequency(standard_tables()[quality - 1]) for quality in _QUALITIES]
    laws = np.zeros((len(FREQUENCIES), len(values), len(_QUALITIES)), np.float32)
    for number, at in enumerate(FREQUENCIES):
        steps = np.array([table[at] for table in tables])
        multiple = np.rint(values / steps)
        off, spread = values / steps - multiple, noise[at] / steps
        peaks = sum(np.exp(-(((off - turn) / spread) ** 2) / 2) for turn in (-1, 0, 1))
        density = peaks / (spread * np.sqrt(2 * np.pi))
        told = (multiple > 0) & (spread < _COARSEST)
        laws[number] = np.where(told, np.log((1 - _STRAY) * density + _STRAY), 0)
    return laws if laws.any() else None


def _evidence(
    luma: UInt8[np.ndarray, "h w"], grid: tuple[int, int], laws: Float[np.ndarray, "f v q"]
) -> Float[np.ndarray, "gh gw q"]:
    """Add up by cell and quality what its coefficients on a grid say, in nats."""
    values = np.abs(coefficients(luma, grid)) * _FINE + 0.5
    places = np.minimum(values, laws.shape[1] - 1).astype(np.int32)
    said = laws[0][places[0]]
    for law, some in zip(laws[1:], places[1:], strict=True):
        said += law[some]
    np.clip(said, *_CLIP, out=said)
    # Blocks of the grid go to the cells that hold more than half of their side.
    out = np.zeros((luma.shape[0] // CELL_PX, luma.shape[1] // CELL_PX, laws.shape[2]), np.float32)
    down, right = (int(shift >= CELL_PX / 2) for shift in grid)
    within = out[down : down + said.shape[0], right : right + said.shape[1]]
    within[...] = said[: within.shape[0], : within.shape[1]]
    return out


def _searched(
    luma: np.ndarray, textured: Bool[np.ndarray, "gh gw"], laws: np.ndarray
) -> tuple[int, int]:
    """Return the numbers of the grid and the quality that explain some square better than all other grids."""
    sums = np.stack(
        [_squares(_evidence(luma, grid, laws) * textured[..., None]) for grid in _GRIDS]
    )
    best = sums.max(3)
    lead = _lead(best)
    row, column = np.unravel_index(lead.argmax(), lead.shape)
    grid = int(best[:, row, column].argmax())
    return grid, int(sums[grid, row, column].argmax())


def _squares(evidence: Float[np.ndarray, "gh gw q"]) -> Float[np.ndarray, "n m q"]:
    """Add up overlapping squares of eight cells a side."""
    rows, columns = (side // _WINDOW for side in evidence.shape[:2])
    cut = evidence[: rows * _WINDOW, : columns * _WINDOW]
    sums = cut.reshape(rows, _WINDOW, columns, _WINDOW, -1).sum((1, 3))
    sums = sums[1:] + sums[:-1]
    return np.asarray(sums[:, 1:] + sums[:, :-1])


def _score(luma: np.ndarray, part: Bool[np.ndarray, "gh gw"], laws: np.ndarray) -> float:
    """Return by how many nats the best grid explains a part better than the second best."""
    rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
    top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
    bottom, right = rows[-1] + 2, columns[-1] + 2
    near = luma[top * CELL_PX : bottom * CELL_PX, left * CELL_PX : right * CELL_PX]
    inside = part[top:bottom, left:right]
    return float(_lead(np.array([_evidence(near, g, laws)[inside].sum(0).max() for g in _GRIDS])))


def _lead(nats: Float[np.ndarray, " grid *where"]) -> Float[np.ndarray, " *where"]:
    """Return how much more the best grid explains than the second best, or than none where that explains nothing."""
    second, first = np.partition(nats, -2, axis=0)[-2:]
    return np.asarray(first - np.maximum(second, 0))
