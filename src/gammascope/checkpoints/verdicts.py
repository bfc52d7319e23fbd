"""How logits become probabilities and verdicts: the calibration and the thresholds that a checkpoint holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from gammascope.choices import Curve, Zone
from gammascope.report import Verdict


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """From which logit at most a named share of one source's held-out real photos would be flagged.

    Attributes:
        source: The collection; "" = without a name.
        rate: The share, 0..1.
        logit: Flagged from here on; None where the photos are too few for so small a rate.
        photos: How many of the source it was fitted on.
    """

    source: str
    rate: float
    logit: float | None
    photos: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How one image-level logit becomes a probability and a verdict.

    Attributes:
        temperature: P(yes) = sigmoid((logit - offset) / temperature).
        offset: Logit at which yes and no are equally likely.
        uncertain_from: Logit from which the verdict is "uncertain".
        fake_from: Logit from which the verdict is "fake" (yes).
        rates: Shares of held-out real photos at or above the two, when they were fitted.
        photos: How many real photos they were fitted on.
        sources: The collections these come from, none of which was trained on.
        method: "isotonic": the knots take the place of temperature and offset.
        knots: (logit, log-odds of yes), both rising; straight lines between, of slope 1 / temperature beyond.
        zone: How the thresholds were set: "worst" ones keep ``rates`` in every source fitted on, not in their mean
            alone, "conformal" ones keep ``rates[1]`` and ``missed`` for new images of the same sources too.
        missed: Share of fakes (yes) below ``uncertain_from`` at most; None: not limited.
        points: Thresholds at named rates for each source of photos.
        ranks: (logit, share of held-out photos, share of held-out fakes at or above it), logits rising; empty = not
            known.
    """

    temperature: float
    uncertain_from: float
    fake_from: float
    rates: tuple[float, float]
    photos: int
    sources: tuple[str, ...]
    offset: float = 0.0
    method: Curve = "platt"
    knots: tuple[tuple[float, float], ...] = ()
    zone: Zone = "quantile"
    missed: float | None = None
    points: tuple[OperatingPoint, ...] = ()
    ranks: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if (self.method == "isotonic") != bool(self.knots):
            raise ValueError(f"{len(self.knots)} knots with method {self.method!r}.")
        rising = all(
            first[0] < second[0] and first[1] < second[1] for first, second in pairwise(self.knots)
        )
        if not rising:
            raise ValueError(
                "The knots of a calibration must rise, or its probabilities would not."
            )

    def probability(self, logits: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Return P(yes), 0..1, of image-level logits: a higher logit never has a lower one."""
        result: Float[np.ndarray, "*n"] = expit(self.log_odds(logits))
        return result

    def log_odds(self, logits: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Return log(P(yes) / P(no)) of image-level logits."""
        if not self.knots:
            straight: Float[np.ndarray, "*n"] = (logits - self.offset) / self.temperature
            return straight
        at, odds = np.array(self.knots, np.float64).T
        beyond = logits - np.clip(logits, at[0], at[-1])
        bent: Float[np.ndarray, "*n"] = np.interp(logits, at, odds) + beyond / self.temperature
        return bent

    @property
    def thresholds(self) -> tuple[float, float]:
        """Probabilities from which the verdict is "uncertain" and "fake"."""
        uncertain, fake = self.probability(np.array([self.uncertain_from, self.fake_from]))
        return float(uncertain), float(fake)

    def as_high(self, logit: float) -> tuple[float, float] | None:
        """Return which shares of held-out photos and of held-out fakes score at least this; None where not known."""
        if not self.ranks:
            return None
        at, photos, fakes = np.array(self.ranks, np.float64).T
        return float(np.interp(logit, at, photos)), float(np.interp(logit, at, fakes))

    def verdict(self, logit: float) -> Verdict:
        """Return what an image-level logit means at the two thresholds."""
        if logit >= self.fake_from:
            return Verdict.FAKE
        return Verdict.UNCERTAIN if logit >= self.uncertain_from else Verdict.NO_SIGN


_ABOVE_ZERO = math.nextafter(0.0, 1.0)

RAW = Calibration(
    temperature=1.0,
    uncertain_from=_ABOVE_ZERO,
    fake_from=_ABOVE_ZERO,
    rates=(1.0, 1.0),
    photos=0,
    sources=(),
)
"""What stands in where a checkpoint is not calibrated: the bare sigmoid, and "fake" above 0.5."""


def expit(logits: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return sigmoid(logits), without a warning where it is 0 or 1 to the last bit."""
    result: Float[np.ndarray, "*n"] = 1.0 / (1.0 + np.exp(-np.clip(logits, -80.0, 80.0)))
    return result


@dataclass(frozen=True, slots=True)
class Settled:
    """When a few views of a picture are enough: further ones would hardly ever change its verdict.

    Attributes:
        views: How many run first: the reduced whole, then what lies nearest to the middle.
        low: Logit of the main question below which they are enough.
        high: Logit above which they are enough.
    """

    views: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.views < 1 or not self.low <= self.high:
            raise ValueError(
                f"views={self.views}, low={self.low}, high={self.high}: expected a view at least and low <= high."
            )

    def by(self, logit: float) -> bool:
        """Return whether a logit of the first views is enough."""
        return not self.low <= logit <= self.high
