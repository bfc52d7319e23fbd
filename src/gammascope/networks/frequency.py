"""Local spectra: how strong each spatial frequency is, cell by cell, on a logarithmic scale."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
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
