"""Fit what turns a logit into a probability and a verdict: a scale or a rising curve, and two thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from gammascope.checkpoints import OperatingPoint
from gammascope.errors import MissingDataError
from gammascope.report import percent
from gammascope.sample import Label

COLDEST, HOTTEST = 0.05, 20.0
"""Bounds of a temperature: separable data would ask for 0, data without a signal for infinity."""

MARGIN = 0.05
"""How far a threshold lies above a photo that must not alarm, at most, in logits. Our choice."""
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
    weight = _balanced(logits, labels)
    fake = labels == Label.FAKE
    sign, fakes = np.where(fake, -1.0, 1.0), float(weight[fake].sum())

    def loss(temperature: float, offset: float) -> float:
        return float(weight @ np.logaddexp(0.0, sign * (logits - offset) / temperature))

    # With both classes equally heavy, the best offset lies among the logits: beyond them all, every
    # image of one class is wrong. For a given temperature the loss is convex in the offset: at its
    # lowest point probabilities sum to the weight of the fakes. The best of those is convex in
    # 1 / temperature.
    def best_offset(temperature: float) -> float:
        def too_few(offset: float) -> tuple[float, float]:
            chance = 0.5 + 0.5 * np.tanh((logits - offset) / (2 * temperature))
            slope = weight @ (chance * (1 - chance)) / temperature
            return fakes - float(weight @ chance), float(slope)

        return _zero(too_few, float(logits.min()), float(logits.max()))

    def best_loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return loss(temperature, best_offset(temperature))

    temperature = math.exp(_lowest(best_loss, math.log(COLDEST), math.log(HOTTEST)))
    return temperature, best_offset(temperature)


def fit_curve(
    logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> tuple[tuple[float, float], ...]:
    """Return knots (logit, log-odds of fake), both strictly rising, of the best rising curve.

    Isotonic regression merges neighbours until the share of fakes rises; each block becomes one knot at its mean
    logit, and straight lines of log-odds join the knots, so that unlike its steps the curve can be inverted. Both
    classes weigh the same, as in ``fit_scale``. No share goes beyond 1 / (n + 2) and its complement: n images cannot
    tell rarer ones.

    Raises:
        MissingDataError: If one of the classes is not there.
        ValueError: If a logit is not finite.

    Source: pool-adjacent-violators, R. E. Barlow et al., Statistical Inference under Order Restrictions (1972); one
        knot per block, A. P. Oron, N. Flournoy, Statistics in Biopharmaceutical Research 9 (2017) 258-267, there
        with lines of probability; weighting and bounds are our choice.
    """
    weight = _balanced(logits, labels)
    at, place = np.unique(logits.astype(np.float64), return_inverse=True)
    heavy = np.bincount(place, weight)
    fakes = np.bincount(place, weight * (labels == Label.FAKE))
    blocks: list[tuple[float, float, float]] = []  # weight, fakes' weight, weight times logit
    for block in zip(heavy.tolist(), fakes.tolist(), (heavy * at).tolist(), strict=True):
        merged = block
        # Shares that differ by rounding alone are equal.
        while blocks and blocks[-1][1] * merged[0] >= merged[1] * blocks[-1][0] * (1 - 1e-9):
            before = blocks.pop()
            merged = (before[0] + merged[0], before[1] + merged[1], before[2] + merged[2])
        blocks.append(merged)
    rarest = 1.0 / (len(logits) + 2)
    knots: list[tuple[float, float]] = []
    for total, of_fakes, moment in blocks:
        share = min(max(of_fakes / total, rarest), 1.0 - rarest)
        knot = (moment / total, math.log(share / (1.0 - share)))
        if not knots or (knot[0] > knots[-1][0] and knot[1] > knots[-1][1]):
            knots.append(knot)
    return tuple(knots)


def fit_conformal(
    real_logits: Float[np.ndarray, " n"],
    fake_logits: Float[np.ndarray, " m"],
    false_alarms: float = 0.01,
    missed: float = 0.1,
) -> tuple[float, float]:
    """Return the logits from which to say "uncertain" and "fake" so that both errors stay rare for new images.

    A new real photo lies at or above the second with a probability of at most ``false_alarms``, a new fake below
    the first with one of at most ``missed``, whatever the detector and however few the images, provided that the new
    image is drawn like the others of its class (exchangeable with them: the same sources in the same mix). The
    probability is over the draw of the calibration images too. Where the zones would overlap, "fake" goes first:
    nothing is uncertain and fewer fakes still are missed.

    Args:
        real_logits: One for each photo that was not trained on.
        fake_logits: One for each fake that was not trained on.
        false_alarms: Share of real photos that may be called fake.
        missed: Share of fakes that may be called real.

    Raises:
        MissingDataError: If there are too few images to promise such rates: at least 1 / rate - 1 are needed.
        ValueError: If a logit is NaN, or a rate is not between 0 and 1.

    Source: split conformal prediction for each class on its own, V. Vovk et al., Algorithmic Learning in a Random
        World (2005), sec. 4.5; the order of the two is our choice.
    """
    fake_from = _promised(real_logits, false_alarms, "real photos")
    uncertain_from = float(np.nextafter(-_promised(-fake_logits, missed, "fakes"), np.inf))
    return min(uncertain_from, fake_from), fake_from


def lowest_rate(images: int) -> float:
    """Return the lowest rate that so many images can promise: with a threshold above them all.

    A new image, exchangeable with n others, is the highest of all with a probability of 1 / (n + 1).

    >>> round(lowest_rate(30), 3), lowest_rate(99)
    (0.032, 0.01)
    """
    return 1.0 / (images + 1)


def fewest(rate: float) -> int:
    """Return how many images can promise a rate.

    >>> fewest(0.01)
    99
    """
    return math.ceil(1.0 / rate - 1.0 - 1e-9)


def refuse_too_few(images: int, rate: float, what: str) -> None:
    """Refuse a rate that so many images cannot promise, and say which they can.

    Raises:
        MissingDataError: If the rate is lower than ``lowest_rate``.
    """
    lowest = lowest_rate(images)
    if rate < lowest - 1e-9:
        least = fewest(rate)
        option = {"real photos": "--false-alarms", "fakes": "--missed"}.get(what, "a higher rate")
        accepted = math.ceil(1e4 * lowest - 1e-6) / 1e4
        raise MissingDataError(
            f"{images} {what} cannot promise a rate of {rate:.3g}: at least {least} are needed. {images} promise "
            f"{percent(accepted)} at best; to accept that, say so: {option} {accepted:.4g}."
        )


def fit_worst(
    real_logits: Float[np.ndarray, " n"],
    sources: Sequence[str | None],
    rates: Sequence[float] = (0.05, 0.01),
) -> tuple[float, ...]:
    """Return, for each rate, the lowest logit at or above which no source has more than that share of its reals.

    Sources with fewer than 1 / rate photos, for which the rate could not be told from none at all, count in the mean
    over sources alone (``fit_thresholds``), which is kept as well. New sources may be worse than the worst here, but
    a mean over sources allows one of them several times the rate.

    Args, errors: As for ``fit_thresholds``. Source: our choice.
    """
    mean = fit_thresholds(real_logits, sources, rates)
    own = source_points(real_logits, sources, rates)
    return tuple(
        max([least, *(p.logit for p in own if p.rate == rate and p.logit is not None)])
        for least, rate in zip(mean, rates, strict=True)
    )


def source_points(
    real_logits: Float[np.ndarray, " n"],
    sources: Sequence[str | None],
    rates: Sequence[float],
) -> tuple[OperatingPoint, ...]:
    """Return, for each source and rate, the lowest logit from which at most that share of its photos is flagged.

    On these photos exactly, as in ``fit_thresholds``; None where a source has fewer than 1 / rate photos, for which
    the rate could not be told from none at all.
    """
    names = np.array([name or "" for name in sources], dtype=np.str_)
    points = []
    for name in np.unique(names).tolist():
        logits = real_logits[names == name]
        for rate in rates:
            enough = len(logits) * rate >= 1.0 - 1e-9
            (at,) = fit_thresholds(logits, [name] * len(logits), (rate,)) if enough else (None,)
            points.append(OperatingPoint(name, rate, at, len(logits)))
    return tuple(points)


def _promised(logits: Float[np.ndarray, " n"], rate: float, what: str) -> float:
    """Return the lowest threshold that a new logit reaches with a probability of at most ``rate``."""
    _check_rate(rate)
    if np.isnan(logits).any():
        raise ValueError("Thresholds cannot be fitted to logits that are NaN: drop them.")
    # Among n + 1 exchangeable logits, the new one is strictly above the k-th highest of the others only if it is one
    # of the k highest of all: probability k / (n + 1).
    refuse_too_few(len(logits), rate, what)
    highest = math.floor(rate * (len(logits) + 1) + 1e-9)
    ranked = np.sort(logits.astype(np.float64))[::-1]
    return float(np.nextafter(ranked[highest - 1], np.inf))


def _check_rate(rate: float) -> None:
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate={rate}: expected a share between 0 and 1.")


def _balanced(
    logits: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return weights of sum 1 in which both classes weigh the same."""
    if not np.isfinite(logits).all():
        raise ValueError("A scale cannot be fitted to logits that are not finite: drop them.")
    weight = np.zeros(len(logits))
    for label in Label:
        members = labels == label
        if not members.any():
            raise MissingDataError(
                f"No {label.name.lower()} image among {len(labels)}: a scale needs both classes."
            )
        weight[members] = 0.5 / np.count_nonzero(members)
    return weight


def fit_thresholds(
    real_logits: Float[np.ndarray, " n"],
    sources: Sequence[str | None],
    rates: Sequence[float] = (0.05, 0.01),
) -> tuple[float, ...]:
    """Return, for each rate, the lowest logit at or above which at most that share of reals lies.

    Each source counts the same however many photos it has, so that one large collection does not
    set the threshold for all cameras; the price is that each photo of a small source counts much.
    Without a name, photos form one source together. The share is kept on these photos exactly,
    never by interpolation: where it would allow less than one photo, the threshold lies above the highest logit. So
    more photos can only lower it. Above the first logit that is one too many it lies halfway to the next one, at most
    ``MARGIN``: on another machine, or with other threads, the same photo's logit differs a little.

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
    _check_rate(rate)
    # The rounding of the sum must not cost a photo: 5 of 100 is 0.05. The last always exceeds.
    first = ranked[int(np.argmax(alarms > rate + 1e-9))]
    higher = ranked[ranked > first]
    above = min((higher[-1] - first) / 2, MARGIN) if higher.size else MARGIN
    return float(max(first + above, np.nextafter(first, np.inf)))


def _zero(rising: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Return where a rising function, given with its slope, is zero: Newton's steps, halves where they lead outside."""
    at = (low + high) / 2
    for _ in range(_STEPS):
        value, slope = rising(at)
        low, high = (at, high) if value < 0 else (low, at)
        step = at - value / slope if slope > 0 else math.nan
        following = step if low < step < high else (low + high) / 2
        if following == at or high <= low:
            break
        at = following
    return at


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
