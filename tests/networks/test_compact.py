"""The compact backbone: size, losslessness, odd sizes."""

from __future__ import annotations

import pytest
import torch

from gammascope.networks.compact import CompactBackbone, CompactConfig, Halve

SMALL = CompactConfig(widths=(4, 8, 12), depths=(1, 1, 1), fused=12, fused_depth=1, token=16)


def small() -> CompactBackbone:
    torch.manual_seed(0)
    return CompactBackbone(SMALL).eval()


def test_the_standard_sizes_fit_into_the_package():
    backbone = CompactBackbone(CompactConfig())
    assert sum(p.numel() for p in backbone.parameters()) <= 2_500_000


def test_sizes_are_those_it_declares():
    backbone = small()
    features = backbone(torch.randn(2, 3, 32, 32))
    assert features.token.shape == (2, backbone.token_channels)
    assert features.grid.shape == (2, backbone.grid_channels, 8, 8)
    assert backbone.stride == 4


def test_halving_moves_every_pixel_and_loses_none():
    halve = Halve(3, 12)
    torch.nn.init.dirac_(halve.mix[1].weight)  # Mixes nothing, so that the move itself shows.
    pixels = torch.randn(1, 3, 10, 14)
    moved = halve.mix[1](halve.mix[0](pixels))
    assert moved.shape == (1, 12, 5, 7)
    assert torch.equal(torch.nn.functional.pixel_shuffle(moved, 2), pixels)


def test_every_pixel_reaches_the_grid():
    """A strided or pooled stage would ignore some pixels, or hear only the loudest of them."""
    backbone = small()
    pixels = torch.randn(1, 3, 16, 16, requires_grad=True)
    backbone(pixels).grid.square().sum().backward()
    assert pixels.grad is not None
    assert (pixels.grad.abs().amax((0, 1)) > 0).all()


def test_the_first_layer_sees_what_a_smoothing_filter_would_hide():
    """A chessboard of one grey level has no low frequencies at all; the grid must still show it."""
    backbone = small()
    plain = torch.zeros(1, 3, 32, 32)
    chessboard = (torch.arange(32)[:, None] + torch.arange(32)[None]) % 2 * 2.0 - 1
    grey_level = 1 / (255 * backbone.std[0])
    change = backbone(plain + grey_level * chessboard).grid - backbone(plain).grid
    assert change.abs().max() > 1e-3


def test_the_residual_is_the_distance_from_the_local_mean():
    backbone = small()
    pixels = torch.randn(1, 3, 9, 11)
    joined = backbone._with_residual(pixels)
    assert torch.equal(joined[:, :3], pixels)
    expected = pixels[0, 1, 4, 5] - pixels[0, 1, 3:6, 4:7].mean()
    torch.testing.assert_close(joined[0, 4, 4, 5], SMALL.residual_gain * expected)
    # Nothing is a trace where nothing varies, the border included.
    assert backbone._with_residual(torch.full((1, 3, 5, 5), 0.7))[:, 3:].abs().max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 33), (32, 32)])
def test_odd_sizes_work(size):
    features = small()(torch.randn(2, 3, *size))
    rows, columns = ((side + 3) // 4 for side in size)
    assert features.grid.shape == (2, 12, rows, columns)
    assert torch.isfinite(features.token).all()


def test_an_odd_border_repeats_the_last_row_and_column():
    """Padding with zeros would draw an edge that looks like an edit."""
    backbone = small()
    pixels = torch.randn(1, 3, 7, 7)
    halve = backbone.stages[1]
    assert isinstance(halve, Halve)
    channels = torch.nn.functional.pad(pixels, (0, 1, 0, 1), mode="replicate")
    wide = torch.cat([channels, channels[:, :1]], 1)
    torch.testing.assert_close(halve(wide[:, :, :7, :7]), halve(wide))


def test_a_flat_view_has_a_finite_gradient():
    """The spread of a flat channel is 0, where a plain square root has an infinite slope."""
    backbone = small()
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.zeros_(layer.weight)  # Nothing varies at all.
        if isinstance(layer, torch.nn.BatchNorm2d) and layer.affine:
            torch.nn.init.ones_(layer.bias)  # And nothing is switched off by its sign.
    pixels = torch.zeros(2, 3, 16, 16, requires_grad=True)
    backbone(pixels).token.sum().backward()
    assert pixels.grad is not None
    assert torch.isfinite(pixels.grad).all()


def test_half_precision_stays_near():
    backbone = small()
    pixels = torch.randn(2, 3, 32, 32)
    full = backbone(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        half = backbone(pixels)
    torch.testing.assert_close(half.token.float(), full.token, rtol=0.1, atol=0.1)


def test_widths_and_depths_must_match():
    with pytest.raises(ValueError, match="As many widths as depths"):
        CompactBackbone(CompactConfig(widths=(4, 8), depths=(1,)))
