"""BLADES: face features from camera settings and harmless edits, weighed by what serves detection (arXiv:2507.22824).

Training and one-class detection follow the authors' code, rewritten from a description of it; how the binary head is
trained is not released and our reading. Bi-level weighting is a way to train, not a part of the network: see
``training.weighting`` and the recipe. Differences: a vocabulary of whole words and an untrained text encoder, faces
without landmarks, a fifth edit for the nose, three columns for the fine task throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.data.camera import MAKES
from gammascope.detectors.base import Detector, Loss, Method, ViewConfig, Views, view_of
from gammascope.errors import RecipeError
from gammascope.networks.density import Covariance, GaussianMixture
from gammascope.networks.measuring import only_looking
from gammascope.networks.pretrained import RANDOM, take_over, yet_to_read
from gammascope.networks.resnet import ResNet
from gammascope.networks.sentences import Sentences
from gammascope.prediction import Batch, Prediction

_LEVELS = ("low", "medium", "high")

ORDINAL: Mapping[str, str] = {
    "ISOSpeedRatings": "a photo of a face with the {} value of ISO",
    "FNumber": "a photo of a face with the {} value of aperture",
    "ExposureTime": "a photo of a face with the {} value of exposure time",
    "FocalLength": "a photo of a face with the {} value of focal length",
}
"""Ranked settings by tag, and the sentence of each level."""

CATEGORICAL: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "Make": (
        "a photo of a face taken with the {} brand camera",
        dict(enumerate((*MAKES, "other"))),
    ),
    "MeteringMode": (
        "a photo of a face taken with {} metering",
        {1: "average", 2: "centre-weighted", 255: "other", 6: "partial", 3: "spot", 4: "multi-spot"}
        | {5: "multi-segment", -1: "evaluative"},
    ),
    "ExposureMode": (
        "a photo of a face taken with {} exposure",
        {0: "automatic", 2: "auto-bracketing", -1: "program", 1: "manual"}
        | {-2: "aperture-priority", -3: "easy-shooting", -4: "shutter-priority"},
    ),
    "WhiteBalance": (
        "a photo of a face taken with {} white balance",
        {0: "automatic", 1: "manual"},
    ),
    "ExposureProgram": (
        "a photo of a face taken with the {} program",
        {8: "landscape", 1: "manual", 2: "normal", 7: "portrait", 4: "shutter-priority"}
        | {3: "aperture-priority"},
    ),
}
"""Classified settings by tag: the sentence, and its words by the number of EXIF. Negative: a word without a number."""

FINE = ("mouth", "eye", "nose")
"""Regions whose edits are told apart; tags of that name say which changed."""

COARSE = "manipulated"
"""Tag of a view that was edited, and name of the task that stands for detection: the proxy of the outer problem."""

SENTENCES: tuple[str, ...] = (
    *(template.format(level) for template in ORDINAL.values() for level in _LEVELS),
    *(template.format(word) for template, words in CATEGORICAL.values() for word in words.values()),
    "a photo of a photographic face",
    "a photo of a manipulated face",
    *(f"a photo of a face with a manipulated {region} region" for region in FINE),
)
"""One per column of the similarities."""


def columns() -> dict[str, slice]:
    """Return the columns of each task: 11 of them, in the order of ``SENTENCES``."""
    sizes = dict.fromkeys(ORDINAL, len(_LEVELS))
    sizes |= {tag: len(words) for tag, (_, words) in CATEGORICAL.items()}
    sizes |= {COARSE: 2, "fine": len(FINE)}
    places, start = {}, 0
    for task, size in sizes.items():
        places[task] = slice(start, start + size)
        start += size
    return places


@dataclass(frozen=True, slots=True)
class Config(ViewConfig):
    """Sizes and choices of BLADES.

    Attributes:
        stage: "one_class" learns the tasks and then measures a density; "binary" trains a head on frozen features.
        encoder: For "binary": checkpoint of a "one_class" run, read when training begins and named by its hash from
            then on; "random" for a control.
        pretrained: For "one_class": file of ImageNet weights that the image network starts from, as the authors' does
            before EXIF-as-Language; then emptied, because a checkpoint holds all weights itself. "": random ones.
        fit: How an image becomes views.
        width: Channels of the residual network's stem.
        depths: Blocks of its stages.
        feature: Length of a feature.
        text_width: Of the tokens of the sentences.
        text_layers: Of their transformer.
        text_heads: Of its attention.
        gamma: Focus of the classified settings on what is not known yet; 0 = none.
        sigma: Of the ranked levels: how far apart two must be to be sure.
        components: Gaussians of the density.
        covariance: Of each; "diag" where photos are few.
        ridge: Added to its variances.
        density_views: Views of photos it is measured on.
        false_alarms: Share of photos that the threshold calls fake.
        hidden: Width of the binary head.
        outlier_weight: Weight of photos beyond the threshold, which the binary head learns as fakes; our guess.
    """

    stage: Literal["one_class", "binary"] = "binary"
    encoder: str = ""
    pretrained: str = ""
    fit: Literal["resize", "center_crop", "tiles"] = "resize"
    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)
    feature: int = 768
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    gamma: float = 2.0
    sigma: float = 0.5
    components: int = 10
    covariance: Covariance = "full"
    ridge: float = 1e-6
    density_views: int = 25_000
    false_alarms: float = 0.05
    hidden: int = 1536
    outlier_weight: float = 0.5


class Encoder(nn.Module):
    """A residual network and a linear map to features of unit length."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.network = ResNet(config.width, config.depths)
        self.project = nn.Linear(self.network.channels, config.feature)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return a feature of unit length per view, in float32."""
        return functional.normalize(self.project(self.network(pixels)).float(), dim=1)


class BLADES(Detector):
    """What both stages share: the encoder of faces, and the density of photos."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        mean, std = (
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        )
        self.view = view_of(config, mean, std)
        self.encoder = Encoder(config)
        self.density = GaussianMixture(
            config.feature, config.components, config.covariance, config.ridge
        )


class OneClass(BLADES):
    """Similarities to sentences are the tasks; what is unlikely among photos is fake."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.text = Sentences(
            SENTENCES,
            width=config.text_width,
            layers=config.text_layers,
            heads=config.text_heads,
            out=config.feature,
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label from the density, and the similarity to every sentence."""
        feature = self.encoder(pixels)
        logit = self.density(feature.detach())
        text = functional.normalize(self.text().float(), dim=1)
        similarity = self.log_scale.exp() * feature @ text.T
        return Prediction(
            logit,
            answers={"generated": logit},
            features={"feature": feature, "similarity": similarity},
        )


class Binary(BLADES):
    """Two layers on frozen features; photos that the density finds unlikely also serve as fakes."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.encoder.requires_grad_(requires_grad=False)
        self.classify = nn.Sequential(
            nn.Linear(config.feature, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 2)
        )

    def train(self, mode: bool = True) -> Binary:
        """Switch between training and evaluation; the encoder stays as it is."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict the label, and by the density how unlike a photo a view is."""
        feature = self.encoder(pixels)
        real, fake = self.classify(feature).float().unbind(1)
        logit = fake - real  # the log-odds of a softmax over two classes
        return Prediction(
            logit, answers={"generated": logit}, features={"unlike": self.density(feature)}
        )


def build(config: Config) -> BLADES:
    """Make the network of a stage; a checkpoint is read only while it is named by its path.

    Raises:
        MissingDataError: If the checkpoint, or the file of ImageNet weights, is not there.
        IncompatibleCheckpointError: If it holds no encoder of this size.
        RecipeError: If ImageNet weights are given for a stage that takes its encoder from the other.
    """
    if config.stage == "one_class":
        learner = OneClass(replace(config, pretrained=""))
        if config.pretrained:
            learner.encoder.network.load_pretrained(Path(config.pretrained))
        return learner
    if config.pretrained:
        raise RecipeError(
            f"method.pretrained = {config.pretrained!r} is for stage='one_class': 'binary' takes over method.encoder."
        )
    detector = Binary(config)
    path = yet_to_read(config.encoder)
    if path is None:
        return detector
    known = take_over(detector.encoder, "encoder", path)
    take_over(detector.density, "density", path)
    detector.config = replace(config, encoder=known)
    return detector


def prepare(detector: Detector, views: Views) -> None:
    """Refuse to train a head on features that learnt nothing; measures nothing.

    Raises:
        RecipeError: If no encoder is named.
    """
    del views
    config = cast(BLADES, detector).config
    if config.stage == "binary" and not config.encoder:
        raise RecipeError(
            "stage='binary' needs an encoder: train stage='one_class' first and give its checkpoint as "
            "method.encoder=..., or method.encoder=random for a control."
        )


def conclude(detector: Detector, views: Views) -> None:
    """Measure the density of photos, where features were learnt."""
    if not isinstance(detector, OneClass):
        return
    config = detector.config
    with only_looking(detector):
        seen = [detector.encoder(batch.pixels) for batch in views(config.density_views)]
    detector.density.measure(torch.cat(seen), false_alarms=config.false_alarms)


def class_of(tag: str, value: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Turn the number of a setting into its column; NaN where it has none."""
    codes = list(CATEGORICAL[tag][1])
    result = torch.full_like(value, math.nan)
    for column, code in enumerate(codes):
        result = result.where(value != code, float(column))
    return result


def loss(config: Config) -> Loss:
    """Return the loss of the stage: the eleven tasks, or the label and the photos that are unlike photos."""

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        if config.stage == "one_class":
            return _tasks(config, prediction, batch)
        label = losses.generated_label(batch)
        beyond = (prediction.features["unlike"] > 0) & (label == 0)
        usual, odd = (~beyond & (label >= 0)).float(), beyond.float()
        each = functional.binary_cross_entropy_with_logits(
            prediction.logit.float(),
            torch.maximum(label, beyond.long()).clamp(min=0).float(),
            reduction="none",
        )
        total = usual.sum() + config.outlier_weight * odd.sum()
        return {
            "label_bce": (each * usual).sum() / total.clamp(min=1e-6),
            "outlier_bce": config.outlier_weight * (each * odd).sum() / total.clamp(min=1e-6),
        }

    return terms


def _tasks(config: Config, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Return one term per task; those that nothing is known about are 0."""
    if COARSE not in batch.tags:
        raise RecipeError(
            "No edited faces in the data: give tables of EXIF tags as data.pretext.tables, and "
            "data.pretext.faces=true."
        )
    nothing = torch.full_like(batch.tags[COARSE], math.nan)
    similarity = prediction.features["similarity"]
    parts = {task: similarity[:, place] for task, place in columns().items()}
    result = {}
    for tag in ORDINAL:
        levels = parts[tag].softmax(1)
        level = levels @ torch.arange(1.0, 1.0 + levels.shape[1], device=levels.device)
        value = batch.tags.get(tag, nothing)
        result[tag] = losses.ranking_fidelity(level, value, sigma=config.sigma)
    for tag in CATEGORICAL:
        value = class_of(tag, batch.tags.get(tag, nothing))
        result[tag] = losses.class_fidelity(parts[tag], value, gamma=config.gamma)
    result[COARSE] = losses.class_fidelity(parts[COARSE], batch.tags[COARSE])
    edited = torch.stack([batch.tags[region] for region in FINE], 1)
    result["fine"] = losses.fidelity(parts["fine"].sigmoid(), edited).mean()
    return result


TINY = Config(
    encoder=RANDOM,
    size=32,
    width=4,
    depths=(1, 1),
    feature=16,
    text_width=16,
    text_layers=1,
    text_heads=2,
    components=2,
    covariance="diag",
    density_views=64,
    hidden=16,
)

METHOD = Method(
    title="BLADES",
    paper="arXiv:2507.22824",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
    prepare=prepare,
    conclude=conclude,
)
