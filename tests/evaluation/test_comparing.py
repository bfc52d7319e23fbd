"""Two detectors on the same images, against slow references and SciPy."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from gammascope.errors import MissingDataError
from gammascope.evaluation.comparing import compare, mcnemar, notes, pair
from gammascope.evaluation.score_table import ScoreTable


def table(logits: Any, label: Any, names: Any = None, error: Any = None) -> ScoreTable:
    n = len(label)
    texts = {name: np.full(n, "") for name in ("generator", "kind", "source")}
    return ScoreTable(
        texts
        | {
            "path": np.array(names or [f"{at}.png" for at in range(n)]),
            "label": np.asarray(label),
            "logit_generated": np.asarray(logits, dtype=np.float64),
            "error": np.full(n, "") if error is None else np.asarray(error),
        }
    )


@pytest.fixture(scope="module")
def two() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A detector, one that is a little better on the same images, and the truth."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 150)
    hardness = rng.normal(0, 1.5, 300)  # shared: what is hard for one is hard for the other
    first = 1.5 * label - 0.75 + hardness + rng.normal(0, 0.4, 300)
    second = 2.0 * label - 1.0 + hardness + rng.normal(0, 0.4, 300)
    return first, second, label


def test_numbers_are_those_of_scikit_learn_and_the_difference_theirs(two):
    first, second, label = two
    found = compare(pair(table(first, label), table(second, label), "generated"), (0.1, -0.2))
    areas = roc_auc_score(label, first), roc_auc_score(label, second)
    assert [v.value for v in found.auroc] == pytest.approx([*areas, areas[1] - areas[0]])
    shares = [
        balanced_accuracy_score(label, logits >= at)
        for logits, at in ((first, 0.1), (second, -0.2))
    ]
    values = [value.value for value in found.balanced_accuracy]
    assert values == pytest.approx([*shares, shares[1] - shares[0]])
    json.dumps(found.to_json(), allow_nan=False)


def test_the_interval_agrees_with_a_slow_paired_bootstrap(two):
    first, second, label = two
    found = compare(pair(table(first, label), table(second, label), "generated")).auroc[2]
    rng = np.random.default_rng(7)
    differences = []
    for _ in range(500):
        rows = np.r_[rng.integers(0, 150, 150), rng.integers(150, 300, 150)]
        areas = [roc_auc_score(label[rows], logits[rows]) for logits in (first, second)]
        differences.append(areas[1] - areas[0])
    low, high = np.percentile(differences, (2.5, 97.5))
    width = high - low
    assert found.low == pytest.approx(low, abs=0.2 * width)
    assert found.high == pytest.approx(high, abs=0.2 * width)


def test_pairing_sees_a_difference_that_separate_intervals_do_not(two):
    first, second, label = two
    one, other, difference = compare(
        pair(table(first, label), table(second, label), "generated")
    ).auroc
    assert other.low < one.high  # the intervals overlap
    assert difference.low > 0  # and still the second is better


def test_what_a_comparison_comes_to_is_said_in_words(two):
    first, second, label = two
    pairs = {"better": (first, second), "worse": (second, first), "same": (first, first)}
    said = {}
    for name, (one, other) in pairs.items():
        found = compare(pair(table(one, label), table(other, label), "generated"))
        said[name] = notes({("native", "generated"): found}).splitlines()
    assert said["better"][0] == "native, generated: the second ranks these images better."
    assert said["worse"][0] == "native, generated: the first ranks these images better."
    assert said["same"][0] == "native, generated: which ranks better may be chance."
    assert len(said["same"]) == 2
    few = [*range(10), *range(150, 160)]
    found = compare(
        pair(table(first[few], label[few]), table(second[few], label[few]), "generated")
    )
    assert "there are 10 pictures only" in notes({("native", "generated"): found})


def test_a_detector_does_not_differ_from_itself(two):
    first, _, label = two
    found = compare(pair(table(first, label), table(first, label), "generated"))
    assert found.auroc[2].value == found.auroc[2].low == found.auroc[2].high == 0.0
    assert found.mcnemar.p == 1.0


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_mcnemar_is_the_binomial_test_of_scipy(one, other, both):
    first = np.array([True] * one + [False] * other + [True] * both, dtype=np.bool_)
    second = np.array([False] * one + [True] * other + [True] * both, dtype=np.bool_)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (one, other)
    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert found.p == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_millions_does_not_overflow():
    first = np.arange(2_000_000) % 2 == 0
    second = ~first
    second[:6000] = False
    found = mcnemar(first, second)
    expected = binomtest(found.only_second, found.only_first + found.only_second).pvalue
    assert found.p == pytest.approx(expected, rel=1e-6)


def test_images_are_paired_by_path_whatever_their_order_and_the_rest_is_counted(two):
    first, second, label = two
    names = [f"{at}.png" for at in range(300)]
    order = np.random.default_rng(1).permutation(300)
    shuffled = table(second[order], label[order], [names[at] for at in order])
    error = np.where(np.arange(300) < 3, "broken", "")
    with_failures = table(np.where(np.arange(300) == 9, np.nan, first), label, names, error)
    pairs = pair(with_failures, shuffled, "generated")
    assert (len(pairs.truth), pairs.only_first, pairs.only_second) == (296, 0, 4)
    by_path = np.argsort(np.array(names)[[at for at in range(300) if at >= 3 and at != 9]])
    kept = np.array([at for at in range(300) if at >= 3 and at != 9])[by_path]
    np.testing.assert_array_equal(pairs.first, first[kept])
    np.testing.assert_array_equal(pairs.second, second[kept])


def test_long_paths_of_two_tables_are_paired_all(two):
    # NumPy stores long strings of two arrays apart, and its searchsorted mistakes one store for the other.
    first, second, label = two
    text = np.dtypes.StringDType()
    names = [f"collection/of/long/names/{at % 7}/photograph-{at:06d}.jpeg" for at in range(300)]
    one = ScoreTable({**table(first, label).columns, "path": np.array(names, dtype=text)})
    other = ScoreTable({**table(second, label).columns, "path": np.array(names, dtype=text)})
    pairs = pair(one.where(np.arange(300) % 5 > 0), other, "generated")
    assert (len(pairs.truth), pairs.only_second) == (240, 60)
    by_path = sorted((at for at in range(300) if at % 5), key=lambda at: names[at])
    np.testing.assert_array_equal(pairs.second, second[by_path])


def test_what_cannot_be_paired_is_refused_with_the_image():
    label = np.array([0, 1])
    one = table([0.0, 1.0], label, ["a.png", "b.png"])
    with pytest.raises(MissingDataError, match="no image in common"):
        pair(one, table([0.0, 1.0], label, ["c.png", "d.png"]), "generated")
    with pytest.raises(MissingDataError, match=r"truth about b\.png \(1 of 2 images\)"):
        pair(one, table([0.0, 1.0], [0, 0], ["a.png", "b.png"]), "generated")
    with pytest.raises(MissingDataError, match=r"a\.png is listed more than once"):
        pair(one, table([0.0, 1.0], label, ["a.png", "a.png"]), "generated")
    with pytest.raises(MissingDataError, match="no column 'logit_edited'"):
        pair(one, one, "edited")
    failed = table([np.nan, np.nan], label, ["a.png", "b.png"])
    with pytest.raises(MissingDataError, match="no image in common"):
        pair(one, failed, "generated")


def test_one_class_alone_has_no_difference_but_a_test():
    photos = table([-1.0, 1.0, -2.0], [0, 0, 0])
    found = compare(pair(photos, table([-1.0, -1.0, -2.0], [0, 0, 0]), "generated"))
    assert math.isnan(found.auroc[2].value)
    assert found.mcnemar.only_second == 1
