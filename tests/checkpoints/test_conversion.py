"""Published checkpoints: key maps, on synthetic files of the right names and shapes, against the published formulas."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from gammascope import checkpoints
from gammascope.checkpoints.conversion import convert
from gammascope.detectors import linear_probe
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    RecipeError,
    UnknownMethodError,
)
from gammascope.networks.backbones import TransformerBackbone

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 96,
    "patch_size": 14,
    "image_size": 28,
}
LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")
PIXELS = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(3))

State = dict[str, Any]


def clip() -> TransformerBackbone:
    torch.manual_seed(0)
    return TransformerBackbone.from_config({"model_type": "clip_vision_model"} | SIZES).eval()


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> str:
    """CLIP as the hub has it: both halves in one file."""
    folder = tmp_path_factory.mktemp("clip")
    state = {f"vision_model.{n}": t for n, t in clip().tower.state_dict().items()}
    torch.manual_seed(1)
    state["visual_projection.weight"] = torch.randn(48, 64)
    state["logit_scale"] = torch.ones(1)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    settings = {"model_type": "clip", "vision_config": {"model_type": "clip_vision_model"} | SIZES}
    (folder / "config.json").write_text(json.dumps(settings))
    return str(folder)


def effort_state(prefix: str, head: str, classes: int, *, rank: int = 1) -> State:
    """The names of a published Effort file."""
    state: State = {}
    generator = torch.Generator().manual_seed(5)
    for name, tensor in clip().tower.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if stem.rpartition(".")[2] not in LAYERS:
            state[f"{prefix}{name}"] = tensor
        elif leaf == "bias":
            state[f"{prefix}{stem}.bias"] = tensor
        else:
            left, strengths, right = torch.linalg.svd(tensor)
            state[f"{prefix}{stem}.weight_main"] = (
                left[:, :-rank] * strengths[:-rank] @ right[:-rank]
            )
            state[f"{prefix}{stem}.U_residual"] = torch.randn(64, rank, generator=generator)
            state[f"{prefix}{stem}.S_residual"] = torch.randn(rank, generator=generator)
            state[f"{prefix}{stem}.V_residual"] = torch.randn(rank, 64, generator=generator)
    state[f"{prefix}embeddings.position_ids"] = torch.arange(5)[None]
    state[f"{head}.weight"] = torch.randn(classes, 64, generator=generator)
    state[f"{head}.bias"] = torch.randn(classes, generator=generator)
    return state


def published_effort(state: State, prefix: str) -> torch.Tensor:
    """The published formula: rebuild every weight, then run CLIP."""
    weights = {}
    for name, tensor in state.items():
        if not name.startswith(prefix) or name.endswith("position_ids"):
            continue
        stem, _, leaf = name.removeprefix(prefix).rpartition(".")
        if leaf == "weight_main":
            parts = [state[f"{prefix}{stem}.{part}_residual"] for part in "USV"]
            weights[f"{stem}.weight"] = tensor + parts[0] @ torch.diag(parts[1]) @ parts[2]
        elif "_residual" not in leaf:
            weights[f"{stem}.{leaf}"] = tensor
    backbone = clip()
    backbone.tower.load_state_dict(weights)
    with torch.no_grad():
        return backbone(PIXELS).token


def gapl_state(*, whole: bool, channels: int = 64) -> State:
    torch.manual_seed(7)
    state: State = {
        "foren_proj.weight": torch.randn(16, channels) / 8,
        "fc.weight": torch.randn(1, 16),
        "cross_attention.in_proj_weight": torch.randn(48, 16),
        "cross_attention.in_proj_bias": torch.randn(48),
        "cross_attention.out_proj.weight": torch.randn(16, 16),
        "cross_attention.out_proj.bias": torch.randn(16),
    }
    for layer in range(SIZES["num_hidden_layers"]):
        for name in LAYERS[:3]:
            stem = f"feature_extractor.encoder.layers.{layer}.self_attn.{name}"
            state[f"{stem}.lora_A.default.weight"] = torch.randn(4, channels) / 8
            state[f"{stem}.lora_B.default.weight"] = torch.randn(channels, 4) / 8
    if whole:
        for name, tensor in clip().tower.state_dict().items():
            stem, _, leaf = name.rpartition(".")
            inside = ".base_layer" if stem.rpartition(".")[2] in LAYERS[:3] else ""
            state[f"feature_extractor.{stem}{inside}.{leaf}"] = tensor
    return state


def published_gapl(
    state: State, prototypes: torch.Tensor, backbone: TransformerBackbone
) -> torch.Tensor:
    """The published formula, with the updates merged into CLIP's weights at alpha / rank = 32 / 4."""
    weights = backbone.tower.state_dict()
    for name, first in state.items():
        if ".lora_A." in name:
            second = state[name.replace("lora_A", "lora_B")]
            stem = name.removeprefix("feature_extractor.").split(".lora_A")[0]
            weights[f"{stem}.weight"] = weights[f"{stem}.weight"] + 8 * second @ first
    backbone.tower.load_state_dict(weights)
    attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    attention.load_state_dict({name: state[f"cross_attention.{name}"] for name in names})
    with torch.no_grad():
        z = functional.normalize(backbone(PIXELS).token @ state["foren_proj.weight"].T, dim=1)
        known = prototypes.expand(2, -1, -1)
        answer = attention(z[:, None], known, known)[0][:, 0]
        return (answer @ state["fc.weight"].T)[:, 0]


def converted(tmp_path: Path, content: Any, method: str, **options: str) -> checkpoints.Checkpoint:
    torch.save(content, tmp_path / "published.pth")
    out = tmp_path / "ours.safetensors"
    digest = convert(tmp_path / "published.pth", method, out, **options)
    return checkpoints.load(out, sha256=digest)


def logit_of(checkpoint: checkpoints.Checkpoint) -> torch.Tensor:
    with torch.no_grad():
        return checkpoint.detector(PIXELS).logit


@pytest.mark.parametrize("parallel", ["", "module."])
@pytest.mark.parametrize("rank", [1, 3])
def test_effort_with_two_classes(tmp_path, parallel, rank):
    state = effort_state("backbone.", "head", 2, rank=rank)
    found = converted(tmp_path, {parallel + n: t for n, t in state.items()}, "effort")
    two = published_effort(state, "backbone.") @ state["head.weight"].T + state["head.bias"]
    expected = functional.softmax(two, dim=1)[:, 1]
    torch.testing.assert_close(logit_of(found).sigmoid(), expected, atol=1e-4, rtol=1e-4)
    assert found.facts.view.fit == "resize"
    assert "sha256" in found.facts.trained_on


def test_our_own_checkpoints_and_unknown_names_are_called_so(tmp_path):
    detector = linear_probe.build(linear_probe.METHOD.tiny)
    facts = checkpoints.Facts("linear_probe", {}, detector.view)
    checkpoints.save(tmp_path / "ours.safetensors", detector, facts)
    with pytest.raises(IncompatibleCheckpointError, match="is a checkpoint of gammascope already"):
        convert(tmp_path / "ours.safetensors", "npr", tmp_path / "out.safetensors")
    with pytest.raises(UnknownMethodError, match="No key map for published files of 'nrp'"):
        convert(tmp_path / "ours.safetensors", "nrp", tmp_path / "out.safetensors")


def test_effort_with_one_class_beside_a_text_tower(tmp_path):
    prefix = "model.vision_model."
    state = effort_state(prefix, "fc", 1)
    state |= {"model.logit_scale": torch.ones(()), "model.text_projection.weight": torch.ones(2, 2)}
    state |= {
        "model.visual_projection.weight": torch.ones(2, 2),
        "model.text_model.x.weight": torch.ones(1),
    }
    found = converted(tmp_path, {"model": state, "total_steps": 18000}, "effort")
    expected = (published_effort(state, prefix) @ state["fc.weight"].T + state["fc.bias"])[:, 0]
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-4)
    assert found.facts.view.fit == "center_crop"


def test_parts_for_penalties_are_left_out(tmp_path):
    state = effort_state("backbone.", "head", 2)
    stem = "backbone.encoder.layers.0.self_attn.q_proj"
    more = {
        f"{stem}.U_r": torch.ones(64, 63),
        f"{stem}.S_r": torch.ones(63),
        f"{stem}.V_r": torch.ones(63, 64),
    }
    with_parts = converted(tmp_path, state | more, "effort")
    torch.testing.assert_close(logit_of(with_parts), logit_of(converted(tmp_path, state, "effort")))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("key", ["prototype", "propVec"])
def test_gapl(tmp_path, clip_folder, whole, key):
    state, prototypes = gapl_state(whole=whole), torch.randn(8, 16)
    found = converted(tmp_path, {"model": state, key: prototypes}, "gapl", clip=clip_folder)
    expected = published_gapl(gapl_state(whole=False), prototypes, clip())
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.detector.mix.prototypes, prototypes)
    assert found.facts.view.mean == (0.485, 0.456, 0.406)


def test_univfd_is_folded_into_a_probe_of_the_unprojected_token(tmp_path, clip_folder):
    from safetensors import safe_open

    head = {"weight": torch.randn(1, 48), "bias": torch.randn(1)}
    found = converted(tmp_path, head, "linear_probe", clip=clip_folder)
    with safe_open(Path(clip_folder) / "model.safetensors", "pt") as file:
        projection = file.get_tensor("visual_projection.weight")
    with torch.no_grad():
        embedding = clip()(PIXELS).token @ projection.T
    expected = (embedding @ head["weight"].T + head["bias"])[:, 0]
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-4)
    assert clip_folder not in str(found.facts)


def test_c2p_clip_reads_the_direction_of_clips_embedding(tmp_path, clip_folder):
    """The names of a real CLIP of transformers, without its text half, and a layer on its shared space."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(17)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 50}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=SIZES, projection_dim=48)).eval()
    kept = ("vision_model.", "visual_projection.")
    state = {f"model.{n}": t for n, t in model.state_dict().items() if n.startswith(kept)}
    head = {"model.fc.weight": torch.randn(1, 48), "model.fc.bias": torch.randn(1)}
    found = converted(tmp_path, state | head, "c2p_clip")
    with torch.no_grad():
        pooled = model.vision_model(PIXELS).pooler_output
        unit = functional.normalize(model.visual_projection(pooled), dim=-1)
        expected = functional.linear(unit, head["model.fc.weight"], head["model.fc.bias"])[:, 0]
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-4)
    assert found.facts.method == "linear_probe"
    less = {n: t for n, t in (state | head).items() if "visual_projection" not in n}
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks 1 tensors \(to_shared.weight\)"):
        converted(tmp_path, less, "c2p_clip")
    with pytest.raises(RecipeError, match="only a converted file holds that projection"):
        linear_probe.build(linear_probe.Config(backbone=clip_folder, shared=48))


def test_towers_of_other_sizes_are_taken(tmp_path, clip_folder):
    """Twelve heads of 64 and patches of 16 pixels, as ViT-B/16 has them; what a probe of it is called follows."""
    sizes = SIZES | {"hidden_size": 768, "num_attention_heads": 12, "patch_size": 16}
    sizes |= {"image_size": 224, "num_hidden_layers": 1}
    torch.manual_seed(23)
    base = TransformerBackbone.from_config({"model_type": "clip_vision_model"} | sizes).eval()
    state = {f"visual.{n}": t for n, t in base.tower.state_dict().items()}
    folder = tmp_path / "b16"
    folder.mkdir()
    tensors = {f"vision_model.{n.removeprefix('visual.')}": t for n, t in state.items()}
    save_file(
        tensors | {"visual_projection.weight": torch.randn(48, 768)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    settings = {"model_type": "clip", "vision_config": {"model_type": "clip_vision_model"} | sizes}
    (folder / "config.json").write_text(json.dumps(settings))
    head = {"weight": torch.randn(1, 48), "bias": torch.randn(1)}
    found = converted(tmp_path, head, "univfd", clip=str(folder))
    assert found.detector.config.backbone == "openai/clip-vit-base-patch16"
    assert json.loads(found.detector.config.architecture)["num_attention_heads"] == 12
    published = {f"backbone.{n}": t for n, t in base.tower.state_dict().items()}
    published |= {"head.weight": torch.randn(2, 768), "head.bias": torch.randn(2)}
    whole = {n: t for n, t in published.items() if ".self_attn." not in n}
    for name, tensor in published.items():
        stem, _, leaf = name.rpartition(".")
        if ".self_attn." in name and leaf == "weight":
            whole |= {f"{stem}.weight_main": tensor, f"{stem}.S_residual": torch.zeros(1)}
            whole |= {
                f"{stem}.U_residual": torch.ones(768, 1),
                f"{stem}.V_residual": torch.ones(1, 768),
            }
        elif ".self_attn." in name:
            whole[name] = tensor
    other = converted(tmp_path, whole, "effort")
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        two = functional.linear(
            base(pixels).token, published["head.weight"], published["head.bias"]
        )
        ours = other.detector(pixels).logit
    torch.testing.assert_close(ours, two[:, 1] - two[:, 0], atol=1e-3, rtol=1e-4)


def rine_state(width: int = 24, depth: int = 2, blocks: int = 2, *, channels: int = 64) -> State:
    """What the published code keeps of its network: all but CLIP."""
    generator = torch.Generator().manual_seed(29)

    def layer(name: str, inputs: int, outputs: int) -> State:
        return {
            f"{name}.weight": torch.randn(outputs, inputs, generator=generator) / inputs**0.5,
            f"{name}.bias": torch.randn(outputs, generator=generator),
        }

    state: State = {"alpha": torch.randn(1, blocks, width, generator=generator)}
    for number in range(depth):
        state |= layer(f"proj1.{1 + 3 * number}", width if number else channels, width)
        state |= layer(f"proj2.{1 + 3 * number}", width, width)
    return (
        state
        | layer("head.0", width, width)
        | layer("head.3", width, width)
        | layer("head.6", width, 1)
    )


def published_rine(state: State, backbone: TransformerBackbone) -> torch.Tensor:
    """The published formula, on what leaves the second norm of each block of CLIP."""

    def run(x: torch.Tensor, name: str, *, last: bool = False) -> torch.Tensor:
        y = functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])
        return y if last else y.relu()

    seen = []
    for block in backbone.tower.encoder.layers:
        block.layer_norm2.register_forward_hook(lambda _, __, out: seen.append(out[:, 0]))
    with torch.no_grad():
        backbone(PIXELS)
        z = torch.stack(seen, 1)
        depth = sum(name.startswith("proj1.") and name.endswith("weight") for name in state)
        for number in range(depth):
            z = run(z, f"proj1.{1 + 3 * number}")
        z = (functional.softmax(state["alpha"], 1) * z).sum(1)
        for number in range(depth):
            z = run(z, f"proj2.{1 + 3 * number}")
        return run(run(run(z, "head.0"), "head.3"), "head.6", last=True)[:, 0]


@pytest.mark.parametrize("depth", [1, 2])
def test_rine_reads_every_block_of_clip(tmp_path, clip_folder, depth):
    state = rine_state(depth=depth)
    found = converted(tmp_path, state, "rine", clip=clip_folder)
    torch.testing.assert_close(logit_of(found), published_rine(state, clip()), atol=1e-4, rtol=1e-4)
    assert (found.facts.view.fit, found.facts.view.size) == ("center_crop", 224)
    assert (found.detector.config.width, found.detector.config.depth) == (24, depth)
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks 1 tensors \(alpha\)"):
        converted(
            tmp_path, {n: t for n, t in state.items() if n != "alpha"}, "rine", clip=clip_folder
        )
    with pytest.raises(IncompatibleCheckpointError, match=r"importance is \(3, 24\), expected"):
        converted(tmp_path, rine_state(blocks=3, depth=depth), "rine", clip=clip_folder)
    with pytest.raises(IncompatibleCheckpointError, match=r"no place for 1 tensors \(extra\)"):
        converted(tmp_path, state | {"extra": torch.ones(1)}, "rine", clip=clip_folder)


def ferretnet_state(width: int = 8, depths: tuple[int, ...] = (2, 1)) -> State:
    """The names of a published FerretNet, on a narrow one."""
    generator = torch.Generator().manual_seed(31)

    def normal(*shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, generator=generator)

    def norm(name: str, channels: int) -> State:
        return {
            f"{name}.weight": 1 + normal(channels),
            f"{name}.bias": normal(channels),
            f"{name}.running_mean": normal(channels),
            f"{name}.running_var": 1 + normal(channels).abs(),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    state: State = {"cbr1.0.weight": normal(width // 2, 3, 3, 3)} | norm("cbr1.1", width // 2)
    state |= {"cbr2.0.weight": normal(width, width // 2, 3, 3)} | norm("cbr2.1", width)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stem = f"feature.{stage}.{block}"
            entering = 2 * width if block else width
            state |= {
                f"{stem}.layers.0.conv1.weight": normal(2 * width, 1, 3, 3),
                f"{stem}.layers.0.conv2.weight": normal(2 * width, 1, 3, 3),
                f"{stem}.layers.0.conv3.weight": normal(2 * width, 2 * width, 1, 1),
                f"{stem}.layers.3.depth_wise.weight": normal(2 * width, 1, 3, 3),
                f"{stem}.layers.3.point_wise.weight": normal(2 * width, 2 * width, 1, 1),
            }
            state |= norm(f"{stem}.layers.1", 2 * width) | norm(f"{stem}.layers.4", 2 * width)
            if not block:
                state[f"{stem}.shortcut.0.weight"] = normal(2 * width, entering, 1, 1)
                state[f"{stem}.shortcut.0.bias"] = normal(2 * width)
                state |= norm(f"{stem}.shortcut.1", 2 * width)
        width *= 2
    state[f"feature.{len(depths)}.weight"] = normal(width, width, 1, 1)
    return state | {"logit.1.weight": normal(1, width), "logit.1.bias": normal(1)}


def published_ferretnet(state: State, x: torch.Tensor) -> torch.Tensor:
    """The published formula, without a module of ours."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        numbers = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{n}"] for n in numbers))

    def conv(x: torch.Tensor, name: str, **options: int) -> torch.Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    height, width = x.shape[-2:]
    wide = functional.pad(x, (1, 1, 1, 1))
    around = [
        torch.zeros_like(x)
        if (row, column) == (1, 1)
        else wide[..., row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    x = x - torch.stack(around).sort(0).values[4]
    x = norm(conv(x, "cbr1.0", padding=1), "cbr1.1").relu()
    x = norm(conv(x, "cbr2.0", padding=1, stride=2), "cbr2.1").relu()
    stems = {".".join(name.split(".")[:3]) for name in state if ".layers." in name}
    for stem in sorted(stems):
        first = f"{stem}.shortcut.0.weight" in state
        stride, groups = (2 if first else 1), x.shape[1]
        y = conv(x, f"{stem}.layers.0.conv1", padding=1, stride=stride, groups=groups)
        y = y + conv(
            x, f"{stem}.layers.0.conv2", padding=2, dilation=2, stride=stride, groups=groups
        )
        y = norm(conv(y, f"{stem}.layers.0.conv3"), f"{stem}.layers.1").relu()
        y = conv(y, f"{stem}.layers.3.depth_wise", padding=1, groups=y.shape[1])
        y = norm(conv(y, f"{stem}.layers.3.point_wise"), f"{stem}.layers.4")
        if first:
            x = norm(conv(x, f"{stem}.shortcut.0", stride=2), f"{stem}.shortcut.1")
        x = (x + y).relu()
    last = next(name for name in state if re.fullmatch(r"feature\.\d+\.weight", name))
    x = conv(x, last.removesuffix(".weight")).mean((2, 3))
    return functional.linear(x, state["logit.1.weight"], state["logit.1.bias"])[:, 0]


@pytest.mark.parametrize("parallel", ["", "module."])
def test_ferretnet(tmp_path, parallel):
    state = ferretnet_state()
    found = converted(tmp_path, {"model": {parallel + n: t for n, t in state.items()}}, "ferretnet")
    pixels = torch.randn(2, 3, 33, 40, generator=torch.Generator().manual_seed(37))
    with torch.no_grad():
        ours = found.detector(pixels).logit
    torch.testing.assert_close(ours, published_ferretnet(state, pixels), atol=1e-4, rtol=1e-4)
    assert (found.facts.view.fit, found.facts.view.size) == ("center_crop", 256)
    assert found.facts.view.mean[0] == 0.48145466, "CLIP's"
    assert found.detector.config.depths == (2, 1)
    for absent, words in (("cbr2.0.weight", "cbr2.0.weight"), ("logit.1.bias", "head.1.bias")):
        short = {n: t for n, t in state.items() if n != absent}
        with pytest.raises(IncompatibleCheckpointError, match=rf"lacks 1 tensors \({words}\)"):
            converted(tmp_path, short, "ferretnet")


def test_what_is_missing_and_what_is_left_over_is_named(tmp_path, clip_folder):
    state = effort_state("backbone.", "head", 2)
    short = {n: t for n, t in state.items() if n != "backbone.post_layernorm.bias"}
    with pytest.raises(
        IncompatibleCheckpointError, match=r"lacks 1 tensors \(backbone.tower.post_layernorm.bias\)"
    ):
        converted(tmp_path, short, "effort")
    with pytest.raises(
        IncompatibleCheckpointError, match=r"no place for 1 tensors \(backbone.extra\)"
    ):
        converted(tmp_path, state | {"backbone.extra": torch.ones(1)}, "effort")
    wrong = state | {"backbone.post_layernorm.bias": torch.ones(3)}
    with pytest.raises(
        IncompatibleCheckpointError, match=r"post_layernorm.bias is \(3,\), expected \(64,\)"
    ):
        converted(tmp_path, wrong, "effort")
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks .* \(mix.prototypes\)"):
        converted(
            tmp_path,
            {"model": gapl_state(whole=True)} | {"prototyp": torch.ones(1)},
            "gapl",
            clip=clip_folder,
        )
    with pytest.raises(IncompatibleCheckpointError, match="no CLIP vision tower"):
        converted(tmp_path, {"weight": torch.ones(1)}, "effort")
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks 1 tensors \(bias\)"):
        converted(tmp_path, {"weight": torch.ones(1, 48)}, "linear_probe", clip=clip_folder)
    head = {"weight": torch.ones(1, 7), "bias": torch.ones(1)}
    with pytest.raises(IncompatibleCheckpointError, match="not trained on the embedding"):
        converted(tmp_path, head, "linear_probe", clip=clip_folder)
    assert not (tmp_path / "ours.safetensors").exists()


class Unwelcome:
    """Would run on unpickling."""

    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    with pytest.raises(IncompatibleCheckpointError, match="nothing else is read"):
        converted(tmp_path, {"weight": Unwelcome()}, "linear_probe")
    assert "executed" not in capsys.readouterr().out


class Layer(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_no_error_advises_to_run_what_a_file_holds(tmp_path):
    """Libraries name the switch that would: for pickled objects, for programs, and for files of neither kind."""
    for number, write in enumerate(
        (
            lambda path: torch.save({"weight": Unwelcome()}, path),
            lambda path: torch.save(Layer(), path),
            lambda path: torch.jit.save(torch.jit.script(Layer()), path),
            lambda path: path.write_bytes(pickle.dumps({"weight": np.ones(3)})),
            lambda path: path.write_bytes(b"\x80\x02ctorch\nload\n."),
            lambda path: path.write_bytes(b"PK\x03\x04 not whole"),
        )
    ):
        path = tmp_path / f"{number}.pth"
        write(path)
        with pytest.raises(IncompatibleCheckpointError, match="nothing else is read") as caught:
            convert(path, "effort", tmp_path / "ours.safetensors")
        said = str(caught.value)
        assert not re.search(
            r"weights_only|allowlist|add_safe|trust|pickle_module|unsafe", said, re.I
        )
        assert len(said.splitlines()) == 1


def test_what_is_no_checkpoint_is_refused(tmp_path):
    out = tmp_path / "ours.safetensors"
    with pytest.raises(MissingDataError, match="No checkpoint at"):
        convert(tmp_path / "none.pth", "effort", out)
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(IncompatibleCheckpointError, match="cannot be read"):
        convert(tmp_path / "text.pth", "effort", out)
    with pytest.raises(IncompatibleCheckpointError, match="a list, not a table"):
        converted(tmp_path, [1, 2], "effort")
    with pytest.raises(IncompatibleCheckpointError, match="is no tensor"):
        converted(tmp_path, {"model": {"a": 1}}, "effort")
    with pytest.raises(IncompatibleCheckpointError, match="holds no tensors"):
        converted(tmp_path, {"model": 3}, "effort")
    with pytest.raises(UnknownMethodError, match="Did you mean 'gapl'"):
        convert(tmp_path / "text.pth", "gapel", out)


def test_without_clip_its_absence_is_told(tmp_path):
    with pytest.raises(MissingDataError, match="visual_projection"):
        converted(
            tmp_path,
            {"weight": torch.ones(1, 4), "bias": torch.ones(1)},
            "linear_probe",
            clip=str(tmp_path),
        )
    content = {"model": gapl_state(whole=False), "prototype": torch.randn(8, 16)}
    with pytest.raises(MissingDataError, match="No backbone"):
        converted(tmp_path, content, "gapl", clip=str(tmp_path))
