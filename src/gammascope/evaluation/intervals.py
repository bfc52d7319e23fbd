"""How sure a measured number is: bootstrap and Wilson intervals, and the Value carrying them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

Weights: TypeAlias = Float[np.ndarray, "b n"]
"""How often each of n images counts, in each of b resamples."""

Rows: TypeAlias = Int[np.ndarray, " n"]
"""Which n images a weighting is about; one that is drawn twice may stand there twice."""

Kernel: TypeAlias = Callable[[Rows, Weights], Float[np.ndarray, " b"]]
"""A number computed for b weightings of some images at once; NaN where one leaves it undefined."""

MOST_DRAWN = 10_000
"""Images in a resample at most; of more, resamples of this many stand for full ones, or cells for images."""

CELLS = 2_000
"""Cells that the images of a stratum are cut into where there are too many to draw each."""

_LEAST_CELLS = 2  # of each stratum in each cluster
_Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
_CELLS_AT_ONCE = 1_000_000  # weights held in memory at a time: 8 MB, about a core's cache


@dataclass(frozen=True, slots=True)
class Value:
    """A measured number with its 95 % interval, or why there is none.

    Attributes:
        value: The number; NaN if undefined.
        low: Lower end of the interval; NaN if there is none.
        high: Upper end of the interval; NaN if there is none.
        n: How many images it rests on.
        reason: Why the value or the interval is missing; "" if both are there.
    """

    value: float
    low: float
    high: float
    n: int
    reason: str = ""

    @classmethod
    def undefined(cls, n: int, reason: str) -> Value:
        """Say that a number does not exist, and why."""
        return cls(math.nan, math.nan, math.nan, n, reason)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_json(self) -> dict[str, Any]:
        """Return plain types for ``json.dumps``; NaN, which JSON lacks, becomes None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        row: dict[str, Any] = {
            name: None if math.isnan(number) else round(number, 6)
            for name, number in numbers.items()
        }
        row["n"] = self.n
        if self.reason:
            row["reason"] = self.reason
        return row


def wilson(successes: int, n: int) -> Value:
    """Return a proportion with its 95 % Wilson score interval, which is honest at 0 and 1 too.

    >>> str(wilson(20, 20))
    '1.000 [0.839, 1.000]'

    Source: E. B. Wilson, JASA 22 (1927) 209-212.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n.")
    if n == 0:
        return Value.undefined(0, "no image")
    share, z2 = successes / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The ends meet 0 and 1 exactly there; rounding would leave them a hair off.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Value(share, low, high, n)


def bootstrap(
    kernel: Kernel,
    strata: Int[np.ndarray, " n"],
    clusters: Sequence[str] | Shaped[np.ndarray, " n"] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    order_by: Float[np.ndarray, " n"] | None = None,
) -> Value:
    """Return a number with its 95 % percentile bootstrap interval.

    Images are drawn with replacement within each stratum, so that every resample has as many of
    each. With ``clusters``, whole clusters (a generator, a camera) are drawn instead, within
    clusters that hold the same strata: the interval then says how far the number carries to
    *other* generators and cameras, and is wider. All of it follows from ``seed``.

    Of more than ``MOST_DRAWN`` images not each is drawn. With ``order_by``, the images of a stratum (and cluster) are
    cut by it into cells of equal numbers, the middle image of a cell stands for all of it, and how often a cell counts
    is drawn as for full resamples (multinomial): right for numbers that change little where a score moves to its
    neighbour's. Without it, each stratum is drawn in turn while the others stay, with fewer images (but with all of a
    small one), and its spread is scaled down by the root of the share drawn; with clusters, one sample of so many
    images stands for them, unscaled, because it is the number of clusters that limits what is known. The number itself
    is of all images, always.

    Args:
        kernel: Computes the number from weights.
        strata: A small whole number per image, usually its label.
        clusters: A name or number per image.
        resamples: How many times to draw.
        seed: Of the random draws.
        order_by: What the number depends on besides the stratum, a score say.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), ch. 13; fewer than n:
        P. Bickel, F. Goetze, W. van Zwet, Statistica Sinica 7 (1997) 1-31, at the rate of the root
        of n; strata and clusters are our choice.
    """
    n = len(strata)
    value = float(kernel(np.arange(n), np.ones((1, n)))[0]) if n else math.nan
    if math.isnan(value):
        return Value.undefined(n, "undefined on these images" if n else "no image")
    rng = np.random.default_rng(seed)
    if clusters is None:
        units, groups = None, [np.flatnonzero(strata == name) for name in np.unique(strata)[::-1]]
    else:
        units = np.unique(np.asarray(clusters), return_inverse=True)[1]
        groups = _strata_of_units(units, strata)
        if all(len(group) < 2 for group in groups):
            return Value(value, math.nan, math.nan, n, "one cluster only: no interval")
    if n <= MOST_DRAWN:
        values = _drawn(kernel, np.arange(n), groups, units, resamples, rng)
    elif order_by is not None:
        drawn = _Cells.of(order_by, strata, units, groups)
        values = value + _of_cells(kernel, drawn, resamples, rng)
    elif units is None:
        values = value + _fewer_drawn(kernel, groups, MOST_DRAWN / n, resamples, rng)
    else:
        rows = np.sort(rng.choice(n, MOST_DRAWN, replace=False))
        values = value + _drawn(kernel, rows, groups, units, resamples, rng)
        values -= float(kernel(rows, np.ones((1, len(rows))))[0])
    values = values[np.isfinite(values)]
    if not values.size:
        return Value(value, math.nan, math.nan, n, "undefined in every resample: no interval")
    low, high = np.percentile(values, (2.5, 97.5))
    return Value(value, float(low), float(high), n)


def cells(
    order_by: Float[np.ndarray, " n"], group: Int[np.ndarray, " n"], most: int
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Cut the images of each group, in order, into at most so many cells of equal numbers.

    Returns:
        The middle image of each cell, and how many images it stands for; group after group.
    """
    number = np.unique(group, return_inverse=True)[1]
    if len(number) and number.max() < 2**16:
        number = number.astype(np.uint16)  # sorted by their bits, in a tenth of the time
    place = np.argsort(order_by, kind="stable")
    place = place[np.argsort(number[place], kind="stable")]
    middles, counts, start = [], [], 0
    for size in np.bincount(number).tolist():
        edges = start + np.arange(min(most, size) + 1) * size // min(most, size)
        middles.append(place[(edges[:-1] + edges[1:] - 1) // 2])
        counts.append(np.diff(edges))
        start += size
    return np.concatenate(middles), np.concatenate(counts)


def sums_by_group(
    weight: Weights, group: Int[np.ndarray, " n"], groups: int
) -> Float[np.ndarray, "b groups"]:
    """Add up each row's weights by the number of the group that an image is in, 0..groups - 1."""
    rows = len(weight)
    place = group + groups * np.arange(rows)[:, None]
    sums = np.bincount(place.ravel(), weight.ravel(), minlength=rows * groups)
    return np.asarray(sums.reshape(rows, groups), dtype=np.float64)


def _drawn(
    kernel: Kernel,
    rows: Rows,
    groups: Sequence[Int[np.ndarray, " _units"]],
    units: Int[np.ndarray, " every"] | None,
    resamples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " _b"]:
    """Return the number for resamples of all units; those without units are images themselves."""
    of = rows if units is None else units[rows]
    step = max(1, _CELLS_AT_ONCE // len(rows))
    values = [
        kernel(rows, _draw(groups, of, min(step, resamples - start), rng))
        for start in range(0, resamples, step)
    ]
    return np.concatenate(values)


def _of_cells(
    kernel: Kernel,
    drawn: _Cells,
    resamples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " _b"]:
    """Return how far resamples of cells are from the cells' own number."""
    step = max(1, _CELLS_AT_ONCE // len(drawn.rows))
    own = float(kernel(drawn.rows, drawn.counts[None].astype(np.float64))[0])
    values = [
        kernel(drawn.rows, drawn.weights(min(step, resamples - start), rng))
        for start in range(0, resamples, step)
    ]
    return np.concatenate(values) - own


@dataclass(frozen=True, slots=True)
class _Cells:
    """Images that stand for many.

    Attributes:
        rows: One image of each cell.
        counts: How many it stands for.
        unit: Cluster of each cell; None: images are drawn.
        groups: Clusters drawn from together, or the cells of each stratum.
    """

    rows: Int[np.ndarray, " k"]
    counts: Int[np.ndarray, " k"]
    unit: Int[np.ndarray, " k"] | None
    groups: Sequence[Int[np.ndarray, " _units"]]

    @classmethod
    def of(
        cls,
        order_by: Float[np.ndarray, " n"],
        strata: Int[np.ndarray, " n"],
        units: Int[np.ndarray, " n"] | None,
        groups: Sequence[Int[np.ndarray, " _units"]],
    ) -> _Cells:
        if units is None:
            rows, counts = cells(order_by, strata, CELLS)
            of = strata[rows]
            return cls(rows, counts, None, [np.flatnonzero(of == name) for name in np.unique(of)])
        _, stratum = np.unique(strata, return_inverse=True)
        pair = units * (int(stratum.max()) + 1) + stratum
        most = max(_LEAST_CELLS, 2 * MOST_DRAWN // max(1, len(np.unique(pair))))
        rows, counts = cells(order_by, pair, most)
        return cls(rows, counts, units[rows], groups)

    def weights(self, resamples: int, rng: np.random.Generator) -> Weights:
        """Draw how often each cell counts."""
        if self.unit is not None:
            every = np.arange(sum(len(group) for group in self.groups))
            weight: Weights = _draw(self.groups, every, resamples, rng)[:, self.unit] * self.counts
            return weight
        weight = np.zeros((resamples, len(self.rows)))
        for group in self.groups:
            count = self.counts[group]
            size = int(count.sum())
            weight[:, group] = rng.multinomial(size, count / size, resamples)
        return weight


def _fewer_drawn(
    kernel: Kernel,
    groups: Sequence[Int[np.ndarray, " _units"]],
    share: float,
    resamples: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " _b"]:
    """Return how far resamples of each group are from the number, one group at a time, added up.

    Of a group this share is drawn, or more where that would be few; each image stands for as many as it is one of, and
    the spread is scaled down by the root of the share drawn. Groups are drawn independently, so spreads add.
    """
    least = MOST_DRAWN // (2 * len(groups))
    sizes = [max(round(share * len(group)), min(len(group), least)) for group in groups]
    # In order: rows that are sorted by score stay so, and are sorted again in no time.
    usual = [
        group if size == len(group) else np.sort(rng.choice(group, size, replace=False))
        for group, size in zip(groups, sizes, strict=True)
    ]
    counts = np.repeat([len(g) / s for g, s in zip(groups, sizes, strict=True)], sizes)[None]
    apart = np.zeros(resamples)
    for at, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        values = np.empty(resamples)
        for number in range(resamples):
            picked = group[np.sort(rng.integers(0, len(group), size))]
            rows = np.concatenate([*usual[:at], picked, *usual[at + 1 :]])
            values[number] = kernel(rows, counts)[0]
        if size == len(group):
            middle = float(kernel(np.concatenate(usual), counts)[0])
        else:
            middle = float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
        apart += (values - middle) * math.sqrt(size / len(group))
    return apart


def _strata_of_units(
    units: Int[np.ndarray, " n"], strata: Int[np.ndarray, " n"]
) -> list[Int[np.ndarray, " _units"]]:
    """Group the units (images or clusters) that hold the same set of strata."""
    _, stratum = np.unique(strata, return_inverse=True)
    holds = np.zeros((int(units.max()) + 1, int(stratum.max()) + 1), dtype=np.int64)
    holds[units, stratum] = 1
    _, kind = np.unique(holds, axis=0, return_inverse=True)
    return [np.flatnonzero(kind == at) for at in range(int(kind.max()) + 1)]


def _draw(
    groups: Sequence[Int[np.ndarray, " _units"]],
    units: Int[np.ndarray, " n"],
    rows: int,
    rng: np.random.Generator,
) -> Weights:
    """Draw each group's units with replacement and return how often each image counts."""
    counts = np.zeros((rows, sum(len(group) for group in groups)))
    first = np.arange(rows)[:, None]
    for group in groups:
        size = len(group)
        picked = rng.integers(0, size, (rows, size)) + first * size
        counts[:, group] = np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size)
    return counts[:, units]
