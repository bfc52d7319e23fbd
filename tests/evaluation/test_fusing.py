"""Fitting fusions on held-out sources, and their cost in false alarms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.data.manifest import write_manifest
from gammascope.detection import fusion
from gammascope.detection.judge import SETTINGS, Judge, JudgeSettings, Tuning
from gammascope.detectors import linear_probe
from gammascope.errors import MissingDataError, RecipeError
from gammascope.evaluation.fusing import entries_of, fuse
from gammascope.sample import Entry, Label


def probe(path: Path, seed: int, recipe: dict[str, Any] | None = None) -> Path:
    torch.manual_seed(seed)
    detector = linear_probe.build(linear_probe.TINY)
    facts = checkpoints.Facts(
        "linear_probe", settings.plain(detector.config), detector.view, recipe=recipe or {}
    )
    checkpoints.save(path, detector, facts)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Entry]:
    """Smooth reals and rough fakes of two sources."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    entries = []
    for number in range(16):
        fake = number % 2
        noise = rng.normal(0, 4 + 30 * fake, (40, 40, 3))
        pixels = np.clip(rng.uniform(60, 190) + noise, 0, 255).astype(np.uint8)
        path = folder / f"{number}.png"
        PIL.Image.fromarray(pixels).save(path)
        label = Label.FAKE if fake else Label.REAL
        entries.append(
            Entry(path, label, generator="g" if fake else None, source="ab"[number // 2 % 2])
        )
    return entries


@pytest.fixture
def members(tmp_path) -> list[Path]:
    return [probe(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]


@pytest.mark.parametrize("kind", ["logistic", "any", "cascade"])
def test_a_fitted_fusion_is_loaded_and_keeps_to_its_rates(kind, members, images, tmp_path):
    out = tmp_path / "fused" / "both.json"
    plan, costs = fuse(members, images, out, kind=kind)
    assert plan.members == ("../1.safetensors", "../2.safetensors")
    known = plan.calibration["generated"]
    assert (known.photos, known.sources, known.rates) == (8, ("a", "b"), (0.05, 0.01))
    names = {cost.name: cost for cost in costs}
    assert names[f"{kind}, at its threshold"].false_alarms <= 0.01
    alone = [names[f"{n}.safetensors alone, at one half"].false_alarms for n in (1, 2)]
    together = names["any of them, at one half each"].false_alarms
    assert max(alone) <= together <= sum(alone) + 1e-9
    report = fusion.load(out).report(images[0].path)
    assert report.calibrated


def test_the_sum_ranks_the_images_it_was_fitted_to_no_worse_than_its_members(
    members, images, tmp_path
):
    _, costs = fuse(members, images, tmp_path / "both.json")
    assert costs[-1].auroc >= max(cost.auroc for cost in costs[:2]) - 0.02


def test_sources_that_a_member_trained_on_are_refused(images, members, tmp_path):
    recipe = {"data": {"validation_sources": ["a"]}}
    seen = probe(tmp_path / "seen.safetensors", 3, recipe)
    with pytest.raises(MissingDataError, match="trained on source b"):
        fuse([members[0], seen], images, tmp_path / "f.json")


def test_sources_that_a_judge_was_tuned_on_are_refused(images, members, tiny_llava, tmp_path):
    judge = Judge.load(tiny_llava)
    judge.how = replace(judge.how, tuning=Tuning(), sources=("b",))
    judge.save(tmp_path / "judge")
    with pytest.raises(MissingDataError, match="judge was, or may have been, trained on source b:"):
        fuse([members[0], tmp_path / "judge"], images, tmp_path / "f.json")


def test_what_a_fusion_holds_is_asked_for_its_sources_too(images, members, tmp_path):
    """However deep a member lies, and behind whichever first member."""
    manifest = tmp_path / "manifest.csv"
    write_manifest(images, manifest)
    recipe = {"data": {"validation_sources": ["a"]}}
    seen = probe(tmp_path / "seen.safetensors", 3, recipe)
    fusion.save(tmp_path / "two.json", fusion.Plan("any", (members[0].name, seen.name)))
    with pytest.raises(MissingDataError, match="trained on source b"):
        fuse([members[1], tmp_path / "two.json"], images, tmp_path / "f.json", kind="cascade")
    kept = probe(tmp_path / "kept.safetensors", 4, recipe)
    both = [kept, tmp_path / "kept.json"]
    fusion.save(both[1], fusion.Plan("any", (kept.name, seen.name)))
    found = entries_of(both, [manifest], [])
    assert {entry.source for entry in found} == {"a"}
    _, costs = fuse(both, found, tmp_path / "f.json", kind="cascade")
    assert {cost.name for cost in costs} > {"kept.json alone, at one half"}


def test_without_a_source_only_what_no_member_saw_is_taken(images, tmp_path):
    manifest, judge = tmp_path / "manifest.csv", tmp_path / "judge"
    write_manifest(images, manifest)
    recipe = {"data": {"validation_sources": ["a", "b"]}}
    expert = probe(tmp_path / "expert.safetensors", 1, recipe)
    for sources, left in ({("b",): {"a"}, (): {"a", "b"}}).items():
        judge.mkdir(exist_ok=True)
        how = JudgeSettings("a/model", tuning=Tuning() if sources else None, sources=sources)
        (judge / SETTINGS).write_text(json.dumps(settings.plain(how)))
        found = entries_of([expert, judge], [manifest], [])
        assert {entry.source for entry in found} == left


def test_one_class_is_not_enough(images, members, tmp_path):
    with pytest.raises(MissingDataError, match="one class is missing"):
        fuse(members, images[::2], tmp_path / "f.json")


def test_a_cascade_of_three_is_refused(images, members, tmp_path):
    with pytest.raises(RecipeError, match="expected 2"):
        fuse([*members, members[0]], images, tmp_path / "f.json", kind="cascade")
