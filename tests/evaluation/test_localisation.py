"""Pixel metrics and their conventions, against scikit-learn on random maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from gammascope.evaluation.localisation import (
    GRID,
    best_threshold,
    counts_over_grid,
    locate,
    mean,
    pixel_auroc,
)
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import score
from gammascope.evaluation.tables import summarise
from gammascope.sample import Entry, Label, Sample

SIZE = (24, 30)


def random_map(seed: int, *, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(SIZE) < rng.uniform(0.05, 0.6)
    probability = np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1).astype(np.float32)
    return (np.round(probability, 1) if coarse else probability), truth


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("coarse", [False, True])
def test_the_area_agrees_with_scikit_learn(seed, coarse):
    probability, truth = random_map(seed, coarse=coarse)
    expected = roc_auc_score(truth.ravel(), probability.ravel())
    assert pixel_auroc(probability, truth) == pytest.approx(expected, abs=1e-12)


def test_pixels_that_were_not_looked_at_rank_below_all_others():
    probability, truth = random_map(0)
    probability[:5] = np.nan
    filled = np.where(np.isnan(probability), -1.0, probability)
    expected = roc_auc_score(truth.ravel(), filled.ravel())
    assert pixel_auroc(probability, truth) == pytest.approx(expected, abs=1e-12)
    blind = np.full(SIZE, np.nan, np.float32)
    assert pixel_auroc(blind, truth) == 0.5
    assert best_threshold(blind, truth) == (1.0, 0, 0)


def test_nothing_or_everything_true_has_no_area():
    probability, truth = random_map(0)
    assert math.isnan(pixel_auroc(probability, np.zeros_like(truth)))
    assert math.isnan(pixel_auroc(probability, np.ones_like(truth)))
    assert best_threshold(probability, np.zeros_like(truth)).tp == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("coarse", [False, True])
def test_no_threshold_is_better_than_the_best(seed, coarse):
    probability, truth = random_map(seed, coarse=coarse)
    best = best_threshold(probability, truth)
    marked = probability > best.threshold
    assert (int((marked & truth).sum()), int((marked & ~truth).sum())) == (best.tp, best.fp)
    found = f1_score(truth.ravel(), marked.ravel())
    levels = [-1.0, *np.unique(probability).tolist()]
    every = [f1_score(truth.ravel(), (probability > level).ravel()) for level in levels]
    assert found == pytest.approx(max(every), abs=1e-12)


def test_counts_over_the_grid_are_those_of_each_threshold():
    probability, truth = random_map(3)
    counts = counts_over_grid(probability, truth)
    for threshold in GRID:
        marked = probability > threshold
        assert counts[f"tp@{threshold}"] == (marked & truth).sum()
        assert counts[f"fp@{threshold}"] == (marked & ~truth).sum()


Maps = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Known:
    answers: Mapping[str, float]
    maps: Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def maps() -> Maps:
    """Six images with a part true, one nowhere true and marked, one nowhere and clean, one true throughout."""
    made = [random_map(seed, coarse=True) for seed in range(6)]
    nowhere, all_over = np.zeros(SIZE, np.bool_), np.ones(SIZE, np.bool_)
    return [
        *made,
        (made[0][0], nowhere),
        (np.zeros(SIZE, np.float32), nowhere),
        (made[1][0], all_over),
    ]


@pytest.fixture(scope="module")
def table(maps, tmp_path_factory) -> ScoreTable:
    root = tmp_path_factory.mktemp("maps")
    entries = []
    for number, (_, truth) in enumerate(maps):
        path, mask = root / f"{number}.png", root / f"{number}-mask.png"
        PillowImage.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(path)
        PillowImage.fromarray(truth.astype(np.uint8) * 255).save(mask)
        entries.append(Entry(path, Label.FAKE, kind="splicing", edited_path=mask))

    def predict(sample: Sample) -> Known:
        number = int(sample.image[0, 0, 0])
        return Known({"edited": float(number)}, {"edited": maps[number][0]})

    return score(predict, entries)


def expected(maps: Maps, level: float, black: str, measure: Any) -> float:
    """Do it the slow way: image by image, with scikit-learn."""
    values = []
    for probability, truth in maps:
        if truth.all():
            continue
        marked = probability > level
        if truth.any():
            values.append(measure(truth.ravel(), marked.ravel(), zero_division=0.0))
        elif black == "one":
            values.append(measure(truth.ravel(), marked.ravel(), zero_division=1.0))
        elif black == "zero":
            values.append(measure(truth.ravel(), marked.ravel(), zero_division=0.0))
    return float(np.mean(values))


@pytest.mark.parametrize("black", ["skip", "one", "zero"])
def test_every_convention_agrees_with_scikit_learn(table, maps, black):
    fixed = locate(table.columns, "edited", black=black)
    assert fixed.threshold == 0.5
    assert fixed.f1.value == pytest.approx(expected(maps, 0.5, black, f1_score))
    assert fixed.iou.value == pytest.approx(expected(maps, 0.5, black, jaccard_score))
    best = locate(table.columns, "edited", threshold="best_over_dataset", black=black)
    scores = {level: expected(maps, level, "skip", f1_score) for level in GRID}
    assert best.threshold == max(GRID, key=lambda level: scores[level])
    assert best.f1.value == pytest.approx(expected(maps, best.threshold, black, f1_score))
    image = locate(table.columns, "edited", threshold="best_per_image", black=black)
    tops = [
        max(f1_score(truth.ravel(), (p > level).ravel()) for level in [-1.0, *np.unique(p)])
        for p, truth in maps
        if truth.any() and not truth.all()
    ]
    clean = {"skip": [], "one": [1.0, 1.0], "zero": [0.0, 0.0]}[black]
    assert image.f1.value == pytest.approx(np.mean([*tops, *clean]))
    assert math.isnan(image.threshold)
    assert image.f1.n == (6 if black == "skip" else 8)
    # Where an image's best threshold may be any, it is never worse than one for all.
    if black == "skip":
        assert fixed.f1.value <= best.f1.value <= image.f1.value


def test_a_summary_states_every_convention(table, maps):
    pixels = summarise(table, "edited", resamples=20, black="one")["pixels"]["edited"]
    assert pixels["black"] == "one"
    assert pixels["f1"]["value"] == pytest.approx(expected(maps, 0.5, "one", f1_score), abs=1e-6)
    areas = [roc_auc_score(t.ravel(), p.ravel()) for p, t in maps[:6]]
    assert pixels["auroc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert pixels["threshold_over_dataset"] in GRID


def test_a_table_of_older_times_says_what_it_lacks(table):
    old = {name: table[name] for name in table.columns if "@" not in name and "best" not in name}
    assert locate(old, "edited").f1.n == 6
    missing = locate(old, "edited", threshold="best_per_image")
    assert math.isnan(missing.f1.value)
    assert missing.f1.reason == "counts at 0.5 only"
    assert mean(np.array([np.nan])).reason


def test_a_mask_of_the_wrong_size_is_named_and_costs_nothing_else(table, tmp_path):
    photo = np.full((*SIZE, 3), 200, np.uint8)
    entries = []
    for name in ("good", "bad", "gone"):
        PillowImage.fromarray(photo).save(tmp_path / f"{name}.png")
        mask = np.zeros(SIZE if name == "good" else (5, 7), np.uint8)
        mask[:2] = 255
        if name != "gone":
            PillowImage.fromarray(mask).save(tmp_path / f"{name}-mask.png")
        edited = tmp_path / f"{name}-mask.png"
        path = Path(tmp_path / f"{name}.png")
        entries.append(Entry(path, Label.FAKE, kind="splicing", edited_path=edited))

    found = Known({"edited": 1.0}, {"edited": np.ones(SIZE, np.float32)})
    scored = score(lambda _: found, entries)
    assert scored.failures == ()
    assert scored["logit_edited"].tolist() == [1.0, 1.0, 1.0]
    assert np.isfinite(scored["edited_tp"]).tolist() == [True, False, False]
    good, bad, gone = scored["mask_error"].tolist()
    assert good == ""
    assert "bad-mask.png is 7x5 pixels and its image 30x24" in bad
    assert "No mask at" in gone
    summary = summarise(scored, "edited", resamples=20)
    assert summary["masks_unusable"] == 2
    assert summary["pixels"]["edited"]["images"] == 1
