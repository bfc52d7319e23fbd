"""Segmentation branches: from a backbone's grid to per-cell tokens and mask logits (GAMMA's dual heads)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Branch:
    """What one segmentation branch knows.

    Attributes:
        tokens: Its features, one per grid cell, row by row.
        logits: Its mask logits; one map, or one per mutually exclusive class, of which the first is "authentic".
    """

    tokens: Float[Tensor, "b n d"]
    logits: Float[Tensor, "b k gh gw"]

    @property
    def suspicion(self) -> Float[Tensor, "b gh gw"]:
        """Log-odds that a cell is anything but authentic."""
        if self.logits.shape[1] == 1:
            return self.logits[:, 0].float()
        return self.logits[:, 1:].float().logsumexp(1) - self.logits[:, 0].float()


class Neck(nn.Module):
    """Bring a grid to the branches' width and tell every cell where it is.

    Source: our reconstruction; a fixed two-dimensional sine code is added, as in the original transformer.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, grid: Float[Tensor, "b c gh gw"]) -> Float[Tensor, "b d gh gw"]:
        """Return the projected, normalised grid with position codes added."""
        projected = self.norm(self.project(grid).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        code = sine_code(projected.shape[1], grid.shape[-2], grid.shape[-1], projected.device)
        result: Tensor = projected + code.to(projected.dtype)
        return result.contiguous()


def sine_code(
    width: int, rows: int, columns: int, device: torch.device
) -> Float[Tensor, "d gh gw"]:
    """Return a fixed code of each cell's position: a quarter of the channels each for sin/cos of row/column.

    Channels left over when ``width`` is no multiple of four stay zero.
    """
    quarter = width // 4
    frequency = torch.exp(
        -math.log(10000.0)
        * torch.arange(quarter, device=device, dtype=torch.float32)
        / max(1, quarter)
    )
    row = (
        torch.arange(rows, device=device, dtype=torch.float32)[None, :, None]
        * frequency[:, None, None]
    )
    column = (
        torch.arange(columns, device=device, dtype=torch.float32)[None, None, :]
        * frequency[:, None, None]
    )
    parts = [row.sin(), row.cos(), column.sin(), column.cos()]
    code = torch.cat([part.expand(quarter, rows, columns) for part in parts])
    rest = torch.zeros(width - 4 * quarter, rows, columns, device=device)
    return torch.cat([code, rest])


class ConvBlock(nn.Module):
    """Pre-norm 3 x 3 convolution with a residual: local evidence spreads one cell per block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b d gh gw"]:
        """Return the input plus what its neighbourhood says."""
        result: Tensor = x + self.mix(torch.relu(self.conv(self.norm(x))))
        return result


class AttentionBlock(nn.Module):
    """Pre-norm transformer block over the cells: evidence spreads everywhere at once."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            width,
            heads,
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )

    def forward(self, x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b d gh gw"]:
        """Return the input after self-attention and an MLP, both residual."""
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        result: Tensor = tokens.transpose(1, 2).reshape(x.shape)
        return result


class MaskHead(nn.Module):
    """One segmentation branch: a few blocks, then a linear map to its classes.

    Source: arXiv:2509.10250 names two segmentation heads; blocks, widths and resolution are our reconstruction.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: int,
        classes: int,
        mixing: Literal["conv", "transformer"],
        heads: int,
    ) -> None:
        super().__init__()
        make = (
            (lambda: ConvBlock(width))
            if mixing == "conv"
            else (lambda: AttentionBlock(width, heads))
        )
        self.blocks = nn.Sequential(*(make() for _ in range(blocks)))
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, grid: Float[Tensor, "b d gh gw"]) -> Branch:
        """Return the branch's tokens and logits at grid resolution."""
        features = self.blocks(grid)
        return Branch(features.flatten(2).transpose(1, 2), self.classify(features))
