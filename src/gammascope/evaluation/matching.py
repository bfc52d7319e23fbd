"""Real and fake images of the same sizes: what remains of a set when size tells nothing."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Bool, Int, Shaped

_AT_ONCE = 100_000  # names made into Python objects at a time


def same_sizes(
    width: Int[np.ndarray, " n"],
    height: Int[np.ndarray, " n"],
    truth: Int[np.ndarray, " n"],
    draw: Int[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """Mark as many images of either class in every bucket of sizes, as many as there are of both.

    A bucket is half an octave of the shorter and of the longer side (512 to 723 px, say). Which
    images of the larger class stay depends on their file names alone: neither the order of the list
    nor any score has a say. Within a bucket sizes may still differ, and so may content.

    Args:
        width: Pixels; 0 = unknown, never marked.
        height: Pixels; 0 = unknown, never marked.
        truth: 1 or 0; others are never marked.
        draw: As ``draws_of`` makes them.
    """
    known: Bool[np.ndarray, " n"] = (width > 0) & (height > 0) & ((truth == 0) | (truth == 1))
    rows = np.flatnonzero(known)
    if not len(rows):
        return known
    short, long = (side(width[rows], height[rows]) for side in (np.minimum, np.maximum))
    bucket = 1000 * _half_octave(short) + _half_octave(long)
    _, bucket = np.unique(bucket, return_inverse=True)
    group = 2 * bucket + truth[rows]
    order = np.lexsort((draw[rows], group))
    counts = np.bincount(group, minlength=2 * (int(bucket.max()) + 1))
    starts = np.cumsum(counts) - counts
    place = np.empty(len(rows), dtype=np.int64)  # of each image among those of its bucket and class
    place[order] = np.arange(len(rows)) - starts[group[order]]
    kept = np.zeros(len(width), dtype=np.bool_)
    kept[rows[place < counts.reshape(-1, 2).min(axis=1)[bucket]]] = True
    return kept


def _half_octave(side: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.asarray(np.floor(2.0 * np.log2(side)), dtype=np.int64)


def draws_of(path: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the number by which each image is drawn: the checksum of its file's name, the last part of its path."""
    draws = np.empty(len(path), dtype=np.int64)
    for start in range(0, len(path), _AT_ONCE):
        names = [str(name).replace("\\", "/") for name in path[start : start + _AT_ONCE].tolist()]
        draws[start : start + len(names)] = [
            zlib.crc32(name[name.rfind("/") + 1 :].encode()) for name in names
        ]
    return draws
