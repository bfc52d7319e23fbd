"""A small convolutional backbone for native pixels: the embedded detector's eyes.

Our own design. Traces of generators live in the highest frequencies and are a few grey levels strong, so

- nothing is resized, and resolution is halved by moving pixels into channels, which loses nothing;
- the input is joined by its fixed high-pass residual (each pixel minus its 3 x 3 mean), as residual-based
  detectors do (SRM, NPR, FerretNet), so that the first layer need not learn to ignore content;
- the image token holds means *and* standard deviations: traces are a texture, not an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.networks.base import Backbone, Features


@dataclass(frozen=True, slots=True)
class CompactConfig:
    """Sizes of the compact backbone.

    Attributes:
        widths: Channels of the stages; each stage but the first halves the resolution.
        depths: Residual blocks of the stages.
        token: Channels of the image token.
        residual_gain: Factor on the high-pass residual, which is about a tenth as strong as the image.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)
    depths: tuple[int, ...] = (1, 2, 3, 3)
    token: int = 128
    residual_gain: float = 4.0


class Residual(nn.Module):
    """A 3 x 3 convolution that looks and a 1 x 1 that mixes, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the activated sum."""
        result: Tensor = functional.relu(x + self.body(x))
        return result


class Halve(nn.Module):
    """Move 2 x 2 pixels into channels, then mix: halves the resolution and drops nothing."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * width_in, width_out, 1, bias=False),
            nn.BatchNorm2d(width_out),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return half the resolution; an odd last row or column is repeated first."""
        odd_h, odd_w = x.shape[-2] % 2, x.shape[-1] % 2
        if odd_h or odd_w:
            x = functional.pad(x, (0, odd_w, 0, odd_h), mode="replicate")
        result: Tensor = self.mix(x)
        return result


class CompactBackbone(Backbone):
    """Native pixels in, one token and a grid at one eighth of the resolution out.

    >>> backbone = CompactBackbone(CompactConfig(widths=(4, 8), depths=(1, 1), token=16)).eval()
    >>> features = backbone(torch.zeros(2, 3, 32, 32))
    >>> tuple(features.token.shape), tuple(features.grid.shape)
    ((2, 16), (2, 8, 16, 16))
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        if len(config.widths) != len(config.depths):
            raise ValueError(f"As many widths as depths, got {config.widths} and {config.depths}.")
        self.token_channels = config.token
        self.grid_channels = config.widths[-1]
        self.stride = 2 ** (len(config.widths) - 1)
        self.residual_gain = config.residual_gain
        self.stem = nn.Sequential(
            nn.Conv2d(6, config.widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(config.widths[0]),
        )
        stages: list[nn.Module] = []
        for index, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            if index:
                stages.append(Halve(config.widths[index - 1], width))
            stages.extend(Residual(width) for _ in range(depth))
        self.stages = nn.Sequential(*stages)
        self.to_token = nn.Linear(2 * self.grid_channels, config.token)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Features:
        """Return the statistics token and the last stage's grid."""
        grid = self.stages(functional.relu(self.stem(self._with_residual(pixels))))
        # Statistics in float32: under bfloat16 the variance of a quiet channel would vanish.
        flat = grid.flatten(2).float()
        spread = (flat.var(2, unbiased=False) + 1e-5).sqrt()
        statistics = torch.cat([flat.mean(2), spread], 1)
        return Features(self.to_token(statistics.to(grid.dtype)), grid)

    def _with_residual(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6 h w"]:
        padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
        local_mean = functional.avg_pool2d(padded, 3, stride=1)
        return torch.cat([pixels, self.residual_gain * (pixels - local_mean)], 1)
