"""What a file says about where its picture comes from: beside the pixels' verdict, and never mixed into it.

Signed statements (``c2pa``), declared source types (``xmp``), settings of generators (``generators``), names of
programs (``software``), camera and dates (``exif``, ``thumbnail``), traces of JPEG saves (``jpeg_tables``,
``double_jpeg``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gammascope.errors import UndecodableImageError
from gammascope.imaging.decode import content_of, format_of, opened
from gammascope.imaging.provenance import (
    c2pa,
    double_jpeg,
    exif,
    generators,
    jpeg_tables,
    software,
    thumbnail,
    xmp,
)
from gammascope.imaging.provenance.c2pa import TrustList
from gammascope.imaging.provenance.containers import metadata_of
from gammascope.imaging.provenance.excerpts import excerpt
from gammascope.report import Evidence, Strength

__all__ = ["TrustList", "provenance_of"]

_ORDER = list(Strength)


def provenance_of(
    source: Path | bytes, trust: TrustList | None = None, *, quick: bool = False
) -> tuple[Evidence, ...]:
    """Read what a file says about its origin and history; the strongest findings come first.

    Never raises for what is inside an image file: broken metadata become a finding. Nothing is fetched.

    Args:
        source: A file, or its content.
        trust: Signers of Content Credentials who are trusted; None: nobody is known.
        quick: Leave out the search for an earlier save, which costs more than all the rest.

    Returns:
        Findings named "provenance:...", each with its strength and limits; "provenance:none" if there is no metadata.

    Raises:
        UndecodableImageError: If it cannot be read, or is no image.
    """
    name = "<memory>" if isinstance(source, bytes) else excerpt(source.name)
    try:
        data = source if isinstance(source, bytes) else content_of(source)
        kind = format_of(data)
    except UndecodableImageError as error:
        raise UndecodableImageError(f"{name}: {error}.") from error.__cause__
    found = [*c2pa.findings(data, kind, trust), *_declared(data, kind)]
    if not found:
        found.append(_NOTHING)
    found += jpeg_tables.findings(data)
    if not quick:
        found += double_jpeg.findings(data)
    return tuple(sorted(found, key=lambda item: _ORDER.index(item.strength or Strength.NEUTRAL)))


def _declared(data: bytes, kind: str) -> Iterator[Evidence]:
    metadata = metadata_of(data, kind)
    camera = exif.read_exif(metadata.exif)
    packet = xmp.properties_of(metadata.xmp) if metadata.xmp else xmp.Properties()
    yield from xmp.findings(packet)
    yield from generators.findings([*metadata.texts, *camera.texts])
    programs = [("PNG text Software", text) for key, text in metadata.texts if key == "Software"]
    programs += [("EXIF Software", camera.software)] if camera.software else []
    programs += [
        (f"XMP {field}", text) for field in xmp.SOFTWARE_FIELDS for text in packet.of(field)
    ]
    yield from software.findings(programs)
    yield from exif.findings(camera, _size(data, kind))
    yield from thumbnail.findings(camera.thumbnail, data, kind)
    problems = [*metadata.problems, camera.problem, packet.problem]
    for problem in dict.fromkeys(filter(None, problems[:8])):
        yield Evidence(
            "provenance:broken",
            f"A part of the metadata was not read: {problem}.",
            strength=Strength.NEUTRAL,
            limits="Faulty programs break metadata as often as people who tamper with them.",
        )


def _size(data: bytes, kind: str) -> tuple[int, int] | None:
    try:
        with opened(data, kind) as file:
            return file.size
    except Exception:  # Parsers of hostile bytes raise almost any type.
        return None


_NOTHING = Evidence(
    "provenance:none",
    "The file says nothing about where the picture comes from.",
    strength=Strength.NEUTRAL,
    limits="Most shared pictures have lost their metadata on the way: that they are missing proves nothing.",
)
