from __future__ import annotations

import numpy as np
import pytest

from gammascope.manipulation.regions import (
    Pieces,
    Rectangle,
    Regions,
    dilated,
    jittered_ellipse,
    strokes,
    usable,
)

FRAME = (240, 320)


def blob(top: int, left: int, height: int, width: int, frame: tuple[int, int] = FRAME):
    mask = np.zeros(frame, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


@pytest.mark.parametrize("shape", ["polygon", "box", "strokes"])
def test_areas_of_random_shapes_spread_over_the_whole_range(shape):
    rng = np.random.default_rng(0)
    regions = Regions(shapes=(shape,), area=(0.02, 0.5))
    areas = [float(regions.draw(*FRAME, rng).mean()) for _ in range(300)]
    # Rounding, and the last stroke, may pass the bounds slightly.
    assert 0.015 < min(areas) < 0.04
    assert 0.4 < max(areas) < 0.6
    # Uniform in the logarithm: half of the regions are below the geometric mean, 10 %.
    assert 0.38 < np.mean(np.array(areas) < 0.1) < 0.62


def test_every_asked_shape_is_drawn_and_an_object_keeps_its_outline():
    thing = blob(60, 80, 60, 90)
    thing[70:80, 90:100] = False
    rng = np.random.default_rng(1)
    draws = [Regions(dilation_px=(0, 0)).draw(*FRAME, rng, [thing]) for _ in range(60)]
    boxed = blob(60, 80, 60, 90)
    exact = sum(np.array_equal(d, thing) for d in draws)
    boxes = sum(np.array_equal(d, boxed) for d in draws)
    assert exact > 5
    assert boxes > 5
    assert exact + boxes < 50


def test_dilation_grows_objects_by_the_pixels_asked_for():
    thing = blob(100, 100, 50, 70)
    mask = Regions(shapes=("object",), dilation_px=(5, 5)).draw(
        *FRAME, np.random.default_rng(0), [thing]
    )
    around = Rectangle.around(mask)
    assert (around.top, around.left, around.bottom, around.right) == (95, 95, 155, 175)
    assert not mask[95, 95], "corners are rounded"


def test_dilation_is_limited_in_small_images():
    thing = blob(5, 5, 6, 6, (24, 24))
    regions = Regions(shapes=("object",), dilation_px=(9, 9))
    mask = regions.draw(24, 24, np.random.default_rng(0), [thing])
    assert mask.mean() < 0.2


@pytest.mark.parametrize("objects", [(), (np.zeros(FRAME, bool),), (np.ones(FRAME, bool),)])
def test_without_usable_objects_a_random_shape_is_drawn(objects):
    rng = np.random.default_rng(2)
    for regions in [Regions(shapes=("object",)), Regions(shapes=("object_box", "box"))]:
        for _ in range(20):
            mask = regions.draw(*FRAME, rng, objects)
            assert 0 < mask.mean() < 0.6


def test_a_box_around_a_sprawling_object_leaves_something_to_go_by():
    cross = blob(0, 100, 240, 8) | blob(100, 0, 8, 320)
    mask = Regions(shapes=("object_box",)).draw(*FRAME, np.random.default_rng(0), [cross])
    assert mask.any()
    assert not mask.all()


def test_usable_keeps_objects_between_the_bounds():
    small, fitting, large = blob(0, 0, 4, 4), blob(0, 0, 80, 80), blob(0, 0, 240, 300)
    assert [m is fitting for m in usable([small, fitting, large], (0.02, 0.5))] == [True]


def test_unknown_shapes_and_impossible_areas_are_refused():
    with pytest.raises(ValueError, match=r"area=\(0.5, 0.1\)"):
        Regions(area=(0.5, 0.1))
    with pytest.raises(ValueError, match=r"Unknown shapes \['circle'\]"):
        Regions(shapes=("circle",))


def test_pieces_are_objects_as_often_as_asked():
    thing = blob(60, 80, 60, 90)
    rng = np.random.default_rng(3)
    pieces = Pieces(object_share=0.7)
    hits = [np.array_equal(pieces.draw(*FRAME, rng, [thing]), thing) for _ in range(200)]
    assert 0.6 < np.mean(hits) < 0.8


def test_sides_of_pieces_stay_in_their_range():
    rng = np.random.default_rng(4)
    for _ in range(200):
        around = Rectangle.around(Pieces(sides=(0.1, 0.3)).draw(*FRAME, rng))
        assert 0.09 * 240 <= around.height <= 0.31 * 240
        assert 0.09 * 320 <= around.width <= 0.31 * 320


def test_polygons_have_6_to_12_vertices_in_the_unit_square():
    rng = np.random.default_rng(5)
    outlines = [jittered_ellipse(rng) for _ in range(200)]
    assert {len(o) for o in outlines} == set(range(6, 13))
    for outline in outlines:
        assert np.allclose(outline.min(0), 0)
        assert np.allclose(outline.max(0), 1)


def test_strokes_stop_when_enough_is_covered():
    few = strokes(*FRAME, 500.0, np.random.default_rng(6))
    many = strokes(*FRAME, 30_000.0, np.random.default_rng(6))
    assert few.any()
    assert few.sum() < many.sum()
    assert many[few].all(), "more strokes only add"


def test_dilating_by_nothing_is_a_copy():
    mask = blob(10, 10, 5, 5)
    copy = dilated(mask, 0)
    assert np.array_equal(copy, mask)
    assert not np.shares_memory(copy, mask)


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty mask"):
        Rectangle.around(np.zeros((4, 4), dtype=bool))
