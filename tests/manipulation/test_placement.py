from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from gammascope.manipulation.regions import Pose, Poses, Rectangle, box, extent, moved, placed

PHOTO = skimage.data.coffee()[:200, :240]
PIECE = box(Rectangle(60, 50, 120, 90), 200, 240)


def test_an_unturned_piece_keeps_its_pixel_values():
    picture, where = moved(PHOTO, PIECE, Pose(150.0, 120.0, cubic=True), (200, 240))
    around = Rectangle.around(where)
    assert (around.width, around.height) == (60, 40)
    assert np.array_equal(picture[where], PHOTO[PIECE])


def test_an_unturned_mirrored_piece_keeps_its_pixel_values():
    picture, where = moved(PHOTO, PIECE, Pose(150.0, 120.0, mirrored=True), (200, 240))
    flipped = PHOTO[50:90, 60:120][:, ::-1]
    assert np.array_equal(picture[where], flipped.reshape(-1, 3))


def test_a_quarter_turn_is_counter_clockwise():
    picture, where = moved(PHOTO, PIECE, Pose(119.5, 99.5, degrees=90.0), (200, 240))
    around = Rectangle.around(where)
    assert (around.width, around.height) == (40, 60)
    turned = np.rot90(PHOTO[50:90, 60:120])
    shown = picture[around.top : around.bottom, around.left : around.right]
    assert np.abs(shown.astype(int) - turned).max() <= 1


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.74, 0.76, 1.4])
def test_scaling_keeps_the_centre_and_the_content(scale):
    rows, columns = np.mgrid[:200, :240]
    ramp = np.stack([rows, columns, rows], -1).astype(np.uint8)
    picture, where = moved(ramp, PIECE, Pose(120.0, 100.0, scale=scale), (200, 240))
    around = Rectangle.around(where)
    assert around.width == pytest.approx(60 * scale, abs=1)
    assert around.height == pytest.approx(40 * scale, abs=1)
    assert (around.left + around.right - 1) / 2 == pytest.approx(120, abs=0.6)
    # The box's centre, (89.5, 69.5), must land on (120, 100), to a fraction of a pixel.
    assert picture[99:102, 119:122, 1].mean() == pytest.approx(89.5, abs=1)
    assert picture[99:102, 119:122, 0].mean() == pytest.approx(69.5, abs=1)


def test_strong_shrinking_averages():
    checks = (np.indices((200, 240)).sum(0) % 2 * 255).astype(np.uint8)
    picture, where = moved(
        np.stack([checks] * 3, -1), PIECE, Pose(120.0, 100.0, scale=0.25), (200, 240)
    )
    assert picture[where].std() < 10


def test_placed_pieces_lie_inside_the_frame():
    rng = np.random.default_rng(0)
    around = Rectangle.around(PIECE)
    for _ in range(100):
        pose = placed(Poses().draw(rng), around, (200, 240), rng)
        height, width = extent(pose, around)
        assert -0.5 <= pose.y + 0.5 - height / 2 <= 200 - height + 0.5
        assert -0.5 <= pose.x + 0.5 - width / 2 <= 240 - width + 0.5


def test_a_piece_larger_than_the_frame_is_centred():
    pose = placed(Pose(0.0, 0.0), Rectangle.around(PIECE), (20, 30), np.random.default_rng(0))
    assert (pose.y, pose.x) == (9.5, 14.5)


def test_poses_spread_over_their_ranges():
    rng = np.random.default_rng(1)
    poses = [Poses().draw(rng) for _ in range(400)]
    exact = [p for p in poses if p.scale == 1 and p.degrees == 0]
    turned = [p for p in poses if p.degrees != 0]
    assert 0.17 < len(exact) / 400 < 0.33
    assert 0.4 < np.mean([p.mirrored for p in poses]) < 0.6
    assert 0.7 <= min(p.scale for p in turned) < 0.75
    assert 1.3 < max(p.scale for p in turned) <= 1.4
    assert 17 < max(abs(p.degrees) for p in turned) <= 20


def test_a_piece_outside_the_frame_leaves_an_empty_mask():
    _, where = moved(PHOTO, PIECE, Pose(-500.0, 0.0), (200, 240))
    assert not where.any()
