"""What JPEG files tell by themselves: whose tables they use, and whether they were saved before."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gammascope.imaging import codecs
from gammascope.imaging.codecs import (
    Encoding,
    encode,
    jpeg_tables,
    reencode,
    rescale,
    standard_tables,
)
from gammascope.imaging.provenance import provenance_of
from gammascope.imaging.provenance.jpeg_saves import (
    _DCT,
    _ZIGZAG,
    GAIN_FROM,
    _pattern,
    earlier_save,
)
from gammascope.report import Strength


def saved(image: np.ndarray, **settings: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", **settings)
    return file.getvalue()


def statements(file: bytes) -> dict[str, str]:
    return {item.name: item.statement for item in provenance_of(file)}


@pytest.fixture(scope="session")
def small(photos) -> dict[str, np.ndarray]:
    """Photos without a JPEG history: reduced, so that what they had is gone."""
    return {
        name: rescale(np.ascontiguousarray(photo), 0.5, "lanczos") for name, photo in photos.items()
    }


@pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_standard_tables_are_told_with_their_quality(small, quality, subsampling):
    words = statements(encode(small["cat"], Encoding("jpeg", quality, subsampling)))
    assert f"the standard ones at quality {quality}," in words["provenance:jpeg_table"]


def test_grey_pictures_have_one_table(small):
    words = statements(saved(np.ascontiguousarray(small["cat"][..., 1]), quality=80))
    assert "the standard ones at quality 80," in words["provenance:jpeg_table"]


def test_other_tables_are_the_encoders_own(small):
    own = [standard_tables()[84].tolist(), standard_tables(chroma=True)[84].tolist()]
    own[1][5] += 1
    words = statements(saved(small["cat"], qtables=own))
    assert "the encoder's own (nearest to standard quality 85)" in words["provenance:jpeg_table"]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 100))
def test_tables_are_read_back_in_the_order_of_the_file(quality):
    tables = jpeg_tables(saved(np.zeros((8, 8, 3), np.uint8), quality=quality))
    assert len(tables) == 3
    np.testing.assert_array_equal(tables[0], standard_tables()[quality - 1])
    np.testing.assert_array_equal(tables[2], standard_tables(chroma=True)[quality - 1])


def test_other_formats_have_no_tables(small):
    assert jpeg_tables(encode(small["cat"], Encoding("png"))) == ()
    words = statements(encode(small["cat"], Encoding("webp")))
    assert not words.keys() & {"provenance:jpeg_table", "provenance:double_jpeg"}


def test_the_transform_is_orthonormal_and_the_order_is_that_of_the_file():
    np.testing.assert_allclose(_DCT @ _DCT.T, np.eye(8), atol=1e-6)
    assert [8 * row + column for row, column in _ZIGZAG[:10]] == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]
    assert [8 * row + column for row, column in _ZIGZAG[-3:]] == [55, 62, 63]


def test_patterns_by_hand():
    """After steps of 6, steps of 2 see every third value only; after steps of 2, steps of 3 see two, one, two, one."""
    every_third = _pattern(6, 2)
    assert every_third[2] == pytest.approx(3, rel=0.05)
    assert every_third[:2].max() < 0.1
    alternating = _pattern(2, 3)
    assert alternating[[0, 2, 4]].min() > 1.1
    assert alternating[[1, 3, 5]].max() < 0.9
    np.testing.assert_allclose(_pattern(1, 40), 1, atol=0.05)


@pytest.mark.parametrize("quality", [60, 75, 85, 95])
def test_pictures_saved_once_are_left_alone(small, quality):
    for photo in small.values():
        file = encode(photo, Encoding("jpeg", quality))
        earlier = earlier_save(file)
        assert earlier is None or earlier.gain < GAIN_FROM
        assert "provenance:double_jpeg" not in statements(file)


@pytest.mark.parametrize(("first", "second"), [(60, 75), (70, 90), (75, 95), (85, 95)])
def test_pictures_saved_again_finer_are_found_with_their_earlier_quality(small, first, second):
    for photo in small.values():
        earlier = earlier_save(
            encode(reencode(photo, Encoding("jpeg", first)), Encoding("jpeg", second))
        )
        assert earlier is not None
        assert earlier.gain > 2 * GAIN_FROM
        assert abs(earlier.quality - first) <= 2


def test_the_finding_names_the_quality_and_is_weak(small):
    twice = encode(reencode(small["coffee"], Encoding("jpeg", 70)), Encoding("jpeg", 90))
    (item,) = (one for one in provenance_of(twice) if one.name == "provenance:double_jpeg")
    assert any(f"about {quality}" in item.statement for quality in (69, 70, 71))
    assert item.strength is Strength.WEAK
    assert "Ordinary" in item.limits


def test_resizing_and_cropping_off_the_grid_wipe_it_out(small):
    once = reencode(small["motorcycle"], Encoding("jpeg", 70))
    for changed in (rescale(once, 0.9), np.ascontiguousarray(once[3:, 5:])):
        earlier = earlier_save(encode(changed, Encoding("jpeg", 90)))
        assert earlier is None or earlier.gain < GAIN_FROM


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64, 3), np.uint8),
        np.full((1, 1, 3), 200, np.uint8),
        np.full((7, 300, 3), 90, np.uint8),
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8),
        np.indices((64, 64)).sum(0).astype(np.uint8)[..., None].repeat(3, 2),
    ],
    ids=["black", "pixel", "strip", "noise", "ramp"],
)
def test_pictures_without_texture_allow_no_answer(image):
    for quality in (50, 90, 100):
        earlier = earlier_save(saved(image, quality=quality))
        assert earlier is None or earlier.gain < GAIN_FROM


def test_progressive_grey_and_cmyk_files(small):
    grey = np.ascontiguousarray(small["rocket"][..., 1])
    once = np.asarray(PIL.Image.open(io.BytesIO(saved(grey, quality=70))))
    for options in ({}, {"progressive": True}):
        earlier = earlier_save(saved(once, quality=92, **options))
        assert earlier is not None
        assert abs(earlier.quality - 70) <= 2
    file = io.BytesIO()
    PIL.Image.fromarray(small["rocket"]).convert("CMYK").save(file, "JPEG", quality=80)
    assert earlier_save(file.getvalue()) is None, "its first component is no luminance"


def test_cut_and_broken_files_allow_no_answer(small):
    file = saved(small["cat"], quality=80)
    assert earlier_save(file[: len(file) // 2]) is None
    assert earlier_save(file[:300]) is None
    assert earlier_save(codecs.encode(small["cat"], Encoding("png"))) is None
