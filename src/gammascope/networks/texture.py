"""How textured the patches of a view are, and masks that follow it (MPFT's texture-aware masking)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from gammascope.networks.patches import cut

MaskLaw: TypeAlias = Literal["texture", "random", "smooth"]
"""Which patches go first: the most textured, any, or the smoothest. The last two are controls."""


def texture(grey: Float[Tensor, "b h w"], patch: int) -> Float[Tensor, "b gh gw"]:
    """Return the mean absolute difference of neighbouring pixels in each patch, over four directions, smoothed.

    The sum over right, below and both diagonals, of neighbours within the patch; then averaged over 3 x 3 patches, at
    the border over those that exist. In units of the input.

    Source: arXiv:2601.03586 names texture, not its measure; this one is our reading, after PatchCraft's.
    """
    rows, columns = grey.shape[1] // patch, grey.shape[2] // patch
    p = cut(grey[:, None], patch)[:, :, 0]
    steps = (
        p[..., :, 1:] - p[..., :, :-1],
        p[..., 1:, :] - p[..., :-1, :],
        p[..., 1:, 1:] - p[..., :-1, :-1],
        p[..., 1:, :-1] - p[..., :-1, 1:],
    )
    strength = torch.stack([step.abs().mean((2, 3)) for step in steps]).sum(0)
    grid = strength.reshape(len(grey), 1, rows, columns)
    return functional.avg_pool2d(grid, 3, stride=1, padding=1, count_include_pad=False)[:, 0]


def mask_of(
    strength: Float[Tensor, "b n"],
    share: Float[Tensor, " b"],
    law: MaskLaw,
    *,
    noise: float = 0.1,
) -> Bool[Tensor, "b n"]:
    """Choose the patches to hide: exactly ``floor(share * n)`` of each view.

    Args:
        strength: How textured each patch is.
        share: Of the patches, per view, 0..1.
        law: Which patches go first.
        noise: Gumbel noise on the strengths, in standard deviations of the view, so that the pattern varies.
    """
    uniform = torch.rand_like(strength).clamp(1e-6, 1 - 1e-6)
    if law == "random":
        order = uniform
    else:
        spread = strength.std(1, keepdim=True, correction=0)
        gumbel = -torch.log(-torch.log(uniform))
        order = (1.0 if law == "texture" else -1.0) * strength + noise * spread * gumbel
    place = order.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    # The nudge keeps 0.3 * 10, which is just below 3 in binary, from losing a patch.
    count = torch.floor(share * strength.shape[1] + 1e-4)
    return place < count[:, None]


def hidden_pixels(
    pixels: Float[Tensor, "b c h w"], mask: Bool[Tensor, "b n"], patch: int
) -> Float[Tensor, "b c h w"]:
    """Fill the hidden patches of each view with its mean colour."""
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    whole = mask.reshape(len(mask), 1, rows, columns)
    whole = whole.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    rest = (0, pixels.shape[3] - columns * patch, 0, pixels.shape[2] - rows * patch)
    return torch.where(functional.pad(whole, rest), pixels.mean((2, 3), keepdim=True), pixels)


def shares(count: int, lowest: float, highest: float, probability: float) -> list[float]:
    """Draw how much of each of ``count`` views is hidden: nothing, or uniformly between two shares."""
    drawn = torch.rand(count, 2).tolist()
    return [
        lowest + (highest - lowest) * share if chance < probability else 0.0
        for chance, share in drawn
    ]


def kept_of(mask: Bool[Tensor, "b n"]) -> Int[Tensor, "b k"]:
    """Return the places of the patches that are seen, in their order; the same number in every view.

    Raises:
        ValueError: If the views hide different numbers of patches.
    """
    counts = {int(count) for count in mask.sum(1)}
    if len(counts) != 1:
        raise ValueError(f"The views hide {sorted(counts)} patches: expected the same number.")
    return mask.int().argsort(dim=1, stable=True)[:, : mask.shape[1] - counts.pop()]
