"""The contract of a detection method, and how one is found by name."""

from __future__ import annotations

import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from gammascope.data.batches import Draws
from gammascope.data.camera import Change, PretextStream
from gammascope.data.pictures import Pictures
from gammascope.errors import RecipeError, UnknownMethodError, did_you_mean
from gammascope.files import of_package
from gammascope.imaging.views import Fit, Pool, ViewSpec
from gammascope.networks.backbones import Training
from gammascope.networks.base import Backbone
from gammascope.networks.compact import CompactConfig
from gammascope.networks.mobilenet import MobileNetConfig
from gammascope.prediction import Batch, Prediction
from gammascope.sample import Entry

Loss: TypeAlias = Callable[[Prediction, Batch], dict[str, Tensor]]
"""Named, weighted scalar terms; the training loop adds them."""

C = TypeVar("C")

_ENTRY_POINTS = "gammascope.methods"


@runtime_checkable
class Views(Protocol):
    """Draws views in batches; the same ones on every call. Most methods want photos."""

    def __call__(self, count: int, /, *, disturbed: bool = True) -> Iterator[Batch]:
        """Yield so many views: as training sees them, or as the pictures are, turned and mirrored at most."""


@dataclass(frozen=True, slots=True)
class Photos:
    """The photos of a run, for methods that see them in a way of their own.

    Attributes:
        entries: The photos, and nothing else.
        pictures: Where decoded images come from.
        settings: What their cameras wrote, by image (``data.camera``); empty where a recipe names no tables.
        seed: Of all draws.
    """

    entries: Sequence[Entry]
    pictures: Pictures
    settings: Mapping[Path, Mapping[str, float]]
    seed: int

    def with_settings(self, view: ViewSpec, change: Change | None = None) -> PretextStream:
        """Return views of those photos whose camera settings are known, which become tags.

        Args:
            view: How a detector sees them.
            change: As in ``PretextStream``.

        Raises:
            MissingDataError: If no photo has settings.
            RecipeError: If there are no tables of settings.
        """
        if not self.settings:
            raise RecipeError(
                "No camera settings in the data: give tables of EXIF tags as data.pretext.tables."
            )
        return PretextStream(
            self.entries,
            self.pictures,
            view.size,
            self.settings,
            change=change,
            fit=view.fit,
            seed=self.seed,
        )


@runtime_checkable
class TermWeights(Protocol):
    """Weights of loss terms that are learnt with the network."""

    parts: int
    """Into how many parts ``update`` divides a batch."""

    names: list[str]
    """Of the terms that it has seen."""

    def of(self, term: str) -> Tensor:
        """Return the weight of a term, a scalar."""

    def update(
        self,
        network: nn.Module,
        terms: Callable[[Batch], dict[str, Tensor]],
        batch: Batch,
        *,
        step: float,
        decay: float,
    ) -> Batch:
        """Move the weights; leave the network, its statistics and the random state as they were.

        Args:
            network: Whose parameters ``terms`` depends on.
            terms: Evaluates the loss, unweighted.
            batch: Of this step.
            step: The optimiser's learning rate.
            decay: Its weight decay.

        Returns:
            The part of the batch that the network's own step is for.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """How an image becomes views: a part of every method's config.

    Attributes:
        size: Side of a view, pixels.
        fit: How an image becomes views.
        pool: How tile logits become one.
        max_tiles: Most tiles of a large image; None: all.
        overview: Weight of the reduced whole image beside its tiles; 0: without it.
        mosaic: Weight of native patches from all over the image beside its tiles; 0: without them.
    """

    size: int = 224
    fit: Fit = "center_crop"
    pool: Pool = "mean"
    max_tiles: int | None = None
    overview: float = 0.0
    mosaic: float = 0.0


@dataclass(frozen=True, slots=True)
class BackboneConfig(ViewConfig):
    """What a method sees with: a part of the config of every method with an exchangeable backbone.

    Attributes:
        backbone: "compact" or "mobilenetv2" (random weights, to be trained or filled from a checkpoint), "embedded"
            (the one of the embedded detector), a checkpoint with a backbone of ours, or a vision tower of
            ``transformers``: hub id or local folder.
        architecture: The tower's configuration as JSON, filled in on loading; with it, ``build`` downloads nothing.
        reads: Blocks of a tower (from 1) whose class tokens are read as the image token, each scaled to mean 0 and
            variance 1, one after the other. None: the final one, which is what the papers read; the last block alone
            costs 0.07 of AUROC on generators never seen (docs/experiments/e33.md), so several are ours.
        compact: Sizes of the compact backbone, filled in on loading.
        mobilenetv2: Sizes of that backbone, filled in on loading.
    """

    backbone: str = "openai/clip-vit-large-patch14"
    architecture: str = ""
    reads: tuple[int, ...] = ()
    compact: CompactConfig = field(default_factory=CompactConfig)
    mobilenetv2: MobileNetConfig = field(default_factory=MobileNetConfig)


@dataclass(frozen=True, slots=True)
class AdaptedConfig(BackboneConfig):
    """How the backbone is trained, beside what it is.

    Attributes:
        adapt: A tower is frozen, gets LoRA updates, or is trained in full; a backbone of ours has no layers for LoRA.
        lora_rank: Rank of the LoRA updates.
        lora_alpha: Scale of the LoRA updates.
        trained_blocks: Only so many last blocks of a tower are trained or get updates; 0: all. The fewer, the quicker:
            what stands before them can be kept (``[keeping]``).
    """

    adapt: Training = "lora"
    lora_rank: int = 8
    lora_alpha: int = 16
    trained_blocks: int = 0


def view_of(
    config: ViewConfig, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> ViewSpec:
    """Make the view spec of a method's config and the statistics that its network wants.

    Args:
        config: Its ``size``, ``fit``, ``pool``, ``max_tiles``, ``overview`` and ``mosaic`` count, as in ``ViewSpec``.
        mean: Per channel, of pixels 0..1.
        std: Likewise.

    Raises:
        RecipeError: If they do not go together, an overview without tiles, say.
    """
    try:
        return ViewSpec(
            *(config.size, config.fit, config.pool, config.max_tiles),
            *(mean, std, config.overview, config.mosaic),
        )
    except ValueError as error:
        raise RecipeError(f"section method: {error}") from error


def tiny_clip(image_size: int = 32) -> str:
    """Describe a CLIP tower of two blocks, small enough for a method's ``tiny``, as ``BackboneConfig.architecture``."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "patch_size": 8, "image_size": image_size}
    return json.dumps({"model_type": "clip_vision_model"} | sizes)


class Detector(nn.Module, ABC):
    """A network that says how fake an image is and, if it can, where."""

    view: ViewSpec
    """How it wants to see an image; obeyed by training, evaluation, scanning and export alike."""

    config: Any
    """What rebuilds this network with ``build`` without a download; travels in the checkpoint."""

    @abstractmethod
    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict from normalised views; knows no label, no file, no device."""

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Say whether weight decay pulls a trained parameter to 0: not biases, norms, gates and codes (all vectors).

        Args:
            name: As ``named_parameters`` calls it.
            parameter: Whatever its shape.
        """
        del name
        return parameter.ndim > 1


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frozen backbone saw in many views, with their ground truth.

    Attributes:
        features: One vector for each view.
        label: 1 fake (generated or manipulated), 0 real.
        answers: 1 yes, 0 no, by image-level question ("generated", "edited"); absent = not known.
    """

    features: Float[Tensor, "n d"]
    label: Int[Tensor, " n"]
    answers: Mapping[str, Int[Tensor, " n"]] = field(default_factory=dict)

    @property
    def generated(self) -> Int[Tensor, " n"]:
        """1 where a view contains generated pixels; where that is not known, its label decides."""
        return self.answers.get("generated", self.label)


class FittedDetector(Detector):
    """A detector whose trained part sits on a frozen backbone, so that it can be fitted to cached features at once.

    A recipe with a section ``probing`` trains it so; without one the loop trains it, as it trains every method.
    """

    backbone: Backbone
    """The frozen part; its weights are part of the key of cached features."""

    @property
    @abstractmethod
    def seen_through(self) -> Mapping[str, Any]:
        """What else decides ``features``, as plain types; part of the key of cached features.

        Raises:
            RecipeError: If this config cannot be fitted.
        """

    @abstractmethod
    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Say what the frozen part sees; nothing that is fitted takes part."""

    @abstractmethod
    def answer(self, features: Float[Tensor, "b d"]) -> Prediction:
        """Predict from features."""

    @abstractmethod
    def fit(self, training: Seen, validation: Seen | None) -> dict[str, float]:
        """Set everything that is trained.

        Args:
            training: What to fit to.
            validation: From other sources, to choose between settings; None: there is nothing to choose by.

        Returns:
            Figures for the log.

        Raises:
            MissingDataError: If a class is missing.
        """

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict from normalised views."""
        return self.answer(self.features(pixels))


@dataclass(frozen=True, slots=True)
class Weights:
    """A published checkpoint, pinned."""

    url: str
    sha256: str
    licence: str
    trained_on: str
    score: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(Generic[C]):
    """Everything a detection method is. One module in ``detectors/`` defines one, as ``METHOD``.

    Attributes:
        title: Name as its authors write it.
        paper: arXiv id or DOI.
        config: The paper's values, or our reading of them.
        tiny: The same network, small enough for tests: fewer than one million parameters.
        build: Makes the network from a config; downloads nothing.
        loss: Makes the loss from a config; None: needs no training.
        pretext: Makes what steps see instead of the recipe's mixture, from the photos; where it returns None, steps see
            the mixture. Validation and all that is measured see the mixture anyway. None: no pretext task.
        weigh: Makes weights of the loss terms that are learnt with the network; where it returns None, all are 1. None:
            all are 1.
        prepare: Measures on photos what the network needs before its first step (directions of content, say), and
            keeps it in buffers; None: nothing.
        read: Fits what reads whole pictures, given photos and generated ones, half each, reduced as an overview shows
            them; called on the averaged weights, before ``conclude``. None: nothing.
        conclude: Measures on photos what the trained network lacks (a density of its features, say), and keeps it in
            buffers; called on the averaged weights before a checkpoint is written. None: nothing.
        weights: Published checkpoints by name.
    """

    title: str
    paper: str
    config: C
    tiny: C
    build: Callable[[C], Detector]
    loss: Callable[[C], Loss] | None = None
    pretext: Callable[[Detector, Photos], Draws | None] | None = None
    weigh: Callable[[C], TermWeights | None] | None = None
    prepare: Callable[[Detector, Views], None] | None = None
    read: Callable[[Detector, Views], None] | None = None
    conclude: Callable[[Detector, Views], None] | None = None
    weights: Mapping[str, Weights] = field(default_factory=dict)


def names() -> list[str]:
    """List the methods by file name, imported or not, and those that other packages add.

    >>> "gamma" in names()
    True
    """
    package = importlib.import_module("gammascope.detectors")
    own = {module.name for module in pkgutil.iter_modules(package.__path__)} - {"base"}
    return sorted(own | {point.name for point in entry_points(group=_ENTRY_POINTS)})


def get(name: str) -> Method[Any]:
    """Import the one module of a method and return its ``METHOD``.

    Raises:
        UnknownMethodError: If no method has this name; the message lists the known ones.
        BrokenPackageError: If it is another package's, and cannot be loaded.
    """
    known = names()
    if name not in known:
        raise UnknownMethodError(
            f"Unknown method {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    for point in entry_points(group=_ENTRY_POINTS):
        if point.name == name:
            return of_package(point, Method)
    method: Method[Any] = importlib.import_module(f"gammascope.detectors.{name}").METHOD
    return method
