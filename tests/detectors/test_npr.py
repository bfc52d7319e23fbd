"""NPR: its published size, what it sees, and that it cannot see brightness."""

from __future__ import annotations

import torch
from torch.nn import functional

from gammascope.detectors.npr import Config, build, relations


def test_the_published_size():
    """1.44 million parameters, as its authors and others count them."""
    with torch.device("meta"):
        network = build(Config())
    assert sum(p.numel() for p in network.parameters()) == 1_437_761


def test_relations_are_a_picture_minus_itself_halved_and_doubled():
    pixels = torch.randn(2, 3, 6, 8)
    halved = functional.interpolate(pixels, scale_factor=0.5, mode="nearest")
    doubled = functional.interpolate(halved, scale_factor=2.0, mode="nearest")
    assert torch.equal(relations(pixels), pixels - doubled)
    assert relations(torch.randn(1, 3, 5, 7)).shape == (1, 3, 6, 8)


def test_brightness_of_flat_areas_is_invisible():
    network = build(Config(width=4, depths=(1, 1), size=32)).eval()
    dark, light = torch.full((1, 3, 32, 32), -1.0), torch.full((1, 3, 32, 32), 1.0)
    assert torch.equal(network(dark).logit, network(light).logit)
    assert not torch.equal(network(torch.randn(1, 3, 32, 32)).logit, network(dark).logit)
