"""Directories of TIFF files: which of a file's pictures is the picture, and which files are camera raws.

A TIFF file is a chain of directories, each of one picture, and a directory may name more below it. The first one is not
always the picture: cameras and programs put a reduced copy there. Sources: TIFF 6.0; Adobe's TIFF technical note 1
(SubIFDs); DNG 1.7; TIFF/EP (ISO 12234-2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gammascope.errors import UndecodableImageError
from gammascope.imaging.unsupported import RAW

_MOST_DIRECTORIES = 64
_MOST_ENTRIES = 1024
_MOST_VALUES = 64  # Of one entry.

_KIND, _OLD_KIND, _WIDTH, _HEIGHT = 254, 255, 256, 257
_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_ORIENTATION, _SAMPLES, _BELOW, _FORMAT = 274, 277, 330, 339
_STRIPS, _TILES = (273, 279), (324, 325)  # Places and lengths.
_DNG_VERSION = 50706

_REDUCED, _MASK = 1, 4  # Bits of the kind of a picture.
_OLD_REDUCED = 2
_RAW_COLOURS = frozenset((32803, 34892))  # Colour filter array, linear raw.
_RAW_CODECS = frozenset((32767, 34713, 65000, 65535))  # Sony, Nikon, Kodak, Pentax.
_CANON = b"CR"  # Behind the header of a CR2 file.

_FORMATS = {1: "unsigned", 2: "signed", 3: "float", 5: "complex integer", 6: "complex float"}

# Letters of ``struct`` for the types of whole numbers.
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class Directory:
    """One picture of a TIFF file, as far as whole numbers tell of it.

    Attributes:
        offset: Where it begins, bytes.
        tags: Values by tag; at most the first few of each.
        below: Whether another directory names it, so that it is no page of its own.
    """

    offset: int
    tags: Mapping[int, tuple[int, ...]]
    below: bool = False

    def first(self, tag: int, absent: int = 0) -> int:
        """Return the first value of a tag."""
        return (self.tags.get(tag) or (absent,))[0]

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.first(_WIDTH) * self.first(_HEIGHT)

    @property
    def is_whole(self) -> bool:
        """Whether it is a picture of its own: no reduced copy, and no mask."""
        if self.first(_KIND) & (_REDUCED | _MASK) or self.first(_OLD_KIND) == _OLD_REDUCED:
            return False
        return self.pixels > 0

    @property
    def is_raw(self) -> bool:
        """Whether it holds what a sensor saw, which is no picture yet."""
        colours, codec = self.first(_PHOTOMETRIC), self.first(_COMPRESSION)
        return _DNG_VERSION in self.tags or colours in _RAW_COLOURS or codec in _RAW_CODECS


def main_picture(data: bytes) -> tuple[bytes, Directory | None]:
    """Return a TIFF file that begins with its main picture, and that picture's directory if it was not first.

    The first directory is the picture unless it says that it is a reduced copy, or names a larger one below itself.

    Args:
        data: The file; whatever cannot be read of it is left to the decoder to complain about.

    Raises:
        UndecodableImageError: If it is a camera raw, or holds nothing but reduced copies; the reason, without a name.
    """
    found = list(_directories(data))
    if not found:
        return data, None
    if data[8:10] == _CANON or any(directory.is_raw for directory in found):
        raise UndecodableImageError(RAW)
    first = found[0]
    whole = [one for one in found if one.is_whole and (one.below or not first.is_whole)]
    main = max(
        [first, *whole] if first.is_whole else whole, key=lambda one: one.pixels, default=None
    )
    if main is None and first.pixels:
        raise UndecodableImageError(
            f"holds only a reduced copy of its picture ({first.first(_WIDTH)} x {first.first(_HEIGHT)} px): "
            "save the picture itself as JPEG, PNG or TIFF"
        )
    if main is None or main is first:
        return data, None
    order = "<" if data[:1] == b"I" else ">"
    if _is_big(data):
        return data[:8] + struct.pack(f"{order}Q", main.offset) + data[16:], main
    return data[:4] + struct.pack(f"{order}I", main.offset) + data[8:], main


def orientation(data: bytes) -> int:
    """Return the EXIF orientation that the first directory states for all of the file; 1 if it says nothing."""
    return next((one.first(_ORIENTATION, 1) for one in _directories(data)), 1)


def unsupported(data: bytes) -> str:
    """Describe the pixels of a TIFF file whose structure is sound; empty if it is not.

    What the decoder refuses then is a kind that it does not know, not a broken file.
    """
    for first in _directories(data):
        places = [*zip(*(first.tags.get(tag, ()) for tag in _STRIPS), strict=False)]
        places += zip(*(first.tags.get(tag, ()) for tag in _TILES), strict=False)
        if not first.pixels or not places or max(map(sum, places)) > len(data):
            break
        bits, samples = first.first(_BITS, 1), first.first(_SAMPLES, 1)
        kind = _FORMATS.get(first.first(_FORMAT, 1), "unknown")
        byte_order = ", big-endian BigTIFF" if data[:1] == b"M" and _is_big(data) else ""
        return (
            f"{samples} x {bits} bits, {kind}, compression {first.first(_COMPRESSION, 1)}, "
            f"photometric {first.first(_PHOTOMETRIC)}{byte_order}"
        )
    return ""


def _directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories of a file, those below one right behind it; broken ones end their chain."""
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (start,) = struct.unpack_from(
            f"{order}{'Q' if _is_big(data) else 'I'}", data, 8 if _is_big(data) else 4
        )
    except (KeyError, struct.error):
        return
    waiting, seen = [(start, False)], set[int]()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        offset, below = waiting.pop(0)
        if not offset or offset in seen:
            continue
        seen.add(offset)
        try:
            tags, following = _entries(data, offset, order)
        except (struct.error, OverflowError):  # Places far outside the file.
            continue
        yield Directory(offset, tags, below)
        inside = [(place, True) for place in tags.get(_BELOW, ())]
        waiting = [*inside, (following, below), *waiting]


def _entries(data: bytes, offset: int, order: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """Read the whole numbers of a directory, and where the next one of its chain is (0: nowhere)."""
    big = _is_big(data)
    counted, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    (count,) = struct.unpack_from(order + counted, data, offset)
    position = offset + struct.calcsize(f"={counted}")
    step = struct.calcsize(f"={entry}") + inline
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(position, position + step * min(count, _MOST_ENTRIES), step):
        tag, kind, number = struct.unpack_from(order + entry, data, at)
        if kind not in _TYPES:
            continue
        place, letter = at + step - inline, _TYPES[kind]
        if number * struct.calcsize(f"={letter}") > inline:
            (place,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, place)
        letters = f"{order}{min(number, _MOST_VALUES)}{letter}"
        if place + struct.calcsize(letters) <= len(data):
            tags[tag] = struct.unpack_from(letters, data, place)
    try:
        (following,) = struct.unpack_from(
            f"{order}{'Q' if big else 'I'}", data, position + step * count
        )
    except struct.error:  # Some programs leave the last link out.
        following = 0
    return tags, following


def _is_big(data: bytes) -> bool:
    """Tell BigTIFF, whose places in the file have 8 bytes instead of 4."""
    return b"+" in data[2:4]
