"""Local spectra: the log energy of each spatial frequency, cell by cell, and patches chosen by their spectra."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness. Source: ITU-R BT.601."""

# Rows: luma, and the blue and red differences. Source: ITU-R BT.601, without the offset and gain of chroma.
_CHANNELS = (LUMA, (-0.299, -0.587, 1 - 0.114), (1 - 0.299, -0.587, -0.114))


class BandEnergies(nn.Module):
    """Log energies of overlapping DCT blocks in luma and two colour differences.

    Decoders of generators leave too much, too little or periodic energy in high frequencies. In pixels that is
    a ratio between faint signals, which a small network is slow to find; as log energies it is a difference of inputs.
    The filters are fixed, so nothing here is learnt.

    Source: our design; the orthonormal DCT-II as in Ahmed, Natarajan and Rao, 1974.

    Args:
        block: Side of a block, pixels; blocks overlap by half, so each cell of ``block // 2`` pixels has one.
        grey_levels: How many grey levels one unit of the input is: energies are measured in them.
    """

    filters: Tensor
    colours: Tensor

    def __init__(self, block: int, grey_levels: float) -> None:
        super().__init__()
        if block < 2 or block % 2:
            raise ValueError(f"block={block}: expected an even number of pixels.")
        self.block, self.stride = block, block // 2
        self.channels = 3 * (block * block - 1)
        self.register_buffer("filters", dct_filters(block), persistent=False)
        self.register_buffer("colours", grey_levels * torch.tensor(_CHANNELS), persistent=False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e gh gw"]:
        """Return the log energies; the grid is the view's size divided by ``stride``, rounded up.

        Always in float32: bfloat16 rounds pixels to half a grey level, and many traces are fainter.
        """
        with torch.autocast(pixels.device.type, enabled=False):
            batch, _, height, width = pixels.shape
            planes = torch.einsum("kc,bchw->bkhw", self.colours, pixels.float())
            low = (self.block - self.stride) // 2
            rows, columns = -(-height // self.stride), -(-width // self.stride)
            # Replication also works on views smaller than the border; what it adds has no high frequencies.
            margins = (
                low,
                (columns - 1) * self.stride + self.block - low - width,
                low,
                (rows - 1) * self.stride + self.block - low - height,
            )
            padded = functional.pad(planes, margins, mode="replicate").flatten(0, 1)[:, None]
            bands = functional.conv2d(padded, self.filters, stride=self.stride)
            # A tenth of a squared grey level: about the energy of rounding to whole levels.
            return torch.log(bands.square() + 0.1).reshape(batch, self.channels, rows, columns)


def dct_filters(block: int) -> Float[Tensor, "k 1 s s"]:
    """Return the orthonormal two-dimensional DCT-II basis without its constant, as convolution filters."""
    position = torch.arange(block, dtype=torch.float64)
    basis = torch.cos(math.pi / block * (position[None] + 0.5) * position[:, None])
    basis = basis * math.sqrt(2 / block)
    basis[0] /= math.sqrt(2)
    filters = torch.einsum("ui,vj->uvij", basis, basis).reshape(-1, 1, block, block)
    return filters[1:].float()


def cut(pixels: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b n c s s"]:
    """Cut views into patches, row by row; what is left over on the right and below is ignored.

    >>> cut(torch.zeros(2, 3, 65, 32), 16).shape
    torch.Size([2, 8, 3, 16, 16])
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height // side, width // side
    kept = pixels[:, :, : rows * side, : columns * side]
    tiles = kept.reshape(batch, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(batch, rows * columns, channels, side, side)


def lay_out(patches: Float[Tensor, "b n c s s"], columns: int) -> Float[Tensor, "b c h w"]:
    """Lay patches side by side, row by row: the reverse of ``cut``."""
    batch, count, channels, side, _ = patches.shape
    rows = count // columns
    grid = patches.reshape(batch, rows, columns, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(batch, channels, rows * side, columns * side)


def luma(
    pixels: Float[Tensor, "b c h w"], std: tuple[float, float, float]
) -> Float[Tensor, "b h w"]:
    """Return the brightness of normalised pixels in units of the full range, up to a constant."""
    weights = pixels.new_tensor([w * s for w, s in zip(LUMA, std, strict=True)])
    return torch.einsum("c,bchw->bhw", weights, pixels.float())


def spectral_entropy(grey: Float[Tensor, "b n s s"]) -> Float[Tensor, "b n"]:
    """Return the entropy of each patch's Fourier magnitudes without their constant, in nats.

    0 for a flat patch; at most ``log(s * s - 1)``, for a white spectrum. The constant is left out because brightness
    would drown everything else.

    Source: arXiv:2508.01248 (patch selection); leaving out the constant is our reading.
    """
    magnitude = torch.fft.fft2(grey.float()).abs().flatten(2)[..., 1:]
    total = magnitude.sum(2, keepdim=True)
    # A millionth of the range per pixel: below it there is rounding, and no texture.
    flat = total <= 1e-6 * magnitude.shape[2]
    share = magnitude / total.clamp(min=1e-12)
    entropy: Tensor = torch.special.entr(share).sum(2)
    return entropy.masked_fill(flat[..., 0], 0.0)


def extremes(values: Float[Tensor, "b n"], count: int) -> Int[Tensor, "b k"]:
    """Choose the patches of lowest and highest value, half each (one more of the lowest if odd), in their order.

    Where there are fewer than ``count``, all of them are taken, again from the first until there are enough.
    """
    there = values.shape[1]
    if there < count:
        once = torch.arange(there, device=values.device).expand(len(values), there)
        return once.repeat(1, math.ceil(count / there))[:, :count]
    ranked = values.argsort(dim=1, stable=True)
    low, high = ranked[:, : count - count // 2], ranked[:, there - count // 2 :]
    return torch.cat([low, high], 1).sort(1).values


def take(patches: Float[Tensor, "b n *p"], chosen: Int[Tensor, "b k"]) -> Float[Tensor, "b k *p"]:
    """Return the chosen patches of each view."""
    rows = torch.arange(len(patches), device=patches.device)[:, None]
    return patches[rows, chosen]
