"""Metrics against scikit-learn, and properties that hold for any table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.calibration import calibration_curve

from gammascope.evaluation import metrics
from gammascope.evaluation.metrics import PixelCounts, count_pixels, pixel_f1
from gammascope.sample import Label


def random_table(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes; odd seeds give many ties."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 300))
    label = np.r_[0, 1, rng.integers(0, 2, n)]
    score = rng.normal(label * 1.2, 1.0)
    return (np.round(score * 2) / 2 if seed % 2 else score), label


tables = st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([r[0] for r in rows], dtype=np.float64), np.array([r[1] for r in rows])


@pytest.mark.parametrize("seed", range(12))
def test_ranking_metrics_agree_with_scikit_learn(seed: Any) -> None:
    score, label = random_table(seed)
    assert metrics.auroc(score, label) == pytest.approx(oracle.roc_auc_score(label, score))
    assert metrics.average_precision(score, label) == pytest.approx(
        oracle.average_precision_score(label, score)
    )
    false_rate, true_rate, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    ours = metrics.roc_points(score, label)
    np.testing.assert_allclose(ours[0], false_rate)
    np.testing.assert_allclose(ours[1], true_rate)
    for rate in (0.0, 0.01, 0.05, 0.3):
        best = true_rate[false_rate <= rate + 1e-12].max()
        assert metrics.tpr_at_fpr(rate)(score, label) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(0, 12, 2))
def test_eer_is_where_the_roc_curve_meets_the_diagonal(seed: Any) -> None:
    score, label = random_table(seed)
    false_rate, true_rate, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    at = brentq(lambda x: 1.0 - x - interp1d(false_rate, true_rate)(x), 0.0, 1.0)
    # Vertical steps have several heights at one false-alarm rate: interp1d takes one of them.
    assert metrics.eer(score, label) == pytest.approx(at, abs=1.0 / np.count_nonzero(label == 0))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1.0])
def test_accuracies_agree_with_scikit_learn(seed: Any, threshold: Any) -> None:
    score, label = random_table(seed)
    called = (score >= threshold).astype(int)
    real, fake = oracle.recall_score(label, called, average=None, labels=[0, 1])
    assert metrics.accuracy(threshold)(score, label) == pytest.approx(
        oracle.accuracy_score(label, called)
    )
    assert metrics.real_accuracy(threshold)(score, label) == pytest.approx(real)
    assert metrics.fake_accuracy(threshold)(score, label) == pytest.approx(fake)
    assert metrics.balanced_accuracy(threshold)(score, label) == pytest.approx((real + fake) / 2)


@pytest.mark.parametrize("seed", range(6))
def test_calibration_metrics_agree_with_scikit_learn(seed: Any) -> None:
    logits, label = random_table(2 * seed)
    probability = 1 / (1 + np.exp(-logits))
    assert metrics.brier(probability, label) == pytest.approx(
        oracle.brier_score_loss(label, probability)
    )
    found, stated = calibration_curve(label, probability, n_bins=10)
    place = np.searchsorted(np.linspace(0, 1, 11)[1:-1], probability)
    share = np.bincount(place, minlength=10) / len(label)
    expected = float(np.sum(share[share > 0] * np.abs(found - stated)))
    assert metrics.ece(10)(probability, label) == pytest.approx(expected)


def test_ece_is_zero_for_a_calibrated_forecast_and_one_for_a_confidently_wrong_one() -> None:
    assert metrics.ece()(np.full(4, 0.25), np.array([0, 0, 0, 1])) == pytest.approx(0.0)
    assert metrics.ece()(np.array([0.0, 1.0]), np.array([1, 0])) == pytest.approx(1.0)


@given(tables, st.randoms())
def test_the_order_of_images_does_not_matter(rows: Any, random: Any) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)
    for metric in (metrics.auroc, metrics.average_precision, metrics.eer, metrics.accuracy(0.5)):
        assert metric(*columns(rows)) == pytest.approx(metric(*columns(shuffled)))


@given(tables)
def test_a_monotone_change_of_scores_keeps_the_ranking_metrics(rows: Any) -> None:
    score, label = columns(rows)
    for metric in (metrics.auroc, metrics.average_precision, metrics.eer):
        assert metric(np.tanh(score / 9) * 3 - 1, label) == pytest.approx(metric(score, label))


@given(tables)
def test_swapping_the_labels_mirrors_the_ranking(rows: Any) -> None:
    score, label = columns(rows)
    assert metrics.auroc(score, 1 - label) == pytest.approx(1 - metrics.auroc(score, label))
    # Turning both around is the same detector seen from the other side.
    assert metrics.eer(-score, 1 - label) == pytest.approx(metrics.eer(score, label))


@given(tables, st.integers(0, 2**31))
def test_a_weight_counts_like_repeated_images(rows: Any, seed: Any) -> None:
    score, label = columns(rows)
    times = np.random.default_rng(seed).integers(0, 4, len(score))
    times[[label.argmin(), label.argmax()]] = 1
    repeated = np.repeat(score, times), np.repeat(label, times)
    for metric in (
        metrics.auroc,
        metrics.average_precision,
        metrics.eer,
        metrics.tpr_at_fpr(0.2),
        metrics.balanced_accuracy(0.5),
    ):
        weighted = metric.kernel(score, label, times[None].astype(np.float64))[0]
        assert weighted == pytest.approx(metric(*repeated))


def test_infinite_scores_rank_and_tie_like_others() -> None:
    score, label = np.array([np.inf, np.inf, -np.inf, 0.0]), np.array([1, 0, 0, 1])
    assert metrics.auroc(score, label) == pytest.approx((0.5 + 1 + 0 + 1) / 4)


@pytest.mark.parametrize("only", list(Label))
def test_one_class_alone_gives_nan_and_the_reason(only: Any) -> None:
    score, label = np.array([0.1, 0.9]), np.full(2, int(only))
    assert math.isnan(metrics.auroc(score, label))
    value = metrics.auroc.measure(score, label)
    assert math.isnan(value.value)
    assert value.reason == ("no fake image" if only is Label.REAL else "no real image")
    assert value.to_json()["value"] is None
    # Accuracy on that class is still defined, and has an interval.
    defined = (metrics.real_accuracy if only is Label.REAL else metrics.fake_accuracy)(0.5)
    assert defined.measure(score, label).value == 0.5


def test_no_image_at_all_is_undefined_not_a_crash() -> None:
    nothing = np.zeros(0), np.zeros(0, dtype=np.int64)
    for metric in (metrics.auroc, metrics.accuracy(0.5), metrics.ece(), metrics.brier):
        assert math.isnan(metric(*nothing))
        assert metric.measure(*nothing).n == 0


@pytest.mark.parametrize(
    ("score", "label", "message"),
    [
        ([0.1, np.nan], [0, 1], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [1, 2], r"Labels \[1, 2\]"),
    ],
)
def test_bad_input_is_refused_with_what_was_seen(score: Any, label: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.auroc(np.array(score), np.array(label))


def test_calibration_metrics_refuse_logits() -> None:
    for metric in (metrics.brier, metrics.ece()):
        with pytest.raises(ValueError, match="expected probabilities"):
            metric(np.array([-1.0, 3.0]), np.array([0, 1]))


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rate=1\.0"):
        metrics.tpr_at_fpr(1.0)
    with pytest.raises(ValueError, match="bins=0"):
        metrics.ece(0)


def test_pixel_counts_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((20, 30)) > 0.7
    probability = np.clip(truth * 0.3 + rng.random(truth.shape) * 0.7, 0, 1)
    tp, fp, fn, tn = count_pixels(probability, truth)
    expected = oracle.confusion_matrix(truth.ravel(), (probability > 0.5).ravel())
    assert [[tn, fp], [fn, tp]] == expected.tolist()
    counts = PixelCounts(*(np.array([float(n)]) for n in (tp, fp, fn, tn)))
    marked = (probability > 0.5).ravel()
    assert pixel_f1(counts).value == pytest.approx(oracle.f1_score(truth.ravel(), marked))


def test_a_detector_does_not_gain_by_not_looking() -> None:
    truth = np.ones((2, 2), dtype=np.bool_)
    half_seen = np.array([[0.9, np.nan], [0.9, np.nan]])
    assert count_pixels(half_seen, truth) == (2, 0, 2, 0)
    assert count_pixels(half_seen, truth, skip_unexamined=True) == (2, 0, 0, 0)


def test_pixel_f1_leaves_out_images_with_nothing_to_find_and_nothing_marked() -> None:
    counts = PixelCounts(*np.array([[4, 0, 0], [0, 0, 0], [4, 0, 0], [8, 16, 16]], dtype=float))
    value = pixel_f1(counts)
    assert value.value == pytest.approx(2 / 3)
    assert value.n == 1
    assert pixel_f1(PixelCounts(*np.zeros((4, 2)))).reason == "no image with pixels to count"


def test_pixel_f1_over_pixels_weighs_large_images_more() -> None:
    counts = PixelCounts(*np.array([[1, 90], [1, 5], [0, 5], [8, 0]], dtype=float))
    assert pixel_f1(counts, "image").value == pytest.approx((2 / 3 + 180 / 190) / 2)
    assert pixel_f1(counts, "pixel").value == pytest.approx(182 / (182 + 11))
    assert metrics.false_mark_share(counts).value == pytest.approx((1 / 9 + 1) / 2)
