"""Copy-move: a piece of a photo pasted elsewhere in the same photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gammascope.manipulation.base import Manipulated, check
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.regions import Pieces, Pose, Poses, Rectangle, box, moved, placed
from gammascope.sample import Image, Mask

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class CopyMove:
    """Paste a piece of the photo elsewhere in it. Only where it lands is edited.

    Attributes:
        pieces: What is copied.
        poses: How it is turned.
        seam: How its edge is hidden.
        overlap: Intersection over union of source and destination stays below this; above it the
            copy would largely repeat what is already there.
    """

    pieces: Pieces = field(default_factory=Pieces)
    poses: Poses = field(default_factory=Poses)
    seam: Seam = field(default_factory=Seam)
    overlap: float = 0.3

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return the photo with one piece copied; nothing in it is generated."""
        check(image, objects)
        patch, target = self._copied(image, rng, objects)
        return Manipulated(
            image=self.seam.paste(image, patch, target, rng),
            generated=np.zeros_like(target),
            edited=target,
            kind="copy_move",
        )

    def _copied(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask]
    ) -> tuple[Image, Mask]:
        height, width = image.shape[:2]
        for _ in range(_ATTEMPTS):
            source = self.pieces.draw(height, width, rng, objects)
            pose = placed(self.poses.draw(rng), Rectangle.around(source), (height, width), rng)
            patch, target = moved(image, source, pose, (height, width))
            if target.any() and intersection_over_union(source, target) < self.overlap:
                return patch, target
        # Two opposite corners never overlap, whatever the pieces are.
        rows, columns = height // 4, width // 4
        source = box(Rectangle(0, 0, columns, rows), height, width)
        pose = Pose(width - (columns + 1) / 2, height - (rows + 1) / 2)
        return moved(image, source, pose, (height, width))


def intersection_over_union(one: Mask, other: Mask) -> float:
    """Return the overlap of two masks, 0..1; 0 if both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0
