"""Differences to plain methods are of the same images, and of the means over runs."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gammascope.errors import MissingDataError
from gammascope.evaluation.against_plain import differences, grid
from gammascope.evaluation.score_table import ScoreTable

TRUTH = np.tile([0, 1], 60)
SOURCES = np.array([f"collection {number // 10}" for number in range(120)])


def run_of(strength: float, seed: int, paths: np.ndarray | None = None) -> dict[str, ScoreTable]:
    logits = strength * TRUTH + np.random.default_rng(seed).normal(size=120)
    named = np.array([f"{number}.png" for number in range(120)]) if paths is None else paths
    texts = {name: np.full(120, "") for name in ("generator", "kind", "error")}
    columns = {"path": named, "label": TRUTH, "source": SOURCES, "logit_generated": logits}
    return {"dev": ScoreTable(texts | columns)}


def test_a_difference_is_that_of_the_means_over_runs():
    runs = {"plain": [run_of(0.5, 1)], "better": [run_of(2.5, 2), run_of(3.0, 3)]}
    told = differences(runs, ["plain"], resamples=200)
    areas = {
        name: [roc_auc_score(TRUTH, run["dev"]["logit_generated"]) for run in of]
        for name, of in runs.items()
    }
    better = told["better"]["dev"]
    assert better["auroc"] == pytest.approx(areas["better"], abs=1e-6)
    for over in ("over_images", "over_collections"):
        found = better["against"]["plain"][over]
        assert found["value"] == pytest.approx(
            np.mean(areas["better"]) - areas["plain"][0], abs=1e-6
        )
        assert 0 < found["low"] < found["value"] < found["high"]
    assert told["plain"]["dev"]["against"] == {}
    assert [row[:2] for row in grid(told).rows] == [("plain", "dev"), ("better", "dev")]
    assert grid(told).rows[1][3].startswith(f"{found['value']:.3f} [")


def test_the_order_of_rows_does_not_matter():
    run = run_of(1.0, 1)["dev"]
    order = np.random.default_rng(0).permutation(120)
    turned = ScoreTable({name: values[order] for name, values in run.columns.items()})
    told = differences({"plain": [{"dev": run}], "same": [{"dev": turned}]}, ["plain"])
    against = told["same"]["dev"]["against"]["plain"]["over_collections"]
    assert (against["value"], against["low"], against["high"]) == (0.0, 0.0, 0.0)


def test_other_images_and_absent_methods_are_refused():
    others = run_of(1.0, 1, np.array([f"other {number}.png" for number in range(120)]))
    with pytest.raises(MissingDataError, match="Two methods answer for other images"):
        differences({"plain": [run_of(1.0, 1)], "other": [others]}, ["plain"])
    with pytest.raises(MissingDataError, match="Runs of one method"):
        differences({"plain": [run_of(1.0, 1), others]}, ["plain"])
    with pytest.raises(MissingDataError, match="No scores of plain"):
        differences({"other": [others]}, ["plain"])
