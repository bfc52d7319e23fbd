"""Texture is measured where it is, and masks hide exactly as much as they should, where they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gammascope.detectors.mpft import hidden_pixels, kept_of, mask_of, shares, texture


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def oracle(patch: np.ndarray) -> float:
    pairs = ((0, 1), (1, 0), (1, 1), (1, -1))
    total = 0.0
    for down, right in pairs:
        steps = [
            abs(patch[y + down, x + right] - patch[y, x])
            for y in range(patch.shape[0] - down)
            for x in range(max(0, -right), patch.shape[1] - max(0, right))
        ]
        total += float(np.mean(steps))
    return total


def test_texture_is_the_mean_difference_of_neighbours_in_four_directions():
    grey = noise(1, 4, 4)
    assert float(texture(grey, 4)) == pytest.approx(oracle(grey[0].double().numpy()), rel=1e-5)


def test_texture_is_smoothed_over_neighbouring_patches_that_exist():
    grey = noise(1, 12, 12)
    alone = torch.tensor(
        [
            [oracle(grey[0, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].numpy()) for c in range(3)]
            for r in range(3)
        ]
    )
    found = texture(grey, 4)[0]
    assert float(found[1, 1]) == pytest.approx(float(alone.mean()), rel=1e-5)
    assert float(found[0, 0]) == pytest.approx(float(alone[:2, :2].mean()), rel=1e-5)


def test_edges_between_patches_are_no_texture():
    board = torch.arange(16.0).reshape(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
    assert not texture(board[None], 8).any()


@given(
    count=st.integers(1, 50),
    share=st.floats(0, 1),
    law=st.sampled_from(["texture", "random", "smooth"]),
    seed=st.integers(0, 99),
)
def test_exactly_the_share_is_hidden(count, share, law, seed):
    torch.manual_seed(seed)
    each = torch.tensor([share, 0.5, 0.0, 1.0])
    mask = mask_of(noise(4, count, seed=seed).abs(), each, law)
    expected = [math.floor(part * count + 1e-4) for part in each.tolist()]
    assert mask.sum(1).tolist() == expected


def test_three_tenths_of_ten_are_three():
    assert int(mask_of(noise(1, 10), torch.tensor([0.3]), "random").sum()) == 3


def test_the_most_textured_or_the_smoothest_go_first():
    strength = noise(3, 20).abs()
    share = torch.full((3,), 0.25)
    for law, sign in (("texture", -1), ("smooth", 1)):
        mask = mask_of(strength, share, law, noise=0.0)
        for row, hidden in zip(strength, mask, strict=True):
            assert set(hidden.nonzero().flatten().tolist()) == set(
                (sign * row).argsort()[:5].tolist()
            )


def test_noise_varies_the_pattern_and_keeps_the_tendency():
    torch.manual_seed(0)
    strength = torch.linspace(0, 1, 40).expand(200, 40)
    mask = mask_of(strength, torch.full((200,), 0.5), "texture", noise=0.3)
    assert len({tuple(row) for row in mask.tolist()}) > 100
    assert mask[:, 30:].float().mean() > 0.9
    assert mask[:, :10].float().mean() < 0.1


def test_random_masks_do_not_look_at_the_texture():
    torch.manual_seed(0)
    strength = torch.linspace(0, 1, 20).expand(2000, 20)
    often = mask_of(strength, torch.full((2000,), 0.4), "random").float().mean(0)
    assert (often - 0.4).abs().max() < 0.05


def test_hidden_patches_get_the_mean_colour_and_others_stay():
    pixels = noise(2, 3, 9, 8)
    mask = torch.tensor([[True, False, False, False], [False, False, False, True]])
    filled = hidden_pixels(pixels, mask, 4)
    mean = pixels.mean((2, 3))
    assert torch.equal(filled[0, :, :4, :4], mean[0][:, None, None].expand(3, 4, 4))
    assert torch.equal(filled[1, :, 4:8, 4:], mean[1][:, None, None].expand(3, 4, 4))
    assert torch.equal(filled[0, :, :, 4:], pixels[0, :, :, 4:])
    assert torch.equal(filled[:, :, 8], pixels[:, :, 8]), "what belongs to no patch is seen"


def test_what_is_kept_is_what_is_not_hidden():
    mask = torch.tensor([[True, False, False], [False, False, True]])
    assert kept_of(mask).tolist() == [[1, 2], [0, 1]]
    assert kept_of(torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0, 1, 2]]
    with pytest.raises(ValueError, match=r"hide \[0, 1\] patches"):
        kept_of(torch.tensor([[True, False], [False, False]]))


def test_shares_lie_in_their_range_or_are_nothing():
    torch.manual_seed(0)
    drawn = np.array(shares(4000, 0.2, 0.6, 0.7))
    assert (drawn > 0).mean() == pytest.approx(0.7, abs=0.03)
    some = drawn[drawn > 0]
    assert some.min() >= 0.2
    assert some.max() <= 0.6
    assert some.mean() == pytest.approx(0.4, abs=0.02)
