"""Linear probe: one linear layer on the frozen features of a pretrained backbone (UnivFD, arXiv:2302.10174).

With a vision foundation model behind it this is the baseline that new methods have to beat (arXiv:2602.01738). UnivFD
probes CLIP ViT-L/14; any other backbone and any of its layers is a value of ``Config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import BackboneConfig, FittedDetector, Loss, Method, Seen, view_of
from gammascope.errors import RecipeError
from gammascope.imaging.views import MOSAIC, WHOLE
from gammascope.networks.base import Backbone, Features
from gammascope.networks.compact import CompactConfig
from gammascope.networks.fitted import Logistic, fit_logistic, log_loss
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Config(BackboneConfig):
    """What is probed, and how.

    With ``overview`` above 0 the reduced whole has a reading of its own, with ``mosaic`` the mosaic: what these add
    stands in ``whole`` and ``mosaic``, and is 0 until they are fitted (``LinearProbe.set``).

    Attributes:
        feature: What is read: the image token, the mean of the patch tokens, or both.
        reads: As in all methods, but the tokens as they leave their blocks: the fit standardises them.
        shared: Width of the space that CLIP shares with text: the image token is projected to it and scaled to unit
            length before it is read, as C2P-CLIP (arXiv:2408.09647) does; filled in where a published file is
            converted. 0: it is read as it is.
        layers: Blocks of a tower (from 1) whose patch tokens are averaged; none: the last.
        cells: Also give the map of what each patch adds, where patch tokens are read.
        penalties: Weights of the L2 penalty that are tried on standardised features; the one with the lowest
            log-loss on validation views is kept, the strongest where there are none.
    """

    feature: Literal["token", "patches", "both"] = "token"
    shared: int = 0
    layers: tuple[int, ...] = ()
    cells: bool = False
    penalties: tuple[float, ...] = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)


class LinearProbe(FittedDetector):
    """A frozen backbone and a linear layer.

    Where patch tokens are read, the layer's share of their mean is a sum over patches. So each patch has a logit of its
    own: what the layer would say if all patches were like this one. With ``Config.cells`` that is the map "generated":
    exact, but never taught where anything is.
    """

    def __init__(self, config: Config, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone = backbone
        token = backbone.token_channels
        self.to_shared: nn.Linear | None = None
        if config.shared:
            self.to_shared = nn.Linear(token, config.shared, bias=False)
            self.to_shared.requires_grad_(requires_grad=False)
            token = config.shared
        parts = {"token": token, "patches": backbone.grid_channels}
        wanted = parts if config.feature == "both" else {config.feature: parts[config.feature]}
        self.reads = tuple(wanted)
        width = sum(wanted.values())
        self.head = nn.Linear(width, 1)
        self.whole = _nothing_added(width) if config.overview else None
        self.mosaic = _nothing_added(width) if config.mosaic else None

    @property
    def seen_through(self) -> Mapping[str, Any]:
        """Which parts of which layers are read."""
        read = {"reads": list(self.reads), "layers": list(self.config.layers)}
        return read | ({"tokens": list(self.config.reads)} if self.config.reads else {})

    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the image token, the mean patch token, or one after the other."""
        return self._read(self.backbone(pixels))

    def _read(self, seen: Features) -> Float[Tensor, "b d"]:
        parts = {"token": seen.summary["content"] if self.config.reads else seen.token}
        if self.to_shared is not None:
            parts["token"] = functional.normalize(self.to_shared(parts["token"]).float(), dim=1)
        parts["patches"] = seen.grid.flatten(2).mean(2)
        return torch.cat([parts[name] for name in self.reads], 1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict from normalised views, with the map where the config has one."""
        seen = self.backbone(pixels)
        features = self._read(seen)
        found = self.answer(features)
        if not self.config.cells or "patches" not in self.reads:
            return found
        weight = self.head.weight[:, -seen.grid.shape[1] :]
        own = functional.conv2d(seen.grid, weight[:, :, None, None])[:, 0]
        cells = found.logit[:, None, None] + own - own.mean((1, 2), keepdim=True)
        return replace(found, masks={"generated": cells.float()})

    def answer(self, features: Float[Tensor, "b d"]) -> Prediction:
        """Predict "contains generated pixels"."""
        logit = self.head(features).squeeze(1).float()
        answers = {"generated": logit}
        if self.whole is not None:
            answers[WHOLE] = self.whole(features).squeeze(1).float()
        if self.mosaic is not None:
            answers[MOSAIC] = self.mosaic(features).squeeze(1).float()
        return Prediction(logit, answers)

    @torch.no_grad()
    def set(
        self, tiles: Logistic, whole: Logistic | None = None, mosaic: Logistic | None = None
    ) -> None:
        """Take over readings that were fitted apart: of native tiles, of reduced whole images, of mosaics.

        An image's logit is then their weighted mean, by ``Config.overview`` and ``Config.mosaic``.
        """
        self.head.weight.copy_(tiles.weight[None])
        self.head.bias.copy_(tiles.bias[None])
        if whole is not None and self.whole is not None:
            share = self.config.overview
            self.whole.weight.copy_(share * (whole.weight - tiles.weight)[None])
            self.whole.bias.copy_(share * (whole.bias - tiles.bias)[None])
        if mosaic is not None and self.mosaic is not None:
            self.mosaic.weight.copy_((mosaic.weight - tiles.weight)[None])
            self.mosaic.bias.copy_((mosaic.bias - tiles.bias)[None])

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
        self.set(fitted[best])
        fit_loss = log_loss(fitted[best].logits(training.features), training.generated)
        return {"penalty": best, "log_loss": fit_loss, "log_loss_judged": loss[best]}


def _nothing_added(width: int) -> nn.Linear:
    """Make a reading that adds nothing until it is fitted."""
    layer = nn.Linear(width, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def build(config: Config) -> LinearProbe:
    """Make the network; a pretrained backbone is read only where the config is not complete.

    Raises:
        RecipeError: If a projection to CLIP's shared space is to be made of nothing.
    """
    if config.shared and not config.architecture:
        raise RecipeError(
            f"method.shared = {config.shared}: only a converted file holds that projection; leave it 0 to train."
        )
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
