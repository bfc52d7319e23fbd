"""Bi-level weights: both gradients agree, the network is left as it was, and what helps comes to count more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gammascope.detectors.blades import BilevelWeights, Weighting
from gammascope.errors import RecipeError
from gammascope.prediction import Batch


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3)).double()


def batch(seed: int, count: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, 1, 1, generator=generator, dtype=torch.float64)
    return Batch(pixels, torch.zeros(count).long())


def both(inner: Batch, outer: Batch) -> Batch:
    """One batch, whose halves are these."""
    return Batch(torch.cat([inner.pixels, outer.pixels]), torch.cat([inner.label, outer.label]))


def terms_of(net: nn.Module, *, random: bool = False):
    """One useful task, its adversary, and one that has little to do with them."""

    def terms(some: Batch) -> dict[str, Tensor]:
        x = some.pixels[:, :, 0, 0]
        out = net(x)
        if random:
            out = out + 0.1 * torch.randn_like(out)
        wanted = x[:, 0] - 0.5 * x[:, 1]
        return {
            "goal": (out[:, 0] - wanted).square().mean(),
            "useful": (out[:, 0] - wanted - 0.05 * x[:, 2]).square().mean(),
            "adverse": (out[:, 0] + wanted).square().mean(),
            "other": (out[:, 1:].sum(1) - x[:, 2]).square().mean(),
        }

    return terms


def gradients(mode: str, *, step: float = 0.05, decay: float = 0.01) -> dict[str, Tensor]:
    net = network()
    weights = BilevelWeights("goal", Weighting(gradient=mode))
    return weights.gradients(net, terms_of(net), (batch(1), batch(2)), step=step, decay=decay)


def test_exact_and_finite_differences_agree():
    exact, difference = gradients("exact"), gradients("finite_diff")
    assert exact.keys() == difference.keys()
    for name, value in exact.items():
        torch.testing.assert_close(difference[name], value, rtol=1e-3, atol=1e-9)
        assert value.abs() > 1e-6


def test_the_gradient_is_that_of_the_proxy_after_the_step():
    """Against the definition: change a weight a little, take the step, look at the proxy."""
    step, decay = 0.05, 0.01
    inner, outer = batch(1), batch(2)

    def after(changed: str, by: float) -> float:
        net = network()
        found = terms_of(net)(inner)
        total = torch.stack([(1 + by * (n == changed)) * v for n, v in found.items()]).sum()
        slopes = torch.autograd.grad(total, list(net.parameters()), allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(net.parameters(), slopes, strict=True):
                own = torch.zeros_like(parameter) if slope is None else slope
                parameter.sub_(step * (own + decay * parameter))
        return float(terms_of(net)(outer)["goal"].detach())

    for name, value in gradients("exact", step=step, decay=decay).items():
        expected = (after(name, 1e-5) - after(name, -1e-5)) / 2e-5
        assert float(value) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("mode", ["exact", "finite_diff"])
def test_the_network_is_left_as_it_was(mode):
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    weights = BilevelWeights("goal", Weighting(gradient=mode))
    weights.update(net, terms_of(net, random=True), both(batch(1), batch(2)), step=0.1, decay=0.01)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training


def test_the_step_is_for_the_first_half():
    net = network()
    weights = BilevelWeights("goal", Weighting())
    left = weights.update(net, terms_of(net), both(batch(1), batch(2)), step=0.1)
    assert weights.parts == 2
    assert torch.equal(left.pixels, batch(1).pixels)


def test_the_network_is_left_as_it_was_after_an_error():
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RecipeError, match=r"No loss term 'gaol'.*there are goal, useful"):
        BilevelWeights("gaol", Weighting()).update(
            net, terms_of(net), both(batch(1), batch(2)), step=0.1
        )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("mode", ["exact", "finite_diff"])
def test_what_helps_comes_to_count_more_than_what_harms(mode):
    net = network()
    weights = BilevelWeights("goal", Weighting(rate=0.01, gradient=mode))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02)
    terms = terms_of(net)
    for index in range(200):
        weights.update(net, terms, both(batch(2 * index), batch(2 * index + 1)), step=0.02)
        found = terms(batch(2 * index))
        optimiser.zero_grad()
        torch.stack(
            [weights.of(name).detach() * value for name, value in found.items()]
        ).sum().backward()
        optimiser.step()
    assert float(weights.of("useful")) > float(weights.of("adverse")) + 0.2


def test_random_terms_are_evaluated_with_the_same_draws():
    """Otherwise the noise, and not the difference, would be measured."""
    net = network()
    found = []
    for mode in ("exact", "finite_diff"):
        weights = BilevelWeights("goal", Weighting(gradient=mode))
        torch.manual_seed(3)
        terms = terms_of(net, random=True)
        found.append(weights.gradients(net, terms, (batch(1), batch(2)), step=0.05))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-2, atol=1e-8)


def test_before_the_first_update_every_term_counts_fully():
    assert float(BilevelWeights("goal", Weighting()).of("anything")) == 1


def test_a_floor_keeps_weights_from_becoming_negative():
    net = network()
    free, held = (
        BilevelWeights("goal", Weighting(rate=2.0)),
        BilevelWeights("goal", Weighting(rate=2.0, floor=0.0)),
    )
    for weights in (free, held):
        weights.update(net, terms_of(net), both(batch(1), batch(2)), step=0.05)
    assert float(free.of("adverse")) < 0
    assert float(held.of("adverse")) == 0


def test_a_state_goes_on_where_it_stopped():
    net = network()
    whole, first, second = (BilevelWeights("goal", Weighting(rate=0.1)) for _ in range(3))
    second.load_state_dict(first.state_dict())
    assert second.names == []
    for index, weights in enumerate((whole, first)):
        for number in range(2 - index):
            weights.update(net, terms_of(net), both(batch(number), batch(9)), step=0.05)
    second.load_state_dict(first.state_dict())
    second.update(net, terms_of(net), both(batch(1), batch(9)), step=0.05)
    assert torch.equal(second.values, whole.values)
    assert second.names == whole.names
