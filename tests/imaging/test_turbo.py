"""The fast decoder of JPEG files must give Pillow's pixels to the bit, or nothing."""

from __future__ import annotations

import io
import itertools

import numpy as np
import PIL.Image
import pytest
import skimage.data

from gammascope.errors import UndecodableImageError
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode

pytest.importorskip("simplejpeg")

PHOTOS = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())


def jpeg(pixels: np.ndarray, **how) -> bytes:
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "JPEG", **how)
    return data.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("subsampling", "progressive"),
    list(itertools.product(["4:4:4", "4:2:2", "4:2:0", "4:1:1", "grey"], [False, True])),
)
def test_pixels_are_those_of_pillow(subsampling, progressive):
    rng = np.random.default_rng(0)
    for quality in (1, 10, 35, 60, 75, 90, 95, 100):
        for photo in PHOTOS:
            height, width = rng.integers(1, 200, 2).tolist()
            top, left = rng.integers(0, 100, 2)
            pixels = photo[top : top + height, left : left + width]
            if subsampling == "grey":
                data = jpeg(pixels[..., 1], quality=quality, progressive=progressive)
            else:
                data = jpeg(
                    pixels, quality=quality, progressive=progressive, subsampling=subsampling
                )
            mode = "L" if subsampling == "grey" else "RGB"
            found, damage = codecs.jpeg_pixels(data, mode, (width, height))
            assert found is not None
            assert not damage
            np.testing.assert_array_equal(found, by_pillow(data))


@pytest.mark.parametrize("keep_rgb", [False, True])
@pytest.mark.parametrize("restart", [0, 3])
def test_colours_stored_as_they_are_and_restart_markers_make_no_difference(keep_rgb, restart):
    data = jpeg(PHOTOS[0][:90, :70], keep_rgb=keep_rgb, restart_marker_blocks=restart)
    np.testing.assert_array_equal(codecs.jpeg_pixels(data, "RGB", (70, 90))[0], by_pillow(data))


def test_what_it_is_unsure_of_is_left_to_pillow():
    data = jpeg(PHOTOS[0][:64, :64])
    assert codecs.jpeg_pixels(data, "CMYK", (64, 64)) == (None, "")
    assert codecs.jpeg_pixels(data, "RGB", (64, 65)) == (None, ""), "the size that was checked"
    assert codecs.jpeg_pixels(data[:-200], "RGB", (64, 64))[0] is None, "cut short"
    assert codecs.jpeg_pixels(b"no JPEG", "RGB", (64, 64)) == (None, "")


def with_and_without(data: bytes, monkeypatch) -> list[tuple[object, ...]]:
    """What ``decode`` says of a file, or how it refuses it, with and without the fast decoder."""
    said: list[tuple[object, ...]] = []
    for there in (True, False):
        if not there:
            monkeypatch.setattr(codecs, "_turbo", lambda: None)
        try:
            decoded = decode(data)
            # That pixels are damaged, only the fast decoder can tell.
            notes = [note for note in decoded.notes if "are damaged" not in note]
            said.append((decoded.image.tobytes(), decoded.image.shape, notes))
        except UndecodableImageError as error:
            said.append((str(error),))
    return said


@pytest.mark.parametrize("orientation", [1, 3, 6, 9])
@pytest.mark.parametrize("colour", ["colour", "grey"])
def test_decoding_is_the_same_with_and_without(orientation, colour, monkeypatch):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    pixels = PHOTOS[1][:50, :80, 0] if colour == "grey" else PHOTOS[1][:50, :80]
    with_it, without = with_and_without(jpeg(pixels, exif=exif), monkeypatch)
    assert with_it == without


def test_broken_files_get_the_same_pixels_or_the_same_refusal(monkeypatch):
    whole = jpeg(PHOTOS[2][:80, :80], quality=80, progressive=True)
    rng = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(whole[: int(rng.integers(20, len(whole)))])
        if rng.random() < 0.7:
            broken = bytearray(whole)
            broken[int(rng.integers(2, len(whole)))] = int(rng.integers(256))
        with monkeypatch.context() as patch:
            with_it, without = with_and_without(bytes(broken), patch)
        assert with_it == without
