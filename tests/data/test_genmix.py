"""GenMix: the algebra of its mixes, its masks, and that both arms go one way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gammascope.data.policies import genmix
from gammascope.data.policies.base import Job
from gammascope.sample import Entry, Label

PHOTO = np.random.default_rng(0).integers(0, 256, (51, 64, 3), dtype=np.uint8)
OTHER = 255 - PHOTO


def rng(seed=0):
    return np.random.default_rng(seed)


def job(arm):
    return Job(0, arm, Entry(Path("photo.png"), Label.REAL), "", 0.5)


def test_a_mask_of_0_returns_the_photo_and_of_1_the_other():
    for level, expected in ((0, PHOTO), (1, OTHER)):
        mask = np.full(PHOTO.shape[:2], level, np.float32)
        np.testing.assert_array_equal(genmix.mix(PHOTO, OTHER, mask), expected)
    half = genmix.mix(PHOTO, OTHER, np.full(PHOTO.shape[:2], 0.5, np.float32))
    assert np.abs(half.astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(200, 301), (256, 256), (480, 640), (200, 600)])
@pytest.mark.parametrize("name", genmix.MASKS)
def test_masks_are_soft_and_cover_about_a_half(name, height, width):
    covered = [genmix.soft_mask(height, width, name, rng(seed)) for seed in range(40)]
    assert abs(np.mean([mask.mean() for mask in covered]) - 0.5) < 0.03
    for mask in covered:
        assert abs(mask.mean() - 0.5) < (0.15 if name == "round" else 0.01)
        assert mask.min() == 0
        assert mask.max() == 1
        assert ((mask > 0) & (mask < 1)).any()


def test_the_edit_is_within_the_disc_or_around_it():
    middles = [genmix.soft_mask(64, 64, "round", rng(seed))[32, 32] for seed in range(20)]
    assert set(middles) == {0, 1}


def test_outside_the_mask_a_mix_is_the_photo_where_no_fractal_lies_over_it(monkeypatch):
    monkeypatch.setattr(genmix, "FRACTAL_CHANCE", 0.0)
    for seed in range(8):
        made = genmix.finish(job("generated"), OTHER, PHOTO, rng(seed))
        np.testing.assert_array_equal(made.image[~made.generated], PHOTO[~made.generated])
        assert (made.image[made.generated] != PHOTO[made.generated]).any()
        np.testing.assert_array_equal(made.generated, made.edited)


def test_both_arms_have_the_same_mask_and_fractal(monkeypatch):
    monkeypatch.setattr(genmix, "FRACTAL_CHANCE", 1.0)
    for seed in range(8):
        fake = genmix.finish(job("generated"), OTHER, PHOTO, rng(seed))
        control = genmix.finish(job("control"), PHOTO, PHOTO, rng(seed))
        outside = ~fake.generated
        np.testing.assert_array_equal(fake.image[outside], control.image[outside])
        assert (fake.image[outside] != PHOTO[outside]).any()
        assert not control.generated.any()
        assert control.kind is None


def test_fractals_differ_and_are_not_flat():
    first, second = (genmix.fractal(64, 48, rng(seed)) for seed in (0, 1))
    assert first.shape == (64, 48, 3)
    assert first.std() > 5
    assert (first != second).any()
