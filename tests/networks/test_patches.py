"""Patches: cut and laid out without loss, measured by their spectra, chosen by rank."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as entropy_of

from gammascope.networks import frequency


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), side=st.integers(1, 5))
def test_laying_out_reverses_cutting(rows, columns, side):
    view = noise(2, 3, rows * side, columns * side)
    tiles = frequency.cut(view, side)
    assert tiles.shape == (2, rows * columns, 3, side, side)
    assert torch.equal(frequency.lay_out(tiles, columns), view)


def test_patches_come_row_by_row_and_leftovers_are_ignored():
    view = torch.arange(7 * 9.0).reshape(1, 1, 7, 9)
    tiles = frequency.cut(view, 3)
    assert tiles.shape[1] == 6
    assert torch.equal(tiles[0, 4, 0], view[0, 0, 3:6, 3:6])


def test_entropy_is_that_of_the_magnitudes_without_the_constant():
    grey = noise(1, 5, 8, 8)
    found = frequency.spectral_entropy(grey)
    for index in range(5):
        magnitude = torch.fft.fft2(grey[0, index].double()).abs().flatten()[1:]
        assert float(found[0, index]) == pytest.approx(entropy_of(magnitude.numpy()), rel=1e-5)


def test_flat_wave_and_noise_rank_in_this_order():
    wave = torch.sin(2 * math.pi * torch.arange(32) / 8).expand(32, 32)
    grey = torch.stack([torch.full((32, 32), 0.7), wave, noise(32, 32)])[None]
    flat, tone, white = frequency.spectral_entropy(grey)[0].tolist()
    assert flat == 0
    assert tone == pytest.approx(math.log(2), abs=0.1)  # one wave: two lines of the spectrum
    assert 0.9 * math.log(1023) < white < math.log(1023)


@pytest.mark.parametrize(("gain", "offset"), [(0.1, 0.0), (1.0, 9.0), (3.0, -1.0)])
def test_brightness_and_contrast_do_not_change_the_entropy(gain, offset):
    grey = noise(1, 4, 16, 16)
    torch.testing.assert_close(
        frequency.spectral_entropy(gain * grey + offset),
        frequency.spectral_entropy(grey),
        rtol=1e-4,
        atol=1e-4,
    )


def test_luma_undoes_the_scale_of_normalisation():
    rgb = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    std = (0.2, 0.3, 0.4)
    scaled = (rgb - 0.5) / torch.tensor(std)[:, None, None]
    difference = frequency.luma(scaled, std) - frequency.luma(rgb, (1.0, 1.0, 1.0))
    torch.testing.assert_close(difference, difference[:, :1, :1].expand_as(difference))


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_the_lowest_and_the_highest_are_chosen_in_their_order(there, count, seed):
    values = noise(2, there, seed=seed)
    chosen = frequency.extremes(values, count)
    assert chosen.shape == (2, count)
    for row, places in zip(values, chosen.tolist(), strict=True):
        if there < count:
            assert places == [index % there for index in range(count)]
            continue
        assert places == sorted(set(places))
        ranked = row.argsort().tolist()
        expected = ranked[: math.ceil(count / 2)] + ranked[there - count // 2 :]
        assert set(places) == set(expected)


def test_equal_values_are_chosen_in_the_same_way_every_time():
    values = torch.zeros(1, 9)
    assert torch.equal(frequency.extremes(values, 4), frequency.extremes(values, 4))


def test_taking_returns_the_chosen_of_each_view():
    tiles = noise(2, 5, 3, 2, 2)
    chosen = torch.tensor([[4, 0], [1, 1]])
    taken = frequency.take(tiles, chosen)
    assert torch.equal(taken[0, 0], tiles[0, 4])
    assert torch.equal(taken[1, 1], tiles[1, 1])
