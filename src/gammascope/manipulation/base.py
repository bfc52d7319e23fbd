"""What a manipulation is: a photo goes in, an edited photo and its two masks come out.

``Mixture`` says which manipulation is made how often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gammascope.errors import MissingExtraError
from gammascope.sample import Image, Mask

SMALLEST_PX = 16
"""Photos with a shorter side cannot hold a region, its surroundings and a second place for it."""


@dataclass(frozen=True, slots=True)
class Manipulated:
    """An edited photo with its ground truth, before any re-encoding.

    The masks are exact and inclusive: a pixel outside ``generated | edited`` is identical to the
    photo's, and a blended seam belongs to the region it surrounds.

    Attributes:
        image: Same size as the photo.
        generated: True where a generator wrote the pixel.
        edited: True where the pixel was not here in the photo.
        kind: "copy_move", "splicing", "inpainting" or "inpainting_classical"; None for a control,
            which shows what the photo shows and has two empty masks.
    """

    image: Image
    generated: Mask
    edited: Mask
    kind: str | None


@runtime_checkable
class Manipulation(Protocol):
    """Edit one photo. All randomness comes from ``rng``; the photo is never written to."""

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return the edited photo.

        Args:
            image: At least :data:`SMALLEST_PX` pixels on both sides.
            rng: The same state gives the same result.
            objects: Masks of things in the photo, in its frame, for natural regions. Empty and
                huge ones are passed over.

        Raises:
            ValueError: If the photo is too small or an object mask has another size.
            MissingExtraError: If OpenCV is not installed.
        """


def check(image: Image, objects: Sequence[np.ndarray] = ()) -> None:
    """Refuse a photo that is too small to edit, or object masks of another size.

    Raises:
        ValueError: With the sizes seen.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_PX:
        raise ValueError(
            f"A photo of {width}x{height} px is too small to edit: "
            f"both sides need {SMALLEST_PX} px. Leave it out."
        )
    for mask in objects:
        if mask.shape != (height, width):
            raise ValueError(
                f"An object mask has shape {mask.shape}, the photo {(height, width)}: "
                "resize the mask to the photo."
            )


def opencv() -> Any:
    """Import OpenCV at its first use.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError.of("Manipulating photos", "opencv", "train") from error
    return cv2


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of several manipulations, drawn by weight for each photo; itself a manipulation.

    Attributes:
        parts: Pairs of weight and manipulation; weights need not add up to 1.
    """

    parts: tuple[tuple[float, Manipulation], ...]

    def __post_init__(self) -> None:
        weights = [weight for weight, _ in self.parts]
        if min(weights, default=-1) < 0 or sum(weights) <= 0:
            raise ValueError(f"Weights {weights}: expected none below 0 and one above.")

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return what the drawn manipulation returns."""
        weights = np.array([weight for weight, _ in self.parts], dtype=float)
        chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
        return self.parts[chosen][1](image, rng, objects)
