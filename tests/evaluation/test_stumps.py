"""Small trees against scikit-learn, against brute force, and where there is nothing to learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from gammascope.evaluation.header_bias import Leaf, Split, answers, errors, gini, grow
from gammascope.evaluation.metrics import balanced_accuracy


def noisy(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Four features, of which two tell something, in unequal classes."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4))
    signal = values[:, 1] + np.abs(values[:, 3]) + rng.normal(size=n)
    return values, (signal > np.quantile(signal, 0.7)).astype(np.int64)


def score(node, values, label) -> float:
    return balanced_accuracy(0.5)(answers(node, values).astype(np.float64), label)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_gini_tree_answers_like_that_of_scikit_learn(seed, depth):
    values, label = noisy(seed)
    tree = DecisionTreeClassifier(max_depth=depth, class_weight="balanced", random_state=0)
    tree.fit(values, label)
    fresh, _ = noisy(seed + 100)
    for rows in (values, fresh):
        assert np.array_equal(answers(grow(values, label, depth), rows), tree.predict(rows) == 1)


@pytest.mark.parametrize("seed", range(3))
def test_no_stump_has_fewer_errors(seed):
    values, label = noisy(seed, 30)
    found = score(grow(values, label, 1, errors), values, label)
    best = max(
        balanced_accuracy(0.5)((side * values[:, at] > side * threshold).astype(float), label)
        for at in range(4)
        for threshold in values[:, at]
        for side in (1, -1)
    )
    assert found == pytest.approx(best)
    sklearns = DecisionTreeClassifier(max_depth=1, class_weight="balanced").fit(values, label)
    assert found >= balanced_accuracy(0.5)(sklearns.predict(values).astype(float), label)


def test_the_order_of_rows_does_not_matter():
    values, label = noisy(0)
    values = values.round(1)  # with ties
    shuffled = np.random.default_rng(1).permutation(len(label))
    for impurity in (errors, gini):
        tree = grow(values, label, 3, impurity)
        assert tree == grow(values[shuffled], label[shuffled], 3, impurity)


def test_thresholds_lie_halfway_and_ties_go_to_the_first_feature():
    values = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [5.0, 50.0]])
    tree = grow(values, np.array([0, 0, 1, 1]), 1, errors)
    assert tree == Split(0, 3.0, Leaf(fake=False), Leaf(fake=True))


def test_neighbouring_floats_are_still_divided():
    values = np.array([[1.0], [np.nextafter(1.0, 2.0)]])
    assert answers(grow(values, np.array([1, 0]), 1), values).tolist() == [True, False]


def test_features_that_say_nothing_give_a_leaf():
    label = np.array([0, 0, 0, 1])
    assert isinstance(grow(np.ones((4, 2)), label, 3), Leaf)
    assert isinstance(grow(np.ones((4, 0)), label, 3), Leaf)


def test_a_rare_label_weighs_as_much_as_a_common_one():
    values = np.r_[np.zeros(99), np.ones(11)][:, None]
    label = np.r_[np.zeros(99), np.zeros(6), np.ones(5)].astype(np.int64)
    assert score(grow(values, label, 1, errors), values, label) > 0.95


@pytest.mark.parametrize(
    ("values", "label", "message"),
    [
        ([[np.nan], [1.0]], [0, 1], "NaN"),
        ([[0.0], [1.0]], [0, 0], "2 real and 0 fake"),
        ([[0.0], [1.0]], [1, 1], "0 real and 2 fake"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(values, label, message):
    with pytest.raises(ValueError, match=message):
        grow(np.array(values), np.array(label), 1)
