"""Training small autoencoders: they learn, reproducibly, and come back from disk as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gammascope.data.manifest import read_manifest
from gammascope.errors import MissingDataError
from gammascope.generation.autoencoder import round_trip
from gammascope.generation.small_autoencoder import Design, SmallAutoencoder
from gammascope.sample import Label
from gammascope.training.autoencoders import DESIGNS, USUAL, Schedule, fidelity, fit, save

DESIGN = Design(4, 4, "pixel_shuffle", "kl", width=4)


@pytest.fixture(scope="module")
def real(collection):
    return [entry for entry in read_manifest(collection) if entry.label is Label.REAL]


def test_training_brings_round_trips_closer_to_photos(real, tmp_path):
    from gammascope.imaging.decode import decode

    images = [decode(photo.path).image[:64, :64] for photo in real]
    short = fit(DESIGN, real, Schedule(steps=1, batch=2))
    long = fit(DESIGN, real, Schedule(steps=60, batch=4))
    assert fidelity(long, images) > fidelity(short, images) + 3
    save(long, tmp_path / "one")
    again = SmallAutoencoder.from_folder(tmp_path / "one")
    assert again.design == DESIGN
    assert np.array_equal(round_trip(images[0], again), round_trip(images[0], long))


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_own_alone(real):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    steps: list[tuple[int, int]] = []
    runs = [
        fit(
            DESIGN,
            real,
            Schedule(steps=2, batch=2, seed=seed),
            progress=lambda done, total, _: steps.append((done, total)),
        ).state_dict()
        for seed in (1, 1, 2)
    ]
    assert torch.rand(1) == expected
    assert steps[:2] == [(1, 2), (2, 2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_the_designs_differ_in_every_choice():
    made = [DESIGNS[name] for name in USUAL]
    assert {d.bottleneck for d in made} == {"plain", "kl", "vq"}
    assert {d.upsampling for d in made} == {"nearest", "bilinear", "transposed", "pixel_shuffle"}


def test_there_is_every_combination_by_a_name_that_says_it():
    assert len(set(DESIGNS.values())) == len(DESIGNS) == 36
    design = DESIGNS["vq-16-shuffle"]
    assert (design.bottleneck, design.stride, design.upsampling) == ("vq", 16, "pixel_shuffle")
    image = torch.zeros(1, 3, 32, 32)
    for design in DESIGNS.values():
        network = SmallAutoencoder(replace(design, width=2)).eval()
        assert network.decode(network.encode(image)).shape == image.shape


def test_no_photo_is_an_error():
    with pytest.raises(MissingDataError, match="No photo"):
        fit(DESIGN, [])
