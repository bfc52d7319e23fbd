"""Repeats found by points: corners that look alike at several places, whatever their size, turn or mirroring.

Corners of a picture and of its reductions are described by a small patch around them, turned the way that its
brightness leans. Each pair that looks alike says how one place is laid onto the other; this is made exact to a part of
a pixel for all pairs at once, and only those stay whose fine detail agrees as well. Pairs that say the same are one
part.

Source: Brown, Szeliski and Winder, Multi-image matching using multi-scale oriented patches, CVPR 2005 (the patches);
Amerini and others, A SIFT-based forensic method for copy-move attack detection and transformation recovery, IEEE TIFS
2011 (points matched within one picture); that maps are made exact before they vote (as in ``copies``), so that a single
pair is enough, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float

from gammascope.forensics.base import box_means
from gammascope.forensics.copies import NEAREST_PX, sampled

_LEVELS = 7
_RATIO = 2 ** (1 / 3)  # of the size of one level to the next
_CELLS = 375  # of the picture, in each of which some corners are taken
_SMALLEST_CELL_PX = 20
_IN_CELL = 4  # corners
_MARGIN = 20  # pixels of a level around a corner
_FLATTEST = 1.0  # slope in every direction, grey levels a pixel
_SIDE, _SPACING = 8, 3.0  # of a patch: samples, pixels of its level
_ALIKE = 0.88  # correlation of patches
_PARTNERS = 3
_MOST_PAIRS = 2500
_ROUNDS = 3
_AROUND_PX, _EVERY_PX = 10, 2  # what a map is made exact by
_MOST_MOVED = np.array((2, 2, 0.1, 0.1, 0.1, 0.1), np.float32)  # in a round: pixels, and of the map
_DETAIL_ALIKE = 0.6  # correlation of fine detail
_DIFFERENT = (
    0.5,
    2.0,
)  # of a patch's standard deviation, grey levels: difference from which it is another
_REFINED = 0.25  # that maps of one part differ by
_FEWEST = 4  # pairs that one map is fitted to
_MOST_PARTS = 16


@dataclass(frozen=True, slots=True)
class Corners:
    """Points of a picture.

    Attributes:
        places: Columns and rows, pixels of the picture.
        scales: Pixels of the picture in one of the level a point was found in.
        turns: Way that the brightness around leans, radians.
        patches: What is around, of mean 0 and length 1.
    """

    places: Float[np.ndarray, "n 2"]
    scales: Float[np.ndarray, " n"]
    turns: Float[np.ndarray, " n"]
    patches: Float[np.ndarray, "n s s"]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of points that look alike, and how each lays the first onto the second."""

    ours: Float[np.ndarray, "n 2"]
    theirs: Float[np.ndarray, "n 2"]
    maps: Float[np.ndarray, "n 2 2"]


def repeated(
    luma: Float[np.ndarray, "h w"],
) -> Iterator[tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2 3"]]]:
    """Yield parts that are repeated: columns and rows of points, and the map from (x, y, 1) to where they are again."""
    pairs = _exact(luma, _paired(corners_of(luma)))
    agree = _agreement(pairs)
    # Points found in several levels count once.
    _, cell, sharing = np.unique(
        (pairs.ours // 6).astype(int) @ [1, 100_003], return_inverse=True, return_counts=True
    )
    left = (1 / sharing[cell]).astype(np.float32)
    for _ in range(_MOST_PARTS):
        votes = np.where(left > 0, agree @ left, 0)
        if not len(votes) or not votes.max():
            return
        first = int(votes.argmax())
        support = agree[first] & (left > 0)
        left[support] = 0
        left[first] = 0
        yield pairs.ours[support], _fitted(pairs, support, first)


def corners_of(luma: Float[np.ndarray, "h w"]) -> Corners:
    """Find the corners of a picture and of its reductions."""
    found = []
    cell_px = max(_SMALLEST_CELL_PX, round((luma.size / _CELLS) ** 0.5))
    for number in range(_LEVELS):
        scale = _RATIO**number
        size = round(luma.shape[1] / scale), round(luma.shape[0] / scale)
        if min(size) < 3 * _MARGIN:
            break
        level = np.asarray(PIL.Image.fromarray(luma).resize(size, PIL.Image.Resampling.BICUBIC))
        level = box_means(level, 1)
        rows, columns = _cornered(level, cell_px)
        at = np.stack([columns, rows], 1).astype(np.float32)
        turns = _lean(level, rows, columns)
        patches = _patches(level, at, turns)
        places = (at + 0.5) * (luma.shape[1] / size[0]) - 0.5
        found.append(Corners(places, np.full(len(at), scale), turns, patches))
    fields = ("places", "scales", "turns", "patches")
    empty = np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, _SIDE, _SIDE))
    return Corners(
        *(
            np.concatenate([none, *(getattr(some, name) for some in found)])
            for name, none in zip(fields, empty, strict=True)
        )
    )


def _cornered(level: Float[np.ndarray, "h w"], cell_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the places with most slope along their flattest direction, some in every cell."""
    down, right = np.gradient(level)
    one, other, both = (box_means(product, 3) for product in (down**2, right**2, down * right))
    response = (one + other) / 2 - np.sqrt(((one - other) / 2) ** 2 + both**2)
    inner = np.zeros(level.shape, bool)
    inner[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = True
    peaks = (response > _FLATTEST**2) & inner
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for sign in (1, -1):
            peaks &= response >= np.roll(response, (sign * step[0], sign * step[1]), (0, 1))
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-response[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    cells = rows // cell_px * level.shape[1] + columns // cell_px
    kept = np.zeros(len(cells), bool)
    for _ in range(_IN_CELL):
        rest = np.flatnonzero(~kept)
        kept[rest[np.unique(cells[rest], return_index=True)[1]]] = True
    return rows[kept], columns[kept]


def _lean(level: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, " n"]:
    """Return the way from each point to the centre of the brightness in a disc around it."""
    at = np.arange(-12, 13, 2)
    y, x = (side.ravel() for side in np.meshgrid(at, at, indexing="ij"))
    disc = np.hypot(x, y) <= 12
    y, x = y[disc], x[disc]
    around = level[rows[:, None] + y, columns[:, None] + x]
    around = around - around.mean(1, keepdims=True)
    return np.asarray(np.arctan2(around @ y, around @ x))


def _patches(level: np.ndarray, at: np.ndarray, turns: np.ndarray) -> Float[np.ndarray, "n s s"]:
    """Sample the surroundings of points, turned, and make them of mean 0 and length 1."""
    steps = (np.arange(_SIDE) - (_SIDE - 1) / 2) * _SPACING
    y, x = (side.ravel() for side in np.meshgrid(steps, steps, indexing="ij"))
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    columns, rows = at[:, :1] + cos * x - sin * y, at[:, 1:] + sin * x + cos * y
    left, top = np.floor(columns).astype(int), np.floor(rows).astype(int)
    across, down = columns - left, rows - top
    values = (
        (1 - down) * ((1 - across) * level[top, left] + across * level[top, left + 1])
    ) + down * ((1 - across) * level[top + 1, left] + across * level[top + 1, left + 1])
    values -= values.mean(1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True) + 1e-6
    return np.asarray(values.reshape(-1, _SIDE, _SIDE), np.float32)


def _paired(corners: Corners) -> _Pairs:
    """Pair each point with those elsewhere that look most like it, as they are and mirrored."""
    count = len(corners.places)
    looks = corners.patches.reshape(count, _SIDE**2)
    mirrored = corners.patches[:, ::-1].reshape(count, _SIDE**2)
    places = corners.places.astype(np.float32)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for flip, other in ((1, looks), (-1, mirrored)):
        for start in range(0, count, 512):
            alike = looks[start : start + 512] @ other.T
            ours, theirs = np.divmod(np.flatnonzero(alike > _ALIKE), count)
            values = alike[ours, theirs]
            ours += start
            far = (np.abs(places[ours] - places[theirs]) >= NEAREST_PX).any(1)
            ours, theirs, values = ours[far], theirs[far], values[far]
            order = np.lexsort((theirs, -values, ours))
            rank = np.arange(len(order)) - np.searchsorted(ours[order], ours[order])
            best = order[np.argsort(rank, kind="stable")][: (rank < _PARTNERS).sum()]
            flips = np.full(len(best), flip, np.float32)
            found.append((ours[best], theirs[best], values[best], flips))
    if not found:
        none = np.zeros((0, 2))
        return _Pairs(none, none, np.zeros((0, 2, 2)))
    ours, theirs, values, flips = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # Two points that name each other are one pair.
    low, high = np.minimum(ours, theirs), np.maximum(ours, theirs)
    once = np.unique((low * count + high) * 2 + (flips > 0), return_index=True)[1]
    best = once[np.argsort(-values[once], kind="stable")[:_MOST_PAIRS]]
    ours, theirs, flips = ours[best], theirs[best], flips[best]
    scale = corners.scales[theirs] / corners.scales[ours]
    here, there = corners.turns[ours], corners.turns[theirs]
    # Turn back by our lean, mirror across it, turn on by theirs.
    a, b = np.cos(there), np.sin(there)
    c, d = np.cos(here), np.sin(here)
    maps = np.array(
        [
            [a * c + flips * b * d, a * d - flips * b * c],
            [b * c - flips * a * d, b * d + flips * a * c],
        ]
    )
    return _Pairs(corners.places[ours], corners.places[theirs], (scale * maps).transpose(2, 0, 1))


def _exact(luma: Float[np.ndarray, "h w"], pairs: _Pairs) -> _Pairs:
    """Lay the surroundings of each pair onto each other exactly; keep the pairs whose fine detail agrees."""
    if not len(pairs.ours):
        return pairs
    smooth = box_means(luma, 1)
    down, right = np.gradient(smooth)
    at = np.arange(-_AROUND_PX, _AROUND_PX + 1, _EVERY_PX, dtype=np.float32)
    v, u = (side.ravel() for side in np.meshgrid(at, at, indexing="ij"))
    ours = pairs.ours.astype(np.float32)
    theirs, maps = pairs.theirs.astype(np.float32), pairs.maps.astype(np.float32)

    def places() -> tuple[Float[np.ndarray, "n s"], Float[np.ndarray, "n s"]]:
        x = theirs[:, :1] + maps[:, 0, :1] * u + maps[:, 0, 1:] * v
        return x, theirs[:, 1:] + maps[:, 1, :1] * u + maps[:, 1, 1:] * v

    here = sampled(smooth, ours[:, :1] + u, ours[:, 1:] + v)
    for _ in range(_ROUNDS):
        x, y = places()
        there, across, along = (sampled(values, x, y) for values in (smooth, right, down))
        level = there - there.mean(1, keepdims=True)
        terms = [across, along, across * u, across * v, along * u, along * v, level]
        design = np.stack([*terms, np.ones_like(there)], 1)
        scale = np.linalg.norm(design, axis=2, keepdims=True) + 1e-6
        design /= scale
        normal = design @ design.transpose(0, 2, 1) + 1e-3 * np.eye(8, dtype=np.float32)
        step = np.linalg.solve(normal, design @ (here - there)[:, :, None]) / scale
        change = np.clip(step[:, :6, 0], -_MOST_MOVED, _MOST_MOVED)
        theirs += change[:, :2]
        maps += change[:, 2:].reshape(-1, 2, 2)
    x, y = places()
    here, there = (part - part.mean(1, keepdims=True) for part in (here, sampled(smooth, x, y)))
    fine = smooth - box_means(luma, 2)
    one, other = sampled(fine, ours[:, :1] + u, ours[:, 1:] + v), sampled(fine, x, y)
    alike = (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1) + 1e-6)
    off, usual = np.sqrt(((here - there) ** 2).mean(1)), np.sqrt((here**2).mean(1))
    kept = (alike > _DETAIL_ALIKE) & (off < _DIFFERENT[0] * usual + _DIFFERENT[1])
    kept &= (x.min(1) >= 1) & (x.max(1) <= luma.shape[1] - 2)
    kept &= (y.min(1) >= 1) & (y.max(1) <= luma.shape[0] - 2)
    return _Pairs(ours[kept], theirs[kept], maps[kept])


def _agreement(pairs: _Pairs) -> Bool[np.ndarray, "n n"]:
    """Tell for each pair with which others its own map agrees."""
    x, y = pairs.ours.T
    u, v = pairs.theirs.T
    out = np.zeros((len(x), len(x)), bool)
    for number, ((a, b), (c, d)) in enumerate(pairs.maps):
        right, down = x - x[number], y - y[number]
        off = np.hypot(
            a * right + b * down - (u - u[number]), c * right + d * down - (v - v[number])
        )
        alike = np.abs(pairs.maps - pairs.maps[number]).reshape(-1, 4) < _REFINED
        out[number] = (off < 2 + 0.06 * np.hypot(right, down)) & alike.all(1)
    return out


def _fitted(pairs: _Pairs, support: Bool[np.ndarray, " n"], first: int) -> Float[np.ndarray, "2 3"]:
    """Fit one map to the pairs that agree with the first; if they are few or do not fit it, return its own."""
    own = np.column_stack(
        [pairs.maps[first], pairs.theirs[first] - pairs.maps[first] @ pairs.ours[first]]
    ).astype(float)
    if support.sum() < _FEWEST:
        return own
    places = np.column_stack([pairs.ours[support], np.ones(support.sum())])
    matrix = np.linalg.lstsq(places, pairs.theirs[support].astype(float), rcond=None)[0].T
    return matrix if np.abs(matrix - own)[:, :2].max() < 0.2 else own
