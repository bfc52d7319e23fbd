"""What tests of several forensic methods make pictures with, and compare."""

from __future__ import annotations

import numpy as np

from gammascope.forensics import Finding, Picture
from gammascope.imaging.codecs import Encoding, encode
from gammascope.imaging.decode import decode


def saved(image: np.ndarray, quality: int) -> Picture:
    data = encode(image, Encoding("jpeg", quality, "4:4:4"))
    return Picture(decode(data).image, data)


def overlap(found: Finding, truth: np.ndarray) -> float:
    """Return F1 of the marked pixels."""
    marked = found.map() > 0.5
    return float(2 * (marked & truth).sum() / max(1, marked.sum() + truth.sum()))


def somewhere(shape: tuple[int, ...], top: int, left: int, size: int) -> np.ndarray:
    truth = np.zeros(shape[:2], bool)
    truth[top : top + size, left : left + size] = True
    return truth
