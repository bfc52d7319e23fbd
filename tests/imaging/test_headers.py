"""What a file carries beside its pixels, on files that Pillow wrote and on blocks put in by hand."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms, PngImagePlugin

from gammascope.imaging.headers import TRAITS, traits

PICTURE = PIL.Image.fromarray(np.arange(48 * 32 * 3, dtype=np.uint8).reshape(32, 48, 3))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


def exif() -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[0x010F] = "maker"
    return tags


def written(format_: str, **settings) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, format_, **settings)
    return file.getvalue()


def png_text(keyword: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(keyword, "anything")
    return info


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    length = (len(body) + 2).to_bytes(2, "big")
    return data[:2] + bytes((0xFF, marker)) + length + body + data[2:]


JPEG, PNG, WEBP = written("jpeg"), written("png"), written("webp")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (JPEG, {"jfif"}),
        (written("jpeg", progressive=True), {"jfif", "progressive"}),
        (written("jpeg", exif=exif()), {"jfif", "exif"}),
        (written("jpeg", icc_profile=PROFILE, comment=b"hello"), {"jfif", "icc", "text"}),
        (written("jpeg", xmp=XMP), {"jfif", "xmp"}),
        (with_segment(JPEG, 0xED, b"Photoshop 3.0\x008BIM"), {"jfif", "iptc"}),
        (with_segment(JPEG, 0xEB, b"JP\0\1"), {"jfif", "c2pa"}),
        (with_segment(JPEG, 0xEE, b"Adobe\0d"), {"jfif", "adobe"}),
        (with_segment(JPEG, 0xE1, b"something else"), {"jfif"}),
        (PNG, set()),
        (written("png", exif=exif(), icc_profile=PROFILE), {"exif", "icc"}),
        (written("png", pnginfo=png_text("parameters")), {"text"}),
        (written("png", pnginfo=png_text("XML:com.adobe.xmp")), {"xmp"}),
        (PNG[:33] + (4).to_bytes(4, "big") + b"caBXjumb" + bytes(4) + PNG[33:], {"c2pa"}),
        (WEBP, set()),
        (written("webp", lossless=True), {"lossless_webp"}),
        (written("webp", exif=exif(), xmp=XMP, icc_profile=PROFILE), {"exif", "xmp", "icc"}),
        (WEBP + b"C2PA" + (3).to_bytes(4, "little") + b"abc\0", {"c2pa"}),
        (written("bmp"), set()),
        (b"", set()),
    ],
)
def test_every_block_is_told_and_nothing_else(data, expected):
    assert traits(data) == expected
    assert expected <= set(TRAITS)


@given(st.integers(0, 4000), st.sampled_from(["jpeg", "png", "webp"]))
def test_a_file_cut_short_shows_what_stands_before_the_cut(length, format_):
    whole = written(format_, exif=exif(), icc_profile=PROFILE)
    assert traits(whole[:length]) <= traits(whole)


@given(st.binary(max_size=200), st.sampled_from([JPEG[:2], PNG[:8], WEBP[:12], b""]))
def test_nonsense_is_no_error(noise, start):
    assert traits(start + noise) <= set(TRAITS)
