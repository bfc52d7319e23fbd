"""Named loss terms over (Prediction, Batch); a method picks, weighs and names its own."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gammascope.prediction import Batch, Prediction


def label_bce(logit: Float[Tensor, " b"], label: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of an image-level answer, over the views of which it is known (not -1)."""
    known = label >= 0
    per_view = functional.binary_cross_entropy_with_logits(
        logit.float(), label.clamp(min=0).float(), reduction="none"
    )
    return (per_view * known).sum() / known.sum().clamp(min=1)


def generated_label(batch: Batch) -> Int[Tensor, " b"]:
    """Return whether a view holds generated pixels, for methods that know no edits; -1: not known.

    Where a batch has no such answer at all, the label decides.
    """
    return batch.answers.get("generated", batch.label)


def generated_bce(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Return the one term of methods that only ask whether a view contains generated pixels."""
    return {"label_bce": label_bce(prediction.logit, generated_label(batch))}


def contrasted_bce(
    prediction: Prediction,
    batch: Batch,
    *,
    temperature: float,
    contrastive: float,
    label: float = 1.0,
) -> dict[str, Tensor]:
    """Return cross-entropy, and the contrast of the feature "embedding", for methods that add up both.

    Args:
        prediction: With that feature.
        batch: Says what is generated.
        temperature: As in ``supervised_contrastive``.
        contrastive: Weight of the contrast.
        label: Weight of the cross-entropy.
    """
    truth = generated_label(batch)
    contrast = supervised_contrastive(
        prediction.features["embedding"], truth, temperature=temperature
    )
    return {
        "label_bce": label * label_bce(prediction.logit, truth),
        "contrastive": contrastive * contrast,
    }


def supervised_contrastive(
    embeddings: Float[Tensor, "b d"], label: Int[Tensor, " b"], *, temperature: float
) -> Float[Tensor, ""]:
    """Return the supervised contrastive loss: pull views of one label together, push the others away.

    Averaged over the views that have a partner of their label in the batch; 0 if none has. Positives outside of the
    logarithm. With several processes each sees the partners of its own share of the batch only.

    Args:
        embeddings: Of any length; compared by cosine.
        label: Views of equal label are partners; -1, not known, has none.
        temperature: Divides the cosines, > 0.

    Source: arXiv:2004.11362, eq. 2.
    """
    unit = functional.normalize(embeddings.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    # Finite, so that a view without partners gives 0 and not NaN.
    similarity = (unit @ unit.T / temperature).masked_fill(itself, -1e9)
    log_share = similarity - similarity.logsumexp(1, keepdim=True)
    partners = (label[:, None] == label[None, :]) & (label >= 0)[:, None] & ~itself
    count = partners.sum(1)
    per_view = -(log_share * partners).sum(1) / count.clamp(min=1)
    return per_view.sum() / (count > 0).sum().clamp(min=1)


def pair_contrastive(
    embeddings: Float[Tensor, "b d"], label: Int[Tensor, " b"], *, margin: float
) -> Float[Tensor, ""]:
    """Return the contrastive loss of all pairs: distance 0 within a label, at least a margin between labels.

    Distances are those of unit vectors. Pairs of each kind are averaged over those that still cost something, and the
    two means added; a kind without any gives 0.

    Args:
        embeddings: Of any length.
        label: Views of equal label belong together; -1, not known, belongs nowhere.
        margin: Distance that is far enough, 0..2.

    Source: the published code of Dual Data Alignment, the pixel branch of arXiv:2512.06746, which uses the loss of a
    library with these means.
    """
    unit, label = functional.normalize(embeddings[label >= 0].float(), dim=1), label[label >= 0]
    first, second = torch.triu_indices(len(unit), len(unit), 1, device=unit.device)
    # The root has no slope at 0, where two views are the same.
    distance = ((unit[first] - unit[second]).square().sum(1) + 1e-12).sqrt()
    same = label[first] == label[second]
    total = unit.sum() * 0.0
    for cost in (distance[same] - 1e-6, margin - distance[~same]):
        left = cost.clamp(min=0)
        total = total + left.sum() / (left > 0).sum().clamp(min=1)
    return total


def preference(
    now: Float[Tensor, 2 * n], start: Float[Tensor, 2 * n], *, beta: float
) -> Float[Tensor, ""]:
    """Return the loss of direct preference optimisation: ln 2 while the policy is where it started.

    Args:
        now: Log-probabilities of the better and of the worse answer, by the policy.
        start: The same, by the policy as it was.
        beta: How far the policy may go.

    Source: arXiv:2305.18290, eq. 7.
    """
    gained = now - start
    return -functional.logsigmoid(beta * (gained[0] - gained[1])).mean()


def ranking_bce(
    score: Float[Tensor, " b"], value: Float[Tensor, " b"], *, tie: float = 1.0
) -> Float[Tensor, ""]:
    """Return the cross-entropy of ranking each view against the next of the batch, by a quantity known of both.

    Two scores say that the first view has more of it with probability ``Phi(s_a - s_b)``. Pairs of which one is not
    known count for nothing; without any other the loss is 0.

    Args:
        score: Of the network.
        value: What is ranked; NaN = not known.
        tie: Target for equal values; 0.5 calls them undecided.

    Source: arXiv:2512.05651; ties as its authors' code has them.
    """
    against = value.roll(-1)
    known = ~(value.isnan() | against.isnan())
    target = torch.where(value == against, tie, (value > against).float())
    difference = score.float() - score.float().roll(-1)
    right: Tensor = target * torch.special.log_ndtr(difference)
    wrong: Tensor = (1 - target) * torch.special.log_ndtr(-difference)
    return -((right + wrong) * known).sum() / known.sum().clamp(min=1)


def fidelity(
    p: Float[Tensor, "*n"], target: Float[Tensor, "*n"], *, delta: float = 1e-8
) -> Float[Tensor, "*n"]:
    """Return one minus the fidelity of two probabilities of the same event: 0 where they agree, 1 at worst.

    Args:
        p: Of the network, 0..1.
        target: 0..1.
        delta: Added under the roots, whose slope is infinite at 0.

    Source: arXiv:2507.22824, after FRank (doi:10.1145/1277741.1277808).
    """
    agree = (p * target + delta).sqrt() + ((1 - p) * (1 - target) + delta).sqrt()
    return 1 - agree


def ranking_fidelity(
    level: Float[Tensor, " b"], value: Float[Tensor, " b"], *, sigma: float
) -> Float[Tensor, ""]:
    """Return the fidelity loss of ranking all pairs of views by a quantity that is known of both.

    Two levels say that the first view has more of it with probability ``Phi((l_i - l_j) / sigma)``. Equal values are
    undecided.

    Args:
        level: Of the network.
        value: What is ranked; NaN = not known.
        sigma: Difference of levels that is one standard deviation.

    Source: arXiv:2507.22824.
    """
    first, second = torch.triu_indices(len(level), len(level), 1, device=level.device)
    known = ~(value[first].isnan() | value[second].isnan())
    p = torch.special.ndtr((level[first] - level[second]).float() / sigma)
    target = 0.5 * (torch.sign(value[first] - value[second]).nan_to_num(0.0) + 1)
    return (fidelity(p, target) * known).sum() / known.sum().clamp(min=1)


def class_fidelity(
    logits: Float[Tensor, "b k"], value: Float[Tensor, " b"], *, gamma: float = 0.0
) -> Float[Tensor, ""]:
    """Return the focal fidelity loss of classes 0 to k - 1, over the views whose class is known (not NaN).

    Args:
        logits: Of the network.
        value: The class; NaN = not known.
        gamma: What is known well already counts less by ``(1 - p)^gamma``.

    Source: arXiv:2507.22824.
    """
    known = ~value.isnan()
    target = value.nan_to_num(0.0).long()[:, None]
    p = logits.float().softmax(1).gather(1, target)[:, 0]
    per_view = (1 - p) ** gamma * (1 - (p + 1e-8).sqrt())
    return (per_view * known).sum() / known.sum().clamp(min=1)


def class_cross_entropy(
    logits: Float[Tensor, "b k"], value: Float[Tensor, " b"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of classes 0 to k - 1, over the views whose class is known (not NaN)."""
    known = ~value.isnan()
    target = value.nan_to_num(0.0).long()
    per_view = functional.cross_entropy(logits.float(), target, reduction="none")
    return (per_view * known).sum() / known.sum().clamp(min=1)


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
