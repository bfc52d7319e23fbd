"""Damaged files whose pixels are whole are examined with a note; where pixels are missing, they are refused."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import PIL.Image
import pytest
from skimage import data

from gammascope.errors import UndecodableImageError
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.provenance import provenance_of

PHOTO = data.astronaut()[100:180, 150:246]


def saved(kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(file, kind, **settings)
    return file.getvalue()


PNG = saved("PNG")


def chunk(name: bytes, body: bytes, *, wrong: bool = False) -> bytes:
    checksum = zlib.crc32(name + body) ^ wrong
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


DAMAGED = {
    "gAMA": chunk(b"gAMA", struct.pack(">I", 45455), wrong=True),
    "tEXt": chunk(b"tEXt", b"Title\0x", wrong=True),
    "zTXt": chunk(b"zTXt", b"Title\0\7abc"),
    "iTXt": chunk(b"iTXt", b"Title\0\1\0\0\0not packed", wrong=True),
    "iCCP": chunk(b"iCCP", b"name\0\x09abc"),
    "pHYs": chunk(b"pHYs", b"\0", wrong=True),
    "cHRM": chunk(b"cHRM", b"\0" * 5),
    "acTL": chunk(b"acTL", b""),
    "tIME": chunk(b"tIME", b"\0", wrong=True),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_damage_beside_the_pixels_of_a_png_is_left_out_and_named(name: str, behind: bool) -> None:
    at = len(PNG) - 12 if behind else 33
    content = PNG[:at] + DAMAGED[name] + PNG[at:]
    decoded = decode(content)
    np.testing.assert_array_equal(decoded.image, PHOTO)
    assert all(name in note for note in decoded.notes)
    found = [item.statement for item in provenance_of(content) if item.name == "provenance:broken"]
    assert any(name in statement for statement in found)


def test_the_last_chunk_may_be_cut_off_once_the_pixels_are_there() -> None:
    cut = PNG[:-12] + chunk(b"tEXt", b"Comment\0" + 90 * b"x")[:40]
    decoded = decode(cut)
    np.testing.assert_array_equal(decoded.image, PHOTO)
    np.testing.assert_array_equal(decode(PNG[:-12]).image, PHOTO)


def test_too_much_text_hides_no_pixels() -> None:
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4 * 2**20)))
    decoded = decode(PNG[:33] + bomb + PNG[33:])
    np.testing.assert_array_equal(decoded.image, PHOTO)
    assert any("zTXt" in note for note in decoded.notes)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_missing_pixels_of_a_png_stay_an_error(share: float) -> None:
    with pytest.raises(UndecodableImageError):
        decode(PNG[: int(len(PNG) * share)])
    damaged = bytearray(PNG)
    damaged[int(len(PNG) * share)] ^= 0xFF
    with pytest.raises(UndecodableImageError):
        decode(bytes(damaged))


JPEGS = {
    "baseline": saved("JPEG", quality=90),
    "grey": codecs.encode(np.repeat(PHOTO[..., :1], 3, 2), codecs.Encoding("jpeg", 80)),
    "progressive": saved("JPEG", quality=85, progressive=True),
    "4:2:0": saved("JPEG", quality=75, subsampling=2),
    "restarts": saved("JPEG", quality=85, restart_marker_blocks=4),
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_end_mark_is_examined(name: str) -> None:
    content = JPEGS[name]
    whole = decode(content)
    for cut in (content[:-2], content[:-1], content[:-2] + bytes(20)):
        decoded = decode(cut)
        np.testing.assert_array_equal(decoded.image, whole.image)
    assert any("end mark" in note for note in decode(content[:-2]).notes)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("missing", [3, 4, 5, 8, 30, 300])
def test_a_jpeg_that_lacks_pixels_is_refused(name: str, missing: int) -> None:
    content = JPEGS[name][:-missing]
    try:
        image = decode(content).image
    except UndecodableImageError as error:
        assert "truncated" in str(error)  # noqa: PT017 - padding alone may be what is missing
    else:
        np.testing.assert_array_equal(image, decode(JPEGS[name]).image)


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    content = JPEGS["progressive"]
    last = content.rindex(b"\xff\xda")
    with pytest.raises(UndecodableImageError, match="truncated"):
        decode(content[:last])


@pytest.mark.parametrize("stray", [b"\0\0", b"\xff\xff\xff", b"\0" * 50, b"junk"])
def test_stray_bytes_between_segments_hide_nothing(stray: bytes) -> None:
    exif = PIL.Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", "Model"
    content = saved("JPEG", quality=90, exif=exif)
    after_first = 4 + int.from_bytes(content[4:6], "big")
    padded = content[:after_first] + stray + content[after_first:]
    assert codecs.jpeg_quality(padded) == 90
    assert any("Maker Model" in item.statement for item in provenance_of(padded))
    np.testing.assert_array_equal(decode(padded).image, decode(content).image)


@pytest.mark.parametrize(("precision", "marker"), [(12, 0xC1), (8, 0xC3)])
def test_unusual_jpegs_are_not_called_broken(precision: int, marker: int) -> None:
    frame = bytes((0xFF, marker, 0, 11, precision, 0, 8, 0, 8, 1, 1, 0x11, 0))
    content = b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(30) + b"\xff\xd9"
    with pytest.raises(UndecodableImageError, match="JPEG is not supported"):
        decode(content)


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_within_the_pixels_of_a_jpeg_is_told(progressive: bool) -> None:
    """Decoders go on after it, with something else in its place; what makes no sense any more is told."""
    pytest.importorskip("simplejpeg")
    content = saved("JPEG", quality=90, progressive=progressive)
    assert decode(content).notes == ()
    start, noted = content.index(b"\xff\xda") + 20, 0
    for at in range(start, len(content) - 8, 97):
        damaged = content[:at] + b"\x5a\xa5\x12" + content[at + 3 :]
        try:
            noted += any("the pixels are damaged" in note for note in decode(damaged).notes)
        except UndecodableImageError:
            noted += 1
    assert noted > 0.3 * len(range(start, len(content) - 8, 97))


def test_stray_bytes_between_segments_are_no_damage() -> None:
    content = saved("JPEG", quality=90)
    at = content.index(b"\xff\xdb")
    assert decode(content[:at] + b"\0\0" + content[at:]).notes == ()


def test_a_sound_animation_is_not_called_damaged() -> None:
    file = io.BytesIO()
    first, *others = (PIL.Image.fromarray(PHOTO ^ np.uint8(turn)) for turn in (0, 64, 128))
    first.save(file, "PNG", save_all=True, append_images=others)
    assert b"fdAT" in file.getvalue()
    assert not [one for one in provenance_of(file.getvalue()) if one.name == "provenance:broken"]


def test_what_is_sound_but_too_large_to_be_read_is_not_called_damaged() -> None:
    """The decoder takes no profile of more than a mebibyte."""
    profile = zlib.compress(bytes(1_200_000))
    content = PNG[:33] + chunk(b"iCCP", b"name\0\0" + profile) + PNG[33:]
    assert decode(content).notes == (
        "a part beside the pixels that cannot be read was left out (iCCP)",
    )
    said = [one.statement for one in provenance_of(content) if one.name == "provenance:broken"]
    assert any("the part iCCP of the PNG file cannot be read" in one for one in said)


def test_many_chunks_take_no_time_by_their_square() -> None:
    parts = [chunk(b"IDAT", b"garbage!"), *[chunk(b"IDAT", b"")] * 30_000, chunk(b"tEXt", b"a\0b")]
    start = time.process_time()
    with pytest.raises(UndecodableImageError):
        decode(PNG[:33] + b"".join(parts) + PNG[-12:])
    assert time.process_time() - start < 5  # a minute and a half when each was looked for among all
