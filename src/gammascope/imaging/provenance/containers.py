"""Where file formats keep what they say about a picture; read without touching a pixel, and never beyond a bound.

Whatever is broken, too long or too much is left out and noted: metadata are hostile until shown otherwise.

``excerpt`` makes untrusted text fit to be shown. ``iptc_fields`` reads IPTC's older fields, which agencies and some
phones fill, from Adobe's image resources. Sources: IPTC IIM 4.2; Adobe Photoshop file formats, image resource blocks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import PIL.Image

from gammascope.errors import MissingExtraError
from gammascope.imaging import mending
from gammascope.imaging.codecs import jpeg_segments
from gammascope.imaging.decode import opened

EXCERPT_LETTERS = 160
"""Longest excerpt of a text from a file that a finding shows."""

_READ_LETTERS = 4096


def excerpt(text: str, letters: int = EXCERPT_LETTERS) -> str:
    r"""Return the beginning of a text: runs of blanks become one, unprintable letters "?".

    Letters that change the direction of writing count as unprintable, since they can make a text read as another.

    >>> excerpt("a  prompt\nwith\x07 bells", 20)
    'a prompt with? bells'
    >>> excerpt("abcdefgh", 5)
    'abcd…'
    """
    words = " ".join(text[:_READ_LETTERS].split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shown if len(shown) <= letters else f"{shown[: letters - 1].rstrip()}…"


_FIELDS = {65: "Program", 110: "Credit", 115: "Source"}  # No names of people.
_RESOURCE, _IPTC = b"8BIM", 0x0404
_MOST = 1000


def iptc_fields(resources: bytes) -> list[tuple[str, str]]:
    """Return field and text of what says where a picture comes from; whatever is broken ends the reading.

    Args:
        resources: Image resources of Photoshop, one after the other.
    """
    return [field for block in _blocks(resources) for field in _records(block)]


def _blocks(resources: bytes) -> Iterator[bytes]:
    position = 0
    while resources[position : position + 4] == _RESOURCE:
        kind = int.from_bytes(resources[position + 4 : position + 6], "big")
        name = resources[position + 6 : position + 7]
        start = position + 6 + (1 + (name[0] if name else 0) + 1) // 2 * 2
        length = int.from_bytes(resources[start : start + 4], "big")
        if kind == _IPTC:
            yield resources[start + 4 : start + 4 + length]
        position = start + 4 + length + length % 2


def _records(block: bytes) -> Iterator[tuple[str, str]]:
    position = 0
    for _ in range(_MOST):
        if block[position : position + 1] != b"\x1c" or position + 5 > len(block):
            return
        record, field = block[position + 1], block[position + 2]
        length = int.from_bytes(block[position + 3 : position + 5], "big")
        text = block[position + 5 : position + 5 + length].decode("utf-8", "replace").strip("\0 ")
        if record == 2 and field in _FIELDS and text:
            yield _FIELDS[field], text
        position += 5 + length


LONGEST_BYTES = 2**20
"""A single text, EXIF block or XMP packet above this is not read."""

MOST_PARTS = 4096
"""Chunks or segments of a file that are looked at, from its beginning."""

MOST_TEXTS = 64

BROKEN_OFF = b""
"""Name of what is left of a part where a file ends inside it."""

_EXIF_START = b"Exif\0\0"
_JPEG_XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "
_JPEG_MORE_XMP_START = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP_START = b"Photoshop 3.0\0"
_APP1, _APP13, _COMMENT = 0xE1, 0xED, 0xFE

T = TypeVar("T")


@dataclass(slots=True)
class Metadata:
    """What a file says beside its pixels, as raw as it is stored.

    Attributes:
        exif: A TIFF structure; empty if there is none.
        xmp: A packet of XML; empty if there is none.
        more_xmp: What did not fit into the packet of a JPEG file; XML, too.
        iptc: Adobe's image resources, where IPTC's older fields are; empty if there are none.
        texts: Keyword and text, in the file's order: PNG text chunks, comments.
        problems: What could not be read, one clause each.
    """

    exif: bytes = b""
    xmp: bytes = b""
    more_xmp: bytes = b""
    iptc: bytes = b""
    texts: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, kind: str, content: bytes) -> None:
        """Keep the first "EXIF" or "XMP" block, unless it is too long; what is left out is noted."""
        if len(content) > LONGEST_BYTES:
            self.note(f"{kind} data of {len(content)} bytes are too long and were not read")
        elif getattr(self, kind.lower()):
            self.note(f"a second block of {kind} data was not read")
        else:
            setattr(self, kind.lower(), content)

    def take_text(self, keyword: str, text: str) -> None:
        """Keep a text, up to ``MOST_TEXTS`` of them."""
        if keyword.startswith(_RAW_PROFILE):
            self.note(
                f"{keyword.removeprefix(_RAW_PROFILE).strip()[:20]} data as ImageMagick keeps them were not read"
            )
        elif len(self.texts) < MOST_TEXTS:
            self.texts.append((keyword, text))
        else:
            self.note(f"of the texts, only the first {MOST_TEXTS} were read")

    def note(self, problem: str) -> None:
        """Keep what could not be read, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def whole(self, parts: Iterable[T]) -> Iterator[T]:
        """Hand on the parts of a file up to ``MOST_PARTS``, and note where there are more."""
        for number, part in enumerate(parts):
            if number >= MOST_PARTS:
                self.note(f"of the file's parts, only the first {MOST_PARTS} were read")
                return
            yield part


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
        for name, content in metadata.whole(riff_chunks(data)):
            if name == BROKEN_OFF:
                metadata.note("the file breaks off inside a part")
            if name in (b"EXIF", b"XMP "):
                start = (
                    _EXIF_START if name == b"EXIF" else b""
                )  # Some programs write it as in JPEG files.
                metadata.take(name.decode().strip(), content.removeprefix(start))
    elif kind == "tiff":
        _read_tiff(data, metadata)
    else:
        _read_other(data, kind, metadata)
    return metadata


def _read_jpeg(data: bytes, metadata: Metadata) -> None:
    extended: dict[int, bytes] = {}
    for marker, body in metadata.whole(jpeg_segments(data)):
        if marker == _APP1 and body.startswith(_EXIF_START):
            metadata.take("EXIF", body[len(_EXIF_START) :])
        elif marker == _APP1 and body.startswith(_JPEG_XMP_START):
            metadata.take("XMP", body[len(_JPEG_XMP_START) :])
        elif marker == _APP1 and body.startswith(_JPEG_MORE_XMP_START):
            part = body[
                len(_JPEG_MORE_XMP_START) :
            ]  # Name of 32 letters, length of all, place of this.
            extended[int.from_bytes(part[36:40], "big")] = part[40:]
        elif marker == _APP13 and body.startswith(_PHOTOSHOP_START):
            metadata.iptc += body[len(_PHOTOSHOP_START) :]
        elif marker == _COMMENT:
            metadata.take_text("Comment", _text(body))
    more = b"".join(extended[place] for place in sorted(extended))
    if len(more) > LONGEST_BYTES:
        metadata.note(f"further XMP data of {len(more)} bytes are too long and were not read")
    else:
        metadata.more_xmp = more


def _read_png(data: bytes, metadata: Metadata) -> None:
    for name, fault in mending.damaged_chunks(data).items():
        metadata.note(f"the part {name} of the PNG file {fault}")
    for chunk in metadata.whole(mending.png_chunks(data)):
        content = data[chunk.start + 8 : chunk.end - 4]
        if chunk.name == b"eXIf":
            metadata.take("EXIF", content)
        elif chunk.name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text, problem = _png_text(chunk.name, content)
            if problem:
                metadata.note(problem)
            elif keyword == _PNG_XMP:
                metadata.take("XMP", text)
            else:
                metadata.take_text(keyword, _text(text))


def _read_tiff(data: bytes, metadata: Metadata) -> None:
    """A TIFF file is an EXIF block itself, whose first directory holds what is said of all of it."""
    metadata.exif = data
    exif = PIL.Image.Exif()
    try:
        exif.load(data)
        xmp = exif.get(_TIFF_XMP)
        resources = exif.get(_TIFF_PHOTOSHOP)
    except Exception:  # Parsers of hostile bytes raise almost any type.
        metadata.note("the file's structure is broken or not known")
        return
    if isinstance(xmp, bytes) and xmp:
        metadata.take("XMP", xmp)
    if isinstance(resources, bytes):
        metadata.iptc = resources


def _read_other(data: bytes, kind: str, metadata: Metadata) -> None:
    """Let Pillow find the blocks in formats whose structure is deeper."""
    if kind == "bmp":  # It has no place for any.
        return
    try:
        with opened(data, kind) as file:
            known: dict[str | tuple[int, int], Any] = dict(file.info)
    except MissingExtraError:
        metadata.note("the file could not be opened")
        return
    except Exception:  # Parsers of hostile bytes raise almost any type.
        metadata.note("the file's structure is broken or not known")
        return
    if isinstance(exif := known.get("exif"), bytes):
        metadata.take("EXIF", exif.removeprefix(_EXIF_START))
    if isinstance(xmp := known.get("xmp"), bytes) and xmp:
        metadata.take("XMP", xmp)
    if isinstance(comment := known.get("comment"), bytes):
        metadata.take_text("Comment", _text(comment))


_TIFF_XMP, _TIFF_PHOTOSHOP = 700, 34377  # Tags.


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the parts of a WebP file; the last one is BROKEN_OFF if it is not whole."""
    position = 12
    while position + 8 <= len(data):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        content = data[position + 8 : position + 8 + length]
        if len(content) < length:
            yield BROKEN_OFF, b""
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
