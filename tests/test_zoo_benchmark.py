"""benchmarks/zoo.py from pictures to tables, with networks of a few thousand weights."""

from __future__ import annotations

import hashlib
import importlib
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gammascope.data.laws import Nuisance
from gammascope.data.manifest import load_sample, read_manifest, write_manifest
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import base
from gammascope.evaluation import replaying
from gammascope.evaluation.replay_file import FILE, Kept
from gammascope.sample import Label

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
TINY = (
    "method.backbone=random",
    f"method.architecture={json.dumps(json.dumps(TOWER))}",
    "method.size=32",
)
"""Puts a row on a tiny tower."""


@pytest.fixture
def zoo(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("zoo")


@pytest.fixture
def chosen(zoo, collection, tmp_path) -> Namespace:
    """Options as from the command line; two photos and their fakes are of a collection that is left out."""
    out = tmp_path / "zoo"
    out.mkdir()
    every = read_manifest(collection)
    names = [replace(every[0], source=f"collection {number}") for number in range(20)]
    learnt, left_out = (
        next(e.source for e in names if zoo.is_left_out(e) is wanted) for wanted in (False, True)
    )
    entries = [
        replace(entry, source=left_out if entry.source == "held-out" else learnt) for entry in every
    ]
    write_manifest(entries, out / "all.csv")
    judged = [replace(e, split="dev") for e in entries if e.host_path is None]
    write_manifest(judged, out / "dev.csv")
    return Namespace(
        data=[out / "all.csv"],
        dev=out / "dev.csv",
        out=out,
        camera_tables=[],
        autoencoder="",
        begin=None,
        apart=[],
        without=None,
        rows=["plain_regression", "mpft", "npr"],
        cap=3,
        cap_left_out=2,
        views=32,
        seeds=1,
        best=1,
        set=[],
    )


def test_pictures_of_collections_left_out_are_never_learnt(zoo, chosen):
    zoo.listed(chosen)
    train, judged = (read_manifest(chosen.out / f"{n}.csv") for n in ("train", "validation"))
    assert {e.source for e in train}.isdisjoint({e.source for e in judged})
    assert {e.label for e in train} == {e.label for e in judged} == {Label.REAL, Label.FAKE}
    assert len(train) == 6
    refused = replace_options(chosen, out=chosen.out / "other", without=chosen.out / "hashes.txt")
    refused.out.mkdir()
    gone = train[0].path
    refused.without.write_text(hashlib.sha256(gone.read_bytes()).hexdigest())
    zoo.listed(refused)
    assert gone not in [e.path for e in read_manifest(refused.out / "train.csv")]


def test_every_stage_follows_its_recipe_under_one_law(zoo, chosen):
    recipes = [
        zoo.recipe_of(replace(stage, cameras=False), chosen, 1, chosen.out / "before.safetensors")
        for stages in zoo.ROWS.values()
        for stage in stages
    ]
    assert {r.method for r in recipes} == set(base.names())
    assert {r.data.nuisance for r in recipes} == {Nuisance()}
    assert {(r.seed, r.optimisation.batch) for r in recipes} == {(1, zoo.BATCH)}
    trained = [r.optimisation for r in recipes if r.probing is None]
    assert {(o.steps, o.cosine_steps, o.warmup_share) for o in trained} == {(2, 0, 0.1)}


def test_rows_are_trained_scored_and_laid_out_again_from_their_file(zoo, chosen, monkeypatch):
    monkeypatch.setattr(zoo, "KEPT_BLOCKS", 1)
    smaller = {
        "plain_regression": (*TINY, "method.reads=[1,2]"),
        "plain_tuning": (*TINY, "method.trained_blocks=1", "method.taps=[2]"),
        "rine": (*TINY, "method.width=32"),
        "ferretnet": ("method.width=8", "method.size=32"),
    }
    zoo.listed(chosen)
    for row, values in smaller.items():
        zoo.one(row, 0, replace_options(chosen, set=list(values)))
    assert [row for row, _ in zoo.done(chosen)] == list(smaller)
    kept = len(list((chosen.out / "states").iterdir()))
    assert kept > 0
    zoo.one("plain_tuning", 0, replace_options(chosen, set=list(smaller["plain_tuning"])))
    assert len(list((chosen.out / "states").iterdir())) == kept
    zoo.write(replace_options(chosen, rows=[*smaller, "npr"]))
    told = replaying.replayed(chosen.out / "zoo.parquet")
    of = told.plain["differences"]["plain_tuning"]
    assert list(of) == [
        f"{data}, {column}" for data in ("validation", "dev") for column in zoo.COLUMNS
    ]
    assert list(of["dev, native"]["against"]) == ["plain_regression"]
    assert set(told.plain["methods"]) == set(smaller)
    assert told.plain["missing"] == ["npr"]
    methods = {"rine", "ferretnet"}
    assert set(zoo.best(replace_options(chosen, best=4))) == methods, "plain rows are no method"
    elsewhere = replace_options(
        chosen,
        out=chosen.out / "elsewhere",
        begin=chosen.out / "zoo.parquet",
        rows=[*smaller, "npr"],
    )
    zoo.begin(elsewhere)
    assert zoo.done(elsewhere) == zoo.done(chosen)
    zoo.write(elsewhere)
    assert replaying.replayed(elsewhere.out / "zoo.parquet").plain == told.plain


def test_what_ships_is_one_more_row_that_the_best_together_are_compared_with(
    zoo, chosen, monkeypatch
):
    """Here the small detector, on one collection left out, which is too few: the file says so, and tells all else."""
    monkeypatch.setattr(zoo.weights, "default_path", zoo.weights.embedded_path)
    zoo.listed(chosen)
    zoo.one(zoo.EMBEDDED, 0, chosen)
    costs = json.loads((chosen.out / "runs" / "embedded-0" / "costs.json").read_text())
    assert (costs["steps"], costs["trained parameters"]) == ("as shipped", "0")
    scores = Kept.read(chosen.out / "runs" / "embedded-0" / FILE)
    shipped = Pipeline.load(zoo.weights.embedded_path())
    assert scores.about["weights_sha256"] == shipped.weights_sha256
    assert "fake_from" in scores.about["calibration"]["generated"]
    entry = read_manifest(chosen.dev)[0]
    image = zoo.COLUMNS["native"](load_sample(entry)).image
    table = scores.tables["dev, native"]
    digest = hashlib.sha256(entry.path.read_bytes()).hexdigest()
    (row,) = np.flatnonzero(table["path"] == digest)
    assert table["logit_generated"][row] == pytest.approx(shipped.scores(image).logit, abs=1e-4)
    zoo.write(replace_options(chosen, rows=[zoo.EMBEDDED]))
    told = replaying.replayed(chosen.out / "zoo.parquet")
    assert set(told.plain["methods"]) == {"embedded"}
    assert "expected at least 3" in told.plain["together"]["reason"]
    assert zoo.best(chosen) == [], "it needs no further seeds"


def replace_options(options: Namespace, **changed: Any) -> Namespace:
    return Namespace(**{**vars(options), **changed})
