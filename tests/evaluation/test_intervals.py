"""Intervals: what they cover, and what they depend on."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gammascope.evaluation import intervals
from gammascope.evaluation.intervals import Value, bootstrap, cells, wilson
from gammascope.evaluation.metrics import (
    auroc,
    auroc_against,
    average_precision,
    balanced_accuracy,
    real_accuracy,
    tpr_at_fpr,
)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(case: Any) -> None:
    successes, n = case
    ours = wilson(successes, n)
    theirs = binomtest(successes, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_of_nothing_is_undefined_and_of_too_many_an_error() -> None:
    assert math.isnan(wilson(0, 0).value)
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson(5, 4)


def overlapping(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], [n, n])
    return rng.normal(label.astype(float), 1.0), label


def test_the_interval_covers_the_true_auroc_about_95_times_in_100() -> None:
    true_area = 0.5 * math.erfc(-1 / 2)  # two unit normals one apart: Phi(1 / sqrt 2)
    covered = 0
    for seed in range(100):
        value = auroc.measure(*overlapping(60, seed), resamples=300)
        covered += value.low <= true_area <= value.high
    assert 88 <= covered <= 100


def test_the_interval_narrows_with_the_root_of_the_number_of_images() -> None:
    widths = [(value := auroc.measure(*overlapping(n, 1))).high - value.low for n in (50, 200, 800)]
    assert widths[0] / widths[2] == pytest.approx(4.0, rel=0.3)


def test_a_bootstrap_of_a_share_agrees_with_the_binomial() -> None:
    score = np.repeat([0.0, 1.0], [300, 100])
    value = real_accuracy(0.5).measure(score, np.zeros(400, dtype=np.int64), resamples=2000)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert value.low == pytest.approx(0.75 - half, abs=0.01)
    assert value.high == pytest.approx(0.75 + half, abs=0.01)


@pytest.mark.parametrize(
    "metric", [auroc, average_precision, balanced_accuracy(0.5), tpr_at_fpr(0.1)]
)
@pytest.mark.parametrize("in_cells", [True, False], ids=["cells", "fewer"])
def test_many_images_give_the_interval_of_drawing_each(
    metric: Any, in_cells: bool, monkeypatch: Any
) -> None:
    score, label = overlapping(3000, 2)

    def kernel(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.asarray(metric.kernel(score[rows], label[rows], weight))

    full = bootstrap(kernel, label, resamples=400)
    monkeypatch.setattr(intervals, "MOST_DRAWN", 1200)
    monkeypatch.setattr(intervals, "CELLS", 200)
    ordered = score if in_cells and metric.smooth else None
    other = bootstrap(kernel, label, resamples=400, order_by=ordered)
    assert other.value == full.value
    assert other.n == 6000
    width = full.high - full.low
    assert (other.low, other.high) == pytest.approx((full.low, full.high), abs=0.2 * width)


@pytest.mark.parametrize("in_cells", [True, False], ids=["cells", "fewer"])
def test_many_images_give_the_interval_over_clusters_too(in_cells: bool, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), 100)
    label = (cluster >= 20).astype(np.int64)
    score = rng.normal(label + rng.normal(0, 1.0, 40)[cluster], 0.5)

    def kernel(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.asarray(auroc.kernel(score[rows], label[rows], weight))

    full = bootstrap(kernel, label, cluster, resamples=300)
    monkeypatch.setattr(intervals, "MOST_DRAWN", 1000)
    other = bootstrap(kernel, label, cluster, resamples=300, order_by=score if in_cells else None)
    assert other.value == full.value
    width = full.high - full.low
    assert (other.low, other.high) == pytest.approx((full.low, full.high), abs=0.2 * width)


def test_cells_hold_all_images_once_and_their_middle_stands_for_them() -> None:
    rng = np.random.default_rng(0)
    score, group = rng.normal(0, 1, 1003), rng.integers(0, 3, 1003)
    rows, counts = cells(score, group, 100)
    assert counts.sum() == 1003
    assert (np.bincount(group[rows], counts) == np.bincount(group)).all()
    assert set(counts.tolist()) <= {3, 4}
    for each in range(3):
        of = score[rows[group[rows] == each]]
        assert (np.diff(of) > 0).all()
    few, ones = cells(score[:5], np.zeros(5, dtype=np.int64), 100)
    assert (sorted(few.tolist()), ones.tolist()) == ([0, 1, 2, 3, 4], [1] * 5)


def test_auroc_against_many_reals_is_auroc() -> None:
    score, label = overlapping(4000, 2)
    score = np.round(score, 2)  # with ties
    reals, fakes = np.sort(score[label == 0])[::-1], score[label == 1][:300]
    both = np.concatenate([reals, fakes])
    full = auroc.measure(both, np.repeat([0, 1], [len(reals), 300]), resamples=300)
    quick = auroc_against(reals, fakes, resamples=300)
    assert quick.value == pytest.approx(full.value, abs=1e-12)
    width = full.high - full.low
    assert (quick.low, quick.high) == pytest.approx((full.low, full.high), abs=0.15 * width)


def test_the_seed_decides_the_interval() -> None:
    score, label = overlapping(40, 3)
    assert auroc.measure(score, label, seed=1) == auroc.measure(score, label, seed=1)
    assert auroc.measure(score, label, seed=1) != auroc.measure(score, label, seed=2)


def test_drawing_whole_clusters_widens_the_interval_when_they_differ() -> None:
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 1.5, 8)
    cluster = np.repeat(np.arange(16), 50)
    label = (cluster >= 8).astype(np.int64)
    score = rng.normal(label + np.tile(shifts, 2)[cluster], 0.5)
    names = [f"group {at}" for at in cluster]
    images, groups = auroc.measure(score, label), auroc.measure(score, label, names)
    assert groups.value == images.value
    assert groups.high - groups.low > 3 * (images.high - images.low)


def test_one_cluster_has_a_value_but_no_interval() -> None:
    score, label = overlapping(10, 0)
    value = auroc.measure(score, label, ["a" if at else "b" for at in label])
    assert value.value == auroc(score, label)
    assert math.isnan(value.low)
    assert "one cluster" in value.reason
    assert str(value) == f"{value.value:.3f}"


def test_a_number_that_no_resample_defines_has_no_interval() -> None:
    strata = np.zeros(3, dtype=np.int64)

    def only_once(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.where((weight == 1).all(axis=1) & (len(weight) == 1), 1.0, np.nan)

    value = bootstrap(only_once, strata)
    assert value.value == 1.0
    assert "undefined in every resample" in value.reason


def test_values_become_valid_json() -> None:
    shown = json.dumps([Value(0.5, 0.4, 0.6, 9).to_json(), Value.undefined(2, "why").to_json()])
    assert json.loads(shown) == [
        {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9},
        {"value": None, "low": None, "high": None, "n": 2, "reason": "why"},
    ]
    assert str(Value.undefined(2, "why")) == "-"
    assert str(wilson(20, 20)) == "1.000 [0.839, 1.000]"


def test_a_thousand_resamples_of_three_thousand_images_take_seconds_not_minutes() -> None:
    start = time.process_time()
    auroc.measure(*overlapping(1500, 0))
    assert time.process_time() - start < 5.0


def test_auroc_against_reals_in_another_order_is_refused_and_its_interval_stays_in_range() -> None:
    with pytest.raises(ValueError, match="not sorted"):
        auroc_against(np.array([1.0, 2.0]), np.array([3.0]))
    ends = auroc_against(np.linspace(1, 0, 40), np.linspace(0.9, 2, 30))
    assert 0.0 <= ends.low <= ends.value <= ends.high <= 1.0


@pytest.mark.parametrize("reals", [100, 3000])
def test_few_reals_among_many_fakes_are_all_drawn(reals: int, monkeypatch: Any) -> None:
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1], [reals, 20_000])
    score = rng.normal(label * 1.5, 1)

    def kernel(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.asarray(tpr_at_fpr(0.01).kernel(score[rows], label[rows], weight))

    ours = bootstrap(kernel, label, resamples=400)
    monkeypatch.setattr(intervals, "MOST_DRAWN", 10**6)
    full = bootstrap(kernel, label, resamples=400)
    width = full.high - full.low
    assert (ours.low, ours.high) == pytest.approx((full.low, full.high), abs=0.2 * width)
