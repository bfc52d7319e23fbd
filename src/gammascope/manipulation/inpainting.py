"""Inpainting: a region of the photo filled anew.

Who fills it decides what it is. A neural inpainter *generates*: its pixels are ``generated`` and
``edited``, kind "inpainting". Telea and Navier-Stokes fills only continue the surroundings, as the
healing brush of a photo editor does; an answer to "is this AI-generated?" must not fire on them, so
their pixels are ``edited`` only, kind "inpainting_classical".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from gammascope.manipulation.base import Manipulated, check, opencv
from gammascope.manipulation.blending import feathered
from gammascope.manipulation.regions import Regions
from gammascope.sample import Image, Mask


@runtime_checkable
class Inpainter(Protocol):
    """Fills a region. The seam where networks, pipelines and cheap stand-ins for tests plug in."""

    @property
    def generative(self) -> bool:
        """Whether a generator writes the filled pixels."""

    @property
    def replaces_content(self) -> bool:
        """Whether the filled region shows something else; False for a mere reconstruction."""

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Return an image of the same size; outside the mask it may differ, too."""


@dataclass(frozen=True, slots=True)
class Inpainting:
    """Fill a region of the photo.

    Attributes:
        inpainter: What fills it.
        paste_back: True: outside the region the photo's own pixels are kept, and only the region
            is ``generated`` and ``edited``. False: the inpainter's whole frame is kept, as latent
            diffusion leaves it: all of it is ``generated``, only the region ``edited``. Detectors
            that learn one of the two fail on the other, so train on both.
        regions: Where.
        feather_px: Widest soft edge of the paste, drawn uniformly from 0 to this; inside the mask.
    """

    inpainter: Inpainter
    paste_back: bool = True
    regions: Regions = field(default_factory=Regions)
    feather_px: int = 3

    def __post_init__(self) -> None:
        ours = self.inpainter
        if not self.paste_back and not (ours.generative and ours.replaces_content):
            raise ValueError(
                f"{type(ours).__name__} with paste_back=False has no truthful masks: keeping the "
                "whole frame needs an inpainter that is generative and replaces content."
            )

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return the photo with one region filled.

        Raises:
            ValueError: If the inpainter answers with another size.
        """
        check(image, objects)
        mask = self.regions.draw(image.shape[0], image.shape[1], rng, objects)
        feather_px = int(rng.integers(self.feather_px + 1))
        filled = self.inpainter(image, mask, rng)
        if filled.shape != image.shape:
            raise ValueError(
                f"{type(self.inpainter).__name__} turned {image.shape} into {filled.shape}: "
                "an inpainter must keep the size."
            )
        if not self.paste_back:
            return Manipulated(filled.copy(), np.ones_like(mask), mask, "inpainting")
        return Manipulated(
            image=feathered(image, filled, mask, feather_px),
            generated=mask if self.inpainter.generative else np.zeros_like(mask),
            edited=mask,
            kind="inpainting" if self.inpainter.generative else "inpainting_classical",
        )


@dataclass(frozen=True, slots=True)
class TwinPaste:
    """Inpaint from a generated twin of the photo, made before and aligned with it pixel by pixel.

    The twin is typically an autoencoder round trip: its region shows what the photo shows, leaves
    no visible seam, and costs nothing at training time.

    Attributes:
        twin: Same size as the photo, every pixel written by a generator.
        regions: Where.
        feather_px: Widest soft edge, drawn uniformly from 0 to this; inside the mask.
    """

    twin: Image
    regions: Regions = field(default_factory=Regions)
    feather_px: int = 3

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return the photo with one region taken from the twin.

        Raises:
            ValueError: If the twin has another size.
        """
        paste = Inpainting(Twin(self.twin), regions=self.regions, feather_px=self.feather_px)
        return paste(image, rng, objects)


@dataclass(frozen=True, slots=True)
class Twin:
    """Fill from a picture that is already there."""

    image: Image
    generative: bool = True
    replaces_content: bool = False

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:  # noqa: ARG002 - the Inpainter protocol
        """Return the twin."""
        return self.image


@dataclass(frozen=True, slots=True)
class Telea:
    """Fast-marching fill: weighted means of the known neighbours, from the rim inwards.

    Attributes:
        radius_px: Neighbourhood taken into the mean.
        generative: See the module's text.
        replaces_content: The surroundings take the region's place.

    Source: Telea, An image inpainting technique based on the fast marching method, 2004.
    """

    radius_px: float = 3.0
    generative: bool = False
    replaces_content: bool = True

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:  # noqa: ARG002 - the Inpainter protocol
        """Return the photo with the masked region filled from its rim."""
        return _classical(image, mask, self.radius_px, "INPAINT_TELEA")


@dataclass(frozen=True, slots=True)
class NavierStokes:
    """Fluid-dynamics fill: lines of equal brightness are continued into the region.

    Attributes:
        radius_px: Neighbourhood taken into account.
        generative: See the module's text.
        replaces_content: The surroundings take the region's place.

    Source: Bertalmio, Bertozzi and Sapiro, Navier-Stokes, fluid dynamics, and image and video
    inpainting, CVPR 2001.
    """

    radius_px: float = 3.0
    generative: bool = False
    replaces_content: bool = True

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:  # noqa: ARG002 - the Inpainter protocol
        """Return the photo with the masked region filled from its rim."""
        return _classical(image, mask, self.radius_px, "INPAINT_NS")


def _classical(image: Image, mask: Mask, radius_px: float, method: str) -> Image:
    if mask.all():
        raise ValueError("A fill from the surroundings needs some: the mask covers everything.")
    cv2 = opencv()
    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8), radius_px, getattr(cv2, method)))
