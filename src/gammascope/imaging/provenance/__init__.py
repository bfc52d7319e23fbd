"""What a file says about where its picture comes from: beside the pixels' verdict, and never mixed into it.

Signed statements (``c2pa``), declared source types (``xmp``), settings of generators, in texts and in pixels
(``generation_settings``), names of programs (``software``), camera and dates (``exif``, ``thumbnail``), traces of JPEG
saves (``jpeg_saves``), and watermarks in pixels (``watermark``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gammascope.errors import UndecodableImageError
from gammascope.imaging.decode import content_of, format_of, opened
from gammascope.imaging.provenance import (
    aigc_label,
    c2pa,
    containers,
    exif,
    generation_settings,
    jpeg_saves,
    software,
    watermark,
    xmp,
)
from gammascope.imaging.provenance.c2pa import TrustList
from gammascope.imaging.provenance.containers import excerpt, metadata_of
from gammascope.report import Evidence, Strength
from gammascope.sample import Image

__all__ = ["TrustList", "provenance_of"]

_ORDER = list(Strength)
_MOST_PROBLEMS = 8


def provenance_of(
    source: Path | bytes,
    trust: TrustList | None = None,
    *,
    quick: bool = False,
    pixels: Image | None = None,
    luma: UInt8[np.ndarray, "_h _w"] | None = None,
) -> tuple[Evidence, ...]:
    """Read what a file says about its origin and history; the strongest findings come first.

    Never raises for what is inside an image file: broken metadata become a finding. Nothing is fetched.

    Args:
        source: A file, or its content.
        trust: Signers of Content Credentials who are trusted; None: whom the C2PA's bundled list names.
        quick: Leave out what reads pixels and so costs more than all the rest: the search for an earlier save, for
            settings hidden in the pixels, and for watermarks.
        pixels: Of this file, as decoded; None: watermarks are not looked for.
        luma: Of a JPEG file, as stored and so not turned, where that is at hand.

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
    found = [*c2pa.findings(data, kind, trust), *_declared(data, kind, quick=quick)]
    if not quick and pixels is not None:
        found += watermark.findings(pixels)
    if not found:
        found.append(_NOTHING)
    found += jpeg_saves.table_findings(data)
    if not quick:
        found += jpeg_saves.findings(data, luma)
    return tuple(sorted(found, key=lambda item: _ORDER.index(item.strength or Strength.NEUTRAL)))


def _declared(data: bytes, kind: str, *, quick: bool) -> Iterator[Evidence]:
    metadata = metadata_of(data, kind)
    camera = exif.read_exif(metadata.exif)
    packet, more = (
        xmp.properties_of(some) if some else xmp.Properties()
        for some in (metadata.xmp, metadata.more_xmp)
    )
    packet.values += more.values
    yield from xmp.findings(packet)
    hidden = [] if quick else generation_settings.hidden_texts(data, kind)
    texts = [*metadata.texts, *camera.texts, *hidden]
    texts += [("EXIF UserComment", text) for text in packet.of("UserComment")]
    yield from aigc_label.findings([*texts, *(("AIGC", text) for text in packet.of("AIGC"))])
    yield from generation_settings.findings(texts)
    programs = [("PNG text Software", text) for key, text in metadata.texts if key == "Software"]
    programs += [("EXIF Software", camera.software), ("EXIF Artist", camera.artist)]
    programs += [
        (f"XMP {field}", text) for field in xmp.SOFTWARE_FIELDS for text in packet.of(field)
    ]
    programs += [(f"IPTC {field}", text) for field, text in containers.iptc_fields(metadata.iptc)]
    yield from software.findings(programs)
    yield from exif.findings(camera, _size(data, kind))
    yield from exif.thumbnail_findings(camera.thumbnail, data, kind)
    problems = [*metadata.problems, camera.problem, packet.problem, more.problem]
    distinct = list(dict.fromkeys(filter(None, problems)))
    if len(distinct) > _MOST_PROBLEMS:
        distinct[_MOST_PROBLEMS - 1 :] = [f"{len(distinct) - _MOST_PROBLEMS + 1} more parts"]
    for problem in distinct:
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
    "The file names no camera, program or signer that is known here.",
    strength=Strength.NEUTRAL,
    limits="Most shared pictures have lost their metadata on the way: that they are missing proves nothing.",
)
