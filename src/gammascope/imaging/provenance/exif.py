"""What EXIF data say about camera, program and dates, and where they contradict each other or the picture.

EXIF is written by cameras and by anyone else: it can be forged, and most shared pictures have lost it.

The small picture inside may show something else than the picture does.
Cameras store one; a program that changes the picture and copies the EXIF data may leave the old one behind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float
from PIL.ExifTags import GPS, IFD, Base
from PIL.JpegImagePlugin import JpegImageFile

from gammascope.imaging.decode import opened
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
        artist: Who made the picture; programs sign here, too.
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
    artist: str = ""
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
        artist=_text(main.get(Base.Artist)),
        texts=tuple((name, text) for name, text in texts if text),
        taken=_moment(camera.get(Base.DateTimeOriginal)),
        digitised=_moment(camera.get(Base.DateTimeDigitized)),
        written=_moment(main.get(Base.DateTime)),
        located=_moment(f"{_text(gps.get(GPS.GPSDateStamp))} 00:00:00"),
        size=_size(camera),
        thumbnail=_thumbnail(small, block),
    )


def findings(exif: Exif, size: tuple[int, int] | None) -> Iterator[Evidence]:
    """State the camera, what people wrote, and what does not fit together.

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
    yield from _words(exif)
    yield from _dates(exif)
    if exif.size and size and sorted(exif.size) != sorted(size):
        yield Evidence(
            "provenance:dimensions",
            f"The EXIF data describe a picture of {exif.size[0]} x {exif.size[1]} px, but it has "
            f"{size[0]} x {size[1]}: it was cropped or resized after they were written.",
            strength=Strength.WEAK,
            limits="Ordinary for pictures prepared for the web: it shows later processing, not a montage.",
        )


def _words(exif: Exif) -> Iterator[Evidence]:
    """Quote who signed the picture and how it is described, whatever that means."""
    written = {"artist": exif.artist, "description": dict(exif.texts).get(_DESCRIPTION, "")}
    # A generator's graph is recognised elsewhere, and no sentence.
    quotes = [
        f"{what} “{excerpt(text, 80)}”"
        for what, text in written.items()
        if text and ":{" not in text
    ]
    if quotes:
        yield Evidence(
            "provenance:words",
            f"The EXIF data name {' and '.join(quotes)}.",
            strength=Strength.NEUTRAL,
            limits=_FORGEABLE,
        )


def _dates(exif: Exif) -> Iterator[Evidence]:
    limits = "Clocks of cameras are often wrong, programs fill these fields as they like, and anyone can change them."
    contradictions = []
    today = datetime.now(UTC).replace(tzinfo=None)
    for name, moment in (("taken", exif.taken), ("last written", exif.written)):
        if moment and moment > today + _TIME_ZONES:
            contradictions.append(
                f"it was {name} on {moment:%Y-%m-%d}, but examined earlier, on {today:%Y-%m-%d}"
            )
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
_DESCRIPTION = "EXIF ImageDescription"
_TEXT_TAGS = {
    _DESCRIPTION: Base.ImageDescription,
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


_SIDE = 32
_SAME, _OTHER = 0.85, 0.5
"""Correlations of the reduced pictures from which they count as the same, and below which as different (our choice)."""

_MOST_PIXELS = 64_000_000
_FLATTEST = 6.0  # Grey levels: below this deviation there is nothing to compare.


def thumbnail_findings(thumbnail: bytes, data: bytes, kind: str) -> list[Evidence]:
    """Compare a thumbnail with its picture, both as stored; empty if they agree or nothing can be said.

    Args:
        thumbnail: A JPEG file; empty if there is none.
        data: The file it was in.
        kind: That file's format.
    """
    if not thumbnail:
        return []
    try:
        small, whole = _grey(JpegImageFile(io.BytesIO(thumbnail))), _grey(opened(data, kind))
    except Exception:  # Decoders of hostile bytes raise almost any type.
        return []
    if small is None or whole is None or min(_deviation(small), _deviation(whole)) < _FLATTEST:
        return []
    upright = _similarity(small, whole)
    turned = max(_similarity(small.rotate(angle, expand=True), whole) for angle in (90, 180, 270))
    # Of HEIC the decoder has turned the picture, and not the thumbnail.
    if upright < _OTHER and turned >= _SAME and kind != "heic":
        return [
            Evidence(
                "provenance:thumbnail",
                "The thumbnail in the EXIF data is turned differently: the picture was turned after it was taken.",
                strength=Strength.NEUTRAL,
                limits="Viewers and galleries turn pictures all the time.",
            )
        ]
    if max(upright, turned) >= _OTHER:
        return []
    return [
        Evidence(
            "provenance:thumbnail",
            "The thumbnail in the EXIF data shows something else than the picture "
            f"(correlation {max(upright, turned):.2f}): it was replaced, changed or cropped afterwards.",
            strength=Strength.MODERATE,
            limits="Cropping or a strong change of tones is enough. Most programs renew the thumbnail, so one that "
            "fits proves nothing.",
        )
    ]


def _grey(file: PIL.Image.Image) -> PIL.Image.Image | None:
    """Decode as grey levels, reduced on the way where the format can; None if that would cost too much."""
    if file.width * file.height > _MOST_PIXELS:
        return None
    file.draft("L", (8 * _SIDE, 8 * _SIDE))
    grey = file.convert("L")
    grey.thumbnail((8 * _SIDE, 8 * _SIDE), PIL.Image.Resampling.BOX)
    return grey


def _deviation(image: PIL.Image.Image) -> float:
    return float(np.asarray(image, np.float32).std())


def _similarity(small: PIL.Image.Image, whole: PIL.Image.Image) -> float:
    """Return the best correlation over what is usual: bars around the thumbnail, or the picture's ends cut off."""
    pairs = (
        (_cut(small, whole.width / whole.height), whole),
        (small, _cut(whole, small.width / small.height)),
    )
    return max(_correlation(first, second) for first, second in pairs)


def _cut(image: PIL.Image.Image, aspect: float) -> PIL.Image.Image:
    """Return the largest middle part of an aspect (width over height)."""
    width = min(image.width, round(image.height * aspect))
    height = min(image.height, round(image.width / aspect))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + max(1, width), top + max(1, height)))


def _correlation(first: PIL.Image.Image, second: PIL.Image.Image) -> float:
    one, other = _reduced(first), _reduced(second)
    return float((one * other).mean() / max(one.std() * other.std(), 1e-6))


def _reduced(image: PIL.Image.Image) -> Float[np.ndarray, "s s"]:
    small = image.resize((_SIDE, _SIDE), PIL.Image.Resampling.BOX)
    values = np.asarray(small, np.float64)
    centred: Float[np.ndarray, "s s"] = values - values.mean()
    return centred
