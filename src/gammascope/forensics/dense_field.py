"""Repeats found by a dense field: the points of a grid and, for each, the one elsewhere that looks most like it.

Surroundings are measured by circular moments, alike for any turn or mirroring, but not for sizes that differ by more
than some per cent. Where neighbouring points agree and their partners point back, a plane is laid through the matches.

Source: Cozzolino, Poggi and Verdoliva, Efficient dense-field copy-move forgery detection, IEEE TIFS 2015 (circular
moments, dense field, propagation of the first order, the match that points back); hashing into buckets in place of
random search is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int

from gammascope.forensics.base import blobs, box_means

NEAREST_PX = 24
"""Between a part and its copy; what lies nearer is alike in every picture."""

_STEP = 2  # pixels between points
_RADIUS = 8  # of the discs that are described
_ORDERS = (
    (0, 1),
    (0, 2),
    (1, 0),
    (1, 1),
    (1, 2),
    (2, 0),
    (2, 1),
    (3, 0),
    (3, 1),
    (0, 3),
    (1, 3),
    (0, 4),
    (0, 5),
)
_FLATTEST = 3.5  # standard deviation of a disc in grey levels below which anything matches
_TABLES = 5
_NEIGHBOURS = 5  # in a bucket
_BACK_PX = 4.0
_MOST_PARTS = 12
_FEWEST_POINTS = 60


@dataclass(frozen=True, slots=True)
class _Field:
    """Where each point's partner lies, points down and right; the point itself if it has none."""

    down: Int[np.ndarray, "gh gw"]
    right: Int[np.ndarray, "gh gw"]
    distance: Float[np.ndarray, "gh gw"]


def repeated(
    luma: Float[np.ndarray, "h w"],
) -> Iterator[tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "2 3"]]]:
    """Yield parts that are repeated: columns and rows of points, and the map from (x, y, 1) to where they are again."""
    features, textured = _described(luma)
    if np.count_nonzero(textured) < _FEWEST_POINTS:
        return
    field = _matched(features, textured)
    for down, right in _parts(field):
        matrix = _plane(field, (down, right))
        if matrix is not None:
            linear = matrix[:, :2]
            moved = _STEP * matrix[:, 2] + _RADIUS - linear.sum(1) * _RADIUS
            places = np.stack([right, down], 1) * _STEP + _RADIUS
            yield places.astype(float), np.column_stack([linear, moved])


@cache
def _discs() -> tuple[Float[np.ndarray, "n p"], tuple[tuple[int, ...], ...]]:
    """Return kernels of unit length on a square around a disc, and which of them make up each feature."""
    at = np.arange(-_RADIUS, _RADIUS + 1) / (_RADIUS + 0.5)
    radius, angle = np.hypot(at[:, None], at[None]), np.arctan2(at[:, None], at[None])
    rows: list[np.ndarray] = []
    parts: list[tuple[int, ...]] = []
    for ring, turn in _ORDERS:
        wave = np.cos(np.pi * ring * radius**2) * (radius <= 1)
        waves = [wave] if turn == 0 else [wave * np.cos(turn * angle), wave * np.sin(turn * angle)]
        waves = [one - (one.sum() / (radius <= 1).sum()) * (radius <= 1) for one in waves]
        parts.append(tuple(range(len(rows), len(rows) + len(waves))))
        rows += [(one / np.linalg.norm(one)).ravel() for one in waves]
    return np.array(rows, np.float32), tuple(parts)


def _described(
    luma: Float[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "gh gw f"], Bool[np.ndarray, "gh gw"]]:
    """Return moments of the disc around every point, alike for whatever turn, and where a disc has texture."""
    kernels, parts = _discs()
    side = 2 * _RADIUS + 1
    luma = box_means(luma, 1)  # Points meet their partners only to half their spacing.
    windows = np.lib.stride_tricks.sliding_window_view(luma, (side, side))[::_STEP, ::_STEP]
    rows, columns = windows.shape[:2]
    features = np.empty((rows, columns, len(parts)), np.float32)
    for row in range(rows):
        found = windows[row].reshape(columns, side * side) @ kernels.T
        np.square(found, out=found)
        for number, some in enumerate(parts):
            features[row, :, number] = np.sqrt(sum(found[:, one] for one in some))
    energy = np.einsum("rcf,rcf->rc", features, features)
    return features, np.sqrt(energy / (np.pi * _RADIUS**2)) > _FLATTEST


def _matched(features: np.ndarray, textured: np.ndarray) -> _Field:
    """Find for each point the point elsewhere that looks most like it."""
    columns = textured.shape[1]
    points = np.flatnonzero(textured.ravel())
    flat = features.reshape(-1, features.shape[-1])
    partner = np.full(flat.shape[0], -1, np.int64)
    distance = np.full(flat.shape[0], np.inf, np.float32)
    rng = np.random.default_rng(0)
    _hashed(flat, points, columns, partner, distance, rng)
    down, right = np.divmod(partner.reshape(textured.shape), columns)
    field = _Field(down, right, distance.reshape(textured.shape))
    for reach in (8, 4, 2, 1, 1):
        for step in ((0, reach), (0, -reach), (reach, 0), (-reach, 0)):
            _propagated(flat, points, field, step)
    return field


def _hashed(
    flat: np.ndarray,
    points: np.ndarray,
    columns: int,
    partner: np.ndarray,
    distance: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Sort points into buckets of like features, several times another way, and compare neighbours in a bucket."""
    chosen = flat[points]
    centred = chosen - chosen.mean(0)
    values, vectors = np.linalg.eigh(np.cov(centred.T) + 1e-6 * np.eye(flat.shape[1]))
    even = (centred @ vectors / np.sqrt(np.sqrt(values))).astype(np.float32)
    buckets = max(1, int((len(points) / 64) ** 0.5))
    for _ in range(_TABLES):
        seen = even @ rng.standard_normal((even.shape[1], 3)).astype(np.float32)
        sample = np.sort(seen[:: max(1, len(seen) // 4096)], axis=0)
        edges = sample[np.linspace(0, len(sample) - 1, buckets + 1).astype(int)[1:-1]]
        key = np.searchsorted(edges[:, 0], seen[:, 0]) * buckets + np.searchsorted(
            edges[:, 1], seen[:, 1]
        )
        span = np.ptp(seen[:, 2]) * 1.001 + 1e-6
        order = np.argsort(key + (seen[:, 2] - seen[:, 2].min()) / span)
        there, look = points[order], chosen[order]
        down, right = np.divmod(there, columns)
        near, far = distance[there], partner[there]
        for step in range(1, min(_NEIGHBOURS, len(there) - 1) + 1):
            apart = np.hypot(down[step:] - down[:-step], right[step:] - right[:-step])
            away = look[step:] - look[:-step]
            found = np.einsum("nf,nf->n", away, away)
            found[apart * _STEP < NEAREST_PX] = np.inf
            for ours, theirs in ((np.s_[:-step], np.s_[step:]), (np.s_[step:], np.s_[:-step])):
                better = found < near[ours]
                near[ours][better] = found[better]
                far[ours][better] = there[theirs][better]
        distance[there], partner[there] = near, far


def _propagated(flat: np.ndarray, points: np.ndarray, field: _Field, step: tuple[int, int]) -> None:
    """Let each point try what its neighbour's match says of it: the same shift, or shifts that go on changing.

    A neighbour whose own match is no closer is not asked: what follows from it hardly ever is.
    """
    rows, columns = field.down.shape
    row, column = np.divmod(points, columns)
    distance, downs, rights = field.distance.ravel(), field.down.ravel(), field.right.ravel()
    for reach in (1, 2):
        top, left = row + reach * step[0], column + reach * step[1]
        kept = np.flatnonzero((top >= 0) & (top < rows) & (left >= 0) & (left < columns))
        ours = points[kept]
        one, other = (ours + n * (step[0] * columns + step[1]) for n in (1, reach))
        kept = np.flatnonzero(np.maximum(distance[one], distance[other]) < distance[ours])
        ours, one, other = ours[kept], one[kept], other[kept]
        if reach == 1:
            down, right = downs[one] - step[0], rights[one] - step[1]
        else:
            down, right = 2 * downs[one] - downs[other], 2 * rights[one] - rights[other]
        known = (down >= 0) & (down < rows) & (right >= 0) & (right < columns)
        away = np.hypot(down - ours // columns, right - ours % columns)
        known &= away * _STEP >= NEAREST_PX
        known &= (down != downs[ours]) | (right != rights[ours])
        ours, down, right = ours[known], down[known], right[known]
        change = flat[down * columns + right] - flat[ours]
        found = np.einsum("nf,nf->n", change, change)
        better = found < distance[ours]
        ours = ours[better]
        downs[ours], rights[ours], distance[ours] = down[better], right[better], found[better]


def _parts(field: _Field) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and columns of points that are neighbours, have neighbouring partners and are pointed back at."""
    down, right = field.down, field.right
    back = np.hypot(
        down[down, right] - np.arange(down.shape[0])[:, None],
        right[down, right] - np.arange(down.shape[1])[None],
    )
    kept = (field.distance < np.inf) & (back * _STEP <= _BACK_PX)
    across = np.maximum(abs(down[:, 1:] - down[:, :-1]), abs(right[:, 1:] - right[:, :-1])) <= 2
    below = np.maximum(abs(down[1:] - down[:-1]), abs(right[1:] - right[:-1])) <= 2
    numbers = blobs(kept, (across, below))
    sizes = np.bincount(numbers.ravel())
    for number in range(1, min(_MOST_PARTS, len(sizes) - 1) + 1):
        if sizes[number] < _FEWEST_POINTS:
            break
        down, right = np.nonzero(numbers == number)
        yield down, right


def _plane(field: _Field, part: tuple[np.ndarray, np.ndarray]) -> Float[np.ndarray, "2 3"] | None:
    """Fit partner = matrix @ (x, y, 1) to the points of a part; None if no plane fits most of them."""
    places = np.stack([part[1], part[0], np.ones(len(part[0]))], 1).astype(float)
    partners = np.stack([field.right[part], field.down[part]], 1).astype(float)
    inside = np.ones(len(places), bool)
    matrix = np.zeros((3, 2))
    for _ in range(4):
        if inside.sum() < max(12, 0.5 * len(places)):
            return None
        matrix = np.linalg.lstsq(places[inside], partners[inside], rcond=None)[0]
        inside = np.hypot(*(places @ matrix - partners).T) <= 2
    return matrix.T
