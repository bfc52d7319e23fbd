"""FerretNet: its published size, and the medians that it sees pictures without."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch

from gammascope.detectors.ferretnet import Config, build, medians
from gammascope.errors import RecipeError


def test_the_published_size():
    """1.06 million parameters, as its authors count them."""
    with torch.device("meta"):
        network = build(Config())
    assert sum(p.numel() for p in network.parameters()) == 1_057_777


@pytest.mark.parametrize("window", [3, 5])
def test_medians_are_those_of_the_neighbours_and_a_zero(window):
    pixels = torch.randn(2, 3, 9, 12)

    def median(values: np.ndarray) -> float:
        values[len(values) // 2] = 0
        return float(np.median(values))

    expected = [
        [
            scipy.ndimage.generic_filter(plane, median, window, mode="constant", cval=0.0)
            for plane in picture
        ]
        for picture in pixels.numpy()
    ]
    np.testing.assert_allclose(medians(pixels, window).numpy(), np.array(expected), atol=1e-7)


@pytest.mark.parametrize(
    "changes", [{"window": 2}, {"window": 1}, {"depths": ()}, {"depths": (1, 0)}]
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(RecipeError, match="expected an odd window"):
        build(Config(**changes))
