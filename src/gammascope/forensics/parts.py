"""How likely a part that stands out was put in: by how it stands out, and by what it and its surroundings show.

The same evidence means less where the rest has nearly as much of it, where it fades over several cells, and where it
follows light, texture or colour of the scene. Boosted trees weigh such measurements of each part; they have learnt from
parts that stand out in edits and in untouched photos, many of them chosen as hard, some processed as a whole.

Source: our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float, Int, Real, UInt8

from gammascope.forensics.base import (
    CELL_PX,
    box_means,
    cell_sums,
    clearest_blob,
)
from gammascope.forensics.variance import texture_of

WEIGHTS = Path(__file__).with_name("parts.safetensors")
"""The trees, which ``benchmarks/fit_parts.py`` makes."""

_STRIP = 32  # rows of cells whose pixels are in memory at once
_TRIED = 4  # parts at each level
_BORDER = 3  # cells
_FEWEST = 20  # cells that the rest must have
_DARK, _BRIGHT = 6.0, 249.0  # mean brightness beyond which traces are cut off


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows, by cell of a grid.

    Attributes:
        brightness: Mean, 0..255.
        texture: Logarithm of how much brightness changes from cell to cell.
        colour: How far red and blue are from brightness, in steps of 32 grey levels.
    """

    brightness: Float[np.ndarray, "gh gw"]
    texture: Float[np.ndarray, "gh gw"]
    colour: Float[np.ndarray, "gh gw"]

    @classmethod
    def of(cls, luma: Real[np.ndarray, "h w"], image: UInt8[np.ndarray, "_h _w 3"]) -> Scene:
        """Measure the pixels of whole cells.

        Args:
            luma: Brightness 0..255; the first cell begins at the first pixel.
            image: The same in colour; may reach further.
        """
        shape = luma.shape[0] // CELL_PX, luma.shape[1] // CELL_PX
        brightness, colour = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        width = shape[1] * CELL_PX
        # In strips: all differences of a large picture would fill much memory.
        for row in range(0, shape[0], _STRIP):
            cells = np.s_[row : row + _STRIP]
            pixels = np.s_[row * CELL_PX : min(shape[0], row + _STRIP) * CELL_PX, :width]
            grey = luma[pixels].astype(np.float32)
            brightness[cells] = cell_sums(grey) / CELL_PX**2
            for channel in (0, 2):
                away = np.abs(image[..., channel][pixels] - grey)
                colour[cells] += cell_sums(away) / CELL_PX**2 / 32
        return cls(brightness, texture_of(brightness), colour)

    @property
    def usable(self) -> Bool[np.ndarray, "gh gw"]:
        """Cells that are neither black nor white."""
        return (self.brightness > _DARK) & (self.brightness < _BRIGHT)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A part and the cells around it.

    Attributes:
        inside: The part.
        core: What of it is not at its edge; all of it if nothing is.
        next_to: Cells that touch it.
        near: Those up to three cells away that do not.
        rest: All cells but the part and those up to two cells away.
    """

    inside: Bool[np.ndarray, "gh gw"]
    core: Bool[np.ndarray, "gh gw"]
    next_to: Bool[np.ndarray, "gh gw"]
    near: Bool[np.ndarray, "gh gw"]
    rest: Bool[np.ndarray, "gh gw"]

    @classmethod
    def of(cls, inside: Bool[np.ndarray, "gh gw"]) -> Surroundings | None:
        """Divide a grid; None if the part leaves too little of it."""
        first, far = _around(inside, 1), _around(inside, _BORDER)
        near, rest = far & ~first, ~_around(inside, 2)
        if rest.sum() < _FEWEST or not near.any():
            return None
        core = inside & ~_around(~inside, 1)
        return cls(inside, core if core.any() else inside, first & ~inside, near, rest)

    def of_evidence(self, evidence: Float[np.ndarray, "gh gw"], level: float) -> list[float]:
        """Return how evidence lies in the part, around it, and in the rest."""
        inside, rest = evidence[self.inside], evidence[self.rest]
        places = (evidence[self.core], evidence[self.next_to], evidence[self.near])
        return [
            float(inside.mean()),
            *np.quantile(inside, (0.1, 0.9)).tolist(),
            *(float(some.mean()) for some in places),
            float(rest.mean()),
            float(rest.std()),
            float((rest > 0).mean()),
            float((rest > level).mean()),
            float(np.quantile(rest, 0.98)),
        ]

    def of_scene(self, scene: Scene) -> list[float]:
        """Return what the part shows, and how its surroundings and the rest differ from it."""
        out = [float(scene.usable[self.inside].mean())]
        for shown in (scene.brightness, scene.texture, scene.colour):
            here = shown[self.inside]
            mean = float(here.mean())
            differing = (float(shown[place].mean()) - mean for place in (self.near, self.rest))
            out += [mean, *differing, float(here.std())]
        return out


@dataclass(frozen=True, slots=True)
class Part:
    """A part that stands out.

    Attributes:
        around: It and its surroundings.
        inputs: What the trees of its method are given.
    """

    around: Surroundings
    inputs: Float[np.ndarray, " n"]


def standing_out(
    evidence: Float[np.ndarray, "gh gw"],
    scene: Scene,
    levels: Sequence[float],
    share: tuple[float, float],
    about: Callable[[Surroundings], Sequence[float]],
) -> Iterator[Part]:
    """Yield the connected parts that stand out, the clearest of each level first.

    Args:
        evidence: By cell; NaN: none.
        scene: On the same grid.
        levels: What a cell needs to be counted.
        share: Smallest and largest share of the cells that a part may cover.
        about: Gives what the method itself has measured of a part.
    """
    for level in levels:
        left, found = evidence.copy(), []
        for _ in range(_TRIED):
            score, inside = clearest_blob(left, level, share)
            if not score:
                break
            left[inside] = np.nan
            found.append((score, inside))
        for number, (score, inside) in enumerate(found):
            others = [other for at, (other, _) in enumerate(found) if at != number]
            around = Surroundings.of(inside)
            if around is not None:
                seen = [
                    score,
                    max(others, default=0.0),
                    *_form(inside),
                    *around.of_evidence(np.nan_to_num(evidence), level),
                    *around.of_scene(scene),
                    *about(around),
                ]
                yield Part(around, np.array(seen, np.float32))


def _form(inside: Bool[np.ndarray, "gh gw"]) -> list[float]:
    """Return a part's share of the grid, its outline, how it fills its box, and how long it touches the frame."""
    count = inside.sum()
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    outline = (inside[:, 1:] != inside[:, :-1]).sum() + (inside[1:] != inside[:-1]).sum()
    frame = sum(side.sum() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    side = float(np.sqrt(count))
    return [float(inside.mean()), outline / side, count / max(1, box), frame / side]


def _around(part: Bool[np.ndarray, "gh gw"], reach: int) -> Bool[np.ndarray, "gh gw"]:
    """Return a part and the cells around it."""
    return np.asarray(box_means(part, reach) > 0)


@dataclass(frozen=True, slots=True)
class PutIn:
    """What of a picture was most likely put in.

    Attributes:
        score: Minus the logarithm of the chance that the likeliest part was not, were half of the parts that stand out;
            0: no part stands out.
        inside: It, and all others that more likely were than not.
    """

    score: float
    inside: Bool[np.ndarray, "gh gw"]

    @classmethod
    def of(cls, method: str, parts: Iterable[Part], shape: tuple[int, ...]) -> PutIn:
        """Weigh the parts that stand out by a method's trees, in a grid of so many rows and columns."""
        trees = _trees_of(method)
        weighed = [(trees.odds(part.inputs), part.around.inside) for part in parts]
        best = max((odds for odds, _ in weighed), default=-np.inf)
        inside = np.zeros(shape, bool)
        for odds, part in weighed:
            if odds >= min(0, best):
                inside |= part
        return cls(float(np.logaddexp(0, best)), inside)


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted decision trees, a row each.

    Attributes:
        feature: By node, which input is compared.
        threshold: With what: below or at it the left branch is taken.
        left: Node of that branch; a leaf's is the leaf.
        right: Of the other one.
        value: Log odds that a leaf adds.
        baseline: Log odds before the first tree.
    """

    feature: Int[np.ndarray, "trees nodes"]
    threshold: Float[np.ndarray, "trees nodes"]
    left: Int[np.ndarray, "trees nodes"]
    right: Int[np.ndarray, "trees nodes"]
    value: Float[np.ndarray, "trees nodes"]
    baseline: Float[np.ndarray, " 1"]

    def odds(self, inputs: Float[np.ndarray, " n"]) -> float:
        """Return the log odds that a part was put in, were half of the parts that stand out."""
        trees, node = np.arange(len(self.feature)), np.zeros(len(self.feature), np.intp)
        while True:
            at = trees, node
            fewer = inputs[self.feature[at]] <= self.threshold[at]
            following = np.where(fewer, self.left[at], self.right[at])
            if (following == node).all():
                return float(self.baseline[0] + self.value[at].sum())
            node = following


@cache
def _trees_of(method: str) -> Trees:
    """Return the trees of a method."""
    stored = safetensors.numpy.load_file(WEIGHTS)
    return Trees(**{field.name: stored[f"{method}.{field.name}"] for field in fields(Trees)})
