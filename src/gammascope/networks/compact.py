"""A small convolutional backbone for native pixels, trained from scratch.

Our own design. Traces of generators live in the highest frequencies and are a few grey levels strong, so

- nothing is resized, and resolution is halved by moving pixels into channels, which loses nothing;
- the input is joined by its fixed high-pass residual (each pixel minus its 3 x 3 mean), as residual-based
  detectors do (SRM, NPR, FerretNet), so that the first layer need not learn to ignore content;
- log energies of local frequency bands join at the last resolution: the ratios between faint bands are what a network
  of this size does not find by itself from few images;
- the image token holds means *and* standard deviations: traces are a texture, not an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.networks.base import Backbone, Features
from gammascope.networks.frequency import BandEnergies


@dataclass(frozen=True, slots=True)
class CompactConfig:
    """Sizes of the compact backbone.

    Attributes:
        widths: Channels of the stages that read pixels; each but the first halves the resolution.
        depths: Residual blocks of these stages.
        fused: Channels of the last stage, where pixels and frequency bands meet.
        fused_depth: Residual blocks of the last stage.
        token: Channels of the image token.
        residual_gain: Factor on the high-pass residual, which is about a tenth as strong as the image.
    """

    widths: tuple[int, ...] = (8, 24, 48, 96)
    depths: tuple[int, ...] = (1, 1, 2, 2)
    fused: int = 128
    fused_depth: int = 3
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
    """Native pixels in, one token and a grid out; with four stages, at one eighth of the resolution.

    >>> sizes = CompactConfig(widths=(4, 8, 8), depths=(1, 1, 1), fused=8, fused_depth=1, token=16)
    >>> features = CompactBackbone(sizes).eval()(torch.zeros(2, 3, 32, 32))
    >>> tuple(features.token.shape), tuple(features.grid.shape)
    ((2, 16), (2, 8, 8, 8))
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        if len(config.widths) != len(config.depths):
            raise ValueError(f"As many widths as depths, got {config.widths} and {config.depths}.")
        if len(config.widths) < 2:
            raise ValueError(f"widths={config.widths}: expected at least two stages.")
        self.token_channels = config.token
        self.grid_channels = config.fused
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
        # Blocks twice as large as a cell: one spectrum for each cell of the last stage.
        self.bands = BandEnergies(2 * self.stride, grey_levels=255 * self.std[0])
        self.norm_bands = nn.BatchNorm2d(self.bands.channels, affine=False)
        self.fuse = nn.Sequential(
            nn.Conv2d(config.widths[-1] + self.bands.channels, config.fused, 1, bias=False),
            nn.BatchNorm2d(config.fused),
            nn.ReLU(),
            *(Residual(config.fused) for _ in range(config.fused_depth)),
        )
        self.to_token = nn.Linear(2 * config.fused + self.bands.channels, config.token)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Features:
        """Return the statistics token and the last stage's grid."""
        seen = self.stages(functional.relu(self.stem(self._with_residual(pixels))))
        bands = self.norm_bands(self.bands(pixels))
        grid = self.fuse(torch.cat([seen, bands.to(seen.dtype)], 1))
        # Statistics in float32: under bfloat16 the variance of a quiet channel would vanish.
        flat = grid.flatten(2).float()
        spread = (flat.var(2, unbiased=False) + 1e-5).sqrt()
        statistics = torch.cat([flat.mean(2), spread, bands.float().mean((2, 3))], 1)
        return Features(self.to_token(statistics.to(grid.dtype)), grid)

    def _with_residual(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 6 h w"]:
        padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
        local_mean = functional.avg_pool2d(padded, 3, stride=1)
        return torch.cat([pixels, self.residual_gain * (pixels - local_mean)], 1)
