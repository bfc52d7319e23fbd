"""Cascades and fusions of tiny detectors: what is asked of whom, and what the answers are worth."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.checkpoints import Calibration
from gammascope.cli import detector
from gammascope.detection import fusion
from gammascope.detection.pipeline import Execution, Pipeline
from gammascope.detectors import linear_probe
from gammascope.errors import (
    ChecksumError,
    IncompatibleCheckpointError,
    InterruptedScanError,
    MissingDataError,
    RecipeError,
)

SCALE = Calibration(2.0, 1.0, 3.0, (0.05, 0.01), 50, ("a",), offset=1.0)


def member(path: Path, seed: int, calibration: Calibration | None = SCALE) -> Path:
    torch.manual_seed(seed)
    detector = linear_probe.build(linear_probe.TINY)
    known = {} if calibration is None else {"generated": calibration}
    facts = checkpoints.Facts(
        "linear_probe", settings.plain(detector.config), detector.view, calibration=known
    )
    checkpoints.save(path, detector, facts)
    return path


@pytest.fixture
def two(tmp_path) -> list[Pipeline]:
    return [Pipeline.load(member(tmp_path / f"{n}.safetensors", n)) for n in (1, 2)]


def pictures(count: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [
        rng.integers(0, 40 + 18 * n, (40, 30 + n, 3)).astype(np.uint8) for n in range(1, count + 1)
    ]


def odds(pipeline: Pipeline, images: list[np.ndarray]) -> np.ndarray:
    return np.array([fusion.log_odds(pipeline, scores) for scores in pipeline.scores_of(images)])


def test_log_odds_are_on_the_scale_of_the_calibration(two):
    (image, *_) = pictures()
    logit = two[0].scores(image).answers["generated"]
    assert fusion.log_odds(two[0], two[0].scores(image)) == pytest.approx((logit - 1.0) / 2.0)


def test_the_strong_one_is_asked_only_in_the_zone(two, monkeypatch):
    images = pictures()
    fast, strong = odds(two[0], images), odds(two[1], images)
    chance = 1 / (1 + np.exp(-np.sort(fast)))
    zone = (float(chance[3]) - 1e-6, float(chance[7]) + 1e-6)  # five of the twelve
    asked: list[int] = []
    looking = two[1].scores_of

    def counted(some, stop=None):
        asked.append(len(some))
        return looking(some, stop)

    monkeypatch.setattr(two[1], "scores_of", counted)
    both = fusion.cascade(two[0], two[1], zone)
    found = np.array([scores.answers["generated"] for scores in both.scores_of(images)])
    inside = (fast >= np.sort(fast)[3] - 1e-6) & (fast <= np.sort(fast)[7] + 1e-6)
    np.testing.assert_allclose(found, np.where(inside, strong, fast), atol=1e-4)
    assert asked == [5]
    assert (both.saving.pictures, both.saving.passed_on) == (12, 5)
    assert "5 of 12 pictures (42 %)" in str(both.saving)


def test_where_nothing_is_unsure_the_strong_one_rests(two):
    both = fusion.cascade(two[0], two[1], (0.0, 1e-12))
    both.scores_of(pictures(3))
    assert both.saving.passed_on == 0
    assert "0 of 3" in str(both.saving)


def test_unfitted_thresholds_bound_the_false_alarms(two):
    known = fusion.cascade(two[0], two[1]).facts.calibration["generated"]
    assert known.rates == pytest.approx((0.1, 0.02))
    assert (known.uncertain_from, known.fake_from) == (0.0, 1.0)


def test_a_member_without_calibration_leaves_the_cascade_without(tmp_path):
    raw = Pipeline.load(member(tmp_path / "raw.safetensors", 3, None))
    report = fusion.cascade(raw, raw).report(pictures(1)[0])
    assert not report.calibrated
    assert any("Not calibrated" in caveat for caveat in report.caveats)


def test_a_fused_detector_reports_like_any_other(two):
    both = fusion.cascade(two[0], two[1], (0.0, 1.0))
    image = np.zeros((40, 90, 3), np.uint8)
    report = both.report(image)
    assert report.method == "cascade(linear_probe, linear_probe)"
    assert report.probability == pytest.approx(
        1 / (1 + math.exp(-odds(two[1], [image])[0])), abs=1e-4
    )
    assert len(report.tiles) > 1
    assert both.weights_sha256 not in {two[0].weights_sha256, two[1].weights_sha256}


@pytest.mark.parametrize(
    ("first", "second", "fake"),
    [(1.0, 1.0, True), (1.0, -1.0, True), (-1.0, 1.0, True), (-1.0, -1.0, False)],
)
def test_any_is_the_logical_or(first, second, fake):
    plan = fusion.Plan("any", ("a", "b"))
    assert (plan.fused(np.array([[first, second]]))[0] > 0) == fake


def test_thresholds_of_the_first_member_alone_are_not_those_of_a_fusion(tmp_path):
    paths = [member(tmp_path / f"{n}.safetensors", n) for n in (1, 2)]
    own = replace(SCALE, uncertain_from=6.0, knots=())
    pipelines = [Pipeline.load(path, execution=Execution(profile="fast")) for path in paths]
    for pipeline in pipelines:
        pipeline.facts = replace(pipeline.facts, profiles={"fast": {"generated": own}})
    both = fusion.cascade(*pipelines)
    assert both.profile == "fast"
    assert both.facts.calibration["generated"].uncertain_from == 0.0
    assert not both.facts.profiles


def test_any_measures_the_excess_over_each_threshold():
    plan = fusion.Plan("any", ("a", "b"), thresholds=(1.0, 3.0))
    assert plan.fused(np.array([[2.0, 3.5], [0.0, 2.0]])).tolist() == [1.0, -1.0]


def test_logistic_is_a_weighted_sum():
    plan = fusion.Plan("logistic", ("a", "b"), weights=(2.0, 0.5), bias=-1.0)
    assert plan.fused(np.array([[1.0, 4.0]])).tolist() == [3.0]


def test_a_file_comes_back_and_finds_its_members(tmp_path, two):
    digests = tuple(pipeline.weights_sha256 for pipeline in two)
    names = ("1.safetensors", "2.safetensors")
    plan = fusion.Plan("logistic", names, digests, (1.0, 1.0), calibration={"generated": SCALE})
    fusion.save(tmp_path / "both.json", plan)
    assert fusion.read_plan(tmp_path / "both.json") == plan
    images = pictures(2)
    found = [s.logit for s in fusion.load(tmp_path / "both.json").scores_of(images)]
    np.testing.assert_allclose(found, odds(two[0], images) + odds(two[1], images), rtol=1e-5)
    member(tmp_path / "2.safetensors", 9)
    with pytest.raises(ChecksumError, match="fuse again"):
        fusion.load(tmp_path / "both.json")


def test_a_fusion_is_a_member_like_any_other(tmp_path, two):
    """As the strong one of a cascade, in whatever folder it lies."""
    (tmp_path / "both").mkdir()
    sum_of = fusion.Plan("logistic", ("../1.safetensors", "../2.safetensors"), weights=(0.5, 1.0))
    fusion.save(tmp_path / "both" / "sum.json", sum_of)
    fusion.save(tmp_path / "all.json", fusion.Plan("cascade", ("1.safetensors", "both/sum.json")))
    first = Pipeline.load(tmp_path / "1.safetensors")
    strong = fusion.load(tmp_path / "both" / "sum.json")
    found = fusion.load(tmp_path / "all.json").scores_of(pictures())
    expected = fusion.cascade(first, strong).scores_of(pictures())
    assert [s.answers for s in found] == [s.answers for s in expected]
    loaded = detector.load(
        str(tmp_path / "1.safetensors"), then=str(tmp_path / "both" / "sum.json")
    )
    assert isinstance(loaded, fusion.Fused)
    assert [leaf.name for leaf in fusion.leaves(tmp_path / "all.json")] == [
        *("1.safetensors", "1.safetensors", "2.safetensors")
    ]


def test_a_fusion_that_is_a_member_of_itself_is_refused(tmp_path, two):
    fusion.save(tmp_path / "all.json", fusion.Plan("cascade", ("1.safetensors", "other.json")))
    fusion.save(tmp_path / "other.json", fusion.Plan("cascade", ("1.safetensors", "all.json")))
    with pytest.raises(IncompatibleCheckpointError, match="member of itself"):
        fusion.load(tmp_path / "all.json")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, MissingDataError, "No fusion file"),
        ("{", IncompatibleCheckpointError, "no JSON"),
        ("[]", IncompatibleCheckpointError, "no fusion file of format 1"),
        (
            json.dumps({"format": 1, "kind": "any", "members": ["a"]}),
            IncompatibleCheckpointError,
            "at least 2",
        ),
        (
            json.dumps({"format": 1, "kind": "all", "members": ["a", "b"]}),
            IncompatibleCheckpointError,
            "kind",
        ),
        (
            json.dumps({"format": 1, "kind": "logistic", "members": ["a", "b"]}),
            IncompatibleCheckpointError,
            "0 weights",
        ),
    ],
)
def test_what_is_no_fusion_file_is_refused(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "f.json").write_text(content)
    with pytest.raises(error, match=message):
        fusion.load(tmp_path / "f.json")


def test_an_impossible_zone_is_refused(two):
    with pytest.raises(RecipeError, match="lower one first"):
        fusion.cascade(two[0], two[1], (0.9, 0.1))


def test_edits_are_answered_by_the_first_member(two):
    edited = replace(SCALE, temperature=3.0)
    two[0].facts = replace(two[0].facts, calibration={"generated": SCALE, "edited": edited})
    assert fusion.cascade(two[0], two[1]).facts.calibration["edited"] == edited


def test_every_member_is_run_as_was_asked(two, tmp_path):
    paths = [member(tmp_path / f"m{n}.safetensors", n) for n in (1, 2)]
    plan = fusion.Plan("cascade", tuple(path.name for path in paths), zone=(0.0, 1.0))
    fusion.save(tmp_path / "fused.json", plan)
    asked = Execution(engine="torch", profile="thorough")
    loaded = fusion.load(tmp_path / "fused.json", execution=asked)
    assert [one.profile for one in loaded.members] == ["thorough"] * 2
    assert loaded.profile == "thorough"
    assert {one.network.name for one in loaded.members} == {"torch cpu"}
    with_option = detector.load(str(paths[0]), then=str(paths[1]), execution=asked)
    assert isinstance(with_option, fusion.Fused)
    assert [one.profile for one in with_option.members] == ["thorough"] * 2


def test_a_judge_that_cannot_be_run_as_was_asked_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="runs on torch in its own precision"):
        fusion.member_at(tmp_path, execution=Execution(precision="bf16"))


def test_stopping_reaches_every_member(two):
    stop = threading.Event()

    class Stopping(Pipeline):
        def scores_of(self, images, stop=None):
            assert stop is not None
            stop.set()
            return super().scores_of(images, stop)

    strong = Stopping(two[1].detector, two[1].facts, two[1].weights_sha256)
    with pytest.raises(InterruptedScanError):
        fusion.cascade(two[0], strong, (0.0, 1.0)).scores_of(pictures(2), stop)


def test_counts_hold_when_threads_share_a_cascade(two):
    fused = fusion.cascade(two[0], two[1], (0.0, 1.0))
    (image, *_) = pictures()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: fused.scores_of([image]), range(64)))
    assert (fused.saving.pictures, fused.saving.passed_on) == (64, 64)


def test_tiles_of_a_fitted_fusion_keep_the_probabilities_of_the_first_member(two):
    image = np.random.default_rng(0).integers(0, 255, (40, 90, 3), np.uint8)
    alone = two[0].report(image).tiles
    both = fusion.cascade(two[0], two[1], (0.0, 1.0))
    known = replace(both.facts.calibration["generated"], temperature=0.5, offset=-3.0)
    both.facts = replace(both.facts, calibration={"generated": known})
    for tile, other in zip(both.report(image).tiles, alone, strict=True):
        assert tile.probabilities["generated"] == pytest.approx(
            other.probabilities["generated"], abs=1e-4
        )
