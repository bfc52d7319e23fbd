"""What a file asks for beside a profile, and is not applied, becomes a note."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from skimage import data

from gammascope.imaging.decode import decode

PHOTO = data.astronaut()[100:180, 150:246]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(file, "PNG")
    content = file.getvalue()
    more = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return content[:33] + more + content[33:]


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 1e5))


PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def primaries(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 1e5) for value in values))


@pytest.mark.parametrize(
    ("chunks", "word"),
    [
        ([gamma(1.0)], "gamma 1 "),
        ([gamma(0.55555)], "gamma"),
        ([(b"cICP", bytes((9, 16, 0, 1)))], "PQ"),
        ([(b"cICP", bytes((1, 18, 0, 1))), (b"sRGB", b"\0")], "HLG"),
        ([(b"cICP", bytes((12, 13, 0, 1)))], "Display P3"),
        ([primaries(*PRIMARIES[:2], 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)], "primary colours"),
    ],
)
def test_what_viewers_would_apply_is_noted(chunks: list[tuple[bytes, bytes]], word: str) -> None:
    decoded = decode(png(*chunks))
    np.testing.assert_array_equal(decoded.image, PHOTO)
    (note,) = decoded.notes
    assert word in note
    assert "not applied" in note


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(0.45455)],
        [gamma(0.45)],
        [gamma(0.0)],
        [gamma(1.0), (b"sRGB", b"\0")],
        [(b"cICP", bytes((1, 13, 0, 1)))],
        [primaries(*PRIMARIES), gamma(0.45455)],
    ],
)
def test_what_changes_nothing_leaves_no_note(chunks: list[tuple[bytes, bytes]]) -> None:
    assert decode(png(*chunks)).notes == ()


def test_hdr_of_avif_is_noted() -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(file, "AVIF")
    content = file.getvalue()
    at = content.index(b"colrnclx") + 8
    hdr = content[:at] + struct.pack(">HH", 9, 16) + content[at + 4 :]
    assert decode(content).notes == ()
    assert any("PQ" in note for note in decode(hdr).notes)
