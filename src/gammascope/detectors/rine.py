"""RINE: what every block of frozen CLIP says of a picture, weighed feature by feature (arXiv:2402.19091).

The image token of each block, as it enters the block's second half, is projected by one small network for all blocks. A
trained importance, a softmax over blocks for each feature, adds them up; a second projection is contrasted and
classified.

Source: arXiv:2402.19091; layers, sizes and loss as in the authors' public code, written anew from its description.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope import losses
from gammascope.detectors.base import BackboneConfig, Detector, Loss, Method, tiny_clip, view_of
from gammascope.errors import RecipeError
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Batch, Prediction


@dataclass(frozen=True, slots=True)
class Config(BackboneConfig):
    """Sizes; the defaults are those of the paper's model of four classes.

    Attributes:
        width: Of both projections.
        depth: Layers of each of them.
        dropout: Share of numbers that is dropped before and behind each layer in training.
        temperature: Of the contrastive loss.
        lambda_contrastive: Its weight beside the mean cross-entropy of a view. The authors add up the cross-entropy of
            128 views, beside which theirs is 0.2.
    """

    width: int = 1024
    depth: int = 2
    dropout: float = 0.5
    temperature: float = 0.07
    lambda_contrastive: float = 0.2 / 128


class RINE(Detector):
    """A frozen CLIP, two projections, and the importance of each block for each feature."""

    def __init__(self, config: Config, backbone: TransformerBackbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        blocks = len(backbone.tower.encoder.layers)
        inputs = [backbone.token_channels, *[config.width] * (config.depth - 1)]
        self.project = _layers(inputs, config.width, config.dropout)
        self.importance = nn.Parameter(torch.randn(blocks, config.width))
        self.gather = _layers([config.width] * config.depth, config.width, config.dropout)
        self.head = nn.Sequential(
            *list(_layers([config.width] * 2, config.width, config.dropout))[1:],
            nn.Linear(config.width, 1),
        )

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict "contains generated pixels"."""
        with torch.no_grad():
            tokens = self.tokens(pixels)
        seen = self.project(tokens)
        gathered = self.gather((self.importance.softmax(0) * seen).sum(1))
        logit = self.head(gathered).squeeze(1).float()
        return Prediction(logit, {"generated": logit}, features={"embedding": gathered.float()})

    def tokens(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Return the image token of every block between its attention and its second half, after that half's norm."""
        tower: Any = self.backbone.tower
        native = (tower.config.image_size,) * 2
        x = tower.embeddings(pixels, interpolate_pos_encoding=tuple(pixels.shape[-2:]) != native)
        x = tower.pre_layrnorm(x)
        kept = []
        for block in tower.encoder.layers:
            x = x + block.self_attn(block.layer_norm1(x), attention_mask=None)[0]
            even = block.layer_norm2(x)
            kept.append(even[:, 0])
            x = x + block.mlp(even)
        return torch.stack(kept, 1)


def _layers(inputs: list[int], width: int, dropout: float) -> nn.Sequential:
    """Return dropout, and for each width that comes in a linear layer, ReLU and dropout."""
    parts: list[nn.Module] = [nn.Dropout(dropout)]
    for entering in inputs:
        parts += [nn.Linear(entering, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts)


def build(config: Config) -> RINE:
    """Make the network; weights of CLIP are read only where the config is not complete.

    Raises:
        RecipeError: If the backbone is no CLIP, tokens of chosen blocks are to be read, or there is no layer.
        GammascopeError: As ``backbone_for``.
    """
    if config.depth < 1 or config.width < 1:
        raise RecipeError(
            f"depth={config.depth}, width={config.width}: expected at least 1 of both."
        )
    if config.reads:
        raise RecipeError("RINE reads every block already: leave out method.reads.")
    backbone, complete = backbone_for(config)
    if not isinstance(backbone, TransformerBackbone) or not hasattr(backbone.tower, "pre_layrnorm"):
        raise RecipeError(f"RINE reads the blocks of a CLIP, not of {config.backbone!r}.")
    return RINE(complete, backbone)


def loss(config: Config) -> Loss:
    """Return the loss: cross-entropy, and the contrast of what the head reads."""

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        return losses.contrasted_bce(
            prediction,
            batch,
            temperature=config.temperature,
            contrastive=config.lambda_contrastive,
        )

    return terms


TINY = Config(
    backbone="random",
    architecture=tiny_clip(),
    width=32,
    depth=1,
    size=32,
)

METHOD = Method(
    title="RINE",
    paper="arXiv:2402.19091",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
