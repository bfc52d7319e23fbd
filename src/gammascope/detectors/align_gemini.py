"""AlignGemini, pixel expert: adapters taught by photos and their own autoencoder round trips (arXiv:2512.06746).

AlignGemini gives each task the model that suits it: a vision model for traces in pixels, this file; a vision-language
model for what a picture shows, ``detection.judge``; fake is what either calls fake, ``detection.fusion``. The pixel
expert is that of Dual Data Alignment, whose code is public: LoRA on every linear layer of DINOv2's blocks, crops that
are never resized, cross-entropy and a contrast of pairs in equal parts, on photos beside their twins in one batch,
which differ by what the autoencoder left and by nothing else (``data.laws.Pairs``, a section of the recipe).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from gammascope import losses
from gammascope.detectors.base import AdaptedConfig, Detector, Loss, Method, view_of
from gammascope.networks.adapters import add_lora
from gammascope.networks.backbones import FAMILIES, TransformerBackbone
from gammascope.networks.base import Backbone
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Batch, Prediction

ADAPTED = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "out_proj",
    "fc1",
    "fc2",
    "gate_proj",
    "up_proj",
    "down_proj",
)
"""Every linear layer of a block, by the names of all families; the published code has one layer for q, k and v."""


@dataclass(frozen=True, slots=True)
class Config(AdaptedConfig):
    """Sizes and choices of the pixel expert; the defaults are those of the published code.

    Attributes:
        backbone: "embedded" (the one of the embedded detector), a checkpoint with a backbone of ours, or a vision tower
            of ``transformers``: hub id or local folder. "compact" and "mobilenetv2" have random weights.
        lora_alpha: Adapters are scaled by ``lora_alpha / lora_rank``.
        lambda_label: Weight of the cross-entropy.
        lambda_pairs: Weight of the contrast of pairs.
        margin: Distance on the unit sphere beyond which two views of different labels are far enough.
        size: Side of a view, pixels.
        normalisation: "clip", as the published code does before DINOv2, or the "backbone"'s own.
    """

    backbone: str = "facebook/dinov2-large"
    lora_alpha: int = 1
    lambda_label: float = 0.5
    lambda_pairs: float = 0.5
    margin: float = 1.0
    size: int = 336
    normalisation: Literal["clip", "backbone"] = "clip"


class PixelExpert(Detector):
    """A backbone with adapters; a linear layer on its image token."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        own = backbone.mean, backbone.std
        clip = FAMILIES["clip"].normalisation
        self.view = view_of(config, *(clip if config.normalisation == "clip" else own))
        self.backbone = backbone
        self.head = nn.Linear(backbone.token_channels, 1)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict "contains generated pixels"."""
        token = self.backbone(pixels).token.float()
        logit = self.head(token).squeeze(1).float()
        return Prediction(logit, {"generated": logit}, features={"token": token})


def build(config: Config) -> PixelExpert:
    """Make the network; weights are read only where the config is not complete."""
    frozen, trained = config.adapt != "full", config.trained_blocks
    backbone, completed = backbone_for(config, frozen=frozen, trained_blocks=trained)
    if isinstance(backbone, TransformerBackbone) and config.adapt == "lora":
        add_lora(
            backbone.tower,
            blocks=backbone.last_blocks(config.trained_blocks),
            targets=ADAPTED,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
        )
    return PixelExpert(completed, backbone)


def loss(config: Config) -> Loss:
    """Return the loss: cross-entropy, and the contrast of pairs."""

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        label = losses.generated_label(batch)
        pairs = losses.pair_contrastive(prediction.features["token"], label, margin=config.margin)
        return {
            "label_bce": config.lambda_label * losses.label_bce(prediction.logit, label),
            "pairs": config.lambda_pairs * pairs,
        }

    return terms


TINY = Config(
    backbone="random",
    architecture=json.dumps(
        {
            "model_type": "dinov2",
            "hidden_size": 32,
            "mlp_ratio": 2,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 8,
            "image_size": 32,
        }
    ),
    size=32,
)

METHOD = Method(
    title="AlignGemini (pixel expert)",
    paper="arXiv:2512.06746",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
