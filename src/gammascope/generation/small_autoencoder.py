"""Small autoencoders of many designs, to be trained on a desk: decoders whose traces differ.

A detector that saw one decoder learns that decoder. Published autoencoders differ in their bottleneck (continuous,
KL-regularised, vector-quantised), in how far they reduce, and above all in how their decoders go up again, which is
what leaves a pattern. Here each of those is a choice, in a few hundred thousand parameters.

Source: our design. Upsampling and the traces it leaves: arXiv:2003.01826; sub-pixel convolution: arXiv:1609.05158;
vector quantisation: arXiv:1711.00937, with the straight-through gradient of its eq. (3).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope import settings
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.generation.base import stored

FILE = "autoencoder.safetensors"
"""Name of the file in an autoencoder's folder."""

METADATA = "gammascope.autoencoder"
"""Key under which that file holds its design."""

Upsampling: TypeAlias = Literal["nearest", "bilinear", "transposed", "pixel_shuffle"]
Bottleneck: TypeAlias = Literal["plain", "kl", "vq"]


@dataclass(frozen=True, slots=True)
class Design:
    """How an autoencoder is built.

    Attributes:
        stride: Pixels per latent cell: 4, 8 or 16.
        latent_channels: Of the latent.
        upsampling: How the decoder doubles its resolution.
        bottleneck: "plain": a free latent; "kl": a Gaussian one, of which inference takes the mean; "vq": the nearest
            of ``codes`` vectors.
        codes: Size of the code book.
        width: Channels at full resolution; twice as many after each halving, at most four times.
        channels: Of the picture: 3, unless something other than a picture is coded.
    """

    stride: int = 8
    latent_channels: int = 16
    upsampling: Upsampling = "nearest"
    bottleneck: Bottleneck = "plain"
    codes: int = 1024
    width: int = 16
    channels: int = 3

    def __post_init__(self) -> None:
        if self.stride not in {4, 8, 16}:
            raise RecipeError(f"stride={self.stride}: expected 4, 8 or 16.")
        if min(self.latent_channels, self.codes, self.width, self.channels) < 1:
            raise RecipeError(
                f"latent_channels={self.latent_channels}, codes={self.codes}, width={self.width}, "
                f"channels={self.channels}: expected 1 or more."
            )


class Coded(NamedTuple):
    """A latent on its way from encoder to decoder.

    Attributes:
        latent: What the decoder gets.
        penalty: What the bottleneck adds to the loss, a scalar.
    """

    latent: Float[Tensor, "b c y x"]
    penalty: Float[Tensor, ""]


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside an identity path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "b d y x"]:
        result: Tensor = grid + self.inner(grid)
        return result


class SmallAutoencoder(nn.Module):
    """An autoencoder of a given design; the one of ``generation.autoencoder.Autoencoder``'s kind that can be trained.

    >>> network = SmallAutoencoder(Design(stride=4, latent_channels=3, upsampling="transposed", width=4))
    >>> tuple(network.encode(torch.zeros(1, 3, 16, 8)).shape)
    (1, 3, 4, 2)
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        halvings = int(math.log2(design.stride))
        widths = [design.width * min(2**level, 4) for level in range(halvings + 1)]
        statistics = 2 if design.bottleneck == "kl" else 1
        down: list[nn.Module] = [nn.Conv2d(design.channels, widths[0], 3, padding=1)]
        for fine, coarse in pairwise(widths):
            down += [nn.Conv2d(fine, coarse, 4, stride=2, padding=1), _Block(coarse)]
        down += [
            nn.SiLU(),
            nn.Conv2d(widths[-1], statistics * design.latent_channels, 3, padding=1),
        ]
        up: list[nn.Module] = [nn.Conv2d(design.latent_channels, widths[-1], 3, padding=1)]
        for fine, coarse in zip(reversed(widths[:-1]), reversed(widths[1:]), strict=True):
            up += [_Block(coarse), *_doubling(design.upsampling, coarse, fine)]
        last = nn.Conv2d(widths[0], design.channels, 3, padding=1)
        up += [_Block(widths[0]), nn.SiLU(), last]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.codes: nn.Embedding | None = None
        if design.bottleneck == "vq":
            self.codes = nn.Embedding(design.codes, design.latent_channels)

    @classmethod
    def from_folder(cls, folder: Path) -> SmallAutoencoder:
        """Load what training wrote; the design is in the file.

        Raises:
            MissingDataError: If the folder has no such file.
            IncompatibleCheckpointError: If the file is no autoencoder of this kind.
        """
        from safetensors import SafetensorError

        path = folder / FILE
        if not path.is_file():
            raise MissingDataError(f"No {FILE} in {folder}.")
        try:
            text, state = stored(path, METADATA)
            network = cls(settings.parse(Design, json.loads(text), str(path)))
            network.load_state_dict(state)
        except (SafetensorError, RuntimeError, ValueError, RecipeError) as error:
            raise IncompatibleCheckpointError(
                f"{path} is no autoencoder of ours: {error}"
            ) from error
        return network.eval().requires_grad_(requires_grad=False)

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.design.stride

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def coded(self, pixels: Float[Tensor, "b p h w"]) -> Coded:
        """Encode pixels (0..1) as in training: Gaussian latents are sampled, quantised ones carry gradients across."""
        latent = self.free(pixels)
        free = torch.zeros((), device=latent.device)
        if self.codes is not None:
            return self.quantised(latent, self.codes)
        if self.design.bottleneck == "plain":
            return Coded(latent, free)
        mean, log_variance = latent.chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 5)
        # Kullback-Leibler divergence to the standard normal, per cell and channel. Source: arXiv:1312.6114, app. B.
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        if not self.training:
            return Coded(mean, divergence)
        return Coded(mean + torch.randn_like(mean) * (0.5 * log_variance).exp(), 1e-4 * divergence)

    def free(self, pixels: Float[Tensor, "b p h w"]) -> Float[Tensor, "b c y x"]:
        """Return what the encoder says, before any bottleneck."""
        latent: Tensor = self.down(2 * pixels.to(self.device) - 1)
        return latent

    def nearest(self, latent: Float[Tensor, "b c y x"]) -> Int[Tensor, "b y x"]:
        """Return the index of each cell's nearest code, of a quantising design."""
        if self.codes is None:
            raise ValueError(f"A {self.design.bottleneck!r} bottleneck has no codes.")
        cells = latent.movedim(1, -1)
        book = self.codes.weight.to(cells.dtype)
        # |a - b|^2 without the part that does not depend on the code.
        indices: Tensor = (book.square().sum(1) - 2 * cells @ book.t()).argmin(-1)
        return indices

    def encode(self, pixels: Float[Tensor, "b p h w"]) -> Float[Tensor, "b c y x"]:
        """Map pixels (0..1) to latents; nothing is sampled in evaluation mode."""
        return self.coded(pixels).latent

    def decode(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b p h w"]:
        """Map latents to pixels, clipped to 0..1; a quantising design rounds them to its codes first."""
        latent = latent.to(self.device)
        if self.codes is not None:  # noise on a quantised latent lands on another code
            latent = self.quantised(latent, self.codes).latent
        return self.painted(latent).clamp(0, 1)

    def painted(self, latent: Float[Tensor, "b c y x"]) -> Float[Tensor, "b p h w"]:
        """Decode without clipping, for training."""
        result: Tensor = (self.up(latent) + 1) / 2
        return result

    def quantised(self, latent: Float[Tensor, "b c y x"], codes: nn.Embedding) -> Coded:
        """Take the nearest codes for a free latent; gradients go across."""
        nearest = codes(self.nearest(latent)).movedim(-1, 1).to(latent.dtype)
        penalty = functional.mse_loss(nearest, latent.detach()) + 0.25 * functional.mse_loss(
            latent, nearest.detach()
        )
        return Coded(latent + (nearest - latent).detach(), penalty)


def _doubling(upsampling: Upsampling, coarse: int, fine: int) -> list[nn.Module]:
    """Return layers that double the resolution, each in its own way."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1)]
    if upsampling == "pixel_shuffle":
        return [nn.Conv2d(coarse, 4 * fine, 3, padding=1), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2, mode=upsampling), nn.Conv2d(coarse, fine, 3, padding=1)]
