from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from gammascope.manipulation import Splicing
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.regions import Pieces, Poses, Rectangle
from gammascope.manipulation.splicing import Donor

PHOTO = skimage.data.astronaut()[:200, 60:300]
OTHER = skimage.data.coffee()
HARD = Seam(feather_share=0.0, poisson_share=0.0)


@pytest.mark.parametrize("donor_generated", [False, True])
@pytest.mark.parametrize("host_generated", [False, True])
def test_who_made_the_pixels_of_a_splice(donor_generated, host_generated):
    splice = Splicing(
        lambda _: Donor(OTHER, (), donor_generated), host_generated=host_generated, seam=HARD
    )
    made = splice(PHOTO, np.random.default_rng(0))
    assert (made.generated[made.edited] == donor_generated).all()
    assert (made.generated[~made.edited] == host_generated).all()
    assert np.array_equal(made.image[~made.edited], PHOTO[~made.edited])
    assert made.kind == "splicing"


def test_a_donors_object_is_cut_along_its_outline():
    rows, columns = np.mgrid[: OTHER.shape[0], : OTHER.shape[1]]
    thing = np.hypot(rows - 200, columns - 300) < 60
    red = np.zeros_like(OTHER)
    red[thing] = [255, 0, 0]
    splice = Splicing(
        lambda _: Donor(red, [thing]),
        pieces=Pieces(object_share=1.0),
        poses=Poses(exact_share=1.0),
        seam=HARD,
    )
    made = splice(PHOTO, np.random.default_rng(2))
    assert made.edited.sum() == thing.sum()
    assert (made.image[made.edited] == [255, 0, 0]).all()


@pytest.mark.parametrize("donor_size", [(16, 16), (60, 900), (1500, 1200)])
def test_pieces_of_any_donor_fit_the_host(donor_size):
    picture = np.random.default_rng(0).integers(0, 256, (*donor_size, 3), dtype=np.uint8)
    splice = Splicing(lambda _: Donor(picture))
    rng = np.random.default_rng(3)
    for _ in range(20):
        around = Rectangle.around(splice(PHOTO, rng).edited)
        assert around.height <= 0.83 * PHOTO.shape[0]
        assert around.width <= 0.83 * PHOTO.shape[1]


def test_small_donors_are_not_blown_up():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    splice = Splicing(lambda _: Donor(picture))
    rng = np.random.default_rng(4)
    for _ in range(20):
        around = Rectangle.around(splice(PHOTO, rng).edited)
        assert max(around.height, around.width) <= 2 * 16 * 0.6 * 1.4 + 2


def test_a_piece_that_would_cover_the_host_is_replaced_by_the_donors_middle():
    small = PHOTO[:16, :16]
    everything = np.ones(OTHER.shape[:2], dtype=bool)
    splice = Splicing(
        lambda _: Donor(OTHER, [everything]),
        pieces=Pieces(object_share=1.0, object_area=(0.0, 1.0)),
        poses=Poses(exact_share=1.0),
        seam=HARD,
        sides=(2.0, 2.0),
    )
    made = splice(small, np.random.default_rng(0))
    assert made.edited.sum() == 16
    assert np.array_equal(made.image[made.edited], OTHER[198:202, 298:302].reshape(-1, 3))
