"""What a file carries beside its pixels, told by its first bytes: metadata blocks and encoders' marks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from gammascope.imaging.codecs import jpeg_segments

TRAITS: Mapping[str, str] = {
    "exif": "EXIF data",
    "xmp": "XMP data",
    "iptc": "IPTC or Photoshop data",
    "icc": "colour profile",
    "text": "comment or text",
    "c2pa": "C2PA manifest",
    "jfif": "JFIF mark",
    "adobe": "Adobe mark",
    "progressive": "progressive JPEG",
    "lossless_webp": "lossless WebP",
}
"""All that ``traits`` may find, with a name for people."""

# How a JPEG segment begins, by its marker. Sources: ITU-T T.871 (JFIF), CIPA DC-008 (Exif), Adobe XMP part 3,
# ICC.1 annex B, Adobe's Photoshop file formats and TN 5116, ISO 19566-5 (JUMBF, which holds C2PA).
_JPEG_SEGMENTS = (
    (0xE0, b"JFIF\0", "jfif"),
    (0xE1, b"Exif\0", "exif"),
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0", "xmp"),
    (0xE2, b"ICC_PROFILE\0", "icc"),
    (0xEB, b"JP", "c2pa"),
    (0xED, b"Photoshop 3.0\0", "iptc"),
    (0xEE, b"Adobe", "adobe"),
    (0xFE, b"", "text"),
    (0xC2, b"", "progressive"),
)

# Sources: W3C PNG 3rd edition; C2PA 2.1, embedding manifests; RFC 9649 (WebP).
_PNG_CHUNKS = {
    b"eXIf": "exif",
    b"iCCP": "icc",
    b"tEXt": "text",
    b"zTXt": "text",
    b"iTXt": "text",
    b"caBX": "c2pa",
}
_PNG_XMP = b"XML:com.adobe.xmp\0"
_WEBP_CHUNKS = {
    b"EXIF": "exif",
    b"XMP ": "xmp",
    b"ICCP": "icc",
    b"C2PA": "c2pa",
    b"VP8L": "lossless_webp",
}


_JPEG_MARKERS = {0xC4: "DHT", 0xC8: "JPG", 0xCC: "DAC", 0xDB: "DQT", 0xDD: "DRI", 0xFE: "COM"}

MOST_PARTS = 200
"""Runs of parts that ``parts`` names at most."""


def traits(data: bytes) -> frozenset[str]:
    """Return which of TRAITS a JPEG, PNG or WebP file shows; nothing of other formats is read.

    Only that a block is there counts, not what it says; damaged files give what stands before the damage.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return frozenset(_WEBP_CHUNKS[name] for name in _webp_chunks(data) if name in _WEBP_CHUNKS)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return frozenset(
            "xmp" if body.startswith(_PNG_XMP) else _PNG_CHUNKS[name]
            for name, body in _png_chunks(data)
            if name in _PNG_CHUNKS
        )
    return frozenset(
        trait
        for marker, body in jpeg_segments(data)
        for known, start, trait in _JPEG_SEGMENTS
        if marker == known and body.startswith(start)
    )


def parts(data: bytes) -> list[str]:
    """Name the parts that a JPEG, PNG, WebP, AVIF or HEIC file is made of, and nothing of what they say.

    Returns:
        In the file's order, up to ``MOST_PARTS``: "APP1 exif", "DQT", "IDAT x 12" for twelve in a row; empty for other
        formats.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kinds = (_letters(name) for name in _webp_chunks(data))
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        kinds = (_letters(name) for name, _ in _png_chunks(data))
    elif data[4:8] == b"ftyp":
        kinds = (_letters(name) for name in _boxes(data))
    else:
        kinds = (_segment(marker, body) for marker, body in jpeg_segments(data))
    runs = ((kind, len(list(run))) for kind, run in itertools.groupby(kinds))
    counted = (kind if count == 1 else f"{kind} x {count}" for kind, count in runs)
    return list(itertools.islice(counted, MOST_PARTS))


def _segment(marker: int, body: bytes) -> str:
    """Name a JPEG segment as ITU-T T.81, table B.1, does, with what is known to be in it."""
    if marker in _JPEG_MARKERS:
        name = _JPEG_MARKERS[marker]
    elif marker & 0xF0 == 0xE0:
        name = f"APP{marker & 15}"
    else:
        name = f"SOF{marker & 15}" if marker & 0xF0 == 0xC0 else f"{marker:02X}"
    for known, start, trait in _JPEG_SEGMENTS:
        if start and marker == known and body.startswith(start):
            return f"{name} {trait}"
    return name


def _letters(name: bytes) -> str:
    return name.decode("ascii") if name.strip().isalnum() and name.isascii() else name.hex()


def _boxes(data: bytes) -> Iterator[bytes]:
    """Yield the names of the outer boxes of an ISO base media file. Source: ISO/IEC 14496-12, 4.2."""
    position = 0
    while position + 8 <= len(data):
        yield data[position + 4 : position + 8]
        length = int.from_bytes(data[position : position + 4], "big")
        if length == 1:  # It stands behind the name, in eight bytes.
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        if length < 8:  # 0: up to the end of the file; others are nonsense.
            return
        position += length


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    position = 12
    while position + 8 <= len(data):
        yield data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, first bytes of the body): enough to tell what it is."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        start = position + 8
        yield data[position + 4 : start], data[start : start + min(length, len(_PNG_XMP))]
        position = start + length + 4  # A checksum follows.
