"""The mean of networks of one design: what it is made of, and what has none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from gammascope import checkpoints, settings
from gammascope.checkpoints import RAW, Facts, Settled
from gammascope.checkpoints.averaging import average
from gammascope.cli.app import app
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import base
from gammascope.errors import IncompatibleCheckpointError, RecipeError


def saved(path, *, method="npr", seed=0, moved=0.0, apart=("a", "b")):
    """Write a tiny network that took one step of a given size away from the seed's first weights."""
    definition = base.get(method)
    torch.manual_seed(seed)
    detector = definition.build(definition.tiny)
    rng = torch.Generator().manual_seed(int(1000 * moved))
    with torch.no_grad():
        for each in detector.parameters():
            noise = torch.randn(each.shape, generator=rng)
            each.add_(moved * each.square().mean().sqrt() * noise)
    facts = Facts(
        method,
        settings.plain(definition.tiny),
        detector.view,
        calibration={"generated": RAW},
        profiles={"fast": {"generated": RAW}},
        settled={"default": Settled(2, -1.0, 1.0)},
        recipe={"method": method, "data": {"validation_sources": list(apart)}},
        trained_on=f"pictures {moved}",
    )
    checkpoints.save(path, detector, facts)
    return path


def test_weights_are_the_mean_and_facts_are_what_holds_for_all(tmp_path):
    one = saved(tmp_path / "1.safetensors", moved=0.1)
    two = saved(tmp_path / "2.safetensors", moved=0.2, apart=("b", "c"))
    out = tmp_path / "mean.safetensors"
    result = CliRunner().invoke(app, ["average", str(one), str(two), "--out", str(out)])
    assert result.exit_code == 0, result.output
    a, b, mean = load_file(one), load_file(two), load_file(out)
    for name, value in mean.items():
        if value.is_floating_point():
            expected = (a[name].double() + b[name].double()) / 2
            torch.testing.assert_close(value.double(), expected, rtol=1e-3, atol=1e-6)
    facts = checkpoints.read_facts(out)
    assert not any((facts.calibration, facts.profiles, facts.settled))
    assert facts.recipe["data"]["validation_sources"] == ["b"]
    assert facts.recipe["averaged"] == [checkpoints.load(path).sha256 for path in (one, two)]
    assert facts.trained_on == "pictures 0.1; pictures 0.2"
    report = Pipeline.load(out).report(np.zeros((40, 50, 3), np.uint8))
    assert "generated" in report.answers


def test_what_has_no_mean_is_refused(tmp_path):
    one = saved(tmp_path / "1.safetensors")
    out = tmp_path / "mean.safetensors"
    with pytest.raises(RecipeError, match="expected two or more"):
        average([one], out)
    with pytest.raises(RecipeError, match="the same checkpoint as"):
        average([one, saved(tmp_path / "again.safetensors")], out)
    with pytest.raises(IncompatibleCheckpointError, match="another method or config"):
        average([one, saved(tmp_path / "2.safetensors", method="gamma")], out)
    with pytest.raises(IncompatibleCheckpointError, match="did not begin with the same weights"):
        average([one, saved(tmp_path / "3.safetensors", seed=1)], out)
    assert not out.exists()


def test_older_files_that_leave_defaults_out_are_of_the_same_design(tmp_path):
    one, two = (saved(tmp_path / f"{n}.safetensors", moved=n / 10) for n in (1, 2))
    facts = checkpoints.read_facts(two)
    config = {
        key: value
        for key, value in facts.config.items()
        if value != getattr(base.get("npr").config, key, None)
    }
    checkpoints.save(two, checkpoints.load(two).detector, replace(facts, config=config))
    assert json.dumps(config) != json.dumps(facts.config)
    average([one, two], tmp_path / "mean.safetensors")
