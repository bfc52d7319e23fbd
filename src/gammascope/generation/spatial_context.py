"""Stochastic context models: grey pictures drawn after rules that can be checked in each picture alone.

A generator that was trained on such pictures can be asked whether it learnt the rules; a picture in which a rule is
broken on purpose, with the mask of where, is a test for localisation.

*Flags*: one of eight patterns of light tiles on a dark ground; all pixels independent, after two laws of grey levels.
*Voronoi*: 16, 32, 48 or 64 cells; the larger a cell, the lighter. *Alphabet*: 64 letters, each so many times; a Y
follows each X, and a V, W or K stands below each Z.

Source: arXiv:2111.12577. Its authors published tests and no samplers: patterns, grey laws, counts and pairs are
theirs, read from the tests; how cells are seeded and shaded, how letters look, and rounding to the nearest grey level
are our reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from gammascope.errors import RecipeError, did_you_mean
from gammascope.sample import Image, Mask

TILES: Final = 16
"""Tiles of a flag, along each side."""

LETTERS: Final = "HLXYZKVW"
COUNTS: Final[Mapping[str, int]] = {
    "H": 24,
    "L": 16,
    "X": 8,
    "Y": 8,
    "Z": 4,
    "K": 2,
    "V": 1,
    "W": 1,
}
"""How often each letter stands in a picture."""

PLACES: Final = 8
"""Letters of a picture, along each side."""

CELLS: Final = (16, 32, 48, 64)
"""Numbers of Voronoi cells, by kind."""

SIDES: Final = (64, 2048)
"""Smallest and largest side of a picture; the cells of larger ones would take gigabytes to divide."""

FORE: Final = (96.0, 152.0)
BACK: Final = (8.0, 192.0)
"""Lowest grey level and range of light and dark pixels: ``low + range * Beta(4, 2)``, ``low + range * Beta(2, 4)``."""

_FRAMES = {
    0: ("1,14:1-14", "2-13:1,14", "4,11:4-11", "5-10:4,11"),
    1: ("0-3,12-15:0-3,12-15", "6-9:6-9"),
    2: ("1,6,9,14:1-6,9-14", "2-5,10-13:1,6,9,14"),
    3: ("3,12:4-11", "4-5,10-11:3-12", "6-9:3-5,10-12"),
    4: ("0-15:4-5,10-11", "7-8:2-13"),
    5: ("0-1,4-5,10-11,14-15:7-8", "2-3,12-13:2-3,7-8,12-13", "6,9:6-9", "7-8:0-15"),
    6: ("1-3,12-14:4-11", "6-9:2-3,6-9,12-13"),
    7: ("1-3,12-14:1-4,11-14", "6-9:1-2,5-6,9-10,13-14"),
}
"""Light tiles of each kind of flag, "rows:columns"."""

_GLYPHS = {
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "X": "10001 01010 01010 00100 01010 01010 10001",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "V": "10001 10001 10001 01010 01010 00100 00100",
    "W": "10001 10001 10001 10101 10101 11011 10001",
}
_DARKEST, _LIGHTEST = 64, 255


UNCOUNTED: Final = ("", "prevalence", "independence")
"""Rules, "" among them, whose breaking has no number of tiles, cells or letters."""


@dataclass(frozen=True, slots=True)
class Context:
    """One picture.

    Attributes:
        image: Square, three equal channels.
        kind: Which of the family's kinds.
        broken: True where a rule was broken on purpose.
    """

    image: Image
    kind: int
    broken: Mask


@dataclass(frozen=True, slots=True)
class Family:
    """A set of rules.

    Attributes:
        kinds: How many there are, all equally frequent.
        multiple: Sides are multiples of this, pixels.
        parts: Most tiles, cells or letters of a picture.
        breaks: How a rule can be broken, and what that means.
    """

    kinds: int
    multiple: int
    parts: int
    breaks: Mapping[str, str]


FAMILIES: Final[Mapping[str, Family]] = {
    "flags": Family(
        8,
        TILES,
        TILES * TILES,
        {
            "position": "light and dark tiles change places",
            "intensity": "light tiles have half the variance of grey levels",
            "texture": "neighbouring pixels of a tile resemble each other, with the same grey levels",
            "prevalence": "nothing in a picture; two of the eight kinds are all there is",
        },
    ),
    "voronoi": Family(
        len(CELLS),
        8,
        max(CELLS),
        {
            "order": "a large and a small cell exchange their grey levels",
            "flatness": "pixels of a cell differ",
        },
    ),
    "alphabet": Family(
        1,
        PLACES * PLACES,
        PLACES * PLACES,
        {
            "count": "an L stands for an H",
            "order": "the Y after an X and an H elsewhere change places",
            "blend": "a letter is half another one",
            "independence": "letters are drawn independently, each as likely as it is frequent",
        },
    ),
}


def family(name: str) -> Family:
    """Return a family.

    Raises:
        RecipeError: If there is none of this name.
    """
    if name not in FAMILIES:
        raise RecipeError(
            f"Unknown family {name!r}.{did_you_mean(name, FAMILIES)} Known: {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]


def draw(
    name: str, rng: np.random.Generator, *, side: int = 256, breaks: str = "", amount: int = 4
) -> Context:
    """Draw a picture.

    Args:
        name: Of the family.
        rng: The same state gives the same picture.
        side: Pixels.
        breaks: The rule to break; "": none.
        amount: How many tiles, cells or letters break it, at most all of those that can.

    Raises:
        RecipeError: If there is no such family or rule, or the side or amount is impossible.
    """
    known = family(name)
    if breaks and breaks not in known.breaks:
        near = did_you_mean(breaks, known.breaks)
        raise RecipeError(
            f"{name} has no rule {breaks!r} to break.{near} Known: {', '.join(known.breaks)}."
        )
    if not SIDES[0] <= side <= SIDES[1] or side % known.multiple:
        raise RecipeError(
            f"side={side}: {name} needs a multiple of {known.multiple} from {SIDES[0]} to {SIDES[1]}."
        )
    if amount < 1:
        raise RecipeError(f"amount={amount}: expected 1 or more.")
    grey, kind, broken = _DRAWN[name](rng, side, breaks, amount)
    return Context(np.repeat(grey[..., None], 3, axis=2), kind, broken)


def flag_tiles() -> Bool[np.ndarray, "k t t"]:
    """Return which tiles of each kind of flag are light."""
    tiles = np.zeros((len(_FRAMES), TILES, TILES), bool)
    for kind, rows in _FRAMES.items():
        for row in rows:
            above, beside = (_numbers(part) for part in row.split(":"))
            tiles[np.ix_([kind], above, beside)] = True
    return tiles


def glyphs(side: int) -> UInt8[np.ndarray, "n p p"]:
    """Return the letters of a picture of this side, white on black, in the order of LETTERS."""
    place = side // PLACES
    drawn = np.zeros((len(LETTERS), PLACES, PLACES), np.uint8)
    for index, letter in enumerate(LETTERS):
        rows = [[255 * int(bit) for bit in row] for row in _GLYPHS[letter].split()]
        drawn[index, :7, 1:6] = rows
    scale = place // PLACES
    return drawn.repeat(scale, axis=1).repeat(scale, axis=2)


def enlarged(tiles: np.ndarray, side: int) -> np.ndarray:
    """Repeat each tile's value over its pixels."""
    factor = side // tiles.shape[0]
    return tiles.repeat(factor, axis=0).repeat(factor, axis=1)


def _numbers(text: str) -> list[int]:
    spans = (part.split("-") for part in text.split(","))
    return [number for span in spans for number in range(int(span[0]), int(span[-1]) + 1)]


_Drawn = tuple[UInt8[np.ndarray, "s s"], int, Mask]


def _flag(rng: np.random.Generator, side: int, breaks: str, amount: int) -> _Drawn:
    patterns = flag_tiles()
    kind = int(rng.integers(2 if breaks == "prevalence" else len(patterns)))
    light = patterns[kind]
    chosen = np.zeros_like(light)
    if breaks == "position":
        light, chosen = _exchanged(light, ~light & patterns.any(0), amount, rng)
    elif breaks == "intensity":
        chosen = _some(light, amount, rng)
    elif breaks == "texture":
        chosen = _some(np.ones_like(light), amount, rng)
    fore = FORE[0] + FORE[1] * rng.beta(4, 2, (side, side))
    back = BACK[0] + BACK[1] * rng.beta(2, 4, (side, side))
    grey = np.where(enlarged(light, side), fore, back)
    if breaks == "intensity":
        narrow = FORE[0] + FORE[1] * rng.beta(8, 4, (side, side))
        grey = np.where(enlarged(chosen, side), narrow, grey)
    if breaks == "texture":
        for row, column in np.argwhere(chosen) * (side // TILES):
            tile = np.s_[row : row + side // TILES, column : column + side // TILES]
            grey[tile] = _smooth(grey[tile], rng)
    return np.rint(grey).astype(np.uint8), kind, enlarged(chosen, side)


def _exchanged(
    light: np.ndarray, possible: np.ndarray, amount: int, rng: np.random.Generator
) -> tuple[Bool[np.ndarray, "t t"], Bool[np.ndarray, "t t"]]:
    pairs = max(1, min(amount // 2, int(possible.sum()), int(light.sum())))
    chosen = _some(light, pairs, rng) | _some(possible, pairs, rng)
    return light ^ chosen, chosen


def _some(where: np.ndarray, amount: int, rng: np.random.Generator) -> Bool[np.ndarray, "t t"]:
    found = np.flatnonzero(where)
    chosen = np.zeros(where.shape, bool)
    chosen.flat[rng.choice(found, min(amount, len(found)), replace=False)] = True
    return chosen


def _smooth(tile: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "p p"]:
    """Put a tile's own grey levels in the order of a smooth field: nothing but the order changes."""
    field = rng.standard_normal(tile.shape)
    for axis in (0, 1):
        field = field + np.roll(field, 1, axis)
    order = np.empty_like(tile)
    order.flat[np.argsort(field, axis=None)] = np.sort(tile, axis=None)
    return order


def _voronoi(rng: np.random.Generator, side: int, breaks: str, amount: int) -> _Drawn:
    kind = int(rng.integers(len(CELLS)))
    labels = _cells(rng, side, CELLS[kind])
    # Edges belong to the upper or left one of two cells.
    edge = np.zeros((side, side), bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    areas = np.bincount(labels[~edge], minlength=CELLS[kind])
    rank = np.empty(CELLS[kind], int)
    rank[np.argsort(areas, kind="stable")] = np.arange(CELLS[kind])
    shades = np.rint(_DARKEST + (_LIGHTEST - _DARKEST) * rank / (CELLS[kind] - 1))
    chosen = np.zeros(CELLS[kind], bool)
    if breaks == "order":
        pairs = max(1, min(amount // 2, CELLS[kind] // 4))
        by_rank = np.argsort(rank)
        low = rng.choice(CELLS[kind] // 4, pairs, replace=False)
        small, large = by_rank[low], by_rank[-1 - low]
        shades[small], shades[large] = shades[large].copy(), shades[small].copy()
        chosen[small] = chosen[large] = True
    elif breaks == "flatness":
        chosen[rng.choice(CELLS[kind], min(amount, CELLS[kind]), replace=False)] = True
    grey = np.where(edge, 0, shades[labels])
    broken = chosen[labels] & ~edge
    if breaks == "flatness":
        spread = rng.integers(-24, 25, grey.shape)
        grey = np.where(broken, np.clip(grey + spread, _DARKEST, _LIGHTEST), grey)
    return grey.astype(np.uint8), kind, broken


def _cells(rng: np.random.Generator, side: int, count: int) -> Int[np.ndarray, "s s"]:
    """Divide a square; seeds are moved twice to their cells' centres, so that no cell is tiny."""
    points = np.indices((side, side)).reshape(2, -1).T.astype(np.float64)
    seeds = rng.uniform(0, side, (count, 2))
    for _ in range(3):
        # |p - s|^2 without the part that does not depend on the seed.
        nearest = ((seeds**2).sum(1) - 2 * points @ seeds.T).argmin(1)
        sizes = np.bincount(nearest, minlength=count)
        sums = np.stack([np.bincount(nearest, at, count) for at in points.T], 1)
        # A seed without a pixel keeps its place.
        seeds = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], seeds)
    cells: Int[np.ndarray, "s s"] = nearest.reshape(side, side)
    return cells


def _alphabet(rng: np.random.Generator, side: int, breaks: str, amount: int) -> _Drawn:
    letters = _arranged(rng)
    chosen = np.zeros_like(letters, bool)
    if breaks == "count":
        chosen = _some(letters == LETTERS.index("H"), amount, rng)
        letters[chosen] = LETTERS.index("L")
    elif breaks == "order":
        letters, chosen = _disordered(letters, amount, rng)
    elif breaks == "independence":
        likely = np.array([COUNTS[letter] for letter in LETTERS]) / PLACES**2
        letters = rng.choice(len(LETTERS), letters.shape, p=likely)
        chosen[:] = True
    looks = glyphs(side).astype(np.float64)
    tiles = looks[letters]
    if breaks == "blend":
        chosen = _some(np.ones_like(chosen), amount, rng)
        others = (letters[chosen] + rng.integers(1, len(LETTERS), int(chosen.sum()))) % len(LETTERS)
        tiles[chosen] = (tiles[chosen] + looks[others]) / 2
    grey = tiles.transpose(0, 2, 1, 3).reshape(side, side)
    return np.rint(grey).astype(np.uint8), 0, enlarged(chosen, side)


def _disordered(
    letters: np.ndarray, amount: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "p p"], Bool[np.ndarray, "p p"]]:
    """Exchange a Y and an H that no X stands before; counts stay."""
    y, h = LETTERS.index("Y"), LETTERS.index("H")
    pairs = max(1, min(amount // 2, COUNTS["Y"]))
    chosen = _some(letters == y, pairs, rng) | _some(letters == h, pairs, rng)
    changed = letters.copy()
    changed[chosen] = np.where(letters[chosen] == y, h, y)
    return changed, chosen


def _arranged(rng: np.random.Generator) -> Int[np.ndarray, "p p"]:
    """Place pairs one after another where there is room, and fill with H and L; start anew if stuck."""
    pairs = [("X", "Y", 0, 1)] * COUNTS["X"] + [("Z", under, 1, 0) for under in "VWKK"]
    while True:
        letters = np.full((PLACES, PLACES), -1)
        for index in rng.permutation(len(pairs)):
            first, second, down, right = pairs[index]
            free = letters < 0
            room = free[: PLACES - down, : PLACES - right] & free[down:, right:]
            if not room.any():
                break
            row, column = np.argwhere(room)[int(rng.integers(room.sum()))]
            letters[row, column] = LETTERS.index(first)
            letters[row + down, column + right] = LETTERS.index(second)
        else:
            rest = ["H"] * COUNTS["H"] + ["L"] * COUNTS["L"]
            letters[letters < 0] = rng.permutation([LETTERS.index(letter) for letter in rest])
            return letters


_DRAWN: Final[Mapping[str, Callable[[np.random.Generator, int, str, int], _Drawn]]] = {
    "flags": _flag,
    "voronoi": _voronoi,
    "alphabet": _alphabet,
}
