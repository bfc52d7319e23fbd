"""Where to edit (objects, their boxes, random polygons, boxes, brush strokes), and how a piece is turned and put down.

Source: the four mask strategies are those of COCO-Inpaint (arXiv:2504.18361); brush strokes and
all ranges are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gammascope.manipulation.base import opencv
from gammascope.sample import Image, Mask

SHAPES = ("object", "object_box", "polygon", "box", "strokes")

_LARGEST_ASPECT = 2.0
"""Longer to shorter side of a random box, both as shares of the frame's sides."""
_PIXELS_PER_DILATION = 24
"""A region grows by at most one pixel per so many of the shorter side: 9 px need 216 px."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """An axis-parallel box in whole image pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns covered."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows covered."""
        return self.bottom - self.top

    @classmethod
    def around(cls, mask: Mask) -> Rectangle:
        """Return the smallest box with all True pixels.

        Raises:
            ValueError: If the mask is empty.
        """
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if rows.size == 0:
            raise ValueError("An empty mask has no box around it.")
        return cls(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

    @classmethod
    def somewhere(
        cls, size: tuple[int, int], frame: tuple[int, int], rng: np.random.Generator
    ) -> Rectangle:
        """Place a box of a (height, width), cut to the frame's, uniformly inside the frame."""
        height, width = min(size[0], frame[0]), min(size[1], frame[1])
        top = int(rng.integers(frame[0] - height + 1))
        left = int(rng.integers(frame[1] - width + 1))
        return cls(left, top, left + width, top + height)


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions to fill anew: of several shapes, uniform in the logarithm of their area.

    Attributes:
        shapes: Some of :data:`SHAPES`, drawn with equal probability among those possible: without a
            usable object the two object shapes drop out, and if nothing is left a polygon is drawn.
        area: Smallest and largest share of the image. Objects outside are passed over; random
            shapes are drawn to it, and are smaller where the frame cuts them.
        dilation_px: Growth of the object shapes, whose outlines are never exact; drawn uniformly
            and limited in small images. Random shapes are drawn at their final size.
    """

    shapes: tuple[str, ...] = ("object", "object_box", "polygon", "box")
    area: tuple[float, float] = (0.02, 0.5)
    dilation_px: tuple[int, int] = (3, 9)

    def __post_init__(self) -> None:
        unknown = set(self.shapes) - set(SHAPES)
        if unknown:
            raise ValueError(f"Unknown shapes {sorted(unknown)}: known are {SHAPES}.")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area={self.area}: expected 0 < smallest <= largest <= 1.")

    def draw(
        self, height: int, width: int, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Mask:
        """Return a mask that is neither empty nor full."""
        mask = self._drawn(height, width, rng, usable(objects, self.area))
        if mask.all():
            # A fill needs something to go by; boxes around sprawling objects can cover all of it.
            mask[0] = False
        return mask

    def _drawn(self, height: int, width: int, rng: np.random.Generator, things: list[Mask]) -> Mask:
        possible = [s for s in self.shapes if things or not s.startswith("object")] or ["polygon"]
        shape = possible[int(rng.integers(len(possible)))]
        if shape.startswith("object"):
            return self._around(things[int(rng.integers(len(things)))], shape, rng)
        frame = height, width
        pixels = height * width * math.exp(rng.uniform(*np.log(self.area)))
        if shape == "box":
            return box(Rectangle.somewhere(_sides(pixels, frame, rng), frame, rng), height, width)
        if shape == "strokes":
            return strokes(height, width, pixels, rng)
        outline = jittered_ellipse(rng)
        size = _sides(pixels / _area(outline), frame, rng)
        return polygon(outline, Rectangle.somewhere(size, frame, rng), height, width)

    def _around(self, thing: Mask, shape: str, rng: np.random.Generator) -> Mask:
        mask = thing.copy()
        if shape == "object_box":
            around = Rectangle.around(mask)
            mask[around.top : around.bottom, around.left : around.right] = True
        low, high = self.dilation_px
        limit = min(mask.shape) // _PIXELS_PER_DILATION
        return dilated(mask, min(int(rng.integers(low, high + 1)), limit))


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of a photo to cut out and paste: an object, a box or a polygon.

    Attributes:
        object_share: Probability of taking an object where there is a usable one.
        sides: Smallest and largest side of a box, and of the box around a polygon, as a share of
            the image's side; at least two pixels.
        object_area: Smallest and largest share of the image that an object may cover.
    """

    object_share: float = 0.5
    sides: tuple[float, float] = (0.05, 0.6)
    object_area: tuple[float, float] = (0.003, 0.5)

    def draw(
        self, height: int, width: int, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Mask:
        """Return a mask with at least one True pixel."""
        things = usable(objects, self.object_area)
        if things and rng.random() < self.object_share:
            return things[int(rng.integers(len(things)))].copy()
        rows, columns = (max(2, round(n * rng.uniform(*self.sides))) for n in (height, width))
        where = Rectangle.somewhere((rows, columns), (height, width), rng)
        if rng.random() < 0.5:
            return box(where, height, width)
        return polygon(jittered_ellipse(rng), where, height, width)


def usable(objects: Sequence[Mask], area: tuple[float, float]) -> list[Mask]:
    """Keep the masks that cover a share of the image between the two bounds."""
    return [m for m in objects if m.any() and area[0] <= float(m.mean()) <= area[1]]


def dilated(mask: Mask, radius_px: int) -> Mask:
    """Grow a mask by a disc; a radius of 0 copies it."""
    if radius_px < 1:
        return mask.copy()
    cv2 = opencv()
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc)).astype(bool)


def box(where: Rectangle, height: int, width: int) -> Mask:
    """Return a mask that is True inside a rectangle."""
    mask = np.zeros((height, width), dtype=bool)
    mask[where.top : where.bottom, where.left : where.right] = True
    return mask


def jittered_ellipse(rng: np.random.Generator) -> Float[np.ndarray, "n 2"]:
    """Return 6 to 12 vertices on a jittered ellipse that touches all sides of the unit square."""
    count = int(rng.integers(6, 13))
    angles = (np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count
    angles += rng.uniform(0, 2 * np.pi)
    radii = rng.uniform(0.6, 1.0, count)
    vertices = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    spread: Float[np.ndarray, "n 2"] = (vertices - vertices.min(0)) / np.ptp(vertices, axis=0)
    return spread


def polygon(outline: Float[np.ndarray, "n 2"], where: Rectangle, height: int, width: int) -> Mask:
    """Fill an outline given in the unit square, stretched to a rectangle of at least one pixel."""
    span = np.array([where.width - 1, where.height - 1])
    corners = np.rint(outline * span + [where.left, where.top]).astype(np.int32)
    canvas = np.zeros((height, width), dtype=np.uint8)
    opencv().fillPoly(canvas, [corners], 1)
    return canvas.astype(bool)


def strokes(height: int, width: int, pixels: float, rng: np.random.Generator) -> Mask:
    """Draw winding brush strokes until they cover so many pixels, or twenty strokes are drawn."""
    cv2 = opencv()
    canvas = np.zeros((height, width), dtype=np.uint8)
    side = min(height, width)
    for _ in range(20):
        thickness = max(1, round(side * rng.uniform(0.04, 0.12)))
        turns = np.cumsum(rng.normal(0, 0.7, 8)) + rng.uniform(0, 2 * np.pi)
        steps = side * rng.uniform(0.03, 0.12, (8, 1)) * np.stack([np.cos(turns), np.sin(turns)], 1)
        start = rng.uniform(0, 1, 2) * [width - 1, height - 1]
        path = np.rint(start + np.cumsum(steps, axis=0)).clip(0, [width - 1, height - 1])
        cv2.polylines(canvas, [path.astype(np.int32)], False, 1, thickness)
        if np.count_nonzero(canvas) >= pixels:
            break
    mask: Bool[np.ndarray, "h w"] = canvas.astype(bool)
    return mask


def _sides(pixels: float, frame: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """Height and width of a box of so many pixels, its aspect varying around the frame's."""
    bound = math.log(_LARGEST_ASPECT)
    aspect = frame[1] / frame[0] * math.exp(rng.uniform(-bound, bound))
    return max(1, round(math.sqrt(pixels / aspect))), max(1, round(math.sqrt(pixels * aspect)))


def _area(outline: Float[np.ndarray, "n 2"]) -> float:
    """Area of a simple polygon (shoelace formula)."""
    x, y = outline.T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


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
