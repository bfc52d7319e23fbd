"""Twins: aligned with their photo, and made in many ways."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gammascope.data.edits import TwinLaw


class Pooling:
    """The cheapest autoencoder: means of 4 x 4 pixels, and back."""

    stride = 4
    device = torch.device("cpu")

    def encode(self, pixels: Tensor) -> Tensor:
        return functional.avg_pool2d(pixels, 4)

    def decode(self, latent: Tensor) -> Tensor:
        return functional.interpolate(latent.float(), scale_factor=4, mode="bilinear").clamp(0, 1)


def test_a_twin_shows_its_photo_pixel_by_pixel(photos):
    photo = np.ascontiguousarray(photos["cat"][:70, :90])
    twin = TwinLaw()(photo, Pooling(), np.random.default_rng(1))
    one, other = photo.astype(float), twin.astype(float)
    assert one.shape == other.shape
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
    shifted = np.corrcoef(one[:, 8:].ravel(), other[:, :-8].ravel())[0, 1]
    assert shifted < np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert not np.array_equal(one, other)


def test_the_law_varies_what_is_learnt(photos):
    law = TwinLaw()
    photo = np.ascontiguousarray(photos["cat"][:64, :64])
    made = [law(photo, Pooling(), np.random.default_rng(seed)) for seed in range(12)]
    assert all(twin.shape == photo.shape and twin.dtype == np.uint8 for twin in made)
    assert len({twin.tobytes() for twin in made}) > 4
    plain = TwinLaw(rescaled=0.0, noised=0.0, half_precision=0.0)
    same = [plain(photo, Pooling(), np.random.default_rng(seed)) for seed in range(3)]
    assert len({twin.tobytes() for twin in same}) == 1
