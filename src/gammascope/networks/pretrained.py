"""Weights that another run trained: the backbone that a method's config names, or any other part of a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import nn

from gammascope import settings
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.networks.backbones import Training, for_config
from gammascope.networks.base import Backbone
from gammascope.networks.compact import CompactBackbone, CompactConfig
from gammascope.networks.mobilenet import MobileNetBackbone, MobileNetConfig
from gammascope.weights import embedded_path

IN_HOUSE: Mapping[str, tuple[Callable[[Any], Backbone], type]] = {
    "compact": (CompactBackbone, CompactConfig),
    "mobilenetv2": (MobileNetBackbone, MobileNetConfig),
}
"""Our own backbones and their sizes; in a config, the field of that name holds the sizes."""

RANDOM = "random"
"""How a config asks for a part that learnt nothing, as a control."""

UNTAUGHT = ("compact", "mobilenetv2")
"""Names of backbones that start with random weights, for training or for a checkpoint to fill."""

_KNOWN = "sha256:"
"""How a config names a checkpoint that was taken over already, and lies in the network's own weights since."""


@runtime_checkable
class _InHouseChoice(Protocol):
    """The part of a method's config that chooses one of our own backbones; methods lie to the right of networks.

    Attributes:
        backbone: "compact" or "mobilenetv2": with random weights, for training or for a checkpoint to fill; "embedded":
            the one of the embedded detector; the path of a checkpoint (.safetensors): the one in it; else none of ours.
        compact: Sizes of the compact backbone, filled in on loading.
        mobilenetv2: Sizes of that backbone, filled in on loading.
        reads: Blocks (from 1) of a tower whose class tokens form the image token; ours have none.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def backbone(self) -> str: ...
    @property
    def compact(self) -> CompactConfig: ...
    @property
    def mobilenetv2(self) -> MobileNetConfig: ...
    @property
    def reads(self) -> tuple[int, ...]: ...


@runtime_checkable
class _BackboneChoice(_InHouseChoice, Protocol):
    """The same with a vision tower of ``transformers`` for whatever is none of ours: hub id or local folder.

    Attributes:
        architecture: A tower's configuration as JSON, filled in on loading; with it, nothing is read.
    """

    @property
    def architecture(self) -> str: ...


_InHouse = TypeVar("_InHouse", bound=_InHouseChoice)
_Chosen = TypeVar("_Chosen", bound=_BackboneChoice)


@dataclass(frozen=True, slots=True)
class _Tower:
    """A config as ``for_config`` wants it; adapters are the methods' own affair."""

    backbone: str
    architecture: str
    adapt: Training
    taps: tuple[int, ...] | None
    reads: tuple[int, ...]
    lora_rank: int = 0
    lora_alpha: int = 0
    trained_blocks: int = 0


def in_house(config: _InHouse) -> tuple[Backbone, _InHouse] | None:
    """Build the backbone of our own that a config names, and complete the config so that it rebuilds without reading.

    Returns:
        The backbone and the completed config, which is the given one itself exactly if nothing was read. None if the
        config names none of ours.

    Raises:
        MissingDataError: If a checkpoint is not there.
        IncompatibleCheckpointError: If it holds none of our backbones.
        RecipeError: If the config reads blocks, which ours have none of.
    """
    ours = config.backbone in IN_HOUSE or config.backbone == "embedded"
    ours = ours or config.backbone.endswith(".safetensors")
    if ours and config.reads:
        raise RecipeError(
            f"method.reads = {list(config.reads)} names blocks of a tower, and method.backbone = {config.backbone!r} "
            "is none."
        )
    if config.backbone in IN_HOUSE:
        build, _ = IN_HOUSE[config.backbone]
        return build(getattr(config, config.backbone)), config
    if not ours:
        return None
    path = embedded_path() if config.backbone == "embedded" else Path(config.backbone)
    name, sizes = backbone_in(path)
    build, _ = IN_HOUSE[name]
    backbone = build(sizes)
    take_over(backbone, "backbone", path)
    sized: dict[str, Any] = {name: sizes}
    return backbone, dataclasses.replace(config, backbone=name, **sized)


def backbone_for(
    config: _Chosen,
    *,
    frozen: bool = True,
    taps: tuple[int, ...] = (),
    trained_blocks: int = 0,
) -> tuple[Backbone, _Chosen]:
    """Build the backbone that a config names, and complete the config so that it rebuilds without reading anything.

    Args:
        config: Says which, by ``backbone``, ``architecture`` and the sizes of ours.
        frozen: Nothing in it is trainable, and it stays in evaluation mode.
        taps: Blocks (from 1) whose patch tokens form a tower's grid; none: the last. Backbones of ours have one grid.
        trained_blocks: Only so many last blocks of a tower are trained, unless it is frozen; 0: all.

    Returns:
        The backbone and the completed config. It is the given one itself exactly if nothing pretrained was read.

    Raises:
        GammascopeError: As ``in_house`` and ``for_config``.
    """
    own = in_house(config)
    if own is not None:
        backbone, completed = own
        return (backbone.freeze() if frozen else backbone), completed
    adapt: Training = "frozen" if frozen else "full"
    asked = _Tower(
        config.backbone,
        config.architecture,
        adapt,
        taps or None,
        config.reads,
        trained_blocks=trained_blocks,
    )
    tower, told = for_config(asked)
    if told is asked:
        return tower, config
    return tower, dataclasses.replace(config, architecture=told.architecture)


def refuse_untaught(config: Any, detector: nn.Module) -> None:
    """Refuse to train on a backbone that is frozen, wholly or in part, and has random weights: it would stay blind.

    A tower named "random" is let through: it is a control, and says so.

    Args:
        config: As ``build`` got it.
        detector: As it came from ``build``.

    Raises:
        RecipeError: If nothing was read into the frozen part.
    """
    backbone = getattr(detector, "backbone", None)
    if not isinstance(backbone, Backbone) or not _is_frozen(backbone):
        return
    named = config.backbone
    if named in UNTAUGHT and not (named == "mobilenetv2" and getattr(config, "pretrained", "")):
        told = "its weights are random"
    elif named not in UNTAUGHT and named != RANDOM and getattr(config, "architecture", ""):
        told = "method.architecture is given, so no weights are read and they are random"
    else:
        return
    start = "a hub id or folder as method.backbone, without method.architecture"
    if hasattr(config, "pretrained"):
        start = (
            "method.backbone=mobilenetv2 with method.pretrained=FILE of ImageNet weights, or "
            + start
        )
    raise RecipeError(
        f"method.backbone = {named!r} is frozen, and {told}: what is trained on it would learn from noise. Give "
        "method.backbone=embedded (the backbone of the embedded detector, which is there already), a checkpoint "
        f"(.safetensors), {start}."
    )


def _is_frozen(backbone: Backbone) -> bool:
    """Whether more than a hundredth of the weights is frozen: some towers have a token that nothing uses."""
    sizes = {True: 0, False: 0}
    for parameter in backbone.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    return sizes[False] > 0.01 * (sizes[True] + sizes[False])


def backbone_in(path: Path) -> tuple[str, Any]:
    """Read which of our backbones lies in a checkpoint of any method, and its sizes.

    Returns:
        Its name in ``IN_HOUSE``, and its config.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is no checkpoint with a backbone of ours.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingDataError(f"No checkpoint at {path} to take the backbone from.")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get("gammascope", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise IncompatibleCheckpointError(f"{path} is not a checkpoint: {error}.") from error
    config = facts.get("config", {})
    name = config.get("backbone")
    if name not in IN_HOUSE:
        raise IncompatibleCheckpointError(
            f"{path} has none of the backbones {', '.join(IN_HOUSE)}: its method.backbone is {name!r}."
        )
    _, kind = IN_HOUSE[name]
    return name, settings.parse(kind, config[name], f"checkpoint {path}, {name}")


def yet_to_read(named: str) -> Path | None:
    """Return the checkpoint that a config names for a part; None if it names none or ``take_over`` has read it."""
    return None if named in {"", RANDOM} or named.startswith(_KNOWN) else Path(named)


def take_over(part: nn.Module, name: str, path: Path) -> str:
    """Fill a part from the tensors of that name in a safetensors file, strictly.

    Args:
        part: Filled in place.
        name: Its name in the file: tensors that start with "name." are used, others are left.
        path: The file.

    Returns:
        "sha256:" and the hash of the file.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is no safetensors file, or the part does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise MissingDataError(f"No checkpoint at {path} to take the {name} from.")
    data = path.read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise IncompatibleCheckpointError(f"{path} is not a safetensors file: {error}.") from error
    start = f"{name}."
    own = {
        key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)
    }
    try:
        part.load_state_dict(own)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise IncompatibleCheckpointError(
            f"{path}: its {name} does not fit this network: {' '.join(lines[:2])[:300]}"
        ) from error
    return _KNOWN + hashlib.sha256(data).hexdigest()
