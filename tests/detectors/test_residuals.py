"""The spatial rich model's kernels: thirty, each blind to flat areas, and where they should be."""

from __future__ import annotations

import torch

from gammascope.detectors.sdaie import HighPass, srm_kernels


def test_thirty_kernels_that_each_sum_to_zero():
    kernels = srm_kernels()
    assert kernels.shape == (30, 5, 5)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.zeros(30))
    assert len({tuple(kernel.flatten().tolist()) for kernel in kernels}) == 30


def test_the_first_and_the_last_are_those_of_the_table():
    kernels = srm_kernels()
    assert kernels[0, 2, 2] == -1
    assert kernels[0, 1, 1] == 1  # north-west
    assert kernels[7, 3, 3] == 1  # south-east
    # Half a difference on both sides of the centre, from the second order on.
    assert kernels[9, :, 2].tolist() == [0, 0.5, -1, 0.5, 0]
    assert torch.allclose(kernels[13, :, 2], torch.tensor([-1.0, 3, -3, 1, 0]) / 3)
    square = torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4
    assert torch.equal(kernels[28, 1:4, 1:4], square)
    assert kernels[29, 2, 2] == -1


def test_edges_are_halves_of_the_squares():
    kernels = srm_kernels()
    for first, square in ((20, kernels[28]), (24, kernels[29])):
        top, right, bottom, left = kernels[first : first + 4]
        assert torch.equal(top[:3], square[:3])
        assert not top[3:].any()
        assert torch.equal(bottom, top.flip(0))
        assert torch.equal(left[:, :3], square[:, :3])
        assert torch.equal(right, left.flip(1))


def test_orders_are_blind_to_what_they_predict():
    """A flat picture leaves nothing; a ramp nothing of the second order, a parabola nothing of the third."""
    kernels = srm_kernels()
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    ramp = 3 * x - 2 * y
    assert (kernels[:8] * ramp).sum((1, 2)).abs().min() > 0.5
    torch.testing.assert_close((kernels[8:] * ramp).sum((1, 2))[:4], torch.zeros(4))
    parabola = x.square() + y.square()
    torch.testing.assert_close((kernels[12:20] * parabola).sum((1, 2)), torch.zeros(8))


def test_colours_are_filtered_apart():
    filters = HighPass()
    pixels = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    residuals = filters(pixels)
    assert residuals.shape == (2, 90, 9, 8)
    alone = pixels.clone()
    alone[:, [0, 2]] = 0
    seen = filters(alone)
    torch.testing.assert_close(seen[:, 30:60], residuals[:, 30:60])
    assert not seen[:, :30].any()
    assert not seen[:, 60:].any()
    assert not list(filters.parameters())
    assert float(sum(b.numel() for b in filters.buffers())) == 750
