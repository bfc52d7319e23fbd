"""Which manipulation, how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gammascope.manipulation.base import Manipulated, Manipulation
from gammascope.sample import Image, Mask


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of several manipulations, drawn by weight for each photo; itself a manipulation.

    Attributes:
        parts: Pairs of weight and manipulation; weights need not add up to 1.
    """

    parts: tuple[tuple[float, Manipulation], ...]

    def __post_init__(self) -> None:
        weights = [weight for weight, _ in self.parts]
        if min(weights, default=-1) < 0 or sum(weights) <= 0:
            raise ValueError(f"Weights {weights}: expected none below 0 and one above.")

    def __call__(
        self, image: Image, rng: np.random.Generator, objects: Sequence[Mask] = ()
    ) -> Manipulated:
        """Return what the drawn manipulation returns."""
        weights = np.array([weight for weight, _ in self.parts], dtype=float)
        chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
        return self.parts[chosen][1](image, rng, objects)
