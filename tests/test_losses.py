"""Loss terms against their formulas, and what they must not react to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from gammascope import losses


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


ONES = torch.ones(2)


def test_label_bce_is_scikit_learns_log_loss():
    logit, label = 3 * normal(50), (uniform(50) > 0.4).long()
    expected = log_loss(label.numpy(), logit.double().sigmoid().numpy())
    assert float(losses.label_bce(logit, label)) == pytest.approx(expected, rel=1e-5)


def test_label_bce_of_half_precision_is_computed_in_full():
    value = losses.label_bce(torch.tensor([20.0], dtype=torch.bfloat16), torch.tensor([0]))
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(20, rel=1e-6)


def test_the_target_of_a_cell_is_the_share_that_is_covered():
    mask = (uniform(2, 12, 12) > 0.6).float()
    target = losses.at_grid(mask, 3, 4)
    assert target.shape == (2, 3, 4)
    for row in range(3):
        for column in range(4):
            cell = mask[:, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3]
            torch.testing.assert_close(target[:, row, column], cell.mean((1, 2)))


def test_a_target_at_full_resolution_is_the_mask():
    mask = (uniform(2, 5, 7) > 0.5).float()
    assert torch.equal(losses.at_grid(mask, 5, 7), mask)


def test_mask_bce_is_the_cross_entropy_of_soft_targets():
    logits, target = normal(2, 3, 4), uniform(2, 3, 4, seed=1)
    p = logits.double().sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert float(losses.mask_bce(logits, target, ONES)) == pytest.approx(float(expected), rel=1e-5)


def test_mask_bce_is_least_at_the_covered_share():
    target = torch.full((1, 2, 2), 0.3)
    logit = torch.full((1, 2, 2), 0.3).logit().requires_grad_()
    losses.mask_bce(logit, target, torch.ones(1)).backward()
    assert logit.grad.abs().max() < 1e-6


def test_mask_dice_is_its_formula():
    logits, target = normal(2, 6, 6), (uniform(2, 6, 6, seed=1) > 0.5).float()
    p, m = logits.sigmoid().numpy(), target.numpy()
    each = [
        1 - (2 * (a * b).sum() + 1) / ((a**2).sum() + (b**2).sum() + 1)
        for a, b in zip(p, m, strict=True)
    ]
    assert float(losses.mask_dice(logits, target, ONES)) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_perfect_mask_has_no_dice_loss():
    target = torch.zeros(2, 8, 8)
    target[:, :4] = 1
    assert float(losses.mask_dice(200 * target - 100, target, ONES)) == pytest.approx(0, abs=1e-6)
    assert float(losses.mask_dice(100 - 200 * target, target, ONES)) > 0.95


@pytest.mark.parametrize(
    ("cells", "counts"),
    [(0, False), (8, False), (9, True), (400, True), (1591, True), (1592, False), (1600, False)],
)
def test_dice_ignores_constant_and_tiny_masks(cells, counts):
    """Of 40 x 40 cells: 0.5 % are 8 cells and 99.5 % are 1592, neither of which counts."""
    target = torch.zeros(1, 1600)
    target[:, :cells] = 1
    logits = normal(1, 40, 40).requires_grad_()
    value = losses.mask_dice(logits, target.reshape(1, 40, 40), torch.ones(1))
    value.backward()
    assert (float(value.detach()) > 0) == counts
    assert bool(logits.grad.any()) == counts


def test_dice_needs_eight_cells_in_a_small_grid():
    for cells in (7, 8):
        target = torch.zeros(1, 64)
        target[:, :cells] = 1
        value = losses.mask_dice(normal(1, 8, 8), target.reshape(1, 8, 8), torch.ones(1))
        assert (float(value) > 0) == (cells == 8)


def test_dice_is_averaged_over_trusted_samples_with_guarded_ones_counted_as_zero():
    """The specification's sum_i v_i Dice_i / sum_i v_i, in which a guarded Dice_i is 0."""
    target = torch.zeros(3, 8, 8)
    target[0, :4] = 1
    logits = normal(3, 8, 8)
    alone = losses.mask_dice(logits[:1], target[:1], torch.ones(1))
    weight = torch.tensor([1.0, 1.0, 0.0])
    assert float(losses.mask_dice(logits, target, weight)) == pytest.approx(float(alone) / 2)


@pytest.mark.parametrize("term", [losses.mask_bce, losses.mask_dice])
def test_untrusted_samples_do_not_count(term):
    logits, target = normal(3, 6, 6), (uniform(3, 6, 6) > 0.5).float()
    weight = torch.tensor([1.0, 0.0, 1.0])
    trusted = weight.bool()
    expected = term(logits[trusted], target[trusted], torch.ones(2))
    torch.testing.assert_close(term(logits, target, weight), expected)
    nothing = term(logits, target, torch.zeros(3))
    assert float(nothing) == 0


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    return logits.softmax(1).double().logit().float()


def test_pixel_cross_entropy_is_that_of_the_softmax():
    logits = normal(2, 3, 4, 5)
    classes = torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    target = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.cross_entropy(logits, classes)
    found = losses.pixel_cross_entropy(log_odds(logits), target, ONES)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@given(
    value=st.floats(-1e4, 1e4, width=32),
    share=st.floats(0, 1, width=32),
    weight=st.floats(0, 1, width=32),
)
def test_all_terms_stay_finite_and_not_negative(value, share, weight):
    logits, target = torch.full((1, 4, 4), value), torch.full((1, 4, 4), share)
    weights = torch.tensor([weight])
    for term in (losses.mask_bce, losses.mask_dice):
        result = float(term(logits, target, weights))
        assert np.isfinite(result)
        assert result >= -1e-6


def contrastive_oracle(embeddings: np.ndarray, label: np.ndarray, temperature: float) -> float:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    values = []
    for i in range(len(unit)):
        others = [j for j in range(len(unit)) if j != i]
        partners = [j for j in others if label[j] == label[i]]
        if not partners:
            continue
        total = sum(np.exp(unit[i] @ unit[j] / temperature) for j in others)
        shares = [np.log(np.exp(unit[i] @ unit[j] / temperature) / total) for j in partners]
        values.append(-np.mean(shares))
    return float(np.mean(values))


def test_contrast_is_its_formula():
    embeddings, label = normal(9, 5), torch.tensor([0, 1, 0, 1, 1, 0, 0, 0, 2])
    value = losses.supervised_contrastive(embeddings, label, temperature=0.3)
    expected = contrastive_oracle(embeddings.double().numpy(), label.numpy(), 0.3)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_contrast_falls_when_partners_meet():
    embeddings, label = normal(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    apart = losses.supervised_contrastive(embeddings, label, temperature=0.1)
    means = torch.stack([embeddings[label == index].mean(0) for index in (0, 1)])[label]
    together = losses.supervised_contrastive(0.5 * (embeddings + means), label, temperature=0.1)
    assert together < apart


@pytest.mark.parametrize("label", [[0], [0, 1], [0, 1, 2]])
def test_views_without_partners_contrast_nothing(label):
    embeddings = normal(len(label), 4).requires_grad_()
    value = losses.supervised_contrastive(embeddings, torch.tensor(label), temperature=0.1)
    value.backward()
    assert float(value.detach()) == 0
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_ranking_is_the_cross_entropy_of_neighbours():
    score, value = normal(4), torch.tensor([3.0, 1.0, 1.0, 2.0])
    p = torch.distributions.Normal(0.0, 1.0).cdf(score - score.roll(-1))
    target = torch.tensor([1.0, 1.0, 0.0, 0.0])  # the tie counts as more
    expected = torch.nn.functional.binary_cross_entropy(p, target)
    torch.testing.assert_close(losses.ranking_bce(score, value), expected)
    undecided = torch.nn.functional.binary_cross_entropy(p, torch.tensor([1.0, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(losses.ranking_bce(score, value, tie=0.5), undecided)


def test_ranking_is_finite_where_it_is_certain_and_wrong():
    score = torch.tensor([40.0, -40.0]).requires_grad_()
    value = losses.ranking_bce(score, torch.tensor([1.0, 2.0]))
    value.backward()
    assert torch.isfinite(value)
    assert score.grad is not None
    assert torch.isfinite(score.grad).all()


def test_pairs_of_which_one_is_unknown_rank_nothing():
    nan = float("nan")
    score = normal(4)
    value = losses.ranking_bce(score, torch.tensor([1.0, 2.0, nan, nan]))
    expected = -torch.special.log_ndtr(score[1] - score[0])
    torch.testing.assert_close(value, expected)
    assert float(losses.ranking_bce(score, torch.full((4,), nan))) == 0


def test_unknown_classes_count_for_nothing():
    logits, nan = normal(4, 3), float("nan")
    value = losses.class_cross_entropy(logits, torch.tensor([2.0, nan, 0.0, nan]))
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([2, 0]))
    torch.testing.assert_close(value, expected)
    assert float(losses.class_cross_entropy(logits, torch.full((4,), nan))) == 0


def test_fidelity_is_nothing_where_both_agree_and_symmetric():
    for certain in (0.0, 1.0):
        p = torch.tensor([certain])
        assert float(losses.fidelity(p, p)) == pytest.approx(0, abs=2e-4)
    p, target = uniform(9), uniform(9, seed=1)
    torch.testing.assert_close(losses.fidelity(p, target), losses.fidelity(target, p))
    torch.testing.assert_close(losses.fidelity(p, target), losses.fidelity(1 - p, 1 - target))
    assert float(losses.fidelity(torch.tensor([0.0]), torch.tensor([1.0]))) > 0.99


def test_ranking_fidelity_is_its_formula_over_known_pairs():
    level, nan = normal(4), float("nan")
    value = torch.tensor([1.0, 3.0, 3.0, nan])
    terms = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        p = 0.5 * (1 + torch.erf((level[i] - level[j]) / (2**0.5 * 0.5)))
        g = 0.5 * (np.sign(float(value[i] - value[j])) + 1)
        terms.append(1 - (p * g + 1e-8).sqrt() - ((1 - p) * (1 - g) + 1e-8).sqrt())
    found = losses.ranking_fidelity(level, value, sigma=0.5)
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=1e-4, atol=1e-6)
    assert float(losses.ranking_fidelity(level, torch.full((4,), nan), sigma=0.5)) == 0


def test_focus_lowers_what_is_known_well():
    logits, value = 2 * normal(5, 3), torch.tensor([0.0, 1.0, 2.0, float("nan"), 0.0])
    plain = losses.class_fidelity(logits, value)
    p = logits.softmax(1)[[0, 1, 2, 4], [0, 1, 2, 0]]
    torch.testing.assert_close(plain, (1 - p.sqrt()).mean(), rtol=1e-4, atol=1e-6)
    focal = losses.class_fidelity(logits, value, gamma=2.0)
    torch.testing.assert_close(
        focal, ((1 - p).square() * (1 - p.sqrt())).mean(), rtol=1e-4, atol=1e-6
    )
    assert focal < plain
