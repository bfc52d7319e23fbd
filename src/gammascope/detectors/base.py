"""The contract of a detection method, and how one is found by name."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Generic, TypeAlias, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from gammascope.errors import UnknownMethodError, did_you_mean
from gammascope.imaging.views import ViewSpec
from gammascope.prediction import Batch, Prediction

Loss: TypeAlias = Callable[[Prediction, Batch], dict[str, Tensor]]
"""Named, weighted scalar terms; the training loop adds them."""

Views: TypeAlias = Callable[[int], Iterator[Batch]]
"""Draws that many views of real photos, as training sees them, in batches; the same ones on every call."""

C = TypeVar("C")

_ENTRY_POINTS = "gammascope.methods"


class Detector(nn.Module, ABC):
    """A network that says how fake an image is and, if it can, where."""

    view: ViewSpec
    """How it wants to see an image; obeyed by training, evaluation, scanning and export alike."""

    config: Any
    """What rebuilds this network with ``build`` without a download; travels in the checkpoint."""

    @abstractmethod
    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict from normalised views; knows no label, no file, no device."""


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
        prepare: Measures on photos what the network needs before its first step (directions of content, say), and
            keeps it in buffers; None: nothing.
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
    prepare: Callable[[Detector, Views], None] | None = None
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
    """
    known = names()
    if name not in known:
        raise UnknownMethodError(
            f"Unknown method {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    for point in entry_points(group=_ENTRY_POINTS):
        if point.name == name:
            outside: Method[Any] = point.load()
            return outside
    method: Method[Any] = importlib.import_module(f"gammascope.detectors.{name}").METHOD
    return method
