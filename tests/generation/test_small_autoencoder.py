"""Small autoencoders: every design makes round trips, and files say how they are built."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import save_file

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.generation.autoencoder import Autoencoder, round_trip
from gammascope.generation.small_autoencoder import (
    FILE,
    Bottleneck,
    Design,
    SmallAutoencoder,
    Upsampling,
)

PHOTO = np.ascontiguousarray(skimage.data.astronaut()[:37, 60:113])


def network(seed: int = 0, **choices) -> SmallAutoencoder:
    torch.manual_seed(seed)
    return SmallAutoencoder(Design(**({"width": 4, "latent_channels": 3} | choices))).eval()


@pytest.mark.parametrize(
    ("upsampling", "bottleneck", "stride"),
    list(itertools.product(get_args(Upsampling), get_args(Bottleneck), (4, 8, 16))),
)
def test_every_design_keeps_an_images_size(upsampling, bottleneck, stride):
    autoencoder = network(upsampling=upsampling, bottleneck=bottleneck, stride=stride, codes=5)
    assert isinstance(autoencoder, Autoencoder)
    assert autoencoder.encode(torch.rand(1, 3, 32, 48)).shape == (1, 3, 32 // stride, 48 // stride)
    assert round_trip(PHOTO, autoencoder).shape == PHOTO.shape


@pytest.mark.parametrize("bottleneck", get_args(Bottleneck))
def test_nothing_is_random_in_evaluation(bottleneck):
    autoencoder = network(bottleneck=bottleneck)
    assert np.array_equal(round_trip(PHOTO, autoencoder), round_trip(PHOTO, autoencoder))


def test_gaussian_latents_are_sampled_in_training_only():
    autoencoder = network(bottleneck="kl").train()
    pixels = torch.rand(1, 3, 16, 16)
    assert not torch.equal(autoencoder.coded(pixels).latent, autoencoder.coded(pixels).latent)


def test_a_quantised_latent_holds_codes_only_and_decoding_rounds_to_them():
    autoencoder = network(bottleneck="vq", codes=5, latent_channels=2)
    assert autoencoder.codes is not None
    cells = autoencoder.encode(torch.rand(1, 3, 32, 32)).movedim(1, -1).reshape(-1, 2)
    assert torch.cdist(cells, autoencoder.codes.weight).min(1).values.max() < 1e-6
    code = autoencoder.codes.weight[3].reshape(1, 2, 1, 1)
    near = code + 1e-4 * torch.randn(1, 2, 1, 1)
    assert torch.allclose(autoencoder.decode(near), autoencoder.decode(code), atol=1e-6)


def test_quantising_lets_gradients_through_to_the_encoder():
    autoencoder = network(bottleneck="vq", codes=5).train()
    latent, penalty = autoencoder.coded(torch.rand(1, 3, 16, 16))
    (autoencoder.painted(latent).mean() + penalty).backward()
    assert all(p.grad is not None for p in autoencoder.parameters())
    assert autoencoder.down[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("choices", "named"), [({"stride": 6}, "stride=6"), ({"width": 0}, "width=0")]
)
def test_impossible_designs_are_refused(choices, named):
    with pytest.raises(RecipeError, match=named):
        Design(**choices)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match=FILE):
        SmallAutoencoder.from_folder(tmp_path)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(IncompatibleCheckpointError, match="no autoencoder of ours"):
        SmallAutoencoder.from_folder(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(IncompatibleCheckpointError, match="how it is built"):
        SmallAutoencoder.from_folder(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / FILE, {"gammascope.autoencoder": "{}"})
    with pytest.raises(IncompatibleCheckpointError, match="no autoencoder of ours"):
        SmallAutoencoder.from_folder(tmp_path)
