"""Which pictures look alike: a small fingerprint of each, and a search that never compares all with all.

Two pictures look alike if one could be the other after re-encoding, resizing, a slight crop or a small retouch.
Mirrored, turned or strongly cropped copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Float, Int, UInt8, UInt64

from gammascope.sample import Image

RADIUS = 7
"""Bits of the hash that may differ. Of photos re-encoded at quality 30 and up or resized by 0.3 to 1.5, 98 % stay
within it; of 3.8 million pairs of different pictures, two did."""

MAX_DIFFERENCE = 16.0
"""Root mean square of the thumbnails' difference, grey levels. Copies as above stay below 6, a crop of 2 % at 10 (half
of them); the pairs that only share a composition begin at 24."""

_SIDE = 32  # pixels of the square that the cosine transform sees
_LOW = 8  # its lowest frequencies along each axis
_THUMBNAIL = 16
_PARTS = 4  # of 16 bits each
_PART_BITS = 16
_PAIRS_AT_ONCE = 2_000_000

_Pairs = Int[np.ndarray, "p 2"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture looks, in 800 bytes.

    Attributes:
        hash: Signs of the 63 lowest frequencies of its lightness, a bit each.
        thumbnail: Its pixels at 16 x 16, 768 bytes.
    """

    hash: int
    thumbnail: bytes


def look_of(image: Image) -> Look:
    """Return the fingerprint of a picture, stretched to a square."""
    picture = PIL.Image.fromarray(image)
    square = picture.convert("L").resize((_SIDE, _SIDE), PIL.Image.Resampling.BOX)
    lightness = np.asarray(square, dtype=np.float64)
    waves = _COSINES @ lightness @ _COSINES.T
    signs = waves.ravel()[1:] > 0  # the first is the mean: brightness is no feature
    thumbnail = picture.resize((_THUMBNAIL, _THUMBNAIL), PIL.Image.Resampling.BOX)
    return Look(int.from_bytes(np.packbits(signs).tobytes(), "big"), thumbnail.tobytes())


def look_alikes(looks: Sequence[Look]) -> _Pairs:
    """Return the index pairs (i < j, sorted) of pictures that look alike."""
    if not looks:
        return np.empty((0, 2), dtype=np.int64)
    hashes = np.array([look.hash for look in looks], dtype=np.uint64)
    pixels = np.frombuffer(b"".join(look.thumbnail for look in looks), dtype=np.uint8)
    thumbnails = pixels.reshape(len(looks), -1)
    pairs = near_hashes(hashes)
    alike = [
        block[_difference(thumbnails, block) < MAX_DIFFERENCE]
        for block in np.array_split(pairs, len(pairs) // 10_000 + 1)
    ]
    return np.concatenate(alike)


def near_hashes(hashes: UInt64[np.ndarray, " n"]) -> _Pairs:
    """Return all index pairs (i < j, sorted) whose hashes differ in at most RADIUS bits.

    Nothing is missed: of four parts of 16 bits, at least one then differs in at most one bit, so that it is enough to
    look up each part as it is and with each bit turned. Time and memory grow with the number of hashes and of pairs
    that agree on a part, not with all pairs.

    Source: arXiv:1307.2982 (multi-index hashing), section 2.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for part in range(_PARTS):
        keys = (hashes >> np.uint64(part * _PART_BITS)).astype(np.uint16)
        for turned in (0, *(1 << bit for bit in range(_PART_BITS))):
            for pairs in _with_keys(keys, np.uint16(turned)):
                apart = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
                found.append(pairs[apart <= RADIUS])
    return np.unique(np.concatenate(found), axis=0)


def _with_keys(keys: Int[np.ndarray, " n"] | np.ndarray, turned: np.uint16) -> Iterator[_Pairs]:
    """Yield the pairs i < j with keys[i] ^ turned == keys[j], in blocks that fit into memory."""
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], np.arange(2**_PART_BITS + 1))
    wanted = (keys ^ turned).astype(np.int64)
    first, number = starts[wanted], starts[wanted + 1] - starts[wanted]
    block = np.cumsum(number) // _PAIRS_AT_ONCE
    for rows in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(block)) + 1):
        left = np.repeat(rows, number[rows])
        within = np.arange(len(left)) - np.repeat(
            np.cumsum(number[rows]) - number[rows], number[rows]
        )
        right = order[np.repeat(first[rows], number[rows]) + within]
        once = left < right
        yield np.stack([left[once], right[once]], axis=1)


def _difference(thumbnails: UInt8[np.ndarray, "n k"], pairs: _Pairs) -> Float[np.ndarray, " p"]:
    left, right = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))
    return np.asarray(np.sqrt(((left - right) ** 2).mean(axis=1)), dtype=np.float64)


def _cosines() -> Float[np.ndarray, "low side"]:
    """Return the lowest rows of the cosine transform (DCT-II); their scale does not matter for signs."""
    frequency, place = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    return np.cos(np.pi * (2 * place + 1) * frequency / (2 * _SIDE))


_COSINES = _cosines()
