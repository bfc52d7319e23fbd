"""Towers as their makers published them: a local folder or the hub, read through ``transformers``, safetensors only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    MissingExtraError,
    said_by,
)


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


def _not_found(name: str, wanted: str, error: Exception) -> MissingDataError:
    tried = "as a local folder" if Path(name).is_dir() else "as a local folder, then on the hub"
    return MissingDataError(
        f"No backbone {name!r}: looked for {wanted} {tried} ({said_by(error).rstrip('.')}); "
        "give a local folder with config.json and safetensors."
    )
