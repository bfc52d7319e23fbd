"""Decoded pictures: kept up to a budget, broken ones named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gammascope.data.pictures import Pictures
from gammascope.errors import UndecodableImageError
from gammascope.imaging import codecs

SIDE = 20
BYTES = SIDE * SIDE * 3


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    files = []
    for level in range(4):
        path = tmp_path / f"{level}.png"
        image = np.full((SIDE, SIDE, 3), 50 * level, np.uint8)
        path.write_bytes(codecs.encode(image, codecs.Encoding("png")))
        files.append(path)
    return files


def test_a_picture_is_decoded_once(paths):
    pictures = Pictures(10 * BYTES)
    first = pictures.image(paths[2])
    assert (first == 100).all()
    paths[2].unlink()
    assert pictures.image(paths[2]) is first


@pytest.mark.parametrize(("budget", "kept"), [(0, 0), (BYTES - 1, 0), (BYTES, 1), (3 * BYTES, 3)])
def test_no_more_is_kept_than_the_budget_allows(paths, budget, kept):
    pictures = Pictures(budget)
    for _ in range(2):
        for level, path in enumerate(paths):
            assert (pictures.image(path) == 50 * level).all()
    assert pictures.held_bytes == kept * BYTES
    for path in paths:
        path.unlink()
    readable = 0
    for path in paths:
        try:
            pictures.image(path)
        except UndecodableImageError:
            continue
        readable += 1
    assert readable == kept


def test_preloading_names_broken_files_and_goes_on(paths, tmp_path):
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    counted: list[int] = []
    pictures = Pictures(10 * BYTES)
    found = pictures.preload([paths[0], broken, missing, paths[1]], lambda: counted.append(1))
    assert [path for path, _ in found] == [broken, missing]
    assert all(reason for _, reason in found)
    assert len(counted) == 4
    assert pictures.held_bytes == 2 * BYTES


def test_a_broken_picture_is_an_error_when_it_is_asked_for(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"nothing")
    with pytest.raises(UndecodableImageError):
        Pictures(0).image(path)
