"""What EXIF data say about camera, program and dates, and where they contradict each other or the picture.

EXIF is written by cameras and by anyone else: it can be forged, and most shared pictures have lost it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import PIL.Image
from PIL.ExifTags import GPS, IFD, Base

from gammascope.imaging.provenance.containers import excerpt
from gammascope.report import Evidence, Strength

_TIME_ZONES = timedelta(hours=26)
"""Clocks in different zones, each without its zone, can disagree by so much."""

_LONGEST_THUMBNAIL = 2**18

_FORGEABLE = "Anyone can write EXIF data, and most shared pictures have lost theirs: neither proves anything."


@dataclass(frozen=True, slots=True)
class Exif:
    """The fields of an EXIF block that are read; empty or None where absent or broken.

    Attributes:
        make: Who built the camera.
        model: Its name.
        software: What wrote the file.
        texts: Fields of free text that generators use, by name.
        taken: When the shutter opened.
        digitised: When the picture became digital.
        written: When the file was last written.
        located: When the satellites were read, in UTC; day only.
        size: Width and height the camera gave the picture, stored (not upright).
        thumbnail: A small JPEG inside the block.
        problem: Why the block could not be read, one clause.
    """

    make: str = ""
    model: str = ""
    software: str = ""
    texts: tuple[tuple[str, str], ...] = ()
    taken: datetime | None = None
    digitised: datetime | None = None
    written: datetime | None = None
    located: datetime | None = None
    size: tuple[int, int] | None = None
    thumbnail: bytes = b""
    problem: str = ""


def read_exif(block: bytes) -> Exif:
    """Read an EXIF block (a TIFF structure); whatever is broken is left out."""
    if not block:
        return Exif()
    exif = PIL.Image.Exif()
    try:
        exif.load(block)
        main: dict[int, Any] = dict(exif)
        camera, gps, small = (_directory(exif, name) for name in (IFD.Exif, IFD.GPSInfo, IFD.IFD1))
    except Exception:  # Parsers of hostile bytes raise almost any type.
        return Exif(problem="the EXIF data are broken")
    texts = [(name, _text(main.get(tag))) for name, tag in _TEXT_TAGS.items()]
    texts.append(("EXIF UserComment", _comment(camera.get(Base.UserComment), block[:2] == b"II")))
    return Exif(
        make=_text(main.get(Base.Make)),
        model=_text(main.get(Base.Model)),
        software=_text(main.get(Base.Software)),
        texts=tuple((name, text) for name, text in texts if text),
        taken=_moment(camera.get(Base.DateTimeOriginal)),
        digitised=_moment(camera.get(Base.DateTimeDigitized)),
        written=_moment(main.get(Base.DateTime)),
        located=_moment(f"{_text(gps.get(GPS.GPSDateStamp))} 00:00:00"),
        size=_size(camera),
        thumbnail=_thumbnail(small, block),
    )


def findings(exif: Exif, size: tuple[int, int] | None) -> Iterator[Evidence]:
    """State the camera, and what does not fit together.

    Args:
        exif: What was read.
        size: Stored width and height of the picture itself; None if not known.
    """
    camera = excerpt(_camera(exif), 80)
    if camera:
        when = f", taken on {exif.taken:%Y-%m-%d %H:%M}" if exif.taken else ""
        yield Evidence(
            "provenance:camera",
            f"The EXIF data name the camera {camera}{when}.",
            strength=Strength.WEAK,
            limits=_FORGEABLE,
        )
    yield from _dates(exif)
    if exif.size and size and sorted(exif.size) != sorted(size):
        yield Evidence(
            "provenance:dimensions",
            f"The EXIF data describe a picture of {exif.size[0]} x {exif.size[1]} px, but it has "
            f"{size[0]} x {size[1]}: it was cropped or resized after they were written.",
            strength=Strength.WEAK,
            limits="Ordinary for pictures prepared for the web: it shows later processing, not a montage.",
        )


def _dates(exif: Exif) -> Iterator[Evidence]:
    limits = "Clocks of cameras are often wrong, programs fill these fields as they like, and anyone can change them."
    contradictions = []
    for name, later in (("digitised", exif.digitised), ("last written", exif.written)):
        if exif.taken and later and later < exif.taken - _TIME_ZONES:
            contradictions.append(
                f"it was {name} on {later:%Y-%m-%d}, before it was taken on {exif.taken:%Y-%m-%d}"
            )
    if exif.taken and exif.located and abs(exif.taken - exif.located) > 2 * _TIME_ZONES:
        contradictions.append(
            f"it was taken on {exif.taken:%Y-%m-%d}, but the satellites' date is {exif.located:%Y-%m-%d}"
        )
    if contradictions:
        yield Evidence(
            "provenance:dates",
            f"The dates contradict each other: {'; '.join(contradictions)}.",
            strength=Strength.WEAK,
            limits=limits,
        )
    elif exif.taken and exif.written and exif.written > exif.taken + _TIME_ZONES:
        yield Evidence(
            "provenance:dates",
            f"The file was written on {exif.written:%Y-%m-%d}, {(exif.written - exif.taken).days} days after it was "
            "taken: it was saved again.",
            strength=Strength.WEAK,
            limits=f"Turning or renaming can be enough for that. {limits}",
        )


# Fields of free text; ComfyUI writes its graph into those of the camera.
_TEXT_TAGS = {
    "EXIF ImageDescription": Base.ImageDescription,
    "EXIF Make": Base.Make,
    "EXIF Model": Base.Model,
    "EXIF XPComment": Base.XPComment,
}


def _camera(exif: Exif) -> str:
    """Return make and model, the make only once; nothing if a program keeps its data there."""
    if ":{" in exif.make + exif.model:
        return ""
    repeated = exif.model.lower().startswith(exif.make.lower())
    return exif.model if repeated else f"{exif.make} {exif.model}".strip()


def _directory(exif: PIL.Image.Exif, name: IFD) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(name))
    except Exception:  # One broken directory leaves the others readable.
        return {}


def _text(value: Any) -> str:
    if isinstance(value, tuple):  # Windows stores UTF-16 as numbers.
        value = bytes(part for part in value if isinstance(part, int) and 0 <= part < 256)
    if isinstance(value, bytes):
        wide = value[1:2] == b"\0"
        value = value.decode("utf-16-le" if wide else "utf-8", "replace")
    if not isinstance(value, str):
        return ""
    text = value
    with suppress(UnicodeError):  # Pillow reads Latin-1, many programs write UTF-8.
        text = value.encode("latin-1").decode("utf-8")
    return text.strip("\0 \r\n\t")


def _comment(value: Any, little_endian: bool) -> str:
    """Decode a user comment: eight letters that name its code, then text. Source: EXIF 2.32, 4.6.5."""
    if not isinstance(value, bytes):
        return _text(value)
    code, body = value[:8], value[8:]
    if code.rstrip(b"\0") != b"UNICODE":
        return _text(body if code.rstrip(b"\0") in (b"ASCII", b"JIS", b"") else value)
    # Programs use either byte order, whatever the block's own: Latin letters tell, for their high byte is zero.
    high_first, low_first = body[0:200:2].count(0), body[1:200:2].count(0)
    little = little_endian if high_first == low_first else low_first > high_first
    return body.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\0 ")


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    # Cameras that were never set begin in 1970 or 1980, and sums must stay within the calendar.
    return moment if 1981 <= moment.year <= 9000 else None


def _size(camera: dict[int, Any]) -> tuple[int, int] | None:
    width, height = camera.get(Base.ExifImageWidth), camera.get(Base.ExifImageHeight)
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _thumbnail(small: dict[int, Any], block: bytes) -> bytes:
    start, length = small.get(Base.JpegIFOffset), small.get(Base.JpegIFByteCount)
    if (
        isinstance(start, int)
        and isinstance(length, int)
        and 0 < length <= _LONGEST_THUMBNAIL
        and start > 0
    ):
        return block[start : start + length]
    return b""
