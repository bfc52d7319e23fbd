"""Weights as their makers published them, safetensors only: a file, a local folder, or the hub by ``transformers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    MissingExtraError,
    said_by,
)
from gammascope.files import refuse_no_model, why_no_model


def transformers_package() -> Any:
    """Import ``transformers``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        feature = "A backbone such as CLIP or DINOv3"
        raise MissingExtraError.of(feature, "transformers", "backbones") from error
    return transformers


def settings_of(name: str, revision: str | None) -> Mapping[str, Any]:
    """Read ``config.json`` of a folder or a hub id.

    Raises:
        MissingDataError: If there is none.
    """
    config_class = transformers_package().PreTrainedConfig
    refuse_no_model("backbone", name)
    try:
        settings: dict[str, Any] = config_class.get_config_dict(name, revision=revision)[0]
    except (OSError, ValueError) as error:
        raise _not_found(name, "config.json", error) from error
    if not settings:
        raise _not_found(name, "config.json", OSError("it has no config.json"))
    return settings


def tower_of(name: str, kind: str, config: Any, revision: str | None) -> Any:
    """Load the weights of a folder or a hub id into a class of ``transformers``, in float32.

    Args:
        name: Local folder or hub id.
        kind: Name of the class.
        config: Of that class.
        revision: On the hub; None: the newest.

    Raises:
        MissingDataError: If there are no safetensors.
        IncompatibleCheckpointError: If they do not fill the network.
    """
    from safetensors import SafetensorError

    package = transformers_package()
    verbosity = package.logging.get_verbosity()
    # It would list every tensor of an unused text tower; what matters, the missing, is checked below.
    package.logging.set_verbosity_error()
    try:
        tower, loading = getattr(package, kind).from_pretrained(
            name,
            config=config,
            revision=revision,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except OSError as error:
        raise _not_found(name, "*.safetensors", error) from error
    except (RuntimeError, SafetensorError) as error:
        line = said_by(error)
        raise IncompatibleCheckpointError(
            f"The weights in {name!r} do not load into {kind}: {line}"
        ) from error
    finally:
        package.logging.set_verbosity(verbosity)
    missing = sorted(loading["missing_keys"])
    if missing:
        raise IncompatibleCheckpointError(
            f"The weights in {name!r} leave {len(missing)} tensors of {kind} unset, "
            f"{missing[0]} among them: this is another network or a partial file."
        )
    return tower


def preprocessing_of(name: str, revision: str | None) -> Mapping[str, Any]:
    """Read ``preprocessor_config.json``; empty where there is none."""
    from transformers.utils import cached_file

    path = cached_file(
        name,
        "preprocessor_config.json",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    stated: Mapping[str, Any] = json.loads(Path(path).read_text("utf-8")) if path else {}
    return stated


def fill(network: nn.Module, path: Path, kind: str, names: Mapping[str, str]) -> None:
    """Fill some of a network's tensors from a file of weights; the others stay as they are.

    Args:
        network: Changed in place.
        path: A safetensors file.
        kind: What it should hold, for messages ("ResNet").
        names: Under which name each tensor of the network lies there.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is no safetensors file, or lacks a tensor or has another shape for it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        foreign = load(path.read_bytes())
    except OSError as error:
        raise MissingDataError(f"Cannot read {kind} weights {path}: {error.strerror}.") from error
    except SafetensorError as error:
        raise IncompatibleCheckpointError(f"{path} is no safetensors file: {error}.") from error
    own = network.state_dict()
    wrong = [t for o, t in names.items() if t not in foreign or foreign[t].shape != own[o].shape]
    if wrong:
        raise IncompatibleCheckpointError(
            f"{path} is no {kind} of this size: {wrong[0]} is missing or of another shape ({len(wrong)} of "
            f"{len(names)} tensors)."
        )
    network.load_state_dict({o: foreign[t].to(own[o]) for o, t in names.items()}, strict=False)


def _not_found(name: str, wanted: str, error: Exception) -> MissingDataError:
    return MissingDataError(
        f"No backbone {name!r}: looked for {wanted} ({why_no_model(name, error).rstrip('.')}); "
        "give a local folder with config.json and safetensors."
    )
