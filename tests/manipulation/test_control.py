from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from gammascope.manipulation import IdentitySeam
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.regions import Poses

PHOTO = skimage.data.astronaut()[:200, 60:300]
HARD = Seam(feather_share=0.0, poisson_share=0.0)


def psnr(one, other) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def test_a_control_shows_what_the_photo_shows():
    rng = np.random.default_rng(0)
    control = IdentitySeam(poses=Poses(exact_share=0.0), seam=Seam(poisson_share=0.0))
    for _ in range(20):
        made = control(PHOTO, rng)
        changed = (made.image != PHOTO).any(-1)
        assert changed.any()
        # A shift by one pixel would cost far more: it leaves 20 dB.
        assert psnr(made.image[changed], PHOTO[changed]) > 25
        assert made.kind is None


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_a_control_without_resampling_changes_nothing(mirrored):
    control = IdentitySeam(poses=Poses(mirrored_share=mirrored, exact_share=1.0), seam=HARD)
    made = control(PHOTO, np.random.default_rng(0))
    assert np.array_equal(made.image, PHOTO)
