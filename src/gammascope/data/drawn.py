"""One training view with its ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gammascope.sample import Image, Mask


@dataclass(frozen=True, slots=True)
class Drawn:
    """One training view with its ground truth.

    Attributes:
        pixels: As a detector's view, before normalisation.
        generated: True where a generator wrote the pixel.
        edited: True where the pixel was not here in the host.
        kind: Name of the share of ``Mixture`` it was drawn from.
        source: Of its host.
        tags: What else is known about it, by name.
        unknown: Names of the masks that are not known ("generated", "edited"); they are empty.
        told: What is known about the view as a whole although its mask is not, by name of the mask.
    """

    pixels: Image
    generated: Mask
    edited: Mask
    kind: str
    source: str
    tags: Mapping[str, float] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    told: Mapping[str, bool] = field(default_factory=dict)

    def answer(self, name: Literal["generated", "edited"]) -> bool | None:
        """Say whether the view holds generated, or edited, pixels; None: not known."""
        if name in self.unknown:
            return self.told.get(name)
        return self.contains_generated if name == "generated" else self.was_edited

    @property
    def contains_generated(self) -> bool:
        """Whether enough pixels are generated for anyone to see (0.2 % of the view; our choice)."""
        return bool(self.generated.mean() > 0.002)

    @property
    def was_edited(self) -> bool:
        """Whether enough pixels are edited for anyone to see (0.2 % of the view; our choice)."""
        return bool(self.edited.mean() > 0.002)
