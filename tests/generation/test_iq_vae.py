"""IQ-VAE: the coupling term, the Gumbel trick, its conditions, and known codes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from gammascope.errors import RecipeError
from gammascope.generation import base, iq_vae
from gammascope.generation.iq_vae import Config, sliced_gromov_wasserstein


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return base.build("iq_vae", iq_vae.GENERATOR.tiny).requires_grad_(requires_grad=False)


def points(count, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, width)))


def test_the_closed_form_is_the_double_sum():
    a, b = points(12, 1)[:, 0], points(12, 1, 1)[:, 0]
    a, b = a - a.mean(), b - b.mean()
    pairs = (a[:, None] - a).square() - (b[:, None] - b).square()
    torch.testing.assert_close(iq_vae._pair_cost(a[:, None], b[:, None])[0], pairs.square().mean())


def test_coupling_is_0_for_equal_sets_and_does_not_see_moves_scales_or_reflections():
    first, directions = points(30, 3), points(16, 3, 2)
    for other in (first.flip(0), first + 5, -first, 3 * first):
        cost = sliced_gromov_wasserstein(first, other, directions)
        torch.testing.assert_close(cost, torch.zeros_like(cost), atol=1e-9, rtol=0)
    stretched = first * torch.tensor([1.0, 1.0, 20.0])
    assert sliced_gromov_wasserstein(first, stretched, directions) > 0.01


def test_coupling_compares_spaces_of_different_width_and_teaches_both():
    first, second = points(20, 4).requires_grad_(), points(20, 2, 1).requires_grad_()
    sliced_gromov_wasserstein(first, second, points(8, 4, 3)).backward()
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.any()
    assert second.grad.any()


def test_sampled_codes_are_the_best_of_noisy_logits_and_carry_gradients():
    logits = points(5, 4).requires_grad_()
    uniform = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)).double()
    sampled = iq_vae.gumbel_sampled(logits, uniform, 0.5)
    noise = -torch.log(-torch.log(uniform))
    assert (sampled.argmax(-1) == (logits + noise).argmax(-1)).all()
    torch.testing.assert_close(sampled.sum(-1), torch.ones(5).double())
    (sampled @ torch.arange(4.0).double()).sum().backward()
    assert logits.grad is not None
    assert logits.grad.any()


def test_nothing_is_replaced_at_first_and_more_where_the_true_code_is_likely(network):
    tokens = torch.zeros(1, 16, dtype=torch.long)
    sure = torch.full((1, 16, 8), -20.0)
    sure[..., 0] = 20
    true = network.picture_code(torch.full((1, 16), 7))  # so that a replaced one differs
    shares = {}
    for steps in (0, 10**9):
        network.sampled_steps.fill_(steps)
        changed = [
            (iq_vae._mixed(network, sure, true, tokens) != true).any(-1).float().mean()
            for _ in range(40)
        ]
        shares[steps] = float(torch.stack(changed).mean())
    network.sampled_steps.zero_()
    assert shares[0] == 0
    assert abs(shares[10**9] - network.config.replaced) < 0.1


def test_each_code_is_predicted_from_those_before_it_alone(network):
    condition, tokens = torch.zeros(1, 16, dtype=torch.long), torch.arange(16)[None] % 8
    before = network.logits(condition, network.picture_code(tokens))
    tokens[0, 9] = 7 - tokens[0, 9]
    after = network.logits(condition, network.picture_code(tokens))
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).any()


def test_a_short_training_finds_which_condition_belongs_to_which_cell():
    torch.manual_seed(0)
    small = dataclasses.replace(
        iq_vae.GENERATOR.tiny, px=32, hidden=64, heads=4, layers=2, codes=32
    )
    network = base.build("iq_vae", small)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(200):
        same = torch.randint(small.codes // 2, (8, 64))
        logits = network.logits(same, network.picture_code(same))
        loss = functional.cross_entropy(logits.flatten(0, 1), same.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * math.log(small.codes // 2)


def test_drawing_one_by_one_sees_what_training_saw(network):
    """With one likeliest code, drawing is following the largest logit, which teacher forcing must confirm."""
    greedy = base.build("iq_vae", dataclasses.replace(network.config, likeliest=1))
    greedy.load_state_dict(network.state_dict())
    sheet = torch.rand(1, 5, 16, 16, generator=torch.Generator().manual_seed(1))
    tokens = greedy.drawn_tokens(sheet, None, np.random.default_rng(0))
    logits = greedy.logits(greedy.condition_tokens(sheet), greedy.picture_code(tokens))
    assert (logits.argmax(-1) == tokens).all()


def test_known_codes_are_kept_exactly(network):
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sheet = torch.zeros(1, 5, 16, 16)
    known = network.tokens(base.to_pixels(photo))[0]
    kept = torch.where(torch.arange(16) % 3 == 0, -1, known)
    drawn = network.drawn_tokens(sheet, kept, np.random.default_rng(0))[0]
    assert (drawn == known)[kept >= 0].all()
    # Nothing to fill: what comes back is the decoded photo.
    nothing = np.zeros((16, 16), bool)
    whole = network.inpaint(photo, nothing, np.random.default_rng(0))
    np.testing.assert_array_equal(whole, base.to_image(network.decoded(known[None])))


def test_conditions_are_edges_or_a_photo_with_a_hole_or_nothing():
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    chances = torch.full((3, 5), 0.5)
    chances[:, 0] = torch.tensor([0.1, 0.6, 0.95])
    edges, hole, nothing = iq_vae.sheets_for(pixels, chances)
    torch.testing.assert_close(edges[:1], iq_vae.edges_of(pixels[:1])[0])
    assert not edges[1:].any()
    assert 0 < (hole[4] == 0).float().mean() < 0.6
    torch.testing.assert_close(hole[1:4], pixels[1] * hole[4])
    assert not hole[0].any()
    assert not nothing.any()


def test_edges_stand_where_grey_changes():
    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:] = 1
    edges = iq_vae.edges_of(picture)[0, 0]
    assert (edges[:, 3:5] == 1).all()
    assert edges[:, [0, 1, 2, 5, 6, 7]].max() < 1e-3


def test_dead_codes_come_back_to_life(network):
    coder = base.build("iq_vae", network.config).pictures
    coder.codes.weight.data[:] = 100.0  # far from everything
    coder.codes.weight.data[0] = 0.0
    use = torch.full((8,), 0.001)
    cells = points(50, 4).float()
    iq_vae._revive(coder, cells, use)
    assert len(coder.nearest(cells[:, :, None, None]).unique()) > 4


@pytest.mark.parametrize(
    "wrong",
    [
        *({"px": 100}, {"px": 0}, {"stride": 0}, {"hidden": 10}, {"heads": 0}, {"codes": 1}),
        *({"replaced": 2.0}, {"rising": 0}, {"likeliest": 0}, {"temperature": 0.0}),
        *({"coupling": -1.0}, {"coupling": math.inf}),
    ],
    ids=str,
)
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(RecipeError, match="expected"):
        Config(**wrong)


def test_a_map_of_another_size_is_refused(network):
    with pytest.raises(RecipeError, match="was asked for"):
        network.sample(np.zeros((8, 8, 3), np.uint8), (16, 16), np.random.default_rng(0))
    with pytest.raises(RecipeError, match="knows no class"):
        network.sample("dog", (16, 16), np.random.default_rng(0))
