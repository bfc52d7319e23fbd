"""A fusion and a cascade are fitted to collections left out and judged on pictures that nothing was fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gammascope.checkpoints import expit
from gammascope.detection.fusion import ZONE
from gammascope.errors import MissingDataError
from gammascope.evaluation import together
from gammascope.evaluation.score_table import ScoreTable

COUNT = 240
TRUTH = np.tile([0, 1], COUNT // 2)
SOURCES = np.array([f"collection {number // 60}" for number in range(COUNT)])
COLUMNS = ("validation, native", "validation, JPEG 90", "dev, native", "dev, JPEG 90")


def table(logits: np.ndarray, name: str, sources: np.ndarray = SOURCES) -> ScoreTable:
    texts = {column: np.full(COUNT, "") for column in ("generator", "kind", "error")}
    named = np.array([f"{name.partition(',')[0]} {number}.png" for number in range(COUNT)])
    columns = {"path": named, "label": TRUTH, "source": sources, "logit_generated": logits}
    return ScoreTable(texts | columns)


def run_of(strength: float, seed: int) -> list[dict[str, ScoreTable]]:
    """Answers that lean to the truth, with noise of their own in each column, on a scale of their own."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: table(seed * (strength * (TRUTH - 0.5) + rng.normal(size=COUNT)) + 3, name)
            for name in COLUMNS
        }
    ]


@pytest.fixture
def runs() -> dict[str, list[dict[str, ScoreTable]]]:
    return {
        "weak": run_of(0.2, 1),
        "good": run_of(1.2, 2),
        "best": run_of(1.5, 3),
        "fair": run_of(0.8, 4),
        "shipped": run_of(5.0, 5),
    }


def test_the_three_best_are_fused_and_judged_on_other_pictures(runs):
    told = together.judged(runs, "shipped", resamples=50)
    assert told["members"] == ["best", "good", "fair"], "nor the one that they are compared with"
    assert list(told["ways"]) == [
        *told["members"],
        together.FUSION,
        together.CASCADE,
        "shipped",
    ]
    fusion = told["ways"][together.FUSION]
    dev = fusion["judged"]["dev, native"]
    alone = [told["ways"][name]["judged"]["dev, native"]["auroc"][0] for name in told["members"]]
    assert alone[0] == pytest.approx(
        roc_auc_score(TRUTH, runs["best"][0]["dev, native"]["logit_generated"]), abs=1e-6
    )
    assert dev["auroc"][0] > max(alone), "independent errors average out"
    shipped = told["ways"]["shipped"]["judged"]["dev, native"]["auroc"][0]
    gained = dev["against"]["shipped"]["over_images"]
    assert gained["value"] == pytest.approx(dev["auroc"][0] - shipped, abs=2e-6)
    assert gained["low"] < gained["value"] < gained["high"] < 0
    assert fusion["fitted"].keys() == {"native", "JPEG 90"}
    assert told["ways"]["shipped"]["fitted"] == {}, "it may have learnt from them"
    lines = together.grid(told).rows
    assert [row[0] for row in lines[::2]] == list(told["ways"])
    assert {len(row) for row in lines} == {len(together.grid(told).header)}


def test_dev_changes_nothing_that_is_fitted(runs):
    before = together.judged(runs, "shipped", resamples=2)["ways"]
    for of in runs.values():
        for name in ("dev, native", "dev, JPEG 90"):
            of[0][name] = table(-of[0][name]["logit_generated"], name)
    after = together.judged(runs, "shipped", resamples=2)["ways"]
    for way, told in before.items():
        assert after[way]["threshold"] == told["threshold"]
        assert after[way]["fitted"] == told["fitted"]
        assert after[way]["judged"] != told["judged"]


def test_what_is_said_of_a_collection_does_not_rest_on_its_own_truth(runs):
    seen = together._Seen.of([runs[name][0] for name in ("best", "good", "fair")], "validation, ")
    own = seen.sources == "collection 3"
    lied = together._Seen(
        seen.logits, np.where(own, 1 - seen.truth, seen.truth), seen.sources, seen.column, seen.row
    )
    honest, other = together._cross_fitted(seen), together._cross_fitted(lied)
    for way in honest:
        assert np.array_equal(honest[way][own], other[way][own])
        assert not np.allclose(honest[way][~own], other[way][~own])


def test_the_cascade_asks_the_others_where_the_best_is_unsure(runs):
    logits = np.stack([runs[name][0]["dev, native"]["logit_generated"] for name in runs], 1)[:, 1:4]
    fit = together._Fit(logits, TRUTH)
    said = fit.said(logits)
    lead = fit.scales[0].log_odds(logits[:, 0])
    asked = (expit(lead) >= ZONE[0]) & (expit(lead) <= ZONE[1])
    assert 0 < asked.sum() < COUNT
    assert np.array_equal(fit.unsure(logits), asked)
    assert np.array_equal(said[together.CASCADE][~asked], lead[~asked])
    assert np.array_equal(said[together.CASCADE][asked], said[together.FUSION][asked])
    told = together.judged(runs, "shipped", resamples=2)["ways"]
    assert 0 < told[together.CASCADE]["judged"]["dev, native"]["passed_on"]["value"] < 1
    assert "passed_on" not in told[together.FUSION]["judged"]["dev, native"]


def test_a_threshold_of_its_own_is_kept(runs):
    logits = runs["shipped"][0]["dev, native"]["logit_generated"]
    at = float(np.median(logits))
    told = together.judged(runs, "shipped", at, resamples=2)["ways"]["shipped"]
    found = told["judged"]["dev, native"]
    assert found["found"]["value"] == pytest.approx((logits[TRUTH == 1] >= at).mean(), abs=1e-6)
    assert found["called_fake"]["value"] == pytest.approx(
        (logits[TRUTH == 0] >= at).mean(), abs=1e-6
    )
    fitted = together.judged(runs, "shipped", resamples=2)["ways"]["shipped"]
    assert fitted["threshold"] != told["threshold"]


def test_pictures_that_one_did_not_answer_for_count_for_none(runs):
    broken = runs["fair"][0]["dev, native"]
    logits = np.where(np.arange(COUNT) == 7, np.nan, broken["logit_generated"])
    runs["fair"][0]["dev, native"] = table(logits, "dev, native")
    told = together.judged(runs, "shipped", resamples=2)["ways"]
    assert told["best"]["judged"]["dev, native"]["found"]["n"] == COUNT // 2 - 1
    assert told["best"]["judged"]["dev, JPEG 90"]["found"]["n"] == COUNT // 2


def test_what_is_too_little_is_told(runs):
    fewer = {name: runs[name] for name in ("good", "best", "shipped")}
    with pytest.raises(MissingDataError, match="2 methods are measured: expected at least 3"):
        together.judged(fewer, "shipped")
    alone = {
        name: [
            {
                column: table(of["logit_generated"], column, np.full(COUNT, "one"))
                for column, of in run[0].items()
            }
        ]
        for name, run in runs.items()
    }
    with pytest.raises(MissingDataError, match="cross-fitting needs two"):
        together.judged(alone, "shipped")
    bare = {
        name: [{column: of for column, of in run[0].items() if column.startswith("validation")}]
        for name, run in runs.items()
    }
    with pytest.raises(MissingDataError, match="No column begins with 'dev, '"):
        together.judged(bare, "shipped")
    runs["good"][0]["dev, native"] = table(
        runs["good"][0]["dev, native"]["logit_generated"], "other"
    )
    with pytest.raises(MissingDataError, match="other pictures in column 'dev, native'"):
        together.judged(runs, "shipped")
