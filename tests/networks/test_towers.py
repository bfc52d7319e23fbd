"""Towers that lie beside detectors: their files, what checkpoints leave out, what graphs point at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.detection import export, runtime
from gammascope.detectors import linear_probe
from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.networks import towers
from gammascope.networks.backbones import TransformerBackbone

CONFIG = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "hidden_act": "quick_gelu",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}
PROBE = linear_probe.Config(
    backbone="small",
    feature="both",
    reads=(1, 3),
    layers=(2, 3),
    size=32,
    fit="tiles",
    max_tiles=3,
    overview=0.5,
    cells=True,
)


@pytest.fixture
def tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> towers.Tower:
    """Return a small tower that the package seems to have come with, by the name "small"."""
    torch.manual_seed(0)
    network = TransformerBackbone.from_config(CONFIG).tower
    state = {name: 3 * tensor for name, tensor in network.state_dict().items()}
    matrices = [n for n, t in state.items() if t.ndim == 2 and ".layers." in n]
    path = tmp_path / "package" / "small.safetensors"
    towers.write(path, towers.quantised(state, matrices), CONFIG, "made for this test")
    monkeypatch.setattr(towers, "embedded", lambda: {"small": path})
    return towers.read(path)


def probe() -> linear_probe.LinearProbe:
    detector = linear_probe.build(PROBE).eval()
    torch.manual_seed(1)
    for layer in (detector.head, detector.whole):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return detector


def saved(detector: linear_probe.LinearProbe, path: Path) -> Path:
    facts = checkpoints.Facts("linear_probe", settings.plain(detector.config), detector.view)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(path, detector, facts)
    return path


def test_dequantised_weights_are_those_that_were_quantised_to_half_a_step(tower):
    whole = {"a": torch.randn(5, 7), "b": torch.randn(5)}
    path = tower.path.with_name("other.safetensors")
    towers.write(path, towers.quantised(whole, ["a"]), CONFIG, "")
    read = towers.read(path).tensors()
    steps = whole["a"].abs().amax(1, keepdim=True) / 127
    assert ((read["a"] - whole["a"]).abs() <= 0.5001 * steps).all()
    assert torch.allclose(read["b"], whole["b"], atol=1e-3)


def test_a_backbone_of_that_name_has_the_weights_of_the_file(tower):
    backbone = TransformerBackbone.load("small", reads=(1, 3))
    held = tower.tensors()
    assert all(torch.equal(t, held[n]) for n, t in backbone.tower.state_dict().items())
    assert backbone.config[towers.SHA256] == tower.sha256
    assert backbone.mean == (0.5, 0.5, 0.5)


def test_class_tokens_of_the_chosen_blocks_are_read(tower):
    backbone = TransformerBackbone.load("small", reads=(1, 3)).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        content = backbone(pixels).summary["content"]
        states = backbone.tower(pixels, output_hidden_states=True).hidden_states
        token = backbone(pixels).token
    read = [states[1][:, 0], states[3][:, 0]]
    assert torch.equal(content, torch.cat(read, 1))
    assert token.shape[1] == backbone.token_channels == 2 * read[0].shape[1]
    for part, own in zip(token.chunk(2, 1), read, strict=True):
        centred = own - own.mean(1, keepdim=True)
        torch.testing.assert_close(
            part, centred / (own.var(1, correction=0)[:, None] + 1e-5).sqrt()
        )


def test_a_checkpoint_leaves_the_tower_out_and_finds_it_again(tower, tmp_path):
    detector = probe()
    path = saved(detector, tmp_path / "run" / "x.safetensors")
    from safetensors.torch import load_file

    assert sorted(load_file(path)) == ["head.bias", "head.weight", "whole.bias", "whole.weight"]
    assert tower.sha256 in checkpoints.read_facts(path).config["architecture"]
    pixels = torch.randn(2, 3, 32, 32)
    again = checkpoints.load(path).detector
    with torch.inference_mode():
        assert torch.equal(again(pixels).logit, detector(pixels).logit)


def test_what_was_trained_in_the_tower_is_kept(tower, tmp_path):
    detector = probe()
    name = "backbone.tower.encoder.layers.0.mlp.fc1.weight"
    with torch.no_grad():
        detector.get_parameter(name).add_(0.5)
    path = saved(detector, tmp_path / "x.safetensors")
    again = checkpoints.load(path).detector
    assert torch.equal(again.get_parameter(name), detector.get_parameter(name))


def test_another_tower_is_refused(tower, tmp_path, monkeypatch):
    path = saved(probe(), tmp_path / "x.safetensors")
    monkeypatch.setattr(towers, "embedded", dict)
    with pytest.raises(MissingDataError, match=tower.sha256[:12]):
        checkpoints.load(path)


def test_a_file_without_a_configuration_is_no_tower(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(IncompatibleCheckpointError, match="no file of a tower"):
        towers.read(tmp_path / "a.safetensors")
    with pytest.raises(MissingDataError, match="No tower"):
        towers.read(tmp_path / "b.safetensors")


def test_blocks_that_are_not_there_are_not_read(tower):
    from gammascope.errors import RecipeError

    with pytest.raises(RecipeError, match="1 to 3"):
        TransformerBackbone.load("small", reads=(4,))


def test_a_graph_points_at_the_tower_and_answers_like_torch(tower, tmp_path):
    pytest.importorskip("openvino")
    path = saved(probe(), tmp_path / "run" / "x.safetensors")
    graph = export.graph_beside(path)
    assert (path.parent / "small.safetensors").samefile(tower.path)
    # The matrices lie in the tower's file only.
    assert graph.stat().st_size < tower.path.stat().st_size
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    wanted = export.reference(path).look(pixels)
    exact = runtime.load(path, engine="openvino", precision="f32").network.look(pixels)
    assert np.abs(exact.logit - wanted.logit).max() < 1e-4
    assert np.abs(exact.masks["generated"] - wanted.masks["generated"]).max() < 1e-3
    near = runtime.load(path, engine="openvino").network.look(pixels)
    assert np.abs(near.logit - wanted.logit).max() < 0.1 * np.abs(wanted.logit).max() + 0.1


def test_the_map_of_a_probe_averages_to_its_logit(tower):
    detector = probe()
    with torch.inference_mode():
        found = detector(torch.randn(2, 3, 32, 32))
    assert torch.allclose(found.masks["generated"].mean((1, 2)), found.logit, atol=1e-4)


def test_readings_fitted_apart_are_averaged_by_the_overviews_weight(tower):
    from gammascope.networks.fitted import Logistic

    detector = linear_probe.build(PROBE).eval()
    length = detector.head.in_features
    tiles = Logistic(torch.randn(length).double(), torch.tensor(0.5).double())
    whole = Logistic(torch.randn(length).double(), torch.tensor(-2.0).double())
    detector.set(tiles, whole)
    features = torch.randn(4, length)
    with torch.inference_mode():
        found = detector.answer(features)
    # What the pipeline makes of one overview: the tile's reading, and what the whole one adds to it.
    added = found.answers["whole"].double()
    mean = 0.5 * tiles.logits(features) + 0.5 * whole.logits(features)
    assert torch.allclose(found.logit.double() + added, mean, atol=1e-4)


def test_a_reading_of_mosaics_is_what_the_network_says_of_one(tower):
    from gammascope.networks.fitted import Logistic

    detector = linear_probe.build(replace(PROBE, mosaic=0.5)).eval()
    length = detector.head.in_features
    features = torch.randn(4, length)
    with torch.inference_mode():
        assert not detector.answer(features).answers["mosaic"].any(), "nothing is added untaught"
    tiles, mosaic = (
        Logistic(torch.randn(length).double(), torch.tensor(bias).double()) for bias in (0.5, -2.0)
    )
    detector.set(tiles, mosaic=mosaic)
    with torch.inference_mode():
        found = detector.answer(features)
    said = found.logit + found.answers["mosaic"]
    assert torch.allclose(said.double(), mosaic.logits(features), atol=1e-4)
    assert torch.allclose(found.logit.double(), tiles.logits(features), atol=1e-4)


def test_the_tower_that_comes_with_the_package_says_where_it_is_from():
    tower = towers.named("clip-vit-b16")
    assert tower is not None
    assert tower.sha256 == "b799923cab422da91abbe3022dbb4398b53f07208bda7bcc19a9937794cdeda1"
    assert "MIT" in tower.origin
    assert towers.named("no-such-tower") is None
