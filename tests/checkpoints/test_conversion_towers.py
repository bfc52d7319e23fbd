"""Which tower a converted checkpoint sees with: what no tensor says of it is read where it is known, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.checkpoints.test_conversion import (
    PIXELS,
    SIZES,
    State,
    converted,
    gapl_state,
    logit_of,
    published_gapl,
    published_rine,
    rine_state,
)
from tests.checkpoints.test_conversion_layouts import dda_state, dinov2
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from gammascope import checkpoints
from gammascope.checkpoints.conversion import convert
from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.networks import towers
from gammascope.networks.backbones import TransformerBackbone

TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 50}
B16 = {"hidden_size": 768, "num_attention_heads": 12, "patch_size": 16, "image_size": 224}
WIDE_HEADS = {"hidden_size": 320, "num_attention_heads": 4}
"""Heads of 80 channels, as LAION's CLIP ViT-H/14 has them."""

H14 = {"hidden_size": 1280, "num_attention_heads": 16, "num_hidden_layers": 1}

UNLIKE_OPENAIS = pytest.mark.parametrize(
    "more",
    [{"num_attention_heads": 2}, {"hidden_act": "gelu"}, {"layer_norm_eps": 0.01}, WIDE_HEADS],
    ids=lambda more: next(iter(more)),
)


def clip_model(**more: Any) -> CLIPModel:
    torch.manual_seed(41)
    config = CLIPConfig(text_config=TEXT, vision_config=SIZES | more, projection_dim=48)
    return CLIPModel(config).eval()


def clip_folder(folder: Path, **more: Any) -> str:
    clip_model(**more).save_pretrained(folder)
    return str(folder)


@UNLIKE_OPENAIS
def test_rine_reads_a_clip_as_its_folder_describes_it(tmp_path, more):
    folder = clip_folder(tmp_path / "clip", **more)
    state = rine_state(channels=more.get("hidden_size", 64))
    found = converted(tmp_path, state, "rine", clip=folder)
    expected = published_rine(state, TransformerBackbone.load(folder).eval())
    torch.testing.assert_close(logit_of(found), expected, atol=1e-5, rtol=1e-5)
    assert "openai" not in found.detector.config.backbone
    assert folder not in str(found.facts)


@UNLIKE_OPENAIS
@pytest.mark.parametrize("whole", [False, True])
def test_gapl_reads_a_clip_as_its_folder_describes_it(tmp_path, more, whole):
    """Also where the file has the weights: how they are used stands in the folder alone."""
    folder = clip_folder(tmp_path / "clip", **more)
    channels = more.get("hidden_size", 64)
    state, prototypes = gapl_state(whole=False, channels=channels), torch.randn(8, 16)
    content = state
    if whole:
        content = state | tower_of_gapl(TransformerBackbone.load(folder))
    found = converted(tmp_path, {"model": content, "prototype": prototypes}, "gapl", clip=folder)
    expected = published_gapl(state, prototypes, TransformerBackbone.load(folder).eval())
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-5)


def tower_of_gapl(backbone: TransformerBackbone) -> State:
    state = {}
    for name, tensor in backbone.tower.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        inside = ".base_layer" if stem.endswith(("q_proj", "k_proj", "v_proj")) else ""
        state[f"feature_extractor.{stem}{inside}.{leaf}"] = tensor
    return state


def test_a_whole_clip_of_unknown_heads_is_refused_until_it_is_named(tmp_path):
    model = clip_model(**H14)
    kept = ("vision_model.", "visual_projection.")
    state = {f"model.{n}": t for n, t in model.state_dict().items() if n.startswith(kept)}
    state |= {"model.fc.weight": torch.randn(1, 48), "model.fc.bias": torch.randn(1)}
    with pytest.raises(
        IncompatibleCheckpointError, match=r"1280 channels wide.*name it with --clip"
    ):
        converted(tmp_path, state, "c2p_clip")
    folder = clip_folder(tmp_path / "clip", **H14)
    found = converted(tmp_path, state, "c2p_clip", clip=folder)
    with torch.no_grad():
        unit = functional.normalize(
            model.visual_projection(model.vision_model(PIXELS).pooler_output), dim=-1
        )
        expected = functional.linear(unit, state["model.fc.weight"], state["model.fc.bias"])[:, 0]
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-4)
    other = clip_folder(tmp_path / "other", num_hidden_layers=1)
    with pytest.raises(IncompatibleCheckpointError, match=r"\(1280,\), expected \(64,\)"):
        converted(tmp_path, state, "c2p_clip", clip=other)


@pytest.mark.parametrize(
    ("activation", "name"),
    [("quick_gelu", "openai/clip-vit-base-patch16"), ("gelu", "clip_vision_model")],
)
def test_a_clip_from_a_folder_is_called_what_it_is(tmp_path, activation, name):
    folder = clip_folder(tmp_path / "clip", **B16, num_hidden_layers=1, hidden_act=activation)
    state = rine_state(blocks=1, channels=768)
    assert converted(tmp_path, state, "rine", clip=folder).detector.config.backbone == name


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        (
            {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518},
            "facebook/dinov2-small",
        ),
        ({}, "dinov2"),
    ],
)
def test_dda_is_called_after_its_dinov2(tmp_path, sizes, name):
    state = dda_state(dinov2(num_hidden_layers=1, **sizes))
    found = converted(tmp_path, {"model": state}, "dda")
    assert found.detector.config.backbone == name


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a small tower that the package seems to have come with."""
    torch.manual_seed(43)
    backbone = TransformerBackbone.from_config({"model_type": "clip_vision_model"} | SIZES)
    state = backbone.tower.state_dict()
    matrices = [n for n, t in state.items() if t.ndim == 2 and ".layers." in n]
    path = tmp_path / "package" / "small.safetensors"
    towers.write(path, towers.quantised(state, matrices), backbone.config, "made for this test")
    monkeypatch.setattr(towers, "embedded", lambda: {"small": path})
    return "small"


@pytest.mark.parametrize("method", ["rine", "gapl"])
def test_a_tower_of_the_package_is_named_and_not_copied(tmp_path, small, method):
    state, prototypes = gapl_state(whole=False), torch.randn(8, 16)
    backbone = TransformerBackbone.load(small).eval()
    if method == "rine":
        state = rine_state()
        found = converted(tmp_path, state, "rine", clip=small)
        expected = published_rine(state, backbone)
    else:
        found = converted(tmp_path, {"model": state, "prototype": prototypes}, "gapl", clip=small)
        expected = published_gapl(state, prototypes, backbone)
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-5)
    with safe_open(tmp_path / "ours.safetensors", "pt") as file:
        copied = [name for name in file.keys() if "lora" not in name and "tower" in name]  # noqa: SIM118
    assert copied == []
    assert found.detector.config.backbone == small
    assert "rounded to int8" in found.facts.trained_on
    assert "int8" not in converted(tmp_path, {"model": dda_state(dinov2())}, "dda").facts.trained_on


def test_a_tower_of_the_package_has_no_projection_for_univfd(tmp_path, small):
    """It says so itself, and does not search the hub for a repository of that name."""
    head = {"weight": torch.randn(1, 48), "bias": torch.randn(1)}
    with pytest.raises(MissingDataError, match=r"'small'.* is a tower alone.*visual_projection"):
        converted(tmp_path, head, "univfd", clip=small)


def test_what_is_no_clip_is_not_taken_for_one(tmp_path):
    dinov2().save_pretrained(tmp_path / "dino")
    for method, content in (("rine", rine_state()), ("gapl", {"model": gapl_state(whole=True)})):
        with pytest.raises(
            IncompatibleCheckpointError, match="is no CLIP, but of model_type 'dino"
        ):
            converted(tmp_path, content, method, clip=str(tmp_path / "dino"))


def test_a_converted_file_needs_the_folder_no_more(tmp_path):
    folder = Path(clip_folder(tmp_path / "clip", **WIDE_HEADS))
    torch.save(rine_state(channels=320), tmp_path / "rine.pth")
    convert(tmp_path / "rine.pth", "rine", tmp_path / "ours.safetensors", clip=str(folder))
    folder.rename(tmp_path / "elsewhere")
    config = checkpoints.load(tmp_path / "ours.safetensors").detector.config
    assert json.loads(config.architecture)["num_attention_heads"] == 4


def test_a_broken_clip_folder_is_not_blamed_on_the_file(tmp_path):
    folder = Path(clip_folder(tmp_path / "clip"))
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(IncompatibleCheckpointError, match=r"clip' is no CLIP: "):
        converted(tmp_path, rine_state(), "rine", clip=str(folder))
