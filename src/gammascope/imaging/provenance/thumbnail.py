"""Whether the small picture inside the EXIF data shows what the picture shows.

Cameras store one; a program that changes the picture and copies the EXIF data may leave the old one behind.
"""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
from jaxtyping import Float
from PIL.JpegImagePlugin import JpegImageFile

from gammascope.imaging.decode import opened
from gammascope.report import Evidence, Strength

_SIDE = 32
_SAME, _OTHER = 0.85, 0.5
"""Correlations of the reduced pictures from which they count as the same, and below which as different (our choice)."""

_MOST_PIXELS = 64_000_000
_FLATTEST = 6.0  # Grey levels: below this deviation there is nothing to compare.


def findings(thumbnail: bytes, data: bytes, kind: str) -> list[Evidence]:
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
    if upright < _OTHER and turned >= _SAME:
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
