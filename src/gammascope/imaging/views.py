"""What a detector sees of an image, and the way back from its maps to the image.

Positions are in image pixels, x to the right and y down; pixel ``(x, y)`` covers ``x..x+1`` by
``y..y+1``. Tiles and crops keep native resolution, because resizing erases the traces most methods
look for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import PIL.Image
from jaxtyping import Float, Shaped, UInt8

from gammascope.sample import Image

Fit: TypeAlias = Literal["resize", "center_crop", "tiles"]
Pool: TypeAlias = Literal["mean", "max", "top"]
Kind: TypeAlias = Literal["tile", "mosaic", "overview"]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, width, height in image pixels; may stick out of the image where it was padded."""

WHOLE, MOSAIC = "whole", "mosaic"
"""Names under which a network answers for the view that shows all of a picture, and for its mosaic: each is added to
its logit of that view alone."""

PATCH_PX = 16
"""Side of the patches of a mosaic: those that vision transformers see. Smaller and larger ones tell less
(docs/experiments/e47.md)."""

BAND_PX = 2**17
"""Pixels of a map that are worked on at once: whole rows, so few that they stay in the processor's cache."""


_GAP = 2
"""Overviews are reduced by means of whole pixels down to this many times their size; training has two steps, too."""

_STRIP = 128
"""Rows of an image that are reduced at once, about."""


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """How a detector wants to see an image. Declared by the detector, obeyed by everyone.

    Attributes:
        size: Side of the square input, pixels.
        fit: "resize" squeezes the whole image; "center_crop" and "tiles" keep native resolution.
        pool: How the logits of tiles become one; "top" is the mean of their highest quarter.
        max_tiles: At most so many tiles, evenly spread over the image; None: all of them.
        mean: Subtracted per channel after scaling to 0..1.
        std: Divided by per channel.
        overview: With tiles, also read the largest centred square, reduced to one view, and give its logit this
            weight (0..1) beside the tiles'; 0: do not look. Only where that is a reduction.
        mosaic: With tiles, also read patches of ``PATCH_PX`` from all over the image, laid side by side as one view,
            and give its logit this weight (0..1) beside the tiles'; 0: do not look. Only of what is larger than a view.
    """

    size: int
    fit: Fit
    pool: Pool = "mean"
    max_tiles: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    overview: float = 0.0
    mosaic: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: a view is at least 1 pixel wide.")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit={self.fit!r}: expected one of {', '.join(get_args(Fit))}.")
        if self.pool not in get_args(Pool):
            raise ValueError(f"pool={self.pool!r}: expected one of {', '.join(get_args(Pool))}.")
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean={self.mean}: expected three finite numbers.")
        if len(self.std) != 3 or not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"std={self.std}: expected three positive numbers.")
        self._check_tiles()

    def _check_tiles(self) -> None:
        least = 0 if self.mosaic else 1
        if self.max_tiles is not None and self.max_tiles < least:
            raise ValueError(
                f"max_tiles={self.max_tiles}: expected at least {least}, or None for all."
            )
        for name, weight in (("overview", self.overview), ("mosaic", self.mosaic)):
            if not 0 <= weight <= 1:
                raise ValueError(f"{name}={weight}: expected a weight of 0 to 1.")
            if weight and self.fit != "tiles":
                raise ValueError(f"{name}={weight} beside fit={self.fit!r}: it goes with tiles.")
        if self.mosaic and self.size % PATCH_PX:
            raise ValueError(f"size={self.size}: a mosaic is made of patches of {PATCH_PX} px.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a view lies in an image.

    Attributes:
        box: Of a mosaic and of a squeezed image the whole image.
        kind: What part of that the view holds.
    """

    box: Box
    kind: Kind = "tile"


@dataclass(frozen=True, slots=True)
class View:
    """One square input of a detector and where it lies in the image.

    Attributes:
        pixels: Normalised.
        box: Left, top, width, height in image pixels; sticks out of the image where it was padded.
    """

    pixels: Float[np.ndarray, "3 s s"]
    box: Box


def views_of(image: Image, spec: ViewSpec) -> list[View]:
    """Cut or squeeze an image into the views a detector asks for, in the order of ``places_of``."""
    height, width = image.shape[:2]
    places = places_of((width, height), spec)
    return [View(pixels_at(image, place, spec), place.box) for place in places]


def places_of(image_size: tuple[int, int], spec: ViewSpec) -> list[Place]:
    """List where the views of an image lie, without touching a pixel; the same for the same size.

    Tiles come first, row by row from the top left, then the mosaic, last the overview. Of ``max_tiles`` = 0 one tile is
    left, in the middle, where there is no mosaic.

    Args:
        image_size: Width and height, pixels.
        spec: How the detector wants to see the image.
    """
    width, height = image_size
    everything = (0.0, 0.0, float(width), float(height))
    mosaic = has_mosaic(image_size, spec)
    if spec.fit == "resize":
        return [Place(everything)]
    if spec.fit == "center_crop":
        corners = [((width - spec.size) // 2, (height - spec.size) // 2)]
    else:
        corners = tile_grid(image_size, spec.size)
        most = spec.max_tiles if spec.max_tiles != 0 or mosaic else 1
        if most is not None and len(corners) > most:
            columns = len(_starts(width, spec.size))
            spread = _spread(columns, len(corners) // columns, most) if most else []
            corners = [corners[row * columns + column] for row, column in spread]
    side = float(spec.size)
    tiles = [Place((float(left), float(top), side, side)) for left, top in corners]
    return [
        *tiles,
        *[Place(everything, "mosaic")] * mosaic,
        *[Place(middle_square(image_size), "overview")] * has_overview(image_size, spec),
    ]


def has_overview(image_size: tuple[int, int], spec: ViewSpec) -> bool:
    """Whether the last view of an image (width, height) is the overview."""
    return spec.overview > 0 and min(image_size) > spec.size


def has_mosaic(image_size: tuple[int, int], spec: ViewSpec) -> bool:
    """Whether a mosaic is among the views of an image (width, height)."""
    return spec.mosaic > 0 and max(image_size) > spec.size


def middle_square(image_size: tuple[int, int]) -> Box:
    """Return what an overview shows, the largest centred square: an image that is squeezed shows its proportions."""
    width, height = image_size
    side = min(width, height)
    return (float((width - side) // 2), float((height - side) // 2), float(side), float(side))


def pixels_at(image: Image, place: Place, spec: ViewSpec) -> Float[np.ndarray, "3 s s"]:
    """Make one view's pixels: for scans that cannot hold all views of a huge image at once.

    Args:
        image: The whole image.
        place: One of ``places_of`` for this image and spec.
        spec: How the detector wants to see the image.
    """
    left, top, width, height = place.box
    if spec.fit == "resize":
        part = (left, top, left + width, top + height)
        return normalised(_squeezed(PIL.Image.fromarray(image), part, spec.size), spec)
    if place.kind == "overview":
        return normalised(reduced(image, place.box, spec.size), spec)
    if place.kind == "mosaic":
        return normalised(mosaic(image, spec.size), spec)
    return normalised(crop_at(image, int(left), int(top), spec.size), spec)


def mosaic(image: Image, size: int) -> UInt8[np.ndarray, "_s _s 3"]:
    """Lay patches from all over an image side by side: what was above lies above, at the image's own resolution.

    Patches are evenly spread in both directions. What is no wider or higher than ``size`` is shown whole in that
    direction, mirrored at its borders.

    Args:
        image: Of any size.
        size: Side of the mosaic, pixels, a multiple of ``PATCH_PX``.
    """
    rows, columns = (_patches(length, size) for length in image.shape[:2])
    laid: UInt8[np.ndarray, "_s _s 3"] = image[rows[:, None], columns]
    return laid


def _patches(extent: int, size: int) -> np.ndarray:
    """Return the pixels of one axis that a mosaic shows."""
    if extent <= size:
        return mirrored((extent - size) // 2, size, extent)
    count = size // PATCH_PX
    starts = np.arange(count) * (extent - PATCH_PX) // max(1, count - 1)
    return (starts[:, None] + np.arange(PATCH_PX)).ravel()


def _squeezed(
    picture: PIL.Image.Image, part: tuple[float, float, float, float], size: int
) -> UInt8[np.ndarray, "_s _s 3"]:
    """Resize a part of a picture (left, top, right, bottom) to a square."""
    return np.asarray(picture.resize((size, size), PIL.Image.Resampling.BICUBIC, part))


def reduced(image: Image, box: Box, size: int) -> UInt8[np.ndarray, "_s _s 3"]:
    """Reduce a square of an image: by whole numbers as far as ``_GAP`` times the view's size, bicubically from there.

    In strips, so that they stay in the processor's cache. Bicubic alone takes four times as long for 12 megapixels.

    Args:
        image: The whole image.
        box: A square inside it.
        size: Side of what is returned, pixels; a smaller square is enlarged.
    """
    left, top, side, _ = box
    factor = int(side) // (_GAP * size)
    if factor < 2:
        part = (left, top, left + side, top + side)
        return _squeezed(PIL.Image.fromarray(image), part, size)
    whole = image[int(top) : int(top + side), int(left) : int(left + side)]
    rows = factor * max(1, _STRIP // factor)
    strips = [
        np.asarray(PIL.Image.fromarray(whole[start : start + rows]).reduce(factor))
        for start in range(0, len(whole), rows)
    ]
    ends = side / factor  # the last means may be of fewer pixels
    return _squeezed(PIL.Image.fromarray(np.concatenate(strips)), (0.0, 0.0, ends, ends), size)


def normalised(image: Image, spec: ViewSpec) -> Float[np.ndarray, "3 h w"]:
    """Scale to 0..1, subtract the mean, divide by the deviation; float32, channels first."""
    pixels = image.transpose(2, 0, 1).astype(np.float32, order="C")
    scale = 1 / (255 * np.asarray(spec.std))
    offset = np.asarray(spec.mean) / np.asarray(spec.std)
    pixels *= scale.astype(np.float32)[:, None, None]
    pixels -= offset.astype(np.float32)[:, None, None]
    return pixels


def tile_grid(image_size: tuple[int, int], size: int) -> list[tuple[int, int]]:
    """List (left, top) of tiles that cover an image without gaps, row by row.

    As few as cover each axis, evenly spread, the first and last flush with the borders; neighbours
    overlap where the side is no multiple of ``size``. An axis shorter than ``size`` gets one
    centred tile that starts before the border.

    >>> tile_grid((500, 200), 224)
    [(0, -12), (138, -12), (276, -12)]

    Raises:
        ValueError: If a side of the image or ``size`` is below 1.
    """
    width, height = image_size
    if min(width, height, size) < 1:
        raise ValueError(f"image_size={image_size}, size={size}: expected at least 1 pixel.")
    lefts, tops = _starts(width, size), _starts(height, size)
    return [(left, top) for top in tops for left in lefts]


def crop_at(
    array: Shaped[np.ndarray, "h w *c"], left: int, top: int, size: int
) -> Shaped[np.ndarray, "s s *c"]:
    """Copy a square of an image or a mask; what lies outside is mirrored at the border.

    The mirror does not repeat the border pixel and is applied as often as needed, so that any image
    of at least one pixel fills any square. Image and mask stay aligned: both follow the same law.

    Args:
        array: Image or mask of at least one pixel.
        left: First column; may be negative.
        top: First row; may be negative.
        size: Side of the square, pixels.
    """
    height, width = array.shape[:2]
    if left >= 0 and top >= 0 and left + size <= width and top + size <= height:
        return array[top : top + size, left : left + size].copy()
    rows, columns = mirrored(top, size, height), mirrored(left, size, width)
    square: np.ndarray = array[rows[:, None], columns]
    return square


def paste(
    maps: Float[np.ndarray, "n gh gw"], boxes: Sequence[Box], image_size: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """Put the maps of views back into the image's frame.

    Each map covers its view's box whatever its resolution. It is resized bilinearly (half-pixel
    centres, constant beyond the outermost), cut at the image borders, and averaged with those it
    overlaps.

    Args:
        maps: One finite map per view.
        boxes: Where the views lie.
        image_size: Width and height, pixels.

    Returns:
        float32; NaN where no view looked.

    Raises:
        ValueError: If there are not as many maps as boxes.
    """
    if len(maps) != len(boxes):
        raise ValueError(f"{len(maps)} maps for {len(boxes)} views: expected one map per view.")
    width, height = image_size
    placed = []
    for values, (left, top, box_width, box_height) in zip(maps, boxes, strict=True):
        cells = values.astype(np.float32, copy=False)
        columns = _Axis.of(left, box_width, cells.shape[1], width)
        placed.append((cells, columns, _Axis.of(top, box_height, cells.shape[0], height)))
    whole = np.empty((height, width), np.float32)
    for start, band in bands(whole):
        _paste_band(band, start, placed)
    return whole


def bands(values: Float[np.ndarray, "h w"]) -> Iterator[tuple[int, Float[np.ndarray, "_rows w"]]]:
    """Yield the rows of a map in groups that fit the processor's cache, each with the number of its first."""
    rows = max(1, BAND_PX // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        yield start, values[start : start + rows]


def _paste_band(
    band: Float[np.ndarray, "rows w"],
    start: int,
    placed: Sequence[tuple[Float[np.ndarray, "_gh _gw"], _Axis, _Axis]],
) -> None:
    """Fill some rows with the mean of the maps that lie there; ``placed``: cells with their columns and rows."""
    last = start + len(band)
    placed = [
        one for one in placed if one[2].first < last and start < one[2].first + len(one[2].low)
    ]
    if not placed:
        band.fill(np.nan)
        return
    band.fill(0)
    count = np.zeros(band.shape, np.uint16)
    for cells, columns, rows in placed:
        part = rows.band(max(0, start - rows.first), last - rows.first)
        down = slice(part.first - start, part.first - start + len(part.low))
        across = slice(columns.first, columns.first + len(columns.low))
        band[down, across] += columns.resampled(part.resampled(cells, 0), 1)
        count[down, across] += 1
    np.divide(band, count, out=band, where=count > 1)
    band[count == 0] = np.nan


def pool_logits(logits: Float[np.ndarray, " n"], pool: Pool) -> float:
    """Make one logit of a detector's logits for the views of one image.

    Raises:
        ValueError: If there is no logit.
    """
    if len(logits) == 0:
        raise ValueError("No logits to pool: expected one per view.")
    if pool == "mean":
        return float(logits.mean())
    if pool == "max":
        return float(logits.max())
    quarter = math.ceil(len(logits) / 4)
    return float(np.sort(logits)[-quarter:].mean())


@dataclass(frozen=True, slots=True)
class _Axis:
    """Bilinear resampling of one axis: pixel ``first + i`` lies between two cells of a map."""

    first: int
    low: np.ndarray
    high: np.ndarray
    share: np.ndarray  # 0: at ``low``; 1: at ``high``

    @classmethod
    def of(cls, start: float, length: float, cells: int, extent: int) -> _Axis:
        """Find the pixels whose centres lie in the box, and their place among the map's cells."""
        first = max(0, math.ceil(start - 0.5))
        last = min(extent, math.ceil(start + length - 0.5))
        centres = np.arange(first, max(first, last)) + 0.5
        position = ((centres - start) * (cells / length) - 0.5).clip(0, cells - 1)
        low = position.astype(np.intp)
        return cls(first, low, np.minimum(low + 1, cells - 1), (position - low).astype(np.float32))

    def band(self, start: int, stop: int) -> _Axis:
        part = slice(start, stop)
        return _Axis(self.first + start, self.low[part], self.high[part], self.share[part])

    def resampled(self, values: np.ndarray, axis: int) -> np.ndarray:
        lower: np.ndarray = values.take(self.low, axis)
        if not self.share.any():  # Native resolution: exact, and nothing to mix.
            return lower
        upper: np.ndarray = values.take(self.high, axis)
        upper -= lower
        upper *= self.share if axis == 1 else self.share[:, None]
        upper += lower
        return upper


def _starts(extent: int, size: int) -> list[int]:
    """Return where tiles begin on one axis."""
    tiles = -(-extent // size)
    if tiles == 1:
        return [(extent - size) // 2]
    return [index * (extent - size) // (tiles - 1) for index in range(tiles)]


def _spread(columns: int, rows: int, wanted: int) -> list[tuple[int, int]]:
    """Choose ``wanted`` cells (row, column) of a larger grid, evenly in both directions."""
    ideal = round(math.sqrt(wanted * rows / columns))
    used_rows = min(max(ideal, -(-wanted // columns)), rows, wanted)
    cells = []
    for index in range(used_rows):
        row = (2 * index + 1) * rows // (2 * used_rows)
        share = wanted * (index + 1) // used_rows - wanted * index // used_rows
        cells += [(row, (2 * step + 1) * columns // (2 * share)) for step in range(share)]
    return cells


def mirrored(start: int, size: int, extent: int) -> np.ndarray:
    """Return the pixels at ``start..start+size`` of an axis that is mirrored at both ends."""
    if extent == 1:
        return np.zeros(size, np.intp)
    period = 2 * (extent - 1)
    position = np.arange(start, start + size) % period
    return np.minimum(position, period - position)
