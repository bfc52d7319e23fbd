"""The list of methods: every fact is known, and quoted where people read it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tests.contract.test_detectors import CLIP_LARGE

from gammascope.detection import method_list
from gammascope.detectors import base
from gammascope.weights import methods_path

ROOT = Path(__file__).parents[2]
ABOUT = json.loads(methods_path().read_text("utf-8"))


def test_every_method_is_described():
    rows = {row["name"]: row for row in method_list.rows()}
    assert set(rows) == set(ABOUT) == set(base.names())
    assert all(row["licence"] and row["extras"] for row in rows.values())
    table = (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert all(f"| `{name}` |" in table for name in rows)


@pytest.mark.parametrize("name", list(ABOUT))
def test_sizes_are_those_of_the_network(name):
    config = base.get(name).config
    if getattr(config, "architecture", None) == "":
        config = dataclasses.replace(config, architecture=CLIP_LARGE)
    with torch.device("meta"):
        detector = base.get(name).build(config)
    assert ABOUT[name]["parameters"] == sum(v.numel() for v in detector.state_dict().values())
    trained = (p.numel() for p in detector.parameters() if p.requires_grad)
    assert ABOUT[name]["trained"] == sum(trained)


@pytest.mark.parametrize("name", [name for name, known in ABOUT.items() if known["measured"]])
def test_measured_scores_are_quoted(name):
    measured = ABOUT[name]["measured"]
    low, high = measured["interval"]
    quoted = f"{measured['auroc']:.3f} [{low:.3f}, {high:.3f}]"
    assert quoted in (ROOT / measured["quoted_in"]).read_text("utf-8")
