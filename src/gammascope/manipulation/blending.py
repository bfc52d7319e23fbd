"""How to hide the seam: feathering, Poisson blending, colour matching.

Every function changes pixels inside the mask only. Feathering therefore runs inwards: the mask
stays the exact statement of what may differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from gammascope.manipulation.base import opencv
from gammascope.manipulation.regions import Rectangle
from gammascope.sample import Image, Mask

_LARGEST_CONTRAST_CHANGE = 2.0


@dataclass(frozen=True, slots=True)
class Seam:
    """How a pasted piece meets its surroundings, drawn anew for each paste.

    Attributes:
        feather_px: Widest soft edge; with probability ``feather_share`` the width is drawn
            uniformly from 1 to this, otherwise the edge is hard.
        feather_share: Probability of a soft edge.
        poisson_share: Probability of Poisson blending, instead of either edge.
        colour_share: Probability of matching the piece's colours to the host's first.
    """

    feather_px: int = 3
    feather_share: float = 0.5
    poisson_share: float = 0.1
    colour_share: float = 0.0

    def paste(self, host: Image, patch: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Return the host with the patch inside the mask."""
        # All draws come first, so that one choice never shifts the numbers of the next image.
        colour, poisson_drawn, feather_drawn = rng.random(3)
        width_px = int(rng.integers(1, self.feather_px + 1)) if self.feather_px > 0 else 0
        if colour < self.colour_share:
            patch = match_colour(patch, host, mask)
        if poisson_drawn < self.poisson_share:
            return poisson(host, patch, mask)
        return feathered(host, patch, mask, width_px if feather_drawn < self.feather_share else 0)


def opacity(mask: Mask, feather_px: int) -> Float[np.ndarray, "h w"]:
    """Return 0 outside the mask, rising to 1 over so many pixels inside; a width of 0 is a step.

    The frame is no edge: a region cut by it stays opaque there.
    """
    if feather_px < 1 or mask.all():
        return mask.astype(np.float32)
    cv2 = opencv()
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.minimum(depth / (feather_px + 1), 1), dtype=np.float32)


def feathered(host: Image, patch: Image, mask: Mask, feather_px: int = 0) -> Image:
    """Replace the host by the patch inside the mask, with a soft edge of so many pixels."""
    if feather_px < 1:
        return np.where(mask[..., None], patch, host)
    alpha = opacity(mask, feather_px)[..., None]
    mixed = np.rint(patch * alpha + host * (1 - alpha)).astype(np.uint8)
    return np.where(mask[..., None], mixed, host)


def poisson(host: Image, patch: Image, mask: Mask) -> Image:
    """Continue the host's colours into the patch's gradients inside the mask.

    Regions thinner than three pixels have no interior to solve for and are pasted hard.

    Source: Perez, Gangnet and Blake, Poisson image editing, SIGGRAPH 2003, as in OpenCV.
    """
    around = Rectangle.around(mask)
    if min(around.width, around.height) < 3:
        return feathered(host, patch, mask)
    # The solver needs known pixels on all sides, which a region at the frame's edge lacks.
    margin = 2
    rim = ((margin, margin), (margin, margin))
    wide_host, wide_patch = (np.pad(a, (*rim, (0, 0)), mode="edge") for a in (host, patch))
    wide_mask = np.pad(mask, rim).astype(np.uint8) * 255
    centre = (
        around.left + margin + around.width // 2,
        around.top + margin + around.height // 2,
    )
    cv2 = opencv()
    cloned = cv2.seamlessClone(wide_patch, wide_host, wide_mask, centre, cv2.NORMAL_CLONE)
    inner = np.asarray(cloned)[margin:-margin, margin:-margin]
    return np.where(mask[..., None], inner, host)


def match_colour(patch: Image, host: Image, mask: Mask) -> Image:
    """Give the patch, as far as the mask shows it, the host's mean and spread in CIE Lab.

    Contrast changes by at most a factor of two, so that a flat sky does not blow up noise.

    Source: Reinhard et al., Color transfer between images, IEEE CG&A 2001, in Lab instead of
    l-alpha-beta; the bound is our choice.
    """
    piece, scene = _lab(patch), _lab(host)
    mean, spread = piece[mask].mean(0), piece[mask].std(0)
    ratio = scene.std((0, 1)) / np.maximum(spread, 1e-3)
    ratio = ratio.clip(1 / _LARGEST_CONTRAST_CHANGE, _LARGEST_CONTRAST_CHANGE)
    matched = ((piece - mean) * ratio + scene.mean((0, 1))).astype(np.float32)
    cv2 = opencv()
    colours: Float[np.ndarray, "h w 3"] = cv2.cvtColor(matched, cv2.COLOR_Lab2RGB)
    pixels: Image = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return pixels


def _lab(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    cv2 = opencv()
    scaled = image.astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2Lab))
