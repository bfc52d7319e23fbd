"""One training view: where it is cut from a picture, what happens to its geometry, and its ground truth.

Image and masks follow the same law.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import PIL.Image
from jaxtyping import Bool, Shaped, UInt8

from gammascope.imaging import codecs
from gammascope.imaging.views import crop_at
from gammascope.manipulation.base import SMALLEST_PX
from gammascope.sample import Image, Mask


@dataclass(frozen=True, slots=True)
class Drawn:
    """One training view with its ground truth.

    Attributes:
        pixels: As a detector's view, before normalisation.
        generated: True where a generator wrote the pixel.
        edited: True where the pixel was not here in the host.
        kind: Name of the share of ``Mixture`` it was drawn from.
        source: Of its host.
        tags: What else is known about it, by name.
        unknown: Names of the masks that are not known ("generated", "edited"); they are empty.
        told: What is known about the view as a whole although its mask is not, by name of the mask.
    """

    pixels: Image
    generated: Mask
    edited: Mask
    kind: str
    source: str
    tags: Mapping[str, float] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    told: Mapping[str, bool] = field(default_factory=dict)

    def answer(self, name: Literal["generated", "edited"]) -> bool | None:
        """Say whether the view holds generated, or edited, pixels; None: not known."""
        if name in self.unknown:
            return self.told.get(name)
        return self.contains_generated if name == "generated" else self.was_edited

    @property
    def contains_generated(self) -> bool:
        """Whether enough pixels are generated for anyone to see (0.2 % of the view; our choice)."""
        return bool(self.generated.mean() > 0.002)

    @property
    def was_edited(self) -> bool:
        """Whether enough pixels are edited for anyone to see (0.2 % of the view; our choice)."""
        return bool(self.edited.mean() > 0.002)


Place: TypeAlias = tuple[slice, slice]
"""Rows and columns of a window."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of a picture is worked on.

    Attributes:
        side: Of a window, pixels; a shorter axis is taken whole.
        reach: The window is reduced until its shorter side has about so many pixels; None: it stays as it is.
    """

    side: int = sys.maxsize
    reach: float | None = None

    def reduced(self, image: Image) -> UInt8[np.ndarray, "new_h new_w 3"]:
        """Reduce a window of an image."""
        return image if self.reach is None else reduced(image, self.reach)

    def reduced_mask(self, mask: Mask) -> Bool[np.ndarray, "new_h new_w"]:
        """Reduce a window of a mask as that of its image."""
        factor = self._factor(mask.shape)
        return codecs.rescale_mask(mask, factor) if factor < 1 else mask

    def forgets(self, image: Image) -> bool:
        """Whether a window is reduced so far, to less than half, that nothing is left of an earlier encoding."""
        return self._factor(image.shape) < 0.5

    def _factor(self, shape: Sequence[int]) -> float:
        return 1.0 if self.reach is None else self.reach / min(shape[:2])


def place(shape: Sequence[int], side: int, panels: int, rng: np.random.Generator) -> Place:
    """Choose a window inside one panel of a picture; an axis shorter than ``side`` is taken whole."""
    rows, columns = (_span(extent, side, panels, rng) for extent in shape[:2])
    return rows, columns


def place_showing(mask: Mask, side: int, panels: int, rng: np.random.Generator) -> Place:
    """Choose a window as ``place`` does, around a pixel drawn from those that a mask marks (at least one)."""
    marked = np.flatnonzero(mask)
    pixel = int(marked[int(rng.integers(len(marked)))])
    rows, columns = (
        _span_around(at, extent, side, panels, rng)
        for at, extent in zip(divmod(pixel, mask.shape[1]), mask.shape, strict=True)
    )
    return rows, columns


def _span(extent: int, side: int, panels: int, rng: np.random.Generator) -> slice:
    length = extent // panels
    start = int(rng.integers(panels)) * length + int(rng.integers(max(0, length - side) + 1))
    return slice(start, start + min(side, length))


def _span_around(at: int, extent: int, side: int, panels: int, rng: np.random.Generator) -> slice:
    length = max(1, extent // panels)
    at = min(at, panels * length - 1)  # what is left over belongs to no panel
    first, side = at // length * length, min(side, length)
    start = int(rng.integers(max(first, at - side + 1), min(at, first + length - side) + 1))
    return slice(start, start + side)


def cut(array: Shaped[np.ndarray, "h w *c"], where: Place) -> Shaped[np.ndarray, "cut_h cut_w *c"]:
    """Copy a window of an image or a mask; mirrored up to the smallest size that can be manipulated."""
    window = array[where].copy()
    return window if min(window.shape[:2]) >= SMALLEST_PX else crop_at(window, 0, 0, SMALLEST_PX)


def shorter_side(image: Image, panels: int) -> int:
    """Return the shorter side of one panel of a picture, pixels."""
    return int(min(image.shape[:2])) // panels


def reduced(image: Image, side: float) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """Bring the shorter side down to about ``side`` pixels; what is smaller stays as it is."""
    factor = side / min(image.shape[:2])
    return codecs.rescale(image, factor) if factor < 1 else image


def squeezed(image: Image, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Resize an image to a square, as detectors with ``fit = "resize"`` see it."""
    return _resized(image, size, PIL.Image.Resampling.BICUBIC)


def squeezed_mask(mask: Mask, size: int) -> Bool[np.ndarray, "{size} {size}"]:
    """Resize a mask to a square: true where at least half of the area was."""
    area = _resized(mask.astype(np.uint8) * 255, size, PIL.Image.Resampling.BOX)
    half: Mask = area >= 128
    return half


def _resized(array: np.ndarray, size: int, kernel: PIL.Image.Resampling) -> np.ndarray:
    return np.array(PIL.Image.fromarray(array).resize((size, size), kernel))


def crop_start(extent: int, size: int, rng: np.random.Generator) -> int:
    """Choose where a crop starts on one axis; centred with a mirrored border where the axis is too short."""
    return int(rng.integers(extent - size + 1)) if extent >= size else (extent - size) // 2


def turned(array: np.ndarray, turns: int, *, mirrored: bool) -> np.ndarray:
    """Turn an image or a mask by quarters, then mirror it."""
    result = np.rot90(array, turns)
    return np.ascontiguousarray(result[:, ::-1] if mirrored else result)
