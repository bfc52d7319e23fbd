"""Copy-move: a part that is there twice, found in two ways and judged by how far both agree.

Laying the picture over itself finds copies that were neither turned nor scaled, down to their grain; corners find the
others. Either way says how one part is laid onto the other; then both are compared, and a network of one small hidden
layer weighs eleven measurements: how well fine detail agrees, how much less it does a few pixels further, what
difference is left, whether the part is there a third time, one step further, as windows and fence posts are. What
repeats within itself is a pattern, and no copy.

Source: as in ``self_correlation``, ``keypoints`` and ``copies``; the measurements and the network are ours.

A copy repeats grain and all, under the same light; a second window of the same house does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import PIL.Image
import safetensors.numpy
from jaxtyping import Bool, Float, Int, Real

from gammascope.forensics import keypoints, self_correlation
from gammascope.forensics.base import (
    Finding,
    Outcome,
    Picture,
    Silence,
    blobs,
    box_means,
    cell_variances,
    drawn,
    standardised,
)
from gammascope.forensics.copies import (
    NEAREST_PX,
    Copy,
    agreement,
    aligned,
    alike_enough,
    fetched,
    fine_detail,
    grown,
    repetition,
    sampled,
)
from gammascope.report import Repeats

SMALLEST_PX = 96
"""Shorter side below which a part and its copy do not fit beside each other."""

WEIGHTS = Path(__file__).with_name("cloning.safetensors")
"""The network, which ``benchmarks/fit_cloning.py`` makes."""

SEARCHED_PIXELS = 700_000
"""Pixels that the search works on; larger pictures are reduced for it."""

COMPARED_PIXELS = 3_000_000
"""Pixels at which parts are compared; larger pictures are reduced for it."""

_NOTHING = -6.0  # log odds where nothing is alike
_MARKED = 2.25  # log odds from which a copy is shown
_CELL_PX = 4
_SQUARE_PX = 16
_FLATTEST = 3.5  # standard deviation of a square, grey levels, below which anything matches
_TEXTURED = 0.02  # share of the squares that a picture needs

_FURTHER = ((0, 3), (3, 0), (3, 3), (3, -3), (0, 6), (6, 0))  # pixels down and right
_PATTERN = 0.85  # agreement of a part with itself from which it is a pattern
_TRIES = 3  # of a patterned place
_GLANCED = 100  # points
_NEAR = np.arange(-9, 10, 3)
_GLANCE = np.stack(np.meshgrid(_NEAR, _NEAR), -1).reshape(-1, 2)  # places around each
_ALIKE = 0.75  # correlation of squares that look alike
_FLAT = 2.0  # standard deviation of a square of nothing
_RING_PX = (3, 8)
_IN_A_ROW = 0.5  # share of a part at a third place from which it is architecture


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far two parts of a picture agree.

    Attributes:
        detail: Correlation of fine detail, -1..1.
        finest: Correlation of what changes from pixel to pixel, which resampling and saving destroy first.
        further: Of that of one part and what lies a few pixels from the other; edges agree with themselves there.
        weakest: Correlation of fine detail around each pixel that a quarter of them is below.
        around: The same on a ring around the part, in the mean.
        strength: Log ratio of how strong fine detail is in one and the other, without its sign.
        off: Difference of brightness that is left, standard deviation in grey levels.
        usual: Standard deviation of brightness within the part.
        level: Difference of mean brightness.
        pixels: Size of the part.
        again: Share of the part that looks alike at a third place, one step of the same map further.
    """

    detail: float
    finest: float
    further: float
    weakest: float
    around: float
    strength: float
    off: float
    usual: float
    level: float
    pixels: int
    again: float = 0.0

    def inputs(self) -> Float[np.ndarray, " n"]:
        """Return what the network is given."""
        return np.array(
            [
                np.log(1.0001 - min(self.detail, 1)),
                self.finest,
                self.detail - self.further,
                np.log(1.0001 - min(max(self.weakest, 0), 1)),
                self.around,
                np.log(self.strength + 0.02),
                np.log(self.off + 0.3),
                np.log(self.off / (self.usual + 3) + 0.02),
                np.log(self.level + 0.2),
                self.again,
                np.log(self.pixels),
            ]
        )


def examine(picture: Picture) -> Outcome:
    """Mark the part that is repeated most exactly, and what it repeats."""
    luma = examined(picture)
    if isinstance(luma, str):
        return Silence(luma)
    best, marked, copies = _NOTHING, np.zeros(luma.shape, bool), []
    for copy, likeness in found(luma):
        score = odds(likeness)
        best = max(best, score)
        if score > _MARKED:
            marked |= copy.marked(luma.shape)
            copies.append(copy)
    shown = PIL.Image.fromarray(marked).resize(_cells(picture.size), PIL.Image.Resampling.NEAREST)
    cells = np.asarray(shown, np.float32)
    repeats = _repeats(copies, blobs(marked)) if copies else ()
    return Finding(best, cells, (0, 0), _CELL_PX, picture.size, repeats=repeats)


def _repeats(copies: Sequence[Copy], parts: Int[np.ndarray, "h w"]) -> Repeats:
    """Say which marked parts show the same piece: those that copies join, directly or through others."""
    above = list(range(int(parts.max()) + 1))
    touching = []
    for copy in copies:
        places = copy.places(parts.shape)
        one, other = (_largest(parts[rows, columns]) for columns, rows in places)
        if one == other:
            touching.append(tuple(_share(place, parts.shape) for place in places))
        else:
            first, second = sorted((above[one], above[other]))
            above = [first if group == second else group for group in above]
    groups = (
        [part for part in range(1, len(above)) if above[part] == group]
        for group in sorted(set(above[1:]))
    )
    joined = (
        tuple(_share(np.stack(np.nonzero(parts == part)[::-1]), parts.shape) for part in group)
        for group in groups
        if len(group) > 1
    )
    return (*joined, *touching)


def _largest(numbers: Int[np.ndarray, " n"]) -> int:
    counts = np.bincount(numbers, minlength=2)
    return int(counts[1:].argmax()) + 1


def _share(places: Int[np.ndarray, "2 n"], size: tuple[int, ...]) -> tuple[float, float]:
    """Return the middle of columns and rows, as shares of the width and the height."""
    x, y = (places.mean(1) + 0.5) / size[::-1]
    return round(float(x), 3), round(float(y), 3)


def examined(picture: Picture) -> Float[np.ndarray, "h w"] | str:
    """Return the brightness that is searched, reduced if it is large, or why it cannot be."""
    if min(picture.size) < SMALLEST_PX:
        return f"smaller than {SMALLEST_PX} px on the shorter side"
    luma = picture.luma
    small = _reduced(luma, SEARCHED_PIXELS)
    if (cell_variances(small, _SQUARE_PX) > _FLATTEST**2).mean() < _TEXTURED:
        return "too little texture to tell one part from another"
    if drawn(luma):
        return "mostly without grain, like drawings and screenshots, which repeat exactly"
    return _reduced(luma, COMPARED_PIXELS)


def found(luma: Float[np.ndarray, "h w"]) -> Iterator[tuple[Copy, Likeness]]:
    """Yield parts that may be copies of each other, and how far they agree.

    Args:
        luma: Brightness 0..255, of at most ``COMPARED_PIXELS``.
    """
    small = _reduced(luma, SEARCHED_PIXELS)
    picture, full = PIL.Image.fromarray(small), PIL.Image.fromarray(luma)
    sight, tried = _Sight(small), np.zeros(small.shape, np.uint8)
    for points, matrix in chain(self_correlation.repeated(small), keypoints.repeated(small)):
        at = np.rint(points).astype(int)
        done = tried[at[:, 1], at[:, 0]] >= _TRIES
        if done.mean() > 0.5 or not sight.promises(points, matrix):
            continue
        copy = grown(small, picture, points, matrix)
        if copy is None:
            continue
        box, inside = copy.box, copy.inside
        if repetition(small, copy) > _PATTERN:
            tried[box] += inside
            continue
        likeness = _compared(small, picture, copy)
        if likeness is None:
            continue
        if small.shape != luma.shape:
            copy = _enlarged(luma, full, copy, (luma.size / small.size) ** 0.5)
            likeness = _compared(luma, full, copy) if copy.plausible else None
            if likeness is None:
                continue
        again = _again(luma, full, copy)
        if again < _IN_A_ROW:
            tried[box][inside] = _TRIES
            yield copy, replace(likeness, again=again)


class _Sight:
    """A picture, ready for a first glance at parts that may be repeated."""

    def __init__(self, luma: Float[np.ndarray, "h w"]) -> None:
        self._smooth, self._fine = box_means(luma, 2), fine_detail(luma)
        self._ends = np.array(luma.shape[::-1]) - 2

    def promises(self, points: Float[np.ndarray, "n 2"], matrix: Float[np.ndarray, "2 3"]) -> bool:
        """Whether the surroundings of points agree with where a map says they are again, and less a few pixels on."""
        few = points[:: -(-len(points) // _GLANCED)]
        ours = (few[:, None] + _GLANCE).reshape(-1, 2)
        theirs = ours @ matrix[:, :2].T + matrix[:, 2]
        inside = ((np.minimum(ours, theirs) > 1) & (np.maximum(ours, theirs) < self._ends)).all(1)
        if inside.sum() < len(_GLANCE) // 2:
            return True  # Too little to tell.
        ours, theirs = ours[inside].T, theirs[inside].T
        here, there = sampled(self._smooth, *ours), sampled(self._smooth, *theirs)
        off = here - there
        kept = alike_enough(off)
        one = sampled(self._fine, *ours)[kept]
        detail, *further = (
            _correlation(one, sampled(self._fine, theirs[0] + right, theirs[1] + down)[kept])
            for down, right in ((0, 0), *_FURTHER)
        )
        if detail < 0.5 or detail < max(further):
            return False
        return bool(off[kept].std() < 0.5 * here[kept].std() + 3)


def odds(likeness: Likeness) -> float:
    """Return the log odds that one part is a copy of the other, where half of all pairs are."""
    weights = _network()
    seen = standardised(likeness.inputs(), weights["middle"], weights["spread"])
    hidden = np.tanh(seen @ weights["first"] + weights["first_bias"])
    return float((hidden @ weights["last"] + weights["last_bias"])[0])


@cache
def _network() -> dict[str, np.ndarray]:
    return dict(safetensors.numpy.load_file(WEIGHTS))


def _compared(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy) -> Likeness | None:
    """Measure how far two parts agree, but for a third place; None if they hardly do, or too little can be seen."""
    there, within = fetched(picture, copy)
    here, used = luma[copy.box], copy.inside & within
    core = box_means(used.astype(np.float32), 2) > 0.99
    if core.sum() < 60:
        return None
    smooth, smoother = zip(
        *((box_means(p, 1), box_means(p, 2)) for p in (here, there)), strict=True
    )
    # The part reaches a little beyond what was copied.
    core[core] = alike_enough(smoother[0][core] - smoother[1][core])
    one, other = (first - second for first, second in zip(smooth, smoother, strict=True))
    further = [0.0]
    for down, right in _FURTHER:
        both = core & np.roll(core, (down, right), (0, 1))
        if both.sum() >= 40:
            further.append(_correlation(one[both], np.roll(other, (down, right), (0, 1))[both]))
    ours, theirs = (part[core] for part in smoother)
    detail, off, usual = _correlation(one[core], other[core]), (ours - theirs).std(), ours.std()
    if detail < 0.6 or detail - max(further) < 0.03 or off > 0.5 * usual + 2:
        return None
    alike, told = agreement(one, other, 6)
    around, near = agreement(one, other, _RING_PX[0])[0], used.astype(np.float32)
    ring = (box_means(near, _RING_PX[1]) > 0.02) & (box_means(near, _RING_PX[0]) < 0.01) & within
    strengths = [np.sqrt((part[core] ** 2).mean()) + 1e-3 for part in (one, other)]
    return Likeness(
        detail=detail,
        finest=_correlation(
            *(p[core] - q[core] for p, q in zip((here, there), smooth, strict=True))
        ),
        further=max(further),
        weakest=float(np.quantile(alike[used & told], 0.25)) if (used & told).sum() > 30 else 0.0,
        around=float(around[ring].mean()) if ring.sum() > 40 else 0.0,
        strength=float(abs(np.log(strengths[0] / strengths[1]))),
        off=float(off),
        usual=float(usual),
        level=float(abs(ours.mean() - theirs.mean())),
        pixels=int(used.sum()),
    )


def _correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """Return how two pieces of fine detail, of mean 0, go together; less where there is hardly any."""
    size = np.sqrt((one**2).mean() * (other**2).mean())
    return float((one * other).mean() / (size + 1e-3))


def _again(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy) -> float:
    """Return the share of a part that looks alike one more step of the same map further, or at half or a third of one.

    Windows, tiles, fences and keys stand at equal steps; whoever copies a part puts it somewhere.
    """
    once = np.vstack([copy.matrix, [0, 0, 1]])
    steps = [once @ once, np.linalg.inv(once)]
    if np.abs(once[:2, :2] - np.eye(2)).max() < 0.05:
        steps += [np.eye(3) + (once - np.eye(3)) / parts for parts in (2, 3)]
    return max(_look_alike(luma, picture, copy.moved(step[:2])) for step in steps)


def _look_alike(luma: np.ndarray, picture: PIL.Image.Image, copy: Copy) -> float:
    """Return the share of a part that looks like another place, up to small shifts."""
    middle = np.array(copy.middle)
    if np.hypot(*(copy.matrix @ [*middle, 1] - middle)) < NEAREST_PX / 2:
        return 0.0
    copy = aligned(luma, picture, copy, 3)
    there, within = fetched(picture, copy)
    seen = copy.inside & within
    if seen.sum() < max(60, 0.3 * copy.inside.sum()):
        return 0.0
    one, other = box_means(luma[copy.box], 1), box_means(there, 1)
    mean, level = box_means(one, 5), box_means(other, 5)
    ours = np.maximum(box_means(one * one, 5) - mean**2, 0)
    theirs = np.maximum(box_means(other * other, 5) - level**2, 0)
    both = box_means(one * other, 5) - mean * level
    flat = (ours < _FLAT**2) & (theirs < _FLAT**2)
    alike = (both > _ALIKE * np.sqrt(ours * theirs)) & ~flat
    known = box_means((~flat).astype(np.float32), 8)
    agree: Bool[np.ndarray, "h w"] = box_means(alike.astype(np.float32), 8) > 0.5 * np.maximum(
        known, 0.2
    )
    return float(agree[seen].mean())


def _enlarged(luma: np.ndarray, full: PIL.Image.Image, copy: Copy, factor: float) -> Copy:
    """Lay both parts onto each other at full resolution."""
    copy = copy.enlarged(factor, (luma.shape[0], luma.shape[1]))
    for blur in sorted({round(factor), 1}, reverse=True):
        copy = aligned(luma, full, copy, blur)
    return copy


def _cells(size: tuple[int, int]) -> tuple[int, int]:
    """Return how many cells of the map lie side by side and below each other in a picture (width, height)."""
    width, height = size
    return -(-width // _CELL_PX), -(-height // _CELL_PX)


def _reduced(luma: Real[np.ndarray, "h w"], pixels: int) -> Float[np.ndarray, "_h _w"]:
    factor = (luma.size / pixels) ** 0.5
    if factor <= 1:
        return luma.astype(np.float32, copy=False)
    size = round(luma.shape[1] / factor), round(luma.shape[0] / factor)
    whole = PIL.Image.fromarray(luma).convert("F")
    return np.asarray(whole.resize(size, PIL.Image.Resampling.BOX))
