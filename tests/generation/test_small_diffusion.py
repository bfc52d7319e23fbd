import dataclasses

import numpy as np
import pytest
import torch

from gammascope.errors import RecipeError
from gammascope.generation import base
from gammascope.generation.small_diffusion import GENERATOR, Config


@pytest.fixture(scope="module")
def network():
    """A tiny network that was taught one dull colour for a moment."""
    torch.manual_seed(0)
    network = base.build("small_diffusion", dataclasses.replace(GENERATOR.tiny, steps=8))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    colour = torch.tensor([0.9, 0.5, 0.1])[None, :, None, None]
    shown = base.Shown(colour.expand(16, 3, 16, 16), torch.full((16,), -1))
    for _ in range(150):
        loss = GENERATOR.stages[0].terms(network, shown)["velocity"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def test_samples_resemble_what_was_taught(network):
    picture = network.sample(None, (16, 16), np.random.default_rng(0))
    assert np.abs(picture.mean((0, 1)) - [229.5, 127.5, 25.5]).max() < 40


def test_an_edit_of_strength_0_is_the_photo_and_grows_with_strength(network):
    photo = np.random.default_rng(1).integers(0, 256, (19, 21, 3), dtype=np.uint8)
    made = {
        s: network.edit(photo, "", s, np.random.default_rng(0)).astype(float)
        for s in (0.0, 0.3, 0.9)
    }
    np.testing.assert_array_equal(made[0.0], photo)
    near, far = (np.abs(made[s] - photo).mean() for s in (0.3, 0.9))
    assert 0 < near < far


def test_a_critic_is_obeyed(network):
    photo = np.full((16, 16, 3), 128, np.uint8)
    bright, dark = (
        network.guided(
            photo, lambda x, sign=sign: sign * x.mean((1, 2, 3)), np.random.default_rng(0)
        )
        for sign in (-1, 1)
    )
    assert bright.mean() > dark.mean()


def test_guidance_of_1_is_the_class_alone(network):
    strong, plain = (
        base.build("small_diffusion", dataclasses.replace(network.config, guidance=g))
        for g in (2.0, 1.0)
    )
    for each in (strong, plain):
        each.load_state_dict(network.state_dict())
    at = np.random.default_rng
    assert (strong.sample("cat", (16, 16), at(0)) != plain.sample("cat", (16, 16), at(0))).any()
    np.testing.assert_array_equal(
        strong.sample(None, (16, 16), at(0)), plain.sample(None, (16, 16), at(0))
    )


@pytest.mark.parametrize(
    "wrong", [{"width": 6}, {"px": 60}, {"steps": 0}, {"halvings": 0}], ids=str
)
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(RecipeError):
        Config(**wrong)


def test_what_is_too_small_or_too_strong_is_refused(network):
    photo = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(RecipeError, match=r"expected 0\.\.1"):
        network.edit(photo, "", 1.5, np.random.default_rng(0))
    with pytest.raises(RecipeError, match="px on each side"):
        network.sample(None, (2, 16), np.random.default_rng(0))
