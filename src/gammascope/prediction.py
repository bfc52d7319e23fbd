"""What goes into a detector and a loss, and what comes out, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss sees: views and their ground truth, in the view's frame.

    Attributes:
        pixels: Normalised views.
        label: 1 fake (generated or manipulated), 0 real, -1 not known.
        answers: 1 yes, 0 no, -1 not known, by image-level question ("generated", "edited"); absent = known of none.
        masks: Share of each pixel that is "generated" / "edited", 0..1; absent = not annotated.
        weight: By mask name; 0 switches that mask's terms off for a sample whose mask is not trustworthy.
        tags: What else is known about a view, by name (camera settings, say); NaN = not known.
    """

    pixels: Float[Tensor, "b 3 h w"]
    label: Int[Tensor, " b"]
    answers: Mapping[str, Int[Tensor, " b"]] = field(default_factory=dict)
    masks: Mapping[str, Float[Tensor, "b h w"]] = field(default_factory=dict)
    weight: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict)
    tags: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict)

    def rows(self, chosen: slice) -> Batch:
        """Return some of the samples."""

        def cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor[chosen] for name, tensor in tensors.items()}

        return Batch(
            self.pixels[chosen],
            self.label[chosen],
            cut(self.answers),
            cut(self.masks),
            cut(self.weight),
            cut(self.tags),
        )

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Batch:
        """Return the batch with all its tensors on a device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Batch(
            moved(self.pixels),
            moved(self.label),
            {name: moved(tensor) for name, tensor in self.answers.items()},
            {name: moved(tensor) for name, tensor in self.masks.items()},
            {name: moved(tensor) for name, tensor in self.weight.items()},
            {name: moved(tensor) for name, tensor in self.tags.items()},
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """A detector's raw answer for a batch of views: logits, never probabilities.

    Attributes:
        logit: > 0 leans fake; calibration makes it a probability.
        answers: Further image-level logits by name ("generated", "edited"); absent = the method cannot tell. "whole" is
            no question: it is added to the others, "edited" excepted, for the view that shows all of a picture.
        masks: Logits by head, at any resolution: each map covers its whole view. Trained and scored.
        evidence: Maps to show, no unit, at any resolution. Never scored.
        features: What a loss compares besides logits (embeddings, pretext scores), by name. Neither shown nor scored.
        penalties: Terms about the network's own parameters that a loss may add; empty in evaluation.
    """

    logit: Float[Tensor, " b"]
    answers: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict)
    masks: Mapping[str, Float[Tensor, "b _gh _gw"]] = field(default_factory=dict)
    evidence: Mapping[str, Float[Tensor, "b _eh _ew"]] = field(default_factory=dict)
    features: Mapping[str, Float[Tensor, "b ..."]] = field(default_factory=dict)
    penalties: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
