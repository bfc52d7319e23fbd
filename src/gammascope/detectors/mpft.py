"""MPFT: fine-tune a pretrained encoder while the textured parts of its views are hidden (arXiv:2601.03586).

A reconstruction: only abstract and introduction were at hand. Theirs are the idea, masking-based fine-tuning with
texture-aware masking (TAM), and few training images; the measure of texture, the shares, the fill and the trained
blocks are our reading. Two controls, random and smooth-first masks of equal shares, stand behind one value of
``Config``: the claim only holds where texture beats them on images of aligned formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import AdaptedConfig, Detector, Loss, Method, tiny_clip, view_of
from gammascope.errors import RecipeError
from gammascope.networks.backbones import TransformerBackbone, for_config
from gammascope.networks.base import Backbone, Features
from gammascope.networks.frequency import cut, luma
from gammascope.networks.pretrained import in_house
from gammascope.prediction import Prediction

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


@dataclass(frozen=True, slots=True)
class Config(AdaptedConfig):
    """Sizes and choices of MPFT.

    Attributes:
        adapt: How a pretrained tower is trained.
        trained_blocks: Only so many last blocks, and with ``adapt="full"`` what follows them; 0: the whole tower.
        taps: Blocks whose patch tokens a tower gives out; this method reads none of them.
        mask: Which patches are hidden first in training; "none" for ablations.
        fill: "drop" leaves their tokens out, one share for a whole batch; "pixel" fills them with the view's mean
            colour, each view with a share of its own.
        patch: Side of a patch with "pixel" on a backbone without tokens, pixels.
        probability: Share of views (with "drop": of batches) in which anything is hidden.
        lowest: Least share of patches that is then hidden.
        highest: Greatest share of patches that is then hidden.
        noise: Gumbel noise on the order of patches, in standard deviations of their texture.
    """

    adapt: Literal["frozen", "lora", "full"] = "full"
    trained_blocks: int = 6
    taps: tuple[int, ...] = (1,)
    mask: MaskLaw | Literal["none"] = "texture"
    fill: Literal["drop", "pixel"] = "drop"
    patch: int = 16
    probability: float = 0.75
    lowest: float = 0.25
    highest: float = 0.75
    noise: float = 0.1


class MPFT(Detector):
    """Backbone and a linear head; in training, parts of the view are hidden from the backbone."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        has_tokens = isinstance(backbone, TransformerBackbone)
        self.patch = backbone.stride if has_tokens else config.patch
        self.classify = nn.Linear(backbone.token_channels, 1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label; the evidence is the texture that masking goes by."""
        strength = texture(luma(pixels, self.view.std), self.patch)
        law = self.config.mask
        hides = self.training and law != "none"
        seen = self.masked(pixels, strength, law) if hides else self.backbone(pixels)
        logit = self.classify(seen.token).squeeze(1).float()
        return Prediction(logit, answers={"generated": logit}, evidence={"texture": strength})

    def masked(
        self, pixels: Float[Tensor, "b 3 h w"], strength: Float[Tensor, "b gh gw"], law: MaskLaw
    ) -> Features:
        """Encode views with some patches hidden: the same law for real and fake."""
        config = self.config
        drops = isinstance(self.backbone, TransformerBackbone) and config.fill == "drop"
        # Views of a batch have the same number of tokens, so they drop the same share.
        drawn = shares(
            1 if drops else len(pixels), config.lowest, config.highest, config.probability
        )
        share = pixels.new_tensor(drawn).expand(len(pixels))
        mask = mask_of(strength.flatten(1), share, law, noise=config.noise)
        seen: Features = (
            self.backbone(pixels, kept_of(mask))
            if drops
            else self.backbone(hidden_pixels(pixels, mask, self.patch))
        )
        return seen


def build(config: Config) -> MPFT:
    """Make the network; a pretrained tower is read from the hub or a folder only without ``architecture``.

    Raises:
        RecipeError: If tokens are to be dropped from a backbone without, or the shares are no shares.
    """
    if not 0 <= config.lowest <= config.highest < 1 or not 0 <= config.probability <= 1:
        raise RecipeError(
            f"lowest={config.lowest}, highest={config.highest}, probability={config.probability}: expected shares, "
            "0 to 1, and something left to see."
        )
    own = in_house(config)
    if own is not None:
        if config.fill == "drop" and config.mask != "none":
            raise RecipeError("A backbone of ours has no tokens to drop: choose fill='pixel'.")
        backbone, complete = own
        return MPFT(complete, backbone)
    tower, complete = for_config(config)
    return MPFT(complete, tower)


def loss(config: Config) -> Loss:
    """Return the loss: cross-entropy."""
    del config
    return losses.generated_bce


TINY = Config(
    backbone="random",
    architecture=tiny_clip(48),
    trained_blocks=1,
    size=48,
)

METHOD = Method(
    title="MPFT (reconstruction)",
    paper="arXiv:2601.03586",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
