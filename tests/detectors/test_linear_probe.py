"""Linear probe: what it reads, and that its head is the optimum."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from gammascope.detectors.base import Seen
from gammascope.detectors.linear_probe import TINY, LinearProbe, build
from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.networks.fitted import fit_logistic
from gammascope.networks.mobilenet import MobileNetConfig
from gammascope.networks.pretrained import backbone_in
from gammascope.weights import embedded_path

TOWER = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
FAMILIES = {
    "clip_vision_model": {"intermediate_size": 64},
    "siglip_vision_model": {"intermediate_size": 64},
    "dinov2": {"mlp_ratio": 2},
    "dinov3_vit": {"intermediate_size": 64},
}


def probe_of(**changes) -> LinearProbe:
    torch.manual_seed(0)
    return build(replace(TINY, **changes)).eval()


def seen(count: int = 200, width: int = 48, seed: int = 0) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, width, generator=generator)
    truth = (features[:, 0] + torch.randn(count, generator=generator) > 0).long()
    return Seen(features, torch.ones_like(truth), {"generated": truth})


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize(("feature", "width"), [("token", 32), ("patches", 64), ("both", 96)])
def test_every_family_and_layer_can_be_probed(model_type, feature, width):
    architecture = json.dumps({"model_type": model_type} | TOWER | FAMILIES[model_type])
    probe = probe_of(
        backbone="some/tower", architecture=architecture, feature=feature, layers=(1, 3)
    )
    pixels = torch.randn(2, 3, 32, 32)
    features = probe.features(pixels)
    assert features.shape == (2, width)
    seen_by_tower = probe.backbone(pixels)
    patches = seen_by_tower.grid.mean((2, 3))
    expected = {"token": [seen_by_tower.token], "patches": [patches]}
    torch.testing.assert_close(
        features, torch.cat(expected.get(feature, [seen_by_tower.token, patches]), 1)
    )


def test_only_the_head_is_trainable_and_the_backbone_stays_as_it_was():
    probe = probe_of()
    assert [n for n, p in probe.named_parameters() if p.requires_grad] == [
        "head.weight",
        "head.bias",
    ]
    before = {n: b.clone() for n, b in probe.backbone.state_dict().items()}
    probe.train()(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(before[n], b) for n, b in probe.backbone.state_dict().items())


def test_the_head_is_the_optimum_of_logistic_regression():
    probe, training = probe_of(penalties=(1e-2,)), seen()
    figures = probe.fit(training, None)
    expected = fit_logistic(training.features, training.answers["generated"], 1e-2)
    found = probe.answer(training.features).logit
    torch.testing.assert_close(
        found.double(), expected.logits(training.features), atol=1e-4, rtol=1e-4
    )
    assert figures["penalty"] == 1e-2


def test_validation_chooses_the_penalty():
    """Few noisy views: hardly penalised, a probe learns the noise by heart."""
    probe, training, validation = probe_of(), seen(60), seen(2000, seed=1)
    figures = probe.fit(training, validation)
    assert figures["penalty"] >= 0.01
    weakest = probe_of(penalties=(1e-4,)).fit(training, validation)
    assert figures["log_loss_judged"] < weakest["log_loss_judged"]
    assert figures["log_loss"] > weakest["log_loss"]


def test_without_validation_the_strongest_penalty_is_kept():
    assert probe_of().fit(seen(), None)["penalty"] == max(TINY.penalties)


def test_the_embedded_backbone_is_read_once_and_then_rebuilt():
    probe = probe_of(backbone="embedded", mobilenetv2=MobileNetConfig(stem=1), size=32)
    name, sizes = backbone_in(embedded_path())
    assert probe.config.backbone == name == "mobilenetv2"
    assert probe.config.mobilenetv2 == sizes
    stored = load_file(embedded_path())
    own = probe.backbone.state_dict()
    assert all(torch.equal(value, stored[f"backbone.{name}"]) for name, value in own.items())
    again = build(probe.config)
    again.load_state_dict(probe.state_dict())
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(again.eval()(pixels).logit, probe(pixels).logit)


def test_a_checkpoint_without_a_backbone_of_ours_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="No checkpoint at"):
        probe_of(backbone=str(tmp_path / "none.safetensors"))
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(
        IncompatibleCheckpointError, match="has none of the backbones compact, mobilenetv2"
    ):
        probe_of(backbone=str(other))
    other.write_bytes(b"no such thing")
    with pytest.raises(IncompatibleCheckpointError, match="not a checkpoint"):
        probe_of(backbone=str(other))
