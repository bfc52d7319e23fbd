"""A part that lacks the JPEG compression which the rest of the picture went through.

A compression leaves a comb in the coefficients of its grid: they lie on multiples of its steps, also when the picture
was decoded, edited and saved without loss, or saved as JPEG once more. What was put in afterwards (a copy, a piece of
another picture, a generator's region) has no such comb on this grid. Both laws are taken from the picture itself: that
of the grid from its blocks, that of no grid from blocks between them. Each block is compared with both. Where all
blocks of a picture follow one law, nothing is found. A file that was cropped before it was saved again has the comb on
another grid than its own.

A lens correction, a vignette, a filter against noise or a codec such as AVIF's takes the comb away here and there, too.
A piece that was put in differs: it ends within a cell or two, and the rest has its comb all over. ``parts`` weighs how
clearly it does, and what is shown there.

Source: the idea that histograms of coefficients separate blocks compressed twice from others is that of Lin, He, Tang
and Tang, Fast, automatic and fine-grained tampered JPEG image detection, 2009, and Bianchi and Piva, Image forgery
localization via block-grained analysis of JPEG artifacts, 2012. They compute the laws from the steps of both
compressions; here no step is estimated, so that files saved without loss can be examined as well (our choice).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    box_means,
    cell_sums,
    unrounded_luma,
)
from gammascope.forensics.parts import Part, PutIn, Scene, Surroundings, standing_out
from gammascope.sample import Image

SMALLEST_PX = 128
"""Shorter side below which histograms hold too few blocks (our choice)."""

FADED = 0.6
"""Highest score where the comb faded without an edit: below what is in doubt, above what shows nothing at all."""

FREQUENCIES = (
    (0, 1),
    (1, 0),
    (2, 0),
    (1, 1),
    (0, 2),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 0),
    (4, 0),
    (2, 2),
    (0, 4),
)
"""Low ones, vertical and horizontal: where pictures have most."""

_ASKED = tuple((row, column) for row in range(8) for column in range(8) if 0 < row + column < 8)
_LARGEST = 24  # multiples of a step beyond are taken together
_PRIOR = 8.0  # blocks' worth of what both laws have in common: rare values count little
_SMOOTHING = (0.1, 0.2, 0.4, 0.2, 0.1)
_CLIP = 4.0  # nats that one coefficient may add
_CUT_OFF = 0.02  # share of a block whose colours may be at the end of their range
_KNOWN = 0.3  # share of a cell and its eight neighbours that must not be cut off
_LACKING = 0.03  # share of the rest that may lack the comb as well
_STEEP = 0.7  # share of the way from a part to the rest that lies within its border
_FADING = "An earlier JPEG compression has faded"
_GAIN = 0.25  # nats by block by which the grid must explain more than no grid
_STRIP = 32  # rows of blocks whose coefficients are in memory at once
_EDGE = 0.3  # of the median of a part: cells below lie beyond its edge
_GROWN = 4  # cells by which smooth places within a part are filled
_LEVELS = (0.4, 1.5)  # nats for "on no grid"
_SHARE = (0.004, 0.85)
# Where no block of the grid begins; rows and columns are all different.
_OFF = ((4, 4), (2, 6), (6, 2))
_SAMPLED = 2048  # places at which the 64 grids are tried
_CROPPED = 1.0  # nats by which another grid than the file's must differ, at these places, from its mirror image
_WHOLE = np.ones((8, 8))

Start: TypeAlias = tuple[int, int]


def examine(picture: Picture) -> Outcome:
    """Mark the connected part that lacks the comb of the rest."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    history = earliest(picture)
    if not history.seen:
        return Silence("no trace of an earlier JPEG compression")
    evidence, cut_off = history.lacking(), history.cut_off
    found = PutIn.of("quantisation", suspects(history, evidence, picture.image), evidence.shape)
    score, part = found.score, found.inside
    faded = _faded(part, evidence, history)
    if faded:
        score, part = min(score, FADED), np.zeros_like(part)
    elif part.any():
        part = _trimmed(part, evidence)
    # Cells that cannot speak for themselves go with those around them.
    part = part | (cut_off & (box_means(part, 2) > 0.5 * box_means(~cut_off, 2)))
    shown = np.clip(evidence / 16 + 0.25, 0, 0.5)
    shown = np.where(part, 0.5 + np.nan_to_num(shown), shown)
    shown = shown.astype(np.float32)
    note = f"{history.note} {faded}".strip()
    return Finding(score, shown, history.origin, CELL_PX, picture.size, note)


def suspects(
    history: History, evidence: Float[np.ndarray, "gh gw"], image: Image
) -> Iterator[Part]:
    """Yield the parts that stand out as lacking the comb, each with what bears on whether it was put in.

    Args:
        history: Of the picture.
        evidence: What of it lacks the comb.
        image: Its pixels.
    """
    left, top = history.origin
    scene = Scene.of(history.blocks.luma, image[top:, left:])

    def about(part: Surroundings) -> tuple[float, float]:
        return float(np.log1p(history.gain)), history.kept_in(part.inside)

    return standing_out(evidence, scene, _LEVELS, _SHARE, about)


def _faded(
    part: Bool[np.ndarray, "gh gw"], evidence: Float[np.ndarray, "gh gw"], history: History
) -> str:
    """Say how the comb was lost if not by something that was put in; nothing if it lacks in the part alone."""
    around = Surroundings.of(part)
    if around is None:
        return ""
    rest = evidence[around.rest]
    if (rest > _LEVELS[0]).mean() > _LACKING:
        return f"{_FADING} in places all over, as by a filter or by another codec."
    places = (around.core, around.near, around.rest)
    known = [history.ratio[place & ~history.cut_off] for place in places]
    if not all(some.size for some in known):
        return ""
    inside, border, outside = (float(some.mean()) for some in known)
    if border - inside < _STEEP * (outside - inside):
        return f"{_FADING} little by little, as by a lens correction or a vignette."
    return ""


class Blocks:
    """Coefficients of a picture, in whole steps without their signs, 0 to 24, on a grid and off it.

    Args:
        luma: Brightness 0..255; the first block of the grid begins at the first pixel.
        steps: Of the last quantisation, by vertical and horizontal frequency; ones if none was on this grid.
        off: Where blocks begin, down and right, that are on no grid; the first ones are compared with the grid's.
    """

    def __init__(
        self,
        luma: Real[np.ndarray, "h w"],
        steps: Real[np.ndarray, "8 8"],
        off: Sequence[Start] = _OFF,
    ) -> None:
        self.luma, self._off = luma, off
        self._steps = np.array([steps[at] for at in _ASKED], np.float32)[:, None, None]
        self.on = self._beginning((0, 0))

    def ratios(self) -> Float[np.ndarray, "gh gw"]:
        """Return by block how many nats the law of the grid explains it better than that of no grid."""
        law = _law(_counts(self.on), _counts(self._beginning(self._off[0])))
        return np.asarray(_told(law, self.on).reshape(self.on.shape[1:]))

    def own_gain(self, part: Bool[np.ndarray, "gh gw"]) -> float:
        """Return by how many nats a block its own grid explains a part better than no grid does.

        Each half of the part's blocks is measured by the law of the other half, so that a part without a comb is at or
        below 0, however small. Of several places that are taken for "no grid" the least gain counts: a piece of another
        JPEG file has its comb in the rows of one and in the columns of another of them at most.
        """
        rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
        # One block more on each side: those off the grid reach beyond the part.
        top, left = max(0, rows[0] - 1), max(0, columns[0] - 1)
        box = np.s_[top : rows[-1] + 2, left : columns[-1] + 2]
        around = self.luma[CELL_PX * top : CELL_PX * (rows[-1] + 3)]
        around = around[:, CELL_PX * left : CELL_PX * (columns[-1] + 3)]
        on = self.on[:, part]
        first = np.random.default_rng(0).random(on.shape[1]) < 0.5
        halves = ((on[:, first], on[:, ~first]), (on[:, ~first], on[:, first]))
        gains = []
        for start in self._off:
            off = self._beginning(start, within=around)
            inside = part[box][: off.shape[1], : off.shape[2]]
            none = _counts(off[:, : inside.shape[0], : inside.shape[1]][:, inside])
            said = [_told(_law(_counts(one), none), other).sum() for one, other in halves]
            gains.append(float(np.sum(said) / max(1, on.shape[1])))
        return min(gains)

    def _beginning(
        self, start: tuple[int, int], within: Real[np.ndarray, "h w"] | None = None
    ) -> UInt8[np.ndarray, "f _gh _gw"]:
        """Return the blocks that begin there, of all of the picture or what lies within."""
        luma = self.luma if within is None else within
        down, right = start
        rows = (luma.shape[0] - down) // CELL_PX
        strips = []
        for row in range(0, rows, _STRIP):  # Coefficients of a large picture fill much memory.
            top, bottom = (down + CELL_PX * at for at in (row, min(rows, row + _STRIP)))
            found = coefficients(luma[top:bottom], (0, right), _ASKED)
            strips.append(_multiples(found, self._steps))
        return np.concatenate(strips, 1)


@dataclass(frozen=True)
class History:
    """What a grid tells of a picture.

    Attributes:
        blocks: Those of the grid.
        origin: Left and top of the first one, pixels of the upright picture.
        ratio: By block, how many nats the law of the grid explains it better than that of no grid.
        cut_off: Blocks whose colours are at the end of their range; they prove nothing.
        gain: The mean ratio of the others.
        moved: Rows and columns by which the grid lies off that of the file, which so was cropped in between; none: 0.
    """

    blocks: Blocks
    origin: tuple[int, int]
    ratio: Float[np.ndarray, "gh gw"]
    cut_off: Bool[np.ndarray, "gh gw"]
    gain: float
    moved: Start

    @classmethod
    def of(
        cls, image: Image, blocks: Blocks, origin: tuple[int, int], moved: Start = (0, 0)
    ) -> History:
        """Compare each block with both laws."""
        ratio = blocks.ratios()
        cut_off = _cut_off(image, origin, ratio.shape)
        gain = 0.0 if cut_off.all() else float(ratio[~cut_off].mean())
        return cls(blocks, origin, ratio, cut_off, gain, moved)

    @property
    def seen(self) -> bool:
        """Whether there is an earlier compression."""
        return self.gain >= _GAIN

    @property
    def note(self) -> str:
        """Say that a file was cropped, if it was."""
        if self.moved == (0, 0):
            return ""
        down, right = self.moved
        return (
            "The picture was a JPEG file before and was cropped since: its earlier blocks begin "
            f"{right} px further right and {down} px further down than those of the file."
        )

    def lacking(self) -> Float[np.ndarray, "gh gw"]:
        """Return by block, averaged over neighbours, nats for "on no grid"; NaN: nothing can be said."""
        evidence = box_means(np.where(self.cut_off, 0, -self.ratio), 1)
        evidence[box_means(~self.cut_off, 1) < _KNOWN] = np.nan
        return evidence

    def kept_in(self, part: Bool[np.ndarray, "gh gw"]) -> float:
        """Return how clear the comb of a part is, as a share of that of the picture; at or below 0: it has none.

        What has it was there when the picture was compressed: texture in a picture that is mostly sky. Only for
        histories that are seen: without a comb there is no share of one.
        """
        return self.blocks.own_gain(part) / self.gain


def earliest(picture: Picture) -> History:
    """Return what the grid tells that the picture was most clearly compressed on before.

    Args:
        picture: Of at least ``SMALLEST_PX`` pixels on each side.
    """
    histories = [History.of(picture.image, *tried) for tried in _tried(picture)]
    return max(histories, key=lambda history: history.gain)


def _tried(picture: Picture) -> Iterator[tuple[Blocks, tuple[int, int], Start]]:
    """Yield by grid blocks of the upright picture, left and top of the first one, and how far it is off the file's."""
    if picture.stored is None:
        luma = unrounded_luma(picture.image)
        top, left = Grids.of(luma).clearest()
        yield Blocks(luma[top:, left:], _WHOLE), (left, top), (0, 0)
        return
    pixels, steps, (x, y) = picture.stored.turned()
    grids = Grids.of(pixels)
    yield Blocks(pixels, steps, grids.between()), (x, y), (0, 0)
    other = grids.before_cropping()
    if other is not None:
        top, left = other
        mirror = (-2 * top % CELL_PX, -2 * left % CELL_PX)
        yield Blocks(pixels[top:, left:], _WHOLE, (mirror,)), (x + left, y + top), other


def _trimmed(
    part: Bool[np.ndarray, "gh gw"], evidence: Float[np.ndarray, "gh gw"]
) -> Bool[np.ndarray, "gh gw"]:
    """Take off the rim, over which averages carry a part, and add undecided cells that lie among its own."""
    part = part & (evidence > _EDGE * np.median(evidence[part]))
    for _ in range(_GROWN):
        part |= (evidence > -_LEVELS[0]) & (box_means(part, 1) > 0.5)
    return part


@dataclass(frozen=True)
class Grids:
    """How often each value occurs in the blocks of each of the 64 grids, at some places of a picture.

    Attributes:
        laws: Shares by top and left of the grid, frequency and value.
    """

    laws: Float[np.ndarray, "8 8 f v"]

    @classmethod
    def of(cls, luma: Real[np.ndarray, "h w"]) -> Grids:
        """Count at places that a fixed seed draws."""
        height, width = luma.shape
        rng = np.random.default_rng(0)
        tops = rng.integers(0, (height - 2 * CELL_PX) // CELL_PX + 1, _SAMPLED) * CELL_PX
        lefts = rng.integers(0, (width - 2 * CELL_PX) // CELL_PX + 1, _SAMPLED) * CELL_PX
        windows = np.lib.stride_tricks.sliding_window_view(luma, (2 * CELL_PX, 2 * CELL_PX))
        places = windows[tops, lefts].transpose(1, 2, 0).astype(np.float32, order="C")
        grids = np.arange(64).reshape(8, 8, 1)
        laws = np.empty((8, 8, len(FREQUENCIES), _LARGEST + 1))
        # First along rows for all lefts, then along columns for all tops: what grids share is computed once.
        across = {
            right: (_slid(right) @ places).reshape(2 * CELL_PX, -1)
            for right in {right for _, right in FREQUENCIES}
        }
        for number, (down, right) in enumerate(FREQUENCIES):
            found = _multiples((_slid(down) @ across[right]).reshape(8, 8, -1), 1.0)
            counts = np.bincount(
                (found + np.int16(_LARGEST + 1) * grids).ravel(), minlength=64 * (_LARGEST + 1)
            )
            laws[:, :, number] = counts.reshape(8, 8, -1)
        return cls((laws + 0.5) / (_SAMPLED + 0.5 * (_LARGEST + 1)))

    def clearest(self) -> Start:
        """Return the grid that a picture without a file's grid was most likely compressed on."""
        gains = (self.laws * np.log(self.laws / self.laws.mean((0, 1)))).sum((2, 3))
        return divmod(int(gains.argmax()), CELL_PX)

    def between(self) -> tuple[Start, ...]:
        """Return where blocks begin that are on no grid of a JPEG file, those with the least comb first.

        A file that was cropped by half a block has a comb there. (WebP has blocks of 4 pixels: there half a block is
        the one place that lies alike.)
        """

        def evenness(start: Start) -> float:
            law = self.laws[start]
            return float((law * np.log(law)).sum())

        return tuple(sorted(_OFF, key=evenness))

    def before_cropping(self) -> Start | None:
        """Return the grid that a file was compressed on before it was cropped and saved on its own; None: on none.

        A grid is compared with its mirror image, at the same distance from the last one, which that compression
        changed alike. Half a block away both are one and the same: of 64 croppings, three are not seen.
        """
        logs = np.log(self.laws)
        mirrored = -np.arange(CELL_PX) % CELL_PX
        laws, others = self.laws[mirrored][:, mirrored], logs[mirrored][:, mirrored]
        gains = ((self.laws - laws) * (logs - others)).sum((2, 3))
        # Both differ as much; the comb is on the one whose values are less even.
        combed = (self.laws * logs).sum((2, 3)) > (laws * others).sum((2, 3))
        gains = np.where(combed, gains, 0)
        grid = divmod(int(gains.argmax()), CELL_PX)
        return grid if gains[grid] >= _CROPPED else None


def _multiples(values: np.ndarray, steps: np.ndarray | float) -> UInt8[np.ndarray, "f ..."]:
    return np.asarray(np.minimum(np.abs(values) / steps + 0.5, _LARGEST), dtype=np.uint8)


def _counts(values: UInt8[np.ndarray, "f ..."]) -> Int[np.ndarray, "f v"]:
    return np.stack([np.bincount(some.ravel(), minlength=_LARGEST + 1) for some in values])


def _law(grid: Int[np.ndarray, "f v"], none: Int[np.ndarray, "f v"]) -> Float[np.ndarray, "f v"]:
    """Return log likelihoods of "on the grid" over "on none" from how often each value was seen there."""
    grid_all, none_all = (np.maximum(1, some.sum(1, keepdims=True)) for some in (grid, none))
    both = _smooth((grid / grid_all + none / none_all) / 2) * _PRIOR
    law = np.log((grid + both) / (grid_all + _PRIOR)) - np.log((none + both) / (none_all + _PRIOR))
    return np.asarray(np.clip(law, -_CLIP, _CLIP), dtype=np.float32)


def _told(law: Float[np.ndarray, "f v"], values: UInt8[np.ndarray, "f ..."]) -> np.ndarray:
    """Add up the values of all frequencies of each block."""
    out = np.zeros(values[0].size, np.float32)
    for told, some in zip(law, values, strict=True):
        out += told[some.ravel()]
    return out


def _smooth(laws: Float[np.ndarray, "f v"]) -> Float[np.ndarray, "f v"]:
    padded = np.pad(laws, ((0, 0), (2, 2)), mode="edge")
    length = laws.shape[1]
    smooth = sum(weight * padded[:, at : at + length] for at, weight in enumerate(_SMOOTHING))
    return np.asarray(smooth + 1e-6)


def _cut_off(
    image: Image, origin: tuple[int, int], shape: tuple[int, ...]
) -> Bool[np.ndarray, "gh gw"]:
    """Tell which cells hold colours at the end of their range: cutting off what is beyond undoes a quantisation."""
    left, top = origin
    inside = image[top : top + shape[0] * CELL_PX, left : left + shape[1] * CELL_PX]
    # Blue, at the end of its range in whatever is red or yellow, is a ninth of brightness: it may be cut off.
    red, green = (inside[..., channel] - np.uint8(1) >= 254 for channel in (0, 1))  # 0 becomes 255.
    return np.asarray(cell_sums((red | green).view(np.uint8)) > _CUT_OFF * CELL_PX**2)


@cache
def waves() -> Float[np.ndarray, "8 8"]:
    """Return the cosines of a block's eight frequencies along one side, of length 1, one row each."""
    at = (2 * np.arange(8) + 1) * np.pi / 16
    scale = np.where(np.arange(8) == 0, np.sqrt(1 / 8), 0.5)
    return np.asarray(np.cos(np.arange(8)[:, None] * at[None]) * scale[:, None])


@cache
def _slid(frequency: int) -> Float[np.ndarray, "8 16"]:
    """Return the cosine of one frequency, moved along twice its length pixel by pixel."""
    slid = np.zeros((8, 16), np.float32)
    for start in range(8):
        slid[start, start : start + 8] = waves()[frequency]
    return slid


@cache
def _bases(frequencies: tuple[tuple[int, int], ...]) -> Float[np.ndarray, "f 64"]:
    """Return the cosines of frequencies, one row each."""
    wave = waves()
    rows = [np.outer(wave[row], wave[column]).ravel() for row, column in frequencies]
    return np.array(rows, np.float32)


def coefficients(
    luma: Real[np.ndarray, "h w"],
    start: tuple[int, int] = (0, 0),
    frequencies: tuple[tuple[int, int], ...] = FREQUENCIES,
) -> Float[np.ndarray, "f gh gw"]:
    """Return the cosine transform of whole blocks, the first of which begins at ``start``, down and right.

    Args:
        luma: Brightness 0..255.
        start: Pixels.
        frequencies: Vertical and horizontal ones.
    """
    down, right = start
    rows, columns = (luma.shape[0] - down) // CELL_PX, (luma.shape[1] - right) // CELL_PX
    cut = luma[down : down + rows * CELL_PX, right : right + columns * CELL_PX]
    blocks = cut.reshape(rows, CELL_PX, columns, CELL_PX).transpose(1, 3, 0, 2)
    # "C": turned and converted at once.
    values = blocks.astype(np.float32, order="C").reshape(64, -1)
    return (_bases(frequencies) @ values).reshape(-1, rows, columns)
