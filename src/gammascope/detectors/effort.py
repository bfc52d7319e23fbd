"""Effort: train one singular direction per attention matrix and keep the rest of CLIP as it is (arXiv:2411.15633).

Every linear layer of self-attention is split by its singular values into a frozen principal part and a trained
residual, which starts as the weakest direction of the pretrained weight. Tuning then has little room to forget what
the backbone knows, and cannot collapse onto the few fake patterns it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope import losses
from gammascope.detectors.base import BackboneConfig, Detector, Loss, Method, tiny_clip, view_of
from gammascope.networks.adapters import ATTENTION_LAYERS, ResidualSVDLinear, add_residual_svd
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.base import Backbone
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Batch, Prediction

POINTWISE_LAYERS = ".*"
"""Backbones of ours have no attention: all their linear layers and 1 x 1 convolutions are split."""


@dataclass(frozen=True, slots=True)
class Config(BackboneConfig):
    """Sizes and choices of Effort; the defaults are those of the published code.

    Attributes:
        residual_rank: Singular directions that are trained in each matrix.
        lambda_orthogonality: Weight of the penalty on leaving the orthogonal complement. The paper's objective has both
            penalties, its published code neither: 0, as in the code.
        lambda_energy: Weight of the penalty on changing a matrix's squared norm.
        trained_blocks: Only so many last blocks of a tower are adapted; 0, as published: all.
    """

    residual_rank: int = 1
    trained_blocks: int = 0
    lambda_orthogonality: float = 0.0
    lambda_energy: float = 0.0


class Effort(Detector):
    """A backbone with residual-SVD layers; a linear layer on its image token."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        self.head = nn.Linear(backbone.token_channels, 1)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict "contains generated pixels"; in training with the penalties that the config asks for."""
        logit = self.head(self.backbone(pixels).token).squeeze(1).float()
        asked = _weights_of_penalties(self.config) if self.training else {}
        penalties = {name: self.penalty(name) for name in asked}
        return Prediction(logit, {"generated": logit}, penalties=penalties)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Spare the trained directions: decay would take away what the pretrained weights know in them."""
        return super().decays(name, parameter) and not name.endswith((".u", ".v"))

    def penalty(self, name: str) -> Float[Tensor, ""]:
        """Return the mean of "orthogonality" or "energy" over the layers."""
        layers = (m for m in self.backbone.modules() if isinstance(m, ResidualSVDLinear))
        return torch.stack([getattr(layer, name)() for layer in layers]).mean()


def build(config: Config) -> Effort:
    """Make the network; weights are read, and split, only where the config is not complete."""
    backbone, completed = backbone_for(config)
    targets = POINTWISE_LAYERS
    if isinstance(backbone, TransformerBackbone):
        blocks = backbone.last_blocks(config.trained_blocks)
        targets = rf"tower\.{blocks}\.{ATTENTION_LAYERS}"
    add_residual_svd(
        backbone,
        targets=targets,
        rank=config.residual_rank,
        split=completed is not config,
    )
    return Effort(completed, backbone)


def loss(config: Config) -> Loss:
    """Return the loss: cross-entropy, and the penalties with a weight."""
    weights = _weights_of_penalties(config)

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        penalties = {name: weights[name] * value for name, value in prediction.penalties.items()}
        return losses.generated_bce(prediction, batch) | penalties

    return terms


def _weights_of_penalties(config: Config) -> dict[str, float]:
    weights = {"orthogonality": config.lambda_orthogonality, "energy": config.lambda_energy}
    return {name: weight for name, weight in weights.items() if weight}


TINY = Config(architecture=tiny_clip(), size=32)

METHOD = Method(
    title="Effort",
    paper="arXiv:2411.15633",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
