"""JPEG grids: parts that lie on another 8 x 8 grid than the rest of the picture, or on none.

Once a picture was compressed, its blocks have more zero coefficients on the grid of that compression than on the 63
others. Every pixel votes for the grid of its emptiest block; a region is reported only if chance would bring about as
many equal votes less than once in a picture, whatever the picture.

Source: Nikoukhah, Anger, Colom, Morel and Grompone von Gioi, ZERO: a local JPEG grid origin detector based on the
number of DCT zeros and its applications in image forensics, IPOL 2021; the binomial tail is replaced by Chernoff's
bound of it, which only makes reports rarer, and regions grow by cells.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    blobs,
    box_means,
    cell_sums,
    unrounded_luma,
)
from gammascope.imaging.codecs import LARGEST_SIDE, Encoding, reencode
from gammascope.sample import Image

SMALLEST_PX = 64
"""Shorter side below which no region could hold enough votes."""

COARSEST_STEP = 4.0
"""Mean of the lowest steps of luminance above which a file's own grid covers what was there before (about 90)."""

_GRIDS = 64
_NO_VOTE = 255
_LIGHTLY = Encoding("jpeg", 99, "4:4:4")
_BORDER_PX = 7
_ZERO = 0.5
_CHANCE = 1 / 64
_STRIP = 256  # rows of pixels whose coefficients are in memory at once
_HELD = CELL_PX * CELL_PX // 4  # votes that make a cell part of a region


def examine(picture: Picture) -> Outcome:
    """Mark what lies on another grid than most of the picture, or lacks the grid that the rest has."""
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    stored = picture.stored
    if stored is not None and stored.steps.ravel()[[1, 2, 8, 9, 10, 16]].mean() > COARSEST_STEP:
        return Silence("saved again as JPEG, whose own grid covers earlier ones")
    votes = votes_of(picture.image)
    main = main_grid(votes)
    best, foreign = _regions(votes, [grid for grid in range(_GRIDS) if grid != main])
    if main is not None:
        clearest, missing = _missing(picture.image, votes, main)
        best, foreign = max(best, clearest), foreign | missing
    if main is None and not foreign.any():
        return Silence("no trace of a JPEG grid")
    if foreign.mean() > 0.5:
        return Silence("most of the picture lies on several JPEG grids")
    return Finding(best, foreign.astype(np.float32), (0, 0), CELL_PX, picture.size)


def votes_of(
    image: UInt8[np.ndarray, "h w 3"], *, saved_again: bool = False
) -> UInt8[np.ndarray, "h w"]:
    """Return for each pixel the grid of its emptiest block: 8 times the grid's top plus its left; 255 for no vote.

    Args:
        image: Of at least ``SMALLEST_PX``.
        saved_again: As it is when it is saved again very lightly, from its first pixel on.
    """
    height, width = image.shape[:2]
    votes = np.full((height, width), _NO_VOTE, np.uint8)
    # In strips, which stay in the processor's cache, with as much around them as blocks reach.
    for first in range(0, height, _STRIP):
        above, last = max(0, first - CELL_PX), min(height, first + _STRIP)
        strip = image[above : last + CELL_PX]
        # Blocks know nothing of each other, so strips are saved as the whole is.
        near = _votes_in(unrounded_luma(reencode(strip, _LIGHTLY) if saved_again else strip))
        votes[first:last] = near[first - above : last - above]
    votes[:_BORDER_PX], votes[-_BORDER_PX:] = _NO_VOTE, _NO_VOTE
    votes[:, :_BORDER_PX], votes[:, -_BORDER_PX:] = _NO_VOTE, _NO_VOTE
    return votes


def _votes_in(luma: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the votes of a strip that begins at a multiple of a block's side."""
    height, width = luma.shape
    most = np.zeros((height, width), np.uint8)
    votes = np.full((height, width), _NO_VOTE, np.uint8)
    for top in range(CELL_PX):
        rows = (height - top) // CELL_PX
        for left in range(CELL_PX):
            columns = (width - left) // CELL_PX
            inside = np.s_[top : top + rows * CELL_PX, left : left + columns * CELL_PX]
            zeros = _zeros(luma[inside])
            covered = np.repeat(np.repeat(zeros, CELL_PX, 0), CELL_PX, 1)
            before, chosen = most[inside], votes[inside]
            np.copyto(chosen, _NO_VOTE, where=covered == before)
            np.copyto(chosen, CELL_PX * top + left, where=covered > before)
            np.maximum(before, covered, out=before)
    return votes


def _counts(votes: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, " 256"]:
    """Return how many pixels vote for each grid; in strips, because numpy counts numbers of eight bytes."""
    counts = np.zeros(256, np.int64)
    for first in range(0, len(votes), _STRIP):
        counts += np.bincount(votes[first : first + _STRIP].ravel(), minlength=256)
    return counts


def main_grid(votes: UInt8[np.ndarray, "h w"]) -> int | None:
    """Return the grid that most pixels vote for, if chance does not explain it."""
    counts = _counts(votes)[:_GRIDS]
    grid = int(counts.argmax())
    return grid if _rarity(int(counts[grid]), votes.size, votes.size) > 0 else None


def _missing(
    image: Image, votes: UInt8[np.ndarray, "h w"], main: int
) -> tuple[float, Bool[np.ndarray, "gh gw"]]:
    """Find what takes on a new grid, half a block off the old one, when the picture is saved again very lightly."""
    if max(image.shape[:2]) > LARGEST_SIDE["jpeg"]:
        return _regions(np.full_like(votes, _NO_VOTE), [0])
    top, left = (main // CELL_PX + 4) % CELL_PX, (main % CELL_PX + 4) % CELL_PX
    again = votes.copy()
    again[top:, left:] = votes_of(image[top:, left:], saved_again=True)
    again[top:, left:][again[top:, left:] != 0] = _NO_VOTE
    # Who had no vote before shows nothing by having one now.
    again[(votes == main) | (votes == _NO_VOTE)] = _NO_VOTE
    again[:top], again[:, :left] = _NO_VOTE, _NO_VOTE
    return _regions(again, [0])


def _rarity(votes: int, pixels: int, picture: int) -> float:
    """Return minus the power of ten of how many such regions chance brings about in a picture; below 0 for any."""
    trials, hits = pixels / _GRIDS, votes / _GRIDS - 1
    share = min(hits / max(trials, 1), 1.0)
    tests = 2 * math.log10(_GRIDS * picture)
    if share <= _CHANCE:
        return -tests
    rest = (1 - share) * math.log((1 - share) / (1 - _CHANCE)) if share < 1 else 0.0
    return trials * (share * math.log(share / _CHANCE) + rest) / math.log(10) - tests


def _regions(votes: np.ndarray, grids: list[int]) -> tuple[float, Bool[np.ndarray, "gh gw"]]:
    """Find regions of equal votes that chance does not explain; return the rarest one's rarity, and all of them."""
    smallest = _GRIDS * 2 * math.log10(_GRIDS * votes.size) / math.log10(_GRIDS)
    counts = _counts(votes)
    best = 0.0
    found = np.zeros((votes.shape[0] // CELL_PX, votes.shape[1] // CELL_PX), bool)
    for grid in grids:
        if counts[grid] < smallest:
            continue
        held = cell_sums((votes == grid).view(np.uint8))
        parts = blobs(
            box_means(held >= _HELD, 1) > 0
        )  # Whoever is next to a neighbour belongs to it.
        for part in range(1, int(parts.max()) + 1):
            inside = parts == part
            if held[inside].sum() < smallest:
                break  # From the largest to the smallest.
            down, right = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            box = np.s_[down[0] : down[-1] + 1, right[0] : right[-1] + 1]
            rarity = _rarity(int(held[box].sum()), held[box].size * CELL_PX**2, votes.size)
            if rarity > 0:
                best = max(best, rarity)
                found |= inside
    return best, found


@cache
def _cosines() -> Float[np.ndarray, "64 64"]:
    angles = np.outer(np.arange(8), 2 * np.arange(8) + 1) * np.pi / 16
    wave = np.cos(angles) / 2
    wave[0] /= math.sqrt(2)
    return np.kron(wave, wave).astype(np.float32)


def _zeros(luma: np.ndarray) -> UInt8[np.ndarray, "gh gw"]:
    """Count the zero coefficients of whole blocks; 0 where a block does not change along its rows or its columns."""
    rows, columns = luma.shape[0] // CELL_PX, luma.shape[1] // CELL_PX
    blocks = luma.reshape(rows, CELL_PX, columns, CELL_PX).transpose(1, 3, 0, 2).reshape(64, -1)
    small = (np.abs(_cosines() @ blocks) < _ZERO).view(np.uint8).reshape(8, 8, -1)
    by_row = small.sum(1, dtype=np.uint8)
    count = by_row.sum(0, dtype=np.uint8) - small[0, 0]
    flat = (by_row[1:].sum(0, dtype=np.uint8) == 56) | (
        small[:, 1:].sum((0, 1), dtype=np.uint8) == 56
    )
    return np.where(flat, 0, count).astype(np.uint8).reshape(rows, columns)
