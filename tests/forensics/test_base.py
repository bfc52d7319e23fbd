from __future__ import annotations

import numpy as np
import pytest
import skimage.measure

from gammascope.forensics.base import Finding, blobs, box_means, cell_sums, clearest_blob


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_parts_are_those_of_scikit_image_from_the_largest_on(share):
    inside = np.random.default_rng(0).random((60, 83)) < share
    ours, theirs = blobs(inside), skimage.measure.label(inside, connectivity=1)
    pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == theirs.max() + 1 == ours.max() + 1
    sizes = np.bincount(ours.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()


def test_cells_that_are_not_linked_are_parts_of_their_own():
    inside = np.ones((2, 3), bool)
    across, down = np.array([[True, False], [True, False]]), np.ones((1, 3), bool)
    assert blobs(inside, (across, down)).tolist() == [[1, 1, 2], [1, 1, 2]]


def test_nothing_has_no_parts():
    assert blobs(np.zeros((3, 4), bool)).max() == 0


def test_means_are_taken_over_what_lies_inside():
    values = np.random.default_rng(1).random((7, 9))
    found = box_means(values, 2)
    assert found[0, 0] == pytest.approx(values[:3, :3].mean())
    assert found[3, 8] == pytest.approx(values[1:6, 6:].mean())


def test_sums_leave_out_what_fills_no_cell():
    values = np.arange(17 * 26).reshape(17, 26)
    assert cell_sums(values).tolist() == [
        [values[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].sum() for c in range(3)] for r in range(2)
    ]


def test_of_two_parts_the_clearer_one_is_found_and_huge_ones_are_not():
    evidence = np.zeros((40, 40))
    evidence[2:6, 2:6], evidence[20:26, 20:26] = 3, 1.5
    score, part = clearest_blob(evidence, 1.0, (0.005, 0.4))
    assert part.sum() == 16
    assert part[3, 3]
    assert score == pytest.approx(3 * 4 / np.sqrt(160))
    assert clearest_blob(np.ones((40, 40)), 0.5, (0.005, 0.4))[0] == 0


def test_a_map_covers_the_picture_and_is_silent_beyond_its_cells():
    cells = np.array([[0.0, 1.0]], np.float32)
    shown = Finding(1.0, cells, (-4, 2), 8, (14, 12)).map()
    assert shown.shape == (12, 14)
    assert np.isnan(shown[:2]).all()
    assert np.isnan(shown[10:]).all()
    assert (shown[2:10, :4] == 0).all()
    assert (shown[2:10, 4:12] == 1).all()
    assert np.isnan(shown[:, 12:]).all()
