"""Which vision tower a published detector sees with: its settings, its name, and its weights where a file lacks them.

Sizes are read off tensors. How many heads a tower has, its activation and its epsilon are in none of them: these come
from the CLIP that the caller names, and are OpenAI's where the caller names none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError, said_by
from gammascope.networks import published, towers
from gammascope.networks.backbones import TransformerBackbone

CLIP = "openai/clip-vit-large-patch14"
"""Where weights of CLIP come from unless the caller names another."""

PREFIX = "backbone.tower."
"""Of a vision tower's tensors in ours."""

_NAMES: Mapping[tuple[str, int, int, int], str] = {
    ("quick_gelu", 768, 32, 224): "openai/clip-vit-base-patch32",
    ("quick_gelu", 768, 16, 224): "openai/clip-vit-base-patch16",
    ("quick_gelu", 1024, 14, 224): CLIP,
    ("quick_gelu", 1024, 14, 336): f"{CLIP}-336",
    ("gelu", 384, 14, 518): "facebook/dinov2-small",
    ("gelu", 768, 14, 518): "facebook/dinov2-base",
    ("gelu", 1024, 14, 518): "facebook/dinov2-large",
}
"""Names of towers by activation, width, patch and side of the picture."""


def clip_among(path: Path, found: Mapping[str, Tensor], clip: str | None) -> dict[str, Any]:
    """Return the settings of the CLIP vision tower in a file: those of the CLIP that the caller named, else OpenAI's.

    OpenAI's have heads of 64 channels and at most 1,024 channels; wider ones of other makers have other heads.

    Raises:
        MissingDataError: If the named CLIP is not there.
        IncompatibleCheckpointError: If it is no CLIP; if none is named and the tensors are none of OpenAI's.
    """
    if clip is not None:
        return clip_tower(clip, weights=False).config
    try:
        hidden = found[f"{PREFIX}embeddings.class_embedding"].shape[0]
        patch = found[f"{PREFIX}embeddings.patch_embedding.weight"].shape[-1]
        positions = found[f"{PREFIX}embeddings.position_embedding.weight"].shape[0]
        inner = found[f"{PREFIX}encoder.layers.0.mlp.fc1.weight"].shape[0]
    except (KeyError, IndexError):
        raise IncompatibleCheckpointError(f"{path} holds no CLIP vision tower.") from None
    if hidden not in range(64, 1025, 64):
        raise IncompatibleCheckpointError(
            f"{path}: its CLIP is {hidden} channels wide, as none of OpenAI's is, and no tensor says how many "
            "heads it has: name it with --clip, a hub id or a folder with its config.json."
        )
    return {
        "model_type": "clip_vision_model",
        "hidden_act": "quick_gelu",
        "hidden_size": hidden,
        "num_hidden_layers": _layers(found, "layers"),
        "num_attention_heads": hidden // 64,
        "intermediate_size": inner,
        "patch_size": patch,
        "image_size": round((positions - 1) ** 0.5) * patch,
    }


def dinov2_among(path: Path, found: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of DINOv2 off its tensors; a head is 64 channels wide in all published ones.

    Raises:
        IncompatibleCheckpointError: If they are no DINOv2's.
    """
    hidden, _, patch, _ = found[f"{PREFIX}embeddings.patch_embeddings.projection.weight"].shape
    try:
        positions = found[f"{PREFIX}embeddings.position_embeddings"].shape[1]
        inner = found[f"{PREFIX}encoder.layer.0.mlp.fc1.weight"].shape[0]
    except (KeyError, IndexError):
        raise IncompatibleCheckpointError(f"{path} holds no DINOv2.") from None
    return {
        "model_type": "dinov2",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "num_hidden_layers": _layers(found, "layer"),
        "num_attention_heads": max(1, hidden // 64),
        "mlp_ratio": inner // hidden,
        "patch_size": patch,
        "image_size": round((positions - 1) ** 0.5) * patch,
    }


def chosen(settings: Mapping[str, Any], clip: str | None = None) -> dict[str, Any]:
    """Return what a method's config says of a tower: a name, for people, and all that rebuilds it."""
    name = clip
    if clip is None or Path(clip).exists():  # a folder of this machine means nothing elsewhere
        key = tuple(settings[k] for k in ("hidden_act", "hidden_size", "patch_size", "image_size"))
        name = _NAMES.get(key, settings["model_type"])
    return {"backbone": name, "architecture": json.dumps(settings, sort_keys=True)}


def clip_tower(name: str, *, weights: bool = True) -> TransformerBackbone:
    """Read the vision tower of a CLIP; without weights, just how it is built.

    Raises:
        MissingDataError: If it is not there.
        IncompatibleCheckpointError: If it is no CLIP.
    """
    file = towers.named(name)
    try:
        if weights:
            backbone = TransformerBackbone.load(name)
        else:
            settings = published.settings_of(name, None) if file is None else file.config
            with torch.device("meta"):
                backbone = TransformerBackbone.from_config(settings)
    except (RecipeError, ValueError) as error:
        raise IncompatibleCheckpointError(f"{name!r} is no CLIP: {said_by(error)}") from error
    kind = backbone.config["model_type"]
    if kind != "clip_vision_model":
        raise IncompatibleCheckpointError(
            f"{name!r} is no CLIP, but of model_type {kind!r}: name the CLIP that the file was trained on."
        )
    return backbone


def tensors(backbone: TransformerBackbone, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a tower's tensors under our names; layers with an adapter among the others are called ``base_layer``."""
    adapted = {name.split(".lora_")[0] for name in beside if ".lora_" in name}
    state = {}
    for name, tensor in backbone.tower.state_dict().items():
        stem, _, leaf = f"{PREFIX}{name}".rpartition(".")
        inside = ".base_layer" if stem in adapted else ""
        state[f"{stem}{inside}.{leaf}"] = tensor
    return state


def clip_tensor(clip: str, name: str) -> Tensor:
    """Read one tensor of CLIP that lies outside of its vision tower.

    Raises:
        MissingDataError: If it is not there.
    """
    from safetensors import SafetensorError, safe_open
    from transformers.utils import cached_file

    if towers.named(clip) is not None:
        raise MissingDataError(
            f"{clip!r}, which came with the package, is a tower alone, without CLIP's {name}: give a folder with "
            "model.safetensors as --clip, or a hub id such as openai/clip-vit-base-patch16."
        )
    try:
        path = cached_file(clip, "model.safetensors")
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise MissingDataError(
            f"No {name} of CLIP in {clip!r} (looked for model.safetensors): {said_by(error)}"
        ) from error
    return tensor


def _layers(found: Mapping[str, Tensor], stem: str) -> int:
    """Count the blocks of a vision tower, whose list is called ``encoder.layers`` or ``encoder.layer``."""
    numbers = (re.match(rf"backbone\.tower\.encoder\.{stem}\.(\d+)\.", name) for name in found)
    # Counted, not the highest: a damaged name may have any number.
    return len({number[1] for number in numbers if number})
