"""benchmarks/made_pictures.py: what is kept belongs to the data it was fitted to, and gaps have intervals."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("made_pictures")


@pytest.fixture
def pictures(bench):
    """Two dozen pictures of six collections, of which features of eight numbers were read."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(24):
        fake = number % 2 == 1
        read = {view: rng.normal(2 * fake, 1, 8).astype(np.float32) for view in bench.VIEWS}
        source = f"collection {number // 4}"
        found.append(bench.Picture(f"{number}", source, source, fake, False, False, 64, 0, read))
    return found


def test_scores_are_kept_and_of_other_data_never_reused(bench, pictures, tmp_path):
    arm = bench.Arm("nothing", frozenset(), 0)
    first = bench.Judge(pictures, 4, tmp_path)(arm)
    assert bench.Judge(pictures, 4, tmp_path)(arm) == first
    assert len(list(tmp_path.glob("*.json"))) == 1
    changed = {view: features + 1 for view, features in pictures[0].read.items()}
    others = [replace(pictures[0], read=changed), *pictures[1:]]
    assert bench.Judge(others, 4, tmp_path)(arm) != first
    assert bench.Judge(pictures, 3, tmp_path)(arm) != first
    assert bench.Judge(pictures[:-4], 4, tmp_path)(arm).keys() < first.keys()
    made = replace(pictures[0], name="made", fake=True, copy=True)
    with_made = bench.Judge([*pictures, made], 4, tmp_path)
    assert with_made(replace(arm, made=frozenset({made}))) != with_made(arm)


def test_the_content_gap_has_an_interval_over_collections(bench):
    """Photos of a collection are halfway to its fakes in every second of twelve collections."""
    rng = np.random.default_rng(1)
    logit, fake, sources = [], [], []
    for number in range(12):
        for is_fake in (False, True):
            middle = 3.0 * is_fake + (1.5 if number % 2 and not is_fake else 0)
            logit.append(rng.normal(middle, 1, 15))
            fake += [is_fake] * 15
            sources += [f"{number}"] * 15
    sources += ["few"]
    arrays = (np.append(np.concatenate(logit), 0.0), np.array([*fake, True]), np.array(sources))
    gaps = bench.content_gaps(*arrays)
    assert len(gaps) == 12
    value = bench.mean_of(gaps)
    assert value.value == pytest.approx(gaps.mean())
    assert gaps.min() < value.low < value.value < value.high < gaps.max()
    assert bench.mean_of(gaps - gaps).high == 0
    assert np.isnan(bench.mean_of(bench.content_gaps(*(each[:20] for each in arrays))).value)
