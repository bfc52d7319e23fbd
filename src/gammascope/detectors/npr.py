"""NPR: what nearest-neighbour up-sampling cannot give back of its own input, seen by a short ResNet (arXiv:2312.10461).

Neighbouring pixels that a generator's up-sampling made together resemble each other in a way that camera pixels do
not. The network sees each picture minus itself halved and doubled again without interpolation: of every 2 x 2 pixels,
how the other three differ from the first.

Source: arXiv:2312.10461; layers, the factor 2/3 and preprocessing as in the authors' public code, written anew from
its description. A view with an odd side repeats its last row or column, where theirs refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import Detector, Loss, Method, ViewConfig, view_of
from gammascope.imaging.views import Fit
from gammascope.networks.resnet import ResNet
from gammascope.prediction import Prediction

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Config(ViewConfig):
    """Sizes; the defaults are the paper's.

    Attributes:
        width: Channels of the first stage inside its bottlenecks.
        depths: Bottlenecks of each stage: ResNet-50 cut after its second.
        size: Side of a view, pixels.
        fit: How an image becomes views; the authors' tests squeeze it.
        front: What the network sees: the "relations" of neighbours, or the finest diagonal band of a "wavelet"
            transform of pixels 0 to 1, as SAFE (arXiv:2408.06741) shows the same network.
    """

    width: int = 64
    depths: tuple[int, ...] = (3, 4)
    size: int = 256
    fit: Fit = "resize"
    front: Literal["relations", "wavelet"] = "relations"


class NPR(Detector):
    """Neighbouring pixel relationships, a ResNet without its deep half, one logit."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        self.view = view_of(config, *(plain if config.front == "wavelet" else (_MEAN, _STD)))
        self.network = ResNet(config.width, config.depths, stem=3)
        self.head = nn.Linear(self.network.channels, 1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict "contains generated pixels"."""
        wavelet = self.config.front == "wavelet"
        seen = diagonals(pixels) if wavelet else 2 / 3 * relations(pixels)
        logit = self.head(self.network(seen)).squeeze(1).float()
        return Prediction(logit, {"generated": logit})


def relations(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
    """Return how each pixel differs from the top left one of its 2 x 2; sides are rounded up to even.

    >>> import torch
    >>> relations(torch.tensor([[[[5.0, 7.0], [4.0, 5.0]]]]))[0, 0].tolist()
    [[0.0, 2.0], [-1.0, 0.0]]
    """
    below, right = (side % 2 for side in pixels.shape[-2:])
    if below or right:
        pixels = functional.pad(pixels, (0, right, 0, below), mode="replicate")
    first = pixels[..., ::2, ::2]
    return pixels - first.repeat_interleave(2, -2).repeat_interleave(2, -1)


def diagonals(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Return the finest diagonal band of the biorthogonal wavelet 1.3, enlarged to the size of the view.

    Its high-pass filter has two taps, so a coefficient is half the difference of the diagonals of 2 x 2 pixels. The
    transform's longer low-pass filter adds a coefficient on every side, of mirrored pixels.

    >>> import torch
    >>> diagonals(torch.ones(1, 3, 8, 8)).abs().max().item()
    0.0
    """
    rows, columns = (_mirrored(side, pixels.device) for side in pixels.shape[-2:])
    around = pixels[..., rows, :][..., columns]
    top, bottom = around[..., ::2, :], around[..., 1::2, :]
    down = top - bottom
    band = 0.5 * (down[..., ::2] - down[..., 1::2])
    height, width = pixels.shape[-2:]
    return functional.interpolate(band, size=(height, width), mode="bilinear")


def _mirrored(side: int, device: torch.device) -> Int[Tensor, " n"]:
    """Return which pixels stand in pairs along an axis that goes on mirrored: two before it, and two or three after."""
    place = torch.arange(-2, side + 2 + side % 2, device=device)
    place = torch.where(place < 0, -1 - place, place)
    return torch.where(place >= side, 2 * side - 1 - place, place)


def build(config: Config) -> NPR:
    """Make the network, with random weights."""
    return NPR(config)


def loss(config: Config) -> Loss:
    """Return the cross-entropy of "contains generated pixels"."""
    del config
    return losses.generated_bce


METHOD = Method(
    title="NPR",
    paper="arXiv:2312.10461",
    config=Config(),
    tiny=Config(width=4, depths=(1, 1), size=32),
    build=build,
    loss=loss,
)
