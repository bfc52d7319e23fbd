"""Checkpoints: what comes back, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gammascope import checkpoints, settings
from gammascope.checkpoints import Calibration, Facts, OperatingPoint
from gammascope.detectors import base
from gammascope.errors import ChecksumError, IncompatibleCheckpointError, MissingDataError

TINY = base.get("gamma").tiny

CALIBRATION = {
    "generated": Calibration(1.7, -0.3, 2.25, (0.05, 0.01), 400, ("one", "two")),
    "edited": Calibration(
        *(1.0, 0.0, 1.0, (0.1, 0.02), 300, ()),
        method="isotonic",
        knots=((-1.5, -3.0), (0.25, 2.5)),
        zone="conformal",
        missed=0.1,
        points=(OperatingPoint("one", 0.01, 1.5, 250), OperatingPoint("two", 0.01, None, 50)),
    ),
}


def detector_and_facts() -> tuple[base.Detector, Facts]:
    torch.manual_seed(0)
    detector = base.get("gamma").build(TINY)
    facts = Facts(
        method="gamma",
        config=settings.plain(TINY),
        view=detector.view,
        calibration=CALIBRATION,
        recipe={"optimisation": {"steps": 3}},
        trained_on="nothing",
        version="0.0",
    )
    return detector, facts


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "folder" / "checkpoint.safetensors"
    checkpoints.save(path, *detector_and_facts())
    return path


def rewritten(path: Path, **changes: Any) -> Path:
    """Change what a checkpoint says about itself, as an editor or another version would."""
    with_changes = settings.plain(checkpoints.read_facts(path)) | changes
    save_file(load_file(path), path, {"gammascope": json.dumps(with_changes)})
    return path


def test_facts_come_back_as_they_were(saved):
    assert checkpoints.read_facts(saved) == detector_and_facts()[1]


def test_facts_are_read_without_torch(saved):
    code = (
        "import sys, pathlib; from gammascope import checkpoints;"
        f"checkpoints.read_facts(pathlib.Path({str(saved)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_save_returns_the_hash_of_the_file(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    digest = checkpoints.save(path, *detector_and_facts())
    assert digest == sha256(path.read_bytes()).hexdigest()
    assert checkpoints.load(path, sha256=digest).sha256 == digest


def test_the_same_detector_gives_the_same_file(tmp_path):
    digests = {
        checkpoints.save(tmp_path / f"{i}.safetensors", *detector_and_facts()) for i in range(2)
    }
    assert len(digests) == 1


def test_a_loaded_detector_is_ready_to_predict_and_not_to_train(saved):
    detector = checkpoints.load(saved).detector
    assert not any(module.training for module in detector.modules())
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def test_another_memory_layout_is_saved_alike(tmp_path):
    detector, facts = detector_and_facts()
    plain = checkpoints.save(tmp_path / "plain.safetensors", detector, facts)
    detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    assert checkpoints.save(tmp_path / "last.safetensors", detector, facts) == plain


def test_the_view_of_the_file_counts(saved):
    """A checkpoint knows the preprocessing it was trained with, whatever the code would choose today."""
    view = settings.plain(detector_and_facts()[0].view) | {"pool": "max", "max_tiles": 5}
    view = checkpoints.load(rewritten(saved, view=view)).detector.view
    assert (view.pool, view.max_tiles) == ("max", 5)


def test_a_hash_that_differs_is_refused(saved):
    with pytest.raises(ChecksumError, match=r"has sha256 [0-9a-f]{64}, expected 00"):
        checkpoints.load(saved, sha256="0" * 64)


def test_another_method_is_refused_by_name(saved):
    with pytest.raises(IncompatibleCheckpointError, match="of 'gamma', not of 'other'"):
        checkpoints.load(saved, method="other")


def test_no_file_is_not_an_incompatible_file(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(MissingDataError, match="No checkpoint at"):
            checkpoints.load(path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(IncompatibleCheckpointError, match="not a safetensors file"):
        checkpoints.load(saved)


@pytest.mark.parametrize("content", [b"hello", bytes(1000), bytes(range(256)) * 20, b"\xff" * 64])
def test_any_other_file_is_refused(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(IncompatibleCheckpointError, match="not a safetensors file"):
        checkpoints.load(path)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(IncompatibleCheckpointError):
        checkpoints.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_others_are_refused(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(IncompatibleCheckpointError, match="but not a gammascope checkpoint"):
        checkpoints.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 1}', '{"format": "1"}'])
def test_broken_metadata_is_refused(saved, text):
    save_file(load_file(saved), saved, {"gammascope": text})
    with pytest.raises(IncompatibleCheckpointError):
        checkpoints.load(saved)


def test_another_format_number_says_update(saved):
    rewritten(saved, format=2)
    with pytest.raises(IncompatibleCheckpointError, match="has format 2, this version reads 1: up"):
        checkpoints.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": settings.plain(replace(TINY, width=32))},
        {"config": settings.plain(replace(TINY, seg_heads="first"))},
        {"config": settings.plain(TINY) | {"from_the_future": 1}},
        {"config": settings.plain(TINY) | {"width": "wide"}},
        {"config": settings.plain(TINY) | {"attention_heads": 7}},
        {"view": {"size": 0, "fit": "tiles"}},
        {"view": {"size": 32, "fit": "stretch"}},
    ],
)
def test_a_network_that_does_not_fit_its_weights_is_refused_in_one_line(saved, changes):
    rewritten(saved, **changes)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        checkpoints.load(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_are_loaded_strictly(saved, change):
    weights, facts = load_file(saved), settings.plain(checkpoints.read_facts(saved))
    if change == "missing":
        del weights["classify.weight"]
    elif change == "extra":
        weights["another.weight"] = torch.zeros(1)
    else:
        weights["classify.weight"] = torch.zeros(2, 16)
    save_file(weights, saved, {"gammascope": json.dumps(facts)})
    with pytest.raises(IncompatibleCheckpointError, match="do not fit"):
        checkpoints.load(saved)


def test_recalibrating_changes_the_calibration_alone(saved):
    before, facts = load_file(saved), checkpoints.read_facts(saved)
    new = {"generated": replace(CALIBRATION["generated"], temperature=3.5)}
    digest = checkpoints.recalibrate(saved, new)
    assert checkpoints.load(saved, sha256=digest).facts == replace(facts, calibration=new)
    after = load_file(saved)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_checkpoints_from_before_curves_and_zones_still_load(saved):
    new = {"method", "knots", "zone", "missed", "points"}
    known = settings.plain(CALIBRATION["generated"])
    old = {name: value for name, value in known.items() if name not in new}
    rewritten(saved, calibration={"generated": old})
    assert checkpoints.load(saved).facts.calibration == {"generated": CALIBRATION["generated"]}


def test_a_calibration_whose_curve_falls_is_refused(saved):
    falling = settings.plain(CALIBRATION["edited"]) | {"knots": [[0.0, 1.0], [1.0, 0.5]]}
    rewritten(saved, calibration={"edited": falling})
    with pytest.raises(IncompatibleCheckpointError, match="must rise"):
        checkpoints.load(saved)


def test_a_crash_while_writing_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoints.recalibrate(saved, {})
    assert saved.read_bytes() == before


def test_nothing_is_left_beside_a_written_file(saved):
    assert list(saved.parent.iterdir()) == [saved]
    assert stat.S_IMODE(saved.stat().st_mode) & 0o444


def test_default_is_a_name_and_everything_else_a_path(tmp_path):
    assert checkpoints.resolve("default") == checkpoints.default_path()
    assert checkpoints.resolve("some/where.safetensors") == Path("some/where.safetensors")
    assert checkpoints.resolve(tmp_path) == tmp_path
    assert os.fspath(checkpoints.default_path()).endswith(".safetensors")
