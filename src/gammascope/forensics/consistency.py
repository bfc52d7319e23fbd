"""Traces of another kind: many weak ones, weighed by a small network.

What made a picture (lens, sensor, denoising, scaling, compression) leaves traces that are alike all over it: how
strong differences of neighbouring pixels are at several distances, in brightness and colour, how coefficients lie on
the last grid and off it, and the comb of an earlier compression. Each is measured by cell as a deviation from cells of
the same picture that are as bright and as textured; a network of two hidden layers says from the deviations around a
cell whether it was put in. It has seen no pixels, only such deviations, of copies, pieces, fills and smoothed regions.
A second one weighs what so stands out (``parts``).

Source: our own. That edits stand out by contrast inside one picture is the idea of Splicebuster (Cozzolino, Poggi and
Verdoliva, 2015); that traces of several kinds should be weighed by a trained network, of TruFor (arXiv:2212.10957),
whose networks learn the traces as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Float, Real

from gammascope.forensics import quantisation
from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    box_means,
    cell_sums,
    standardised,
    unrounded_luma,
)
from gammascope.forensics.parts import Part, PutIn, Scene, Surroundings, standing_out
from gammascope.forensics.variance import deviations

SMALLEST_PX = 160
"""Shorter side below which cells have too few others to be compared with (our choice)."""

WEIGHTS = Path(__file__).with_name("consistency.safetensors")
"""The network, which ``benchmarks/fit_consistency.py`` makes."""

_STRIP = 32  # rows of cells whose pixels are in memory at once
_HALO = CELL_PX  # pixels around a strip that its differences reach
_LARGEST = 8.0  # robust deviations
_REACHES = (1, 3)  # cells: deviations are averaged over squares of 24 and of 56 px
_COMB = 20.0  # nats by block
_LEVELS = (0.5, 2.0)  # nats for "was put in"
_LACKING = 0.4  # nats for "on no grid"
_WHOLE = 6  # inputs that are of the picture as a whole
_SHARE = (0.004, 0.5)
_EPSILON = 0.02
_TRACES = 40

_ALL = tuple(np.ndindex(8, 8))
_ORDER = np.add.outer(np.arange(8), np.arange(8)).ravel()
_BANDS = tuple((first <= _ORDER) & (last >= _ORDER) for first, last in ((1, 2), (3, 5), (6, 8), (9, 14)))  # fmt: skip


def examine(picture: Picture) -> Outcome:
    """Mark the connected part whose traces differ from those of the rest."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    measured = Measured.of(picture)
    if measured is None:
        return Silence("most of the picture is black or white")
    evidence = measured.evidence()
    found = PutIn.of("consistency", measured.suspects(evidence), evidence.shape)
    shown = np.clip(evidence / 8 + 0.25, 0, 0.5) + 0.5 * found.inside
    return Finding(found.score, shown.astype(np.float32), measured.origin, CELL_PX, picture.size)


class Measured:
    """What the network is given of a picture.

    Attributes:
        inputs: By cell: deviations averaged over squares of two sizes, the comb, brightness, texture and colour there,
            and what the picture is as a whole.
        origin: Left and top of the first cell, pixels of the upright picture.
        history: Its earlier compression.
        scene: What it shows.
    """

    def __init__(
        self,
        inputs: Float[np.ndarray, "gh gw n"],
        origin: tuple[int, int],
        history: quantisation.History,
        scene: Scene,
    ) -> None:
        self.inputs, self.origin, self.history, self.scene = inputs, origin, history, scene

    @classmethod
    def of(cls, picture: Picture) -> Measured | None:
        """Measure a picture of at least ``SMALLEST_PX``; None if it is mostly black or white."""
        luma, steps, origin = _pixels_of(picture)
        colour = picture.image[origin[1] :, origin[0] :][: luma.shape[0], : luma.shape[1]]
        scene = Scene.of(luma, colour)
        usable = scene.usable
        if usable.mean() < 0.5:
            return None
        traces = _traces(luma, colour, steps)
        whole = [
            np.log(steps.ravel()[1:21].mean()),
            *(np.median(traces[..., at]) for at in (2, 9, 11)),
            np.log(usable.size),
        ]
        history = quantisation.earliest(picture)
        everywhere = [*whole, np.log1p(max(0.0, history.gain))]
        here = [(scene.brightness - 128) / 64, scene.texture, scene.colour, usable]
        deviating = deviations(traces, scene.brightness, scene.texture, usable)
        del traces, luma
        np.clip(deviating, -_LARGEST, _LARGEST, out=deviating)
        deviating[~usable] = 0
        comb = _comb(history, usable.shape)
        # One by one: all averages of a large picture at once, in the precision of sums, would fill much memory.
        maps = (
            box_means(one, reach) for reach in _REACHES for one in np.moveaxis(deviating, -1, 0)
        )
        combs = (box_means(comb, reach) / 4 for reach in _REACHES)
        count = len(_REACHES) * (deviating.shape[-1] + 1) + len(here) + len(everywhere)
        inputs = np.empty((*usable.shape, count), np.float32)
        for number, values in enumerate(chain(maps, combs, here, everywhere)):
            inputs[..., number] = values
        return cls(inputs, origin, history, scene)

    def suspects(self, evidence: Float[np.ndarray, "gh gw"]) -> Iterator[Part]:
        """Yield the parts that stand out, each with what bears on whether it was put in."""
        history, shape = self.history, self.scene.texture.shape
        comb = np.zeros(shape, np.float32)
        if history.seen:
            comb = _fitted(np.nan_to_num(history.lacking()), shape)
        steps, *medians, _, gain = self.inputs[0, 0, -_WHOLE:].tolist()

        def about(part: Surroundings) -> list[float]:
            there = _fitted(part.inside, history.ratio.shape) > 0
            kept = history.kept_in(there) if history.seen and there.any() else 0.0
            means = (float(comb[place].mean()) for place in (part.inside, part.near, part.rest))
            lacking = float((comb[part.rest] > _LACKING).mean())
            return [float(history.seen), gain, kept, *means, lacking, steps, *medians]

        return standing_out(evidence, self.scene, _LEVELS, _SHARE, about)

    def evidence(self) -> Float[np.ndarray, "gh gw"]:
        """Return by cell, averaged over neighbours, the log odds that it was put in, were half of all cells."""
        net = _network()
        out = np.empty(self.inputs.shape[:2], np.float32)
        for number, row in enumerate(self.inputs):
            values = standardised(row, net["mean"], net["spread"])
            values = np.maximum(values @ net["first"] + net["first_bias"], 0)
            values = np.maximum(values @ net["second"] + net["second_bias"], 0)
            out[number] = values @ net["last"] + net["last_bias"]
        return box_means(out, 1)


@cache
def _network() -> dict[str, np.ndarray]:
    """Return the weights by name; inputs are rows, so each matrix is multiplied from the right."""
    stored = safetensors.numpy.load_file(WEIGHTS)
    return {name: values.astype(np.float32) for name, values in stored.items()}


def _pixels_of(
    picture: Picture,
) -> tuple[Real[np.ndarray, "h w"], Float[np.ndarray, "8 8"], tuple[int, int]]:
    """Return brightness from the first block on, the last steps (ones if there are none), and where that block is."""
    if picture.stored is None:
        return unrounded_luma(picture.image), np.ones((8, 8)), (0, 0)
    pixels, steps, origin = picture.stored.turned()
    return pixels, steps.astype(np.float64), origin


def _comb(history: quantisation.History, shape: tuple[int, ...]) -> Float[np.ndarray, "gh gw"]:
    """Return by cell how little it shares of an earlier compression; cells may be off by less than one."""
    lacking = np.where(history.cut_off, 0, np.clip(-history.ratio, -_COMB, _COMB))
    return _fitted(lacking, shape)


def _traces(
    luma: Real[np.ndarray, "h w"], colour: np.ndarray, steps: Float[np.ndarray, "8 8"]
) -> Float[np.ndarray, "gh gw f"]:
    """Return all traces by cell."""
    rows, columns = luma.shape[0] // CELL_PX, luma.shape[1] // CELL_PX
    starts = range(0, rows - 1, _STRIP)  # A single last row goes with those above it.
    out = np.empty((rows, columns, _TRACES), np.float32)
    for row in starts:
        count = rows - row if row == starts[-1] else _STRIP
        top = max(0, row * CELL_PX - _HALO)
        above = row * CELL_PX - top
        bottom = (row + count) * CELL_PX + _HALO
        some, there = luma[top:bottom].astype(np.float32, copy=False), colour[top:bottom]
        inside = np.s_[above // CELL_PX : above // CELL_PX + count, :columns]
        squares = chain(_squares(some), *(_colour_squares(there[..., c] - some) for c in (2, 0)))
        detail = [np.log(cell_sums(one)[inside] / CELL_PX**2 + _EPSILON) for one in squares]
        found = [*detail, *_coefficients_of(some[above:], (count, columns), steps)]
        found += [edges[inside] for edges in _edges(some)]
        found += _ratios(detail)
        out[row : row + count] = np.stack(found, -1)
    return out


def _placed(
    values: Float[np.ndarray, "_h _w"], shape: tuple[int, ...], at: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """Put values into a frame of zeros."""
    out = np.zeros(shape, np.float32)
    out[at[0] : at[0] + values.shape[0], at[1] : at[1] + values.shape[1]] = values
    return out


def _squares(luma: Float[np.ndarray, "h w"]) -> Iterator[Float[np.ndarray, "h w"]]:
    """Yield squares of differences along rows and columns: first, third (and how large they are), mixed, wider ones."""
    shape, down = luma.shape, luma.T
    yield _placed(np.diff(luma, axis=1) ** 2, shape, (0, 0))
    yield _placed(np.diff(luma, axis=0) ** 2, shape, (0, 0))
    for turned, axis in ((luma, 1), (down, 0)):
        third = turned[:, 3:] - 3 * turned[:, 2:-1] + 3 * turned[:, 1:-2] - turned[:, :-3]
        third = third if axis else third.T
        at = (0, 1) if axis else (1, 0)
        yield _placed(third**2, shape, at)
        yield _placed(np.abs(third), shape, at)
    mixed = luma[:-1, :-1] - luma[:-1, 1:] - luma[1:, :-1] + luma[1:, 1:]
    yield _placed(mixed**2, shape, (0, 0))
    yield _placed((luma[:, 4:] - 2 * luma[:, 2:-2] + luma[:, :-4]) ** 2, shape, (0, 2))
    yield _placed((luma[4:] - 2 * luma[2:-2] + luma[:-4]) ** 2, shape, (2, 0))
    wide = luma[:, 6:] - 3 * luma[:, 4:-2] + 3 * luma[:, 2:-4] - luma[:, :-6]
    yield _placed(wide**2, shape, (0, 3))
    wide = luma[6:] - 3 * luma[4:-2] + 3 * luma[2:-4] - luma[:-6]
    yield _placed(wide**2, shape, (3, 0))


def _colour_squares(of: Float[np.ndarray, "h w"]) -> Iterator[Float[np.ndarray, "h w"]]:
    """Yield squares of differences of colour two and four pixels apart."""
    yield _placed((of[:, 2:] - of[:, :-2]) ** 2, of.shape, (0, 1))
    yield _placed((of[2:] - of[:-2]) ** 2, of.shape, (1, 0))
    yield _placed((of[:, 4:] - 2 * of[:, 2:-2] + of[:, :-4]) ** 2, of.shape, (0, 2))


def _coefficients_of(
    luma: Float[np.ndarray, "h w"], shape: tuple[int, int], steps: Float[np.ndarray, "8 8"]
) -> list[Float[np.ndarray, "gh gw"]]:
    """Return by band of frequencies how large coefficients are, how many are nothing, how far from whole steps."""
    out = []
    widths = steps.ravel().astype(np.float32)[:, None, None]
    for start in ((0, 0), (4, 4)):
        sizes = np.abs(quantisation.coefficients(luma, start, _ALL))
        if start == (0, 0):
            out += [np.log(sizes[band].mean(0) + 0.1) for band in _BANDS]
        sizes /= widths
        out += [(sizes[band] < 0.5).mean(0) for band in _BANDS[1:]]
        out += [np.abs(sizes[band] - np.rint(sizes[band])).mean(0) for band in _BANDS[:2]]
    return [_fitted(some, shape) for some in out]


def _edges(luma: Float[np.ndarray, "h w"]) -> Iterator[Float[np.ndarray, "gh gw"]]:
    """Yield by cell how much steeper its right, and its lower edge is than its middle."""
    edge, middle = np.s_[CELL_PX - 1 :: CELL_PX], np.s_[CELL_PX // 2 - 1 :: CELL_PX]
    across, down = (np.abs(np.diff(luma, axis=axis)) for axis in (1, 0))
    for steep, turned in ((across, False), (down.T, True)):
        contrast = np.zeros_like(steep)
        contrast[:, edge] = steep[:, edge]
        contrast[:, middle] -= steep[:, middle]
        yield cell_sums(_placed(contrast.T if turned else contrast, luma.shape, (0, 0))) / CELL_PX


def _ratios(detail: list[np.ndarray]) -> list[Float[np.ndarray, "gh gw"]]:
    """Return how detail at one distance, along one side, or in one channel goes with another's."""
    return [
        detail[2] - detail[9],
        detail[4] - detail[10],
        detail[0] - detail[1],
        detail[6] - (detail[0] + detail[1]) / 2,
        2 * detail[3] - detail[2],
        detail[11] - detail[0],
        detail[14] - detail[0],
    ]


def _fitted(cells: np.ndarray, shape: tuple[int, ...]) -> Float[np.ndarray, "gh gw"]:
    """Cut cells to a shape, or repeat the last ones where some are missing."""
    missing = [max(0, want - has) for want, has in zip(shape, cells.shape, strict=True)]
    cells = cells[: shape[0], : shape[1]].astype(np.float32)
    return np.pad(cells, [(0, missing[0]), (0, missing[1])], mode="edge")
