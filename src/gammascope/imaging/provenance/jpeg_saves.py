"""How a JPEG file was saved: with whose quantisation tables, and whether it had been a JPEG file before.

An earlier save shows in the histograms of DCT coefficients.
A coefficient that is quantised twice can only come from a multiple of the first step. Seen through the second step,
some values then occur too often and others too seldom, in a pattern that both steps determine. The pattern has been
known since Lukáš and Fridrich (2003) and Popescu and Farid (2004); how it is tested here is our own:

For each of the lowest frequencies, the counts of the values 1, 2, ... are fitted twice by maximum likelihood: by a
smooth decay, and by a smooth decay times the pattern of an assumed first step. The gains in log-likelihood are added
over the frequencies of an assumed earlier quality (the standard tables), the greatest left out, and the best quality
counts, per coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from gammascope.imaging.codecs import jpeg_quality, jpeg_tables, standard_tables
from gammascope.imaging.decode import opened
from gammascope.report import Evidence, Strength


def table_findings(data: bytes) -> list[Evidence]:
    """State which tables a JPEG file uses; empty for other files."""
    tables = jpeg_tables(data)
    if not tables:
        return []
    quality = _standard_quality(tables[0])
    same = quality is not None and all(
        (table == standard_tables(chroma=True)[quality - 1]).all()
        or (table == standard_tables()[quality - 1]).all()
        for table in tables[1:]
    )
    if same:
        statement = f"The JPEG tables are the standard ones at quality {quality}, which libjpeg and most programs use."
    else:
        statement = f"The JPEG tables are the encoder's own (nearest to standard quality {jpeg_quality(data)})."
    return [
        Evidence(
            "provenance:jpeg_table",
            statement,
            strength=Strength.NEUTRAL,
            limits="Tells about the last program or camera that saved the file. Many cameras, phones and Photoshop "
            "have tables of their own, but some cameras use the standard ones, and anyone can choose any table.",
        )
    ]


def _standard_quality(table: Int[np.ndarray, " 64"]) -> int | None:
    """Return the highest quality whose standard table this is (a few of the lowest share one)."""
    (same,) = np.nonzero((standard_tables() == table).all(1))
    return int(same[-1]) + 1 if len(same) else None


GAIN_FROM = 0.002
"""Gain in nats per coefficient from which the finding is made: well above what pictures saved once reach."""

_QUALITIES = range(30, 99)  # Of the earlier save.
_FREQUENCIES = range(1, 15)  # In zigzag order, without the mean.
_VALUES = 16
_FEWEST_COUNTS, _FEWEST_VALUES, _FEWEST_FREQUENCIES = 60, 5, 5
_EXTRA_COUNTS = 500  # Keeps the gain of small pictures down.
_AGREEING = 0.5  # Share of the frequencies that must speak for the earlier quality.
_LEAST_GAIN = 15.0  # Nats that all frequencies but the best must reach together.
_MOST_BLOCKS = 8_000
_MOST_PIXELS = 64_000_000
_ROUNDING = (
    0.45  # Deviation that rounding to pixels adds to a coefficient, in its unquantised unit.
)
_SELDOM = 0.03  # No value is impossible: pixels were clipped, blocks were drawn over.
_STEPS, _STILL = 12, 1e-4

_DCT = np.array(
    [
        [
            math.sqrt((2 if wave else 1) / 8) * math.cos((2 * place + 1) * wave * math.pi / 16)
            for place in range(8)
        ]
        for wave in range(8)
    ],
    np.float32,
)

# Row and column of the 64 coefficients in the order of the file.
_ZIGZAG = sorted(
    ((row, column) for row in range(8) for column in range(8)),
    key=lambda place: (sum(place), place[0] if sum(place) % 2 else place[1]),
)


@dataclass(frozen=True, slots=True)
class EarlierSave:
    """The best explanation of a JPEG file by an earlier save.

    Attributes:
        quality: Of the earlier save, on the scale of the standard tables.
        gain: How much better it explains the histograms, nats per coefficient; 0 and up.
    """

    quality: int
    gain: float


def findings(data: bytes, luma: UInt8[np.ndarray, "h w"] | None = None) -> list[Evidence]:
    """State whether a JPEG file was saved as JPEG before; empty if nothing speaks for it, or for other files.

    Args:
        data: A file's content.
        luma: Its luminance as stored, where that is at hand; None: it is decoded.
    """
    earlier = earlier_save(data, luma)
    if earlier is None or earlier.gain < GAIN_FROM:
        return []
    return [
        Evidence(
            "provenance:double_jpeg",
            "The picture was probably saved as JPEG before, at a quality of about "
            f"{earlier.quality}, and neither resized nor cropped in between.",
            strength=Strength.WEAK,
            limits="Ordinary: most shared pictures are saved more than once. An earlier save goes unnoticed if the "
            "picture was resized or cropped since, if both saves had nearly the same quality, and often if the later "
            "one was coarser. What was done in between, if anything, it does not say.",
        )
    ]


def earlier_save(data: bytes, luma: UInt8[np.ndarray, "h w"] | None = None) -> EarlierSave | None:
    """Find the earlier save that explains a JPEG file best; None if its histograms allow no answer.

    Decodes the luminance as stored and transforms it back: coefficients come out exact but for pixels that were
    clipped, whose blocks are left out.

    Args:
        data: A file's content.
        luma: As of ``findings``.
    """
    tables = jpeg_tables(data)
    if not tables:
        return None
    luma = _luminance(data) if luma is None else luma
    if luma is None or luma.size > _MOST_PIXELS:
        return None
    blocks = _usable_blocks(luma)
    places = [_ZIGZAG[frequency] for frequency in _FREQUENCIES]
    waves = np.stack([np.outer(_DCT[row], _DCT[column]).ravel() for row, column in places], 1)
    coefficients = blocks.reshape(-1, 64).astype(np.float32) @ waves
    told: dict[int, Float[np.ndarray, " v"]] = {}
    for frequency in _FREQUENCIES:
        step = int(tables[0][frequency])
        values = np.rint(coefficients[:, frequency - _FREQUENCIES.start] / step)
        counts = np.bincount(np.abs(values).astype(np.intp), minlength=_VALUES + 1)
        counts = counts[1 : _VALUES + 1].astype(np.float64)
        if counts.sum() < _FEWEST_COUNTS or np.count_nonzero(counts) < _FEWEST_VALUES:
            continue
        told[frequency] = counts
    if len(told) < _FEWEST_FREQUENCIES:
        return None
    gains = _gains(told, tables[0])
    counted = float(sum(counts.sum() for counts in told.values()))
    best = int(gains.sum(0).argmax())
    # A frequency alone may be odd for other reasons: in drawings, lettering, regular weaves.
    others = float(gains[:, best].sum() - gains[:, best].max())
    agreeing = float((gains[:, best] > 0).mean()) >= _AGREEING and others >= _LEAST_GAIN
    return EarlierSave(_QUALITIES[best], others / (counted + _EXTRA_COUNTS) if agreeing else 0.0)


def _luminance(data: bytes) -> UInt8[np.ndarray, "h w"] | None:
    """Decode the first component alone, without any conversion; None if it is broken, too large, or no luminance."""
    try:
        with opened(data, "jpeg") as file:
            if file.mode not in ("L", "RGB") or file.width * file.height > _MOST_PIXELS:
                return None
            file.draft("L", None)
            if file.mode != "L":  # Stored as RGB.
                return None
            luma: UInt8[np.ndarray, "h w"] = np.asarray(file)
    except Exception:  # Decoders of hostile bytes raise almost any type.
        return None
    return luma


def _usable_blocks(luma: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "n 8 8"]:
    """Return blocks that are neither clipped nor flat, evenly spread over the picture if there are many."""
    height, width = luma.shape[0] // 8, luma.shape[1] // 8
    rows = max(1, min(height, _MOST_BLOCKS // max(1, width)))
    chosen = np.linspace(0, height - 1, rows).astype(np.intp) if height else np.zeros(0, np.intp)
    strips = luma[: 8 * height, : 8 * width].reshape(height, 8, width, 8)[chosen]
    blocks = strips.transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    # Rows first: whole rows are compared in the order of memory.
    low, high = (f(f(strips, axis=1), axis=2).ravel() for f in (np.min, np.max))
    usable: UInt8[np.ndarray, "n 8 8"] = blocks[(low > 0) & (high < 255) & (low < high)]
    return usable


def _gains(
    told: Mapping[int, Float[np.ndarray, " v"]], table: Int[np.ndarray, " 64"]
) -> Float[np.ndarray, "f q"]:
    """Return how much better each earlier quality explains the counts of each frequency than none, in nats."""
    asked = {frequency: _asked(frequency, int(table[frequency])) for frequency in told}
    patterns = np.concatenate([one.patterns for one in asked.values()])
    each = [len(one.patterns) for one in asked.values()]
    likelihoods, gains = _likelihoods(np.repeat(np.stack([*told.values()]), each, 0), patterns), []
    for one in asked.values():
        own, likelihoods = np.split(likelihoods, [len(one.patterns)])
        gain = own[1:] - own[0]
        gain[one.same] = 0.0  # The same step twice leaves no pattern.
        gains.append(gain[one.of_quality])
    return np.stack(gains)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What earlier saves would leave at a frequency whose last step is known.

    Attributes:
        patterns: Of none first, then of each earlier step.
        same: Which of those steps is the last one.
        of_quality: Which of them each earlier quality has.
    """

    patterns: Float[np.ndarray, "p v"]
    same: Bool[np.ndarray, " s"]
    of_quality: Int[np.ndarray, " q"]


@lru_cache(maxsize=512)
def _asked(frequency: int, second: int) -> _Asked:
    earlier = standard_tables()[_QUALITIES.start - 1 : _QUALITIES.stop - 1]
    firsts, of_quality = np.unique(earlier[:, frequency], return_inverse=True)
    patterns = [np.ones(_VALUES), *(_pattern(int(first), second) for first in firsts)]
    return _Asked(np.stack(patterns), firsts == second, of_quality)


@lru_cache(maxsize=8192)
def _pattern(first: int, second: int) -> Float[np.ndarray, " v"]:
    """Return how much more often the values 1, 2, ... of the second step occur than after one step alone."""
    highest = math.ceil((_VALUES + 2) * second / first) + 1
    centres = first * np.arange(-2, highest + 1)[:, None]
    borders = (np.arange(_VALUES + 1) + 0.5) * second
    below = np.vectorize(math.erf)((borders - centres) / (_ROUNDING * math.sqrt(2))) / 2
    weights: Float[np.ndarray, " v"] = np.diff(below, axis=1).sum(0) * first / second
    return weights.clip(_SELDOM)


def _likelihoods(
    counts: Float[np.ndarray, "p v"], patterns: Float[np.ndarray, "p v"]
) -> Float[np.ndarray, " p"]:
    """Fit pattern times smooth decay to Poisson counts, for all patterns at once; return the log-likelihoods.

    The decay's logarithm is a sum of 1, log k, k and the root of k: Laplacians, power laws and mixtures of them come
    close to it. Newton's method, with steps held short, until no fit moves any more.
    """
    k = np.arange(1.0, counts.shape[1] + 1)
    basis = np.linalg.qr(np.stack([np.ones_like(k), np.log(k), k, np.sqrt(k)], 1))[0]
    squares = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    offset = np.log(patterns)
    weights = (np.log(counts + 0.5) - offset) @ basis
    for _ in range(_STEPS):
        expected = np.exp((weights @ basis.T + offset).clip(-12, 16))
        slope = (counts - expected) @ basis
        curvature = (expected @ squares).reshape(-1, 4, 4) + 1e-3 * np.eye(4)
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        reach = np.abs(step @ basis.T).max(1, keepdims=True)
        weights += step * np.minimum(1, 2 / reach.clip(1e-9))
        if reach.max() < _STILL:
            break
    logarithm = (weights @ basis.T + offset).clip(-12, 16)
    likelihoods: Float[np.ndarray, " p"] = (logarithm * counts - np.exp(logarithm)).sum(1)
    return likelihoods
