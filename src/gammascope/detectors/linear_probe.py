"""Linear probe: one linear layer on the frozen features of a pretrained backbone (UnivFD, arXiv:2302.10174).

With a vision foundation model behind it this is the baseline that new methods have to beat (arXiv:2602.01738). UnivFD
probes CLIP ViT-L/14; any other backbone and any of its layers is a value of ``Config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope import losses
from gammascope.detectors.base import FittedDetector, Loss, Method, Seen, view_of
from gammascope.imaging.views import Fit, Pool
from gammascope.networks.base import Backbone
from gammascope.networks.compact import CompactConfig
from gammascope.networks.logistic import fit_logistic, log_loss
from gammascope.networks.mobilenet import MobileNetConfig
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Config:
    """What is probed, and how.

    Attributes:
        backbone: "embedded" (the one of the embedded detector), a checkpoint with a backbone of ours, or a vision tower
            of ``transformers``: hub id or local folder. "compact" and "mobilenetv2" are for checkpoints to fill.
        architecture: The tower's configuration as JSON, filled in on loading; with it, ``build`` reads nothing.
        compact: Sizes of the compact backbone, filled in on loading.
        mobilenetv2: Sizes of that backbone, filled in on loading.
        feature: What is read: the image token, the mean of the patch tokens, or both.
        layers: Blocks of a tower (from 1) whose patch tokens are averaged; none: the last. The image token is always
            the final one.
        penalties: Weights of the L2 penalty that are tried on standardised features; the one with the lowest
            log-loss on validation views is kept, the strongest where there are none.
        size: Side of a view, pixels.
        fit: How an image becomes views.
        pool: How tile logits become one.
        max_tiles: Tiles looked at in a large image; None = all.
        overview: Weight of the reduced whole image beside its tiles; 0 = not looked at.
    """

    backbone: str = "openai/clip-vit-large-patch14"
    architecture: str = ""
    compact: CompactConfig = field(default_factory=CompactConfig)
    mobilenetv2: MobileNetConfig = field(default_factory=MobileNetConfig)
    feature: Literal["token", "patches", "both"] = "token"
    layers: tuple[int, ...] = ()
    penalties: tuple[float, ...] = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
    size: int = 224
    fit: Fit = "center_crop"
    pool: Pool = "mean"
    max_tiles: int | None = None
    overview: float = 0.0


class LinearProbe(FittedDetector):
    """A frozen backbone and a linear layer."""

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        parts = {"token": backbone.token_channels, "patches": backbone.grid_channels}
        wanted = parts if config.feature == "both" else {config.feature: parts[config.feature]}
        self.reads = tuple(wanted)
        self.head = nn.Linear(sum(wanted.values()), 1)

    @property
    def seen_through(self) -> Mapping[str, Any]:
        """Which parts of which layers are read."""
        return {"reads": list(self.reads), "layers": list(self.config.layers)}

    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the image token, the mean patch token, or one after the other."""
        seen = self.backbone(pixels)
        parts = {"token": seen.token, "patches": seen.grid.flatten(2).mean(2)}
        return torch.cat([parts[name] for name in self.reads], 1)

    def answer(self, features: Float[Tensor, "b d"]) -> Prediction:
        """Predict "contains generated pixels"."""
        logit = self.head(features).squeeze(1).float()
        return Prediction(logit, {"generated": logit})

    @torch.no_grad()
    def fit(self, training: Seen, validation: Seen | None) -> dict[str, float]:
        """Set the linear layer to the optimum of penalised logistic regression."""
        penalties = sorted(self.config.penalties, reverse=True)
        if validation is None:
            penalties = penalties[:1]
        fitted = {p: fit_logistic(training.features, training.generated, p) for p in penalties}
        judge = validation or training
        truth = judge.generated
        loss = {p: log_loss(found.logits(judge.features), truth) for p, found in fitted.items()}
        best = min(penalties, key=loss.__getitem__)
        self.head.weight.copy_(fitted[best].weight[None])
        self.head.bias.copy_(fitted[best].bias[None])
        fit_loss = log_loss(fitted[best].logits(training.features), training.generated)
        return {"penalty": best, "log_loss": fit_loss, "log_loss_judged": loss[best]}


def build(config: Config) -> LinearProbe:
    """Make the network; a pretrained backbone is read only where the config is not complete."""
    backbone, completed = backbone_for(config, taps=config.layers)
    return LinearProbe(completed, backbone)


def loss(config: Config) -> Loss:
    """Return the cross-entropy of "contains generated pixels", for training by the loop."""
    del config
    return losses.generated_bce


TINY = Config(
    backbone="compact",
    compact=CompactConfig(widths=(4, 8, 16), depths=(1, 1, 1), fused=16, fused_depth=1, token=32),
    feature="both",
    size=32,
    fit="tiles",
)

METHOD = Method(
    title="Linear probe (UnivFD)",
    paper="arXiv:2302.10174",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
