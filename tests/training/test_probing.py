"""Fitting to cached features: a recipe chooses it, and no view is looked at twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.data.laws import Mixture
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import base
from gammascope.errors import MissingDataError, RecipeError
from gammascope.training import probing
from gammascope.training.following import follow
from gammascope.training.loop import CHECKPOINT, LOG
from gammascope.training.recipe import (
    Data,
    Optimisation,
    Probing,
    Recipe,
    Rhythm,
    plain_recipe,
    recipe_of,
    without_places,
)
from gammascope.training.run_folder import Progress

ONLY = Mixture(0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture
def recipe(collection, tmp_path) -> Recipe:
    return Recipe(
        method="linear_probe",
        config=replace(base.get("linear_probe").tiny, backbone="embedded"),
        data=Data((str(collection),), "train", ("held-out",), mixture=ONLY, workers=0),
        optimisation=Optimisation(batch=8),
        rhythm=Rhythm(validation_views=8),
        probing=Probing(views=24, cache=str(tmp_path / "cache")),
        seed=5,
        trained_on="five photographs",
    )


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(probing, "CHUNK", 8)


def looked(recipe: Recipe, folder: Path, **options) -> tuple[Path, int]:
    """Follow a recipe; count the pictures that had to be decoded."""
    seen: list[Progress] = []
    path = follow(recipe, folder, report=seen.append, **options)
    return path, sum(progress.stage == "loading" for progress in seen)


def test_the_result_is_a_checkpoint_like_any_other(recipe, tmp_path):
    path, _ = looked(recipe, tmp_path / "run")
    assert path == tmp_path / "run" / CHECKPOINT
    facts = checkpoints.read_facts(path)
    assert facts.method == "linear_probe"
    told = recipe_of(facts.recipe, "checkpoint")
    assert replace(told, config=recipe.config) == without_places(recipe)
    assert told.config.backbone == "mobilenetv2", "what was built, which needs no other file"
    assert not facts.recipe["probing"]["cache"], "paths of this machine mean nothing elsewhere"
    assert facts.trained_on == "five photographs"
    report = Pipeline.load(path).report(np.zeros((40, 50, 3), np.uint8))
    assert "generated" in report.answers
    figures = json.loads((tmp_path / "run" / LOG).read_text("utf-8"))
    assert {"penalty", "log_loss", "log_loss_judged", "auroc_generated"} <= figures.keys()


def test_it_learns_what_there_is_to_learn(recipe, tmp_path):
    """The "generator" is a blur, which no backbone overlooks."""
    native = replace(recipe.config, size=128)  # the size that the backbone was made for
    more = replace(recipe, config=native, probing=replace(recipe.probing, views=120))
    path, _ = looked(replace(more, rhythm=Rhythm(validation_views=64)), tmp_path / "run")
    figures = json.loads((path.parent / LOG).read_text("utf-8"))
    assert figures["auroc_generated"] > 0.8


def test_the_fit_is_that_of_features_computed_view_by_view(recipe, tmp_path):
    """The cache changes nothing: its rows are what the detector sees in the stream's views."""
    path, _ = looked(recipe, tmp_path / "run")
    from safetensors.torch import load_file

    from gammascope.data.batches import Collate
    from gammascope.training.views import streams

    detector = checkpoints.load(path).detector
    stream, _ = streams(recipe, detector, lambda _: None)
    batch = Collate(detector.view)([stream[n] for n in range(8, 16)])
    chunk = next((tmp_path / "cache").rglob("training-0000008-0000016.safetensors"))
    kept = load_file(chunk)
    with torch.inference_mode():
        torch.testing.assert_close(
            kept["features"], detector.features(batch.pixels), atol=1e-4, rtol=1e-4
        )
    assert torch.equal(kept["generated"], batch.answers["generated"])


def test_a_second_fit_looks_at_nothing(recipe, tmp_path):
    first, decoded = looked(recipe, tmp_path / "first")
    assert decoded == 15
    again, decoded = looked(recipe, tmp_path / "again")
    assert decoded == 0
    assert first.read_bytes() == again.read_bytes()
    stronger = replace(recipe, config=replace(recipe.config, penalties=(1000.0,)))
    other, decoded = looked(stronger, tmp_path / "stronger")
    assert decoded == 0
    weights = [checkpoints.load(p).detector.head.weight for p in (again, other)]
    assert weights[1].norm() < weights[0].norm()


def test_more_views_cost_only_what_is_new(recipe, tmp_path):
    looked(replace(recipe, probing=replace(recipe.probing, views=16)), tmp_path / "few")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    looked(replace(recipe, probing=replace(recipe.probing, views=24)), tmp_path / "more")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert {path: after[path] for path in before} == before
    assert [path.name for path in after.keys() - before.keys()] == [
        "training-0000016-0000024.safetensors"
    ]


def another_backbone(folder: Path) -> Path:
    """Write a checkpoint with a small backbone, which a recipe may name."""
    gamma = base.get("gamma")
    detector, path = gamma.build(gamma.tiny), folder / "another.safetensors"
    facts = checkpoints.Facts("gamma", settings.plain(detector.config), detector.view)
    checkpoints.save(path, detector, facts)
    return path


@pytest.mark.parametrize(
    "change", ["seed", "mixture", "size", "feature", "backbone", "picture", "things", "cap"]
)
def test_whatever_decides_the_features_is_part_of_their_key(recipe, tmp_path, change):
    looked(recipe, tmp_path / "first")
    config, data = recipe.config, recipe.data
    changed = {
        "seed": lambda: replace(recipe, seed=6),
        "cap": lambda: replace(recipe, data=replace(data, cap=1)),
        "mixture": lambda: replace(
            recipe, data=replace(data, mixture=Mixture(0.4, 0.1, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0))
        ),
        "size": lambda: replace(recipe, config=replace(config, size=48)),
        "feature": lambda: replace(recipe, config=replace(config, feature="token")),
        "backbone": lambda: replace(
            recipe, config=replace(config, backbone=str(another_backbone(tmp_path)))
        ),
        "picture": lambda: replace(
            recipe, data=replace(data, manifests=(another_picture(recipe, tmp_path),))
        ),
        "things": lambda: replace(
            recipe, data=replace(data, manifests=(marked_picture(recipe, tmp_path),))
        ),
    }[change]()
    _, decoded = looked(changed, tmp_path / "second")
    assert decoded > 0
    assert len(list((tmp_path / "cache").iterdir())) == 2


def marked_picture(recipe: Recipe, folder: Path) -> str:
    """Write a manifest of the same pictures, of which one has a thing marked."""
    first, *others = read_manifest(Path(recipe.data.manifests[0]))
    shape = np.asarray(PIL.Image.open(first.path)).shape[:2]
    PIL.Image.fromarray(np.ones(shape, bool)).save(folder / "thing.png")
    marked = replace(first, object_paths=(folder / "thing.png",))
    write_manifest([marked, *others], folder / "marked.csv")
    return str(folder / "marked.csv")


def another_picture(recipe: Recipe, folder: Path) -> str:
    """Write the same collection elsewhere, with one picture changed."""
    entries = read_manifest(Path(recipe.data.manifests[0]))
    copies = {}
    for entry in entries:
        copies[entry.path] = folder / "copy" / entry.path.name
        copies[entry.path].parent.mkdir(exist_ok=True)
        copies[entry.path].write_bytes(entry.path.read_bytes())
    last = copies[entries[-1].path]
    last.write_bytes(copies[entries[-4].path].read_bytes())
    moved = [
        replace(e, path=copies[e.path], host_path=e.host_path and copies[e.host_path])
        for e in entries
    ]
    write_manifest(moved, folder / "copy" / "manifest.csv")
    return str(folder / "copy" / "manifest.csv")


def test_files_that_only_moved_are_recognised(recipe, tmp_path):
    """The key is made of content, not of names."""
    looked(recipe, tmp_path / "first")
    root = tmp_path / "moved"
    root.mkdir()
    for path in Path(recipe.data.manifests[0]).parent.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    elsewhere = replace(recipe.data, manifests=(str(root / "manifest.csv"),))
    _, decoded = looked(replace(recipe, data=elsewhere), tmp_path / "second")
    assert decoded == 0


def test_an_interrupted_run_goes_on(recipe, tmp_path):
    done = []

    def stop(progress: Progress) -> None:
        done.append(progress)
        if progress.stage == "training" and progress.done == 16:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        follow(recipe, folder, report=stop)
    with pytest.raises(RecipeError, match="holds a run already: pass --resume"):
        follow(recipe, folder)
    other = replace(recipe, seed=7)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        follow(other, folder, resume=True)
    resumed, _ = looked(recipe, folder, resume=True)
    whole, _ = looked(
        replace(recipe, probing=Probing(24, str(tmp_path / "fresh"))), tmp_path / "whole"
    )
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_broken_chunk_is_made_again(recipe, tmp_path):
    first, _ = looked(recipe, tmp_path / "first")
    next((tmp_path / "cache").rglob("training-*")).write_bytes(b"half a fi")
    again, decoded = looked(recipe, tmp_path / "again")
    assert decoded == 15
    assert first.read_bytes() == again.read_bytes()


def test_without_validation_sources_nothing_is_kept_apart(recipe, tmp_path):
    data = replace(recipe.data, validation_sources=())
    path, _ = looked(replace(recipe, data=data), tmp_path / "run")
    assert "auroc_generated" not in json.loads((path.parent / LOG).read_text("utf-8"))


def test_gapls_two_stages_follow_each_other(recipe, tmp_path):
    stage1 = replace(
        base.get("gapl").tiny,
        stage="projection",
        backbone="embedded",
        normalisation="backbone",
    )
    first, _ = looked(replace(recipe, method="gapl", config=stage1), tmp_path / "one")
    stage2 = replace(stage1, stage="prototypes", start=str(first), adapt="full")
    optimisation = Optimisation(steps=2, batch=4, precision="no", channels_last=False)
    second = replace(recipe, method="gapl", config=stage2, probing=None, optimisation=optimisation)
    path, _ = looked(second, tmp_path / "two")
    loaded = checkpoints.load(path)
    assert loaded.facts.recipe["method"]["start"] == ""
    first_stage = checkpoints.load(first).detector
    assert torch.equal(loaded.detector.mix.prototypes, first_stage.mix.prototypes)
    assert first_stage.mix.prototypes.any()


def test_a_recipe_without_the_section_is_trained_by_the_loop(recipe, tmp_path):
    optimisation = Optimisation(steps=2, batch=4, precision="no", channels_last=False)
    path, _ = looked(replace(recipe, probing=None, optimisation=optimisation), tmp_path / "run")
    assert (path.parent / "state").is_dir()
    assert "probing" not in plain_recipe(replace(recipe, probing=None))


def test_what_cannot_be_fitted_is_refused(recipe, tmp_path, monkeypatch):
    gamma = replace(recipe, method="gamma", config=base.get("gamma").tiny)
    with pytest.raises(RecipeError, match="'gamma' has no frozen part"):
        follow(gamma, tmp_path / "a")
    second = replace(recipe, method="gapl", config=base.get("gapl").tiny)
    with pytest.raises(RecipeError, match="leave out the section probing"):
        follow(second, tmp_path / "b")
    with pytest.raises(RecipeError, match="no steps to stop after"):
        follow(recipe, tmp_path / "c", stop_after=1)
    with pytest.raises(RecipeError, match=r"probing.views = 0"):
        follow(replace(recipe, probing=Probing(views=0)), tmp_path / "d")
    with pytest.raises(MissingDataError, match="Nothing to resume"):
        follow(recipe, tmp_path / "e", resume=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="one process"):
        follow(recipe, tmp_path / "f")


def test_a_recipe_without_its_pictures_leaves_nothing_to_resume(recipe, tmp_path):
    lost = replace(recipe, data=replace(recipe.data, manifests=(str(tmp_path / "no.csv"),)))
    with pytest.raises(MissingDataError):
        follow(lost, tmp_path / "run")
    assert follow(recipe, tmp_path / "run").is_file()


def test_the_section_is_read_strictly():
    values = {"method": {"name": "linear_probe"}, "probing": {"view": 3}}
    with pytest.raises(RecipeError, match="Did you mean 'views'"):
        recipe_of(values, "recipe mine.toml")
    with pytest.raises(RecipeError, match=r"expected \[probing\]"):
        recipe_of({"method": {"name": "linear_probe"}, "probing": 3}, "recipe mine.toml")
