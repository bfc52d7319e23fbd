"""Quick figures over validation views, to watch a run; final figures come from ``evaluation``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gammascope import losses
from gammascope.prediction import Batch, Prediction


def summarise(pairs: Sequence[tuple[Prediction, Batch]]) -> dict[str, float]:
    """Return the AUROC of each image-level answer and the pixel F1 (threshold 0.5) of each mask.

    Views whose answer or mask is not known do not count; a figure whose ground truth has one class only is left out.
    """
    figures: dict[str, float] = {}
    for name in pairs[0][0].answers:
        if name not in pairs[0][1].answers:
            continue
        scores = torch.cat([p.answers[name].float().cpu() for p, _ in pairs]).numpy()
        told = torch.cat([b.answers[name].cpu() for _, b in pairs]).numpy()
        scores, truth = scores[told >= 0], told[told >= 0].astype(bool)
        if truth.any() and not truth.all():
            figures[f"auroc_{name}"] = _auroc(scores, truth)
            figures[f"balanced_{name}"] = 0.5 * float(
                (scores[truth] > 0).mean() + (scores[~truth] <= 0).mean()
            )
    for name in pairs[0][0].masks.keys() & pairs[0][1].masks.keys():
        counts = sum(
            (_counts(p.masks[name].cpu(), *_known(b, name)) for p, b in pairs), torch.zeros(3)
        )
        hit, extra, missed = counts.tolist()
        figures[f"f1_{name}"] = 2 * hit / max(1.0, 2 * hit + extra + missed)
    return figures


def _known(batch: Batch, name: str) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, " b"]]:
    mask = batch.masks[name].cpu()
    weight = batch.weight.get(name, torch.ones(len(mask))).cpu()
    return mask, weight > 0


def _counts(
    logits: Float[Tensor, "b gh gw"], mask: Float[Tensor, "b h w"], known: Bool[Tensor, " b"]
) -> Float[Tensor, " 3"]:
    logits, mask = logits[known], mask[known]
    marked = logits > 0
    truth = losses.at_grid(mask, logits.shape[1], logits.shape[2]) >= 0.5
    return torch.stack(
        [(marked & truth).sum(), (marked & ~truth).sum(), (~marked & truth).sum()]
    ).float()


def _auroc(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """Return the share of (fake, real) pairs in the right order; ties count half."""
    order = np.sort(scores[~truth])
    below = np.searchsorted(order, scores[truth], "left") + np.searchsorted(
        order, scores[truth], "right"
    )
    return float(below.mean() / (2 * len(order)))
