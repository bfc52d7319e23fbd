"""Controls: photos that went through the motions of an edit and still show what they showed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gammascope.manipulation.base import Manipulated, check
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.regions import Pieces, Pose, Poses, moved
from gammascope.sample import Image, Mask


@dataclass(frozen=True, slots=True)
class IdentitySeam:
    """Cut, turn, turn back and paste in place: seam and interpolation without a change of content.

    A detector trained on pasted pieces learns feathered edges and resampled pixels, because only
    edits have them. Passing some real photos through the same steps takes that shortcut away. Both
    masks are empty and ``kind`` is None, although pixels inside the piece differ slightly: the one
    exception to the rule that masks are not empty and cover all that differs.

    Attributes:
        pieces: What is cut.
        poses: How far it is turned on the way; mirroring is undone exactly.
        seam: How its edge is hidden.

    Source: our choice, against the bias that pasting on the fly brings in.
    """

    pieces: Pieces = field(default_factory=Pieces)
    poses: Poses = field(default_factory=Poses)
    seam: Seam = field(default_factory=Seam)

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return the photo with one piece resampled in place, and two empty masks."""
        check(image, objects)
        frame = image.shape[0], image.shape[1]
        piece = self.pieces.draw(*frame, rng, objects)
        patch = _there_and_back(image, self.poses.draw(rng))
        nothing = np.zeros_like(piece)
        return Manipulated(self.seam.paste(image, patch, piece, rng), nothing, nothing.copy(), None)


def _there_and_back(image: Image, pose: Pose) -> Image:
    """Pose the whole picture in a frame that holds it, then undo the pose."""
    height, width = image.shape[:2]
    whole = np.ones((height, width), dtype=bool)
    diagonal = math.ceil(math.hypot(height, width) * max(pose.scale, 1)) + 2
    room = diagonal, diagonal
    centred = replace(pose, x=(diagonal - 1) / 2, y=(diagonal - 1) / 2)
    turned, _ = moved(image, whole, centred, room)
    # A mirror image turns the other way round, so its turn is undone with the same sign.
    back = Pose(
        (width - 1) / 2,
        (height - 1) / 2,
        mirrored=pose.mirrored,
        scale=1 / pose.scale,
        degrees=pose.degrees if pose.mirrored else -pose.degrees,
        cubic=pose.cubic,
    )
    returned, _ = moved(turned, np.ones(room, dtype=bool), back, (height, width))
    return returned
