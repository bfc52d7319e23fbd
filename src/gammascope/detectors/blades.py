"""BLADES: face features from camera settings and harmless edits, weighed by what serves detection (arXiv:2507.22824).

Training and one-class detection follow the authors' code, rewritten from a description of it; how the binary head is
trained is not released and our reading. Differences: a vocabulary of whole words and an untrained text encoder, faces
without landmarks, a fifth edit for the nose, three columns for the fine task throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.data.batches import Draws
from gammascope.data.camera import MAKES
from gammascope.detectors import base
from gammascope.detectors.base import Detector, Loss, Method, ViewConfig, view_of
from gammascope.errors import RecipeError
from gammascope.manipulation.faces import EDITS, EditedFace, edit_face
from gammascope.networks.backbones import FAMILIES
from gammascope.networks.base import only_looking
from gammascope.networks.captions import Sentences
from gammascope.networks.fitted import Covariance, GaussianMixture
from gammascope.networks.pretrained import RANDOM, take_over, yet_to_read
from gammascope.networks.resnet import ResNet
from gammascope.prediction import Batch, Prediction
from gammascope.sample import Image

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

_NO_FACES = "No edited faces in the data: give tables of EXIF tags as data.pretext.tables."

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


Terms: TypeAlias = Callable[[Batch], dict[str, Tensor]]
"""Loss terms of a batch under the network's present weights, unweighted."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """How the tasks are weighed against each other, by what lowers the loss of the coarse one.

    Attributes:
        learnt: Learn the weights of all tasks; half of each batch then serves the outer problem. False keeps all at 1.
        rate: Of Adam on the weights.
        gradient: "finite_diff" takes differences of the terms along the outer gradient; "exact" multiplies gradients.
        floor: Weights are kept at or above; None: free, as published.
    """

    learnt: bool = True
    rate: float = 3e-4
    gradient: Literal["finite_diff", "exact"] = "finite_diff"
    floor: float | None = None


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
        weighting: How the tasks are weighed.
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
    weighting: Weighting = field(default_factory=Weighting)
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
        self.view = view_of(config, *FAMILIES["clip"].normalisation)
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


def prepare(detector: Detector, views: base.Views) -> None:
    """Measure the density of photos for a control whose encoder learnt nothing, so that not all of them lie beyond it.

    Raises:
        RecipeError: If no encoder is named for a head.
    """
    config = cast(BLADES, detector).config
    if config.stage == "one_class":
        return
    if not config.encoder:
        raise RecipeError(
            "stage='binary' needs an encoder: train stage='one_class' first and give its checkpoint as "
            "method.encoder=..., or method.encoder=random for a control."
        )
    if config.encoder == RANDOM:
        _measure(cast(BLADES, detector), views)


def pretext(detector: Detector, photos: base.Photos) -> Draws | None:
    """Show faces with camera settings, half of them edited, where the tasks are learnt.

    Raises:
        MissingDataError: If no photo has settings.
        RecipeError: If there are no tables of settings, or faces would be cropped.
    """
    if not isinstance(detector, OneClass):
        return None
    if detector.view.fit != "resize":
        raise RecipeError(
            f"Regions lie at fixed shares of whole faces, and method.fit = {detector.view.fit!r} crops them: choose "
            "method.fit=resize."
        )
    return photos.with_settings(detector.view, perhaps_edited)


def perhaps_edited(face: Image, rng: np.random.Generator) -> tuple[Image, dict[str, float]]:
    """Edit half of the faces; return the face and the tags of the two tasks about edits."""
    name = str(rng.choice(list(EDITS))) if rng.random() < 0.5 else None
    changed = EditedFace(face, ()) if name is None else edit_face(face, name, rng)
    tags = {region: float(region in changed.regions) for region in FINE}
    return changed.image, {COARSE: float(name is not None)} | tags


def weigh(config: Config) -> BilevelWeights | None:
    """Return the weights of the tasks, where they are learnt."""
    if config.stage == "binary" or not config.weighting.learnt:
        return None
    return BilevelWeights(COARSE, config.weighting)


class BilevelWeights:
    """One weight per loss term, moved so that a step on the weighted terms lowers one of them elsewhere.

    The inner problem is a plain gradient step on the weighted terms of one batch; the outer one is the proxy term on
    another batch, after that step. Its gradient with respect to a weight is ``-step * <grad term, d>``, where ``d`` is
    the proxy's gradient after the step: a term grows if its own gradient points where the proxy's does.

    Source: arXiv:2507.22824, with one unrolled step as in its code (after arXiv:2202.03091); the weights are free, and
    may become negative unless ``floor`` forbids it.

    Args:
        proxy: Name of the term that the outer problem minimises.
        how: Rate, gradient and floor.
    """

    parts = 2

    def __init__(self, proxy: str, how: Weighting) -> None:
        self.proxy, self.rate, self.gradient, self.floor = proxy, how.rate, how.gradient, how.floor
        self.names: list[str] = []
        self.values = torch.ones(0)
        self.optimiser: torch.optim.Adam | None = None

    def of(self, term: str) -> Tensor:
        """Return the weight of a term; 1 before the first update."""
        return self.values[self.names.index(term)] if term in self.names else torch.ones(())

    def update(
        self, network: nn.Module, terms: Terms, batch: Batch, *, step: float, decay: float = 0.0
    ) -> Batch:
        """Move the weights by the two halves of a batch; the network is left as it was.

        Args:
            network: Whose parameters ``terms`` depends on.
            terms: Evaluates the loss.
            batch: Its first half is of the inner problem, the second of the outer one.
            step: Learning rate of the inner step, and of the outer gradient.
            decay: Weight decay of the inner step.

        Returns:
            The first half.

        Raises:
            RecipeError: If there is no term of the proxy's name.
        """
        middle = len(batch.label) // 2
        inner, outer = batch.rows(slice(middle)), batch.rows(slice(middle, None))
        gradients = self.gradients(network, terms, (inner, outer), step=step, decay=decay)
        optimiser = self.optimiser or self._begin(list(gradients), next(iter(gradients.values())))
        self.values.grad = torch.stack([gradients[name] for name in self.names])
        optimiser.step()
        if self.floor is not None:
            with torch.no_grad():
                self.values.clamp_(min=self.floor)
        return inner

    def gradients(
        self,
        network: nn.Module,
        terms: Terms,
        batches: tuple[Batch, Batch],
        *,
        step: float,
        decay: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return the outer gradient of every weight; leaves the network as it was."""
        inner, outer = batches
        parameters = [p for p in network.parameters() if p.requires_grad]
        with _untouched(network) as again:
            again()
            found = terms(inner)
            if self.proxy not in found:
                raise RecipeError(
                    f"No loss term {self.proxy!r} to weigh the others by; there are {', '.join(found)}."
                )
            weighted = torch.stack([self.of(name).to(v) * v for name, v in found.items()]).sum()
            slopes = _slopes(weighted, parameters)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    parameter.sub_(step * (slope + decay * parameter))
            again()
            direction = _slopes(terms(outer)[self.proxy], parameters)
        along = self._exact if self.gradient == "exact" else self._difference
        agreement = along(network, terms, inner, direction)
        return {name: -step * value for name, value in agreement.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        inner = None if self.optimiser is None else self.optimiser.state_dict()
        return {"names": self.names, "values": self.values.detach().clone(), "optimiser": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        if state["optimiser"] is None:
            return
        self._begin(list(state["names"]), state["values"]).load_state_dict(state["optimiser"])
        with torch.no_grad():
            self.values.copy_(state["values"])

    def _begin(self, names: list[str], like: Tensor) -> torch.optim.Adam:
        self.names = names
        self.values = torch.ones(len(names), dtype=like.dtype, device=like.device)
        self.optimiser = torch.optim.Adam([self.values], lr=self.rate)
        return self.optimiser

    def _exact(
        self, network: nn.Module, terms: Terms, batch: Batch, direction: list[Tensor]
    ) -> dict[str, Tensor]:
        parameters = [p for p in network.parameters() if p.requires_grad]
        with _untouched(network) as again:
            again()
            found = terms(batch)
            return {n: _dot(_slopes(value, parameters), direction) for n, value in found.items()}

    def _difference(
        self, network: nn.Module, terms: Terms, batch: Batch, direction: list[Tensor]
    ) -> dict[str, Tensor]:
        length = _dot(direction, direction).sqrt()
        # A step of a hundredth whatever the gradient; no direction, no step.
        epsilon = 0.01 / length.clamp(min=1e-12)
        parameters = [p for p in network.parameters() if p.requires_grad]
        sides = []
        for sign in (1.0, -1.0):
            with _untouched(network) as again, torch.no_grad():
                for parameter, d in zip(parameters, direction, strict=True):
                    parameter.add_(sign * epsilon * d)
                again()
                sides.append(terms(batch))
        ahead, behind = sides
        return {name: (ahead[name] - behind[name]) / (2 * epsilon) for name in ahead}


def _slopes(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if slope is None else slope
        for p, slope in zip(parameters, found, strict=True)
    ]


def _dot(some: list[Tensor], others: list[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(some, others, strict=True)]).sum()


@contextmanager
def _untouched(network: nn.Module) -> Iterator[Callable[[], None]]:
    """Give parameters, statistics and random state back afterwards, bit for bit.

    Yields what sets the random state back in between, so that every evaluation draws the same.
    """
    held = {name: value.detach().clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    try:
        yield lambda: torch.set_rng_state(state)
    finally:
        torch.set_rng_state(state)
        with torch.no_grad():
            for name, value in network.state_dict().items():
                value.copy_(held[name])


def conclude(detector: Detector, views: base.Views) -> None:
    """Measure the density of photos, where features were learnt."""
    if isinstance(detector, OneClass):
        _measure(detector, views)


def _measure(detector: BLADES, views: base.Views) -> None:
    """Take the density of photos as they are."""
    config = detector.config
    with only_looking(detector):
        seen = [detector.encoder(b.pixels) for b in views(config.density_views, disturbed=False)]
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
        raise RecipeError(_NO_FACES)
    nothing = torch.full_like(batch.tags[COARSE], math.nan)
    similarity = prediction.features["similarity"].float()
    parts = {task: similarity[:, place] for task, place in columns().items()}
    result = {}
    for tag in ORDINAL:
        levels = parts[tag].softmax(1)
        level = (levels * torch.arange(1.0, 1.0 + levels.shape[1], device=levels.device)).sum(1)
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
    pretext=pretext,
    weigh=weigh,
    prepare=prepare,
    conclude=conclude,
)
