"""Cut a piece out of a picture, turn it, and put it down somewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gammascope.manipulation.base import opencv
from gammascope.manipulation.regions import Rectangle
from gammascope.sample import Image, Mask

_ALIASING_BELOW = 0.75
"""Smaller scales are averaged down first: interpolation alone would skip pixels."""


@dataclass(frozen=True, slots=True)
class Pose:
    """How a piece lies: mirrored, then scaled, then turned about its centre, then put down.

    Attributes:
        x: Column of the centre of the piece's box in the new frame, pixels.
        y: Row of that centre.
        mirrored: Left and right swapped.
        scale: Factor on both sides.
        degrees: Turn, counter-clockwise.
        cubic: Bicubic interpolation; otherwise bilinear.
    """

    x: float
    y: float
    mirrored: bool = False
    scale: float = 1.0
    degrees: float = 0.0
    cubic: bool = False

    def matrix(self, around: Rectangle) -> Float[np.ndarray, "2 3"]:
        """Return the affine map from the old frame to the new for a piece in a box.

        Unscaled and unturned pieces move by whole pixels, and so keep their values exactly.
        """
        turn = math.radians(self.degrees)
        across, down = self.scale * math.cos(turn), self.scale * math.sin(turn)
        linear = np.array([[across, down], [-down, across]])
        if self.mirrored:
            linear[:, 0] = -linear[:, 0]
        centre = np.array([around.left + around.right - 1, around.top + around.bottom - 1]) / 2
        shift = np.array([self.x, self.y]) - linear @ centre
        if self.scale == 1 and self.degrees == 0:
            shift = np.rint(shift)
        return np.column_stack([linear, shift])


@dataclass(frozen=True, slots=True)
class Poses:
    """Random poses.

    Attributes:
        mirrored_share: Probability of swapping left and right.
        scale: Smallest and largest factor, drawn uniformly in its logarithm.
        degrees: Largest turn to either side.
        exact_share: Probability of neither scaling nor turning; such a piece keeps its pixel values
            (our choice: plain copies are common, and leave no trace of interpolation).
    """

    mirrored_share: float = 0.5
    scale: tuple[float, float] = (0.7, 1.4)
    degrees: float = 20.0
    exact_share: float = 0.25

    def draw(self, rng: np.random.Generator) -> Pose:
        """Draw all but the place, which is left at the origin."""
        mirrored, exact, cubic = rng.random(3).tolist()
        scale = math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        degrees = rng.uniform(-self.degrees, self.degrees)
        pose = Pose(0.0, 0.0, mirrored=mirrored < self.mirrored_share, cubic=cubic < 0.5)
        return pose if exact < self.exact_share else replace(pose, scale=scale, degrees=degrees)


def extent(pose: Pose, around: Rectangle) -> tuple[float, float]:
    """Return height and width of the box around a posed box, pixels."""
    linear = np.abs(pose.matrix(around)[:, :2])
    width, height = linear @ np.array([around.width, around.height])
    return float(height), float(width)


def placed(pose: Pose, around: Rectangle, frame: tuple[int, int], rng: np.random.Generator) -> Pose:
    """Put a pose down uniformly inside a frame (height, width); centred along a side too short."""
    y, x = (
        rng.uniform(size / 2, side - size / 2) if size < side else side / 2
        for size, side in zip(extent(pose, around), frame, strict=True)
    )
    # Pixel centres, not pixel corners, carry whole coordinates.
    return replace(pose, x=x - 0.5, y=y - 0.5)


def moved(
    image: Image, mask: Mask, pose: Pose, frame: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "rows columns 3"], Bool[np.ndarray, "rows columns"]]:
    """Bring a picture and the mask of a piece into a new frame (height, width).

    Returns:
        The picture, reflected at its own borders, and where the piece now lies; the mask is empty
        if the piece left the frame or became smaller than a pixel.
    """
    cv2 = opencv()
    matrix = pose.matrix(Rectangle.around(mask))
    piece = mask.astype(np.uint8)
    if pose.scale < _ALIASING_BELOW:
        height, width = image.shape[:2]
        size = (max(1, round(width * pose.scale)), max(1, round(height * pose.scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        piece = cv2.resize(piece, size, interpolation=cv2.INTER_NEAREST)
        enlarge = np.array([width / size[0], height / size[1]])
        # Pixel centres of the small picture, in coordinates of the large one.
        matrix = np.column_stack(
            [matrix[:, :2] * enlarge, matrix[:, 2] + matrix[:, :2] @ (enlarge / 2 - 0.5)]
        )
    across = frame[1], frame[0]
    smooth = cv2.INTER_CUBIC if pose.cubic else cv2.INTER_LINEAR
    picture = cv2.warpAffine(image, matrix, across, flags=smooth, borderMode=cv2.BORDER_REFLECT_101)
    where = cv2.warpAffine(piece, matrix, across, flags=cv2.INTER_NEAREST)
    return np.asarray(picture), np.asarray(where).astype(bool)
