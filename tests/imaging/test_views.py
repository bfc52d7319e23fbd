from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from gammascope.imaging.views import (
    View,
    ViewSpec,
    crop_at,
    has_mosaic,
    has_overview,
    mosaic,
    normalised,
    paste,
    places_of,
    pool_logits,
    tile_grid,
    views_of,
)

sides = st.integers(1, 90)
sizes = st.integers(1, 40)


def picture(width: Any, height: Any, seed: Any = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def boxes_of(size: Any, spec: Any) -> Any:
    return [place.box for place in places_of(size, spec)]


def pixels_of(view: Any, spec: Any) -> Any:
    """Undo the normalisation."""
    values = view.pixels.transpose(1, 2, 0) * np.array(spec.std) + np.array(spec.mean)
    return np.rint(values * 255).astype(int)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"size": 0}, "size=0"),
        ({"fit": "squeeze"}, "fit='squeeze'"),
        ({"pool": "median"}, "pool='median'"),
        ({"max_tiles": 0}, "max_tiles=0"),
        ({"mean": (0.5, 0.5)}, "mean="),
        ({"mean": (0.5, 0.5, math.nan)}, "mean="),
        ({"std": (1.0, 1.0)}, "std="),
        ({"std": (0.0, 1.0, 1.0)}, "std="),
        ({"mosaic": 1.5, "size": 16}, "mosaic=1.5"),
        ({"mosaic": 0.5, "size": 16, "fit": "resize"}, "mosaic=0.5 beside fit='resize'"),
        ({"mosaic": 0.5, "size": 24}, "size=24: a mosaic"),
        ({"mosaic": 0.5, "size": 16, "max_tiles": -1}, "max_tiles=-1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_spec_is_refused_with_the_value(values: Any, named: Any) -> None:
    with pytest.raises(ValueError, match=named):
        ViewSpec(**({"size": 8, "fit": "tiles"} | values))


@settings(deadline=None, max_examples=50)
@given(sides, sides, sizes)
def test_tiles_cover_without_gaps_and_end_flush(width: Any, height: Any, size: Any) -> None:
    grid = tile_grid((width, height), size)
    assert len(set(grid)) == len(grid)
    for extent, axis in ((width, 0), (height, 1)):
        starts = sorted({corner[axis] for corner in grid})
        if extent <= size:
            assert len(starts) == 1
            before, after = -starts[0], starts[0] + size - extent
            assert before - after in (0, 1)
        else:
            assert starts[0] == 0
            assert starts[-1] + size == extent
            assert all(after - before <= size for before, after in pairwise(starts))
            assert len(starts) == -(-extent // size)


@pytest.mark.parametrize(("image_size", "size"), [((0, 5), 4), ((5, 0), 4), ((5, 5), 0)])
def test_an_empty_grid_is_refused(image_size: Any, size: Any) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel"):
        tile_grid(image_size, size)


@settings(deadline=None, max_examples=50)
@given(sides, sides, sizes, st.integers(1, 30))
def test_max_tiles_gives_exactly_so_many_of_the_grid(
    width: Any, height: Any, size: Any, most: Any
) -> None:
    grid = tile_grid((width, height), size)
    boxes = boxes_of((width, height), ViewSpec(size, "tiles", max_tiles=most))
    assert len(boxes) == min(most, len(grid))
    assert len(set(boxes)) == len(boxes)
    assert {(int(left), int(top)) for left, top, _, _ in boxes} <= set(grid)
    assert boxes == boxes_of((width, height), ViewSpec(size, "tiles", max_tiles=most))


def test_few_tiles_spread_over_the_whole_image() -> None:
    boxes = boxes_of((1000, 1000), ViewSpec(100, "tiles", max_tiles=4))
    quadrants = {(left >= 500, top >= 500) for left, top, _, _ in boxes}
    assert len(quadrants) == 4
    assert boxes_of((900, 900), ViewSpec(100, "tiles", max_tiles=1)) == [(400, 400, 100, 100)]


@settings(deadline=None, max_examples=50)
@given(sides, sides, st.integers(6, 40))
def test_tiles_hold_the_pixels_of_their_box(width: Any, height: Any, size: Any) -> None:
    image = picture(width, height)
    spec = ViewSpec(size, "tiles")
    for view in views_of(image, spec):
        left, top = int(view.box[0]), int(view.box[1])
        assert view.pixels.dtype == np.float32
        assert view.pixels.flags.c_contiguous
        inside = image[max(top, 0) : top + size, max(left, 0) : left + size].astype(int)
        part = pixels_of(view, spec)[max(-top, 0) :, max(-left, 0) :]
        np.testing.assert_array_equal(part[: inside.shape[0], : inside.shape[1]], inside)


@settings(deadline=None, max_examples=50)
@given(sides, sides, sizes)
def test_a_centre_crop_is_centred_and_native(width: Any, height: Any, size: Any) -> None:
    image = picture(width, height)
    spec = ViewSpec(size, "center_crop")
    (view,) = views_of(image, spec)
    left, top, box_width, box_height = view.box
    assert (box_width, box_height) == (size, size)
    assert abs(left + size / 2 - width / 2) <= 0.5
    assert abs(top + size / 2 - height / 2) <= 0.5
    np.testing.assert_array_equal(
        pixels_of(view, spec), crop_at(image, int(left), int(top), size).astype(int)
    )


def test_resize_sees_the_whole_image() -> None:
    image = data.astronaut()[:300]
    spec = ViewSpec(64, "resize")
    (view,) = views_of(image, spec)
    assert view.pixels.shape == (3, 64, 64)
    assert view.box == (0.0, 0.0, 512.0, 300.0)
    np.testing.assert_allclose(pixels_of(view, spec).mean(), image.mean(), atol=1)


def test_normalised_is_the_plain_formula() -> None:
    image, spec = picture(5, 4), ViewSpec(4, "resize")
    expected = (image / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(normalised(image, spec), expected.transpose(2, 0, 1), atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(sides, sides, st.integers(-60, 120), st.integers(-60, 120), sizes)
def test_crops_mirror_as_numpy_does_for_image_and_mask_alike(
    width: Any, height: Any, left: Any, top: Any, size: Any
) -> None:
    image = picture(width, height)
    before = image.copy()
    mask = image[..., 0] > 127
    crop = crop_at(image, left, top, size)
    margin = 170  # Beyond every crop of this test.
    edges = [(margin, margin), (margin, margin), (0, 0)]
    padded = np.pad(image, edges, mode="reflect")
    expected = padded[top + margin :, left + margin :][:size, :size]
    np.testing.assert_array_equal(crop, expected)
    np.testing.assert_array_equal(crop_at(mask, left, top, size), crop[..., 0] > 127)
    crop[:] = 0
    np.testing.assert_array_equal(image, before)


def test_the_smallest_image_fills_any_view() -> None:
    image = np.full((1, 1, 3), 77, np.uint8)
    for fit in ("resize", "center_crop", "tiles"):
        spec = ViewSpec(32, fit)
        (view,) = views_of(image, spec)
        assert (pixels_of(view, spec) == 77).all()


@settings(deadline=None, max_examples=50)
@given(sides, sides, st.integers(6, 40))
def test_view_to_paste_is_the_identity_at_view_resolution(
    width: Any, height: Any, size: Any
) -> None:
    spec = ViewSpec(size, "tiles")
    image = picture(width, height)
    views = views_of(image, spec)
    maps = np.stack([view.pixels[0] for view in views])
    pasted = paste(maps, [view.box for view in views], (width, height))
    np.testing.assert_allclose(pasted, normalised(image, spec)[0], atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    sides, sides, sizes, st.integers(1, 9), st.integers(1, 9), st.sampled_from(["tiles", "resize"])
)
def test_a_constant_stays_constant_at_any_resolution(
    width: Any, height: Any, size: Any, rows: Any, columns: Any, fit: Any
) -> None:
    views = views_of(picture(width, height), ViewSpec(size, fit))
    maps = np.full((len(views), rows, columns), 0.3, np.float64)
    pasted = paste(maps, [view.box for view in views], (width, height))
    assert pasted.dtype == np.float32
    np.testing.assert_allclose(pasted, 0.3, atol=1e-6)


def test_coarse_maps_land_within_a_pixel() -> None:
    """A ramp over the image, sampled at cell centres, comes back as the same ramp."""
    width, height, cells = 640, 400, 14
    views = views_of(picture(width, height), ViewSpec(224, "tiles"))
    centres = (np.arange(cells) + 0.5) * 224 / cells
    maps = np.stack([np.tile(view.box[0] + centres, (cells, 1)) for view in views])
    pasted = paste(maps, [view.box for view in views], (width, height))
    expected = np.tile(np.arange(width) + 0.5, (height, 1))
    inner = slice(8, -8)  # Beyond the outermost cell centres maps are constant.
    covered_once = np.abs(pasted - expected)[:, inner]
    assert np.median(covered_once) < 1e-3
    assert covered_once.max() < 224 / cells / 2


def test_bilinear_resize_has_half_pixel_centres() -> None:
    pasted = paste(np.array([[[0.0, 1.0]]]), [(0.0, 0.0, 4.0, 1.0)], (4, 1))
    np.testing.assert_allclose(pasted, [[0, 0.25, 0.75, 1]])


def test_overlaps_are_averaged_and_unseen_pixels_are_nan() -> None:
    boxes = [(0.0, 0.0, 2.0, 2.0), (1.0, 0.0, 2.0, 2.0)]
    maps = np.stack([np.zeros((1, 1)), np.ones((1, 1))])
    pasted = paste(maps, boxes, (4, 3))
    np.testing.assert_array_equal(pasted[0], [0, 0.5, 1, np.nan])
    assert np.isnan(pasted[2]).all()


def test_boxes_outside_the_image_are_ignored() -> None:
    pasted = paste(np.ones((2, 3, 3)), [(-9.0, 0.0, 5.0, 5.0), (0.0, 50.0, 5.0, 5.0)], (4, 4))
    assert np.isnan(pasted).all()


def test_a_tall_image_is_pasted_in_bands() -> None:
    view = View(np.zeros((3, 2, 2), np.float32), (0.0, 0.0, 3.0, 1000.0))
    maps = np.linspace(0, 1, 50).reshape(1, 50, 1)
    column = paste(maps, [view.box], (3, 1000))[:, 0]
    assert (np.diff(column) >= 0).all()
    np.testing.assert_allclose(
        column[10:-10], np.interp(np.arange(10, 990), [9.5, 989.5], [0, 1]), atol=1e-5
    )


def test_maps_and_views_must_agree_in_number() -> None:
    with pytest.raises(ValueError, match="2 maps for 1 views"):
        paste(np.zeros((2, 3, 3)), [(0.0, 0.0, 3.0, 3.0)], (3, 3))


def test_pooling() -> None:
    logits = np.array([4.0, 1.0, 3.0, 2.0, 0.0])
    assert pool_logits(logits, "mean") == 2
    assert pool_logits(logits, "max") == 4
    assert pool_logits(logits, "top") == 3.5
    assert pool_logits(logits[:1], "top") == 4
    with pytest.raises(ValueError, match="No logits"):
        pool_logits(logits[:0], "mean")


OVERVIEW = ViewSpec(8, "tiles", mean=(0.0,) * 3, std=(1.0,) * 3, overview=0.5)


def test_the_overview_is_the_largest_centred_square_reduced_and_comes_last():
    image = picture(31, 20)
    *tiles, last = views_of(image, OVERVIEW)
    assert [view.box for view in tiles] == boxes_of((31, 20), ViewSpec(8, "tiles"))
    assert last.box == (5.0, 0.0, 20.0, 20.0)
    assert last.pixels.shape == (3, 8, 8)
    centre = image[:, 5:25].astype(float)
    assert abs(pixels_of(last, OVERVIEW).mean() - centre.mean()) < 3


@pytest.mark.parametrize("size", [(40, 47), (129, 61), (1031, 997)])
def test_an_overview_reduced_in_two_steps_is_not_shifted(size: Any) -> None:
    """A ramp stays the ramp, whatever part of a whole-number mean is left over at its end."""
    width, height = size
    ramp = np.linspace(0, 255, width)[None, :] * 0.5 + np.linspace(0, 255, height)[:, None] * 0.5
    image = np.repeat(np.rint(ramp)[..., None], 3, 2).astype(np.uint8)
    view = views_of(image, OVERVIEW)[-1]
    left, top, side, _ = view.box
    centres = (np.arange(8) + 0.5) * side / 8 - 0.5
    expected = 0.5 * 255 / (width - 1) * (left + centres)[None, :]
    expected = expected + 0.5 * 255 / (height - 1) * (top + centres)[:, None]
    inner = np.s_[1:-1, 1:-1]  # bicubic bends a ramp at the border of a picture
    assert np.abs(pixels_of(view, OVERVIEW)[..., 0] - expected)[inner].max() < 1.5


def test_an_overview_reduced_in_two_steps_is_nearly_the_bicubic_one() -> None:
    spec = replace(OVERVIEW, size=96)
    photo = data.astronaut()
    exact = Image.fromarray(photo).resize((96, 96), Image.Resampling.BICUBIC)
    difference = np.abs(pixels_of(views_of(photo, spec)[-1], spec) - np.asarray(exact, int))
    assert difference.mean() < 1.0
    assert difference.mean() > 0  # the two steps were taken


def test_the_overview_hides_what_lies_outside_of_the_square():
    image = picture(40, 16)
    changed = image.copy()
    changed[:, :8] = 0  # the square begins at 12; resizing may look a little beyond
    assert np.array_equal(
        views_of(image, OVERVIEW)[-1].pixels, views_of(changed, OVERVIEW)[-1].pixels
    )


MOSAIC = ViewSpec(
    48, "tiles", max_tiles=1, mean=(0.0,) * 3, std=(1.0,) * 3, overview=0.5, mosaic=0.5
)


def test_a_mosaic_stands_between_tiles_and_overview() -> None:
    kinds = [place.kind for place in places_of((200, 300), MOSAIC)]
    assert kinds == ["tile", "mosaic", "overview"]
    views = views_of(picture(200, 300), MOSAIC)
    assert [view.box for view in views][1:] == [(0, 0, 200, 300), (0, 50, 200, 200)]
    assert {view.pixels.shape for view in views} == {(3, 48, 48)}


@pytest.mark.parametrize("size", [(200, 300), (49, 60), (1999, 481), (301, 20)])
def test_patches_of_a_mosaic_are_native_in_order_and_reach_all_borders(size: Any) -> None:
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = np.stack([x % 256, x // 256, y % 256], 2).astype(np.uint8)
    made = mosaic(image, 48)
    across = made[0, :, 0] + 256 * made[0, :, 1].astype(int)
    for start in range(0, 48, 16):
        patch = across[start : start + 16]
        assert (np.diff(patch) == 1).all()
    assert (across[0], across[-1]) == (0, width - 1)
    assert (np.diff(across[::16]) > 0).all()
    if height > 48:
        assert {made[0, 0, 2], made[-1, 0, 2]} == {0, (height - 1) % 256}
    else:
        assert np.array_equal(np.unique(made[..., 2]), np.arange(height)), "mirrored"
    # Of a square picture the mosaic and the overview lie in the same box and show different things.
    assert np.array_equal(pixels_of(views_of(image, replace(MOSAIC, max_tiles=0))[0], MOSAIC), made)


def test_a_mosaic_and_an_overview_of_a_square_are_not_mistaken_for_each_other() -> None:
    *_, laid, reduced = views_of(picture(200, 200), MOSAIC)
    assert laid.box == reduced.box
    assert laid.pixels.std() > 2 * reduced.pixels.std(), "noise is averaged in the overview alone"


@pytest.mark.parametrize("size", [(48, 48), (20, 48), (3, 5)])
def test_what_is_no_larger_than_a_view_has_no_mosaic_but_always_a_tile(size: Any) -> None:
    assert not has_mosaic(size, MOSAIC)
    for most in (0, 1, None):
        (only,) = places_of(size, replace(MOSAIC, max_tiles=most))
        assert only.kind == "tile"
    kinds = [place.kind for place in places_of((49, 20), replace(MOSAIC, max_tiles=0))]
    assert kinds == ["mosaic"], "a strip"


@pytest.mark.parametrize("size", [(8, 8), (8, 30), (3, 5)])
def test_there_is_no_overview_where_it_would_not_be_a_reduction(size):
    assert not has_overview(size, OVERVIEW)
    assert boxes_of(size, OVERVIEW) == boxes_of(size, ViewSpec(8, "tiles"))


@pytest.mark.parametrize(
    ("values", "named"),
    [({"overview": 1.5}, "overview=1.5"), ({"overview": 0.5, "fit": "resize"}, "fit='resize'")],
)
def test_an_impossible_overview_is_refused(values, named):
    with pytest.raises(ValueError, match=named):
        ViewSpec(8, **({"fit": "tiles"} | values))
