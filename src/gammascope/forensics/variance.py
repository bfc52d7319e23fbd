"""Fine detail that is weaker than its surroundings explain: an area that was smoothed, filled or generated.

In a camera picture the variance of noise follows brightness and texture. A decoder's or a classical fill's pixels carry
less of it. The relation is fitted to the picture itself, so nothing is known of cameras.

Source: idea of local variance maps in FLAME (arXiv 2606.02178) and INP-X (arXiv 2602.00192); the regression is ours.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    box_means,
    cell_sums,
    clearest_blob,
)

SMALLEST_PX = 160
"""Shorter side below which there are too few cells to fit anything to (our choice)."""

COARSEST_STEP = 12
"""Mean of the six lowest steps of luminance above which JPEG has removed the noise (about quality 70)."""

_MOST_BINS = 8  # of texture, and of brightness in each
_IN_BIN = 48  # cells that a bin should hold; fewer bins are made of small pictures
_FEWEST = 24  # cells in a bin
_STRIP = 32  # rows of cells whose differences are in memory at once
_LEVEL = 2.0  # robust deviations below what is expected
_SHARE = (0.004, 0.4)
_CLIPPED = (8.0, 247.0)  # mean brightness beyond which noise is cut off


def examine(picture: Picture) -> Outcome:
    """Mark the connected part whose fine detail is weakest for its brightness and texture."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    if (
        picture.stored is not None
        and picture.stored.steps.ravel()[[0, 1, 2, 8, 9, 16]].mean() > COARSEST_STEP
    ):
        return Silence("JPEG compression has removed the noise")
    luma = picture.luma
    brightness = cell_sums(luma) / CELL_PX**2
    detail = np.log(_detail(luma) + 0.05)
    texture = texture_of(brightness)
    usable = (brightness > _CLIPPED[0]) & (brightness < _CLIPPED[1])
    if usable.mean() < 0.5:
        return Silence("most of the picture is black or white")
    exceeding = deviations(detail[..., None], brightness, texture, usable)[..., 0]
    deviation = np.where(usable, -exceeding, np.nan)
    score, part = clearest_blob(deviation, _LEVEL, _SHARE)
    shown = np.where(np.isnan(deviation), np.nan, np.clip(deviation / 4, 0, 0.5) + 0.5 * part)
    return Finding(score, shown.astype(np.float32), (0, 0), CELL_PX, picture.size)


def _detail(luma: np.ndarray) -> Float[np.ndarray, "gh gw"]:
    """Return the mean square of third-order differences along rows and columns, in squares of 3 x 3 cells."""
    height, width = luma.shape
    rows = height // CELL_PX
    sums = np.empty((rows, width // CELL_PX), np.float32)
    for row in range(0, rows, _STRIP):  # All of a large picture would fill much memory.
        top, bottom = max(0, (row - 1) * CELL_PX), min(height, (row + _STRIP + 1) * CELL_PX)
        strip = cell_sums(_squares(luma[top:bottom]))
        first = row - top // CELL_PX
        sums[row : row + _STRIP] = strip[first : first + _STRIP]
    return box_means(sums / (2 * CELL_PX**2), 1)


def _squares(luma: np.ndarray) -> Float[np.ndarray, "h w"]:
    """Return squares of third-order differences along rows and columns; 0 where a neighbour is missing."""
    values = luma.astype(np.float32)
    total = np.zeros_like(values)
    for turned, out in ((values, total), (values.T, total.T)):
        third = turned[:, 1:-2] - turned[:, 2:-1]
        third *= 3
        third += turned[:, 3:]
        third -= turned[:, :-3]
        third *= third
        out[:, 1:-2] += third
    return total


def texture_of(brightness: Float[np.ndarray, "gh gw"]) -> Float[np.ndarray, "gh gw"]:
    """Return the logarithm of the energy of the gradient between cells."""
    down, right = np.gradient(brightness)
    return np.asarray(np.log(box_means(down**2 + right**2, 1) + 0.25))


def deviations(
    values: Float[np.ndarray, "gh gw f"],
    brightness: Float[np.ndarray, "gh gw"],
    texture: Float[np.ndarray, "gh gw"],
    usable: Bool[np.ndarray, "gh gw"],
) -> Float[np.ndarray, "gh gw f"]:
    """Return by how many robust deviations each value exceeds the median of cells of like brightness and texture."""
    bins = int(np.clip((usable.sum() / _IN_BIN) ** 0.5, 2, _MOST_BINS))
    rows = _ranked(texture, usable, bins)
    columns = np.zeros_like(rows)
    for row in range(bins):
        chosen = rows == row
        columns[chosen] = _ranked(brightness, usable & chosen, bins)[chosen]
    # One trace after the other: copies of all of a large picture would fill much memory.
    traces = np.moveaxis(values, -1, 0)
    middle = np.array([np.median(trace[usable]) for trace in traces])
    spread = np.array([_spread(trace[usable][:, None])[0] for trace in traces])
    out = values - middle
    out /= spread
    for cell in range(bins * bins):
        chosen = (rows * bins + columns == cell) & usable
        if chosen.sum() >= _FEWEST:
            some = values[chosen]
            out[chosen] = (some - np.median(some, 0)) / np.maximum(_spread(some), 0.25 * spread)
    return np.asarray(out)


def _ranked(values: np.ndarray, usable: np.ndarray, bins: int) -> np.ndarray:
    """Return the equally filled bin that each value falls into."""
    edges = np.quantile(values[usable], np.linspace(0, 1, bins + 1)[1:-1]) if usable.any() else []
    return np.searchsorted(edges, values)


def _spread(values: Float[np.ndarray, "n f"]) -> Float[np.ndarray, " f"]:
    return np.asarray(1.4826 * np.median(np.abs(values - np.median(values, 0)), 0) + 1e-3)
