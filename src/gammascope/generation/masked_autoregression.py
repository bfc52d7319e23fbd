"""Masked autoregression: an encoder of the tokens that are there, a decoder of all places, and diffusion of tokens.

Source: arXiv:2406.11838. Names of parameters are those of LTH14/mar (MIT), so that published files load without a key
map; written anew, without dropout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import RecipeError
from gammascope.generation.token_diffusion import TokenDiffusion


@dataclass(frozen=True, slots=True)
class Sizes:
    """How it is built.

    Attributes:
        width: Of encoder and decoder.
        layers: Of either.
        heads: Of their attention.
        buffers: Slots beside the tokens.
        grid: Side of the tables of positions, in tokens; other sides are interpolated.
        head_width: Of the diffusion of tokens.
        head_layers: Its residual blocks.
    """

    width: int = 192
    layers: int = 6
    heads: int = 6
    buffers: int = 16
    grid: int = 16
    head_width: int = 384
    head_layers: int = 3

    def __post_init__(self) -> None:
        counts = (self.layers, self.heads, self.buffers, self.grid, self.head_width)
        if min(*counts, self.head_layers, self.width) < 1 or self.width % self.heads:
            raise RecipeError(
                f"{self}: expected 1 or more of each, and a width that is a multiple of heads."
            )


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        asked = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = asked
        heard = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        result: Tensor = self.proj(heard.transpose(1, 2).flatten(2))
        return result


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        result: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return result


class Block(nn.Module):
    """Attention and a perceptron, each beside an identity path.

    Args:
        width: Of tokens.
        heads: Of attention.
        causal: Whether a token hears those before it alone.
    """

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = _Attention(width, heads, causal=causal), _Perceptron(width)

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return as many tokens."""
        tokens = tokens + self.attn(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class MaskedAutoregressor(nn.Module):
    """Encoder of visible tokens, and decoder of all places.

    Args:
        token: Length of a token.
        sizes: Of everything.
    """

    def __init__(self, token: int, sizes: Sizes) -> None:
        super().__init__()
        width, places = sizes.width, sizes.grid**2
        self.slots, self.grid = sizes.buffers, sizes.grid
        self.fake_latent = nn.Parameter(0.02 * torch.randn(1, width))
        self.z_proj = nn.Linear(token, width)
        self.z_proj_ln = nn.LayerNorm(width, eps=1e-6)
        self.encoder_pos_embed_learned = _positions(places + sizes.buffers, width)
        self.encoder_blocks = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.layers))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.decoder_pos_embed_learned = _positions(places + sizes.buffers, width)
        self.decoder_blocks = nn.ModuleList(Block(width, sizes.heads) for _ in range(sizes.layers))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.diffusion_pos_embed_learned = _positions(places, width)
        self.diffloss = TokenDiffusion(token, width, sizes.head_width, sizes.head_layers)

    def encode(
        self, tokens: Float[Tensor, "b n c"], known: Int[Tensor, "b k"]
    ) -> Float[Tensor, "b m d"]:
        """Encode the tokens at the known places, behind the buffers."""
        buffers = self.fake_latent.expand(len(tokens), self.slots, -1)
        embedded = torch.cat([buffers, self.z_proj(tokens)], 1)
        hidden = self.z_proj_ln(
            embedded + self._placed(self.encoder_pos_embed_learned, tokens.shape[1])
        )
        hidden = torch.cat([hidden[:, : self.slots], at(hidden[:, self.slots :], known)], 1)
        for block in self.encoder_blocks:
            hidden = block(hidden)
        result: Tensor = self.encoder_norm(hidden)
        return result

    def decode(
        self, encoded: Float[Tensor, "b m d"], known: Int[Tensor, "b k"], places: int
    ) -> Float[Tensor, "b n d"]:
        """Return a vector for each place."""
        visible = self.decoder_embed(encoded)
        where = known[..., None].expand(-1, -1, visible.shape[-1])
        blank = self.mask_token.to(visible.dtype).expand(len(visible), places, -1)
        spread = blank.scatter(1, where, visible[:, self.slots :])
        hidden = torch.cat([visible[:, : self.slots], spread], 1)
        hidden = hidden + self._placed(self.decoder_pos_embed_learned, places)
        for block in self.decoder_blocks:
            hidden = block(hidden)
        told: Tensor = self.decoder_norm(hidden)[:, self.slots :]
        return told + self._placed(self.diffusion_pos_embed_learned, places)

    def _placed(self, table: Float[Tensor, "1 s d"], places: int) -> Float[Tensor, "1 t d"]:
        """Fit a table of positions to a square of another side; buffers keep theirs."""
        side = math.isqrt(places)
        if side == self.grid:
            return table
        apart = table.shape[1] - self.grid**2
        square = table[:, apart:].transpose(1, 2).reshape(1, -1, self.grid, self.grid)
        fitted = functional.interpolate(square, (side, side), mode="bilinear")
        return torch.cat([table[:, :apart], fitted.flatten(2).transpose(1, 2)], 1)


def _positions(places: int, width: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(1, places, width))


def at(tokens: Float[Tensor, "b n d"], places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """Return the tokens at these places, other ones in each picture."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
