"""GAMMA: segmentation of generated and edited pixels guides the image-level verdict (arXiv:2509.10250).

A reconstruction, not a reproduction: the paper's method section is not public. What the abstracts state is kept (dual
segmentation heads, one classification head, reverse cross-attention, training on manipulated photos); every other
choice is a value of ``Config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import AdaptedConfig, Detector, Loss, Method, Views, view_of
from gammascope.errors import RecipeError
from gammascope.imaging.views import WHOLE
from gammascope.networks.base import Backbone, Features, only_looking
from gammascope.networks.compact import CompactConfig
from gammascope.networks.fitted import fit_logistic
from gammascope.networks.mask_heads import Branch, MaskHead, Neck, ReverseCrossAttention
from gammascope.networks.mobilenet import MobileNetBackbone
from gammascope.networks.pretrained import in_house
from gammascope.prediction import Batch, Prediction


class Readings(nn.Module):
    """A weighted sum of logistic regressions, one for each kind of statistics of a picture.

    A strongly penalised linear layer errs on other pictures than heads that are trained for hundreds of steps on the
    same few thousand images, and spectra err on others than content does: on families that nothing trained on
    resembles, the sum ranks better than any of them; on known ones it costs (docs/experiments.md, E17 and E18). Until
    it is fitted it says 0.

    Source: our design.

    Args:
        trust: By kind, a factor on each standardised number when the regression is fitted; below 1: penalised more.
        shares: By kind, the factor on its logit in the sum; kinds without one are not read.
    """

    def __init__(
        self, trust: Mapping[str, Float[Tensor, " _d"]], shares: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.trust = {kind: trust[kind] for kind in shares}
        self.shares = dict(shares)
        for kind in shares:
            self.register_buffer(f"{kind}_weight", torch.zeros(len(trust[kind])))
            self.register_buffer(f"{kind}_bias", torch.zeros(()))

    def forward(self, summary: Mapping[str, Float[Tensor, "b _d"]]) -> Float[Tensor, " b"]:
        """Return the sum of what is read from each kind of statistics."""
        # Products and a sum, no matrix product: quantising that would cost more than it saves, and NNCF cannot.
        read = [
            share
            * ((summary[kind].float() * self._of(kind, "weight")).sum(1) + self._of(kind, "bias"))
            for kind, share in self.shares.items()
        ]
        return torch.stack(read).sum(0)

    @torch.no_grad()
    def fit(
        self, summary: Mapping[str, Float[Tensor, "n _d"]], truth: Int[Tensor, " n"], penalty: float
    ) -> None:
        """Set every regression to its optimum.

        Args:
            summary: Statistics of each picture, by kind.
            truth: 1 if a generator made it, 0 if it is a photo; both occur.
            penalty: As ``fit_logistic`` has it.

        Raises:
            GammascopeError: As ``fit_logistic``.
        """
        for kind in self.shares:
            found = fit_logistic(summary[kind], truth, penalty, self.trust[kind])
            self._of(kind, "weight").copy_(found.weight)
            self._of(kind, "bias").copy_(found.bias)

    def _of(self, kind: str, part: str) -> Tensor:
        return self.get_buffer(f"{kind}_{part}")


@dataclass(frozen=True, slots=True)
class WholeConfig:
    """Linear readings of the whole picture, added to the label; ours, not the paper's.

    They are fitted once the network is trained, to reduced whole photos and generated pictures, and count for the view
    that shows all of an image.

    Attributes:
        content: Factor on what the backbone's statistics say; 0: not read.
        spectrum: Factor on what log DCT energies of the reduced picture say; 0: not read.
        penalty: Of the regressions, on standardised numbers.
        views: How many pictures they are fitted to.
    """

    content: float = 0.0
    spectrum: float = 0.0
    penalty: float = 1.0
    views: int = 6000


@dataclass(frozen=True, slots=True)
class Config(AdaptedConfig):
    """Sizes and choices of GAMMA. All are our reading; the paper's values are not public.

    Attributes:
        taps: Blocks (from 1) whose patch tokens form a tower's grid.
        pretrained: File of ImageNet weights that ``build`` starts "mobilenetv2" from; then emptied, because a
            checkpoint holds all weights itself.
        size: Side of a view, pixels.
        whole: Linear readings of the whole image.
        width: Channels of neck, branches and correction.
        seg_targets: What the heads segment: "source" (generated; edited), "family" (inpainted; moved),
            "authenticity" (fake; authentic), "softmax" (one head: authentic, edited, generated).
        seg_heads: "both", "first" (of ``seg_targets``) or "none", for ablations.
        seg_blocks: Blocks of a branch.
        seg_mixing: Kind of these blocks.
        correction: How segmentation corrects the image token; "none" for ablations.
        correction_layers: Layers of the correction.
        attention_heads: Attention heads of correction and transformer blocks.
        mask_bias: Let mask logits steer the correction's attention.
        detach_seg: Keep the label loss out of the branches.
        manip_label: What the label answer calls fake: "fake" (generated or manipulated) or "by_pixels" (generated
            pixels only, so that a montage of photographs is never called AI-generated).
        label_from: Which views teach the label answer of "by_pixels": "all", or "whole" views, authentic or generated
            for the larger part. A small inpainting hardly shows in an image token, and telling it to see one costs
            more on whole images than it brings (docs/experiments.md); masks learn from all views.
        lambda_generated: Weight of the first head's mask terms.
        lambda_edited: Weight of the second head's mask terms.
        lambda_was_edited: Weight of the image-level "edited" answer, pooled from its mask; ours, not the paper's.
        pooled_share: Share of the most suspicious cells that is averaged into an image-level answer.
    """

    taps: tuple[int, ...] = (6, 12, 18, 24)
    pretrained: str = ""
    size: int = 336
    whole: WholeConfig = field(default_factory=WholeConfig)
    width: int = 256
    seg_targets: Literal["source", "family", "authenticity", "softmax"] = "source"
    seg_heads: Literal["both", "first", "none"] = "both"
    seg_blocks: int = 2
    seg_mixing: Literal["conv", "transformer"] = "transformer"
    correction: Literal["direct", "complement", "subtractive", "none"] = "direct"
    correction_layers: int = 2
    attention_heads: int = 8
    mask_bias: bool = False
    detach_seg: bool = False
    manip_label: Literal["fake", "by_pixels"] = "fake"
    label_from: Literal["all", "whole"] = "all"
    lambda_generated: float = 0.5
    lambda_edited: float = 0.5
    lambda_was_edited: float = 0.0
    pooled_share: float = 0.02


HEADS: Mapping[str, tuple[str, ...]] = {
    "source": ("generated", "edited"),
    "family": ("inpainted", "moved"),
    "authenticity": ("fake", "authentic"),
    "softmax": ("authentic", "edited", "generated"),
}
"""Names of the masks by ``seg_targets``."""


class Gamma(Detector):
    """Backbone; segmentation branches; their features correct the image token; one logit."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        used = Neck(backbone.grid_channels, config.width) if _branches(config) else nn.Identity()
        self.neck = used  # one that nothing reads would stall distributed training
        self.branches = nn.ModuleDict(
            {name: _mask_head(config, classes) for name, classes in _branches(config).items()}
        )
        self.to_query = nn.Linear(backbone.token_channels, config.width)
        self.correct = _correction(config)
        self.norm = nn.LayerNorm(config.width)
        self.classify = nn.Linear(config.width, 1)
        self.readings = _readings(config, backbone)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label, the masks and the image-level answers that follow from both."""
        return self.predict(self.backbone(pixels))

    def predict(self, features: Features) -> Prediction:
        """Do the rest of ``forward``, from what the backbone saw."""
        grid = self.neck(features.grid)
        branches: dict[str, Branch] = {name: head(grid) for name, head in self.branches.items()}
        token = self.correct(
            self.to_query(features.token), branches
        )  # segmentation guides classification
        logit = self.classify(self.norm(token)).squeeze(1)
        masks = _masks(self.config, branches)
        answers = _answers(self.config, logit, masks)
        if self.readings is not None:
            answers[WHOLE] = self.readings(features.summary)
        return Prediction(logit, answers, masks)


def _readings(config: Config, backbone: Backbone) -> Readings | None:
    wanted = {"content": config.whole.content, "spectrum": config.whole.spectrum}
    shares = {kind: share for kind, share in wanted.items() if share}
    if shares and config.fit == "tiles" and not config.overview:
        raise RecipeError(
            "method.whole: no view shows the whole picture; set method.overview above 0."
        )
    for kind in shares.keys() - backbone.trust.keys():
        raise RecipeError(
            f"method.whole.{kind}: this backbone has no such statistics "
            f"(it has: {', '.join(backbone.trust) or 'none'})."
        )
    return Readings(backbone.trust, shares) if shares else None


def read(detector: Detector, views: Views) -> None:
    """Fit the readings of whole pictures, if there are any."""
    if not isinstance(detector, Gamma) or detector.readings is None:
        return
    config = detector.config.whole
    seen: dict[str, list[Tensor]] = {kind: [] for kind in detector.readings.shares}
    truth = []
    with only_looking(detector):
        for batch in views(config.views):
            summary = detector.backbone(batch.pixels).summary
            for kind, numbers in seen.items():
                numbers.append(summary[kind].cpu())
            truth.append(losses.generated_label(batch).cpu())
    gathered = {kind: torch.cat(numbers) for kind, numbers in seen.items()}
    detector.readings.fit(gathered, torch.cat(truth), config.penalty)


class Uncorrected(nn.Module):
    """Ablation: the image token stays as the backbone gave it."""

    def forward(
        self, token: Float[Tensor, "b d"], branches: Mapping[str, Branch]
    ) -> Float[Tensor, "b d"]:
        """Return the token."""
        del branches
        return token


class Corrected(nn.Module):
    """Reverse cross-attention over the branches, with or without a way back for the label loss."""

    def __init__(self, attention: ReverseCrossAttention, *, detach: bool) -> None:
        super().__init__()
        self.attention = attention
        self.detach = detach

    def forward(
        self, token: Float[Tensor, "b d"], branches: Mapping[str, Branch]
    ) -> Float[Tensor, "b d"]:
        """Return the corrected token."""
        if self.detach:
            branches = {
                n: Branch(b.tokens.detach(), b.logits.detach()) for n, b in branches.items()
            }
        result: Tensor = self.attention(token, branches)
        return result


def _branches(config: Config) -> dict[str, int]:
    """Return the classes of each segmentation branch by its name."""
    if config.seg_heads == "none":
        return {}
    if config.seg_targets == "softmax":
        return {"source": len(HEADS["softmax"])}
    used = HEADS[config.seg_targets][: 1 if config.seg_heads == "first" else None]
    return dict.fromkeys(used, 1)


def _mask_head(config: Config, classes: int) -> MaskHead:
    return MaskHead(
        config.width,
        blocks=config.seg_blocks,
        classes=classes,
        mixing=config.seg_mixing,
        heads=config.attention_heads,
    )


def _correction(config: Config) -> nn.Module:
    branches = list(_branches(config))
    if config.correction == "none" or not branches:
        return Uncorrected()
    attention = ReverseCrossAttention(
        config.width,
        branches,
        heads=config.attention_heads,
        layers=config.correction_layers,
        reading=config.correction,
        mask_bias=config.mask_bias,
    )
    return Corrected(attention, detach=config.detach_seg)


def _masks(config: Config, branches: Mapping[str, Branch]) -> dict[str, Float[Tensor, "b gh gw"]]:
    if config.seg_targets == "softmax" and branches:
        log_odds = _one_against_rest(branches["source"].logits.float())
        return {name: log_odds[:, index] for index, name in enumerate(HEADS["softmax"])}
    return {name: branch.logits[:, 0].float() for name, branch in branches.items()}


def _one_against_rest(logits: Float[Tensor, "b k gh gw"]) -> Float[Tensor, "b k gh gw"]:
    rests = [
        torch.cat([logits[:, :index], logits[:, index + 1 :]], 1).logsumexp(1)
        for index in range(logits.shape[1])
    ]
    return logits - torch.stack(rests, 1)


def _answers(
    config: Config, logit: Float[Tensor, " b"], masks: Mapping[str, Float[Tensor, "b gh gw"]]
) -> dict[str, Float[Tensor, " b"]]:
    """Derive "contains generated pixels" and "was edited" from label and masks.

    Where the label also calls photomontages fake, generated = fake and somewhere generated:
    ``p(label) * p(most suspicious cells of the generated mask)``.
    """
    pooled = {name: most_suspicious(mask, config.pooled_share) for name, mask in masks.items()}
    answers = {}
    if config.manip_label == "by_pixels":
        answers["generated"] = logit
    elif "generated" in pooled:
        log_p = functional.logsigmoid(logit.float()) + functional.logsigmoid(pooled["generated"])
        answers["generated"] = log_p - torch.log1p(-log_p.exp().clamp(max=1 - 1e-6))
    if "edited" in pooled:
        answers["edited"] = pooled["edited"]
    elif "moved" in pooled:  # an inpainting is an edit, too
        answers["edited"] = torch.maximum(pooled["inpainted"], pooled["moved"])
    return answers


def most_suspicious(mask: Float[Tensor, "b gh gw"], share: float) -> Float[Tensor, " b"]:
    """Average the highest logits of a mask: steadier than the maximum, blind to the size of the rest."""
    flat = mask.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(1)


def build(config: Config) -> Gamma:
    """Make the network; a pretrained tower is read from the hub or a folder only without ``architecture``."""
    own = in_house(config)
    if own is None:
        from gammascope.networks import backbones

        tower, config = backbones.for_config(config)
        return Gamma(config, tower)
    backbone, config = own
    if config.pretrained and isinstance(backbone, MobileNetBackbone):
        backbone.load_pretrained(Path(config.pretrained))
    return Gamma(replace(config, pretrained=""), backbone)


def loss(config: Config) -> Loss:
    """Return the loss: label, masks (cross-entropy and guarded Dice), and the pooled "edited" answer."""

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        result = {"label_bce": _label_term(config, prediction, batch)}
        result |= _mask_terms(config, prediction, batch)
        # One class per pixel: where an edit is generated, the softmax has no "edited" for the answer to pool.
        pooled = config.lambda_was_edited and config.seg_targets != "softmax"
        if pooled and {"edited"} <= prediction.answers.keys() & batch.answers.keys():
            value = losses.label_bce(prediction.answers["edited"], batch.answers["edited"])
            result["was_edited_bce"] = config.lambda_was_edited * value
        return result

    return terms


def _label_term(config: Config, prediction: Prediction, batch: Batch) -> Tensor:
    if config.manip_label == "fake":
        return losses.label_bce(prediction.logit, batch.label)
    label = losses.generated_label(batch)
    if config.label_from == "all" or "generated" not in batch.masks:
        return losses.label_bce(prediction.logit, label)
    share = batch.masks["generated"].mean((1, 2))
    whole = (label == 0) | (share >= 0.5)
    return (
        losses.label_bce(prediction.logit[whole], label[whole])
        if whole.any()
        else 0 * prediction.logit.sum()
    )


def _mask_terms(config: Config, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    if not prediction.masks or not {"generated", "edited"} <= batch.masks.keys():
        return {}
    rows, columns = next(iter(prediction.masks.values())).shape[1:]
    # Combined per pixel, then averaged: half a cell generated and the other half pasted is not half a cell inpainted.
    pixelwise = targets_of(config, batch.masks["generated"], batch.masks["edited"])
    targets = {name: losses.at_grid(mask, rows, columns) for name, mask in pixelwise.items()}
    weights = {name: batch.weight[name] for name in ("generated", "edited")}
    trusted = targets_weight(config, weights)
    if config.seg_targets == "softmax":
        names = list(targets)
        value = losses.pixel_cross_entropy(
            torch.stack([prediction.masks[n] for n in names], 1),
            torch.stack([targets[n] for n in names], 1),
            trusted[names[0]],
        )
        return {"mask_ce": (config.lambda_generated + config.lambda_edited) * value}
    result = {}
    first = HEADS[config.seg_targets][0]
    for name, logits in prediction.masks.items():
        weight = config.lambda_generated if name == first else config.lambda_edited
        result[f"{name}_bce"] = weight * losses.mask_bce(logits, targets[name], trusted[name])
        result[f"{name}_dice"] = weight * losses.mask_dice(logits, targets[name], trusted[name])
    return result


def targets_of(
    config: Config, generated: Float[Tensor, "b gh gw"], edited: Float[Tensor, "b gh gw"]
) -> dict[str, Float[Tensor, "b gh gw"]]:
    """Turn the two-bit pixel code into what the heads segment, by mask name.

    "family" is read off the pixel code: a generated pixel inside an edit counts as inpainted, also where it came by
    splicing; the two cannot be told apart without the history.
    """
    fake = torch.maximum(generated, edited)
    by_name = {
        "generated": generated,
        "edited": edited,
        "inpainted": torch.minimum(generated, edited),
        "moved": (edited - generated).clamp(min=0),
        "fake": fake,
        "authentic": 1 - fake,
    }
    if config.seg_targets == "softmax":  # mutually exclusive: generated wins over edited
        by_name["edited"] = (fake - generated).clamp(min=0)
    return {name: by_name[name] for name in HEADS[config.seg_targets]}


def targets_weight(
    config: Config, weights: Mapping[str, Float[Tensor, " b"]]
) -> dict[str, Float[Tensor, " b"]]:
    """Return which samples' targets are trustworthy: a target made from both masks needs both."""
    both = weights["generated"] * weights["edited"]
    own = weights if config.seg_targets == "source" else {}
    return {name: own.get(name, both) for name in HEADS[config.seg_targets]}


TINY = Config(
    backbone="compact",
    compact=CompactConfig(widths=(4, 8, 16), depths=(1, 1, 1), fused=16, fused_depth=1, token=32),
    size=32,
    fit="tiles",
    width=16,
    seg_mixing="conv",
    seg_blocks=1,
    attention_heads=2,
    lambda_was_edited=0.25,
)

METHOD = Method(
    title="GAMMA (reconstruction)",
    paper="arXiv:2509.10250",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
    read=read,
)
