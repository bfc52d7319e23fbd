"""Backbones of ours by name or out of checkpoints, and parts of another run: exactly, by name, or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gammascope import checkpoints, settings
from gammascope.detectors import gamma
from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.networks.compact import CompactConfig
from gammascope.networks.mobilenet import MobileNetConfig
from gammascope.networks.pretrained import backbone_for, backbone_in, in_house, take_over


def test_a_part_is_filled_and_the_file_named_by_its_hash(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    weights = {
        "eyes.weight": torch.ones(2, 3),
        "eyes.bias": torch.ones(2),
        "ears.bias": torch.ones(9),
    }
    save_file(weights, path)
    part = nn.Linear(3, 2)
    known = take_over(part, "eyes", path)
    assert known == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(part.weight, torch.ones(2, 3))


@pytest.mark.parametrize(
    "weights", [{"eyes.weight": torch.ones(2, 4), "eyes.bias": torch.ones(2)}, {"x": torch.ones(1)}]
)
def test_what_does_not_fit_is_refused(tmp_path, weights):
    path = tmp_path / "checkpoint.safetensors"
    save_file(weights, path)
    with pytest.raises(IncompatibleCheckpointError, match="its eyes does not fit this network"):
        take_over(nn.Linear(3, 2), "eyes", path)


def test_missing_and_broken_files_are_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(MissingDataError, match="to take the eyes from"):
        take_over(nn.Linear(3, 2), "eyes", path)
    path.write_bytes(b"nothing")
    with pytest.raises(IncompatibleCheckpointError, match="not a safetensors file"):
        take_over(nn.Linear(3, 2), "eyes", path)


OURS = {
    "compact": replace(
        gamma.TINY, compact=CompactConfig((4, 8), (1, 1), fused=8, fused_depth=1, token=16)
    ),
    "mobilenetv2": replace(
        gamma.TINY,
        backbone="mobilenetv2",
        mobilenetv2=MobileNetConfig(8, (8, 8, 16), (1, 1, 1), (1, 2, 2), fused=8, token=16),
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_a_backbone_of_ours_is_found_again_in_a_checkpoint(name, tmp_path):
    trained = gamma.build(OURS[name])
    path = tmp_path / "checkpoint.safetensors"
    facts = checkpoints.Facts("gamma", settings.plain(trained.config), trained.view)
    checkpoints.save(path, trained, facts)
    assert backbone_in(path) == (name, getattr(OURS[name], name))
    backbone, completed = backbone_for(replace(gamma.TINY, backbone=str(path)))
    assert completed == replace(OURS[name], compact=completed.compact)
    stored = trained.backbone.state_dict()
    assert all(torch.equal(stored[key], value) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", OURS)
def test_a_frozen_backbone_learns_nothing_while_its_detector_trains(name):
    backbone, completed = backbone_for(OURS[name])
    assert completed is OURS[name], "nothing was read"
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    nn.Sequential(backbone).train()
    backbone(torch.randn(2, 3, 32, 32))
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    free, _ = backbone_for(OURS[name], frozen=False)
    assert free.train().training
    assert all(parameter.requires_grad for parameter in free.parameters())


def test_a_name_that_is_none_of_ours_is_left_to_others():
    assert in_house(replace(gamma.TINY, backbone="some/tower")) is None
