"""How sure a measured number is: bootstrap and Wilson intervals, and the Value carrying them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int

Weights: TypeAlias = Float[np.ndarray, "b n"]
"""How often each of n images counts, in each of b resamples."""

Kernel: TypeAlias = Callable[[Weights], Float[np.ndarray, " b"]]
"""A number computed for b resamples at once; NaN where a resample leaves it undefined."""

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
    clusters: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Value:
    """Return a number with its 95 % percentile bootstrap interval.

    Images are drawn with replacement within each stratum, so that every resample has as many of
    each. With ``clusters``, whole clusters (a generator, a camera) are drawn instead, within
    clusters that hold the same strata: the interval then says how far the number carries to
    *other* generators and cameras, and is wider. All of it follows from ``seed``.

    Args:
        kernel: Computes the number from weights.
        strata: A small whole number per image, usually its label.
        clusters: A name per image.
        resamples: How many times to draw.
        seed: Of the random draws.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), ch. 13; strata and
        clusters are our choice.
    """
    n = len(strata)
    value = float(kernel(np.ones((1, n)))[0]) if n else math.nan
    if math.isnan(value):
        return Value.undefined(n, "undefined on these images" if n else "no image")
    units = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    groups = _strata_of_units(units, strata)
    if clusters is not None and all(len(group) < 2 for group in groups):
        return Value(value, math.nan, math.nan, n, "one cluster only: no interval")
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // n)
    drawn = [
        kernel(_draw(groups, units, min(step, resamples - start), rng))
        for start in range(0, resamples, step)
    ]
    values = np.concatenate(drawn)
    values = values[np.isfinite(values)]
    if not values.size:
        return Value(value, math.nan, math.nan, n, "undefined in every resample: no interval")
    low, high = np.percentile(values, (2.5, 97.5))
    return Value(value, float(low), float(high), n)


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
