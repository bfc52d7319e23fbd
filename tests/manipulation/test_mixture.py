from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from gammascope.manipulation import CopyMove, IdentitySeam, Inpainting, Mixture
from gammascope.manipulation.inpainting import Telea

PHOTO = skimage.data.astronaut()[:200, 60:300]


def test_parts_are_drawn_by_weight():
    mixture = Mixture(((3.0, Inpainting(Telea())), (1.0, CopyMove()), (0.0, IdentitySeam())))
    rng = np.random.default_rng(0)
    small = PHOTO[:64, :64]
    kinds = [mixture(small, rng).kind for _ in range(200)]
    assert 0.65 < kinds.count("inpainting_classical") / 200 < 0.85
    assert kinds.count(None) == 0


@pytest.mark.parametrize("weights", [(), (-1.0, 2.0), (0.0, 0.0)])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="expected none below 0"):
        Mixture(tuple((weight, CopyMove()) for weight in weights))
