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
from jaxtyping import Float, Int

from gammascope.forensics.base import (
    CELL_PX,
    Finding,
    Outcome,
    Picture,
    Silence,
    box_means,
    clearest_blob,
)

SMALLEST_PX = 128
"""Shorter side below which histograms hold too few blocks (our choice)."""

_FREQUENCIES = (
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
_GAIN = 0.02  # nats by block that the double law must explain better
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
    aligned = _coefficients(stored.pixels, 0)
    shifted = _coefficients(stored.pixels, CELL_PX // 2)
    ratio = np.zeros(aligned.shape[1:], np.float32)
    spoke = 0
    for number, (row, column) in enumerate(_FREQUENCIES):
        step = int(stored.steps[row, column])
        values = np.clip(np.abs(aligned[number]) / step + 0.5, 0, _LARGEST).astype(np.int64)
        law = law_of(values, shifted[number], step)
        if law is not None:
            spoke += 1
            ratio += law.ratios[values]
    if not spoke:
        return Silence("no trace of an earlier JPEG compression on the same grid")
    evidence = box_means(ratio, 1)
    score, part = clearest_blob(evidence, _LEVEL, _SHARE)
    shown = np.clip(evidence / (4 * _CLIP) + 0.25, 0, 0.5) + 0.5 * part
    cells, origin = stored.upright(shown.astype(np.float32), CELL_PX)
    return Finding(score, cells, origin, CELL_PX, picture.size)


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
    seen = np.bincount(values.ravel(), minlength=_LARGEST + 1).astype(float)
    size = np.abs(once).ravel()
    single = _law(np.clip(size / step + 0.5, 0, _LARGEST).astype(np.int64), _LARGEST + 1)
    single_fit = seen @ np.log(single)
    fit, first, law = -np.inf, 0, single
    for candidate in range(2, _ROUGHEST + 1):
        if step % candidate == 0:
            continue  # Whatever passed it lies on the same steps as before.
        passed = _passed(candidate, step)
        last = passed.shape[1] - 1
        combed = np.clip(size / candidate + 0.5, 0, last).astype(np.int64)
        double = passed @ np.bincount(combed, minlength=last + 1)
        double = (double + 0.5) / (double + 0.5).sum()
        for share in _SHARES:
            mixed = float(seen @ np.log(share * single + (1 - share) * double))
            if mixed > fit:
                fit, first, law = mixed, candidate, double
    gain = (fit - single_fit) / seen.sum()
    if gain < _GAIN:
        return None
    ratios = np.clip(np.log(single / law), -_CLIP, _CLIP)
    return Law(first, float(gain), ratios.astype(np.float32))


def _law(values: np.ndarray, length: int) -> Float[np.ndarray, " n"]:
    counts = np.bincount(values, minlength=length) + 0.5
    return np.asarray(counts / counts.sum())


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


def _normal(values: np.ndarray) -> Float[np.ndarray, "n m"]:
    """Return the share of a normal law that lies below."""
    return np.array([[0.5 + 0.5 * erf(value / sqrt(2)) for value in row] for row in values])


@cache
def _bases() -> Float[np.ndarray, "f 64"]:
    """Return the cosines of the frequencies looked at, one row each."""
    at = (2 * np.arange(8) + 1) * np.pi / 16
    wave = (
        np.cos(np.arange(8)[:, None] * at[None])
        * np.where(np.arange(8) == 0, np.sqrt(1 / 8), 0.5)[:, None]
    )
    rows = [np.outer(wave[row], wave[column]).ravel() for row, column in _FREQUENCIES]
    return np.array(rows, np.float32)


def _coefficients(luma: np.ndarray, shift: int) -> Float[np.ndarray, "f gh gw"]:
    """Return the cosine transform of whole blocks, the first of which begins at ``shift``."""
    rows, columns = ((side - shift) // CELL_PX for side in luma.shape)
    cut = luma[shift : shift + rows * CELL_PX, shift : shift + columns * CELL_PX]
    blocks = cut.reshape(rows, CELL_PX, columns, CELL_PX).transpose(1, 3, 0, 2).astype(np.float32)
    return (_bases() @ blocks.reshape(64, -1)).reshape(-1, rows, columns)
