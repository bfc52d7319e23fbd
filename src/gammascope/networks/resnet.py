"""A residual network with bottlenecks, as ResNet-50: features of faces, or of what pixels leave behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.networks import published

_LAYERS = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
"""Published names of the layers of a bottleneck's body, by place."""


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which takes the stride) and 1 x 1 convolution, added to the input."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        width_out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width_out, 1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out)
            )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return the activated sum."""
        return functional.relu(self.shortcut(x) + self.body(x))


class ResNet(nn.Module):
    """Stem, stages of bottlenecks, and the mean over places. ``ResNet()`` is ResNet-50 without its classifier.

    Args:
        width: Channels of the stem.
        depths: Bottlenecks of each stage.
        stem: Side of the first filters, odd, pixels.

    Source: arXiv:1512.03385, with the stride in the 3 x 3 convolution, as is usual today.
    """

    def __init__(
        self, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3), *, stem: int = 7
    ) -> None:
        super().__init__()
        self.channels = 4 * width * 2 ** (len(depths) - 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, stem, stride=2, padding=stem // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = []
        before = width
        for index, depth in enumerate(depths):
            inner = width * 2**index
            for block in range(depth):
                stride = 2 if index and not block else 1
                stages.append(Bottleneck(before, inner, stride))
                before = 4 * inner
        self.stages = nn.Sequential(*stages)
        self.depths = tuple(depths)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return one vector per view."""
        pooled: Tensor = self.stages(self.stem(pixels)).mean((2, 3))
        return pooled

    def published_names(self) -> dict[str, str]:
        """Return the name that each tensor of this network has in files of torchvision and timm, by its own name."""
        named = {"stem.0.": "conv1.", "stem.1.": "bn1."}
        places = [(s, b) for s, depth in enumerate(self.depths, 1) for b in range(depth)]
        for index, (stage, block) in enumerate(places):
            ours, theirs = f"stages.{index}.", f"layer{stage}.{block}."
            named |= {f"{ours}body.{place}.": f"{theirs}{name}." for place, name in _LAYERS.items()}
            named |= {f"{ours}shortcut.{n}.": f"{theirs}downsample.{n}." for n in (0, 1)}
        return {
            own: theirs + own.removeprefix(ours)
            for own in self.state_dict()
            for ours, theirs in named.items()
            if own.startswith(ours)
        }

    def load_pretrained(self, path: Path) -> None:
        """Start from ImageNet weights under the names of torchvision and timm; their classifier is not used.

        Args:
            path: A safetensors file.

        Raises:
            MissingDataError: If there is no such file.
            IncompatibleCheckpointError: If it is no safetensors file, or lacks a layer or has another shape for it.
        """
        own = self.state_dict()
        # Some files leave the counters of batch norms out.
        names = {o: t for o, t in self.published_names().items() if own[o].is_floating_point()}
        published.fill(self, path, "ResNet", names)
