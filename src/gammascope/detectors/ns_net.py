"""NS-Net: remove what text can say from image features, and contrast the rest (arXiv:2508.01248).

A reconstruction: the authors' code and method section were not at hand. Theirs are the three parts: a projection on the
null space of text features, supervised contrastive learning behind it, and a choice of patches by spectral entropy. How
the null space is kept from being empty, and every number, is our reading and a value of ``Config``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import AdaptedConfig, Detector, Loss, Method, Views, view_of
from gammascope.errors import RecipeError
from gammascope.networks import frequency
from gammascope.networks.base import Backbone, only_looking
from gammascope.networks.compact import CompactConfig
from gammascope.networks.pretrained import in_house
from gammascope.prediction import Batch, Prediction


def null_space(
    vectors: Float[Tensor, "n d"], *, energy: float, centre: bool = False
) -> tuple[Float[Tensor, "d d"], int]:
    """Return the projection on what is left after the strongest directions of some vectors, and its rank.

    The exact null space of more vectors than dimensions is empty. So the fewest right singular vectors that hold the
    share ``energy`` of the squared singular values are dropped, and never all of them.

    Args:
        vectors: One per row; scaled to unit length first.
        energy: Share of the energy that counts as occupied, 0..1; 0 drops nothing.
        centre: Subtract the mean of the unit vectors first; else their common direction is dropped, too.

    Returns:
        A symmetric, idempotent matrix and its rank, 1..d.

    Raises:
        ValueError: If there are no vectors, one of them is not finite, or ``energy`` is no share.

    Source: arXiv:2508.01248 (the idea); the truncation by energy is our reading.
    """
    if not 0 <= energy <= 1:
        raise ValueError(f"energy={energy}: expected a share, 0 to 1.")
    if len(vectors) == 0 or not torch.isfinite(vectors).all():
        raise ValueError(f"{len(vectors)} vectors: expected at least one, and finite numbers.")
    unit = functional.normalize(vectors.double(), dim=1)
    if centre:
        unit = unit - unit.mean(0)
    _, strengths, directions = torch.linalg.svd(unit, full_matrices=False)
    held = strengths.square().cumsum(0)
    # Counted from below, with room for rounding: the direction that reaches the share is the last one dropped.
    occupied = int((held < energy * held[-1] * (1 - 1e-12)).sum()) + 1 if held[-1] > 0 else 0
    occupied = min(occupied, unit.shape[1] - 1) if energy > 0 else 0
    dropped = directions[:occupied]
    projection = torch.eye(unit.shape[1], dtype=unit.dtype, device=unit.device)
    return (projection - dropped.T @ dropped).to(vectors.dtype), unit.shape[1] - occupied


class NullSpaceProjector(nn.Module):
    """Project features on a null space that was measured once; until then everything passes.

    Args:
        width: Length of the features.
    """

    projection: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.eye(width))

    def measure(
        self, vectors: Float[Tensor, "n d"], *, energy: float, centre: bool = False
    ) -> None:
        """Take the null space of these vectors from now on."""
        projection, _ = null_space(vectors, energy=energy, centre=centre)
        self.projection.copy_(projection)

    @property
    def rank(self) -> int:
        """How many dimensions pass: the trace of a projection."""
        return round(float(self.projection.double().trace()))

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return the part of the features in the null space, in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return features.float() @ self.projection


@dataclass(frozen=True, slots=True)
class Config(AdaptedConfig):
    """Sizes and choices of NS-Net.

    Attributes:
        adapt: How the backbone is trained; one of ours is trained with "full" and stays as it is otherwise.
        taps: Blocks whose patch tokens a tower gives out; this method reads none of them.
        lora_rank: Rank of the LoRA updates.
        lora_alpha: Scale of the LoRA updates.
        shared: Width of the space that text and image share, filled in on loading; 0: the image token as it is.
        semantics: What spans the directions to remove: "text" (captions in the shared space), "content" (features of
            shrunk and blurred photos, measured once, so not with ``adapt="full"``: ours, for backbones without a text
            half), or "none" (an ablation).
        captions: File with one caption per line, read on loading; "" takes a list of everyday things.
        energy: Share of the energy of these vectors that is removed with their strongest directions.
        centre: Subtract their mean first, so that their common direction is not removed.
        measured_on: Photos that "content" is measured on.
        size: Side of a view, pixels: where patches are chosen from.
        patch: Side of a patch, pixels.
        across: Chosen patches along a side of the mosaic that the backbone sees.
        hidden: Width of the projection head.
        embedding: Length of what is contrasted.
        temperature: Of the contrastive loss.
        lambda_contrastive: Weight of the contrastive loss.
        lambda_label: Weight of the cross-entropy.
    """

    taps: tuple[int, ...] = (1,)
    lora_rank: int = 16
    lora_alpha: int = 32
    shared: int = 0
    semantics: Literal["text", "content", "none"] = "text"
    captions: str = ""
    energy: float = 0.95
    centre: bool = False
    measured_on: int = 1024
    size: int = 448
    patch: int = 32
    across: int = 7
    hidden: int = 512
    embedding: int = 128
    temperature: float = 0.07
    lambda_contrastive: float = 1.0
    lambda_label: float = 1.0


class NSNet(Detector):
    """Patches of extreme entropy; backbone; null space; a head whose output is contrasted and classified."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        width = config.shared or backbone.token_channels
        self.to_shared: nn.Module = nn.Identity()
        if config.shared:
            self.to_shared = nn.Linear(backbone.token_channels, width, bias=False)
            self.to_shared.requires_grad_(requires_grad=False)
        self.null_space = NullSpaceProjector(width)
        self.head = nn.Sequential(
            nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.embedding)
        )
        self.classify = nn.Linear(config.embedding, 1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label; the evidence is the spectral entropy of every patch."""
        mosaic, entropy = self.select(pixels)
        embedding = self.head(self.null_space(self.encode(mosaic)))
        logit = self.classify(embedding).squeeze(1).float()
        return Prediction(
            logit,
            answers={"generated": logit},
            evidence={"entropy": entropy},
            features={"embedding": embedding.float()},
        )

    def select(
        self, pixels: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 m m"], Float[Tensor, "b gh gw"]]:
        """Lay the patches of lowest and highest entropy side by side: shuffled in training, else in their order."""
        side = self.config.patch
        tiles = frequency.cut(pixels, side)
        grey = frequency.cut(frequency.luma(pixels, self.view.std)[:, None], side)[:, :, 0]
        entropy = frequency.spectral_entropy(grey)
        chosen = frequency.extremes(entropy, self.config.across**2)
        if self.training:
            chosen = chosen.gather(1, torch.rand(chosen.shape, device=chosen.device).argsort(1))
        mosaic = frequency.lay_out(frequency.take(tiles, chosen), self.config.across)
        return mosaic, entropy.reshape(len(entropy), pixels.shape[2] // side, -1)

    def encode(self, pixels: Float[Tensor, "b 3 m m"]) -> Float[Tensor, "b d"]:
        """Return the image feature in the space in which semantics are removed."""
        feature: Tensor = self.to_shared(self.backbone(pixels).token)
        return feature


def build(config: Config) -> NSNet:
    """Make the network; weights and captions are read only without ``architecture``.

    Raises:
        RecipeError: If a view holds no patch.
    """
    if min(config.patch, config.across) < 1 or config.size < config.patch:
        raise RecipeError(
            f"size={config.size}, patch={config.patch}, across={config.across}: expected at least one patch in a view."
        )
    if config.reads and (config.shared or config.semantics == "text"):
        raise RecipeError(
            "The space that CLIP shares with captions takes the final token alone: leave out method.reads, or choose "
            "method.semantics=content."
        )
    own = in_house(config)
    if own is not None:
        backbone, complete = own
        return NSNet(complete, backbone if config.adapt == "full" else backbone.freeze())
    from gammascope.networks import backbones

    tower, complete = backbones.for_config(config)
    if config.architecture or config.semantics != "text":
        return NSNet(complete, tower)
    from gammascope.networks import captions

    said = captions.read_captions(Path(config.captions)) if config.captions else captions.CONCEPTS
    text, to_shared = captions.shared_space(config.backbone, said)
    # The name of a file means nothing on another machine.
    detector = NSNet(replace(complete, shared=len(to_shared), captions=""), tower)
    with torch.no_grad():
        cast(nn.Linear, detector.to_shared).weight.copy_(to_shared)
    detector.null_space.measure(text, energy=config.energy, centre=config.centre)
    return detector


def prepare(detector: Detector, views: Views) -> None:
    """Measure the null space of content on photos, where that is what the config asks for.

    Raises:
        RecipeError: If it wants text, and there is none; or content, and the backbone is trained in full.
    """
    detector = cast(NSNet, detector)
    config = detector.config
    if config.semantics == "text" and not config.shared:
        raise RecipeError(
            f"semantics='text' needs a pretrained text-and-image backbone, not {config.backbone!r}: choose "
            "method.semantics=content."
        )
    if config.semantics != "content":
        return
    if config.adapt == "full":
        raise RecipeError(
            "semantics='content' is measured once, and adapt='full' trains the backbone away from what was measured: "
            "choose method.adapt=frozen on a pretrained backbone, or method.semantics=none."
        )
    side = config.patch * config.across
    with only_looking(detector):
        seen = [detector.encode(_content(b.pixels, side)) for b in views(config.measured_on)]
    detector.null_space.measure(torch.cat(seen), energy=config.energy, centre=config.centre)


def _content(pixels: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 m m"]:
    """Shrink views to an eighth of the mosaic and enlarge them again: what is left is content, no trace."""
    small = functional.interpolate(pixels, size=max(1, side // 8), mode="area")
    return functional.interpolate(small, size=side, mode="bilinear")


def loss(config: Config) -> Loss:
    """Return the loss: contrast of the embeddings, and cross-entropy."""

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        return losses.contrasted_bce(
            prediction,
            batch,
            temperature=config.temperature,
            contrastive=config.lambda_contrastive,
            label=config.lambda_label,
        )

    return terms


TINY = Config(
    backbone="compact",
    compact=CompactConfig(widths=(4, 8, 16), depths=(1, 1, 1), fused=16, fused_depth=1, token=32),
    semantics="content",
    measured_on=16,
    size=48,
    patch=8,
    across=4,
    hidden=32,
    embedding=16,
)

METHOD = Method(
    title="NS-Net (reconstruction)",
    paper="arXiv:2508.01248",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
    prepare=prepare,
)
