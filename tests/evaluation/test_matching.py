"""Images of matched sizes: as many of either class in every bucket, whatever the order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gammascope.evaluation.score_table import ScoreTable, draws_of, same_sizes
from gammascope.evaluation.tables import comparison, grids, markdown, summarise

SIDES = st.integers(0, 4000)
IMAGES = st.lists(st.tuples(SIDES, SIDES, st.integers(-1, 1)), max_size=60)


def arrays(images: list[tuple[int, int, int]]) -> tuple[Any, ...]:
    width, height, truth = np.array(images, dtype=np.int64).reshape(-1, 3).T
    return width, height, truth, np.array([f"folder/{at}.jpg" for at in range(len(images))], "U20")


@given(IMAGES)
def test_every_bucket_holds_as_many_of_either_class(images):
    width, height, truth, path = arrays(images)
    kept = same_sizes(width, height, truth, draws_of(path))
    assert not kept[(width == 0) | (height == 0) | (truth < 0)].any()
    buckets: dict[tuple[int, int], list[int]] = {}
    for w, h, t, k in zip(width, height, truth, kept, strict=True):
        if w and h and t >= 0:
            sides = sorted((int(w), int(h)))
            bucket = (int(np.floor(2 * np.log2(sides[0]))), int(np.floor(2 * np.log2(sides[1]))))
            counts = buckets.setdefault(bucket, [0, 0, 0, 0])
            counts[int(t)] += 1
            counts[2 + int(t)] += int(k)
    for reals, fakes, reals_kept, fakes_kept in buckets.values():
        assert reals_kept == fakes_kept == min(reals, fakes)


@given(IMAGES, st.randoms())
def test_the_order_of_the_list_and_the_folder_do_not_matter(images, random):
    width, height, truth, path = arrays(images)
    kept = same_sizes(width, height, truth, draws_of(path))
    order = np.array(random.sample(range(len(images)), len(images)), dtype=np.int64)
    moved = np.array([f"other/{name.split('/')[1]}" for name in path.tolist()], dtype="U20")
    again = same_sizes(width[order], height[order], truth[order], draws_of(moved[order]))
    np.testing.assert_array_equal(again, kept[order])


def test_a_detector_of_sizes_is_at_chance_among_matched_images():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 400)
    side = np.where(label == 0, rng.choice([400, 1024], 800, p=[0.8, 0.2]), 1024)
    side[rng.random(800) < 0.1] = 400
    texts = {name: np.full(800, "") for name in ("generator", "kind", "source", "error")}
    columns = {
        "path": np.array([f"{at}.jpg" for at in range(800)]),
        "label": label,
        "width": side,
        "height": side,
        "logit_generated": side / 512.0 - 1.5,
    }
    summary = summarise(ScoreTable(columns | texts), resamples=100)
    assert summary["overall"]["auroc"]["value"] > 0.8
    matched = summary["size_matched"]
    assert matched["yes"] == matched["no"] > 80
    assert matched["overall"]["auroc"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert matched["overall"]["balanced_accuracy"]["value"] == pytest.approx(0.5, abs=1e-6)
    text = markdown([*grids(summary), *comparison({"native": summary})])
    assert f"native ({2 * matched['yes']} images)" in text


def test_classes_without_a_common_size_leave_nothing():
    kept = same_sizes(
        np.array([100, 900]), np.array([100, 900]), np.array([0, 1]), draws_of(np.array(["a", "b"]))
    )
    assert not kept.any()
