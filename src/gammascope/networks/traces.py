"""A small trainable stem for traces, beside a backbone that stays as it is: it speaks for the masks alone."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.networks.compact import Halve, Residual

_GAIN = 4.0
"""Factor on the high-pass residual, which is about a tenth as strong as the image."""


class TraceStem(nn.Module):
    """Pixels and their high-pass residual, halved three times without losing any, seen at each resolution.

    What ImageNet taught sees textures; that a region was pasted shows in how noise, blur and compression differ from
    its surroundings, which has to be learnt from edits. On the image-level answer such features mislead
    (docs/experiments.md), so they join the grid and not the token.

    Source: our design, after the compact backbone.

    Args:
        channels: At one half, one quarter and one eighth of the resolution.
        fused: Channels of the grid.
    """

    def __init__(self, channels: tuple[int, ...], fused: int) -> None:
        super().__init__()
        if len(channels) != 3:
            raise ValueError(f"traces={channels}: expected three numbers of channels.")
        widths = (6, *channels)
        self.stages = nn.Sequential(
            *(part for a, b in pairwise(widths) for part in (Halve(a, b), Residual(b)))
        )
        self.to_grid = nn.Conv2d(channels[-1], fused, 1, bias=False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d gh gw"]:
        """Return what the stem adds to each cell of 8 x 8 pixels."""
        padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
        residual = _GAIN * (pixels - functional.avg_pool2d(padded, 3, stride=1))
        result: Tensor = self.to_grid(self.stages(torch.cat([pixels, residual], 1)))
        return result
