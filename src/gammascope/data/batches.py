"""From drawn views to the tensors that a loss sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Dataset

from gammascope.data.drawn import Drawn
from gammascope.imaging.views import ViewSpec, normalised
from gammascope.prediction import Batch


@runtime_checkable
class Draws(Protocol):
    """An endless, reproducible sequence of views."""

    def __getitem__(self, index: int) -> Drawn:
        """Draw view number ``index``, 0 and up."""


class StreamSlice(Dataset[Drawn]):
    """Views ``start`` to ``stop`` of a stream, for a DataLoader; a resumed run starts where it stopped."""

    def __init__(self, stream: Draws, start: int, stop: int) -> None:
        self.stream, self.start, self.stop = stream, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Drawn:
        """Draw one view."""
        return self.stream[self.start + index]


class Collate:
    """Normalise and stack drawn views as the detector's view spec says."""

    def __init__(self, view: ViewSpec) -> None:
        self.view = view

    def __call__(self, drawn: Sequence[Drawn]) -> Batch:
        """Return a batch with both masks, trusted where they are known; -1 where an answer is not."""
        pixels = np.stack([normalised(d.pixels, self.view) for d in drawn])
        answers = {
            "generated": torch.tensor([_number(d.answer("generated")) for d in drawn]),
            "edited": torch.tensor([_number(d.answer("edited")) for d in drawn]),
        }
        yes = torch.maximum(answers["generated"], answers["edited"])
        # One "yes" makes a fake; one "no" beside what nobody knows makes nothing.
        sure = (yes == 1) | (torch.minimum(answers["generated"], answers["edited"]) == 0)
        masks = {
            "generated": torch.from_numpy(np.stack([d.generated for d in drawn])).float(),
            "edited": torch.from_numpy(np.stack([d.edited for d in drawn])).float(),
        }
        return Batch(
            pixels=torch.from_numpy(pixels),
            label=torch.where(sure, yes, -1),
            answers=answers,
            masks=masks,
            weight={
                name: torch.tensor([float(name not in d.unknown) for d in drawn]) for name in masks
            },
            tags=_stacked([d.tags for d in drawn]),
        )


def _number(answer: bool | None) -> int:
    return -1 if answer is None else int(answer)


def _stacked(tags: Sequence[Mapping[str, float]]) -> dict[str, torch.Tensor]:
    """Return the tags of all views by name; NaN where a view has none of that name."""
    names = dict.fromkeys(name for own in tags for name in own)
    return {name: torch.tensor([own.get(name, math.nan) for own in tags]) for name in names}
