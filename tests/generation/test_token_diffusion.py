import numpy as np
import pytest
import torch

from gammascope.generation.masked_autoregression import TokenDiffusion

TOLD = torch.eye(3)  # two classes, and nothing asked for


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def taught():
    """A diffusion that was taught, for a moment, two classes of points, side by side and with much overlap."""
    torch.manual_seed(0)
    head = TokenDiffusion(token=2, told=3, width=32, layers=2)
    optimiser = torch.optim.Adam(head.parameters(), 4e-3)
    for _ in range(300):
        label = torch.randint(2, (256,))
        points = 0.5 * torch.randn(256, 2)
        points[:, 0] += label - 0.5
        shown = torch.where(torch.rand(256) < 0.2, 2, label)
        error, bound = head.terms(points, TOLD[shown])
        optimiser.zero_grad()
        (error.mean() + bound.mean()).backward()
        optimiser.step()
    return head.eval()


def drawn(head, label, guidance, count=256):
    told = TOLD[label].expand(count, -1)
    return head.draw(told, TOLD[2].expand(count, -1), guidance, 25, rng(), bound=3.0)


def right(head, guidance):
    """Share of points on their class's side."""
    first, second = (drawn(head, label, guidance)[:, 0] for label in (0, 1))
    return float(torch.cat([first < 0, second > 0]).float().mean())


def test_guidance_makes_classes_easier_to_tell(taught):
    plain, guided = right(taught, 1.0), right(taught, 3.0)
    assert 0.7 < plain < 0.95
    assert guided > plain + 0.05


def test_guidance_of_1_is_the_class_alone(taught):
    told, free = TOLD[[0, 1]], TOLD[[2, 2]]
    alone = taught.draw(told, None, 1.0, 5, rng())
    assert torch.equal(alone, taught.draw(told, free, 1.0, 5, rng()))
    assert not torch.equal(alone, taught.draw(told, free, 2.0, 5, rng()))


def test_points_are_drawn_as_they_were_taught(taught):
    points = drawn(taught, 2, 1.0)
    assert points.mean(0).abs().max() < 0.2
    assert 0.5 < points[:, 0].std() < 0.9  # both classes: 0.71
    assert 0.35 < points[:, 1].std() < 0.65  # 0.5


def test_errors_are_near_1_before_anything_is_learnt_and_the_bound_teaches_variances_alone():
    torch.manual_seed(0)
    head = TokenDiffusion(token=2, told=3, width=8, layers=1)
    error, bound = head.terms(torch.randn(400, 2), TOLD[torch.randint(3, (400,))])
    assert error.shape == bound.shape == (400,)
    assert error.mean().item() == pytest.approx(1, abs=0.1)
    bound.mean().backward()
    last = head.net.final_layer.linear.weight.grad
    assert last is not None
    assert torch.equal(last[:2], torch.zeros(2, 8))  # rows of the noise


def test_a_bound_keeps_what_an_untaught_network_would_blow_up():
    torch.manual_seed(0)
    head = TokenDiffusion(token=2, told=3, width=8, layers=1)
    free = head.draw(TOLD, None, 1.0, 10, rng())
    kept = head.draw(TOLD, None, 1.0, 10, rng(), bound=1.0)
    assert free.abs().max() > 10
    assert kept.abs().max() <= 1.0
