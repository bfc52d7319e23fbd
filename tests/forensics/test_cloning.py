"""Copies within a picture: found however they lie, told from what only looks alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from tests.forensics.made_pictures import overlap, saved, somewhere

from gammascope.forensics import (
    METHODS,
    Finding,
    Picture,
    Silence,
    cloning,
    keypoints,
    reasons_of,
    self_correlation,
)
from gammascope.forensics.copies import Copy, aligned, grown, repetition
from gammascope.imaging import codecs

RNG = np.random.default_rng


def luma_of(image: np.ndarray) -> np.ndarray:
    return Picture(image).luma.astype(np.float32)


def clearness(picture: Picture) -> float:
    found = cloning.examine(picture)
    assert isinstance(found, Finding)
    return METHODS["cloning"].clearness(found)


def cloned(photo: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, ...]:
    edited = photo.copy()
    edited[250:350, 60:160] = change(photo[60:160, 200:300])
    return edited, somewhere(photo.shape, 250, 60, 100) | somewhere(photo.shape, 60, 200, 100)


def turned(degrees: float, scale: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns the middle of a piece about its centre and scales it."""
    turn = math.radians(degrees)
    a, b = math.cos(turn) / scale, math.sin(turn) / scale

    def change(piece: np.ndarray) -> np.ndarray:
        middle = piece.shape[0] / 2
        data = (a, -b, middle * (1 - a + b), b, a, middle * (1 - a - b))
        image = PIL.Image.fromarray(piece)
        kind = PIL.Image.Transform.AFFINE
        return np.asarray(image.transform(image.size, kind, data, PIL.Image.Resampling.BICUBIC))

    return change


@pytest.mark.parametrize("change", [np.array, np.fliplr, np.flipud, np.rot90])
def test_a_copy_is_found_with_its_original_however_it_is_turned(photos, change):
    edited, truth = cloned(photos["astronaut"], change)
    found = cloning.examine(Picture(edited))
    assert METHODS["cloning"].clearness(found) > 1
    assert overlap(found, truth) > 0.65


@pytest.mark.parametrize(("degrees", "scale"), [(8, 1.0), (-35, 1.0), (0, 1.25), (100, 0.85)])
def test_a_copy_that_was_turned_or_scaled_is_found(photos, degrees, scale):
    edited, _ = cloned(photos["astronaut"], turned(degrees, scale))
    assert clearness(Picture(edited)) > 1


@pytest.mark.parametrize("quality", [90, 75])
def test_a_copy_survives_compression(photos, quality):
    edited, truth = cloned(photos["astronaut"], np.array)
    found = cloning.examine(saved(edited, quality))
    assert METHODS["cloning"].clearness(found) > 1
    assert overlap(found, truth) > 0.6


def repeats(image: np.ndarray) -> list[list[tuple[float, float]]]:
    found = cloning.examine(Picture(image))
    assert isinstance(found, Finding)
    return [sorted(group) for group in found.repeats]


def near(*places: tuple[float, float]) -> list[object]:
    return [pytest.approx((x / 512, y / 512), abs=0.02) for x, y in sorted(places)]


def test_all_places_of_a_piece_belong_together_and_those_of_another_piece_apart(photos):
    edited, _ = cloned(photos["astronaut"], np.array)
    assert repeats(edited) == [near((250, 110), (110, 300))]
    again = edited.copy()
    again[380:480, 20:120] = photos["astronaut"][60:160, 200:300]
    assert repeats(again) == [near((250, 110), (110, 300), (70, 430))]
    again[380:480, 20:120] = photos["astronaut"][400:500, 380:480]
    assert sorted(map(len, repeats(again))) == [2, 2]
    assert near((250, 110), (110, 300)) in repeats(again)
    assert near((430, 450), (70, 430)) in repeats(again)


def test_a_sentence_names_all_places_of_a_piece(photos):
    edited, _ = cloned(photos["astronaut"], np.array)
    edited[380:480, 20:120] = photos["astronaut"][60:160, 200:300]
    (reason,) = reasons_of({"cloning": cloning.examine(Picture(edited))})
    places = "at the bottom left is the same as one at the left and one at the top,"
    assert places in reason.statement


def test_a_copy_survives_halving(photos):
    edited, _ = cloned(photos["astronaut"], np.array)
    assert clearness(saved(codecs.rescale(edited, 0.5), 90)) > 1


def test_a_copy_in_a_large_picture_is_compared_at_full_resolution(photos):
    photo = PIL.Image.fromarray(photos["astronaut"]).resize(
        (1400, 1400), PIL.Image.Resampling.BICUBIC
    )
    large = np.asarray(photo) // 2 + grain((1400, 1400), 4) // 2
    assert clearness(Picture(large)) < 1
    large[900:1201, 151:452] = large[100:401, 700:1001]
    assert clearness(Picture(large)) > 1


def grain(shape: tuple[int, int], strength: float) -> np.ndarray:
    noisy = 128 + RNG(0).normal(0, strength, (*shape, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def test_untouched_photos_have_no_copies(photos):
    for name in ("astronaut", "coffee", "cat", "rocket"):
        assert clearness(Picture(photos[name])) < 0.5, name


def test_two_things_of_one_kind_are_no_copies():
    scene = grain((360, 480), 0).astype(float)
    thing = PIL.Image.fromarray((RNG(5).random((12, 12)) * 200).astype(np.uint8)).resize((100, 100))
    scene[40:140, 60:160] = np.asarray(thing)[..., None]
    scene[200:300, 300:400] = np.asarray(thing)[..., None] * 0.9  # Under a little less light.
    seen = np.clip(scene + RNG(6).normal(0, 4, scene.shape), 0, 255).astype(np.uint8)
    assert clearness(Picture(seen)) < 1


def test_what_stands_at_equal_steps_is_no_copy(photos):
    facade = photos["astronaut"].copy()
    window = facade[60:140, 200:280].copy()
    for step in range(4):
        facade[380:460, 40 + 90 * step : 120 + 90 * step] = window
    facade[60:140, 200:280] = 128  # Where they came from would be a copy at another step.
    assert clearness(Picture(facade)) < 1


def test_a_pattern_is_no_copy():
    tile = RNG(2).integers(0, 256, (25, 37, 3)).astype(np.uint8)
    tiled = np.tile(tile, (14, 12, 1))
    assert clearness(Picture(tiled)) < 0.5
    inside = np.ones((160, 200), bool)
    part = Copy((slice(60, 220), slice(60, 260)), inside, np.eye(2, 3))
    assert repetition(luma_of(tiled), part) > 0.95
    assert repetition(luma_of(grain((350, 444), 20)), part) < 0.3


def test_the_same_word_twice_is_no_copy(photos):
    written = PIL.Image.fromarray(photos["astronaut"])
    font = PIL.ImageFont.load_default(40)
    for at in ((20, 30), (250, 420)):
        PIL.ImageDraw.Draw(written).text(at, "ASTRONAUT", fill=(255, 255, 255), font=font)
    assert clearness(Picture(np.asarray(written))) < 1


def test_cloning_is_silent_about_drawings():
    drawn = np.full((300, 400, 3), 230, np.uint8)
    scribble = (RNG(0).random((60, 60, 3)) * 255).astype(np.uint8)
    drawn[40:100, 50:110] = drawn[200:260, 250:310] = scribble
    said = cloning.examine(Picture(drawn))
    assert isinstance(said, Silence)
    assert "without grain" in said.reason


def test_cloning_is_silent_where_nothing_can_be_told_apart(photos):
    flat = cloning.examine(Picture(np.full((200, 200, 3), 90, np.uint8)))
    small = cloning.examine(Picture(photos["coffee"][:90]))
    assert isinstance(flat, Silence)
    assert isinstance(small, Silence)
    assert "too little texture" in flat.reason
    assert "smaller than 96 px" in small.reason


# How candidates are found


@pytest.mark.parametrize(("flip", "linear"), [(np.array, (1, 1)), (np.fliplr, (-1, 1))])
def test_grain_alone_is_enough_for_a_plain_copy(flip, linear):
    scene = luma_of(grain((300, 400), 3))
    scene[180:260, 40:120] = flip(scene[30:110, 250:330])
    points, matrix = next(iter(self_correlation.repeated(scene)))
    assert np.array_equal(np.abs(matrix[:, :2]), np.eye(2))
    assert (matrix[0, 0], matrix[1, 1]) == linear
    places = np.round(points @ matrix[:, :2].T + matrix[:, 2]).astype(int)
    both = np.concatenate([points.astype(int), places])
    inside = somewhere(scene.shape, 180, 40, 80) | somewhere(scene.shape, 30, 250, 80)
    assert inside[both[:, 1], both[:, 0]].mean() > 0.9


def test_nothing_agrees_with_itself_in_plain_grain():
    assert not list(self_correlation.repeated(luma_of(grain((300, 400), 3))))


@pytest.mark.parametrize(("degrees", "scale"), [(25, 1.0), (-150, 1.0), (10, 1.2)])
def test_corners_tell_exactly_how_a_part_was_turned(photos, degrees, scale):
    edited, _ = cloned(photos["astronaut"], turned(degrees, scale))
    turn = math.radians(degrees)
    there = scale * np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    closest = min(
        np.abs(matrix[:, :2] - way).max()
        for _, matrix in keypoints.repeated(luma_of(edited))
        for way in (there, np.linalg.inv(there))
    )
    assert closest < 0.02


def test_a_part_is_laid_onto_its_copy_to_a_fraction_of_a_pixel(photos):
    luma = luma_of(photos["astronaut"])
    matrix = np.array([[1.0, 0, 100.4], [0, 1, -20.3]])
    moved = np.roll(
        luma, (-20, 100), (0, 1)
    )  # What lies at (x, y) there is at (x - 100, y + 20) here.
    both = np.concatenate([luma, moved], 1)
    inside = np.ones((120, 120), bool)
    rough = Copy(
        (slice(150, 270), slice(150, 270)), inside, matrix + np.array([[0, 0, 512], [0, 0, 0]])
    )
    exact = aligned(both, PIL.Image.fromarray(both), rough, 1)
    assert exact.matrix == pytest.approx(np.array([[1, 0, 612], [0, 1, -20]]), abs=0.1)


def test_a_part_grows_to_where_its_copy_ends(photos):
    edited, _ = cloned(photos["astronaut"], np.array)
    luma, matrix = luma_of(edited), np.array([[1.0, 0, -140], [0, 1, 190]])
    points = np.array([[250.0, 110.0], [255.0, 112.0]])
    copy = grown(luma, PIL.Image.fromarray(luma), points, matrix)
    assert copy is not None
    marked = np.zeros(luma.shape, bool)
    marked[copy.box] = copy.inside
    truth = somewhere(luma.shape, 60, 200, 100)
    assert 2 * (marked & truth).sum() / (marked.sum() + truth.sum()) > 0.85
    elsewhere = np.array([[1.0, 0, -90], [0, 1, 150]])
    assert grown(luma, PIL.Image.fromarray(luma), points, elsewhere) is None
