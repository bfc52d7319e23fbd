"""GAPL: describe every image as a mixture of a few constant prototypes (arXiv:2512.12982).

Two stages, two recipes. "projection": a linear map to 128 dimensions is learnt on a frozen backbone; the principal
directions of its real and of its fake embeddings become the prototypes. "prototypes": the embedding asks the
prototypes by cross-attention, and the classifier only sees what they answer, while the backbone is adapted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import AdaptedConfig, FittedDetector, Loss, Method, Seen, view_of
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.imaging.views import ViewSpec
from gammascope.networks.adapters import add_lora
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.base import Backbone
from gammascope.networks.compact import CompactConfig
from gammascope.networks.fitted import log_loss
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Prediction

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

LORA_TARGETS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Projecting:
    """How the first stage is fitted; the published values.

    Attributes:
        epochs: Passes over the features.
        batch: Views per update.
        learning_rate: Of AdamW; reached after the warm-up, then a cosine.
        final_share: Of the learning rate, at the end.
        warmup_share: Of the updates.
        weight_decay: Of AdamW.
        clip_norm: Gradients are scaled down to this norm.
    """

    epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-4
    final_share: float = 1e-3
    warmup_share: float = 0.2
    weight_decay: float = 1e-2
    clip_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class Config(AdaptedConfig):
    """Sizes and choices of GAPL; the defaults are those of the published code.

    Attributes:
        stage: "projection" (fitted; needs a recipe with a section ``probing``) or "prototypes" (trained by the loop).
        start: Checkpoint of the first stage, whose projection and prototypes the second starts from.
        prototype_source: "pca", from ``start``, or "random": the control, orthonormal directions instead.
        lora_rank: Rank of the LoRA updates of query, key and value.
        lora_alpha: Scale of the LoRA updates.
        lora_dropout: Share of an update's input that is dropped in training.
        width: Dimensions of the embedding.
        prototypes: How many; half from real images, half from fake ones.
        attention_heads: Of the cross-attention.
        residual: Add the embedding to what the prototypes answer: an ablation, the published code does not.
        projecting: How the first stage is fitted.
        normalisation: "imagenet" as published, or the backbone's own.
    """

    stage: Literal["projection", "prototypes"] = "prototypes"
    start: str = ""
    prototype_source: Literal["pca", "random"] = "pca"
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    width: int = 128
    prototypes: int = 64
    attention_heads: int = 4
    residual: bool = False
    projecting: Projecting = field(default_factory=Projecting)
    normalisation: Literal["imagenet", "backbone"] = "imagenet"


class Gapl(FittedDetector):
    """Backbone; projection to the unit sphere; a mixture of prototypes; one logit."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = _view(config, backbone)
        self.backbone = backbone
        self.project = nn.Linear(backbone.token_channels, config.width, bias=False)
        self.mix = Unmixed(config) if config.stage == "projection" else PrototypeMixture(config)
        self.classify = nn.Linear(config.width, 1, bias=False)

    def train(self, mode: bool = True) -> Gapl:
        """Switch between training and evaluation; dropout of adapters is active in training, all else frozen is not."""
        super().train(mode)
        for name, module in self.backbone.named_modules():
            if ".lora_dropout" in name:
                module.train(mode)
        return self

    @property
    def seen_through(self) -> Mapping[str, Any]:
        """Nothing but the backbone and its normalisation, which is part of the view."""
        if self.config.stage != "projection":
            raise RecipeError(
                "GAPL's stage 'prototypes' changes the backbone, so features cannot be cached: leave out the "
                "section probing, or set method.stage = 'projection'."
            )
        return {"reads": ["token"]}

    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the image token."""
        token: Tensor = self.backbone(pixels).token
        return token

    def embed(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b w"]:
        """Project features to the unit sphere."""
        return functional.normalize(self.project(features), dim=1)

    def answer(self, features: Float[Tensor, "b d"]) -> Prediction:
        """Predict "contains generated pixels"."""
        logit = self.classify(self.mix(self.embed(features))).squeeze(1).float()
        return Prediction(logit, {"generated": logit})

    def fit(self, training: Seen, validation: Seen | None) -> dict[str, float]:
        """Learn the projection, then take the principal directions of both classes as prototypes.

        Source: arXiv:2512.12982, its published code.
        """
        truth = training.generated
        for name, count in {"real": int((truth == 0).sum()), "generated": int(truth.sum())}.items():
            if count <= self.config.prototypes // 2:
                raise MissingDataError(
                    f"{count} {name} views: {self.config.prototypes // 2} prototypes of a class need more of them; "
                    "raise probing.views or lower method.prototypes."
                )
        self._learn_projection(training)
        with torch.no_grad():
            embedded = self.embed(training.features)
            halves = [
                principal_directions(embedded[truth == label], self.config.prototypes // 2)
                for label in (0, 1)
            ]
            self.mix.prototypes.copy_(functional.normalize(torch.cat(halves), dim=1))
            figures = {"log_loss": log_loss(self.answer(training.features).logit, truth)}
            if validation is not None:
                logit = self.answer(validation.features).logit
                figures["log_loss_judged"] = log_loss(logit, validation.generated)
        return figures

    def _learn_projection(self, training: Seen) -> None:
        how, count = self.config.projecting, len(training.label)
        learnt = [*self.project.parameters(), *self.classify.parameters()]
        optimiser = torch.optim.AdamW(learnt, lr=how.learning_rate, weight_decay=how.weight_decay)
        total = how.epochs * math.ceil(count / how.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: _rate(how, n, total))
        with torch.enable_grad():
            for _ in range(how.epochs):
                for rows in torch.split(torch.randperm(count), how.batch):
                    logit = self.answer(training.features[rows]).logit
                    value = losses.label_bce(logit, training.generated[rows])
                    optimiser.zero_grad()
                    value.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(learnt, how.clip_norm)
                    optimiser.step()
                    schedule.step()


class Unmixed(nn.Module):
    """First stage: the embedding is classified as it is; prototypes are kept for the second, once they are known."""

    prototypes: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.register_buffer("prototypes", torch.zeros(config.prototypes, config.width))

    def forward(self, embedding: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """Return the embedding."""
        return embedding


class PrototypeMixture(nn.Module):
    """Cross-attention from an embedding to constant prototypes.

    Without ``residual`` the result is a function of the attention weights alone: what no prototype speaks of is lost.
    """

    prototypes: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.residual = config.residual
        self.attention = nn.MultiheadAttention(
            config.width, config.attention_heads, batch_first=True
        )
        self.register_buffer("prototypes", random_directions(config.prototypes, config.width))

    def forward(self, embedding: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """Return what the prototypes answer to the embedding."""
        known = self.prototypes.to(embedding.dtype).expand(len(embedding), -1, -1)
        answer: Tensor = self.attention(embedding[:, None], known, known, need_weights=False)[0]
        return answer[:, 0] + embedding if self.residual else answer[:, 0]


def principal_directions(embedded: Float[Tensor, "n w"], count: int) -> Float[Tensor, "{count} w"]:
    """Return the first principal directions of centred rows, orthonormal, strongest first; signs are arbitrary."""
    centred = (embedded - embedded.mean(0)).double()
    directions: Tensor = torch.linalg.svd(centred, full_matrices=False)[2][:count]
    return directions.to(embedded.dtype)


def random_directions(count: int, width: int) -> Float[Tensor, "{count} {width}"]:
    """Return random unit vectors: orthonormal, as far as there is room for them."""
    rows = []
    for start in range(0, count, width):
        basis = torch.linalg.qr(torch.randn(width, width)).Q
        rows.append(basis[: min(width, count - start)])
    return torch.cat(rows)


def build(config: Config) -> Gapl:
    """Make the network; a backbone and a first stage are read only where the config is not complete."""
    if config.prototypes % 2 or not 0 < config.prototypes <= 2 * config.width:
        raise RecipeError(
            f"prototypes={config.prototypes}: expected an even number, at most {2 * config.width} "
            f"(two classes of {config.width} directions)."
        )
    adapt = "frozen" if config.stage == "projection" else config.adapt
    trained = config.trained_blocks
    backbone, completed = backbone_for(config, frozen=adapt != "full", trained_blocks=trained)
    if adapt == "lora":
        _add_lora(backbone, config)
    detector = Gapl(replace(completed, start=""), backbone)
    if config.stage == "prototypes" and completed is not config:
        _begin(detector, config)
    return detector


def _add_lora(backbone: Backbone, config: Config) -> None:
    if not isinstance(backbone, TransformerBackbone):
        raise RecipeError(
            "adapt='lora' needs a transformer; a backbone of ours can be 'frozen' or 'full'."
        )
    add_lora(
        backbone.tower,
        blocks=backbone.last_blocks(config.trained_blocks),
        targets=LORA_TARGETS,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
    )


@torch.no_grad()
def _begin(detector: Gapl, config: Config) -> None:
    """Take projection and prototypes from the first stage."""
    from safetensors import SafetensorError, safe_open

    path = Path(config.start)
    if not config.start or not path.is_file():
        raise MissingDataError(
            f"GAPL's second stage starts from the first: method.start = {config.start!r} is no checkpoint of it."
        )
    wanted = {"project.weight": detector.project.weight}
    if config.prototype_source == "pca":
        wanted["mix.prototypes"] = detector.mix.prototypes
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise IncompatibleCheckpointError(f"{path} is no checkpoint of GAPL: {error}.") from error
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape or not found[name].any():
            raise IncompatibleCheckpointError(
                f"{path}: {name} is {tuple(found[name].shape)}, expected {tuple(tensor.shape)} and not all zero: "
                "train it with method.stage = 'projection', a section probing and the same sizes."
            )
        tensor.copy_(found[name])


def _view(config: Config, backbone: Backbone) -> ViewSpec:
    statistics = _IMAGENET if config.normalisation == "imagenet" else (backbone.mean, backbone.std)
    return view_of(config, *statistics)


def _rate(how: Projecting, step: int, total: int) -> float:
    """Return the factor on the learning rate by step."""
    warmup = max(1, round(how.warmup_share * total))
    if step < warmup:
        return (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return how.final_share + (1 - how.final_share) * 0.5 * (1 + math.cos(math.pi * share))


def loss(config: Config) -> Loss:
    """Return the cross-entropy of "contains generated pixels".

    Raises:
        RecipeError: For the first stage, which is fitted: the loop would leave it without prototypes.
    """
    if config.stage == "projection":
        raise RecipeError("GAPL's stage 'projection' is fitted: give the recipe a section probing.")
    return losses.generated_bce


TINY = Config(
    backbone="compact",
    compact=CompactConfig(widths=(4, 8, 16), depths=(1, 1, 1), fused=16, fused_depth=1, token=32),
    adapt="full",
    width=16,
    prototypes=8,
    attention_heads=2,
    size=32,
    fit="tiles",
)

METHOD = Method(
    title="GAPL",
    paper="arXiv:2512.12982",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
