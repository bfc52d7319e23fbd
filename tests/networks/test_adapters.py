"""LoRA on real transformer towers: which layers it touches, and what it computes."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest
import torch
from torch import nn

from gammascope.errors import MissingExtraError, RecipeError
from gammascope.networks.adapters import LORA_TARGETS, add_lora, last_blocks
from gammascope.networks.backbones import FAMILIES, Adaptation, TransformerBackbone

_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
}
_SIZES |= {"image_size": 16}


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.ModuleDict({"value": nn.Linear(6, 4)}) for _ in range(2)])
        self.value = nn.Linear(6, 4)


def test_an_adapter_adds_the_scaled_product_of_its_factors():
    torch.manual_seed(0)
    tower = Tower()
    layer: Any = tower.get_submodule("blocks.1.value")
    add_lora(tower, blocks=r"blocks\.\d+", targets=("value",), rank=2, alpha=6)
    adapted: Any = tower.get_submodule("blocks.1.value")
    first, second = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    assert first.shape == (2, 6)
    assert second.shape == (4, 2)
    with torch.no_grad():
        second.normal_()
    inputs = torch.randn(5, 6)
    expected = layer.weight @ inputs.T + 6 / 2 * (second @ first @ inputs.T)
    torch.testing.assert_close(adapted(inputs), expected.T + layer.bias)


def test_only_the_last_blocks_get_adapters_where_that_is_asked():
    tower = Tower()
    blocks = last_blocks(tower, "blocks", 1)
    add_lora(tower, blocks=blocks, targets=("value",), rank=2, alpha=2)
    assert type(tower.get_submodule("blocks.0.value")) is nn.Linear
    trained = {name for name, p in tower.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("blocks.1.value.lora_") for name in trained)


@pytest.mark.parametrize("last", [3, -1])
def test_more_blocks_than_there_are_cannot_be_asked_for(last):
    with pytest.raises(RecipeError, match="the tower has 2 blocks"):
        last_blocks(Tower(), "blocks", last)


def test_layers_outside_the_blocks_are_left_alone():
    tower = Tower()
    add_lora(tower, blocks=r"blocks\.\d+", targets=("value",), rank=2, alpha=2)
    assert type(tower.value) is nn.Linear
    assert not tower.value.weight.requires_grad


@pytest.mark.parametrize(
    ("model_type", "options", "per_block"),
    [
        ("clip", {"intermediate_size": 32}, {"q_proj", "v_proj", "fc1", "fc2"}),
        ("siglip", {"intermediate_size": 32}, {"q_proj", "v_proj", "fc1", "fc2"}),
        ("dinov2", {}, {"q_proj", "v_proj", "fc1", "fc2"}),
        (
            "dinov2",
            {"use_swiglu_ffn": True},
            {"q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"},
        ),
        ("dinov2_with_registers", {}, {"q_proj", "v_proj", "fc1", "fc2"}),
        ("dinov3_vit", {}, {"q_proj", "v_proj", "up_proj", "down_proj"}),
        (
            "dinov3_vit",
            {"use_gated_mlp": True},
            {"q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"},
        ),
    ],
)
def test_query_value_and_mlp_of_every_block_are_adapted(model_type, options, per_block):
    settings = {"model_type": model_type, **_SIZES, **options}
    backbone = TransformerBackbone.from_config(settings, adaptation=Adaptation("lora", 4))
    family = FAMILIES[model_type]
    assert per_block <= set(LORA_TARGETS[family.name])
    adapted = {
        name.removesuffix(".lora_A.default")
        for name, _ in backbone.tower.named_modules()
        if name.endswith(".lora_A.default")
    }
    for number in range(2):
        prefix = f"{family.blocks}.{number}."
        assert {n.rsplit(".", 1)[1] for n in adapted if n.startswith(prefix)} == per_block
    assert all(name.startswith(family.blocks + ".") for name in adapted)
    ranks = {p.shape[0] for n, p in backbone.named_parameters() if ".lora_A." in n}
    assert ranks == {4}


@pytest.mark.parametrize(("package", "train"), [("transformers", "frozen"), ("peft", "lora")])
def test_a_missing_package_names_the_extra(package, train, monkeypatch):
    settings = {"model_type": "clip_vision_model", "intermediate_size": 32, **_SIZES}
    real_import = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real_import(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=rf"needs {package}: .*\.\[backbones\]"):
        TransformerBackbone.from_config(settings, adaptation=Adaptation(train))
