from __future__ import annotations

import numpy as np
import skimage.data

from gammascope.manipulation import CopyMove
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.copy_move import intersection_over_union
from gammascope.manipulation.regions import Pieces, Poses, Rectangle

PHOTO = skimage.data.astronaut()[:200, 60:300]
HARD = Seam(feather_share=0.0, poisson_share=0.0)


def test_an_exact_copy_shows_pixels_of_the_photo_elsewhere():
    plain = CopyMove(poses=Poses(mirrored_share=0.0, exact_share=1.0), seam=HARD)
    made = plain(PHOTO, np.random.default_rng(0))
    around = Rectangle.around(made.edited)
    piece = made.image[around.top : around.bottom, around.left : around.right]
    shape = made.edited[around.top : around.bottom, around.left : around.right]
    places = [
        (top, left)
        for top in range(PHOTO.shape[0] - around.height + 1)
        for left in range(PHOTO.shape[1] - around.width + 1)
        if np.array_equal(PHOTO[top, left + around.width // 2], piece[0, around.width // 2])
        and np.array_equal(
            PHOTO[top : top + around.height, left : left + around.width][shape], piece[shape]
        )
    ]
    assert len(places) == 1
    assert places != [(around.top, around.left)]


def test_source_and_destination_hardly_overlap():
    # An object in the middle that covers much of the photo: few destinations are far enough away.
    thing = np.zeros(PHOTO.shape[:2], dtype=bool)
    thing[60:140, 70:170] = True
    copy = CopyMove(pieces=Pieces(object_share=1.0))
    rng = np.random.default_rng(1)
    overlaps = [intersection_over_union(thing, copy(PHOTO, rng, [thing]).edited) for _ in range(40)]
    assert max(overlaps) < 0.3


def test_a_piece_that_cannot_move_far_enough_is_replaced_by_a_corner():
    thing = np.ones(PHOTO.shape[:2], dtype=bool)
    thing[:, :20] = False
    pieces = Pieces(object_share=1.0, object_area=(0.0, 1.0))
    made = CopyMove(pieces=pieces, seam=HARD)(PHOTO, np.random.default_rng(0), [thing])
    assert np.array_equal(made.image[-50:, -60:], PHOTO[:50, :60])
    assert made.edited.sum() == 50 * 60


def test_two_empty_masks_do_not_overlap():
    nothing = np.zeros((4, 4), dtype=bool)
    assert intersection_over_union(nothing, nothing) == 0
