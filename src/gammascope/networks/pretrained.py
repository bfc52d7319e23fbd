"""The backbone that a method's config names: compact or a transformer, with pretrained weights or for a checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from gammascope.networks.backbones import Training, for_config
from gammascope.networks.base import Backbone
from gammascope.networks.compact import (
    CompactBackbone,
    CompactConfig,
    FrozenCompactBackbone,
    read_compact,
)
from gammascope.weights import embedded_path


@runtime_checkable
class _BackboneChoice(Protocol):
    """The part of a method's config that chooses a backbone; methods lie to the right of networks.

    Attributes:
        backbone: "compact": the compact backbone with random weights, for a checkpoint to fill; "embedded": the one of
            the embedded detector; the path of a checkpoint (.safetensors): the compact backbone in it; else a vision
            tower of ``transformers``: hub id or local folder.
        architecture: A tower's configuration as JSON, filled in on loading; with it, nothing is read.
        compact: Sizes of the compact backbone, filled in on loading.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def backbone(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def compact(self) -> CompactConfig: ...


_Chosen = TypeVar("_Chosen", bound=_BackboneChoice)


@dataclass(frozen=True, slots=True)
class _Tower:
    """A config as ``for_config`` wants it; adapters are the methods' own affair."""

    backbone: str
    architecture: str
    adapt: Training
    taps: tuple[int, ...] | None
    lora_rank: int = 0
    lora_alpha: int = 0


def backbone_for(
    config: _Chosen, *, frozen: bool = True, taps: tuple[int, ...] = ()
) -> tuple[Backbone, _Chosen]:
    """Build the backbone that a config names, and complete the config so that it rebuilds without reading anything.

    Args:
        config: Says which, by ``backbone``, ``architecture`` and ``compact``.
        frozen: Nothing in it is trainable, and it stays in evaluation mode.
        taps: Blocks (from 1) whose patch tokens form a tower's grid; none: the last. The compact backbone has one grid.

    Returns:
        The backbone and the completed config. It is the given one itself exactly if nothing pretrained was read.

    Raises:
        GammascopeError: As ``read_compact`` and ``for_config``.
    """
    if config.backbone == "compact":
        return _compact(config.compact, frozen=frozen), config
    if config.backbone == "embedded" or config.backbone.endswith(".safetensors"):
        named = Path(config.backbone)
        sizes, state = read_compact(embedded_path() if config.backbone == "embedded" else named)
        network = _compact(sizes, frozen=frozen)
        network.load_state_dict(state)
        return network, dataclasses.replace(config, backbone="compact", compact=sizes)
    adapt: Training = "frozen" if frozen else "full"
    asked = _Tower(config.backbone, config.architecture, adapt, taps or None)
    tower, told = for_config(asked)
    if told is asked:
        return tower, config
    return tower, dataclasses.replace(config, architecture=told.architecture)


def _compact(sizes: CompactConfig, *, frozen: bool) -> CompactBackbone:
    return FrozenCompactBackbone(sizes) if frozen else CompactBackbone(sizes)
