"""SDAIE: features learnt from camera settings, then a density of real photos, or a classifier kept near them.

Source: arXiv:2512.05651; layers, losses and inference as in the authors' code, rewritten from a description of it.
Which seven settings are ranked, the photos it learnt from and how long are not public. Differences: the patches of one
square view, not of the whole image, meet in one transformer; unknown settings are skipped instead of their photos;
thresholds come from views that the density was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.data.batches import Draws
from gammascope.detectors.base import (
    Detector,
    Loss,
    Method,
    Photos,
    ViewConfig,
    Views,
    view_of,
)
from gammascope.errors import RecipeError
from gammascope.networks import frequency
from gammascope.networks.base import only_looking
from gammascope.networks.fitted import Covariance, GaussianMixture
from gammascope.networks.pretrained import RANDOM, take_over, yet_to_read
from gammascope.prediction import Batch, Prediction


def isqrt_covariance(
    features: Float[Tensor, "b c m"], *, steps: int = 5, epsilon: float = 1e-5
) -> Float[Tensor, "b t"]:
    """Return the upper triangle, row by row, of the square root of the channels' covariance.

    Coupled Newton-Schulz iteration after division by the trace, which is given back as its root at the end. A few steps
    do not reach the root, and are not meant to: five leave a flat spectrum of 32 channels some 9 % low.

    Args:
        features: ``m`` observations of ``c`` channels each.
        steps: Of the iteration.
        epsilon: Added to the trace, so that constant features, which have none, give zeros.

    Returns:
        ``t = c (c + 1) / 2`` numbers, the diagonal among them.

    Source: arXiv:1712.01034, eqs. 3 to 6; the addition to the trace is ours.
    """
    centred = features - features.mean(2, keepdim=True)
    covariance = centred @ centred.transpose(1, 2) / features.shape[2]
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + epsilon
    identity = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    root, inverse = covariance / trace, identity.expand_as(covariance)
    for _ in range(steps):
        turn = 0.5 * (3 * identity - inverse @ root)
        root, inverse = root @ turn, turn @ inverse
    rows, columns = torch.triu_indices(*root.shape[1:], device=root.device)
    upper: Tensor = (trace.sqrt() * root)[:, rows, columns]
    return upper


_COMPASS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""North-west, north, ... clockwise: steps down and right."""

_SQUARE_3 = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))
_SQUARE_5 = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)


def srm_kernels() -> Float[Tensor, "30 5 5"]:
    """Return the 30 linear kernels of the spatial rich model, each scaled by its usual quantisation step.

    In this order: 8 of first order, 4 of second, 8 of third, 4 edges of 3 x 3, 4 edges of 5 x 5 (top, right, bottom,
    left), the square of 3 x 3 and that of 5 x 5. Each sums to zero: a flat picture leaves nothing.

    Source: Fridrich and Kodovsky, IEEE TIFS 7(3), 2012 (doi:10.1109/TIFS.2012.2190402).
    """
    raster = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
    first = [_sparse({(0, 0): -1, step: 1}, 1) for step in raster]
    second = [
        _sparse({(0, 0): -2, (y, x): 1, (-y, -x): 1}, 2)
        for y, x in ((-1, -1), (-1, 0), (-1, 1), (0, -1))
    ]
    third = [
        _sparse({(0, 0): -3, (y, x): 3, (2 * y, 2 * x): -1, (-y, -x): 1}, 3) for y, x in _COMPASS
    ]
    small, large = (_centred(square) for square in (_SQUARE_3, _SQUARE_5))
    edges = [half / step for square, step in ((small, 4), (large, 12)) for half in _halves(square)]
    return torch.stack([*first, *second, *third, *edges, small / 4, large / 12])


class HighPass(nn.Module):
    """Filter red, green and blue with the 30 kernels each: 90 residual maps, red's first. Nothing is learnt."""

    kernels: Tensor

    channels = 90

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernels", srm_kernels()[:, None])

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 90 h w"]:
        """Return the residuals, at the border as if black surrounded the picture."""
        batch, _, height, width = pixels.shape
        planes = pixels.reshape(3 * batch, 1, height, width)
        residuals = functional.conv2d(planes, self.kernels.to(pixels.dtype), padding=2)
        return residuals.reshape(batch, self.channels, height, width)


def _sparse(values: dict[tuple[int, int], int], step: int) -> Tensor:
    kernel = torch.zeros(5, 5)
    for (down, right), value in values.items():
        kernel[2 + down, 2 + right] = value / step
    return kernel


def _centred(square: tuple[tuple[int, ...], ...]) -> Tensor:
    margin = (5 - len(square)) // 2
    return functional.pad(torch.tensor(square, dtype=torch.float32), (margin,) * 4)


def _halves(square: Tensor) -> list[Tensor]:
    """Return the top, right, bottom and left half of a kernel, the line through its centre included."""
    top, left = square.clone(), square.clone()
    top[3:] = 0
    left[:, 3:] = 0
    return [top, left.flip(1), top.flip(0), left]


RANKED = (
    "ISOSpeedRatings",
    "FNumber",
    "ExposureTime",
    "FocalLength",
    "FocalLengthIn35mmFilm",
    "MaxApertureValue",
    "BrightnessValue",
)
"""Settings that are ranked. The paper's abstract names focal length and aperture; the others are our guess."""

CLASSES: Mapping[str, int] = {
    "Make": 7,
    "Model": 6,
    "Flash": 4,
    "MeteringMode": 6,
    "ExposureMode": 4,
    "WhiteBalance": 2,
    "SceneCaptureType": 5,
}
"""Settings that are classified and their numbers of classes; what each class is, is our reading (``class_of``)."""

_STAGES = 5


@dataclass(frozen=True, slots=True)
class Config(ViewConfig):
    """Sizes and choices of SDAIE.

    Attributes:
        stage: "one_class" learns camera settings and then measures a density; "binary" learns real and fake.
        extractor: For "binary": checkpoint of a "one_class" run, read when training begins and named by its hash
            from then on; "random" for a control.
        size: Side of a view, pixels.
        fit: How an image becomes views.
        patch: Side of a patch, pixels.
        patches: Patches drawn from a view in training; at test, all of its grid are read.
        width: Channels of the convolutions.
        depths: Convolutions of each stage after the stem; between stages the resolution is halved.
        clamp: Residuals after the stem are kept within this of 0.
        root_steps: Iterations towards the root of the covariance.
        blocks: Of the transformer over patches.
        heads: Of its attention.
        head_width: Of each.
        mlp: Width of its hidden layer.
        summary: What the transformer gives out: its "first" patch, or the "mean" of all (an ablation).
        tie: Target of ranking equal settings; 0.5 calls them undecided.
        alpha: Weight of staying near the extractor.
        components: Gaussians of the density.
        covariance: Of each; "diag" where photos are few.
        ridge: Added to its variances.
        density_views: Views of photos it is measured on.
        false_alarms: Share of photos that the threshold calls fake.
    """

    stage: Literal["one_class", "binary"] = "binary"
    extractor: str = ""
    size: int = 256
    fit: Literal["resize", "center_crop", "tiles"] = "tiles"
    patch: int = 64
    patches: int = 16
    width: int = 32
    depths: tuple[int, ...] = (4, 2, 2, 2)
    clamp: float = 5.0
    root_steps: int = 5
    blocks: int = 2
    heads: int = 4
    head_width: int = 16
    mlp: int = 128
    summary: Literal["first", "mean"] = "first"
    tie: float = 1.0
    alpha: float = 0.05
    components: int = 5
    covariance: Covariance = "full"
    ridge: float = 1e-6
    density_views: int = 10_000
    false_alarms: float = 0.02

    @property
    def features(self) -> int:
        """Length of a feature: the upper triangle of the channels' covariance."""
        return self.width * (self.width + 1) // 2


class ConvStage(nn.Module):
    """Convolutions, each normalised over channels and places and rectified."""

    def __init__(self, width: int, side: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            conv = nn.Conv2d(width, width, 3, padding=1)
            layers += [conv, nn.LayerNorm([width, side, side]), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
        """Return maps of the same size."""
        result: Tensor = self.layers(x)
        return result


class PatchBlock(nn.Module):
    """Pre-norm transformer block whose heads are narrower than their share of the width."""

    def __init__(self, width: int, heads: int, head_width: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width)
        )

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return the tokens after attention among them and an MLP, both residual."""
        batch, count, _ = tokens.shape
        split = self.qkv(self.norm(tokens)).reshape(batch, count, 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.out(heard.transpose(1, 2).reshape(batch, count, -1))
        result: Tensor = tokens + self.mlp(tokens)
        return result


class Extractor(nn.Module):
    """Residuals of patches, convolutions, the root of their covariance, and attention among the patches.

    Gives a feature per view and the outputs of its five stages, the last of which is the roots.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.root_steps, self.first = config.root_steps, config.summary == "first"
        side, width = config.patch, config.width
        self.residuals = HighPass()
        self.stem = nn.Sequential(
            nn.Conv2d(self.residuals.channels, width, 3, padding=1),
            nn.LayerNorm([width, side, side]),
            nn.Hardtanh(-config.clamp, config.clamp),
        )
        stages = []
        for depth in config.depths:
            stages.append(ConvStage(width, side, depth))
            side = (side + 1) // 2
        self.stages = nn.ModuleList(stages)
        self.blocks = nn.Sequential(
            *(
                PatchBlock(config.features, config.heads, config.head_width, config.mlp)
                for _ in range(config.blocks)
            )
        )

    def forward(
        self, tiles: Float[Tensor, "b n 3 s s"]
    ) -> tuple[Float[Tensor, "b d"], list[Float[Tensor, "b ..."]]]:
        """Return the feature of each view, and what each stage gave for its patches."""
        batch, count = tiles.shape[:2]
        x = self.stem(self.residuals(tiles.flatten(0, 1)))
        seen = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index < len(self.stages) - 1:
                x = functional.avg_pool2d(x, 3, stride=2, padding=1)
            seen.append(x.reshape(batch, count, *x.shape[1:]))
        # In float32: the iteration multiplies its rounding errors.
        with torch.autocast(x.device.type, enabled=False):
            roots = isqrt_covariance(x.flatten(2).float(), steps=self.root_steps)
        roots = roots.reshape(batch, count, -1)
        tokens = self.blocks(roots)
        feature = tokens[:, 0] if self.first else tokens.mean(1)
        return feature, [*seen, roots]


class SDAIE(Detector):
    """What both stages share: views cut into patches, scrambled in training."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        mean, std = (
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        )
        self.view = view_of(config, mean, std)
        self.extractor = Extractor(config)

    def tiles(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n 3 s s"]:
        """Return patches at random places in training, in any order; else those of the grid, row by row."""
        side = self.config.patch
        if not self.training:
            return frequency.cut(pixels, side)
        shape = (len(pixels), self.config.patches)
        top, left = (
            torch.randint(extent - side + 1, shape).tolist() for extent in pixels.shape[2:]
        )
        return torch.stack(
            [
                torch.stack(
                    [
                        view[:, y : y + side, x : x + side]
                        for y, x in zip(top[i], left[i], strict=True)
                    ]
                )
                for i, view in enumerate(pixels)
            ]
        )


class OneClass(SDAIE):
    """Camera settings are the teacher, photos the only class: what is unlikely among them is fake."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        sizes = dict.fromkeys(RANKED, 1) | dict(CLASSES)
        self.settings = nn.ModuleDict(
            {tag: nn.Linear(config.features, size) for tag, size in sizes.items()}
        )
        self.density = GaussianMixture(
            config.features, config.components, config.covariance, config.ridge
        )

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label from the density, and the settings."""
        feature, _ = self.extractor(self.tiles(pixels))
        logit = self.density(feature.detach())
        settings = {tag: head(feature).float() for tag, head in self.settings.items()}
        return Prediction(
            logit,
            answers={"generated": logit},
            features=settings | {"feature": feature.float()},
        )


class Binary(SDAIE):
    """A network of the same kind, begun anew, whose stages are kept near those of the extractor."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.extractor.requires_grad_(requires_grad=False)
        self.student = Extractor(config)
        self.classify = nn.Linear(config.features, 2)

    def train(self, mode: bool = True) -> Binary:
        """Switch between training and evaluation; the extractor stays as it is."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label; in training also say how far each stage is from the extractor's."""
        tiles = self.tiles(pixels)
        feature, stages = self.student(tiles)
        real, fake = self.classify(feature).float().unbind(1)
        logit = fake - real  # the log-odds of a softmax over two classes
        drift = {}
        if self.training:
            with torch.no_grad():
                _, known = self.extractor(tiles)
            apart = [
                (new.float() - old.float()).square().flatten(1).mean(1)
                for new, old in zip(stages, known, strict=True)
            ]
            drift = {"drift": torch.stack(apart, 1)}
        return Prediction(logit, answers={"generated": logit}, features=drift)


def build(config: Config) -> SDAIE:
    """Make the network of a stage; a checkpoint is read only while it is named by its path.

    Raises:
        RecipeError: If a view holds no patch, or the stages do not add up.
        MissingDataError: If the checkpoint is not there.
        IncompatibleCheckpointError: If it holds no extractor of this size.
    """
    if not 1 <= config.patch <= config.size or config.patches < 1:
        raise RecipeError(
            f"size={config.size}, patch={config.patch}, patches={config.patches}: expected a patch in a view."
        )
    if len(config.depths) != _STAGES - 1:
        raise RecipeError(f"depths={list(config.depths)}: expected {_STAGES - 1} stages.")
    if config.stage == "one_class":
        return OneClass(config)
    detector = Binary(config)
    path = yet_to_read(config.extractor)
    if path is None:
        return detector
    known = take_over(detector.extractor, "extractor", path)
    detector.config = replace(config, extractor=known)
    return detector


def prepare(detector: Detector, views: Views) -> None:
    """Refuse to train a classifier that would be kept near nothing; measures nothing.

    Raises:
        RecipeError: If no extractor is named.
    """
    del views
    config = cast(SDAIE, detector).config
    if config.stage == "binary" and not config.extractor:
        raise RecipeError(
            "stage='binary' needs an extractor: train stage='one_class' first and give its checkpoint as "
            "method.extractor=..., or method.extractor=random for a control."
        )


def pretext(detector: Detector, photos: Photos) -> Draws | None:
    """Show photos with camera settings, where these are what is learnt.

    Raises:
        MissingDataError: If no photo has settings.
        RecipeError: If there are no tables of settings.
    """
    if not isinstance(detector, OneClass):
        return None
    return photos.with_settings(detector.view)


def conclude(detector: Detector, views: Views) -> None:
    """Measure the density of photos as they are, where it is what detects."""
    if not isinstance(detector, OneClass):
        return
    config = detector.config
    with only_looking(detector):
        batches = views(config.density_views, disturbed=False)
        seen = [detector(batch.pixels).features["feature"] for batch in batches]
    detector.density.measure(torch.cat(seen), false_alarms=config.false_alarms)


def class_of(tag: str, value: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Turn the number of a setting into its class; NaN where it has none.

    The first makes of ``data.camera.MAKES``, the most frequent models, and "others"; the flash's mode (unknown, on,
    off, automatic) without whether it fired; the codes of EXIF otherwise.
    """
    last = CLASSES[tag] - 1
    if tag in {"Make", "Model", "SceneCaptureType", "ExposureMode"}:
        return value.clamp(0, last)
    if tag == "Flash":  # bits 3 and 4
        return (value / 8).floor() % 4
    shifted = value - 1 if tag == "MeteringMode" else value
    return shifted.where((shifted >= 0) & (shifted <= last), math.nan)


def loss(config: Config) -> Loss:
    """Return the loss of the stage: seven rankings and seven classes, or the label and the way from the extractor."""
    terms: Mapping[str, Callable[[Prediction, Batch], dict[str, Tensor]]] = {
        "one_class": lambda prediction, batch: _settings_terms(config, prediction, batch),
        "binary": lambda prediction, batch: _label_terms(config, prediction, batch),
    }
    return terms[config.stage]


def _settings_terms(config: Config, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    missing = [tag for tag in (*RANKED, *CLASSES) if tag not in batch.tags]
    if len(missing) == len(RANKED) + len(CLASSES):
        raise RecipeError(
            "No camera settings in the data: give tables of EXIF tags as data.pretext.tables."
        )
    result = {}
    for tag, outputs in prediction.features.items():
        if tag in missing or tag == "feature":
            continue
        if tag in CLASSES:
            value = class_of(tag, batch.tags[tag])
            result[f"{tag}_ce"] = losses.class_cross_entropy(outputs, value)
        else:
            score = outputs.squeeze(1)
            result[f"{tag}_rank"] = losses.ranking_bce(score, batch.tags[tag], tie=config.tie)
    return result


def _label_terms(config: Config, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    result = {"label_bce": losses.label_bce(prediction.logit, losses.generated_label(batch))}
    if "drift" in prediction.features:
        result["drift"] = config.alpha * prediction.features["drift"].mean(0).sum()
    return result


TINY = Config(
    extractor=RANDOM,
    size=48,
    patch=16,
    patches=3,
    width=8,
    depths=(1, 1, 1, 1),
    heads=2,
    head_width=4,
    mlp=16,
    components=2,
    covariance="diag",
    density_views=64,
)

METHOD = Method(
    title="SDAIE",
    paper="arXiv:2512.05651",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
    pretext=pretext,
    prepare=prepare,
    conclude=conclude,
)
