"""Metadata made to hurt: bombs, nesting, control characters, broken structures. Nothing crashes, hangs or grows."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.ExifTags import Base
from skimage import data

from gammascope.imaging.provenance import provenance_of
from gammascope.imaging.provenance.containers import LONGEST_BYTES, Metadata, excerpt, metadata_of
from gammascope.imaging.provenance.exif import read_exif
from gammascope.imaging.provenance.generation_settings import recognised
from gammascope.imaging.provenance.xmp import properties_of

PHOTO = data.chelsea()[:64, :64]
START = b"\x89PNG\r\n\x1a\n"
SECONDS = 2.0


def saved(kind: str, **extra: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(file, kind.upper(), **extra)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png_with(*chunks: bytes) -> bytes:
    bare = saved("png")
    after_header = 8 + 25
    return bare[:after_header] + b"".join(chunks) + bare[after_header:]


def quickly(file: bytes) -> dict[str, str]:
    start = time.perf_counter()
    items = provenance_of(file)
    assert time.perf_counter() - start < SECONDS
    assert len(items) < 40
    for item in items:
        assert item.statement.isprintable()
        assert len(item.statement) < 1500
    return {item.name: item.statement for item in items}


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE a [<!ENTITY a "x">%s]><a>&a9;</a>'
        % b"".join(b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 10)),
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://example.com/evil.dtd"><a/>',
    ],
    ids=["laughs", "file", "network"],
)
def test_document_types_are_refused_unread(packet):
    found = properties_of(packet)
    assert found.problem == "the XMP packet declares a document type and was not read"
    assert found.values == []
    assert "document type" in quickly(saved("webp", xmp=packet))["provenance:broken"]


def test_deep_nesting_ends_the_reading_and_keeps_what_was_read():
    inner = b'<x xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="GIMP">'
    found = properties_of(inner + b"<a>" * 10_000)
    assert "nested too deeply" in found.problem
    assert found.of("CreatorTool") == ["GIMP"]


def test_many_and_long_values_are_bounded():
    tool = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    many = "".join(f"<xmp:CreatorTool>{'y' * 5000}{i}</xmp:CreatorTool>" for i in range(1000))
    found = properties_of(f"<x {tool}>{many}</x>".encode())
    assert len(found.values) == 256
    assert max(len(text) for _, text in found.values) <= 2000


@pytest.mark.parametrize(
    "packet",
    [b"", b"<", b"\xff\xfe<\0", b"<a>&nope;</a>", b'<?xml version="1.0" encoding="x"?><a/>'],
)
def test_broken_packets_are_said_to_be_broken(packet):
    assert properties_of(packet).problem == "the XMP packet is broken"


def test_a_decompression_bomb_in_a_text_chunk_is_not_unpacked():
    bomb = zlib.compress(bytes(200 * 2**20), 9)
    for content in (b"zTXt", b"parameters\0\0" + bomb), (b"iTXt", b"parameters\0\1\0\0\0" + bomb):
        words = quickly(png_with(chunk(*content)))
        assert "was not read" in words["provenance:broken"]


def test_what_is_too_long_is_not_read():
    long = b"x" * (LONGEST_BYTES + 1)
    assert (
        "was not read"
        in quickly(png_with(chunk(b"tEXt", b"parameters\0" + long)))["provenance:broken"]
    )
    assert "were not read" in quickly(png_with(chunk(b"eXIf", long)))["provenance:broken"]
    assert "were not read" in quickly(saved("webp", xmp=long))["provenance:broken"]


def test_thousands_of_chunks_are_not_all_kept():
    words = quickly(png_with(*[chunk(b"tEXt", b"parameters\0Steps: 1, Seed: 1")] * 20_000))
    assert "Stable Diffusion" in words["provenance:generator"]
    metadata = metadata_of(png_with(*[chunk(b"tEXt", b"k\0v")] * 20_000), "png")
    assert len(metadata.texts) == 64


@pytest.mark.parametrize(
    "text", ["{" * 200_000, '{"a":' * 100_000, "[" * 200_000, '{"nodes": {"nodes": []}}', "{}"]
)
def test_deep_or_odd_json_is_no_settings(text):
    assert recognised("prompt", text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Steps: 1, " * 100_000,
        "Steps: " + "9" * 1_000_000,
        "Negative prompt:" * 60_000 + "Steps: 1, Sampler: x",
        "Job ID: " * 100_000,
        "gpt " * 250_000,
        "dall " * 200_000,
    ],
    ids=lambda text: text[:12],
)
def test_long_texts_are_searched_quickly(text):
    quickly(png_with(chunk(b"tEXt", b"Description\0" + text.encode()[:LONGEST_BYTES])))
    quickly(png_with(chunk(b"tEXt", b"Software\0" + text.encode()[:LONGEST_BYTES])))


def test_control_characters_never_reach_a_finding():
    text = "a\x1b[31m\u202e\u2066\x00\x07\r\n<b>prompt</b>\nSteps: 1, Sampler: x, Model: m\x1b]0;"
    words = quickly(png_with(chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode())))
    assert "<b>prompt</b>" in words["provenance:generator"], (
        "markup is text; the page shows it as such"
    )


@given(st.text(), st.integers(1, 50))
def test_excerpts_are_short_printable_and_on_one_line(text, letters):
    shown = excerpt(text, letters)
    assert len(shown) <= letters
    assert shown.isprintable()
    assert "  " not in shown


LOOP = (
    b"II*\0\x08\0\0\0"
    + b"\x01\0"
    + struct.pack("<HHII", Base.ExifOffset, 4, 1, 8)
    + struct.pack("<I", 8)
)
HUGE = (
    b"II*\0\x08\0\0\0" + b"\x01\0" + struct.pack("<HHII", Base.Make, 2, 0xFFFFFFF0, 30) + bytes(4)
)
FAR = b"II*\0" + struct.pack("<I", 0xFFFFFFFF)


@pytest.mark.parametrize(
    "block", [b"", b"\0", b"II*\0", b"Exif", LOOP, HUGE, FAR, b"MM\0*" + bytes(100)]
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_broken_exif_is_survived(block, kind):
    quickly(saved(kind, exif=b"Exif\0\0" + block if kind == "jpeg" else block or b"\0"))
    exif = read_exif(block)
    assert exif.make == ""
    assert exif.thumbnail == b""


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_no_exif_block_raises(tail, start):
    exif = read_exif(start + tail)
    assert isinstance(exif.make, str)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_no_packet_raises(packet):
    found = properties_of(packet)
    assert all(key and value for key, value in found.values)


@given(st.sampled_from(["jpeg", "png", "webp", "tiff", "gif", "avif"]), st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_no_container_raises(kind, tail):
    starts = {"jpeg": b"\xff\xd8\xff\xe1", "png": START, "webp": b"RIFF\0\0\0\0WEBP"}
    metadata = metadata_of(starts.get(kind, b"") + tail, kind)
    assert isinstance(metadata, Metadata)


def whole() -> dict[str, bytes]:
    """A file of each kind that says a lot."""
    exif = PIL.Image.Exif()
    exif.update({Base.Make: "Canon", Base.Software: "GIMP", Base.DateTime: "2020:01:01 00:00:00"})
    packet = (
        b'<x xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:CreatorTool>GIMP</xmp:CreatorTool></x>'
    )
    files = {kind: saved(kind, exif=exif, xmp=packet) for kind in ("jpeg", "webp")}
    files["png"] = png_with(
        chunk(b"eXIf", exif.tobytes()),
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"Steps: 1, Seed: 2")),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet),
    )
    files["tiff"] = saved("tiff", exif=exif, tiffinfo={700: packet})
    return files


FILES = whole()


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    st.floats(0.02, 1),
)
def test_damaged_files_are_survived(kind, damages, kept):
    file = bytearray(FILES[kind])
    for place, garbage in damages:
        at = 12 + int(place * min(len(file) - 20, 900))
        file[at : at + len(garbage)] = garbage
    cut = bytes(file[: max(16, int(kept * len(file)))])
    for item in provenance_of(cut):
        assert item.statement.isprintable()


def test_the_input_is_not_written_to():
    file = bytearray(FILES["jpeg"])
    provenance_of(bytes(file))
    assert bytes(file) == FILES["jpeg"]
    assert np.asarray(PIL.Image.open(io.BytesIO(file))).shape == (64, 64, 3)
