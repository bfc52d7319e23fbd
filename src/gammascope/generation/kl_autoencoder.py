"""The autoencoder of latent diffusion with 16 x smaller latents, under the names of its published files ("KL-16").

Source: arXiv:2112.10752; sizes and names of parameters: LTH14/mar (MIT); written anew. Weights are not part of
gammascope.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 32
"""Widths are multiples of this."""

_WIDER = (1, 1, 2, 2, 4)
_BLOCKS = 2


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, eps=1e-6)


class _Block(nn.Module):
    def __init__(self, came: int, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(came), nn.Conv2d(came, width, 3, padding=1)
        self.norm2, self.conv2 = _norm(width), nn.Conv2d(width, width, 3, padding=1)
        if came != width:
            self.nin_shortcut = nn.Conv2d(came, width, 1)

    def forward(self, grid: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d y x"]:
        inner = self.conv1(functional.silu(self.norm1(grid)))
        inner = self.conv2(functional.silu(self.norm2(inner)))
        straight = self.nin_shortcut(grid) if hasattr(self, "nin_shortcut") else grid
        result: Tensor = straight + inner
        return result


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d y x"]:
        normed = self.norm(grid)
        asked = (layer(normed).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        heard = functional.scaled_dot_product_attention(*asked).transpose(1, 2)
        result: Tensor = grid + self.proj_out(heard.reshape(grid.shape))
        return result


class _Down(nn.Module):
    """Halves; pads on the right and at the bottom alone, as published."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d v u"]:
        result: Tensor = self.conv(functional.pad(grid, (0, 1, 0, 1)))
        return result


class _Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d v u"]:
        result: Tensor = self.conv(functional.interpolate(grid, scale_factor=2.0))
        return result


class _Level(nn.Module):
    """Blocks of one resolution, some followed by attention, and the way to the next resolution."""

    def __init__(
        self,
        came: int,
        width: int,
        blocks: int,
        then: Literal["downsample", "upsample", ""],
        *,
        attending: bool = False,
    ) -> None:
        super().__init__()
        self.then = then
        self.block = nn.ModuleList(_Block(*pair) for pair in pairwise([came] + [width] * blocks))
        self.attn = nn.ModuleList(_Attention(width) for _ in range(blocks if attending else 0))
        if then:
            self.add_module(then, _Down(width) if then == "downsample" else _Up(width))

    def forward(self, grid: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        for index, block in enumerate(self.block):
            grid = block(grid)
            if self.attn:
                grid = self.attn[index](grid)
        return getattr(self, self.then)(grid) if self.then else grid


class _Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = _Block(width, width), _Block(width, width)
        self.attn_1 = _Attention(width)

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d y x"]:
        result: Tensor = self.block_2(self.attn_1(self.block_1(grid)))
        return result


class _Encoder(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * wider for wider in _WIDER]
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        *finer, coarsest = pairwise([width, *widths])
        self.down = nn.ModuleList(_Level(*pair, _BLOCKS, "downsample") for pair in finer)
        self.down.append(_Level(*coarsest, _BLOCKS, "", attending=True))
        self.mid = _Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        grid = self.conv_in(pixels)
        for level in self.down:
            grid = level(grid)
        result: Tensor = self.conv_out(functional.silu(self.norm_out(self.mid(grid))))
        return result


class _Decoder(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * wider for wider in _WIDER]
        self.conv_in = nn.Conv2d(channels, widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1])
        (wide, came), *coarser = pairwise([*widths, widths[-1]])
        self.up = nn.ModuleList([_Level(came, wide, _BLOCKS + 1, "")])
        self.up.extend(_Level(came, wide, _BLOCKS + 1, "upsample") for wide, came in coarser)
        self.norm_out = _norm(width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
        grid = self.mid(self.conv_in(latent))
        for level in reversed(self.up):
            grid = level(grid)
        result: Tensor = self.conv_out(functional.silu(self.norm_out(grid)))
        return result


class KlAutoencoder(nn.Module):
    """One of ``generation.autoencoder.Autoencoder``'s kind.

    Args:
        channels: Of the latents.
        width: At full resolution, a multiple of 32; 128 in the published files.

    >>> tuple(KlAutoencoder(4, width=32).encode(torch.zeros(1, 3, 32, 16)).shape)
    (1, 4, 2, 1)
    """

    def __init__(self, channels: int = 16, width: int = 128) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(channels, width), _Decoder(channels, width)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    @property
    def stride(self) -> int:
        """Pixels per latent cell: 16."""
        return 16

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.quant_conv.weight.device

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c y x"]:
        """Map pixels (0..1) to latents: the mean of the distribution, nothing is sampled."""
        mean: Tensor = self.quant_conv(self.encoder(2 * pixels.to(self.device) - 1)).chunk(2, 1)[0]
        return mean

    def decode(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b 3 h w"]:
        """Map latents to pixels, clipped to 0..1."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latent.to(self.device)))
        return ((pixels + 1) / 2).clamp(0, 1)
