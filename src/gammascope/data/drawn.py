"""One training view with its ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """

    pixels: Image
    generated: Mask
    edited: Mask
    kind: str
    source: str
    tags: Mapping[str, float] = field(default_factory=dict)

    @property
    def contains_generated(self) -> bool:
        """Whether enough pixels are generated for anyone to see (0.2 % of the view; our choice)."""
        return bool(self.generated.mean() > 0.002)

    @property
    def was_edited(self) -> bool:
        """Whether enough pixels are edited for anyone to see (0.2 % of the view; our choice)."""
        return bool(self.edited.mean() > 0.002)
