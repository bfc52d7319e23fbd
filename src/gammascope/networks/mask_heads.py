"""Segmentation branches: from a backbone's grid to per-cell tokens and mask logits (GAMMA's dual heads).

Reverse cross-attention leads back: the branches' tokens correct the image token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


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


class ReverseCrossAttention(nn.Module):
    """Correct the image token by attending from it to the tokens of all segmentation branches.

    A mask decoder lets a global query act on pixels; here the direction is reversed: the image-level token
    asks and the pixel-level tokens answer. The paper's formula is not public; three readings stand behind one
    argument, with ``e = (q W_Q)(Z W_K)^T / sqrt(d)`` and ``u = W_O(softmax(.) Z W_V)``:

    - ``"direct"`` (R1): ``softmax(e)``, ``q + gate * u``;
    - ``"complement"`` (R2): ``softmax(max(e) - e)``: the token hears what its own attention overlooks;
    - ``"subtractive"`` (R3): ``softmax(e)``, ``q - gate * u``: what was heard is a bias to remove.

    Source: arXiv:2509.10250 (idea); the formulas are our reconstruction, the gates knowingly our own.
    """

    def __init__(
        self,
        width: int,
        branches: Sequence[str],
        *,
        heads: int = 8,
        layers: int = 2,
        reading: Literal["direct", "complement", "subtractive"] = "direct",
        mask_bias: bool = False,
    ) -> None:
        super().__init__()
        self.names = tuple(branches)
        self.branch_code = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names}
        )
        self.layers = nn.ModuleList(
            _Layer(width, len(self.names), heads, reading, mask_bias=mask_bias)
            for _ in range(layers)
        )

    def forward(
        self, token: Float[Tensor, "b d"], branches: Mapping[str, Branch]
    ) -> Float[Tensor, "b d"]:
        """Return the corrected token; equal to ``token`` while all gates are 0, their initial value.

        Args:
            token: Image token before correction.
            branches: By name; their logits steer the attention when ``mask_bias`` is on (detached: the bias
                must not train the masks).
        """
        memory = torch.cat([branches[n].tokens + self.branch_code[n] for n in self.names], 1)
        steer = [branches[n].suspicion.detach().flatten(1) for n in self.names]
        belief = torch.stack([functional.logsigmoid(s.float()).clamp(min=-14.0) for s in steer], 1)
        for layer in self.layers:
            token = layer(token, memory, belief)
        return token


class _Layer(nn.Module):
    def __init__(
        self, width: int, branches: int, heads: int, reading: str, *, mask_bias: bool
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of heads {heads}.")
        self.heads = heads
        self.sign = -1.0 if reading == "complement" else 1.0
        self.direction = -1.0 if reading == "subtractive" else 1.0
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.zeros(width))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        # The MLP is gated too, or training would not start from the plain classifier.
        self.gate_mlp = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(branches)) if mask_bias else None

    def forward(
        self,
        token: Float[Tensor, "b d"],
        memory: Float[Tensor, "b m d"],
        belief: Float[Tensor, "b k n"],
    ) -> Float[Tensor, "b d"]:
        batch, width = token.shape
        split = (batch, -1, self.heads, width // self.heads)
        q = self.query(self.norm_query(token)).view(split).transpose(1, 2)
        k, v = self.key_value(self.norm_memory(memory)).chunk(2, -1)
        k, v = (x.view(split).transpose(1, 2) for x in (k, v))
        energy = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        if self.bias is not None:
            energy = energy + (self.bias[:, None] * belief).flatten(1)[:, None, None, :].to(
                energy.dtype
            )
        heard = (self.sign * energy).softmax(-1) @ v
        heard = self.out(heard.transpose(1, 2).reshape(batch, width))
        token = token + self.direction * self.gate * heard
        result: Tensor = token + self.gate_mlp * self.mlp(self.norm_mlp(token))
        return result
