"""IQ-VAE: pictures and what they are asked for, as codes of two coupled quantisers, and a transformer between them.

**After the paper, not the paper**: no text and no code of it were at hand, only its abstract and notes of others. Two
quantisers, one of pictures and one of conditions, are coupled by a sliced Gromov-Wasserstein term, which compares
distances within each, as their spaces have nothing in common; the transformer learns on prefixes that it partly sampled
itself, by the Gumbel trick. All weights, sizes, the rule of what is replaced, and what a condition is are guesses of
ours.

A condition is a sheet of five planes: edges, the known part of a photo, and which part that is. So one network draws
after edges, fills regions, and draws from nothing.

Source: arXiv:2207.10776 (idea). Sliced Gromov-Wasserstein: arXiv:1905.10124. Codes: arXiv:1711.00937. Gumbel:
arXiv:1611.01144.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import RecipeError
from gammascope.generation.base import (
    Condition,
    Generator,
    GeneratorKind,
    Shown,
    Stage,
    to_image,
    to_pixels,
)
from gammascope.generation.small_autoencoder import Design, SmallAutoencoder
from gammascope.networks.frequency import BandEnergies
from gammascope.sample import Image, Mask

PLANES = 5
"""Of a condition: edges, three of the known photo, which pixels are known."""

_SAMPLED_ONCE_IN = 4
_USE_DECAY = 0.9
_DEAD = 0.02
"""Codes used less than this share of equal use are moved to where latents are."""

_COUNTS = (
    *("px", "stride", "width", "directions", "layers"),
    *("hidden", "heads", "rising", "likeliest"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """How it is built and trained.

    Attributes:
        px: Side of pictures.
        stride: Pixels per code.
        codes: Of pictures; conditions have half as many.
        latent: Length of a picture's codes; conditions have half.
        width: Of the convolutions.
        coupling: Weight of the sliced Gromov-Wasserstein term; 0: two quantisers that know nothing of each other.
        directions: On which it projects.
        layers: Of the transformer.
        hidden: Its width.
        heads: Of its attention.
        replaced: Share of codes that the transformer may sample itself, at most; 0: it sees true prefixes alone.
        rising: Steps until that share is reached.
        temperature: Of the Gumbel trick.
        likeliest: Only so many codes are sampled from.
    """

    px: int = 128
    stride: int = 8
    codes: int = 256
    latent: int = 32
    width: int = 24
    coupling: float = 10.0
    directions: int = 32
    layers: int = 4
    hidden: int = 192
    heads: int = 4
    replaced: float = 0.5
    rising: int = 1000
    temperature: float = 1.0
    likeliest: int = 100

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise RecipeError(f"{name}={getattr(self, name)}: expected 1 or more.")
        if self.px % self.stride or self.hidden % self.heads:
            raise RecipeError(
                f"px={self.px}, stride={self.stride}, hidden={self.hidden}, heads={self.heads}: "
                "expected a multiple of the stride, and of the heads."
            )
        if min(self.codes, self.latent) < 2 or not 0 <= self.replaced <= 1:
            raise RecipeError(
                f"codes={self.codes}, latent={self.latent}, replaced={self.replaced}: "
                "expected 2 or more, 2 or more, 0..1."
            )
        if not 0 <= self.coupling < math.inf or not 0 < self.temperature < math.inf:
            raise RecipeError(
                f"coupling={self.coupling}, temperature={self.temperature}: expected 0 or more, above 0."
            )


def sliced_gromov_wasserstein(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n e"], directions: Float[Tensor, "k m"]
) -> Float[Tensor, ""]:
    """Compare the distances within two sets of points of different spaces; 0 where they are alike.

    Both are scaled to equal mean square distance, filled up with zeros to the same length, and projected. On a line the
    sorted points are matched in order or in reverse, whichever costs less. That is not always the best match: a
    regulariser, not a distance.

    Args:
        first: One set.
        second: As many points.
        directions: On which to project, as long as the longer points.

    Source: arXiv:1905.10124, with the double sum over pairs multiplied out.
    """
    lines = []
    for points in (first, second):
        centred = points - points.mean(0)
        scaled = centred / centred.square().sum(1).mean().clamp(min=1e-12).sqrt()
        padded = functional.pad(scaled, (0, directions.shape[1] - points.shape[1]))
        along = padded @ functional.normalize(directions, dim=1).t()
        lines.append(along.sort(0).values)
    a, b = lines
    return torch.minimum(_pair_cost(a, b), _pair_cost(a, b.flip(0))).mean()


def _pair_cost(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Return the mean over pairs of ((a_i - a_j)^2 - (b_i - b_j)^2)^2, of centred columns."""
    n = len(a)
    a2, b2, ab = a.square().sum(0), b.square().sum(0), (a * b).sum(0)
    fourth = a.pow(4).sum(0) + b.pow(4).sum(0) - 2 * (a * b).square().sum(0)
    cost = 2 * n * fourth + 6 * (a2.square() + b2.square()) - 4 * a2 * b2 - 8 * ab.square()
    return cost / n**2


def edges_of(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the strength of edges, 0..1: Sobel's, of the mean of the channels, clipped."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=pixels.device)
    kernels = torch.stack([across, across.t()])[:, None]
    grey = functional.pad(pixels.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    slopes = functional.conv2d(grey, kernels)
    return slopes.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt().clamp(max=1)


_Past: TypeAlias = tuple[Tensor, Tensor]


_SPREAD = 0.02
"""Standard deviation of codes and positions when training begins."""


class _Layer(nn.Module):
    """Attention to what came before, and a perceptron."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.asked, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.inner = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden)
        )

    def forward(
        self, tokens: Float[Tensor, "b t d"], past: _Past | None = None
    ) -> tuple[Float[Tensor, "b t d"], _Past]:
        batch, length, hidden = tokens.shape
        split = (batch, length, 3, self.heads, hidden // self.heads)
        query, key, value = self.asked(self.first(tokens)).view(split).permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        heard = functional.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        tokens = tokens + self.out(heard.transpose(1, 2).reshape(batch, length, hidden))
        return tokens + self.inner(self.second(tokens)), (key, value)


class IqVae(Generator):
    """Two quantisers and a transformer."""

    rewrites = True
    any_size = False
    picture_use: Tensor
    sheet_use: Tensor
    directions: Tensor
    sampled_steps: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.native_px = config, config.px
        self.abilities = frozenset({"sample", "map", "inpaint"})
        self.pictures = SmallAutoencoder(
            Design(config.stride, config.latent, "nearest", "vq", config.codes, config.width)
        )
        self.sheets = SmallAutoencoder(
            Design(
                *(config.stride, config.latent // 2, "nearest", "vq", config.codes // 2),
                *(config.width, PLANES),
            )
        )
        self.register_buffer("picture_use", torch.ones(config.codes))
        self.register_buffer("sheet_use", torch.ones(config.codes // 2))
        self.register_buffer("directions", torch.randn(config.directions, config.latent))
        self.register_buffer("sampled_steps", torch.zeros((), dtype=torch.long))
        cells = (config.px // config.stride) ** 2
        self.condition_code = nn.Embedding(config.codes // 2, config.hidden)
        self.picture_code = nn.Embedding(config.codes, config.hidden)
        for codes in (self.condition_code, self.picture_code):
            nn.init.normal_(codes.weight, std=_SPREAD)
        # The position that predicts a cell starts as that of the cell's condition, and no fainter than the codes:
        # otherwise short trainings never find out which condition belongs to which cell.
        places = _SPREAD * torch.randn(cells, config.hidden)
        self.position = nn.Parameter(torch.cat([places, places.roll(-1, 0)]))
        self.layers = nn.ModuleList(
            _Layer(config.hidden, config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.hidden)
        self.head = nn.Linear(config.hidden, config.codes)

    def tokens(self, pixels: Float[Tensor, "b 3 s s"]) -> Int[Tensor, "b n"]:
        """Return a picture's codes, row by row."""
        return self.pictures.nearest(self.pictures.free(pixels)).flatten(1)

    def condition_tokens(self, sheet: Float[Tensor, "b 5 s s"]) -> Int[Tensor, "b n"]:
        """Return a condition's codes, row by row."""
        return self.sheets.nearest(self.sheets.free(sheet)).flatten(1)

    def decoded(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b 3 s s"]:
        """Return the picture of codes, 0..1."""
        side = self.config.px // self.config.stride
        latent = _book(self.pictures)(tokens).unflatten(1, (side, side)).movedim(-1, 1)
        return self.pictures.painted(latent).clamp(0, 1)

    def logits(
        self, condition: Int[Tensor, "b n"], embedded: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b n c"]:
        """Predict each picture code from the condition and the codes before it, which come embedded."""
        prefix = torch.cat([self.condition_code(condition), embedded[:, :-1]], 1)
        hidden = prefix + self.position[: prefix.shape[1]]
        for layer in self.layers:
            hidden, _ = layer(hidden)
        found: Tensor = self.head(self.norm(hidden[:, condition.shape[1] - 1 :]))
        return found

    def sample(
        self, condition: Condition | None, size: tuple[int, int], rng: np.random.Generator
    ) -> Image:
        """Draw after edges (white on black) or from nothing."""
        self.require("sample", size)
        sheet = torch.zeros(1, PLANES, *size, device=self.device)
        if isinstance(condition, str):
            self.class_of(condition)
        if condition is not None:
            edges = np.asarray(condition)
            self.require("map", (edges.shape[0], edges.shape[1]))
            sheet[:, :1] = to_pixels(edges).mean(1, keepdim=True).to(self.device)
        return to_image(self.decoded(self.drawn_tokens(sheet, None, rng)))

    def inpaint(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Fill the mask; codes of cells that it does not touch are kept, and everything is decoded."""
        self.require("inpaint", (image.shape[0], image.shape[1]))
        pixels = to_pixels(image).to(self.device)
        known = torch.from_numpy(~mask)[None, None].to(self.device)
        sheet = torch.cat([torch.zeros_like(pixels[:, :1]), pixels * known, known.float()], 1)
        touched = functional.max_pool2d((~known).float(), self.config.stride)[0, 0] > 0
        kept = torch.where(touched.flatten(), -1, self.tokens(pixels)[0])
        return to_image(self.decoded(self.drawn_tokens(sheet, kept, rng)))

    @torch.no_grad()
    def drawn_tokens(
        self,
        sheet: Float[Tensor, "1 5 s s"],
        kept: Int[Tensor, " n"] | None,
        rng: np.random.Generator,
    ) -> Int[Tensor, "1 n"]:
        """Draw codes one after another.

        Args:
            sheet: The condition.
            kept: Codes that stand already; -1 where one is to be drawn. None: all are drawn.
            rng: Of the draws.
        """
        condition = self.condition_tokens(sheet)
        count = condition.shape[1]
        hidden = self.condition_code(condition) + self.position[:count]
        pasts: list[_Past | None] = [None] * len(self.layers)
        chosen: list[int] = []
        for place in range(count):
            for index, layer in enumerate(self.layers):
                hidden, pasts[index] = layer(hidden, pasts[index])
            logits = self.head(self.norm(hidden[:, -1]))[0]
            token = -1 if kept is None else int(kept[place])
            chosen.append(self._drawn(logits, rng) if token < 0 else token)
            code = self.picture_code(torch.tensor([[chosen[-1]]], device=self.device))
            hidden = code + self.position[count + place]
        return torch.tensor([chosen], device=self.device)

    def _drawn(self, logits: Float[Tensor, " c"], rng: np.random.Generator) -> int:
        best = logits.float().topk(min(self.config.likeliest, len(logits)))
        shares = best.values.softmax(0).double().cpu().numpy()
        return int(best.indices[rng.choice(len(shares), p=shares / shares.sum())])


def _book(coder: SmallAutoencoder) -> nn.Embedding:
    codes = coder.codes
    assert codes is not None  # noqa: S101 - its design is "vq"
    return codes


def sheets_for(
    pixels: Float[Tensor, "b 3 s s"], chances: Float[Tensor, "b 5"]
) -> Float[Tensor, "b 5 s s"]:
    """Make the conditions of a training batch: edges, a photo with a hole, or nothing.

    Args:
        pixels: 0..1.
        chances: Uniform numbers: below 0.45 edges, below 0.9 a hole, else nothing; then the hole's place and size.
    """
    side = pixels.shape[-1]
    grid = torch.arange(side, device=pixels.device) / side
    extent = 0.25 + 0.5 * chances[:, 3:5]
    start = chances[:, 1:3] * (1 - extent)
    inside = (grid >= start[..., None]) & (grid < (start + extent)[..., None])
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]
    wants = chances[:, 0, None, None, None]
    edges = edges_of(pixels) * (wants < 0.45)
    known = ~hole[:, None] & (wants >= 0.45) & (wants < 0.9)
    return torch.cat([edges, pixels * known, known.float()], 1)


def _quantising(network: IqVae, shown: Shown) -> dict[str, Tensor]:
    pixels = shown.pictures.to(network.device)
    sheet = sheets_for(pixels, torch.rand(len(pixels), PLANES, device=pixels.device))
    bands = BandEnergies(8, grey_levels=255.0).to(pixels.device)
    terms, latents = {}, []
    for name, coder, given, use in (
        ("picture", network.pictures, pixels, network.picture_use),
        ("sheet", network.sheets, sheet, network.sheet_use),
    ):
        latent = coder.free(given)
        coded = coder.quantised(latent, _book(coder))
        painted = coder.painted(coded.latent)
        terms[name] = (functional.l1_loss if name == "picture" else functional.mse_loss)(
            painted, given
        )
        terms[f"{name}_codes"] = coded.penalty
        latents.append(latent.movedim(1, -1).flatten(0, 2))
        _revive(coder, latents[-1].detach(), use)
        if name == "picture":
            terms["bands"] = 0.01 * functional.l1_loss(bands(painted), bands(given))
    if network.config.coupling:
        terms["coupling"] = network.config.coupling * sliced_gromov_wasserstein(
            latents[0], latents[1], network.directions
        )
    return terms


@torch.no_grad()
def _revive(coder: SmallAutoencoder, cells: Float[Tensor, "n d"], use: Float[Tensor, " c"]) -> None:
    """Move codes that nothing is near to, to where something is; otherwise a few codes take everything."""
    codes = _book(coder)
    nearest = coder.nearest(cells[:, :, None, None]).flatten()
    counts = torch.bincount(nearest, minlength=len(use)).float()
    use.mul_(_USE_DECAY).add_((1 - _USE_DECAY) * counts * len(use) / len(cells))
    dead = (use < _DEAD).nonzero().flatten()
    moved = torch.randint(len(cells), (len(dead),), device=cells.device)
    codes.weight[dead] = cells[moved]
    use[dead] = 1.0


def _predicting(network: IqVae, shown: Shown) -> dict[str, Tensor]:
    pixels = shown.pictures.to(network.device)
    with torch.no_grad():
        sheet = sheets_for(pixels, torch.rand(len(pixels), PLANES, device=pixels.device))
        condition, tokens = network.condition_tokens(sheet), network.tokens(pixels)
    true = network.picture_code(tokens)
    logits = network.logits(condition, true)
    terms = {"likelihood": functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())}
    network.sampled_steps += 1
    if network.config.replaced and int(network.sampled_steps) % _SAMPLED_ONCE_IN == 0:
        mixed = _mixed(network, logits, true, tokens)
        again = network.logits(condition, mixed)
        terms["sampled"] = functional.cross_entropy(again.flatten(0, 1), tokens.flatten())
    return terms


def _mixed(
    network: IqVae,
    logits: Float[Tensor, "b n c"],
    true: Float[Tensor, "b n d"],
    tokens: Int[Tensor, "b n"],
) -> Float[Tensor, "b n d"]:
    """Put sampled codes in the place of true ones, the more often the likelier the true one was thought to be."""
    sampled = gumbel_sampled(logits, torch.rand_like(logits), network.config.temperature)
    risen = min(1.0, int(network.sampled_steps) / network.config.rising)
    reliable = logits.detach().softmax(-1).gather(-1, tokens[..., None])[..., 0]
    chosen: Bool[Tensor, "b n"] = (
        torch.rand_like(reliable) < network.config.replaced * risen * reliable
    )
    return torch.where(chosen[..., None], sampled @ network.picture_code.weight, true)


def gumbel_sampled(
    logits: Float[Tensor, "*b c"], uniform: Float[Tensor, "*b c"], temperature: float
) -> Float[Tensor, "*b c"]:
    """Return one sampled code, as ones and zeros whose gradient is that of a softmax."""
    noise = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    soft = ((logits + noise) / temperature).softmax(-1)
    hard = functional.one_hot(soft.argmax(-1), logits.shape[-1]).to(soft.dtype)
    return hard + soft - soft.detach()


def _quantisers(network: IqVae) -> Iterator[nn.Parameter]:
    return chain(network.pictures.parameters(), network.sheets.parameters())


def _transformer(network: IqVae) -> Iterator[nn.Parameter]:
    modules = (
        network.condition_code,
        network.picture_code,
        network.layers,
        network.norm,
        network.head,
    )
    return chain([network.position], *(module.parameters() for module in modules))


def code_use(network: IqVae, pixels: Float[Tensor, "b 3 s s"]) -> float:
    """Return how evenly these pictures use the codes: the exponential of the entropy, as a share of all codes."""
    counts = torch.bincount(network.tokens(pixels).flatten(), minlength=network.config.codes)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * shares.log()).sum())
    codes: int = network.config.codes
    return math.exp(entropy) / codes


GENERATOR = GeneratorKind(
    title="IQ-VAE (after the paper)",
    paper="arXiv:2207.10776",
    family="autoregressive",
    licence="none published; what you train is yours",
    config=Config(),
    tiny=Config(
        px=16, stride=4, codes=8, latent=4, width=4, directions=4, layers=1, hidden=16, heads=2
    ),
    build=IqVae,
    stages=(
        Stage("quantisers", _quantising, _quantisers, 0.5),
        Stage("transformer", _predicting, _transformer, 0.5),
    ),
)
