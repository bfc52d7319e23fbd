"""Two processes under torchrun learn what one learns, and either goes on where the other stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from gammascope.detection.pipeline import Pipeline

# Statistics of batch norm are each process's own, so the method is one without it.
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from gammascope.detectors import base
from gammascope.detectors.effort import Config
from gammascope.training.loop import train
from gammascope.training.recipe import Data, Optimisation, Recipe, Rhythm

manifest, folder, stop_after, resume, divided, backbone = sys.argv[1:]
torch.set_num_threads(1)
recipe = Recipe(
    method="effort",
    config=Config(backbone=backbone, size=96) if backbone else replace(base.get("effort").tiny, backbone="random"),
    data=Data(manifests=(manifest,), validation_sources=("held-out",), workers=0),
    optimisation=Optimisation(
        steps=6, batch=4, precision="no", warmup_share=0.2, learning_rate=0.01, divided=divided == "divided"
    ),
    rhythm=Rhythm(log=1, validate=6, save=3, validation_views=6),
    seed=5,
)
train(recipe, Path(folder), resume=resume == "resume", stop_after=int(stop_after) or None)
"""


def run(  # noqa: PLR0917 - each is one thing that a test varies
    processes: int,
    manifest: Path,
    folder: Path,
    stop_after=0,
    resume=False,
    divided=False,
    backbone="",
):
    program = folder.parent / "program.py"
    program.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher = (
        [*torchrun, "--nproc-per-node", str(processes)] if processes > 1 else [sys.executable]
    )
    how = "resume" if resume else "anew"
    command = [*launcher, program, manifest, folder, str(stop_after), how]
    command += ["divided" if divided else "whole", backbone]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [row["loss"] for row in rows if row["stage"] == "training"]


def assert_same_outcome(folder: Path, expected: Path) -> None:
    assert losses(folder) == pytest.approx(losses(expected), rel=1e-4)
    weights, others = (load_file(place / "checkpoint.safetensors") for place in (folder, expected))
    assert weights.keys() == others.keys()
    for key, value in others.items():
        assert weights[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one_and_resume_each_other(collection, tmp_path):
    one = run(1, collection, tmp_path / "one")
    two = run(2, collection, tmp_path / "two")
    assert len(losses(one)) == 6
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    for name, (before, after) in {"shrunk": (2, 1), "grown": (1, 2)}.items():
        mixed = tmp_path / name
        run(before, collection, mixed, stop_after=3)
        run(after, collection, mixed, resume=True)
        assert_same_outcome(mixed, one)


@pytest.mark.slow
def test_divided_weights_follow_the_curve_of_whole_ones(collection, tmp_path):
    """FSDP on two processes; resumed on two, and on one; the checkpoint is like any other."""
    whole = run(1, collection, tmp_path / "whole")
    divided = run(2, collection, tmp_path / "divided", divided=True)
    assert_same_outcome(divided, whole)
    for after in (2, 1):
        resumed = tmp_path / f"resumed-{after}"
        run(2, collection, resumed, stop_after=3, divided=True)
        run(after, collection, resumed, resume=True, divided=True)
        assert_same_outcome(resumed, whole)
    report = Pipeline.load(divided / "checkpoint.safetensors").report(
        np.zeros((40, 50, 3), np.uint8)
    )
    assert 0.0 < report.probability < 1.0


@pytest.mark.slow
def test_weights_that_the_loss_does_not_reach_hold_no_process_up(collection, tmp_path):
    """Effort trains directions of layers of the embedded backbone that only methods with masks read."""
    one = run(1, collection, tmp_path / "one", backbone="embedded")
    two = run(2, collection, tmp_path / "two", backbone="embedded")
    assert losses(two) == pytest.approx(
        losses(one), rel=0.02
    )  # statistics of batch norm are each one's own
