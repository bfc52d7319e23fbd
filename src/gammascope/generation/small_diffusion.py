"""A small diffusion model in pixels, to be trained on a desk: samples, inpaints, edits, and goes against a detector.

It is convolutional, with attention among its coarsest cells alone, so it takes photos of any size; what it draws from
nothing is coherent only near the size it was trained on.

Source: our design. Diffusion: arXiv:2006.11239; what is predicted, and its schedule: arXiv:2202.00512; deterministic
steps: arXiv:2010.02502; guidance without a classifier: arXiv:2207.12598; edits from a noised photo: arXiv:2108.01073;
known pixels put back at each step: arXiv:2201.09865, without its resampling; guidance by a critic: arXiv:2105.05233.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import RecipeError
from gammascope.generation.base import (
    Ability,
    Condition,
    Critic,
    Generator,
    GeneratorKind,
    Shown,
    Stage,
    drawn,
    to_image,
    to_pixels,
)
from gammascope.sample import Image, Mask

_GROUPS = 4
_ANGLES = 32
_DROPPED = 0.1
"""Share of classes hidden in training, so that there is something to guide away from."""


@dataclass(frozen=True, slots=True)
class Config:
    """How it is built and sampled.

    Attributes:
        px: Side of training pictures.
        width: Channels at full resolution; twice as many after each halving, at most four times.
        halvings: 3: a coarsest cell has 8 pixels.
        classes: Names; none: nothing can be asked for.
        steps: Of sampling.
        guidance: 1 follows the class as learnt, more exaggerates it.
        push: Of the critic, where there is one, in units of the noise.
    """

    px: int = 64
    width: int = 32
    halvings: int = 3
    classes: tuple[str, ...] = ()
    steps: int = 50
    guidance: float = 2.0
    push: float = 0.1

    def __post_init__(self) -> None:
        if self.width % _GROUPS or self.width < 1:
            raise RecipeError(f"width={self.width}: expected a multiple of {_GROUPS}.")
        if self.halvings < 1 or self.px < 1 or self.px % 2**self.halvings:
            raise RecipeError(f"px={self.px}: expected a multiple of {2**self.halvings}.")
        if self.steps < 1:
            raise RecipeError(f"steps={self.steps}: expected 1 or more.")
        if not (math.isfinite(self.guidance) and math.isfinite(self.push)):
            raise RecipeError(
                f"guidance={self.guidance}, push={self.push}: expected finite numbers."
            )


class _Block(nn.Module):
    """Two convolutions beside a straight path, told how noisy the picture is and what it shows."""

    def __init__(self, came: int, width: int, told: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(_GROUPS, came), nn.SiLU(), nn.Conv2d(came, width, 3, padding=1)
        )
        self.told = nn.Linear(told, 2 * width)
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        self.straight = nn.Conv2d(came, width, 1) if came != width else nn.Identity()

    def forward(
        self, grid: Float[Tensor, "b c y x"], told: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b d y x"]:
        scale, shift = self.told(told)[..., None, None].chunk(2, 1)
        inner = functional.silu(self.norm(self.first(grid)) * (1 + scale) + shift)
        result: Tensor = self.straight(grid) + self.second(inner)
        return result


class _Attention(nn.Module):
    """All cells look at each other."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.asked = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d y x"]:
        batch, width, rows, columns = grid.shape
        split = (batch, 3, self.heads, width // self.heads, rows * columns)
        query, key, value = self.asked(self.norm(grid)).view(split).transpose(-1, -2).unbind(1)
        heard = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = grid + self.out(heard.transpose(-1, -2).reshape(grid.shape))
        return result


class SmallDiffusion(Generator):
    """Predicts, from a noisy picture, the velocity between its noise and what is behind it."""

    rewrites = False
    any_size = True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.native_px = config, config.px
        named: frozenset[Ability] = frozenset({"class"} if config.classes else ())
        self.abilities = frozenset[Ability]({"sample", "inpaint", "edit", "guided"}) | named
        told = 4 * config.width
        self.time = nn.Sequential(
            nn.Linear(2 * _ANGLES, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU()
        )
        self.named = nn.Embedding(len(config.classes) + 1, told)  # the last one: nothing is asked
        widths = [config.width * min(2**level, 4) for level in range(config.halvings + 1)]
        self.enter = nn.Conv2d(3, widths[0], 3, padding=1)
        last, steps = widths[-1], list(pairwise(widths))
        self.down = nn.ModuleList(_Block(fine, fine, told) for fine, _ in steps)
        self.halve = nn.ModuleList(nn.Conv2d(fine, coarse, 3, 2, 1) for fine, coarse in steps)
        self.before = _Block(last, last, told)
        self.attend = _Attention(last)
        self.after = _Block(last, last, told)
        steps.reverse()
        self.widen = nn.ModuleList(nn.Conv2d(coarse, fine, 3, padding=1) for fine, coarse in steps)
        self.up = nn.ModuleList(_Block(2 * fine, fine, told) for fine, _ in steps)
        last_layer = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(last_layer.weight)
        self.leave = nn.Sequential(nn.GroupNorm(_GROUPS, widths[0]), nn.SiLU(), last_layer)

    def forward(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        time: Float[Tensor, " b"],
        classes: Int[Tensor, " b"],
    ) -> Float[Tensor, "b 3 h w"]:
        """Predict ``signal(t) * e - noise(t) * x``.

        Args:
            noisy: ``signal(t) * x + noise(t) * e``, x in -1..1, sides multiples of the coarsest cell.
            time: 0 no noise, 1 nothing else.
            classes: -1: none.
        """
        rates = torch.exp(torch.linspace(0, math.log(1000), _ANGLES, device=time.device))
        angles = time[:, None] * rates
        told = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        told = told + self.named(torch.where(classes < 0, len(self.config.classes), classes))
        grid = self.enter(noisy)
        passed = []
        for block, halve in zip(self.down, self.halve, strict=True):
            grid = block(grid, told)
            passed.append(grid)
            grid = halve(grid)
        grid = self.after(self.attend(self.before(grid, told)), told)
        for widen, block in zip(self.widen, self.up, strict=True):
            grid = widen(functional.interpolate(grid, scale_factor=2.0))
            grid = block(torch.cat([grid, passed.pop()], 1), told)
        result: Tensor = self.leave(grid)
        return result

    def sample(
        self, condition: Condition | None, size: tuple[int, int], rng: np.random.Generator
    ) -> Image:
        """Write a picture, of a class if one is named."""
        self.require("sample", size)
        label = self.class_of(condition)
        padded = self._padded(size)
        return self._written(drawn((1, 3, *padded), rng), 1.0, label, size)

    def inpaint(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Fill the mask; all other pixels are the photo's."""
        known = self._framed(image)
        rim = [0, known.shape[-1] - mask.shape[1], 0, known.shape[-2] - mask.shape[0]]
        open_ = functional.pad(torch.from_numpy(mask)[None, None].float(), rim).to(self.device)
        fixed = drawn(tuple(known.shape), rng).to(self.device)

        def put_back(noisy: Tensor, time: float) -> Tensor:
            signal, noise = _levels(time)
            return open_ * noisy + (1 - open_) * (signal * known + noise * fixed)

        start = drawn(tuple(known.shape), rng)
        written = self._written(start, 1.0, -1, (image.shape[0], image.shape[1]), put_back)
        return np.where(mask[..., None], written, image)

    def edit(self, image: Image, prompt: str, strength: float, rng: np.random.Generator) -> Image:
        """Noise the photo as far as ``strength`` says, and denoise it; the prompt is a class."""
        if not 0 <= strength <= 1:
            raise RecipeError(f"strength={strength}: expected 0..1.")
        label = self.class_of(prompt or None)
        return self._edited(image, strength, label, rng)

    def guided(self, image: Image, critic: Critic, rng: np.random.Generator) -> Image:
        """Noise the photo halfway and denoise it down the critic's slope."""
        height, width = image.shape[:2]

        def slope(clean: Tensor) -> Tensor:
            with torch.enable_grad():
                asked = clean.detach().requires_grad_()
                logit = critic(((asked + 1) / 2)[..., :height, :width]).sum()
                (found,) = torch.autograd.grad(logit, asked)
            return found / found.square().mean().sqrt().clamp(min=1e-12)

        return self._edited(image, 0.5, -1, rng, slope)

    def _edited(
        self,
        image: Image,
        strength: float,
        label: int,
        rng: np.random.Generator,
        slope: Callable[[Tensor], Tensor] | None = None,
    ) -> Image:
        known = self._framed(image)
        signal, noise = _levels(strength)
        noisy = signal * known + noise * drawn(tuple(known.shape), rng).to(self.device)
        size = (image.shape[0], image.shape[1])
        return self._written(noisy, strength, label, size, slope=slope)

    @torch.no_grad()
    def _written(
        self,
        noisy: Tensor,
        start: float,
        label: int,
        size: tuple[int, int],
        put_back: Callable[[Tensor, float], Tensor] = lambda noisy, _: noisy,
        slope: Callable[[Tensor], Tensor] | None = None,
    ) -> Image:
        """Denoise from time ``start`` to 0; a part of the schedule takes a part of the steps."""
        noisy = noisy.to(self.device)
        times = np.linspace(start, 0, max(1, math.ceil(self.config.steps * start)) + 1)
        for now, then in pairwise(times.tolist()):
            noisy = put_back(noisy, now)
            signal, noise = _levels(now)
            predicted = self._predicted(noisy, now, label)
            clean = (signal * noisy - noise * predicted).clamp(-1, 1)
            if slope is not None:
                clean = (clean - self.config.push * noise * slope(clean)).clamp(-1, 1)
            # At no noise at all nothing was mixed in, and nothing can be told apart.
            mixed_in = (noisy - signal * clean) / max(noise, 1e-6)
            signal, noise = _levels(then)
            noisy = signal * clean + noise * mixed_in
        return to_image(((noisy + 1) / 2)[..., : size[0], : size[1]])

    def _predicted(self, noisy: Tensor, time: float, label: int) -> Tensor:
        at = torch.full((len(noisy),), time, device=noisy.device)
        asked = torch.full((len(noisy),), label, device=noisy.device)
        predicted: Tensor = self(noisy, at, asked)
        if label < 0 or self.config.guidance == 1:
            return predicted
        free: Tensor = self(noisy, at, torch.full_like(asked, -1))
        guided: Tensor = free + self.config.guidance * (predicted - free)
        return guided

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        cell = 2**self.config.halvings
        if min(size) < cell:
            raise RecipeError(
                f"{size[1]} x {size[0]} px: {self.name} needs {cell} px on each side."
            )
        return size[0] + -size[0] % cell, size[1] + -size[1] % cell

    def _framed(self, image: Image) -> Float[Tensor, "1 3 rows columns"]:
        height, width = image.shape[:2]
        rows, columns = self._padded((height, width))
        rim = [0, columns - width, 0, rows - height]
        return functional.pad(2 * to_pixels(image).to(self.device) - 1, rim, mode="reflect")


def _levels(time: float) -> tuple[float, float]:
    """Return how much of a picture and how much noise there is."""
    angle = time * math.pi / 2
    return math.cos(angle), math.sin(angle)


def _terms(network: SmallDiffusion, shown: Shown) -> dict[str, Tensor]:
    count = len(shown.pictures)
    time = torch.rand(count, device=network.device)
    angle = (time * math.pi / 2)[:, None, None, None]
    clean, noise = 2 * shown.pictures - 1, torch.randn_like(shown.pictures)
    noisy = angle.cos() * clean + angle.sin() * noise
    wanted = angle.cos() * noise - angle.sin() * clean
    hidden = torch.rand(count, device=network.device) < _DROPPED
    classes = torch.where(hidden, -1, shown.classes)
    return {"velocity": functional.mse_loss(network(noisy, time, classes), wanted)}


def _all(network: SmallDiffusion) -> Iterator[nn.Parameter]:
    return network.parameters()


GENERATOR = GeneratorKind(
    title="Small diffusion model",
    paper="arXiv:2006.11239",
    family="diffusion",
    licence="none published; what you train is yours",
    config=Config(),
    tiny=Config(px=16, width=8, halvings=2, classes=("dog", "cat"), steps=3),
    build=SmallDiffusion,
    stages=(Stage("velocity", _terms, _all),),
)
