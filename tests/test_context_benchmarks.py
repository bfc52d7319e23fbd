"""benchmarks/contexts.py and benchmarks/flags.py print the numbers that docs/generators.md quotes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from gammascope.generation import spatial_context as models

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_independent_letters_are_counted_with_an_interval(script):
    line = script("contexts").accepted_sets(50)
    share, low, high = map(float, re.findall(r"\d\.\d{3}", line))
    assert low < share < high
    assert share > 0.8
    assert line.endswith("of 50")


def test_broken_tiles_are_found_and_a_missing_kind_is_not(script, monkeypatch):
    contexts = script("contexts")
    monkeypatch.setattr(contexts, "AMOUNTS", (1, 64))
    found = {}
    for line in contexts.localisation(64, 12):
        rule, tiles = re.findall(r"px, (\w+), broken tiles (\d+)", line)[0]
        found[rule, int(tiles)] = [float(value) for value in re.findall(r"\d\.\d{3}", line)]
        assert line.endswith("12 pictures")
    assert set(found) == {
        *(("position", 64), ("intensity", 1), ("intensity", 64)),
        *(("texture", 1), ("texture", 64), ("prevalence", 0)),
    }
    assert found["position", 64][0] > 0.99  # AUROC
    assert found["position", 64][2] > 0.9  # IoU
    assert 0.7 < found["texture", 64][0] < 0.9
    assert 0.45 < found["prevalence", 0][0] < 0.55
    assert found["prevalence", 0][2] < 0.01  # 1 of 256 tiles of sound flags is marked


def test_flags_are_told_as_the_page_tells_them(script, capsys):
    sound = [models.draw("flags", np.random.default_rng(n), side=64).image for n in range(2)]
    script("flags").told("step 7", [*sound, np.zeros_like(sound[0]), np.full_like(sound[0], 255)])
    told = capsys.readouterr().out
    assert told.startswith("step 7: 4 pictures, perfect 0.500 [")
    assert "light tiles where no kind has one 0.250 [" in told
    assert "tiles of no one kind 0.500 [" in told
    assert "support 0 of 2" in told
