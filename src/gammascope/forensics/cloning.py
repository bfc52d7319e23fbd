"""Copy-move: a part that is there twice, found by a dense field of best matches and judged by how exact the copy is.

Every point of a grid looks for the point elsewhere whose surroundings are most like its own, whatever their turn or
mirroring. Where neighbouring points agree and their partners point back, a plane is laid through the matches; then the
two parts are compared at full resolution. A copy repeats grain and all; a second window of the same house does not.

Source: Cozzolino, Poggi and Verdoliva, Efficient dense-field copy-move forgery detection, IEEE TIFS 2015 (circular
moments, dense field, propagation of the first order, the match that points back); hashing into buckets in place of
random search, and the exactness that the score is made of, are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int

from gammascope.forensics.base import (
    Finding,
    Outcome,
    Picture,
    Silence,
    blobs,
    box_means,
    cell_sums,
)

SMALLEST_PX = 96
"""Shorter side below which a part and its copy do not fit beside each other."""

LARGEST_PIXELS = 700_000
"""Pixels that the search works on; larger pictures are reduced for it, and compared at full resolution."""

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
_NEAREST_PX = 24  # between a part and its copy
_TABLES = 5
_NEIGHBOURS = 5  # in a bucket
_BACK_PX = 4.0
_ALIKE = 0.05  # of the energy of a disc
_MOST_PARTS = 12
_FEWEST_POINTS = 60
_PATCH_PX = 16  # side of the squares that are compared
_CONTRAST = 2.5  # slope, grey levels a pixel, that a square needs in every direction to be compared
_MARKED = 0.75  # exactness from which a copy is shown
_CELL_PX = 4
_ROUNDS = 4
_SCALES = (0.5, 2.0)  # of a copy to its original


@dataclass(frozen=True, slots=True)
class _Field:
    """Where each point's partner lies, points down and right; the point itself if it has none."""

    down: Int[np.ndarray, "gh gw"]
    right: Int[np.ndarray, "gh gw"]
    distance: Float[np.ndarray, "gh gw"]


def examine(picture: Picture) -> Outcome:
    """Mark the part that is repeated most exactly, and what it repeats."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    luma = picture.luma.astype(np.float32)
    factor = max(1.0, (luma.size / LARGEST_PIXELS) ** 0.5)
    features, textured = _described(_reduced(luma, factor))
    if textured.mean() < 0.02:
        return Silence("too little texture to tell one part from another")
    field = _matched(features, textured)
    full = PIL.Image.fromarray(luma)
    best, marked = 0.0, np.zeros(luma.shape, bool)
    seen = np.zeros(textured.shape, bool)
    for found in _parts(field):
        matrix = None if seen[found].mean() > 0.5 else _plane(field, found)
        if matrix is None:
            continue
        part = _grown(features, found, matrix)
        seen[part] = True
        copy = _full(part, matrix, factor, luma.shape)
        for blur in sorted({round(factor), 1}, reverse=True):
            copy = _aligned(luma, full, copy, blur)
        copy = _whole(copy)
        if not _plausible(copy.matrix):
            continue
        score = _exactness(luma, full, copy)
        best = max(best, score)
        if score >= _MARKED:
            _mark(marked, copy)
    cells = marked[_CELL_PX // 2 :: _CELL_PX, _CELL_PX // 2 :: _CELL_PX]
    return Finding(best, cells.astype(np.float32), (0, 0), _CELL_PX, picture.size)


def _mark(marked: Bool[np.ndarray, "h w"], copy: _Copy) -> None:
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


def _reduced(luma: Float[np.ndarray, "h w"], factor: float) -> Float[np.ndarray, "_h _w"]:
    if factor == 1:
        return luma
    size = round(luma.shape[1] / factor), round(luma.shape[0] / factor)
    return np.asarray(PIL.Image.fromarray(luma).resize(size, PIL.Image.Resampling.BOX))


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
            found[apart * _STEP < _NEAREST_PX] = np.inf
            for ours, theirs in ((np.s_[:-step], np.s_[step:]), (np.s_[step:], np.s_[:-step])):
                better = found < near[ours]
                near[ours][better] = found[better]
                far[ours][better] = there[theirs][better]
        distance[there], partner[there] = near, far


def _propagated(flat: np.ndarray, points: np.ndarray, field: _Field, step: tuple[int, int]) -> None:
    """Let each point try what its neighbour's match says of it: the same shift, or shifts that go on changing."""
    rows, columns = field.down.shape
    row, column = np.divmod(points, columns)
    for second in (False, True):
        reach = 2 if second else 1
        top, left = row + reach * step[0], column + reach * step[1]
        kept = (top >= 0) & (top < rows) & (left >= 0) & (left < columns)
        ours, top, left = points[kept], row[kept] + step[0], column[kept] + step[1]
        down, right = field.down[top, left], field.right[top, left]
        known = field.distance[top, left] < np.inf
        if second:
            beyond = top + step[0], left + step[1]
            known &= field.distance[beyond] < np.inf
            down, right = 2 * down - field.down[beyond], 2 * right - field.right[beyond]
        else:
            down, right = down - step[0], right - step[1]
        here = np.divmod(ours, columns)
        known &= (down >= 0) & (down < rows) & (right >= 0) & (right < columns)
        known &= np.hypot(down - here[0], right - here[1]) * _STEP >= _NEAREST_PX
        known &= (down != field.down[here]) | (right != field.right[here])
        ours, down, right = ours[known], down[known], right[known]
        away = flat[down * columns + right] - flat[ours]
        found = np.einsum("nf,nf->n", away, away)
        place = ours // columns, ours % columns
        better = found < field.distance[place]
        place = place[0][better], place[1][better]
        field.down[place], field.right[place] = down[better], right[better]
        field.distance[place] = found[better]


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
    return matrix.T if _plausible(matrix.T) else None


def _grown(
    features: np.ndarray, part: tuple[np.ndarray, np.ndarray], matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add to a part the points connected with it that look like what the plane says they repeat."""
    shape = features.shape[:2]
    row, column = np.mgrid[: shape[0], : shape[1]]
    (a, b, c), (d, e, f) = matrix
    right = np.rint(a * column + b * row + c).astype(np.int64)
    down = np.rint(d * column + e * row + f).astype(np.int64)
    within = (right >= 0) & (right < shape[1]) & (down >= 0) & (down < shape[0])
    within &= np.hypot(right - column, down - row) * _STEP >= _NEAREST_PX
    here, there = features[within], features[down[within], right[within]]
    alike = np.zeros(shape, bool)
    away = here - there
    alike[within] = np.einsum("nf,nf->n", away, away) < _ALIKE * np.einsum("nf,nf->n", here, here)
    alike[part] = True
    numbers = blobs(alike)
    down, right = np.nonzero(np.isin(numbers, np.unique(numbers[part])))
    return down, right


def _plausible(matrix: np.ndarray) -> bool:
    """Whether a plane keeps sizes within what people do to a copy."""
    scales = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(_SCALES[0] <= scales[1] and scales[0] <= _SCALES[1])


@dataclass(frozen=True, slots=True)
class _Copy:
    """Two parts of a picture at full resolution.

    Attributes:
        box: Rows and columns of the picture around the first part.
        inside: Where in the box the part is.
        matrix: From (x, y, 1) in the picture to the other part.
    """

    box: tuple[slice, slice]
    inside: Bool[np.ndarray, "h w"]
    matrix: Float[np.ndarray, "2 3"]


def _full(
    part: tuple[np.ndarray, np.ndarray],
    matrix: np.ndarray,
    factor: float,
    size: tuple[int, int],
) -> _Copy:
    """Bring a part from points of the reduced picture to pixels of the full one."""
    scale, offset = factor * _STEP, factor * (_RADIUS + 0.5) - 0.5
    linear = matrix[:, :2]
    moved = np.column_stack([linear, scale * matrix[:, 2] + offset - linear.sum(1) * offset])
    box: list[slice] = []
    places: list[np.ndarray] = []
    for axis, side in zip(part, size, strict=True):
        start = max(0, int((axis.min() - 1) * scale + offset))
        stop = min(side, int((axis.max() + 1) * scale + offset) + 1)
        box.append(slice(start, stop))
        points = np.rint((np.arange(start, stop) - offset) / scale).astype(int) - axis.min()
        places.append(np.clip(points, 0, np.ptp(axis)))
    grid = np.zeros((np.ptp(part[0]) + 1, np.ptp(part[1]) + 1), bool)
    grid[part[0] - part[0].min(), part[1] - part[1].min()] = True
    return _Copy((box[0], box[1]), grid[np.ix_(*places)], moved)


def _fetched(
    picture: PIL.Image.Image, copy: _Copy
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


def _aligned(luma: np.ndarray, picture: PIL.Image.Image, copy: _Copy, blur: int) -> _Copy:
    """Move the other part until the difference to the first is least (Lucas and Kanade)."""
    rows, columns = copy.box
    here = box_means(luma[copy.box], blur)
    x, y = np.meshgrid(
        np.arange(columns.start, columns.stop, dtype=float),
        np.arange(rows.start, rows.stop, dtype=float),
    )
    middle = x.mean(), y.mean()
    for _ in range(_ROUNDS):
        there, within = _fetched(picture, copy)
        there = box_means(there, blur)
        used = copy.inside & within
        if used.sum() < _FEWEST_POINTS:
            return copy
        down, right = np.gradient(there)
        # Of the warped part, so steps are in its frame: a change of places before the matrix.
        terms = [right, down]
        terms += [right * (x - middle[0]), right * (y - middle[1])]
        terms += [down * (x - middle[0]), down * (y - middle[1])]
        design = np.stack([term[used] for term in terms] + [np.ones(used.sum()), there[used]], 1)
        scale = np.linalg.norm(design, axis=0) + 1e-9
        step = np.linalg.lstsq(design / scale, here[used] - there[used], rcond=None)[0] / scale
        change = np.array(
            [[1 + step[2], step[3], step[0]], [step[4], 1 + step[5], step[1]], [0, 0, 1]]
        )
        centre = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]])
        whole = np.vstack([copy.matrix, [0, 0, 1]]) @ centre @ change @ np.linalg.inv(centre)
        if not np.isfinite(whole).all() or np.abs(change - np.eye(3)).max() > 4 * (blur + 1):
            return copy
        copy = _Copy(copy.box, copy.inside, whole[:2])
    return copy


def _whole(copy: _Copy) -> _Copy:
    """Return the nearest copy without interpolation if there is one within a quarter of a pixel."""
    linear = np.rint(copy.matrix[:, :2])
    if abs(np.linalg.det(linear)) != 1 or np.abs(linear - copy.matrix[:, :2]).max() > 0.02:
        return copy
    rows, columns = copy.box
    centre = np.array([(columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2])
    shift = np.rint(copy.matrix @ [*centre, 1] - linear @ centre)
    return _Copy(copy.box, copy.inside, np.column_stack([linear, shift]))


def _exactness(luma: np.ndarray, picture: PIL.Image.Image, copy: _Copy) -> float:
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
    if told.sum() < 2:
        return 0.0
    alike = both[told] / np.sqrt(ours[told] * theirs[told])
    return float(np.quantile(alike, 0.25) * (1 - 1 / told.sum()))


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
