"""Figures of validation against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from gammascope.prediction import Batch, Prediction
from gammascope.training.validation import summarise


def pair(
    scores: list[float], truth: list[int], mask: torch.Tensor | None = None, logits=None
) -> tuple[Prediction, Batch]:
    count = len(truth)
    masks = {} if mask is None else {"edited": mask}
    prediction = Prediction(
        torch.zeros(count),
        {"generated": torch.tensor(scores)},
        {} if logits is None else {"edited": logits},
    )
    batch = Batch(
        torch.zeros(count, 3, 8, 8), torch.tensor(truth), {"generated": torch.tensor(truth)}, masks
    )
    return prediction, batch


answers = st.lists(
    st.tuples(st.integers(-5, 5).map(float), st.integers(0, 1)), min_size=2, max_size=40
)


@given(rows=answers, cut=st.integers(1, 39))
def test_answers_are_scored_as_scikit_learn_does(rows, cut):
    """Integers, so that ties are frequent; in two batches of any size."""
    scores, truth = [row[0] for row in rows], [row[1] for row in rows]
    pieces = [slice(0, cut), slice(cut, None)] if cut < len(rows) else [slice(None)]
    figures = summarise([pair(scores[piece], truth[piece]) for piece in pieces])
    if len(set(truth)) == 1:
        assert figures == {}
        return
    assert figures["auroc_generated"] == pytest.approx(roc_auc_score(truth, scores))
    expected = balanced_accuracy_score(truth, np.array(scores) > 0)
    assert figures["balanced_generated"] == pytest.approx(expected)


def test_masks_are_scored_cell_by_cell_over_all_batches():
    generator = torch.Generator().manual_seed(0)
    pairs, expected_truth, expected_marks = [], [], []
    for count in (3, 2):
        cells = torch.rand(count, 4, 4, generator=generator) > 0.7
        mask = cells.repeat_interleave(2, 1).repeat_interleave(2, 2).float()
        logits = torch.randn(count, 4, 4, generator=generator)
        pairs.append(pair([0.0] * count, [1] * count, mask, logits))
        expected_truth.append(cells.flatten())
        expected_marks.append((logits > 0).flatten())
    expected = f1_score(torch.cat(expected_truth), torch.cat(expected_marks))
    assert summarise(pairs)["f1_edited"] == pytest.approx(expected)


def test_a_cell_counts_from_half_of_its_pixels():
    mask = torch.zeros(1, 8, 8)
    mask[0, :2, :1] = 1  # Half of the first cell of 2 x 2 pixels.
    mask[0, 4, 4] = 1  # A quarter of another.
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, 0, 0] = 1
    assert summarise([pair([0.0], [1], mask, logits)])["f1_edited"] == 1.0


def test_masks_nobody_drew_are_not_scored():
    logits = torch.zeros(1, 4, 4)
    assert summarise([pair([0.0], [1], None, logits)]) == {}


def test_views_of_which_nothing_is_known_do_not_count():
    scores, truth = [2.0, -1.0, 1.0, -3.0], [1, 0, -1, -1]
    mask = torch.zeros(4, 8, 8)
    mask[0] = mask[2] = 1
    prediction, batch = pair(scores, truth, mask, logits=torch.full((4, 8, 8), -1.0))
    prediction.masks["edited"][0] = 1.0
    known = replace(batch, weight={"edited": torch.tensor([1.0, 1.0, 0.0, 0.0])})
    figures = summarise([(prediction, known)])
    assert figures["auroc_generated"] == figures["balanced_generated"] == 1.0
    assert figures["f1_edited"] == 1.0
    assert summarise([(prediction, batch)])["f1_edited"] < 1.0
