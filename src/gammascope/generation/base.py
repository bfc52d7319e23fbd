"""The contract of a generator, and how one is found by name, built and read from a folder.

A detector learns from what generators write, so each product says who wrote it and with which weights: those of the
authors ("pretrained"), of a training of ours or the user's ("self-trained"), or none ("untrained").
"""

from __future__ import annotations

import importlib
import json
import pickle
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gammascope import settings
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    RecipeError,
    did_you_mean,
    said_by,
)
from gammascope.sample import Image, Mask

FILE = "generator.safetensors"
"""Name of the file in a generator's folder."""

METADATA = "gammascope.generator"
"""Key under which that file holds the generator's design."""

Ability: TypeAlias = Literal["sample", "class", "map", "inpaint", "edit", "guided"]
"""Pictures from nothing, of a class, after a map; a region, a whole photo, a photo against a detector."""

WeightsFrom: TypeAlias = Literal["pretrained", "self-trained", "untrained"]

Condition: TypeAlias = str | Image
"""Name of a class, or a map as large as the picture."""

Critic: TypeAlias = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, " b"]]
"""Pixels (0..1) to logits that are high where they look generated, and differentiable."""

C = TypeVar("C")


class Generator(nn.Module, ABC):
    """A network that writes pictures. All randomness of its products comes from a ``rng``."""

    config: Any
    """What rebuilds it with its kind's ``build``; travels in its file."""

    native_px: int
    """Side of the pictures it is trained on."""

    any_size: bool
    """Whether other sizes than ``native_px`` squared are possible."""

    abilities: frozenset[Ability]

    rewrites: bool
    """Whether ``inpaint`` decodes the whole frame anew, not the region alone."""

    name: str = ""
    weights: WeightsFrom = "untrained"

    @abstractmethod
    def sample(
        self, condition: Condition | None, size: tuple[int, int], rng: np.random.Generator
    ) -> Image:
        """Write a picture.

        Args:
            condition: A class where "class" is among the abilities, a map where "map" is; None: nothing is asked for.
            size: Height and width, pixels.
            rng: The same state gives the same pixels.

        Raises:
            RecipeError: If it cannot do that, or not in that size.
        """

    @property
    def signature(self) -> str:
        """How manifests name it: with the origin of its weights."""
        return f"{self.name}:{self.weights}"

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def class_of(self, condition: Condition | None) -> int:
        """Return a class's index among the config's ``classes``; -1: nothing is asked for.

        Raises:
            RecipeError: If it has no such class.
        """
        if condition is None:
            return -1
        if not isinstance(condition, str):
            self.require("map")
        known: tuple[str, ...] = getattr(self.config, "classes", ())
        if condition not in known:
            near = did_you_mean(str(condition), known)
            raise RecipeError(
                f"{self.name} knows no class {condition!r}.{near} Known: {', '.join(known) or 'none'}."
            )
        return known.index(str(condition))

    def require(self, ability: Ability, size: tuple[int, int] | None = None) -> None:
        """Refuse what it cannot do.

        Raises:
            RecipeError: With what it can.
        """
        if ability not in self.abilities:
            raise RecipeError(
                f"{self.name or type(self).__name__} cannot do {ability!r}; "
                f"it can: {', '.join(sorted(self.abilities))}."
            )
        if size is not None and not self.any_size and size != (self.native_px, self.native_px):
            raise RecipeError(
                f"{self.name or type(self).__name__} writes {self.native_px} x {self.native_px} px "
                f"and nothing else: {size[1]} x {size[0]} px was asked for."
            )


@runtime_checkable
class Painter(Protocol):
    """A generator with the ability "inpaint"."""

    def inpaint(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Return the whole frame with the mask filled anew; the caller composes."""


@runtime_checkable
class Editor(Protocol):
    """A generator with the ability "edit"."""

    def edit(self, image: Image, prompt: str, strength: float, rng: np.random.Generator) -> Image:
        """Write the photo anew: 0 leaves its content alone, 1 forgets it; "" asks for nothing."""


@runtime_checkable
class Guided(Protocol):
    """A generator with the ability "guided"."""

    def guided(self, image: Image, critic: Critic, rng: np.random.Generator) -> Image:
        """Write the photo anew, so that the critic's logit is low: it looks real to it."""


@runtime_checkable
class TwoStage(Protocol):
    """A generator that writes the latents of an autoencoder, whose weights come from elsewhere and stay as they are."""

    def adopt(self, folder: Path) -> None:
        """Take the weights of the autoencoder in a folder."""

    def tokens(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n c"]:
        """Return pictures (0..1) as the autoencoder's latents, of which training learns."""


@dataclass(frozen=True, slots=True)
class Painting:
    """A generator as an inpainter of ``manipulation.inpainting``."""

    painter: Painter
    generative: bool = True
    replaces_content: bool = True

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Return the whole frame."""
        return self.painter.inpaint(image, mask, rng)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a generator sees in one step of its training.

    Attributes:
        pictures: Pixels 0..1, ``native_px`` squared; for a ``TwoStage`` generator, its ``tokens`` of them.
        classes: Index among the config's classes; -1: none.
    """

    pictures: Float[Tensor, "b 3 s s"] | Float[Tensor, "b n c"]
    classes: Int[Tensor, " b"]


@dataclass(frozen=True, slots=True)
class Stage(Generic[C]):
    """One part of a generator's training, after the parts before it.

    Attributes:
        name: For logs.
        terms: Named losses of one step, added by the caller.
        trained: The parameters that learn.
        share: Of all steps of the training, 0..1; the shares of a kind's stages add up to 1.
    """

    name: str
    terms: Callable[[Any, Shown], dict[str, Tensor]]
    trained: Callable[[Any], Iterable[nn.Parameter]]
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorKind(Generic[C]):
    """Everything a generator is. One module in ``generation/`` defines one, as ``GENERATOR``; its name is the file's.

    Attributes:
        title: Name as its authors write it.
        paper: arXiv id or DOI.
        family: How it makes pixels: "diffusion", "autoregressive", ...
        licence: Of published weights, and what is asked of their users; of our own where there are none.
        config: What training starts from.
        tiny: The same network, small enough for tests: fewer than one million parameters.
        build: Makes the network from a config; downloads nothing.
        stages: How it is trained, in this order.
    """

    title: str
    paper: str
    family: str
    licence: str
    config: C
    tiny: C
    build: Callable[[C], Generator]
    stages: tuple[Stage[C], ...]


def names() -> list[str]:
    """List the generators by file name.

    >>> "small_diffusion" in names()
    True
    """
    package = importlib.import_module("gammascope.generation")
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if hasattr(importlib.import_module(f"{package.__name__}.{module.name}"), "GENERATOR")
    )


def get(name: str) -> GeneratorKind[Any]:
    """Return a generator's kind.

    Raises:
        RecipeError: If there is none of this name; the message lists the known ones.
    """
    known = names()
    if name not in known:
        raise RecipeError(
            f"Unknown generator {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    kind: GeneratorKind[Any] = importlib.import_module(f"gammascope.generation.{name}").GENERATOR
    return kind


def build(name: str, config: Any) -> Generator:
    """Build a generator with random weights, which ``torch.manual_seed`` decides."""
    generator = get(name).build(config)
    generator.name = name
    return generator.eval()


@dataclass(frozen=True, slots=True)
class Design:
    """What stands in a generator's file beside its weights.

    Attributes:
        name: Of the generator.
        config: Its config, plain types.
        weights: Where they are from.
        trained_on: One line about the data and its terms.
    """

    name: str
    config: dict[str, Any]
    weights: WeightsFrom
    trained_on: str = ""


def to_bytes(generator: Generator, trained_on: str = "") -> bytes:
    """Return a generator's file: weights and design."""
    from safetensors.torch import save

    design = Design(generator.name, settings.plain(generator.config), generator.weights, trained_on)
    state = {key: value.detach().contiguous() for key, value in generator.state_dict().items()}
    data: bytes = save(state, {METADATA: json.dumps(settings.plain(design))})
    return data


def load(folder: Path) -> Generator:
    """Read a generator's folder; the design is in its file.

    Raises:
        MissingDataError: If the folder has no such file.
        IncompatibleCheckpointError: If the file is no generator that we know.
    """
    from safetensors import SafetensorError

    path = folder / FILE
    if not path.is_file():
        raise MissingDataError(f"No {FILE} in {folder}: train one, or name another folder.")
    try:
        text, state = stored(path, METADATA)
        design = settings.parse(Design, json.loads(text), str(path))
        config = settings.parse(type(get(design.name).config), design.config, str(path))
        generator = build(design.name, config)
        generator.load_state_dict(state)
    except (SafetensorError, RuntimeError, ValueError, TypeError, RecipeError) as error:
        raise IncompatibleCheckpointError(f"{path} is no generator of ours: {error}") from error
    generator.weights = design.weights
    return generator.requires_grad_(requires_grad=False)


def stored(path: Path, key: str) -> tuple[str, dict[str, Tensor]]:
    """Return how a network is built, which its file says as JSON under a key of the metadata, and its tensors.

    Raises:
        SafetensorError: If it is no safetensors file.
        IncompatibleCheckpointError: If it says nothing under that key.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(key)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if text is None:
        raise IncompatibleCheckpointError(f"{path} does not say how it is built.")
    return text, state


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors by names (.pth, .ckpt or .safetensors); nothing in it is executed.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it holds anything else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingDataError(f"No file {path}.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError),
        SafetensorError,
    ) as error:
        raise IncompatibleCheckpointError(
            f"{path} cannot be read as plain tensors, and nothing else is read: {said_by(error)}."
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise IncompatibleCheckpointError(f"{path} holds more than tensors by names.")
    return found


def drawn(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Draw standard normal noise, the same on every device."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def to_pixels(image: Image) -> Float[Tensor, "1 3 h w"]:
    """Return an image as pixels 0..1."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes)[None] / 255


def to_image(pixels: Float[Tensor, "1 3 h w"]) -> Image:
    """Return pixels, clipped to 0..1, as an image."""
    rounded = pixels[0].detach().float().clamp(0, 1).mul(255).round().byte()
    image: Image = np.ascontiguousarray(rounded.permute(1, 2, 0).cpu().numpy())
    return image
