"""Fit what turns a logit into a probability and a verdict: temperature, offset and two thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from gammascope.errors import MissingDataError
from gammascope.sample import Label

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature: separable data would ask for 0, data without a signal for infinity."""

_SHRINK = (
    math.sqrt(5.0) - 1.0
) / 2.0  # golden section: each step keeps one of its two inner points
_STEPS = 60  # shrinks the bracket to 1e-12 of its width


def fit_scale(
    logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> tuple[float, float]:
    """Return temperature (0.05..20) and offset that make sigmoid((logit - offset) / temperature) likeliest.

    Both classes weigh the same, so the probability holds for a world of as many fakes as reals,
    whatever the mix of the calibration set. The order of images stays as it is. The offset is
    needed because a pool over many views (the most suspicious ones, say) shifts real photos too.

    Raises:
        MissingDataError: If one of the classes is not there.
        ValueError: If a logit is not finite.

    Source: Platt, Probabilistic outputs for support vector machines (1999), with the slope written as
    a temperature (arXiv:1706.04599, sec. 4.2); weighting and bounds are our choice.
    """
    if not np.isfinite(logits).all():
        raise ValueError("A temperature cannot be fitted to logits that are not finite: drop them.")
    weight = np.zeros(len(logits))
    for label in Label:
        members = labels == label
        if not members.any():
            raise MissingDataError(
                f"No {label.name.lower()} image among {len(labels)}: a temperature needs both "
                "classes."
            )
        weight[members] = 0.5 / np.count_nonzero(members)
    sign = np.where(labels == Label.FAKE, -1.0, 1.0)

    def loss(temperature: float, offset: float) -> float:
        return float(weight @ np.logaddexp(0.0, sign * (logits - offset) / temperature))

    # With both classes equally heavy, the best offset lies among the logits: beyond them all, every
    # image of one class is wrong. For a given temperature the loss is convex in the offset, and the
    # best of those is convex in 1 / temperature: two nested searches find the one lowest point.
    def best_offset(temperature: float) -> float:
        return _lowest(lambda offset: loss(temperature, offset), logits.min(), logits.max())

    def best_loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return loss(temperature, best_offset(temperature))

    temperature = math.exp(_lowest(best_loss, math.log(COLDEST), math.log(HOTTEST)))
    return temperature, best_offset(temperature)


def fit_thresholds(
    real_logits: Float[np.ndarray, " n"],
    sources: Sequence[str | None],
    rates: Sequence[float] = (0.05, 0.01),
) -> tuple[float, ...]:
    """Return, for each rate, the lowest logit at or above which at most that share of reals lies.

    Each source counts the same however many photos it has, so that one large collection does not
    set the threshold for all cameras; the price is that each photo of a small source counts much.
    Without a name, photos form one source together. The share is kept on these photos exactly,
    never by interpolation: where it would allow less than one photo, the threshold lies just above
    the highest logit. So more photos can only lower it.

    Args:
        real_logits: Logits of real photos that were not trained on.
        sources: The collection or camera of each.
        rates: Shares of false alarms.

    Raises:
        MissingDataError: If there is no photo.
        ValueError: If a logit is NaN, or a rate is not between 0 and 1.

    Source: our choice.
    """
    if not len(real_logits):
        raise MissingDataError("No real photo to fit thresholds to.")
    if np.isnan(real_logits).any():
        raise ValueError("Thresholds cannot be fitted to logits that are NaN: drop them.")
    if len(sources) != len(real_logits):
        raise ValueError(f"{len(sources)} sources for {len(real_logits)} logits: expected as many.")
    _, source, photos = np.unique(
        [name or "" for name in sources], return_inverse=True, return_counts=True
    )
    weight = 1.0 / (len(photos) * photos[source])
    order = np.argsort(-real_logits, kind="stable")
    ranked = real_logits[order].astype(np.float64)
    # Alarms if the threshold were at each logit, ties included: it alarms for all that equal it.
    alarms = np.cumsum(weight[order])[np.searchsorted(-ranked, -ranked, side="right") - 1]
    return tuple(_threshold(ranked, alarms, rate) for rate in rates)


def _threshold(
    ranked: Float[np.ndarray, " n"], alarms: Float[np.ndarray, " n"], rate: float
) -> float:
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate={rate}: expected a share between 0 and 1.")
    # The rounding of the sum must not cost a photo: 5 of 100 is 0.05. The last always exceeds.
    first_too_many = int(np.argmax(alarms > rate + 1e-9))
    return float(np.nextafter(ranked[first_too_many], np.inf))


def _lowest(loss: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is lowest, by golden section."""
    left, right = high - _SHRINK * (high - low), low + _SHRINK * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _SHRINK * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _SHRINK * (high - low)
            at_right = loss(right)
    return (low + high) / 2
