"""Parts taken over from another run: exactly, by name, or not at all."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.networks.pretrained import take_over


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
