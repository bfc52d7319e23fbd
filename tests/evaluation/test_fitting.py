"""Temperatures and thresholds on distributions whose right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from gammascope.checkpoints import Calibration
from gammascope.errors import MissingDataError
from gammascope.evaluation.fitting import (
    COLDEST,
    HOTTEST,
    MARGIN,
    fit_conformal,
    fit_curve,
    fit_scale,
    fit_thresholds,
    fit_worst,
    source_points,
)
from gammascope.evaluation.metrics import ece

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(true: Any) -> None:
    calibrated = RNG.normal(0, 2, 16_000)
    label = (RNG.random(16_000) < 1 / (1 + np.exp(-calibrated))).astype(np.int64)
    temperature, offset = fit_scale(calibrated * true + 7.0, label)
    assert temperature == pytest.approx(true, rel=0.05)
    assert offset == pytest.approx(7.0, abs=0.05 * true)
    shifted = calibrated * true + 7.0 - offset
    assert ece()(1 / (1 + np.exp(-shifted / temperature)), label) < 0.02


def test_scale_is_that_of_an_unpenalised_logistic_regression() -> None:
    label = np.repeat([0, 1], 400)
    logits = RNG.normal(3.0 + label, 1.5)
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], label)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    assert fit_scale(logits, label) == pytest.approx((1 / slope, -intercept / slope), rel=1e-4)


def test_the_temperature_does_not_depend_on_the_mix_of_classes() -> None:
    label = np.repeat([0, 1], 3000)
    logits = RNG.normal(3.0 * (2 * label - 1), 4.0)
    unequal = np.r_[np.arange(3000), np.tile(np.arange(3000, 6000), 5)]
    # The valley is flat: rounding of the loss hides its lowest point by about the root of that.
    equal = pytest.approx(fit_scale(logits, label), rel=1e-6, abs=1e-6)
    assert fit_scale(logits[unequal], label[unequal]) == equal


def test_separable_and_signless_logits_stay_within_the_bounds() -> None:
    label = np.array([0, 0, 1, 1])
    assert fit_scale(np.array([-2.0, -1.0, 1.0, 2.0]), label)[0] == pytest.approx(COLDEST)
    assert fit_scale(np.array([9.0, 9.0, -9.0, -9.0]), label)[0] == pytest.approx(HOTTEST)
    assert COLDEST <= fit_scale(np.zeros(4), label)[0] <= HOTTEST
    assert fit_scale(np.array([-1e6, 1e6, -1e6, 1e6]), label)[0] == pytest.approx(HOTTEST)


def test_a_temperature_needs_both_classes_and_finite_logits() -> None:
    with pytest.raises(MissingDataError, match="No fake image among 2"):
        fit_scale(np.zeros(2), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="finite"):
        fit_scale(np.array([np.inf, 0.0]), np.array([1, 0]))


logit_lists = st.lists(st.integers(-20, 20), min_size=1, max_size=300)


@given(logit_lists, st.sampled_from([0.2, 0.05, 0.01]))
def test_no_more_photos_are_flagged_than_the_rate_and_no_lower_threshold_would_do(
    whole: Any, rate: Any
) -> None:
    logits = np.array(whole, dtype=np.float64)
    (threshold,) = fit_thresholds(logits, [None] * len(logits), (rate,))
    assert np.mean(logits >= threshold) <= rate + 1e-9
    below = logits[logits < threshold].max()
    assert np.mean(logits >= below) > rate


@given(logit_lists)
def test_a_lower_rate_never_gives_a_lower_threshold(whole: Any) -> None:
    uncertain, fake = fit_thresholds(np.array(whole, dtype=np.float64), ["a"] * len(whole))
    assert uncertain <= fake


def test_with_too_few_photos_the_threshold_is_above_the_highest() -> None:
    logits = np.array([-3.0, 0.5, -1.0])
    (threshold,) = fit_thresholds(logits, ["a", "a", "a"], (0.05,))
    assert threshold == 0.5 + MARGIN


def test_a_logit_that_another_machine_rounds_otherwise_raises_no_alarm() -> None:
    logits = np.array([-1.0, 0.5, 0.51, 3.0])
    (threshold,) = fit_thresholds(logits, ["a"] * 4, (0.5,))
    assert threshold == pytest.approx(0.505)  # halfway to the next photo
    assert (logits + 1e-4 >= threshold).mean() == (logits - 1e-4 >= threshold).mean() == 0.5


def test_exactly_the_rate_is_allowed() -> None:
    logits = np.arange(100, dtype=np.float64)
    assert np.count_nonzero(logits >= fit_thresholds(logits, ["a"] * 100)[0]) == 5
    assert np.count_nonzero(logits >= fit_thresholds(logits, ["a"] * 100)[1]) == 1


def test_a_large_source_does_not_outvote_a_small_one() -> None:
    easy, hard = RNG.normal(-5, 1, 5000), RNG.normal(0, 1, 200)
    logits, sources = np.r_[easy, hard], ["easy"] * 5000 + ["hard"] * 200
    (fair,) = fit_thresholds(logits, sources, (0.05,))
    (pooled,) = fit_thresholds(logits, [None] * 5200, (0.05,))
    assert np.mean(hard >= fair) == pytest.approx(0.10)  # and none of the easy ones: 5 % on average
    assert np.mean(hard >= pooled) > 0.5


def test_thresholds_refuse_what_they_cannot_use() -> None:
    with pytest.raises(MissingDataError, match="No real photo"):
        fit_thresholds(np.zeros(0), [])
    with pytest.raises(ValueError, match="NaN"):
        fit_thresholds(np.array([np.nan]), ["a"])
    with pytest.raises(ValueError, match="2 sources for 1 logits"):
        fit_thresholds(np.zeros(1), ["a", "b"])
    with pytest.raises(ValueError, match="rate=0"):
        fit_thresholds(np.zeros(1), ["a"], (0.0,))


def blurred(rng: np.random.Generator, n: int) -> Any:
    """Logits whose chance of fake rises in steps, as no temperature could say."""
    logits = rng.uniform(-3, 3, n)
    chance = np.select([logits < -1, logits < 1], [0.05, 0.5], 0.9)
    return logits, (rng.random(n) < chance).astype(np.int64)


def calibration_of(**fields: Any) -> Calibration:
    return Calibration(1.0, 0.0, 1.0, (0.05, 0.01), 100, (), **fields)


def test_the_curve_without_its_lines_is_that_of_scikit_learn() -> None:
    logits, label = blurred(RNG, 500)
    weight = np.where(label == 1, 0.5 / label.sum(), 0.5 / (label == 0).sum())
    oracle = IsotonicRegression().fit_transform(logits, label, sample_weight=weight)
    at, odds = np.array(fit_curve(logits, label)).T
    rarest = 1 / 502
    levels = np.unique(np.clip(oracle.round(9), rarest, 1 - rarest))
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(levels)
    first = oracle.round(9) == oracle.round(9).min()
    assert at[0] == pytest.approx(np.average(logits[first], weights=weight[first]))


def test_a_curve_says_what_no_temperature_can() -> None:
    logits, label = blurred(RNG, 20_000)
    new_logits, new_label = blurred(RNG, 20_000)
    temperature, offset = fit_scale(logits, label)
    curve = calibration_of(method="isotonic", knots=fit_curve(logits, label))
    straight = ece()(1 / (1 + np.exp(-(new_logits - offset) / temperature)), new_label)
    bent = ece()(curve.probability(new_logits), new_label)
    assert straight > 0.06
    assert bent < 0.035


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=2, max_size=60).filter(
        lambda pairs: len({fake for _, fake in pairs}) == 2
    )
)
def test_probabilities_of_a_curve_rise_with_the_logit_and_can_be_inverted(pairs: Any) -> None:
    logits = np.array([logit for logit, _ in pairs], dtype=np.float64)
    knots = fit_curve(logits, np.array([int(fake) for _, fake in pairs]))
    curve = calibration_of(method="isotonic", knots=knots)
    asked = np.linspace(-25, 25, 401)
    chance = curve.probability(asked)
    assert (np.diff(chance) >= 0).all()
    # Beyond, neighbours of 1 are too few to tell logits apart.
    told = (chance > 1e-9) & (chance < 1 - 1e-9)
    assert (np.diff(chance[told]) > 0).all()
    at, odds = np.array(knots).T
    between = told & (asked >= at[0]) & (asked <= at[-1])
    back = np.interp(np.log(chance[between] / (1 - chance[between])), odds, at)
    assert back == pytest.approx(asked[between], abs=1e-5)


def test_a_curve_needs_both_classes_and_knots_that_rise() -> None:
    with pytest.raises(MissingDataError, match="No real image among 3"):
        fit_curve(np.zeros(3), np.ones(3, dtype=np.int64))
    with pytest.raises(ValueError, match="must rise"):
        calibration_of(method="isotonic", knots=((0.0, 1.0), (1.0, 1.0)))
    with pytest.raises(ValueError, match="0 knots with method 'isotonic'"):
        calibration_of(method="isotonic")


@pytest.mark.parametrize(("photos", "rate"), [(99, 0.01), (150, 0.01), (40, 0.1)])
def test_conformal_rates_hold_for_new_images_however_few_were_fitted_on(
    photos: int, rate: float
) -> None:
    # The promise is about the mean over calibration sets, and is met exactly: floor(rate (n + 1)) / (n + 1).
    rng = np.random.default_rng(1)
    alarms, missed = [], []
    for _ in range(4000):
        real, fake = rng.standard_t(3, photos), rng.standard_t(3, photos) + 2.0
        first, second = fit_conformal(real, fake, rate, rate)
        new_real, new_fake = rng.standard_t(3, 200), rng.standard_t(3, 200) + 2.0
        alarms.append(np.mean(new_real >= second))
        missed.append(np.mean(new_fake < first))
    exact = np.floor(rate * (photos + 1)) / (photos + 1)
    error = 4 * np.std(alarms) / np.sqrt(4000)
    assert np.mean(alarms) == pytest.approx(exact, abs=error)
    assert np.mean(alarms) <= rate + error
    assert np.mean(missed) <= rate + 4 * np.std(missed) / np.sqrt(4000)


def test_no_source_exceeds_the_rate_in_the_worst_zone_but_small_ones_cannot_be_told() -> None:
    rng = np.random.default_rng(3)
    sizes = {"plain": 400, "odd": 200, "few": 20}
    real = np.concatenate([rng.normal(name == "odd", 1, size) for name, size in sizes.items()])
    sources = [name for name, size in sizes.items() for _ in range(size)]
    real[-1] = 50.0  # one of the few, which 1 % would not allow
    mean, worst = (fit(real, sources, (0.05, 0.01)) for fit in (fit_thresholds, fit_worst))
    shares = {
        (name, rate): np.mean(real[np.array(sources) == name] >= at)
        for name in sizes
        for at, rate in zip(worst, (0.05, 0.01), strict=True)
    }
    assert all(shares[name, rate] <= rate for name in ("plain", "odd") for rate in (0.05, 0.01))
    assert shares["few", 0.05] <= 0.05
    assert mean[0] < worst[0]
    assert worst[1] >= mean[1]
    assert np.mean(real[np.array(sources) == "odd"] >= mean[0]) > 0.05
    with pytest.raises(MissingDataError, match="No real photo"):
        fit_worst(np.zeros(0), [])


def test_the_quantile_zone_promises_nothing_for_new_photos_where_the_conformal_one_does() -> None:
    rng = np.random.default_rng(2)
    quantile, conformal = [], []
    for _ in range(3000):
        real, new = rng.normal(0, 1, 110), rng.normal(0, 1, 300)
        (fitted,) = fit_thresholds(real, [None] * 110, (0.01,))
        _, promised = fit_conformal(real, rng.normal(3, 1, 20), 0.01, 0.1)
        quantile.append(np.mean(new >= fitted))
        conformal.append(np.mean(new >= promised))
    assert np.mean(conformal) < 0.0105
    assert np.mean(quantile) > 0.015


def test_a_promise_that_so_few_images_cannot_keep_is_not_made() -> None:
    fakes = np.arange(9.0)
    with pytest.raises(MissingDataError, match=r"98 real photos cannot .* at least 99 are needed"):
        fit_conformal(np.zeros(98), fakes)
    with pytest.raises(MissingDataError, match=r"8 fakes cannot promise a rate of 0.1: at least 9"):
        fit_conformal(np.zeros(99), fakes[1:])
    with pytest.raises(ValueError, match="NaN"):
        fit_conformal(np.full(99, np.nan), fakes)
    with pytest.raises(ValueError, match="rate=1"):
        fit_conformal(np.zeros(99), fakes, 1.0)


def test_between_the_conformal_zones_lies_what_both_classes_look_like() -> None:
    real, fake = np.arange(0.0, 100.0), np.arange(50.0, 150.0)
    first, second = fit_conformal(real, fake, 0.1, 0.1)
    assert (first, second) == (59.0, np.nextafter(90.0, np.inf))
    assert np.mean(fake < first) <= 0.1 >= np.mean(real >= second)
    apart = fit_conformal(real, fake + 1000.0, 0.1, 0.1)
    assert apart[0] == apart[1] == np.nextafter(90.0, np.inf)


def test_each_source_gets_the_thresholds_it_would_need() -> None:
    logits = np.r_[np.arange(100.0), np.arange(20.0) + 500.0]
    points = source_points(logits, ["easy"] * 100 + ["hard"] * 20, (0.05, 0.01))
    assert [(point.source, point.rate, point.photos) for point in points] == [
        ("easy", 0.05, 100),
        ("easy", 0.01, 100),
        ("hard", 0.05, 20),
        ("hard", 0.01, 20),
    ]
    assert [np.count_nonzero(logits[:100] >= point.logit) for point in points[:2]] == [5, 1]
    assert np.count_nonzero(logits[100:] >= points[2].logit) == 1
    assert points[3].logit is None, "20 photos cannot show one in a hundred"
