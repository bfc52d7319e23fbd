"""Colours as the rest of the package reads them: transparency apart, profiles applied, 8-bit sRGB."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
from PIL import ImageCms

from gammascope.errors import printable

_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

PROFILE_NOTE = "colours converted from"
"""How the one note begins that quotes the file: its colour profile's own name."""

_SRGB_TOLERANCE = 2  # Grey levels; Display P3 differs by dozens, roundings of sRGB by one.


def colour_and_alpha(
    image: PIL.Image.Image,
) -> tuple[PIL.Image.Image, PIL.Image.Image | None]:
    """Separate what colour profiles apply to ("L", "RGB" or "CMYK") from transparency."""
    if image.mode == "LA":
        grey, alpha = image.split()
        return grey, alpha
    if image.has_transparency_data:
        both = image.convert("RGBA")
        return both.convert("RGB"), both.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def to_srgb(image: PIL.Image.Image, profile: bytes | None, notes: list[str]) -> PIL.Image.Image:
    """Apply a colour profile, if there is one that can be; ``notes`` gets what was done."""
    if image.mode == "CMYK":
        notes.append("CMYK colours converted to RGB")
    if not profile:
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        return _converted(image, profile, notes)
    except Exception:  # Profiles are files of their own, and as hostile.
        notes.append("colour profile is broken: colours are shown as stored")
        return image.convert("RGB")


def _converted(image: PIL.Image.Image, profile: bytes, notes: list[str]) -> PIL.Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = _PROFILE_MODES.get(source.profile.xcolor_space.strip())
    if mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if mode != image.mode:
        notes.append("colour profile is for other channels: colours are shown as stored")
        return image.convert("RGB")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode == "RGB" and _changes_nothing(transform):
        return image
    converted = PIL.Image.new("RGB", image.size)
    transform.apply(image, converted)
    name = printable(" ".join(ImageCms.getProfileDescription(source).split()))
    notes.append(f"{PROFILE_NOTE} {name or 'an unnamed profile'} to sRGB")
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Tell whether a profile is sRGB by any name: rounding through it would only wipe traces."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
    probe = transform.apply(PIL.Image.fromarray(cube))
    return int(np.abs(np.asarray(probe).astype(int) - cube).max()) <= _SRGB_TOLERANCE
