"""Small decision trees, exact and deterministic: baselines that anything worth calling a detector has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from gammascope.sample import Label

Impurity: TypeAlias = Callable[
    [Float[np.ndarray, " k"], Float[np.ndarray, " k"]], Float[np.ndarray, " k"]
]
"""How mixed k sets are, from the weight of reals and of fakes in each; sums over sets are minimised."""


def errors(real: Float[np.ndarray, " k"], fake: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Weight of the minority: a stump of least errors has the highest balanced accuracy of all stumps."""
    return np.asarray(np.minimum(real, fake))


def gini(real: Float[np.ndarray, " k"], fake: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Gini impurity times the weight: sees progress that the errors of one split do not show yet.

    Source: L. Breiman et al., Classification and Regression Trees (1984), ch. 4.
    """
    return np.asarray(real * fake / (real + fake))


@dataclass(frozen=True, slots=True)
class Leaf:
    """An answer.

    Attributes:
        fake: Whether at least half of the weight that came here is fake.
    """

    fake: bool


@dataclass(frozen=True, slots=True)
class Split:
    """A question.

    Attributes:
        feature: Column that is compared with the threshold.
        threshold: Values up to it, it included, go to ``low``.
        low: What follows there.
        high: What follows for all others.
    """

    feature: int
    threshold: float
    low: Node
    high: Node


Node: TypeAlias = Leaf | Split


def grow(
    values: Float[np.ndarray, "n d"],
    label: Int[np.ndarray, " n"],
    depth: int,
    impurity: Impurity = gini,
) -> Node:
    """Grow a tree greedily; both labels weigh the same, whatever their numbers.

    Every threshold halfway between neighbouring values of every feature is tried; ties go to the first feature and its
    lowest threshold. The weights are whole numbers, so that the order of the rows cannot matter.

    Args:
        values: Features without NaN.
        label: 1 fake, 0 real; both occur.
        depth: Questions on the longest path; 1 is a stump.
        impurity: What each split lessens most.

    Raises:
        ValueError: If a value is NaN or a label does not occur.
    """
    if np.isnan(values).any():
        raise ValueError("Features hold NaN: give what is missing a value of its own.")
    fakes = int((label == Label.FAKE).sum())
    reals = len(label) - fakes
    if not fakes or not reals:
        raise ValueError(f"{reals} real and {fakes} fake: expected both.")
    is_fake = (label == Label.FAKE).astype(np.float64)
    weight = np.stack([(1 - is_fake) * fakes, is_fake * reals], axis=1)
    return _grown(values, weight, depth, impurity)


def answers(node: Node, values: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Say for each row whether the tree calls it fake."""
    if isinstance(node, Leaf):
        return np.full(len(values), node.fake)
    low = values[:, node.feature] <= node.threshold
    called = np.empty(len(values), dtype=np.bool_)
    called[low] = answers(node.low, values[low])
    called[~low] = answers(node.high, values[~low])
    return called


def _grown(
    values: Float[np.ndarray, "n d"],
    weight: Float[np.ndarray, "n 2"],
    depth: int,
    impurity: Impurity,
) -> Node:
    real, fake = weight.sum(axis=0)
    best = _best_split(values, weight, impurity) if depth and real and fake else None
    if best is None:
        return Leaf(fake=bool(fake >= real))
    feature, threshold = best
    low = values[:, feature] <= threshold
    return Split(
        feature,
        threshold,
        _grown(values[low], weight[low], depth - 1, impurity),
        _grown(values[~low], weight[~low], depth - 1, impurity),
    )


def _best_split(
    values: Float[np.ndarray, "n d"], weight: Float[np.ndarray, "n 2"], impurity: Impurity
) -> tuple[int, float] | None:
    """Return feature and threshold that leave the least impurity; None if no feature has two values."""
    best: tuple[float, int, float] | None = None
    for feature, column in enumerate(values.T):
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        borders = np.flatnonzero(ranked[1:] > ranked[:-1])
        if not len(borders):
            continue
        below = np.cumsum(weight[order], axis=0)
        left, right = below[borders], below[-1] - below[borders]
        mixed = impurity(left[:, 0], left[:, 1]) + impurity(right[:, 0], right[:, 1])
        least = int(np.argmin(mixed))
        if best is None or mixed[least] < best[0]:
            under, over = float(ranked[borders[least]]), float(ranked[borders[least] + 1])
            middle = under + (over - under) / 2
            # Between neighbouring floats there is no middle.
            best = float(mixed[least]), feature, middle if middle < over else under
    return None if best is None else best[1:]
