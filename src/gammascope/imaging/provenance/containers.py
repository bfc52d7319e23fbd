"""Where file formats keep what they say about a picture; read without touching a pixel, and never beyond a bound.

Whatever is broken, too long or too much is left out and noted: metadata are hostile until shown otherwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gammascope.errors import MissingExtraError
from gammascope.imaging.codecs import jpeg_segments
from gammascope.imaging.decode import opened

LONGEST_BYTES = 2**20
"""A single text, EXIF block or XMP packet above this is not read."""

MOST_PARTS = 4096
"""Chunks or segments of a file that are looked at, from its beginning."""

MOST_TEXTS = 64

_EXIF_START = b"Exif\0\0"
_JPEG_XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = "XML:com.adobe.xmp"
_APP1, _COMMENT = 0xE1, 0xFE


@dataclass(slots=True)
class Metadata:
    """What a file says beside its pixels, as raw as it is stored.

    Attributes:
        exif: A TIFF structure; empty if there is none.
        xmp: A packet of XML; empty if there is none.
        texts: Keyword and text, in the file's order: PNG text chunks, comments.
        problems: What could not be read, one clause each.
    """

    exif: bytes = b""
    xmp: bytes = b""
    texts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, kind: str, content: bytes) -> None:
        """Keep the first "EXIF" or "XMP" block, unless it is too long."""
        if len(content) > LONGEST_BYTES:
            self.problems.append(
                f"{kind} data of {len(content)} bytes are too long and were not read"
            )
        elif kind == "EXIF":
            self.exif = self.exif or content
        else:
            self.xmp = self.xmp or content

    def take_text(self, keyword: str, text: str) -> None:
        """Keep a text, up to ``MOST_TEXTS`` of them."""
        if len(self.texts) < MOST_TEXTS:
            self.texts.append((keyword, text))


def metadata_of(data: bytes, kind: str) -> Metadata:
    """Read the metadata blocks of a file.

    Args:
        data: The file's content.
        kind: Its format, as ``decode.format_of`` tells it.
    """
    metadata = Metadata()
    if kind == "jpeg":
        _read_jpeg(data, metadata)
    elif kind == "png":
        _read_png(data, metadata)
    elif kind == "webp":
        for name, content in _riff_chunks(data):
            if name in (b"EXIF", b"XMP "):
                metadata.take(name.decode().strip(), content)
    else:
        _read_other(data, kind, metadata)
    return metadata


def _read_jpeg(data: bytes, metadata: Metadata) -> None:
    for number, (marker, body) in enumerate(jpeg_segments(data)):
        if number >= MOST_PARTS:
            break
        if marker == _APP1 and body.startswith(_EXIF_START):
            metadata.take("EXIF", body[len(_EXIF_START) :])
        elif marker == _APP1 and body.startswith(_JPEG_XMP_START):
            metadata.take("XMP", body[len(_JPEG_XMP_START) :])
        elif marker == _COMMENT:
            metadata.take_text("Comment", _text(body))


def _read_png(data: bytes, metadata: Metadata) -> None:
    for name, content in _png_chunks(data):
        if name == b"eXIf":
            metadata.take("EXIF", content)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text, problem = _png_text(name, content)
            if problem:
                metadata.problems.append(problem)
            elif keyword == _PNG_XMP:
                metadata.take("XMP", text)
            else:
                metadata.take_text(keyword, _text(text))


def _read_other(data: bytes, kind: str, metadata: Metadata) -> None:
    """Let Pillow find the blocks in formats whose structure is deeper; a TIFF file is an EXIF block itself."""
    try:
        with opened(data, kind) as file:
            known: dict[str | tuple[int, int], Any] = dict(file.info)
            xmp = known.get("xmp") or getattr(file, "tag_v2", {}).get(_TIFF_XMP, b"")
    except MissingExtraError:
        return
    except Exception:  # Parsers of hostile bytes raise almost any type.
        metadata.problems.append("the file's structure is broken")
        return
    if isinstance(exif := known.get("exif"), bytes):
        metadata.take("EXIF", exif.removeprefix(_EXIF_START))
    elif kind == "tiff":
        metadata.exif = data
    if isinstance(xmp, bytes) and xmp:
        metadata.take("XMP", xmp)
    if isinstance(comment := known.get("comment"), bytes):
        metadata.take_text("Comment", _text(comment))


_TIFF_XMP = 700  # Tag.


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    for _ in range(MOST_PARTS):
        length = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        content = data[position + 8 : position + 8 + length]
        if len(name) < 4 or len(content) < length or name == b"IEND":
            return
        yield name, content
        position += 12 + length


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    for _ in range(MOST_PARTS):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        content = data[position + 8 : position + 8 + length]
        if len(name) < 4 or len(content) < length:
            return
        yield name, content
        position += 8 + length + length % 2


def _png_text(name: bytes, content: bytes) -> tuple[str, bytes, str]:
    """Return keyword, text and "", or what is wrong with a text chunk. Source: PNG specification, 11.3.3."""
    key, _, rest = content.partition(b"\0")
    keyword = key[:79].decode("latin-1")
    packed = name == b"zTXt"
    if name == b"zTXt":
        rest = rest[1:]  # Compression method; there is only one.
    elif name == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # Language, translated keyword.
    if packed:
        unpacker = zlib.decompressobj()
        try:
            rest = unpacker.decompress(rest, LONGEST_BYTES + 1)
        except zlib.error:
            return keyword, b"", "a compressed text is broken"
    if len(rest) > LONGEST_BYTES:
        return keyword, b"", f"a text of more than {LONGEST_BYTES} bytes was not read"
    return keyword, rest, ""


def _text(content: bytes) -> str:
    """Decode as UTF-8, which programs write even where the format asks for Latin-1."""
    try:
        return content[:LONGEST_BYTES].decode("utf-8")
    except UnicodeDecodeError:
        return content[:LONGEST_BYTES].decode("latin-1")
