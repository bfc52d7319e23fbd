"""How well a map finds the pixels of a mask, under conventions that are always stated.

F1 and IoU of masks differ by tens of points between conventions: where the threshold comes from,
and what counts where there is nothing to find. All of them follow from the counts of a score table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gammascope.choices import Black
from gammascope.evaluation.intervals import Rows, Value, Weights, bootstrap

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds on probabilities that "best over the dataset" chooses from."""

Threshold: TypeAlias = Literal["fixed", "best_over_dataset", "best_per_image"]
"""Where a threshold comes from.

"fixed" is 0.5 and needs nothing. "best_over_dataset" is the one of GRID with the highest mean F1 on
these very images: it flatters, as it was chosen on what it is measured on. "best_per_image" lets
the truth choose for each image: an upper bound that no user can reach.
"""


class Best(NamedTuple):
    """The threshold with an image's highest F1 and IoU, and the pixels marked rightly and wrongly."""

    threshold: float
    tp: int
    fp: int


@dataclass(frozen=True, slots=True)
class Localisation:
    """How well the pixels of one mask were found.

    Attributes:
        f1: Mean over images of 2tp / (2tp + fp + fn).
        iou: Mean over images of tp / (tp + fp + fn).
        threshold: The threshold of all images; NaN if each has its own.
    """

    f1: Value
    iou: Value
    threshold: float


def pixel_auroc(probability: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """Return the chance that a true pixel has a higher probability than another, ties half.

    Pixels that were not examined (NaN) rank below every other: a detector must not gain by looking
    at less. NaN if all pixels are true, or none.
    """
    _, true, false = _steps(probability, truth)
    pairs = float(true.sum()) * float(false.sum())
    if not pairs:
        return math.nan
    return float((false * (np.cumsum(true) - true / 2)).sum()) / pairs


def best_threshold(probability: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> Best:
    """Return the highest threshold with the highest F1; nothing is marked where nothing is true."""
    levels, true, false = _steps(probability, truth)
    tp, fp = np.cumsum(true), np.cumsum(false)
    # The last level may be -inf, pixels that were not examined: no threshold marks them.
    f1 = np.where(np.isfinite(levels), 2 * tp / np.maximum(tp + fp + tp[-1], 1), 0.0)
    at = int(np.argmax(f1))
    if f1[at] == 0:
        return Best(1.0, 0, 0)
    below = float(levels[at + 1]) if at + 1 < len(levels) else -math.inf
    if below == -math.inf:
        below = float(np.nextafter(levels[at], np.float32(-1.0)))
    return Best(below, int(tp[at]), int(fp[at]))


def counts_over_grid(
    probability: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]
) -> dict[str, int]:
    """Return ``tp@<threshold>`` and ``fp@<threshold>`` for each threshold of GRID."""
    ranked = _with_unseen_last(probability)
    counts: dict[str, int] = {}
    for threshold in GRID:
        marked = ranked > threshold
        counts[f"tp@{threshold}"] = tp = int(np.count_nonzero(marked & truth))
        counts[f"fp@{threshold}"] = int(np.count_nonzero(marked)) - tp
    return counts


def locate(
    columns: Mapping[str, Shaped[np.ndarray, " n"]],
    mask: str,
    *,
    threshold: Threshold = "fixed",
    black: Black = "skip",
    seed: int = 0,
) -> Localisation:
    """Return mean F1 and IoU of a mask, with intervals over images.

    Args:
        columns: Of a score table, with counts by name; NaN where there is no truth or no map.
        mask: "generated" or "edited".
        threshold: Where the threshold comes from.
        black: What images without a true pixel count.
        seed: Of the bootstrap.
    """

    def counts(name: str) -> Float[np.ndarray, " n"]:
        return columns[f"{mask}_{name}"]

    true, false = counts("tp") + counts("fn"), counts("fp") + counts("tn")
    partly, nowhere = (true > 0) & (false > 0), true == 0
    level, tp, fp = 0.5, counts("tp"), counts("fp")
    if threshold != "fixed" and f"{mask}_best_tp" not in columns:
        missing = Value.undefined(0, "counts at 0.5 only")
        return Localisation(missing, missing, math.nan)
    if threshold == "best_per_image":
        # Where nothing is true the best threshold is one that marks nothing.
        level, tp = math.nan, np.where(nowhere, 0.0, counts("best_tp"))
        fp = np.where(nowhere, 0.0, counts("best_fp"))
    elif threshold == "best_over_dataset":

        def mean_f1(at: float) -> float:
            f1, _ = _ratios(counts(f"tp@{at}"), counts(f"fp@{at}"), true, nowhere, black)
            return float(f1[partly].mean()) if partly.any() else 0.0

        level = max(GRID, key=mean_f1)
        tp, fp = counts(f"tp@{level}"), counts(f"fp@{level}")
    f1, iou = _ratios(tp, fp, true, nowhere, black)
    used = partly if black == "skip" else partly | nowhere
    return Localisation(mean(f1[used], seed=seed), mean(iou[used], seed=seed), level)


def mean(numbers: Float[np.ndarray, " n"], *, seed: int = 0) -> Value:
    """Return the mean of a number per image, with its interval; NaN are left out."""
    defined = numbers[np.isfinite(numbers)]
    if not len(defined):
        return Value.undefined(0, "no image with pixels to count")

    def kernel(rows: Rows, weight: Weights) -> Float[np.ndarray, " b"]:
        return np.asarray(weight @ defined[rows] / weight.sum(axis=1))

    return bootstrap(kernel, np.zeros(len(defined), dtype=np.int64), seed=seed)


def _ratios(
    tp: Float[np.ndarray, " n"],
    fp: Float[np.ndarray, " n"],
    true: Float[np.ndarray, " n"],
    nowhere: Bool[np.ndarray, " n"],
    black: Black,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return F1 and IoU of each image."""
    if_clean = 1.0 if black == "one" else 0.0
    of_black = np.where(fp > 0, 0.0, if_clean)
    above = np.where(nowhere, 1.0, true)  # any number that is not 0
    f1 = np.where(nowhere, of_black, 2 * tp / (tp + fp + above))
    iou = np.where(nowhere, of_black, tp / (fp + above))
    return f1, iou


def _with_unseen_last(probability: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    return np.where(np.isfinite(probability), probability, -np.inf)


def _steps(
    probability: Float[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]
) -> tuple[Float[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Return the distinct levels, highest first, with the true and the other pixels at each."""
    ranked = _with_unseen_last(probability).ravel()
    order = np.argsort(-ranked)
    levels, is_true = ranked[order], truth.ravel()[order].astype(np.int64)
    starts = np.flatnonzero(np.r_[True, levels[1:] != levels[:-1]])
    true = np.add.reduceat(is_true, starts)
    return levels[starts], true, np.diff(np.r_[starts, len(levels)]) - true
