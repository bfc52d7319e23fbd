"""Edits of a face that keep it a photo: a region flipped in place, or the whole warped (for pretext tasks).

Nothing is generated and the host keeps its label elsewhere; these edits teach features what disturbed photos look like.
Faces are assumed upright and centred in a square crop, as most face datasets cut them; regions lie at fixed shares of
it. Source: arXiv:2507.22824; there, landmarks place the regions, and no nose is flipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Float

from gammascope.sample import Image

REGIONS: Mapping[str, tuple[float, float, float, float]] = {
    "mouth": (0.30, 0.64, 0.40, 0.22),
    "eye": (0.54, 0.30, 0.28, 0.18),
    "nose": (0.38, 0.42, 0.24, 0.24),
}
"""Left, top, width and height of each region, as shares of the crop. Our choice."""

EDITS: Mapping[str, tuple[str, ...]] = {
    "mouth_turned": ("mouth",),
    "mouth_mirrored": ("mouth",),
    "eye_mirrored": ("eye",),
    "nose_mirrored": ("nose",),
    "warped": ("mouth", "eye", "nose"),
}
"""The regions that each edit changes."""


@dataclass(frozen=True, slots=True)
class EditedFace:
    """A face after an edit.

    Attributes:
        image: Of the same size.
        regions: Names of the regions that changed.
    """

    image: Image
    regions: tuple[str, ...]


def edit_face(image: Image, name: str, rng: np.random.Generator) -> EditedFace:
    """Apply one of ``EDITS`` to a square crop of a face; the input is not written to.

    Args:
        image: At least 32 px wide and high.
        name: Of the edit.
        rng: Draws where exactly and how strongly.

    Raises:
        ValueError: If the crop is smaller.
    """
    if min(image.shape[:2]) < 32:
        raise ValueError(f"A face of {image.shape[1]} x {image.shape[0]} px: expected 32 or more.")
    if name == "warped":
        return EditedFace(_warped(image, rng), EDITS[name])
    (region,) = EDITS[name]
    height, width = image.shape[:2]
    left, top, across, down = REGIONS[region]
    shift = rng.uniform(-0.02, 0.02, 2)
    columns = slice(round((left + shift[0]) * width), round((left + shift[0] + across) * width))
    rows = slice(round((top + shift[1]) * height), round((top + shift[1] + down) * height))
    piece = image[rows, columns].astype(np.float32)
    flipped = piece[::-1, ::-1] if name == "mouth_turned" else piece[:, ::-1]
    strength = rng.choice([0.75, 1.0, 1.0, 1.0])
    alpha = strength * _soft(piece.shape[0], piece.shape[1])[..., None]
    edited = image.copy()
    edited[rows, columns] = np.rint(alpha * flipped + (1 - alpha) * piece).astype(np.uint8)
    return EditedFace(edited, EDITS[name])


def _soft(height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Return 1 in the middle of a rectangle and a smooth fall to 0 over the outer quarter of each side."""
    ramps = []
    for length in (height, width):
        place = (np.arange(length) + 0.5) / length
        near = np.minimum(place, 1 - place) / 0.25
        ramps.append(0.5 - 0.5 * np.cos(np.pi * near.clip(0, 1)))
    soft: Float[np.ndarray, "h w"] = np.outer(*ramps).astype(np.float32)
    return soft


def _warped(image: Image, rng: np.random.Generator) -> Image:
    """Move pixels by a smooth random field of 4 to 5 % of a grid cell's side, as a rubber sheet."""
    height, width = image.shape[:2]
    cells = 4
    scale = rng.uniform(0.04, 0.05)
    moved = []
    for length in (height, width):
        coarse = rng.normal(0, scale * length, (cells + 1, cells + 1)).astype(np.float32)
        field = PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)
        moved.append(np.asarray(field))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y = (y + moved[0]).clip(0, height - 1)
    x = (x + moved[1]).clip(0, width - 1)
    top, left = np.minimum(y.astype(int), height - 2), np.minimum(x.astype(int), width - 2)
    down, right = (y - top)[..., None], (x - left)[..., None]
    corner = image.astype(np.float32)
    upper = (1 - right) * corner[top, left] + right * corner[top, left + 1]
    lower = (1 - right) * corner[top + 1, left] + right * corner[top + 1, left + 1]
    warped: Image = np.rint((1 - down) * upper + down * lower).astype(np.uint8)
    return warped
