"""Checkpoints: one safetensors file that holds the weights and everything needed to use them rightly.

The method, its config, the preprocessing, the class order, the calibration and the data trained on travel inside; a
detector is rebuilt from them, never guessed from a file name.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gammascope import settings, weights
from gammascope.checkpoints.verdicts import Calibration, Settled
from gammascope.errors import (
    ChecksumError,
    IncompatibleCheckpointError,
    MissingDataError,
    RecipeError,
    first_line,
)
from gammascope.files import complete_or_absent
from gammascope.imaging.views import ViewSpec
from gammascope.sample import Entry, KeptApart

if TYPE_CHECKING:
    from torch import Tensor

    from gammascope.detectors.base import Detector

FORMAT = 1
"""Raised whenever an older reader would misunderstand a newer file."""

_KEY = "gammascope"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a checkpoint says about itself.

    Attributes:
        method: File name of the method.
        config: Rebuilds the network; plain types.
        view: How the detector wants to see an image.
        classes: Names of the labels 0 and 1.
        calibration: By image-level answer; empty = not calibrated.
        profiles: The same for ways of looking other than the default, by profile; others go by ``calibration``.
        settled: When few views are enough, by profile; the others always run all of theirs.
        recipe: The recipe it was trained with; plain types.
        trained_on: One line for people: sources, numbers, terms.
        seen: Sources of the images that it was trained on; empty = not known.
        version: Of gammascope, when it was written.
        format: Of the file.
    """

    method: str
    config: Mapping[str, Any]
    view: ViewSpec
    classes: tuple[str, str] = ("real", "fake")
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    profiles: Mapping[str, Mapping[str, Calibration]] = field(default_factory=dict)
    settled: Mapping[str, Settled] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str = ""
    seen: tuple[str, ...] = ()
    version: str = ""
    format: int = FORMAT

    def under(self, profile: str) -> Facts:
        """Return the same with the calibration of a profile, as far as it has one of its own."""
        own = self.profiles.get(profile)
        return replace(self, calibration={**self.calibration, **own}) if own else self

    @property
    def kept_apart(self) -> KeptApart:
        """What the recipe kept apart for validation and calibration; nothing without a recipe."""
        data = self.recipe.get("data", {})
        names = (data.get(name, ()) for name in ("validation_sources", "validation_generators"))
        return KeptApart(*map(frozenset, names))

    def never_saw(self, entry: Entry) -> bool:
        """Whether an image may judge this detector: it was kept apart, or is of a source that training had none of.

        Where the file has a recipe but no sources, only what was kept apart counts; with neither, all does.
        """
        if not (self.recipe or self.seen) or self.kept_apart.holds(entry):
            return True
        return bool(self.seen) and entry.source is not None and entry.source not in self.seen


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A detector in evaluation mode, what its file says, and the file's hash."""

    detector: Detector
    facts: Facts
    sha256: str


def save(path: Path, detector: Detector, facts: Facts) -> str:
    """Write a checkpoint; the file appears whole or not at all.

    Tensors that half precision holds to the last bit, as pretrained ones that were published in it, are stored in it.
    Those of a tower's file are left out where they still have its values: the config names the file by its hash.

    Returns:
        Its sha256.
    """
    from safetensors.torch import save as to_bytes

    held = elsewhere(detector)
    state = {
        name: _smallest(tensor.detach().cpu().contiguous())
        for name, tensor in detector.state_dict().items()
        if name not in held or not tensor.detach().cpu().equal(held[name])
    }
    return _write(path, to_bytes(state, {_KEY: json.dumps(settings.plain(facts))}))


def elsewhere(detector: Detector) -> dict[str, Tensor]:
    """Return what towers' files hold for tensors of a detector, by name in its state."""
    from gammascope.networks.base import Backbone

    return {
        f"{place}.{name}": tensor
        for place, part in detector.named_modules()
        if isinstance(part, Backbone)
        for name, tensor in part.elsewhere().items()
    }


def _smallest(tensor: Tensor) -> Tensor:
    """Return float32 as float16 where nothing is lost, and all else as it is."""
    import torch

    if tensor.dtype is not torch.float32:
        return tensor
    half = tensor.half()
    return half if torch.equal(half.float(), tensor) else tensor


def recalibrate(path: Path, calibration: Mapping[str, Calibration]) -> str:
    """Replace a checkpoint's calibration, leaving weights as they are.

    The calibration of other profiles is dropped, and what few views settle: it belongs to the thresholds before.

    Returns:
        The new sha256.
    """
    from safetensors.torch import load, save

    facts = replace(read_facts(path), calibration=calibration, profiles={}, settled={})
    return _write(path, save(load(path.read_bytes()), {_KEY: json.dumps(settings.plain(facts))}))


def read_facts(path: Path) -> Facts:
    """Read what a checkpoint says about itself, without its weights and without torch.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is not a gammascope checkpoint of a format we know.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingDataError(f"No checkpoint at {path}.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError) as error:
        if path.suffix.lower() == ".json":
            raise IncompatibleCheckpointError(
                f"{path} is no checkpoint. If it is a fusion: scan, evaluate, robustness and serve take it as "
                "--weights; what is calibrated or exported are its members."
            ) from error
        raise IncompatibleCheckpointError(f"{path} is not a safetensors file: {error}.") from error
    if text is None:
        raise IncompatibleCheckpointError(
            f"{path} is a safetensors file, but not a gammascope checkpoint: it has no {_KEY!r} metadata."
        )
    try:
        return parse_facts(json.loads(text), f"checkpoint {path}")
    except (ValueError, AttributeError, RecipeError) as error:
        raise IncompatibleCheckpointError(f"{path} has broken metadata: {error}") from error


def parse_facts(values: Any, place: str) -> Facts:
    """Make facts of the plain types that stand in a file.

    Args:
        values: As ``settings.plain`` made them.
        place: What holds them, for errors.

    Raises:
        IncompatibleCheckpointError: If they are of a format we do not know.
        RecipeError: If they are broken.
    """
    if values.get("format") != FORMAT:
        raise IncompatibleCheckpointError(
            f"{place} has format {values.get('format')!r}, this version reads {FORMAT}: update gammascope."
        )
    return settings.parse(Facts, values, place)


def load(path: Path, *, method: str | None = None, sha256: str | None = None) -> Checkpoint:
    """Rebuild a detector from its checkpoint, strictly, ready to predict.

    Args:
        path: The file.
        method: Refuse a checkpoint of another method; None takes any.
        sha256: Refuse a file with another hash.

    Raises:
        MissingDataError: If there is no such file.
        ChecksumError: If the hash differs.
        IncompatibleCheckpointError: If it is another method's, or network and weights do not fit.
    """
    from safetensors.torch import load as from_bytes

    from gammascope.detectors import base

    facts = read_facts(path)
    if method is not None and facts.method != method:
        raise IncompatibleCheckpointError(
            f"{path} is a checkpoint of {facts.method!r}, not of {method!r}."
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ChecksumError(f"{path} has sha256 {digest}, expected {sha256}: download it again.")
    definition = base.get(facts.method)
    try:
        config = settings.parse(type(definition.config), facts.config, f"checkpoint {path}, config")
        detector = definition.build(config)
        _fill(detector, from_bytes(data))
    except (RecipeError, RuntimeError, ValueError) as error:
        raise IncompatibleCheckpointError(
            f"{path}: weights and network of {facts.method!r} do not fit: {first_line(error)}"
        ) from error
    detector.view = facts.view
    return Checkpoint(detector.eval().requires_grad_(requires_grad=False), facts, digest)


def _fill(detector: Detector, state: Mapping[str, Tensor]) -> None:
    """Load a state, strictly; what is missing must have come from a tower's file when the network was built."""
    missing = detector.state_dict().keys() - state.keys()
    there = dict(state)
    if missing:
        there |= {name: held for name, held in elsewhere(detector).items() if name in missing}
    detector.load_state_dict(there)


def default_path() -> Path:
    """Return where the embedded detector lies."""
    return weights.default_path()


def resolve(place: str | os.PathLike[str]) -> Path:
    """Turn "default", another name of an embedded detector ("mobilenet"), or a path into a path."""
    name = str(place)
    return default_path() if name == "default" else weights.named(name) or Path(place)


def parameters_of(path: Path) -> int:
    """Count the numbers in a checkpoint, and in the tower that it sees with, without reading them."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        own: int = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - not a mapping
    return own + sum(map(parameters_of, towers_of(path)))


def towers_of(path: Path) -> list[Path]:
    """Return the files of towers that a checkpoint names."""
    named = weights.towers()
    if path in named.values():
        return []
    backbone = read_facts(path).config.get("backbone")
    return [named[backbone]] if backbone in named else []


def _write(path: Path, data: bytes) -> str:
    with complete_or_absent(path) as unfinished:
        unfinished.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
