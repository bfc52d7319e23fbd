"""MobileNetV2 as a backbone for native pixels, with several depths tapped: with a small trained stem for masks.

Textures that ImageNet taught are the cheapest start for a small detector: on held-out sources, a linear probe on a few
thousand views of the frozen network already ranks fakes of unseen generators better than a network of this size that
learns from pixels alone (docs/experiments.md). Shallow taps see traces, deep ones see whether they fit the content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.networks import published
from gammascope.networks.base import Backbone, Features
from gammascope.networks.compact import Halve, Residual
from gammascope.networks.frequency import BandEnergies

_GAIN = 4.0
"""Factor on the high-pass residual, which is about a tenth as strong as the image."""


class TraceStem(nn.Module):
    """Pixels and their high-pass residual, halved three times without losing any, seen at each resolution.

    What ImageNet taught sees textures; that a region was pasted shows in how noise, blur and compression differ from
    its surroundings, which has to be learnt from edits. On the image-level answer such features mislead
    (docs/experiments.md), so they join the grid and not the token.

    Source: our design, after the compact backbone.

    Args:
        channels: At one half, one quarter and one eighth of the resolution.
        fused: Channels of the grid.
    """

    def __init__(self, channels: tuple[int, ...], fused: int) -> None:
        super().__init__()
        if len(channels) != 3:
            raise ValueError(f"traces={channels}: expected three numbers of channels.")
        widths = (6, *channels)
        self.stages = nn.Sequential(
            *(part for a, b in pairwise(widths) for part in (Halve(a, b), Residual(b)))
        )
        self.to_grid = nn.Conv2d(channels[-1], fused, 1, bias=False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d gh gw"]:
        """Return what the stem adds to each cell of 8 x 8 pixels."""
        padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
        residual = _GAIN * (pixels - functional.avg_pool2d(padded, 3, stride=1))
        result: Tensor = self.to_grid(self.stages(torch.cat([pixels, residual], 1)))
        return result


_SPREAD = 0.5
"""How far deviations carry where means count 1; they tell old generators, and mislead on new ones (E7)."""


@dataclass(frozen=True, slots=True)
class MobileNetConfig:
    """Sizes; the defaults are those of width 1.0, without the last stage and the classifier.

    Attributes:
        stem: Channels of the first convolution, which halves the resolution.
        channels: Of each stage.
        blocks: Inverted residuals in each stage.
        strides: Of the first block of each stage.
        expansion: Factor on the channels inside a block; the first stage has none.
        fused: Channels of the grid.
        token: Channels of the image token.
        bands: Side of the blocks whose log DCT energies join the grid, pixels: twice the stride of the grid, or
            0: none. They stay out of the token: on generators never seen they mislead it (docs/experiments.md).
        traces: Channels of a trainable stem that joins the grid too, at one half, one quarter and one eighth of the
            resolution; empty: none.
        token_from: First stage, from 1, whose statistics make the token.
        spread: Factor on the deviations among these statistics, after standardising; means count 1.
        last: Channels of the last convolution (1,280 in the published network), whose means join the token; 0: none.
        last_in_token: Whether they do, or stand in the summary alone: trained heads do better without them, linear
            readings with them (docs/experiments.md).
        dropout: Share of these statistics that training hides from the token.
        trained: "all", or only our "own" layers: what ImageNet taught then stays as it is, batch norms too.

    Source: arXiv:1801.04381, table 2; ``fused`` and ``token`` are ours.
    """

    stem: int = 32
    channels: tuple[int, ...] = (16, 24, 32, 64, 96, 160)
    blocks: tuple[int, ...] = (1, 2, 3, 4, 3, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2)
    expansion: int = 6
    fused: int = 96
    token: int = 128
    bands: int = 0
    traces: tuple[int, ...] = ()
    token_from: int = 1
    spread: float = 1.0
    last: int = 0
    last_in_token: bool = True
    dropout: float = 0.0
    trained: Literal["all", "own"] = "all"


class SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's "same": where it strides, more below and to the right."""

    def __init__(
        self, width_in: int, width_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        even = kernel // 2 if stride == 1 else 0
        super().__init__(width_in, width_out, kernel, stride, even, groups=groups, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return one cell for every ``stride`` pixels, rounded up."""
        if self.stride[0] > 1:
            rows, columns = (
                max(0, (-(-n // s) - 1) * s + k - n)
                for n, s, k in zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
            )
            x = functional.pad(x, (columns // 2, -(-columns // 2), rows // 2, -(-rows // 2)))
        return super().forward(x)


class Separable(nn.Module):
    """Depthwise 3 x 3 and a linear 1 x 1: the block of the first stage. Names are timm's."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv(width_in, width_in, 3, stride, groups=width_in)
        self.bn1 = _norm(width_in)
        self.conv_pw = SameConv(width_in, width_out, 1)
        self.bn2 = _norm(width_out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return the block's output, plus its input where the shapes agree."""
        y = self.bn2(self.conv_pw(functional.relu6(self.bn1(self.conv_dw(x)))))
        result: Tensor = x + y if y.shape == x.shape else y
        return result


class InvertedResidual(nn.Module):
    """Widen, look, narrow; added to the input where the shapes agree. Names are timm's."""

    def __init__(self, width_in: int, width_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.conv_pw = SameConv(width_in, inner, 1)
        self.bn1 = _norm(inner)
        self.conv_dw = SameConv(inner, inner, 3, stride, groups=inner)
        self.bn2 = _norm(inner)
        self.conv_pwl = SameConv(inner, width_out, 1)
        self.bn3 = _norm(width_out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return the block's output, plus its input where the shapes agree."""
        y = functional.relu6(self.bn1(self.conv_pw(x)))
        y = self.bn3(self.conv_pwl(functional.relu6(self.bn2(self.conv_dw(y)))))
        result: Tensor = x + y if y.shape == x.shape else y
        return result


class MobileNetBackbone(Backbone):
    """MobileNetV2 whose stages all speak: statistics of each make the token, their fusion the grid.

    >>> sizes = MobileNetConfig(8, (8, 8, 16), (1, 1, 1), (1, 2, 2), fused=8, token=16)
    >>> features = MobileNetBackbone(sizes).eval()(torch.zeros(2, 3, 32, 32))
    >>> tuple(features.token.shape), tuple(features.grid.shape)
    ((2, 16), (2, 8, 4, 4))
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    stride = 8

    weights: Tensor

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        if not len(config.channels) == len(config.blocks) == len(config.strides):
            raise ValueError(
                f"As many channels as blocks and strides: {config.channels}, {config.blocks}, {config.strides}."
            )
        if not 1 <= config.token_from <= len(config.channels):
            raise ValueError(
                f"token_from={config.token_from}: expected a stage, 1 to {len(config.channels)}."
            )
        self.token_channels, self.grid_channels = config.token, config.fused
        self.token_from, self.dropout = config.token_from, config.dropout
        self.conv_stem = SameConv(3, config.stem, 3, 2)
        self.bn1 = _norm(config.stem)
        self.blocks = nn.ModuleList()
        self.to_grid = nn.ModuleList()
        self.folds: list[int] = []
        width, stride = config.stem, 2
        for index, (channels, blocks, step) in enumerate(
            zip(config.channels, config.blocks, config.strides, strict=True)
        ):
            stage = nn.Sequential()
            for number in range(blocks):
                this = step if number == 0 else 1
                stage.append(
                    InvertedResidual(width, channels, this, config.expansion)
                    if index
                    else Separable(width, channels, this)
                )
                width = channels
            stride *= step
            fold = max(1, self.stride // stride)  # finer cells move into channels: nothing is lost
            self.blocks.append(stage)
            self.folds.append(fold)
            self.to_grid.append(nn.Conv2d(fold * fold * channels, config.fused, 1, bias=False))
        self.bands: LocalSpectrum | None = None
        if config.bands:
            self.bands = LocalSpectrum(config.bands, self.stride, config.fused, self.std[0])
        self.traces = TraceStem(config.traces, config.fused) if config.traces else None
        self.norm_grid = nn.BatchNorm2d(config.fused)
        self.conv_head = SameConv(width, config.last, 1) if config.last else None
        self.bn2 = _norm(config.last) if config.last else None
        weights = _weighed(config, config.spread)
        if config.last_in_token:
            weights += [1.0] * config.last
        numbers = len(weights)
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self.norm_statistics = nn.BatchNorm1d(numbers, affine=False)
        self.to_token = nn.Linear(numbers, config.token)
        self.trust = _trust(config, self.bands)
        self.kept = config.trained == "own"
        if self.kept:
            for part in self._imagenet():
                part.requires_grad_(requires_grad=False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Features:
        """Return the token and a grid of one cell for every 8 x 8 pixels, rounded up."""
        return self.fused(pixels, self.seen(pixels))

    def seen(self, pixels: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Return what ImageNet's layers see: each stage's output, then the last convolution's where there is one."""
        x = functional.relu6(self.bn1(self.conv_stem(pixels)))
        outputs = []
        for stage in self.blocks:
            x = stage(x)
            outputs.append(x)
        if self.conv_head is not None and self.bn2 is not None:
            outputs.append(functional.relu6(self.bn2(self.conv_head(x))))
        return outputs

    def fused(
        self, pixels: Float[Tensor, "b 3 h w"], seen: Sequence[Float[Tensor, "b _c _h _w"]]
    ) -> Features:
        """Do the rest of ``forward``: our own layers, for which what was seen may come from a store."""
        rows, columns = (-(-side // self.stride) for side in pixels.shape[-2:])
        fused, statistics = torch.zeros((), device=pixels.device), []
        layers = zip(seen, self.folds, self.to_grid, strict=False)  # the last convolution has none
        for number, (x, fold, to_grid) in enumerate(layers, start=1):
            if number >= self.token_from:
                statistics += _statistics(x)
            fused = fused + _resized(_gathered(x, fold, to_grid), rows, columns)
        content = statistics.copy()
        if self.conv_head is not None:
            content += _statistics(seen[-1])[:1]
        summary = {"content": torch.cat(content, 1)}
        if self.bands is not None:
            energies = self.bands.energies(pixels)
            fused = fused + self.bands(energies).to(fused.dtype)
            summary["spectrum"] = torch.cat(_statistics(energies), 1)
        if self.traces is not None:
            fused = fused + self.traces(pixels)
        grid = functional.relu(self.norm_grid(fused))
        # All of them, or all but those of the last convolution.
        known = summary["content"][:, : len(self.weights)]
        heard = (self.weights * self.norm_statistics(known)).to(grid.dtype)
        token = self.to_token(functional.dropout(heard, self.dropout, self.training))
        return Features(token, grid, summary)

    def train(self, mode: bool = True) -> MobileNetBackbone:
        """Switch between training and evaluation; what ImageNet taught stays in evaluation where it is kept."""
        super().train(mode)
        if self.kept:
            for part in self._imagenet():
                part.eval()
        return self

    def _imagenet(self) -> tuple[nn.Module, ...]:
        last = (self.conv_head, self.bn2)
        return (self.conv_stem, self.bn1, self.blocks, *(part for part in last if part is not None))

    def load_pretrained(self, path: Path) -> None:
        """Start from ImageNet weights under timm's names (``mobilenetv2_100``).

        Our own layers stay as they are; of the file, the classifier is not used, and what lies behind the stages only
        with ``last``.

        Raises:
            MissingDataError: If there is no such file.
            IncompatibleCheckpointError: If it is no safetensors file, or lacks a layer or has another shape for it.
        """
        imagenet = {"conv_stem", "bn1", "blocks", "conv_head", "bn2"}
        names = {name: name for name in self.state_dict() if name.split(".")[0] in imagenet}
        published.fill(self, path, "MobileNetV2", names)


class LocalSpectrum(nn.Module):
    """Log DCT energies of luma and colour differences, standardised: what untouched decoders leave in them is plain.

    Textures learnt from ImageNet do not hold it: without, twins of photos that were never re-encoded pass for photos
    (docs/experiments.md).
    """

    def __init__(self, block: int, stride: int, fused: int, std: float) -> None:
        super().__init__()
        if block != 2 * stride:
            raise ValueError(f"bands={block}: expected twice the stride of the grid, {2 * stride}.")
        self.energies = BandEnergies(block, grey_levels=255 * std)
        self.norm = nn.BatchNorm2d(self.energies.channels, affine=False)
        self.to_grid = nn.Conv2d(self.energies.channels, fused, 1, bias=False)

    def forward(self, energies: Float[Tensor, "b e gh gw"]) -> Float[Tensor, "b d gh gw"]:
        """Return what the spectra add to each cell of the grid."""
        result: Tensor = self.to_grid(self.norm(energies))
        return result


def _trust(config: MobileNetConfig, bands: LocalSpectrum | None) -> dict[str, Float[Tensor, " _s"]]:
    """Return how far each number of the summary carries."""
    trust = {"content": torch.tensor(_weighed(config, _SPREAD) + [1.0] * config.last)}
    if bands is not None:
        trust["spectrum"] = torch.ones(2 * bands.energies.channels)
    return trust


def _weighed(config: MobileNetConfig, spread: float) -> list[float]:
    """Return the factor on each of a stage's means and deviations, for all stages that are heard."""
    heard = config.channels[config.token_from - 1 :]
    return [w for channels in heard for w in [1.0] * channels + [spread] * channels]


def _statistics(x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c"]]:
    """Return the mean and the deviation of each channel, in float32: under bfloat16 a quiet one's would vanish."""
    flat = x.flatten(2).float()
    return [flat.mean(2), (flat.var(2, unbiased=False) + 1e-5).sqrt()]


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)  # TensorFlow's epsilon, which the weights were made for


def _gathered(x: Float[Tensor, "b c h w"], fold: int, mix: nn.Module) -> Float[Tensor, "b d h2 w2"]:
    """Move ``fold x fold`` cells into channels and mix these; odd last rows and columns are repeated first.

    One convolution that strides does both without moving a cell.
    """
    below, right = -x.shape[-2] % fold, -x.shape[-1] % fold
    if below or right:
        x = functional.pad(x, (0, right, 0, below), mode="replicate")
    if not isinstance(mix, nn.Conv2d):  # an adapter has taken its place
        mixed: Tensor = mix(functional.pixel_unshuffle(x, fold))
        return mixed
    kernel = mix.weight.reshape(len(mix.weight), x.shape[1], fold, fold)
    return functional.conv2d(x, kernel, stride=fold)


def _resized(x: Float[Tensor, "b c h w"], rows: int, columns: int) -> Float[Tensor, "b c h2 w2"]:
    """Bring a coarser stage to the grid's resolution."""
    if x.shape[-2:] == (rows, columns):
        return x
    return functional.interpolate(x, (rows, columns), mode="bilinear", align_corners=False)
