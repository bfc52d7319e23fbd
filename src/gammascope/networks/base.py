"""What a backbone takes in and gives out: the seam between pretrained encoders and detectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope.networks.towers import Tower


@dataclass(frozen=True)
class Features:
    """What a backbone saw in a batch of views.

    Attributes:
        token: One vector for the whole view.
        grid: One vector per cell, laid out like the view: row 0 is its top, column 0 its left.
        summary: Statistics of the whole view by kind, in float32, as plain as they come: for what is fitted afterwards.
    """

    token: Float[Tensor, "b d"]
    grid: Float[Tensor, "b c gh gw"]
    summary: Mapping[str, Float[Tensor, "b _s"]] = field(default_factory=dict)


class Backbone(nn.Module, ABC):
    """An encoder from normalised pixels to a global vector and a grid of local ones."""

    token_channels: int
    """Length of ``Features.token``."""

    grid_channels: int
    """Channels of ``Features.grid``."""

    stride: int
    """Side of a grid cell, in pixels of the view."""

    mean: tuple[float, float, float]
    """Subtracted from RGB in 0..1 before ``forward``; belongs in the detector's ``ViewSpec``."""

    std: tuple[float, float, float]
    """Divides RGB after ``mean`` is subtracted."""

    trust: Mapping[str, Float[Tensor, " _s"]] = {}
    """How far each number of ``Features.summary`` carries to pictures unlike those seen, by kind; 1 for most."""

    file: Tower | None = None
    """The tower's file that holds (some of) its weights, as those of ``tower``; None: they lie in checkpoints."""

    _frozen = False

    def elsewhere(self) -> Mapping[str, Tensor]:
        """Return the values that a tower's file holds for tensors of this network, by name.

        A checkpoint leaves out those that still have them.
        """
        return {}

    @abstractmethod
    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Features:
        """Encode normalised views; knows no label, no file, no device."""

    def freeze(self) -> Backbone:
        """Freeze all parameters, and stay in evaluation from now on, so that batch norms learn nothing either."""
        self._frozen = True
        return self.eval().requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> Backbone:
        """Switch between training and evaluation; what is frozen stays in evaluation."""
        return super().train(mode and not self._frozen)


@contextmanager
def only_looking(network: nn.Module) -> Iterator[None]:
    """Evaluate a network without gradients; whether it was training is restored afterwards."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)
