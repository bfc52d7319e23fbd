"""FerretNet: what a pixel's neighbours do not foretell of it, seen by a small network (NeurIPS 2025).

The network sees each picture minus the median of every pixel's neighbourhood. Its blocks cover two distances at once,
by filters with and without holes, and keep channels apart for most of the way, so that a million weights are enough.

Source: arXiv:2509.20890; layers, sizes and preprocessing as in the authors' public code, written anew from its
description.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import Detector, Loss, Method, ViewConfig, view_of
from gammascope.errors import RecipeError
from gammascope.networks.backbones import FAMILIES
from gammascope.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Config(ViewConfig):
    """Sizes; the defaults are those of the paper's network.

    Attributes:
        width: Channels behind the stem; each stage doubles them.
        depths: Blocks of each stage.
        window: Side of the neighbourhood, odd, pixels.
        dropout: Share of features that the linear layer does not see in training.
        size: Side of a view, pixels.
    """

    width: int = 96
    depths: tuple[int, ...] = (2, 2)
    window: int = 3
    dropout: float = 0.2
    size: int = 256


def medians(pixels: Float[Tensor, "b c h w"], window: int) -> Float[Tensor, "b c h w"]:
    """Return the median around each pixel, in whose place, and beyond the border, a 0 counts.

    >>> import torch
    >>> medians(torch.tensor([[[[1.0, 2.0], [3.0, 9.0]]]]), 3)[0, 0].tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    count, channels, height, width = pixels.shape
    around = functional.unfold(pixels, window, padding=window // 2)
    around = around.reshape(count, channels, window**2, height, width)
    kept = around.new_ones(window**2)
    kept[window**2 // 2] = 0
    found: Tensor = (around * kept[:, None, None]).median(2).values
    return found


class Block(nn.Module):
    """Filters with and without holes, added; a second filter; and the input beside them.

    Args:
        width_in: Channels of the input.
        width: Channels of the output, a multiple of them.
        stride: Of the first filters and of the shortcut.
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width_in, width, 3, stride, 1, groups=width_in, bias=False)
        self.far = nn.Conv2d(width_in, width, 3, stride, 2, 2, groups=width_in, bias=False)
        self.mix = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride), nn.BatchNorm2d(width)
            )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return the activated sum."""
        mixed = functional.relu(self.mix(self.near(x) + self.far(x)))
        return functional.relu(self.body(mixed) + self.shortcut(x))


class FerretNet(Detector):
    """Pixels minus the medians around them, a stem, stages of blocks, one logit."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, *FAMILIES["clip"].normalisation)
        width = config.width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        for depth in config.depths:
            first = Block(width, 2 * width, 2)
            width *= 2
            self.stages.append(
                nn.Sequential(first, *(Block(width, width, 1) for _ in range(depth - 1)))
            )
        self.last = nn.Conv2d(width, width, 1, bias=False)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, 1))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict "contains generated pixels"."""
        x = self.stem(pixels - medians(pixels, self.config.window))
        for stage in self.stages:
            x = stage(x)
        logit = self.head(self.last(x).mean((2, 3))).squeeze(1).float()
        return Prediction(logit, {"generated": logit})


def build(config: Config) -> FerretNet:
    """Make the network, with random weights.

    Raises:
        RecipeError: If the window has no middle, or a stage no block.
    """
    if config.window < 3 or config.window % 2 == 0 or min(config.depths, default=0) < 1:
        raise RecipeError(
            f"window={config.window}, depths={list(config.depths)}: expected an odd window of at least 3 px, and at "
            "least one block in each of at least one stage."
        )
    return FerretNet(config)


def loss(config: Config) -> Loss:
    """Return the cross-entropy of "contains generated pixels"."""
    del config
    return losses.generated_bce


METHOD = Method(
    title="FerretNet",
    paper="arXiv:2509.20890",
    config=Config(),
    tiny=Config(width=8, depths=(1, 1), size=32),
    build=build,
    loss=loss,
)
