"""Temperatures and thresholds on distributions whose right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from gammascope.errors import MissingDataError
from gammascope.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    fit_scale,
    fit_thresholds,
)
from gammascope.evaluation.metrics import ece

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(true: Any) -> None:
    calibrated = RNG.normal(0, 2, 40_000)
    label = (RNG.random(40_000) < 1 / (1 + np.exp(-calibrated))).astype(np.int64)
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
    assert fit_scale(logits[unequal], label[unequal]) == pytest.approx(fit_scale(logits, label))


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


def test_with_too_few_photos_the_threshold_is_just_above_the_highest() -> None:
    logits = np.array([-3.0, 0.5, -1.0])
    (threshold,) = fit_thresholds(logits, ["a", "a", "a"], (0.05,))
    assert threshold == np.nextafter(0.5, np.inf)


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
