"""Edits of faces: only their region changes, the host is not written to, and the same draws give the same edit."""

from __future__ import annotations

import numpy as np
import pytest

from gammascope.manipulation.faces import EDITS, REGIONS, edit_face

every_edit = pytest.mark.parametrize("name", EDITS)


@pytest.fixture
def face(photos):
    return np.ascontiguousarray(photos["astronaut"][0:192, 130:322])


@every_edit
def test_something_changes_and_the_host_stays(face, name):
    before = face.copy()
    edited = edit_face(face, name, np.random.default_rng(0))
    assert np.array_equal(face, before)
    assert edited.image.shape == face.shape
    assert edited.image.dtype == np.uint8
    assert not np.array_equal(edited.image, face)
    assert edited.regions == EDITS[name]


@pytest.mark.parametrize("name", [name for name in EDITS if name != "warped"])
def test_nothing_changes_outside_of_the_region(face, name):
    for seed in range(5):
        edited = edit_face(face, name, np.random.default_rng(seed))
        rows, columns = np.nonzero((edited.image != face).any(2))
        left, top, across, down = (192 * share for share in REGIONS[edited.regions[0]])
        reach = 0.02 * 192 + 1
        assert rows.min() >= top - reach
        assert rows.max() <= top + down + reach
        assert columns.min() >= left - reach
        assert columns.max() <= left + across + reach


@every_edit
def test_the_same_draws_give_the_same_edit(face, name):
    first, second = (edit_face(face, name, np.random.default_rng(3)).image for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, edit_face(face, name, np.random.default_rng(4)).image)


def test_a_warp_moves_pixels_and_adds_no_colour(face):
    warped = edit_face(face, "warped", np.random.default_rng(0)).image
    assert (warped != face).mean() > 0.5
    assert warped.min() >= face.min()
    assert warped.max() <= face.max()


def test_a_mirrored_mouth_is_a_mirrored_mouth():
    ramp = np.tile(np.arange(128, dtype=np.uint8)[None, :, None], (128, 1, 3))
    edited = edit_face(ramp, "mouth_mirrored", np.random.default_rng(0)).image
    middle = edited[96, 58:70, 0].astype(int)
    assert (np.diff(middle) < 0).all(), "right to left, in the middle of the region"


@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1)])
def test_too_small_faces_are_refused(size):
    with pytest.raises(ValueError, match="expected 32 or more"):
        edit_face(np.zeros((*size, 3), np.uint8), "warped", np.random.default_rng(0))
