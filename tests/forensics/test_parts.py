"""What is measured of parts that stand out, and how it is weighed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from gammascope.forensics import parts

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RNG = np.random.default_rng


@pytest.fixture
def fitting(monkeypatch) -> ModuleType:
    """The program that grows the trees."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("fit_parts")


def scene(shape: tuple[int, int]) -> parts.Scene:
    grey = RNG(0).uniform(60, 180, (8 * shape[0], 8 * shape[1])).astype(np.float32)
    return parts.Scene.of(grey, np.repeat(grey.astype(np.uint8)[..., None], 3, 2))


def suspects(evidence: np.ndarray, levels: tuple[float, ...] = (0.5,)) -> list[parts.Part]:
    return list(
        parts.standing_out(evidence, scene(evidence.shape), levels, (0.004, 0.5), lambda _: (7.0,))
    )


def test_parts_come_from_the_clearest_to_the_faintest_with_what_a_method_adds():
    evidence = np.full((30, 40), -1.0, np.float32)
    evidence[2:8, 2:8] = 2
    evidence[15:25, 20:32] = 4
    found = suspects(evidence)
    assert [int(part.around.inside.sum()) for part in found] == [120, 36]
    assert all(part.inputs[-1] == 7 for part in found)
    assert found[0].inputs[0] > found[0].inputs[1], "its score, and that of the clearest other"
    assert found[1].inputs[0] < found[1].inputs[1]


def test_a_higher_level_shows_the_core_of_a_part_alone():
    evidence = np.full((30, 40), -1.0, np.float32)
    evidence[4:20, 4:20] = 1
    evidence[8:14, 8:14] = 3
    wide, core = suspects(evidence, (0.5, 2.0))
    assert wide.around.inside.sum() == 256
    assert core.around.inside.sum() == 36


def test_surroundings_do_not_overlap_and_a_part_that_leaves_no_rest_is_none():
    inside = np.zeros((30, 40), bool)
    inside[10:20, 10:20] = True
    around = parts.Surroundings.of(inside)
    assert around.core.sum() == 64
    assert around.next_to.sum() == 12 * 12 - 100
    assert around.near.sum() == 16 * 16 - 12 * 12
    assert around.rest.sum() == 1200 - 14 * 14
    assert parts.Surroundings.of(np.ones((30, 40), bool)) is None


def test_what_is_measured_does_not_depend_on_how_large_a_picture_is():
    """Photos are large and edits of training small: size must not tell them apart."""
    small = np.full((30, 40), -1.0, np.float32)
    small[10:20, 10:22] = 3
    large = np.kron(small, np.ones((3, 3), np.float32))
    one, other = (suspects(evidence)[0].inputs for evidence in (small, large))
    assert one[0] == pytest.approx(other[0], rel=0.01), "score"
    assert one[2:6] == pytest.approx(other[2:6], rel=0.01), "share and form"


def test_pictures_with_no_part_score_nothing():
    found = parts.PutIn.of("quantisation", [], (4, 5))
    assert found.score == 0
    assert found.inside.shape == (4, 5)
    assert not found.inside.any()


def test_the_trees_say_what_the_library_that_grew_them_says(fitting):
    rng = RNG(1)
    inputs = rng.normal(size=(500, 5)).astype(np.float32)
    inputs[:, 4] = rng.integers(0, 3, 500)
    labels = (inputs[:, 0] * inputs[:, 1] + inputs[:, 4] > 1).astype(int)
    fitted = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=7).fit(inputs, labels)
    trees = parts.Trees(**fitting.arrays_of(fitted))
    own = [trees.odds(row) for row in inputs]
    assert own == pytest.approx(fitted.decision_function(inputs), abs=1e-4)


def test_a_part_is_an_edit_if_it_covers_one_well(fitting):
    truth = np.zeros((80, 80), bool)
    truth[16:48, 16:48] = True
    part = np.zeros((10, 10), bool)
    part[2:6, 2:6] = True
    assert fitting.label_of(part, (0, 0), truth) == 1
    assert fitting.label_of(part, (0, 0), None) == 0
    assert fitting.label_of(np.roll(part, (4, 4), (0, 1)), (0, 0), truth) is None, "beside the edit"
    inside = np.zeros_like(part)
    inside[3:5, 3:5] = True
    assert fitting.label_of(inside, (0, 0), truth) == 1, "a quarter of it, and nothing else"
