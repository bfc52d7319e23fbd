"""Logistic regression: the optimum that scikit-learn finds, and nothing less."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gammascope.errors import MissingDataError, RecipeError
from gammascope.networks.fitted import fit_logistic, log_loss


def views(count: int = 400, width: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator) * torch.logspace(-2, 2, width) + 5
    lean = (x - 5) @ torch.linspace(-1, 1, width).div(torch.logspace(-2, 2, width))
    y = (lean + torch.randn(count, generator=generator) > 0).long()
    return x, y


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_it_is_the_solution_of_scikit_learn(penalty):
    x, y = views()
    found = fit_logistic(x, y, penalty)
    scaled = ((x.double() - x.double().mean(0)) / x.double().std(0, correction=0)).numpy()
    oracle = LogisticRegression(C=1 / (penalty * len(y)), tol=1e-10, max_iter=10_000)
    oracle.fit(scaled, y.numpy())
    expected = torch.from_numpy(oracle.decision_function(scaled))
    torch.testing.assert_close(found.logits(x), expected, atol=2e-4, rtol=2e-4)


def test_no_neighbour_is_better():
    x, y = views()
    penalty = 1e-3
    found = fit_logistic(x, y, penalty)
    spread = x.double().std(0, correction=0)

    def objective(weight: torch.Tensor, bias: torch.Tensor) -> float:
        logits = x.double() @ weight + bias
        return log_loss(logits, y) + penalty / 2 * float((weight * spread).square().sum())

    best = objective(found.weight, found.bias)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        step = 1e-3 * torch.randn(len(found.weight), generator=generator) / spread
        shift = -step @ x.double().mean(0)  # the bias that keeps the mean logit
        assert objective(found.weight + step, found.bias + shift) > best


def test_a_column_that_is_trusted_half_is_penalised_four_times_as_much():
    x, y = views()
    trust = torch.ones(x.shape[1])
    trust[0] = 0.5
    penalty = 1e-2
    found = fit_logistic(x, y, penalty, trust)
    # The same objective in other words: a narrower column under one penalty.
    spread, mean = x.double().std(0, correction=0), x.double().mean(0)
    scaled = ((x.double() - mean) / spread * trust).numpy()
    oracle = LogisticRegression(C=1 / (penalty * len(y)), tol=1e-10, max_iter=10_000)
    oracle.fit(scaled, y.numpy())
    expected = torch.from_numpy(oracle.decision_function(scaled))
    torch.testing.assert_close(found.logits(x), expected, atol=2e-4, rtol=2e-4)


def test_one_penalty_means_the_same_for_features_of_any_scale():
    x, y = views()
    plain, stretched = fit_logistic(x, y, 0.1), fit_logistic(1000 * x - 7, y, 0.1)
    torch.testing.assert_close(
        plain.logits(x), stretched.logits(1000 * x - 7), atol=1e-3, rtol=1e-3
    )


def test_columns_that_never_change_weigh_nothing():
    x, y = views()
    with_constant = torch.cat([x, torch.full((len(x), 1), 0.3)], 1)
    found = fit_logistic(with_constant, y, 0.1)
    assert found.weight[-1] == 0
    torch.testing.assert_close(found.logits(with_constant), fit_logistic(x, y, 0.1).logits(x))


def test_classes_that_can_be_divided_have_an_optimum_too():
    x = torch.linspace(-1, 1, 50)[:, None]
    y = (x[:, 0] > 0).long()
    found = fit_logistic(x, y, 1e-4)
    assert torch.equal((found.logits(x) > 0).long(), y)


@pytest.mark.parametrize(("label", "word"), [(0, "real"), (1, "generated")])
def test_one_class_is_refused(label, word):
    x, y = views()
    with pytest.raises(MissingDataError, match=f"are {word}"):
        fit_logistic(x, torch.full_like(y, label), 1.0)


def test_broken_features_and_penalties_are_refused():
    x, y = views()
    with pytest.raises(RecipeError, match="more than 0"):
        fit_logistic(x, y, 0.0)
    x[3, 2] = torch.nan
    with pytest.raises(MissingDataError, match="not finite"):
        fit_logistic(x, y, 1.0)
