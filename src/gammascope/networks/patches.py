"""Square patches of a view: cut, measured, chosen and laid out again."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gammascope.networks.frequency import LUMA


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
