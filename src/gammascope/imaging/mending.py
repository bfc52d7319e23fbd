"""Damaged files whose pixels are whole: what stands beside the pixels is left out, or the missing end added.

Viewers show such files. Nothing here guesses pixels: where some are missing, the file stays as it was.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from gammascope.imaging.codecs import JPEG_MARKER

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_MOST_CHUNKS = 4096
_PALETTE_BYTES = 12 + 3 * 256
_IN_ORDER = frozenset((b"fcTL", b"fdAT"))  # Alone, no decoder takes them.
_CHANGES_PIXELS = frozenset((b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf"))

_SCAN, _END = 0xDA, b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a PNG file.

    Attributes:
        name: Four letters; a small first one: pixels are there without it.
        start: Of the whole chunk, bytes.
        end: Behind its checksum.
        sound: Whether it is complete and its checksum right.
    """

    name: bytes
    start: int
    end: int
    sound: bool

    @property
    def is_ancillary(self) -> bool:
        """Whether pixels can be decoded without it."""
        return bool(self.name[0] & 0x20)


def mended(data: bytes, kind: str) -> tuple[bytes, str]:
    """Return a file that can be decoded in the place of one that cannot, and what was done, one clause.

    Args:
        data: The file.
        kind: Its format.

    Returns:
        The file as it is and "" if there is nothing to mend or pixels are missing.
    """
    if kind == "png":
        return _mended_png(data)
    if kind == "jpeg":
        return _mended_jpeg(data)
    return data, ""


def damaged_chunks(data: bytes) -> dict[str, str]:
    """Say of chunks of a PNG file beside its pixels, by name: "is damaged" or "cannot be read"; of others nothing."""
    chunks = list(islice(png_chunks(data), _MOST_CHUNKS))
    head = _head(data, chunks)
    found: dict[str, str] = {}
    for chunk in chunks:
        if chunk.is_ancillary and not _is_read(data, head, chunk):
            found.setdefault(_shown(chunk.name), "cannot be read" if chunk.sound else "is damaged")
    return found


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG file up to its end or up to nonsense."""
    position = len(_PNG_START)
    while True:
        length, name = (
            int.from_bytes(data[position : position + 4], "big"),
            data[position + 4 : position + 8],
        )
        if len(name) < 4 or name == b"IEND":
            return
        end = position + 12 + length
        # Of pixels the decoder looks itself, and they are long.
        sound = end <= len(data) and (
            name in (b"IDAT", b"fdAT")
            or zlib.crc32(memoryview(data)[position + 4 : end - 4])
            == int.from_bytes(data[end - 4 : end], "big")
        )
        yield Chunk(name, position, end, sound)
        position = end


def _mended_png(data: bytes) -> tuple[bytes, str]:
    chunks = list(png_chunks(data))
    if not all(chunk.is_ancillary or chunk.end <= len(data) for chunk in chunks):
        return data, ""
    if sum(chunk.is_ancillary for chunk in chunks) > _MOST_CHUNKS:
        return data, ""
    head, bad = _head(data, chunks), damaged_chunks(data)
    kept = [c for c in chunks if not c.is_ancillary or _is_read(data, head, c)]
    if not bad:  # Texts that are too much together, say.
        left = [c for c in chunks if c.is_ancillary and c.name not in _CHANGES_PIXELS]
        kept = [c for c in chunks if not c.is_ancillary or c.name in _CHANGES_PIXELS]
        bad = {_shown(chunk.name): "cannot be read" for chunk in left}
    whole = b"".join(data[chunk.start : chunk.end] for chunk in kept)
    return _PNG_START + whole + _PNG_END, _left_out(bad)


def _left_out(bad: Mapping[str, str]) -> str:
    """Say what is missing from a mended PNG file: these chunks, or else its end."""
    if not bad:
        return "the end of the file is missing, the pixels are whole"
    names = ", ".join(list(bad)[:4])
    if "is damaged" in bad.values():
        return f"a damaged part beside the pixels was left out ({names})"
    return f"a part beside the pixels that cannot be read was left out ({names})"


def _head(data: bytes, chunks: list[Chunk]) -> bytes:
    """Return what the reading of a single chunk needs: header and palette, if that is none of too many colours."""
    needed = (c for c in chunks[:64] if c.name in (b"IHDR", b"PLTE"))
    return b"".join(data[c.start : c.end] for c in needed if c.end - c.start <= _PALETTE_BYTES)


def _is_read(data: bytes, head: bytes, chunk: Chunk) -> bool:
    """Tell whether a chunk is whole and the decoder takes it."""
    if not chunk.sound or chunk.name in _IN_ORDER:
        return chunk.sound
    try:
        PngImageFile(
            io.BytesIO(_PNG_START + head + data[chunk.start : chunk.end] + _PNG_END)
        ).close()
    except Exception:  # Parsers of hostile bytes raise almost any type.
        return False
    return True


def _mended_jpeg(data: bytes) -> tuple[bytes, str]:
    """Add the end that is missing, if the pixels do not depend on what else could have stood before it."""
    if not _scans_are_complete(data):
        return data, ""
    data = data.rstrip(b"\xff")  # Half of the mark.
    try:
        # Were data missing, the decoder would take these bytes for them.
        first, *others = (
            _decoded(data + filling * 64 + _END) for filling in (b"", b"\x55", b"\xaa")
        )
    except Exception:  # Decoders of hostile bytes raise almost any type.
        return data, ""
    if any(not np.array_equal(first, other) for other in others):
        return data, ""
    return data + _END, "the end mark of the JPEG file is missing, the pixels are whole"


def _decoded(data: bytes) -> np.ndarray:
    with JpegImageFile(io.BytesIO(data)) as file:
        return np.asarray(file)


def _scans_are_complete(data: bytes) -> bool:
    """Tell whether every component's coefficients are there to their last bit; the last scan may still be short.

    A progressive file that ends between two scans decodes without complaint, only coarser.
    """
    missing: dict[int, set[int]] = {}
    for marker, body in _jpeg_parts(data):
        if marker in _FRAMES and len(body) >= 6:
            missing = {body[at]: set(range(64)) for at in range(6, len(body) - 2, 3)}
        elif marker == _SCAN and body:
            names, last = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] :]
            if len(last) < 3 or last[2] & 15:
                continue  # Later scans bring the lower bits.
            for name in names:
                missing.get(name, set()).difference_update(range(last[0], last[1] + 1))
    return bool(missing) and not any(missing.values())


def _jpeg_parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body) of a JPEG file to its end, over the entropy-coded data between."""
    position = 2
    for _ in range(_MOST_PARTS):
        found = JPEG_MARKER.search(data, position)
        if found is None or found[0] == _END:
            return
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        yield found[0][1], data[found.end() + 2 : found.end() + length]
        position = found.end() + max(length, 2)


def _shown(name: bytes) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name.decode("latin-1"))
