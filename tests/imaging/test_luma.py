from __future__ import annotations

import io
import struct

import numpy as np
import PIL.Image
import pytest

from gammascope.forensics.base import stored_luma
from gammascope.imaging.codecs import Encoding, encode
from gammascope.imaging.decode import decode


def jpeg(image: np.ndarray, orientation: int = 1, **settings: object) -> bytes:
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(image).save(file, "JPEG", exif=exif, **settings)
    return file.getvalue()


def test_brightness_is_the_first_component_as_stored(photos):
    data = jpeg(photos["coffee"], quality=80)
    found = stored_luma(data)
    with PIL.Image.open(io.BytesIO(data)) as file:
        file.draft("YCbCr", file.size)
        assert np.array_equal(found.pixels, np.asarray(file)[..., 0])


def test_steps_are_those_of_the_standard_by_vertical_and_horizontal_frequency(photos):
    steps = stored_luma(jpeg(photos["cat"], quality=50)).steps
    assert steps[0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert steps[:, 0].tolist() == [16, 12, 14, 14, 18, 24, 49, 72]
    assert steps[7, 7] == 99


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cells_are_turned_as_the_picture_is(photos, orientation):
    photo = photos["rocket"][:203, :307]
    data = jpeg(photo, orientation, quality=95)
    found = stored_luma(data)
    high, wide = found.pixels.shape[0] // 8, found.pixels.shape[1] // 8
    cells = found.pixels[: 8 * high : 8, : 8 * wide : 8]
    turned, (left, top) = found.upright(np.arange(high * wide).reshape(high, wide), 8)
    upright = np.asarray(PIL.Image.fromarray(decode(data).image).convert("L"), float)
    for row, column in ((0, 0), (3, 7), (turned.shape[0] - 1, turned.shape[1] - 1)):
        block = upright[top + 8 * row :, left + 8 * column :][:8, :8]
        whole = found.pixels[: 8 * high, : 8 * wide].reshape(high, 8, wide, 8).swapaxes(1, 2)
        stored = whole.reshape(-1, 8, 8)[turned[row, column]]
        assert block.mean() == pytest.approx(stored.mean(), abs=1)
    assert cells.size == turned.size


def test_what_stores_no_brightness_has_none(photos):
    photo = photos["cat"]
    assert stored_luma(b"") is None
    assert stored_luma(encode(photo, Encoding("png"))) is None
    assert stored_luma(jpeg(photo, keep_rgb=True)) is None
    assert stored_luma(jpeg(photo)[:200]) is None


def test_a_file_that_ends_early_has_none(photos):
    data = jpeg(photos["coffee"])
    assert stored_luma(data[: len(data) // 2]) is None


def test_grey_files_have_one(photos):
    grey = np.asarray(PIL.Image.fromarray(photos["cat"]).convert("L"))
    assert stored_luma(jpeg(grey, quality=100)).pixels.shape == grey.shape


@pytest.mark.parametrize(
    ("kind", "value"),
    [(2, b"6\0\0\0"), (3, b"\6\0\0\0"), (2, b"x\0\0\0")],
    ids=["text", "number", "nonsense"],
)
def test_it_lies_as_the_decoded_picture_does_however_the_turn_is_written(kind, value, photos):
    entry = struct.pack("<HHI", 274, kind, 2 if kind == 2 else 1) + value
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    file = io.BytesIO()
    PIL.Image.fromarray(photos["cat"][:200, :320]).save(file, "JPEG", exif=exif)
    data = file.getvalue()
    upright, _ = stored_luma(data).upright(stored_luma(data).pixels, 1)
    assert upright.shape == decode(data).image.shape[:2]
