"""Named loss terms over (Prediction, Batch); a method picks, weighs and names its own."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gammascope.prediction import Batch, Prediction


def generated_bce(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Return the one term of methods that only ask whether a view contains generated pixels.

    Where a batch does not know, its label decides.
    """
    truth = batch.answers.get("generated", batch.label)
    return {"label_bce": label_bce(prediction.logit, truth)}


def label_bce(logit: Float[Tensor, " b"], label: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of an image-level answer."""
    return functional.binary_cross_entropy_with_logits(logit.float(), label.float())


def at_grid(mask: Float[Tensor, "b h w"], rows: int, columns: int) -> Float[Tensor, "b gh gw"]:
    """Return the share of each grid cell that the mask covers: a soft target, 0..1."""
    return functional.adaptive_avg_pool2d(mask[:, None].float(), (rows, columns))[:, 0]


def mask_bce(
    logits: Float[Tensor, "b gh gw"], target: Float[Tensor, "b gh gw"], weight: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Return the pixel cross-entropy against soft targets, averaged over samples with trustworthy masks."""
    per_pixel = functional.binary_cross_entropy_with_logits(
        logits.float(), target, reduction="none"
    )
    return _weighted_mean(per_pixel.mean((1, 2)), weight)


def mask_dice(
    logits: Float[Tensor, "b gh gw"],
    target: Float[Tensor, "b gh gw"],
    weight: Float[Tensor, " b"],
    *,
    min_cells: float = 8.0,
) -> Float[Tensor, ""]:
    """Return the soft Dice loss with squared sums, over samples whose mask is not constant.

    Dice on an empty mask has a step-like gradient and on a full one adds nothing to cross-entropy; so it counts
    only between 0.5 % and 99.5 % coverage and from ``min_cells`` cells on.

    Source: our reconstruction of GAMMA's mask loss; squared denominator as in V-Net (arXiv:1606.04797, eq. 2),
    with 1 added above and below.
    """
    probability = logits.float().sigmoid()
    both = (probability * target).sum((1, 2))
    sizes = probability.square().sum((1, 2)) + target.square().sum((1, 2))
    dice = 1 - (2 * both + 1) / (sizes + 1)
    covered, cells = target.mean((1, 2)), target.sum((1, 2))
    counts = (covered > 0.005) & (covered < 0.995) & (cells >= min_cells)
    usable = weight * counts.to(weight.dtype)
    return (dice * usable).sum() / weight.sum().clamp(min=1)


def pixel_cross_entropy(
    log_odds: Float[Tensor, "b k gh gw"],
    target: Float[Tensor, "b k gh gw"],
    weight: Float[Tensor, " b"],
) -> Float[Tensor, ""]:
    """Return the cross-entropy of mutually exclusive classes given as one-against-rest log-odds.

    The log-odds of a softmax class hold its probability exactly, so ``logsigmoid`` gives the log-probability back.
    """
    per_pixel = -(target * functional.logsigmoid(log_odds.float())).sum(1)
    return _weighted_mean(per_pixel.mean((1, 2)), weight)


def _weighted_mean(value: Float[Tensor, " b"], weight: Float[Tensor, " b"]) -> Float[Tensor, ""]:
    return (value * weight).sum() / torch.clamp(weight.sum(), min=1)
