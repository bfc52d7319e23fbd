"""Checkpoints that authors published for their own code, turned into ours by written key maps.

Nothing in a file is executed, nothing is guessed from its name, and nothing is left over: a tensor that is missing, and
one that no rule knows, is named. Names and layouts are facts about the published files, taken from public code:

- **UnivFD** (WisconsinAIVision/UniversalFakeDetect, ``fc_weights.pth``): ``weight`` and ``bias`` of the linear layer on
  CLIP's projected image embedding. The projection is linear, so it is folded into the layer.
- **Effort** (YZY-stack/Effort-AIGI-Detection): the whole network, in one of two layouts: with ``backbone`` and a head
  of two classes (DeepfakeBench branch; their difference is our logit; squeezed views), or ``model.vision_model`` and
  ``fc`` (UniversalFakeDetect branch; centre crops). Read from third-party loaders of these files and from issues: the
  original repository was not at hand.
- **GAPL** (UltraCapture/GAPL): ``model`` and ``prototype``; CLIP's own weights may be left out of ``model``, then they
  come from CLIP.
- **NPR** (chuangchuangtan/NPR-DeepfakeDetection): a ResNet-50 cut after its second stage, under torchvision's names.
- **SAFE** (Ouxiang-Li/SAFE): the same network behind a wavelet transform, and a head of two classes; crops.
- **C2P-CLIP** (chuangchuangtan/C2P-CLIP-DeepfakeDetection): CLIP with updates merged, and a linear layer on its
  projected embedding of unit length: a linear probe of that. Published tests reduce the shorter side and cut the
  middle; ours squeezes the whole.
- **DRCT** (beibuwandeluori/DRCT), its CLIP: OpenAI's names for the tower, then two linear layers, which are one. Its
  ConvNeXt fits no method of ours.
- **DDA** (roy-ch/Dual-Data-Alignment): DINOv2 ViT-L/14 under the names of its own repository, with LoRA on four kinds
  of layers, scaled by 1 / rank. With its updates merged it is a linear layer on an image token, so it becomes a linear
  probe. It was trained with CLIP's normalisation, which is folded into the patch embedding. Position codes are
  interpolated as ``transformers`` does it; DINOv2's own code shifts them by a tenth of a cell.

- **RINE** (mever-team/rine): what it trained beside CLIP, whose own weights come from CLIP.
- **FerretNet** (xigua7105/FerretNet): the whole network on the medians of 3 x 3 pixels.

Sizes are read off the tensors, so towers of any width and patch, ViT-B/16 among them, are taken.

Their licences are their authors': read them before you use the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

import gammascope
from gammascope import checkpoints, settings
from gammascope.checkpoints import key_maps, tower_settings
from gammascope.checkpoints.key_maps import Rules
from gammascope.checkpoints.tower_settings import CLIP, PREFIX
from gammascope.detectors import effort, ferretnet, gapl, linear_probe, npr, rine
from gammascope.detectors.base import Detector
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    RecipeError,
    UnknownMethodError,
    did_you_mean,
    said_by,
)
from gammascope.networks.backbones import FAMILIES

ALSO_CALLED: Mapping[str, str] = {"linear_probe": "univfd"}
"""Methods whose name may stand for that of the published detector."""

State: TypeAlias = dict[str, Tensor]

_MISSHAPEN = (
    ArithmeticError,
    AssertionError,
    LookupError,
    RecipeError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What is raised where sizes are read off tensors of any shape, and networks of such sizes are built."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A published file, opened.

    Attributes:
        path: For messages.
        content: What lies in it.
        clip: Hub id or local folder of CLIP, where the caller named one.
    """

    path: Path
    content: Mapping[str, Any]
    clip: str | None

    def state(self, *names: str) -> State:
        """Return the tensors below one of the given keys, or at the top, without the prefix of data parallelism."""
        inner = next((self.content[name] for name in names if name in self.content), self.content)
        if not isinstance(inner, Mapping) or not inner:
            raise IncompatibleCheckpointError(f"{self.path} holds no tensors by name.")
        for name, value in inner.items():
            if flaw := _flaw(str(name), value):
                raise IncompatibleCheckpointError(f"{self.path}: {name!r} is {flaw}.")
        return {str(name).removeprefix("module."): value for name, value in inner.items()}


def _flaw(name: str, value: Any) -> str:
    """Return what a value is that cannot be a network's tensor; empty if it can."""
    if not isinstance(value, Tensor):
        return "no tensor"
    if value.is_quantized or value.is_complex() or value.is_meta:
        return f"of type {value.dtype} on {value.device}; only real numbers that lie in the file are read"
    if value.layout is not torch.strided:
        return f"stored as {value.layout}; only dense tensors are read"
    if name.endswith((".weight", ".bias")) and not (value.ndim and value.numel()):
        return f"of shape {tuple(value.shape)}, as no layer's is"
    return ""


def convert(path: Path, method: str, out: Path, *, clip: str | None = None) -> str:
    """Turn a published checkpoint into one of ours.

    Args:
        path: The published file (.pth, .pt).
        method: "univfd" (or "linear_probe"), "effort", "gapl", "npr", "safe", "c2p_clip", "drct", "dda", "rine" or
            "ferretnet".
        out: Where the checkpoint goes; it appears whole or not at all. It is not calibrated.
        clip: The CLIP it was trained on: hub id, local folder, or the name of a tower that came with the package.
            Its weights are read where the file leaves them out, and always what no tensor says. None: OpenAI's
            ViT-L/14 where weights are left out, else OpenAI's of the sizes in the file.

    Returns:
        The sha256 of the new checkpoint.

    Raises:
        UnknownMethodError: If there is no key map for the method.
        MissingDataError: If the file, or CLIP, is not there.
        IncompatibleCheckpointError: If the file is no checkpoint, or one of gammascope's already, or names or shapes
            of its tensors are not those of the method.
    """
    method = ALSO_CALLED.get(method, method)
    if method not in CONVERTERS:
        raise UnknownMethodError(
            f"No key map for published files of {method!r}.{did_you_mean(method, CONVERTERS)} "
            f"Known: {', '.join(CONVERTERS)}."
        )
    ours, converter = CONVERTERS[method]
    source = _Source(path, _opened(path), clip)
    try:
        detector = converter(source)
    except _MISSHAPEN as error:
        raise IncompatibleCheckpointError(
            f"{path} does not fit: no {method} has tensors of such shapes ({said_by(error)}). Is it a whole file of "
            f"{method}?"
        ) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = checkpoints.Facts(
        method=ours,
        config=settings.plain(detector.config),
        view=detector.view,
        trained_on=f"converted from published weights, file sha256 {digest}; their authors' terms hold"
        + _rounded(detector),
        version=gammascope.__version__,
    )
    return checkpoints.save(out, detector, facts)


def _rounded(detector: Detector) -> str:
    """Say so where a detector sees with a tower of the package: the authors' saw with one that was not rounded."""
    file = getattr(getattr(detector, "backbone", None), "file", None)
    return "" if file is None else "; CLIP's weights are those of the package, rounded to int8"


def renamed(state: Mapping[str, Tensor], rules: Rules) -> tuple[State, list[str]]:
    """Apply a key map.

    Returns:
        The tensors by our names, and the names that no rule knows.
    """
    found: State = {}
    unknown = []
    for name, tensor in state.items():
        for pattern, replacement in rules:
            if re.fullmatch(pattern, name):
                if replacement is not None:
                    found[re.sub(pattern, replacement, name)] = tensor.float()
                break
        else:
            unknown.append(name)
    return found, unknown


def _univfd(source: _Source) -> Detector:
    head = source.state()
    if set(head) != {"weight", "bias"}:
        raise _misfit(source.path, {"weight", "bias"} - set(head), set(head) - {"weight", "bias"})
    clip = source.clip or CLIP
    projection = tower_settings.clip_tensor(clip, "visual_projection.weight")
    if head["weight"].shape != (1, len(projection)) or head["bias"].shape != (1,):
        raise IncompatibleCheckpointError(
            f"{source.path}: weight is {tuple(head['weight'].shape)}, expected {(1, len(projection))}: "
            f"it was not trained on the embedding of {clip}."
        )
    probe = linear_probe.build(linear_probe.Config(backbone=clip))
    probe.config = replace(
        probe.config, **tower_settings.chosen(json.loads(probe.config.architecture), clip)
    )
    with torch.no_grad():
        probe.head.weight.copy_((head["weight"].double() @ projection.double()).float())
        probe.head.bias.copy_(head["bias"])
    return probe


def _effort(source: _Source) -> Detector:
    state = source.state("model")
    found, unknown = renamed(state, key_maps.EFFORT)
    named: State = {}
    for name, tensor in found.items():
        stem, _, leaf = name.rpartition(".")
        ours = key_maps.EFFORT_LAYERS.get(leaf, leaf)
        if ours is not None:
            named[f"{stem}.{ours}"] = tensor
    strengths = [tensor for name, tensor in named.items() if name.endswith(".s")]
    two_classes = "head.weight" in state
    named = _one_class(named, "head")
    config = effort.Config(
        **tower_settings.chosen(
            tower_settings.clip_among(source.path, named, source.clip), source.clip
        ),
        residual_rank=len(strengths[0]) if strengths else 1,
        fit="resize" if two_classes else "center_crop",
    )
    return _filled(source.path, effort.build(config), named, unknown)


def _gapl(source: _Source) -> Detector:
    found, unknown = renamed(source.state("model"), key_maps.GAPL)
    prototypes = source.content.get("prototype", source.content.get("propVec"))
    if isinstance(prototypes, Tensor):
        found["mix.prototypes"] = prototypes.float()
    ranks = [tensor.shape[0] for name, tensor in found.items() if ".lora_A." in name]
    if any(name.startswith(PREFIX) and ".lora_" not in name for name in found):
        settings = tower_settings.clip_among(source.path, found, source.clip)
    else:
        backbone = tower_settings.clip_tower(source.clip or CLIP)
        settings = backbone.config
        found |= tower_settings.tensors(backbone, found)
    sizes = found.get("mix.prototypes", torch.zeros(64, 128)).shape
    config = gapl.Config(
        **tower_settings.chosen(settings, source.clip),
        lora_rank=ranks[0] if ranks else gapl.Config().lora_rank,
        prototypes=sizes[0],
        width=sizes[-1],
    )
    return _filled(source.path, gapl.build(config), found, unknown)


def _npr(source: _Source) -> Detector:
    state = source.state("model")
    return _cut_resnet(source.path, state, npr.Config(**_resnet_sizes(source.path, state)))


def _safe(source: _Source) -> Detector:
    state = _one_class(source.state("model"), "fc1")
    sizes = _resnet_sizes(source.path, state)
    config = npr.Config(front="wavelet", fit="center_crop", **sizes)
    return _cut_resnet(source.path, state, config)


def _resnet_sizes(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read width and depths of a ResNet off its tensors under torchvision's names."""
    found = {(int(m[1]), int(m[2])) for n in state if (m := re.match(r"layer(\d+)\.(\d+)\.", n))}
    if "conv1.weight" not in state or not found:
        raise _misfit(path, {"conv1.weight"} - set(state), set() if found else set(state))
    depths = Counter(stage for stage, _ in found)
    return {"width": len(state["conv1.weight"]), "depths": tuple(depths[s] for s in sorted(depths))}


def _cut_resnet(path: Path, state: Mapping[str, Tensor], config: npr.Config) -> Detector:
    detector = npr.build(config)
    names = {theirs: f"network.{own}" for own, theirs in detector.network.published_names().items()}
    names |= {f"fc1.{part}": f"head.{part}" for part in ("weight", "bias")}
    found = {names[name]: tensor.float() for name, tensor in state.items() if name in names}
    return _filled(path, detector, found, [name for name in state if name not in names])


def _one_class(state: Mapping[str, Tensor], head: str) -> State:
    """Turn a linear head of two classes, real first, into one of their log-odds: the difference."""
    made = dict(state)
    for name in (f"{head}.weight", f"{head}.bias"):
        if name in made and len(made[name]) == 2:
            made[name] = made[name][1:] - made[name][:1]
    return made


def _c2p_clip(source: _Source) -> Detector:
    found, unknown = renamed(source.state("model"), key_maps.C2P_CLIP)
    config = linear_probe.Config(
        **tower_settings.chosen(
            tower_settings.clip_among(source.path, found, source.clip), source.clip
        ),
        shared=len(found.get("to_shared.weight", ())) or 1,
        fit="resize",
    )
    return _filled(source.path, linear_probe.build(config), found, unknown)


def _drct(source: _Source) -> Detector:
    state = _one_class(source.state("model", "state_dict"), "fc")
    heads = {n: t.double() for n, t in state.items() if re.fullmatch(r"(model\.)?fc\..+", n)}
    tower = {n.removeprefix("model.model."): t for n, t in state.items() if n not in heads}
    found, unknown = renamed(tower, key_maps.OPENAI)
    for name in [name for name in found if ".qkv_proj." in name]:
        for part, third in zip("qkv", found.pop(name).chunk(3), strict=True):
            found[name.replace(".qkv_proj.", f".{part}_proj.")] = third
    settings = tower_settings.clip_among(source.path, found, source.clip)
    missing = {f"{head}.{part}" for head in ("model.fc", "fc") for part in ("weight", "bias")}
    missing = (missing - set(heads)) | ({"visual.proj"} if "projection" not in found else set())
    if missing:
        raise _misfit(source.path, missing, set())
    last, first = heads["fc.weight"], heads["model.fc.weight"]
    found["head.weight"] = (last @ first @ found.pop("projection").double().mT).float()
    found["head.bias"] = (last @ heads["model.fc.bias"] + heads["fc.bias"]).float()
    mean, std = FAMILIES["dinov2"].normalisation  # ImageNet's
    settings = settings | {"image_mean": mean, "image_std": std}
    config = linear_probe.Config(**tower_settings.chosen(settings, source.clip), fit="center_crop")
    return _filled(source.path, linear_probe.build(config), found, unknown)


def _dda(source: _Source) -> Detector:
    merged, left = _merged(source.state("model"))
    found, unknown = renamed(merged, key_maps.DDA)
    parts = {name: tensor for name, tensor in found.items() if ".qkv." in name}
    for name, tensor in parts.items():
        del found[name]
        for part, third in zip("qkv", tensor.chunk(3), strict=True):
            found[name.replace(".qkv.", f".{part}_proj.")] = third
    patches = f"{PREFIX}embeddings.patch_embeddings.projection"
    if f"{patches}.weight" not in found or f"{patches}.bias" not in found:
        raise IncompatibleCheckpointError(f"{source.path} holds no DINOv2.")
    wanted, given = FAMILIES["clip"].normalisation, FAMILIES["dinov2"].normalisation
    shift, scale = (
        torch.tensor([(g_m - w_m) / w_s for w_m, w_s, g_m in zip(*wanted, given[0], strict=True)]),
        torch.tensor([g_s / w_s for w_s, g_s in zip(wanted[1], given[1], strict=True)]),
    )
    kernel = found[f"{patches}.weight"]
    found[f"{patches}.bias"] = found[f"{patches}.bias"] + torch.einsum("dchw,c->d", kernel, shift)
    found[f"{patches}.weight"] = kernel * scale[:, None, None]
    settings = tower_settings.dinov2_among(source.path, found)
    config = linear_probe.Config(**tower_settings.chosen(settings), size=336, fit="center_crop")
    return _filled(source.path, linear_probe.build(config), found, unknown + left)


def _rine(source: _Source) -> Detector:
    found, unknown = renamed(source.state("model"), key_maps.RINE)
    importance = found.get("importance")
    if importance is None or importance.ndim != 3:
        raise _misfit(source.path, {"alpha"}, set(unknown))
    found["importance"] = importance[0]
    depth = sum(re.fullmatch(r"project\.\d+\.weight", name) is not None for name in found)
    backbone = tower_settings.clip_tower(source.clip or CLIP)
    found |= tower_settings.tensors(backbone, found)
    config = rine.Config(
        **tower_settings.chosen(backbone.config, source.clip),
        width=importance.shape[-1],
        depth=max(1, depth),
    )
    return _filled(source.path, rine.build(config), found, unknown)


def _ferretnet(source: _Source) -> Detector:
    state = source.state("model", "state_dict")
    found, unknown = renamed(state, key_maps.FERRETNET)
    blocks = {(int(m[1]), int(m[2])) for n in found if (m := re.match(r"stages\.(\d+)\.(\d+)", n))}
    if "stem.3.weight" not in found or not blocks:
        raise _misfit(source.path, {"cbr2.0.weight"} - set(state), set(unknown))
    depths = Counter(stage for stage, _ in blocks)
    config = ferretnet.Config(
        width=len(found["stem.3.weight"]), depths=tuple(depths[stage] for stage in sorted(depths))
    )
    return _filled(source.path, ferretnet.build(config), found, unknown)


def _merged(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Add LoRA's updates to the layers they belong to; also return the names of updates that lack their other half."""
    merged = {
        name.replace(".original_layer.", "."): tensor.float()
        for name, tensor in state.items()
        if ".lora." not in name
    }
    left = []
    for name in (name for name in state if ".lora." in name):
        stem, _, part = name.partition(".lora.")
        other = state.get(f"{stem}.lora.lora_B")
        if other is None or f"{stem}.weight" not in merged:
            left.append(name)
        elif part == "lora_A":
            down = state[name].float()
            merged[f"{stem}.weight"] = merged[f"{stem}.weight"] + other.float() @ down / len(down)
    return merged, left


CONVERTERS: Mapping[str, tuple[str, Callable[[_Source], Detector]]] = {
    "univfd": ("linear_probe", _univfd),
    "effort": ("effort", _effort),
    "gapl": ("gapl", _gapl),
    "npr": ("npr", _npr),
    "safe": ("npr", _safe),
    "c2p_clip": ("linear_probe", _c2p_clip),
    "drct": ("linear_probe", _drct),
    "dda": ("linear_probe", _dda),
    "rine": ("rine", _rine),
    "ferretnet": ("ferretnet", _ferretnet),
}
"""By published detector: our method, and what makes one of a published file."""


def _opened(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise MissingDataError(f"No checkpoint at {path}.")
    if _is_ours(path):
        raise IncompatibleCheckpointError(
            f"{path} is a checkpoint of gammascope already: scan and evaluate take it as --weights."
        )
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about programs, which are refused below
        try:
            # Options of a training script, which many files hold, too: names and values, and nothing that runs.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # a single wrong byte leads torch to raise almost any type
            speaks = isinstance(error, pickle.UnpicklingError | RuntimeError | EOFError)
            reason = said_by(error) if speaks else "it is damaged, or torch.save did not write it"
            raise IncompatibleCheckpointError(
                f"{path} cannot be read as plain tensors, and nothing else is read: {reason}."
            ) from error
    if not isinstance(content, Mapping):
        raise IncompatibleCheckpointError(f"{path} holds a {type(content).__name__}, not a table.")
    return content


def _is_ours(path: Path) -> bool:
    try:
        checkpoints.read_facts(path)
    except IncompatibleCheckpointError:
        return False
    return True


def _filled(path: Path, detector: Detector, found: State, unknown: list[str]) -> Detector:
    """Load tensors, all of them and nothing else."""
    wanted = detector.state_dict()
    missing, more = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or more or unknown:
        raise _misfit(path, missing, more | set(unknown))
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise IncompatibleCheckpointError(
                f"{path}: {name} is {tuple(found[name].shape)}, expected {tuple(tensor.shape)}."
            )
    detector.load_state_dict(found)
    return detector.eval()


def _misfit(path: Path, missing: set[str], more: set[str]) -> IncompatibleCheckpointError:
    parts = []
    for verb, names in (("lacks", missing), ("has no place for", more)):
        if names:
            # As they stand in the file: a damaged one has any character in them.
            shown = ", ".join(name.encode("unicode_escape").decode() for name in sorted(names)[:3])
            parts.append(
                f"{verb} {len(names)} tensors ({shown}{', ...' if len(names) > 3 else ''})"
            )
    return IncompatibleCheckpointError(
        f"{path} does not fit: the file or our network {'; '.join(parts)}."
    )
