"""Masked autoregression: an encoder of the tokens that are there, a decoder of all places, and diffusion of tokens.

Source: arXiv:2406.11838. Names of parameters are those of LTH14/mar (MIT), so that published files load without a key
map; written anew, without dropout.

``TokenDiffusion`` is a small diffusion model of single tokens: from noise to a token, given a vector for its place.
Noise schedule, learnt variances and steps left out: arXiv:2102.09672; guidance without a classifier: arXiv:2207.12598.
A guess of ours: the last step's likelihood is that of a Gaussian, not of a bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import RecipeError
from gammascope.generation.base import drawn

TIMES = 1000
"""Levels of noise in training."""

_ANGLES = 128
_REPEATS = 4
"""How often each token is learnt in one step, each time with another noise."""


class _Time(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * _ANGLES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Int[Tensor, " m"]) -> Float[Tensor, "m w"]:
        rates = torch.exp(-math.log(10_000) * torch.arange(_ANGLES, device=time.device) / _ANGLES)
        angles = time[:, None].float() * rates
        told: Tensor = self.mlp(torch.cat([angles.cos(), angles.sin()], 1))
        return told


def _modulation(width: int, parts: int) -> nn.Sequential:
    last = nn.Linear(width, parts * width)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.SiLU(), last)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = _modulation(width, 3)

    def forward(self, x: Float[Tensor, "m w"], told: Float[Tensor, "m w"]) -> Float[Tensor, "m w"]:
        shift, scale, gate = self.adaLN_modulation(told).chunk(3, -1)
        result: Tensor = x + gate * self.mlp(self.in_ln(x) * (1 + scale) + shift)
        return result


class _Last(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.adaLN_modulation = _modulation(width, 2)

    def forward(self, x: Float[Tensor, "m w"], told: Float[Tensor, "m w"]) -> Float[Tensor, "m o"]:
        shift, scale = self.adaLN_modulation(told).chunk(2, -1)
        normed = functional.layer_norm(x, x.shape[-1:], eps=1e-6)
        found: Tensor = self.linear(normed * (1 + scale) + shift)
        return found


class _Network(nn.Module):
    def __init__(self, token: int, told: int, width: int, layers: int) -> None:
        super().__init__()
        self.time_embed = _Time(width)
        self.cond_embed = nn.Linear(told, width)
        self.input_proj = nn.Linear(token, width)
        self.res_blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.final_layer = _Last(width, 2 * token)

    def forward(
        self, noisy: Float[Tensor, "m c"], time: Int[Tensor, " m"], told: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, "m c"], Float[Tensor, "m c"]]:
        hidden, about = self.input_proj(noisy), self.time_embed(time) + self.cond_embed(told)
        for block in self.res_blocks:
            hidden = block(hidden, about)
        noise, between = self.final_layer(hidden, about).chunk(2, -1)
        return noise, between


class _Schedule:
    """What a chain of noise levels implies; float64, as published.

    Args:
        kept: Signal's share of the variance at each level, falling.
        times: What the network reads at each level.
    """

    def __init__(self, kept: np.ndarray, times: np.ndarray) -> None:
        before = np.append(1.0, kept[:-1])
        beta = 1 - kept / before
        variance = beta * (1 - before) / (1 - kept)
        variance[0] = variance[1] if len(variance) > 1 else beta[0]  # nothing is left to vary
        mean_clean = beta * np.sqrt(before) / (1 - kept)
        mean_noisy = (1 - before) * np.sqrt(1 - beta) / (1 - kept)
        rows = (np.sqrt(kept), np.sqrt(1 - kept), mean_clean, mean_noisy)
        logs = (np.log(variance), np.log(beta))
        self.rows = torch.from_numpy(np.stack([*rows, *logs])).float()
        self.times = times

    def at(self, index: Int[Tensor, " m"]) -> tuple[Tensor, ...]:
        """Return signal, noise, the mean's two factors, and the log variance's two bounds; each m x 1."""
        return self.rows.to(index.device)[:, index, None].unbind(0)


def _kept() -> np.ndarray:
    at = np.arange(TIMES + 1) / TIMES
    level = np.cos((at + 0.008) / 1.008 * np.pi / 2) ** 2
    kept: np.ndarray = np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999))
    return kept


@cache
def _full() -> _Schedule:
    return _Schedule(_kept(), np.arange(TIMES))


@cache
def _some(steps: int) -> _Schedule:
    times = np.unique(np.linspace(0, TIMES - 1, steps).round().astype(int))
    return _Schedule(_kept()[times], times)


class TokenDiffusion(nn.Module):
    """Learns and draws tokens.

    Args:
        token: Length of a token.
        told: Length of the vector that says what is wanted.
        width: Of the perceptron.
        layers: Its residual blocks.
    """

    def __init__(self, token: int, told: int, width: int, layers: int) -> None:
        super().__init__()
        self.net = _Network(token, told, width, layers)

    def terms(
        self, tokens: Float[Tensor, "m c"], told: Float[Tensor, "m d"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
        """Return each token's error of the noise, and the bound on its likelihood (bits) which teaches the variance."""
        tokens, told = tokens.repeat(_REPEATS, 1), told.repeat(_REPEATS, 1)
        time = torch.randint(TIMES, (len(tokens),), device=tokens.device)
        noise = torch.randn_like(tokens)
        signal, sigma, of_clean, of_noisy, low, high = _full().at(time)
        noisy = signal * tokens + sigma * noise
        guessed, between = self.net(noisy, time, told)
        error = (guessed - noise).square().mean(1)
        clean = (noisy - sigma * guessed.detach()) / signal
        mean, true = of_clean * clean + of_noisy * noisy, of_clean * tokens + of_noisy * noisy
        log_variance = low + (between + 1) / 2 * (high - low)
        far = (true - mean).square() * torch.exp(-log_variance)
        divergence = 0.5 * (log_variance - low - 1 + torch.exp(low - log_variance) + far)
        missed = (tokens - mean).square() * torch.exp(-log_variance)
        last = 0.5 * (math.log(2 * math.pi) + log_variance + missed)
        bound = torch.where(time[:, None] == 0, last, divergence).mean(1) / math.log(2)
        return error.view(_REPEATS, -1).mean(0), bound.view(_REPEATS, -1).mean(0)

    @torch.no_grad()
    def draw(
        self,
        told: Float[Tensor, "m d"],
        free: Float[Tensor, "m d"] | None,
        guidance: float,
        steps: int,
        rng: np.random.Generator,
        bound: float = math.inf,
    ) -> Float[Tensor, "m c"]:
        """Draw a token for each vector.

        Args:
            told: What is wanted.
            free: What would be wanted if nothing were asked for; None: no guidance.
            guidance: How far from that; 1 changes nothing.
            steps: Of 1000, evenly spaced.
            rng: Of all noise.
            bound: Estimates of a token stay within plus and minus this. Where there is almost nothing but noise, a
                small error of the noise is a huge one of the token, and only long training makes it small enough.
        """
        schedule, device = _some(steps), told.device
        shape = (len(told), self.net.input_proj.in_features)
        noisy = drawn(shape, rng).to(device)
        for index in reversed(range(len(schedule.times))):
            here = torch.full((len(told),), index, device=device)
            signal, sigma, of_clean, of_noisy, low, high = schedule.at(here)
            time = torch.full_like(here, int(schedule.times[index]))
            noise, between = self.net(noisy, time, told)
            if free is not None and guidance != 1:
                unasked, _ = self.net(noisy, time, free)
                noise = unasked + guidance * (noise - unasked)
            clean = ((noisy - sigma * noise) / signal).clamp(-bound, bound)
            noisy = of_clean * clean + of_noisy * noisy
            if index:
                spread = torch.exp(0.5 * (low + (between + 1) / 2 * (high - low)))
                noisy = noisy + spread * drawn(shape, rng).to(device)
        return noisy


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
