"""Splicing: a piece of another picture pasted into the photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from gammascope.manipulation.base import Manipulated, check
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.regions import (
    Pieces,
    Pose,
    Poses,
    Rectangle,
    box,
    extent,
    moved,
    placed,
)
from gammascope.sample import Image, Mask

_ATTEMPTS = 20
_LARGEST_SCALE = 2.0
"""A piece enlarged further would be told by its blur alone; it stays small instead."""


@dataclass(frozen=True, slots=True)
class Donor:
    """A picture to cut pieces from.

    Attributes:
        image: Of any size, at least :data:`~gammascope.manipulation.base.SMALLEST_PX` per side.
        objects: Masks of things in it, in its own frame.
        generated: Whether a generator made the whole picture.
    """

    image: Image
    objects: Sequence[Mask] = ()
    generated: bool = False


Donors: TypeAlias = Callable[[np.random.Generator], Donor]
"""Draws a donor; all randomness comes from the generator."""


@dataclass(frozen=True, slots=True)
class Splicing:
    """Paste a piece of a donor into the photo.

    The masks follow from who made the two pictures: the piece is ``generated`` if the donor is,
    everything else if the host is; the piece is ``edited`` in every case.

    Attributes:
        donors: Draws the other picture.
        host_generated: Whether a generator made the whole host.
        pieces: What is cut from the donor.
        poses: How it is turned. Its scale is on top of what :attr:`sides` asks for.
        seam: How its edge is hidden.
        sides: Smallest and largest longer side of the piece, as a share of the host's sides: a
            donor of another resolution is scaled no more than needed to come inside, and never
            enlarged more than twice.
    """

    donors: Donors
    host_generated: bool = False
    pieces: Pieces = field(default_factory=Pieces)
    poses: Poses = field(default_factory=Poses)
    seam: Seam = field(default_factory=lambda: Seam(colour_share=0.3))
    sides: tuple[float, float] = (0.1, 0.8)

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return the photo with a piece of a donor; the photo's own objects play no part."""
        check(image, objects)
        donor = self.donors(rng)
        check(donor.image, donor.objects)
        patch, target = self._cut(donor, (image.shape[0], image.shape[1]), rng)
        return Manipulated(
            image=self.seam.paste(image, patch, target, rng),
            generated=np.where(target, donor.generated, self.host_generated),
            edited=target,
            kind="splicing",
        )

    def _cut(
        self, donor: Donor, frame: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Image, Mask]:
        height, width = donor.image.shape[:2]
        for _ in range(_ATTEMPTS):
            source = self.pieces.draw(height, width, rng, donor.objects)
            around = Rectangle.around(source)
            pose = placed(self._fitted(self.poses.draw(rng), around, frame), around, frame, rng)
            patch, target = moved(donor.image, source, pose, frame)
            if target.any() and not target.all():
                return patch, target
        # The middle of the donor, at its own resolution, into the middle of the host.
        rows, columns = (
            max(1, min(a, b) // 4) for a, b in zip((height, width), frame, strict=True)
        )
        top, left = (height - rows) // 2, (width - columns) // 2
        source = box(Rectangle(left, top, left + columns, top + rows), height, width)
        return moved(donor.image, source, Pose(frame[1] / 2 - 0.5, frame[0] / 2 - 0.5), frame)

    def _fitted(self, pose: Pose, around: Rectangle, frame: tuple[int, int]) -> Pose:
        """Scale a pose so far that its longer side, relative to the host, lies in the bounds."""
        share = max(size / side for size, side in zip(extent(pose, around), frame, strict=True))
        scale = pose.scale * float(np.clip(share, *self.sides)) / share
        return replace(pose, scale=min(scale, _LARGEST_SCALE))
