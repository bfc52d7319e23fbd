"""Numbers over scores and labels, and over pixels: each is a Metric or a function of counts.

Conventions: 1 is fake, the positive class; a higher score leans fake; an image is called fake from
the threshold on, that value included. A metric that needs a class that is not there is NaN, never
0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gammascope.evaluation.intervals import (
    CELLS,
    Rows,
    Value,
    Weights,
    bootstrap,
    cells,
    sums_by_group,
)
from gammascope.sample import Label

ScoreKernel: TypeAlias = Callable[
    [Float[np.ndarray, " n"], Int[np.ndarray, " n"], Weights], Float[np.ndarray, " b"]
]
"""Scores, labels and b rows of weights in; b numbers out, NaN where undefined."""

_BOTH = (Label.REAL, Label.FAKE)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number over scores and labels: call it for the number, ``measure`` it for an interval too.

    Attributes:
        name: For tables.
        kernel: Computes it for many weightings at once, which makes its bootstrap quick.
        needs: Labels without which it is undefined.
        smooth: Whether it changes little where a score moves to its neighbour's, so that the interval over very many
            images may be drawn in cells; a number read at one point of the ROC curve does not.
    """

    name: str
    kernel: ScoreKernel
    needs: tuple[Label, ...] = _BOTH
    smooth: bool = True

    def __call__(self, score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> float:
        """Return the number; NaN if a class it needs is not there.

        Raises:
            ValueError: If a score is NaN or a label is neither 0 nor 1.
        """
        _check(score, label)
        if self._lacks(label):
            return math.nan
        return float(self.kernel(score.astype(np.float64), label, np.ones((1, len(score))))[0])

    def measure(
        self,
        score: Float[np.ndarray, " n"],
        label: Int[np.ndarray, " n"],
        clusters: Sequence[str] | Shaped[np.ndarray, " n"] | None = None,
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Value:
        """Return the number with its 95 % interval over images of each class, or over clusters.

        Args:
            score: Higher leans fake.
            label: 1 fake, 0 real.
            clusters: A name or number per image; draws whole clusters, see ``bootstrap``.
            resamples: How many times to draw.
            seed: Of the random draws.

        Raises:
            ValueError: If a score is NaN or a label is neither 0 nor 1.
        """
        _check(score, label)
        if lacks := self._lacks(label):
            return Value.undefined(len(score), lacks)
        exact = score.astype(np.float64)

        def kernel(rows: Rows, weight: Weights) -> Float[np.ndarray, " b"]:
            return self.kernel(exact[rows], label[rows], weight)

        return bootstrap(
            kernel,
            label,
            clusters,
            resamples=resamples,
            seed=seed,
            order_by=exact if self.smooth else None,
        )

    def _lacks(self, label: Int[np.ndarray, " n"]) -> str:
        absent = [f"no {needed.name.lower()} image" for needed in self.needs if needed not in label]
        return " and ".join(absent)


def accuracy(threshold: float) -> Metric:
    """Share of images on their label's side of a threshold; moves with the mix of classes."""

    def kernel(
        score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
    ) -> Float[np.ndarray, " b"]:
        return _share(weight, (score >= threshold) == (label == Label.FAKE))

    return Metric("accuracy", kernel, needs=())


def real_accuracy(threshold: float) -> Metric:
    """Share of real images not called fake: 1 minus the false-alarm rate."""

    def kernel(
        score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
    ) -> Float[np.ndarray, " b"]:
        real = label == Label.REAL
        return _share(weight[:, real], score[real] < threshold)

    return Metric("real accuracy", kernel, needs=(Label.REAL,))


def fake_accuracy(threshold: float) -> Metric:
    """Share of fake images called fake: recall, the true-positive rate."""

    def kernel(
        score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
    ) -> Float[np.ndarray, " b"]:
        fake = label == Label.FAKE
        return _share(weight[:, fake], score[fake] >= threshold)

    return Metric("fake accuracy", kernel, needs=(Label.FAKE,))


def balanced_accuracy(threshold: float) -> Metric:
    """Mean of real and fake accuracy; 0.5 for a detector that cannot tell, at any mix."""
    real, fake = real_accuracy(threshold).kernel, fake_accuracy(threshold).kernel

    def kernel(
        score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
    ) -> Float[np.ndarray, " b"]:
        return (real(score, label, weight) + fake(score, label, weight)) / 2

    return Metric("balanced accuracy", kernel)


def tpr_at_fpr(rate: float) -> Metric:
    """Highest share of fakes found at any threshold with at most this share of false alarms.

    Nothing is interpolated: with fewer than 1/rate reals it is the share found without any false
    alarm at all.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate={rate}: expected a share from 0 up to, not including, 1.")

    def kernel(
        score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
    ) -> Float[np.ndarray, " b"]:
        false_rate, true_rate = _roc(score, label, weight)
        allowed = false_rate <= rate + 1e-12  # 0.01 of 100 reals is one of them, whatever rounding
        return np.asarray(np.max(np.where(allowed, true_rate, 0.0), axis=1))

    return Metric(f"TPR at {rate:.3g} FPR", kernel, smooth=False)


def ece(bins: int = 15) -> Metric:
    """Expected calibration error of probabilities of fake: 0 best, 1 worst.

    The mean over images of |mean probability - share of fakes| of their bin; the bins are equally
    wide over 0..1, each without its lower edge (the first with it). Scores must be probabilities.

    Source: arXiv:1706.04599, eq. (3), in its form for one class's probability.
    """
    if bins < 1:
        raise ValueError(f"bins={bins}: expected at least 1.")

    def kernel(
        score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
    ) -> Float[np.ndarray, " b"]:
        _check_probability(score)
        place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], score)
        gap = sums_by_group(weight * (score - label), place, bins)
        return _divide(np.abs(gap).sum(axis=1), weight.sum(axis=1))

    return Metric("ECE", kernel, needs=())


def _auroc(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
) -> Float[np.ndarray, " b"]:
    fakes, reals = _steps(score, label, weight)
    beaten = reals.sum(axis=1, keepdims=True) - np.cumsum(reals, axis=1) + reals / 2
    return _divide((fakes * beaten).sum(axis=1), fakes.sum(axis=1) * reals.sum(axis=1))


def _average_precision(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
) -> Float[np.ndarray, " b"]:
    fakes, reals = _steps(score, label, weight)
    found = np.cumsum(fakes, axis=1)
    precision = np.nan_to_num(_divide(found, found + np.cumsum(reals, axis=1)))
    return _divide((fakes * precision).sum(axis=1), fakes.sum(axis=1))


def _eer(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
) -> Float[np.ndarray, " b"]:
    false_rate, true_rate = _roc(score, label, weight)
    excess = false_rate + true_rate - 1.0  # false alarms less misses: from -1 up to 1
    rows = np.arange(len(weight))
    after = np.maximum(np.argmax(excess >= 0.0, axis=1), 1)
    below, above = excess[rows, after - 1], excess[rows, after]
    share = np.clip(_divide(-below, above - below), 0.0, 1.0)
    start = false_rate[rows, after - 1]
    return np.asarray(start + share * (false_rate[rows, after] - start))


def _brier(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
) -> Float[np.ndarray, " b"]:
    _check_probability(score)
    return _divide(weight @ (score - label) ** 2, weight.sum(axis=1))


auroc = Metric("AUROC", _auroc)
"""Chance that a fake scores above a real, ties counted half. Never takes thresholded scores."""

average_precision = Metric("average precision", _average_precision)
"""Mean precision over the fakes, each at its own score, in steps. Moves with the mix of classes."""

eer = Metric("EER", _eer, smooth=False)
"""Rate at which false alarms and misses are equal, on the ROC curve joined by straight lines."""

brier = Metric("Brier score", _brier, needs=())
"""Mean squared difference of probability and label: 0 best. Scores must be probabilities."""


def auroc_against(
    reals: Float[np.ndarray, " r"],
    fakes: Float[np.ndarray, " f"],
    *,
    resamples: int = 300,
    seed: int = 0,
) -> Value:
    """Return the AUROC of some fakes against very many reals, with its interval, without sorting these again.

    The number is that of ``auroc.measure``, but takes time for the fakes alone.

    Args:
        reals: Scores, the highest first, at least one.
        fakes: Scores in any order, at least one.
        resamples: How many times to draw.
        seed: Of the random draws.

    Raises:
        ValueError: If the reals are in another order.
    """
    if (np.diff(reals) > 0).any():
        raise ValueError("auroc_against: the reals are not sorted, the highest first.")
    rising = reals[::-1]
    beaten = np.searchsorted(rising, fakes, "left") + np.searchsorted(rising, fakes, "right")
    value = float(beaten.mean()) / (2 * len(reals))
    # Cells of the reals stand for them; the fakes keep their own.
    number = min(CELLS, len(reals))
    edges = np.arange(number + 1) * len(reals) // number
    middles = reals[(edges[:-1] + edges[1:] - 1) // 2]
    rng = np.random.default_rng(seed)
    some, counts = cells(fakes, np.zeros(len(fakes), dtype=np.int64), CELLS)
    score = np.concatenate([middles, fakes[some]])
    label = np.repeat([0, 1], [len(middles), len(some)])
    each = np.diff(edges)
    weight = np.concatenate(
        [
            rng.multinomial(len(reals), each / len(reals), resamples),
            rng.multinomial(len(fakes), counts / len(fakes), resamples),
        ],
        axis=1,
    ).astype(np.float64)
    own = float(_auroc(score, label, np.r_[each, counts][None].astype(np.float64))[0])
    # Cells may differ a little from what they stand for, so the interval is moved; it ends where AUROC does.
    ends = value + np.percentile(_auroc(score, label, weight), (2.5, 97.5)) - own
    low, high = ends.clip(0.0, 1.0)
    return Value(value, float(low), float(high), len(reals) + len(fakes))


def roc_points(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return false- and true-positive rate at each distinct score, from (0, 0) to (1, 1).

    Raises:
        ValueError: If a score is NaN or a label is neither 0 nor 1.
    """
    _check(score, label)
    false_rate, true_rate = _roc(score.astype(np.float64), label, np.ones((1, len(score))))
    return false_rate[0], true_rate[0]


@dataclass(frozen=True, slots=True)
class PixelCounts:
    """How many pixels of each image were rightly and wrongly marked.

    Attributes:
        tp: Marked and true.
        fp: Marked and not true.
        fn: Not marked and true.
        tn: Not marked and not true.
    """

    tp: Float[np.ndarray, " n"]
    fp: Float[np.ndarray, " n"]
    fn: Float[np.ndarray, " n"]
    tn: Float[np.ndarray, " n"]


def count_pixels(
    probability: Float[np.ndarray, "h w"],
    truth: Bool[np.ndarray, "h w"],
    threshold: float = 0.5,
    *,
    skip_unexamined: bool = False,
) -> tuple[int, int, int, int]:
    """Count the pixels of one image as (tp, fp, fn, tn): marked means above the threshold.

    Args:
        probability: 0..1; NaN where the detector did not look.
        truth: The mask.
        threshold: On the probability.
        skip_unexamined: Leave NaN pixels out. By default they count as not marked: a detector must
            not gain by looking at less.
    """
    seen = np.isfinite(probability)
    marked = seen & (np.where(seen, probability, 0.0) > threshold)
    counted = seen if skip_unexamined else np.ones_like(seen)
    tp = int(np.count_nonzero(marked & truth))
    fp = int(np.count_nonzero(marked)) - tp
    fn = int(np.count_nonzero(truth & counted)) - tp
    return tp, fp, fn, int(np.count_nonzero(counted)) - tp - fp - fn


def pixel_f1(
    counts: PixelCounts, per: Literal["image", "pixel"] = "image", *, seed: int = 0
) -> Value:
    """F1 of marked pixels, 2tp / (2tp + fp + fn), with its interval over images.

    "image" is the mean over images, leaving out those where it is undefined (nothing to find and
    nothing marked); "pixel" adds the counts up first, so that large images count more.
    """
    return _pixel_ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn, per, seed)


def false_mark_share(
    counts: PixelCounts, per: Literal["image", "pixel"] = "image", *, seed: int = 0
) -> Value:
    """Share of not-true pixels that are marked, fp / (fp + tn): what is painted on real photos."""
    return _pixel_ratio(counts.fp, counts.fp + counts.tn, per, seed)


def _pixel_ratio(
    above: Float[np.ndarray, " n"],
    below: Float[np.ndarray, " n"],
    per: Literal["image", "pixel"],
    seed: int,
) -> Value:
    defined = below > 0
    above, below = above[defined].astype(np.float64), below[defined].astype(np.float64)
    if not len(below):
        return Value.undefined(0, "no image with pixels to count")
    if per == "image":
        above, below = above / below, np.ones_like(below)

    def kernel(rows: Rows, weight: Weights) -> Float[np.ndarray, " b"]:
        return _divide(weight @ above[rows], weight @ below[rows])

    return bootstrap(kernel, np.zeros(len(below), dtype=np.int64), seed=seed)


def _check(score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> None:
    if np.isnan(score).any():
        raise ValueError(f"{int(np.isnan(score).sum())} of {len(score)} scores are NaN: drop them.")
    if not np.isin(label, (0, 1)).all():
        raise ValueError(f"Labels {np.unique(label).tolist()}: expected 0 (real) and 1 (fake).")


def _check_probability(score: Float[np.ndarray, " n"]) -> None:
    if score.size and (score.min() < 0.0 or score.max() > 1.0):
        raise ValueError(
            f"Scores from {score.min():.3g} to {score.max():.3g}: expected probabilities, 0..1."
        )


def _steps(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
) -> tuple[Float[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
    """Return the weight of fakes and of reals at each of the k distinct scores, highest first."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    fake = (label[order] == Label.FAKE).astype(np.float64)
    sorted_weight = weight[:, order]
    fakes = np.add.reduceat(sorted_weight * fake, starts, axis=1)
    reals = np.add.reduceat(sorted_weight * (1.0 - fake), starts, axis=1)
    return fakes, reals


def _roc(
    score: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], weight: Weights
) -> tuple[Float[np.ndarray, "b k1"], Float[np.ndarray, "b k1"]]:
    """Return false- and true-positive rates, from (0, 0) at no alarm to (1, 1)."""
    fakes, reals = _steps(score, label, weight)
    rates = []
    for steps in (reals, fakes):
        total = np.cumsum(steps, axis=1)
        rate = _divide(total, total[:, -1:])
        rates.append(np.concatenate([np.zeros((len(weight), 1)), rate], axis=1))
    return rates[0], rates[1]


def _share(
    weight: Float[np.ndarray, "b m"], right: Bool[np.ndarray, " m"]
) -> Float[np.ndarray, " b"]:
    return _divide(weight @ right.astype(np.float64), weight.sum(axis=1))


def _divide(
    above: Float[np.ndarray, "*s"], below: Float[np.ndarray, "*t"]
) -> Float[np.ndarray, "*s"]:
    """Divide, giving NaN for 0/0 and never a warning."""
    below = np.broadcast_to(below, above.shape)
    quotient: Float[np.ndarray, "*s"] = np.full(above.shape, np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient
