"""Backbones around real transformer towers, tiny and with random weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from skimage import data
from torch import Tensor

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.networks.backbones import FAMILIES, Adaptation, TransformerBackbone, for_config

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 14,
}
_PLAIN = _SIZES | {"image_size": 56, "intermediate_size": 64}
_DINOV2 = _SIZES | {"image_size": 56, "mlp_ratio": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {"model_type": "clip_vision_model"} | _PLAIN,
    "siglip": {"model_type": "siglip_vision_model"} | _PLAIN,
    "dinov2": {"model_type": "dinov2"} | _DINOV2,
    "dinov2-giant": {"model_type": "dinov2", "use_swiglu_ffn": True} | _DINOV2,
    "dinov2-registers": {"model_type": "dinov2_with_registers", "num_register_tokens": 4} | _DINOV2,
    "dinov3": {"model_type": "dinov3_vit", "num_register_tokens": 4} | _PLAIN,
    "dinov3-huge": {"model_type": "dinov3_vit", "num_register_tokens": 4, "use_gated_mlp": True}
    | _PLAIN,
}

every_family = pytest.mark.parametrize("family", CONFIGS)


def build(family: str, **options: Any) -> TransformerBackbone:
    torch.manual_seed(0)
    backbone = TransformerBackbone.from_config(CONFIGS[family], **options)
    return backbone.eval()


def photo(height: int = 56, width: int = 56) -> Tensor:
    pixels = torch.from_numpy(data.astronaut()[:height, 150 : 150 + width].copy())
    return pixels.permute(2, 0, 1).float().div(127.5).sub(1).unsqueeze(0)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@every_family
@pytest.mark.parametrize("size", [(56, 56), (28, 84), (14, 14)])
def test_taps_are_stacked_on_the_channels_of_the_grid(family, size):
    backbone = build(family, taps=[1, 3])
    features = backbone(photo(*size))
    assert features.token.shape == (1, backbone.token_channels) == (1, 32)
    assert features.grid.shape == (1, backbone.grid_channels, size[0] // 14, size[1] // 14)
    assert backbone.grid_channels == 64
    for channels, tap in enumerate([1, 3]):
        alone = build(family, taps=[tap])(photo(*size)).grid
        assert torch.equal(features.grid[:, 32 * channels : 32 * channels + 32], alone)


@every_family
def test_each_tap_is_the_raw_output_of_its_block(family):
    backbone = build(family, taps=[1, 2, 3])
    blocks = backbone.tower.get_submodule(FAMILIES[CONFIGS[family]["model_type"]].blocks)
    outputs: list[Tensor] = []
    for block in blocks:
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    grid = backbone(photo()).grid
    assert len(outputs) == 3
    for tap, output in enumerate(outputs):
        patches = output[0, -16:]  # classes and registers come first in every family
        for row, column in [(0, 0), (0, 3), (1, 2), (3, 3)]:
            cell = grid[0, 32 * tap : 32 * tap + 32, row, column]
            assert torch.equal(cell, patches[4 * row + column])


@every_family
def test_the_last_block_is_tapped_by_default(family):
    assert torch.equal(build(family)(photo()).grid, build(family, taps=[3])(photo()).grid)


@every_family
@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 3), (2, 1)])
def test_grid_lies_like_the_view(family, row, column):
    backbone = build(family, taps=[1])
    plain = photo()
    changed = plain.clone()
    changed[:, :, 14 * row : 14 * row + 14, 14 * column : 14 * column + 14] += 3
    moved = (backbone(changed).grid - backbone(plain).grid).square().sum(1)[0]
    assert moved.argmax().item() == 4 * row + column


@every_family
def test_token_is_the_class_token_after_the_final_norm(family):
    backbone = build(family)
    with torch.no_grad():
        seen = backbone.tower(photo())
        if family == "siglip":  # no class token: attention pooling over the normalised patches
            expected = backbone.tower.head(seen.last_hidden_state)
        elif family == "clip":  # this tower returns its last state before the norm
            expected = backbone.tower.post_layernorm(seen.last_hidden_state[:, 0])
        else:
            expected = seen.last_hidden_state[:, 0]
    torch.testing.assert_close(backbone(photo()).token, expected)


@every_family
def test_neighbours_in_a_batch_do_not_matter(family):
    backbone = build(family, taps=[1, 3])
    first, second = photo(), photo().flip(3)
    together = backbone(torch.cat([first, second]))
    for index, pixels in enumerate([first, second]):
        alone = backbone(pixels)
        torch.testing.assert_close(together.token[index], alone.token[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.grid[index], alone.grid[0], rtol=1e-4, atol=1e-5)


@every_family
def test_frozen_tower_gets_no_gradient_and_never_leaves_evaluation(family):
    backbone = build(family).train()
    assert backbone.training
    assert not any(module.training for module in backbone.tower.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(photo()).token.requires_grad


def test_gradients_still_reach_the_pixels_of_a_frozen_tower():
    pixels = photo().requires_grad_()
    build("clip")(pixels).token[0, 0].backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


@every_family
def test_full_training_gives_every_trainable_parameter_a_gradient(family):
    backbone = build(family, adaptation=Adaptation("full")).train()
    assert all(module.training for module in backbone.tower.modules())
    features = backbone(photo())
    (features.token.square().sum() + features.grid.square().sum()).backward()
    trainable = {n: p for n, p in backbone.named_parameters() if p.requires_grad}
    assert len(trainable) > 30
    assert [name for name, p in trainable.items() if p.grad is None] == []


@every_family
def test_lora_starts_as_the_frozen_tower(family):
    plain, adapted = (
        build(family, taps=[1, 3]),
        build(family, taps=[1, 3], adaptation=Adaptation("lora")).train(),
    )
    assert torch.equal(plain(photo()).grid, adapted(photo()).grid)
    assert torch.equal(plain(photo()).token, adapted(photo()).token)


@every_family
def test_lora_trains_its_adapters_and_nothing_else(family):
    backbone = build(family, taps=[3], adaptation=Adaptation("lora")).train()
    before = {name: p.clone() for name, p in backbone.named_parameters()}
    optimiser = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # the first step moves only the second factors: the first get zero gradient
        optimiser.zero_grad()
        features = backbone(photo())
        (features.token.square().sum() + features.grid.square().mean()).backward()
        optimiser.step()
    changed = {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".lora_" in name}


@every_family
@pytest.mark.parametrize("train", ["frozen", "lora", "full"])
def test_builds_on_the_meta_device(family, train):
    with torch.device("meta"):
        backbone = TransformerBackbone.from_config(
            CONFIGS[family], taps=[1, 3], adaptation=Adaptation(train)
        )
    assert {parameter.device.type for parameter in backbone.parameters()} == {"meta"}


@every_family
def test_saved_weights_load_identically(family, tmp_path):
    original = build(family, taps=[2, 3])
    original.tower.save_pretrained(tmp_path)
    loaded = TransformerBackbone.load(str(tmp_path), taps=[2, 3]).eval()
    assert torch.equal(original(photo()).token, loaded(photo()).token)
    assert torch.equal(original(photo()).grid, loaded(photo()).grid)
    assert next(loaded.parameters()).dtype == torch.float32


@dataclass(frozen=True, slots=True)
class Choice:
    backbone: str
    architecture: str = ""
    adapt: Literal["frozen", "lora", "full"] = "lora"
    taps: tuple[int, ...] = (1, 3)
    reads: tuple[int, ...] = ()
    lora_rank: int = 4
    lora_alpha: int = 8
    trained_blocks: int = 0


@every_family
def test_a_loaded_tower_is_rebuilt_from_its_completed_config_alone(family, tmp_path):
    build(family).tower.save_pretrained(tmp_path)
    stated = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated), "utf-8")
    loaded, completed = for_config(Choice(str(tmp_path)))
    shutil.rmtree(tmp_path)
    again, unchanged = for_config(completed)
    assert unchanged == completed
    assert str(tmp_path) not in completed.architecture
    assert (again.mean, again.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    again.load_state_dict(loaded.state_dict())
    assert torch.equal(loaded(photo()).grid, again(photo()).grid)
    assert sum(p.requires_grad for p in again.parameters()) > 0


def test_a_broken_architecture_is_a_recipe_error():
    with pytest.raises(RecipeError, match="architecture is not JSON"):
        for_config(Choice("nowhere", architecture="{"))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_image_half_of_a_text_and_image_checkpoint_loads_quietly(kind, tmp_path, capfd):
    import transformers

    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "vocab_size": 50, "eos_token_id": 2, "bos_token_id": 1}
    prefix = "CLIP" if kind == "clip" else "Siglip"
    config = getattr(transformers, f"{prefix}Config")(text_config=text, vision_config=_PLAIN)
    torch.manual_seed(0)
    both = getattr(transformers, f"{prefix}Model")(config).eval()
    both.save_pretrained(tmp_path)
    capfd.readouterr()
    loaded = TransformerBackbone.load(str(tmp_path))
    assert "text_model" not in "".join(capfd.readouterr())
    with torch.no_grad():
        expected = both.vision_model(photo()).pooler_output
    assert torch.equal(loaded(photo()).token, expected)


def test_half_precision_checkpoints_load_as_float32(tmp_path):
    build("clip").tower.half().save_pretrained(tmp_path)
    loaded = TransformerBackbone.load(str(tmp_path))
    assert loaded(photo()).token.dtype == torch.float32


def test_normalisation_of_the_checkpoint_wins_over_that_of_its_family(tmp_path):
    build("clip").tower.save_pretrained(tmp_path)
    usual = TransformerBackbone.load(str(tmp_path))
    assert usual.mean == pytest.approx((0.481, 0.458, 0.408), abs=1e-3)
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated), "utf-8")
    own = TransformerBackbone.load(str(tmp_path))
    assert (own.mean, own.std) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.5))


def test_larger_views_interpolate_the_positions():
    # A constant view has equal patches, so that only positions tell the cells apart.
    torch.manual_seed(0)
    settings = CONFIGS["dinov2"] | {"initializer_range": 0.2}
    backbone = TransformerBackbone.from_config(settings, taps=[1]).eval()
    small = backbone(torch.zeros(1, 3, 56, 56)).grid
    large = backbone(torch.zeros(1, 3, 112, 112)).grid
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    aligned = torch.cosine_similarity(small.flatten(2), shrunk.flatten(2)).mean()
    turned = torch.cosine_similarity(small.flatten(2), shrunk.flip(2).flatten(2)).mean()
    assert aligned > 0.8
    assert aligned > turned + 0.2


@pytest.mark.parametrize("size", [(57, 56), (56, 55), (13, 56), (0, 14)])
def test_sizes_that_cut_a_patch_are_refused_with_a_fitting_one(size):
    with pytest.raises(RecipeError, match=r"px: choose a view size that is a multiple of 14, such"):
        build("clip")(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("taps", [[], [0], [4], [-1, 2]])
def test_taps_outside_the_tower_are_refused(taps):
    with pytest.raises(RecipeError, match="blocks 1 to 3"):
        build("clip", taps=taps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "resnet"}, "No backbone of model_type 'resnet'; known: clip"),
        ({"model_type": "siglip2_vision_model"}, "not as NaFlex"),
        (CONFIGS["siglip"] | {"vision_use_head": False}, "no token"),
        (CONFIGS["dinov3"] | {"patch_size": [14, 7]}, "only squares"),
    ],
)
def test_unsupported_architectures_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        TransformerBackbone.from_config(settings)


def test_an_absent_hub_id_says_what_was_tried(offline):
    with pytest.raises(MissingDataError) as caught:
        TransformerBackbone.load("nobody/no-such-tower")
    message = str(caught.value)
    assert "'nobody/no-such-tower'" in message
    assert "no such folder here, and the Hugging Face hub could not be reached" in message
    assert message.endswith("give a local folder with config.json and safetensors.")
    assert "\n" not in message


def test_a_mistyped_folder_is_not_sought_for_long():
    with pytest.raises(MissingDataError, match=r"no folder .*; a hub id is owner/name"):
        TransformerBackbone.load("./weights/no/such/folder")


def test_a_folder_without_settings_is_refused(offline, tmp_path):
    with pytest.raises(MissingDataError, match=r"looked for config\.json \("):
        TransformerBackbone.load(str(tmp_path))


def test_pickled_weights_are_refused(offline, tmp_path):
    tower = build("clip").tower
    tower.config.save_pretrained(tmp_path)
    torch.save(tower.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(MissingDataError, match="safetensors"):
        TransformerBackbone.load(str(tmp_path))


def test_weights_of_another_network_are_refused(tmp_path):
    build("clip").tower.save_pretrained(tmp_path / "clip")
    build("dinov2").tower.save_pretrained(tmp_path / "dinov2")
    shutil.copy(tmp_path / "clip/model.safetensors", tmp_path / "dinov2/model.safetensors")
    with pytest.raises(IncompatibleCheckpointError, match="another network or a partial file"):
        TransformerBackbone.load(str(tmp_path / "dinov2"))


def test_weights_of_another_width_are_refused(tmp_path):
    tower = build("clip").tower
    tower.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(settings | {"hidden_size": 64}), "utf-8")
    with pytest.raises(IncompatibleCheckpointError, match="do not load into CLIPVisionModel"):
        TransformerBackbone.load(str(tmp_path))


def test_broken_weights_are_refused(tmp_path):
    build("clip").tower.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(IncompatibleCheckpointError, match="do not load"):
        TransformerBackbone.load(str(tmp_path))


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "dinov2-registers"])
def test_dropped_patches_are_not_seen_and_leave_zeros_in_the_grid(family):
    backbone = build(family, taps=[1, 3])
    kept = torch.tensor([[0, 2, 3, 9, 15]])
    features = backbone(photo(), kept)
    cells = features.grid.flatten(2)[0]
    unseen = [cell for cell in range(16) if cell not in kept[0].tolist()]
    assert not cells[:, unseen].any()
    assert (cells[:, kept[0]] != 0).any(0).all()
    changed = photo()
    changed[:, :, :14, 14:28] = 1.0  # the second patch
    assert torch.equal(backbone(changed, kept).token, features.token)
    assert not torch.equal(backbone(changed).token, backbone(photo()).token)
    assert torch.equal(backbone(photo()).grid, build(family, taps=[1, 3])(photo()).grid)


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "dinov2-registers"])
def test_keeping_all_patches_changes_nothing(family):
    backbone = build(family)
    everything = backbone(photo(), torch.arange(16)[None])
    torch.testing.assert_close(everything.token, backbone(photo()).token)
    torch.testing.assert_close(everything.grid, backbone(photo()).grid)


def test_a_rotary_tower_drops_nothing():
    with pytest.raises(RecipeError, match="none can be dropped"):
        build("dinov3")(photo(), torch.arange(4)[None])


@every_family
def test_the_last_blocks_and_what_follows_can_be_trained_alone(family):
    backbone = build(family, adaptation=Adaptation("full"))
    backbone.train_only_last(1)
    path = FAMILIES[CONFIGS[family]["model_type"]].blocks
    trained = {n for n, p in backbone.tower.named_parameters() if p.requires_grad}
    assert any(name.startswith(f"{path}.2.") for name in trained)
    assert not any(name.startswith((f"{path}.0.", f"{path}.1.", "embeddings")) for name in trained)
    assert any(not name.startswith(path) for name in trained), "the norm that follows"


def test_a_frozen_tower_has_no_last_blocks_to_train():
    with pytest.raises(RecipeError, match="adapt='full'"):
        build("clip").train_only_last(1)
