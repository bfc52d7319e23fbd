"""Noise of another kind: parts whose neighbouring residuals go together in another way than the rest's.

What a camera does to its noise (demosaicing, filtering, sharpening) leaves a pattern of small co-occurrences. Those of
windows all over the picture are compared among themselves: one group is the host, the other what was put in.

Source: Cozzolino, Poggi and Verdoliva, Splicebuster, WIFS 2015 (third-order residual, T = 1, mixture by expectation
maximisation); one covariance for both groups, sums by cells and the demand for one compact part are ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    blobs,
    box_means,
    cell_sums,
)

SMALLEST_PX = 300
"""Shorter side below which there are too few windows that do not overlap."""

_REACH = 7  # cells: windows of 15 x 15 cells, 120 px
_STEP = 2  # grey levels of a residual
_FEATURES = 12
_SATURATED = (6.0, 252.0)
_ROUNDS = 20
_MOST = 3000  # windows that the mixture is fitted to
_STRIP = 32  # rows of cells whose residuals are in memory at once
_LENGTH = 6  # pixels beyond the first of four residuals of third order
_SHARE = (0.01, 0.4)  # of the windows that a part may cover


def examine(picture: Picture) -> Outcome:
    """Divide the picture's windows into two groups by their noise, and mark the smaller one."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    luma = picture.luma
    brightness = box_means(cell_sums(luma) / CELL_PX**2, 1)
    usable = (brightness > _SATURATED[0]) & (brightness < _SATURATED[1])
    if usable.mean() < 0.5:
        return Silence("most of the picture is black or white")
    windows = _counts(luma)
    for kind in windows:  # One by one, in place: a large picture has much of this.
        kind[:] = box_means(kind * usable, _REACH)
    along, across = windows[:25], windows[25:]
    along /= np.maximum(along.sum(0), 1e-6)
    across /= np.maximum(across.sum(0), 1e-6)
    features = _leading(np.sqrt(windows, out=windows), usable)
    if features is None:
        return Silence("no noise to compare")
    log_ratio, apart = _divided(features, usable)
    score, part = _compact(log_ratio, apart, usable)
    shown = np.where(usable, np.clip(log_ratio / 40 + 0.25, 0, 0.5) + 0.5 * part, np.nan)
    return Finding(score, shown.astype(np.float32), (0, 0), CELL_PX, picture.size)


def _folded() -> Int[np.ndarray, " 81"]:
    """Number the codes of four residuals up to sign and direction: 25 kinds."""
    kinds: dict[tuple[int, ...], int] = {}
    out = np.zeros(81, np.int64)
    for code in range(81):
        word = [code // 3**place % 3 - 1 for place in range(4)]
        same = [tuple(s * v for v in w) for w in (word, word[::-1]) for s in (1, -1)]
        out[code] = kinds.setdefault(min(same), len(kinds))
    return out


_KIND = _folded().astype(np.uint8)
_STILL = [int(_KIND[40]), 25 + int(_KIND[40])]  # four residuals of nothing


def _counts(luma: np.ndarray) -> Float[np.ndarray, "50 gh gw"]:
    """Count by cell the kinds of four neighbouring residuals: 25 along them, 25 across."""
    rows, columns = luma.shape[0] // CELL_PX, luma.shape[1] // CELL_PX
    out = np.zeros((50, rows, columns), np.float32)
    for top in range(0, rows, _STRIP):
        strip = luma[top * CELL_PX : (top + _STRIP) * CELL_PX + _LENGTH]
        counts = _counts_of(strip, min(_STRIP, rows - top), columns)
        out[:, top : top + _STRIP] = counts
    return out


def _counts_of(luma: np.ndarray, rows: int, columns: int) -> Float[np.ndarray, "50 gh gw"]:
    """Count in so many rows and columns of cells; the last ones' residuals need the pixels that follow."""
    out = np.zeros((50, rows, columns), np.float32)
    values = luma.astype(np.int16)
    for turned, shape in ((values, (rows, columns)), (values.T, (columns, rows))):
        step = turned[:, 1:] - turned[:, :-1]
        third = step[:, 2:] - 2 * step[:, 1:-1] + step[:, :-2]
        level = (third >= _STEP).view(np.uint8) + np.uint8(1) - (third <= -_STEP).view(np.uint8)
        along = level[:, :-3] + 3 * level[:, 1:-2] + 9 * level[:, 2:-1] + 27 * level[:, 3:]
        across = level[:-3] + 3 * level[1:-2] + 9 * level[2:-1] + 27 * level[3:]
        for first, codes in ((0, along), (25, across)):
            high, wide = (
                min(codes.shape[0], shape[0] * CELL_PX),
                min(codes.shape[1], shape[1] * CELL_PX),
            )
            down, right = np.arange(high) // CELL_PX, np.arange(wide) // CELL_PX
            kinds = _KIND[codes[:high, :wide]]
            cell = down[:, None] * shape[1] + right
            found = np.bincount((cell * 25 + kinds).ravel(), minlength=shape[0] * shape[1] * 25)
            by_kind = found.reshape(*shape, 25).transpose(2, 0, 1)
            out[first : first + 25] += by_kind if turned is values else by_kind.transpose(0, 2, 1)
    return out


def _leading(
    windows: Float[np.ndarray, "50 gh gw"], usable: np.ndarray
) -> Float[np.ndarray, "gh gw k"] | None:
    """Return the windows' leading components, none of which is without variance."""
    number = int(usable.sum())
    # Row by row of cells: in the precision that this needs all of a large picture is much.
    middle = sum(row[:, used].sum(1, dtype=np.float64) for row, used in _rows(windows, usable))
    middle = middle / number
    spread = np.zeros((50, 50))
    for row, used in _rows(windows, usable):
        off = row[:, used] - middle[:, None]
        spread += off @ off.T
    values, vectors = np.linalg.eigh(spread / max(1, number - 1))
    count = min(_FEATURES, number // 20)
    kept = values[::-1][:count] > 1e-9 * max(values[-1], 1e-12)
    if kept.sum() < 2 or middle[_STILL].mean() > 0.999:
        return None
    leading = vectors[:, ::-1][:, :count][:, kept]
    out = np.empty((*usable.shape, leading.shape[1]), np.float32)
    for kept_row, row in zip(out, windows.transpose(1, 2, 0), strict=True):
        kept_row[:] = (row - middle) @ leading
    return out


def _rows(windows: np.ndarray, usable: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the windows of each row of cells, and which of them are usable."""
    return zip(windows.transpose(1, 0, 2), usable, strict=True)


def _divided(features: np.ndarray, usable: np.ndarray) -> tuple[Float[np.ndarray, "gh gw"], float]:
    """Fit two Gaussians of one covariance, so that a split of one cloud is not taken for two.

    Returns:
        How much likelier each window is under the smaller one, in nats, and how far apart their means are, in standard
        deviations.
    """
    everything = features.reshape(-1, features.shape[-1]).astype(np.float64)
    chosen = np.flatnonzero(usable.ravel())
    some = everything[chosen[:: max(1, len(chosen) // _MOST)]]
    ridge = 1e-6 * np.cov(some.T).trace() * np.eye(some.shape[1])
    # The longer tail of the leading component starts as the second group: what was put in is small.
    tail = some[:, 0] * (1 if np.mean(some[:, 0] ** 3) > 0 else -1)
    second = np.where(tail > np.quantile(tail, 0.8), 0.9, 0.1)
    weights, offset, apart = np.zeros(some.shape[1]), 0.0, 0.0
    for _ in range(_ROUNDS):
        share = float(np.clip(second.mean(), 1e-3, 1 - 1e-3))
        means = [(w @ some) / max(w.sum(), 1e-9) for w in (1 - second, second)]
        spread = np.cov(some.T, bias=True) + ridge
        between = means[1] - means[0]
        spread -= share * (1 - share) * np.outer(between, between)
        weights = np.linalg.solve(spread, between)
        apart = float(np.sqrt(max(weights @ between, 0.0)))
        offset = np.log(share / (1 - share)) - weights @ (means[0] + means[1]) / 2
        second = 1 / (1 + np.exp(np.clip(-(some @ weights + offset), -50, 50)))
    ratio = (everything @ weights + offset).reshape(usable.shape)
    return (-ratio if (ratio[usable] > 0).mean() > 0.5 else ratio), apart


def _compact(
    log_ratio: np.ndarray, apart: float, usable: np.ndarray
) -> tuple[float, Bool[np.ndarray, "gh gw"]]:
    """Return how far one connected part that holds the smaller group lies from the rest, and where it is."""
    minority = (log_ratio > 0) & usable
    part = blobs(minority) == 1
    share = part.sum() / max(1, usable.sum())
    if not _SHARE[0] <= share <= _SHARE[1]:
        return 0.0, part
    held = part.sum() / minority.sum()
    return float(held**2 * apart), part
