"""A part that was compressed once in a picture that was compressed twice on the same grid.

A photo saved as JPEG, edited and saved again was quantised twice; what was put in from elsewhere (another grid, a
generator, a resampled copy) only once. The histograms of the coefficients tell the two apart, block by block. A whole
picture that was saved twice says nothing: only a part that lacks the law of the rest does.

Source: Lin, He, Tang and Tang, Fast, automatic and fine-grained tampered JPEG image detection, 2009; Bianchi and Piva,
Image forgery localization via block-grained analysis of JPEG artifacts, 2012. One law is taken from the picture
itself, moved by half a block, the other computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import erf, sqrt

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    box_means,
    cell_sums,
    clearest_blob,
)
from gammascope.sample import Image

SMALLEST_PX = 128
"""Shorter side below which histograms hold too few blocks (our choice)."""

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
_LARGEST = 24  # quantised values beyond are taken together
_SHARES = (0.02, 0.1, 0.25, 0.5)  # of blocks that were quantised once
_ROUGHEST = 40  # first step that is looked for
_ROUNDING = 0.45  # standard deviation that rounding to pixels leaves in a coefficient
_CUT_OFF = 0.02  # share of a block whose colours may be at the end of their range
_GAIN = 0.02  # nats by block that the double law must explain better
_PRIOR = 3.0  # blocks added to every value: rare ones say little
_CLIP = 4.0
_LEVEL = 0.5
_SHARE = (0.004, 0.4)


@dataclass(frozen=True, slots=True)
class Law:
    """How the coefficients of one frequency came about.

    Attributes:
        step: Of the first quantisation.
        gain: How much better two quantisations explain the blocks than one, nats by block.
        ratios: Log likelihood of "once" over "twice", by quantised value 0 to 24, without its sign.
    """

    step: int
    gain: float
    ratios: Float[np.ndarray, " n"]


def examine(picture: Picture) -> Outcome:
    """Mark the connected part that lacks the first quantisation of the rest."""
    stored = picture.stored
    if stored is None:
        return Silence("not a JPEG file with a channel of brightness")
    if min(picture.size) < SMALLEST_PX:
        return Silence(f"smaller than {SMALLEST_PX} px on the shorter side")
    aligned = coefficients(stored.pixels)
    shifted = coefficients(stored.pixels, (CELL_PX // 2, CELL_PX // 2))
    ratio = np.zeros(aligned.shape[1:], np.float32)
    spoke = 0
    for number, (row, column) in enumerate(FREQUENCIES):
        step = int(stored.steps[row, column])
        values = np.clip(np.abs(aligned[number]) / step + 0.5, 0, _LARGEST).astype(np.int64)
        law = law_of(values, shifted[number], step)
        if law is not None:
            spoke += 1
            ratio += law.ratios[values]
    if not spoke:
        return Silence("no trace of an earlier JPEG compression on the same grid")
    ratio, origin = stored.upright(ratio, CELL_PX)
    cut_off = _cut_off(picture.image, origin, ratio.shape)
    evidence = box_means(np.where(cut_off, 0, ratio), 1)
    score, part = clearest_blob(np.where(cut_off, np.nan, evidence), _LEVEL, _SHARE)
    # Cells that cannot speak for themselves go with those around them.
    part |= cut_off & (box_means(part, 2) > 0.5 * box_means(~cut_off, 2))
    shown = np.clip(evidence / (4 * _CLIP) + 0.25, 0, 0.5) + 0.5 * part
    shown[cut_off & ~part] = np.nan
    return Finding(score, shown.astype(np.float32), origin, CELL_PX, picture.size)


def _cut_off(
    image: Image, origin: tuple[int, int], shape: tuple[int, ...]
) -> Bool[np.ndarray, "gh gw"]:
    """Tell which cells hold colours at the end of their range: cutting off what is beyond undoes a quantisation."""
    left, top = origin
    inside = image[top : top + shape[0] * CELL_PX, left : left + shape[1] * CELL_PX]
    ends = np.asarray(inside - np.uint8(1) >= 254)  # 0 becomes 255.
    return np.asarray(cell_sums(np.asarray(ends.any(2)).view(np.uint8)) > _CUT_OFF * CELL_PX**2)


def law_of(
    values: Int[np.ndarray, "gh gw"], once: Float[np.ndarray, "_gh _gw"], step: int
) -> Law | None:
    """Find the first quantisation that explains the values of one frequency best.

    Args:
        values: Quantised, without their signs, cut off at 24.
        once: Coefficients of the same picture off its grid, where no quantisation left a comb.
        step: Of the last quantisation.

    Returns:
        None if one quantisation explains them as well.
    """
    seen = np.bincount(values.ravel(), minlength=_LARGEST + 1)
    length = 2 * (_LARGEST + 2) * max(step, _ROUGHEST)
    # Halves, so that the edges of every step fall between two of them.
    halves = np.minimum(2 * np.abs(once).ravel(), length - 1).astype(np.int64)
    fine = np.bincount(halves, minlength=length)
    single = _law(_combed(fine, step, _LARGEST + 1))
    # Whatever passed a divisor of the last step lies on the same steps as before.
    steps = [first for first in range(2, _ROUGHEST + 1) if step % first]
    if not steps:
        return None
    doubles = np.stack([_twice(fine, first, step) for first in steps])
    shares = np.array(_SHARES)[:, None, None]
    fits = np.log(shares * single + (1 - shares) * doubles) @ seen
    best = int(fits.max(0).argmax())
    gain = (fits[:, best].max() - seen @ np.log(single)) / seen.sum()
    if gain < _GAIN:
        return None
    ratios = np.clip(np.log(single / doubles[best]), -_CLIP, _CLIP)
    return Law(steps[best], float(gain), ratios.astype(np.float32))


def _law(counts: np.ndarray) -> Float[np.ndarray, " n"]:
    return np.asarray((counts + _PRIOR) / (counts + _PRIOR).sum())


def _combed(fine: Int[np.ndarray, " f"], step: int, length: int) -> Int[np.ndarray, " n"]:
    """Count by multiple of a step what was counted by halves; what is larger goes to the last."""
    edges = np.append(0, (2 * np.arange(1, length) - 1) * step)
    return np.asarray(np.add.reduceat(fine, edges))


def _twice(fine: Int[np.ndarray, " f"], first: int, step: int) -> Float[np.ndarray, " n"]:
    """Return the law of values that were rounded to a first step before the last one."""
    passed = _passed(first, step)
    return _law(passed @ _combed(fine, first, passed.shape[1]))


@lru_cache(maxsize=4096)
def _passed(first: int, step: int) -> Float[np.ndarray, "n m"]:
    """Return how the multiples of the first step, blurred by rounding to pixels, fall to values of the last one."""
    multiples = np.arange((_LARGEST + 1) * step // first + 2) * first
    edges = (np.arange(_LARGEST + 2) - 0.5) * step
    edges[-1] = np.inf
    below = _normal((edges[:, None] - multiples) / _ROUNDING)
    below -= _normal((-edges[:, None] - multiples) / _ROUNDING)  # Signs are left out.
    below[0] = 0
    return np.asarray(below[1:] - below[:-1])


_NORMAL_AT = np.linspace(-6, 6, 1201)
_NORMAL = np.array([0.5 + 0.5 * erf(value / sqrt(2)) for value in _NORMAL_AT])


def _normal(values: np.ndarray) -> Float[np.ndarray, "n m"]:
    """Return the share of a normal law that lies below."""
    return np.asarray(np.interp(values, _NORMAL_AT, _NORMAL))


@cache
def waves() -> Float[np.ndarray, "8 8"]:
    """Return the cosines of a block's eight frequencies along one side, of length 1, one row each."""
    at = (2 * np.arange(8) + 1) * np.pi / 16
    scale = np.where(np.arange(8) == 0, np.sqrt(1 / 8), 0.5)
    return np.asarray(np.cos(np.arange(8)[:, None] * at[None]) * scale[:, None])


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
    blocks = cut.reshape(rows, CELL_PX, columns, CELL_PX).transpose(1, 3, 0, 2).astype(np.float32)
    return (_bases(frequencies) @ blocks.reshape(64, -1)).reshape(-1, rows, columns)
