"""Copies are found after what happens to pictures on the web, different photos are kept apart, and it scales."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gammascope.data.audit import (
    RADIUS,
    groups_of_copies,
    hash_of,
    look_alikes,
    look_of,
    near_hashes,
)
from gammascope.imaging import codecs


def alike(*images) -> bool:
    return len(look_alikes([look_of(image) for image in images])) > 0


CHANGES = {
    "jpeg 30": lambda image: codecs.reencode(image, codecs.Encoding("jpeg", 30)),
    "webp 50": lambda image: codecs.reencode(image, codecs.Encoding("webp", 50)),
    "0.3 times the size": lambda image: codecs.rescale(image, 0.3),
    "1.5 times the size": lambda image: codecs.rescale(image, 1.5, "lanczos"),
    "blurred": lambda image: codecs.blur(image, 2.0),
    "a little darker": lambda image: codecs.adjust(image, brightness=-0.04),
    "half the size, then jpeg 50": lambda image: codecs.reencode(
        codecs.rescale(image, 0.5), codecs.Encoding("jpeg", 50)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_looks_like_its_original(photos, change):
    for photo in photos.values():
        assert alike(photo, CHANGES[change](photo))


def test_a_small_retouch_still_looks_alike(photos):
    retouched = photos["astronaut"].copy()
    retouched[100:140, 300:350] = retouched[100:140, 350:400]
    assert alike(photos["astronaut"], retouched)


def test_different_photos_do_not_look_alike(photos):
    assert not alike(*photos.values())


def test_parts_of_one_photo_do_not_look_alike(photos):
    coffee = photos["coffee"]
    assert not alike(coffee[:200, :300], coffee[200:, :300], coffee[:200, 300:], coffee[200:, 300:])


def test_equal_structure_in_other_colours_is_another_picture(photos):
    swapped = np.ascontiguousarray(photos["rocket"][..., ::-1])
    negative = 255 - photos["rocket"]
    assert not alike(photos["rocket"], negative)
    assert look_of(swapped).thumbnail != look_of(photos["rocket"]).thumbnail


def test_pictures_of_one_colour_are_alike_only_in_the_same_colour():
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    assert alike(black, black[:20])
    assert not alike(black, white)


def test_pictures_of_one_colour_share_a_hash_whatever_rounding_makes_of_them():
    assert {hash_of(np.full((30, 41, 3), level, np.uint8)) for level in range(0, 256, 5)} == {0}


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7)])
def test_any_size_has_a_look(size):
    look = look_of(np.full((*size, 3), 9, np.uint8))
    assert 0 <= look.hash < 2**64
    assert len(look.thumbnail) == 768


def test_no_picture_has_no_pair():
    assert look_alikes([]).shape == (0, 2)


@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 63), max_size=12)), max_size=25),
)
def test_the_search_finds_what_comparing_all_with_all_finds(centres, turns):
    """Hashes are drawn near to each other, else no two would ever be within the radius."""
    flipped = [
        centres[at % len(centres)] ^ sum(1 << bit for bit in bits) for at, bits in turns
    ] + centres
    hashes = np.array(flipped, dtype=np.uint64)
    expected = [
        (i, j)
        for i in range(len(flipped))
        for j in range(i + 1, len(flipped))
        if (flipped[i] ^ flipped[j]).bit_count() <= RADIUS
    ]
    assert [tuple(pair) for pair in near_hashes(hashes).tolist()] == expected


@pytest.mark.parametrize("radius", range(8))
def test_the_search_finds_pairs_at_every_radius_and_none_beyond(radius):
    rng = np.random.default_rng(radius)
    hashes = rng.integers(0, 2**63, 40, dtype=np.uint64)
    for bits in (radius, radius + 1):
        turned = sum(1 << int(bit) for bit in rng.permutation(63)[:bits])
        hashes = np.append(hashes, hashes[bits] ^ np.uint64(turned))
    assert near_hashes(hashes, radius).tolist() == [[radius, 40]]


def test_groups_of_copies_join_over_those_between_and_count_equal_hashes():
    base, other = 0b1011 << 40, 0b1 << 20
    hashes = np.array([base, base ^ 3, base ^ 15, other, base, 7 << 55], dtype=np.uint64)
    assert groups_of_copies(hashes).tolist() == [1, 1, 1, 0, 1, 2]
    assert groups_of_copies(np.empty(0, np.uint64)).tolist() == []


def test_a_hundred_thousand_hashes_take_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 100_000, dtype=np.uint64)
    hashes[50_000:50_100] = hashes[:100] ^ np.uint64(0b1010001)
    start = time.process_time()
    pairs = near_hashes(hashes)
    assert time.process_time() - start < 10  # comparing all with all takes minutes
    assert pairs.tolist() == [[at, 50_000 + at] for at in range(100)]


def test_pictures_that_look_the_same_are_joined_one_by_one():
    blank = look_of(np.full((40, 40, 3), 200, np.uint8))
    other = look_of(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    pairs = look_alikes([blank, other, blank, blank, other])
    assert pairs.tolist() == [[0, 2], [1, 4], [2, 3]]
    assert len(look_alikes([blank] * 20_000)) == 19_999
