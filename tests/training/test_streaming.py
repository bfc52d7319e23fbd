"""Training on shards that lie elsewhere: the same run as on a disk that holds them all, resumed or not."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file

from gammascope import checkpoints
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.detectors import base
from gammascope.errors import MissingDataError, RecipeError
from gammascope.training.loop import train
from gammascope.training.probing import fit
from gammascope.training.recipe import (
    Data,
    Optimisation,
    Pretext,
    Probing,
    Recipe,
    Rhythm,
    Streaming,
)

SOURCE = "memory://bucket/set"


@pytest.fixture(scope="module")
def packed(collection, tmp_path_factory) -> Path:
    """The manifest of the collection, packed: one shard for each photo and what was made of it."""
    root = tmp_path_factory.mktemp("packed")
    entries = []
    for entry in read_manifest(collection):
        name = entry.path.stem.partition("-")[0]
        with tarfile.open(root / f"{name}.tar", "a") as archive:
            archive.add(entry.path, entry.path.name)
        host = entry.host_path and root / f"{name}.tar" / entry.host_path.name
        path = root / f"{name}.tar" / entry.path.name
        entries.append(replace(entry, path=path, host_path=host))
    write_manifest(entries, root / "train.csv")
    return root / "train.csv"


@pytest.fixture
def recipe(packed, tmp_path) -> Recipe:
    """Train on shards behind a URL; beside the manifest there are none."""
    for shard in packed.parent.glob("*.tar"):
        fsspec.filesystem("memory").pipe(f"/bucket/set/{shard.name}", shard.read_bytes())
    manifest = tmp_path / "elsewhere" / "train.csv"
    manifest.parent.mkdir()
    manifest.write_bytes(packed.read_bytes())
    return Recipe(
        method="gamma",
        config=base.get("gamma").tiny,
        data=Data(
            manifests=(str(manifest),),
            validation_sources=("held-out",),
            streaming=Streaming(SOURCE, str(tmp_path / "cache"), shards=1, views=6),
            workers=0,
        ),
        optimisation=Optimisation(steps=6, batch=4, precision="no", warmup_share=0.2),
        rhythm=Rhythm(log=2, validate=3, save=2, validation_views=6),
        seed=5,
    )


def same_weights(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_streamed_run_resumed_within_a_window_equals_an_uninterrupted_one(recipe, tmp_path):
    whole = train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "parts", stop_after=2)  # 8 views: in the second window
    (tmp_path / "cache").rename(tmp_path / "old")
    assert same_weights(train(recipe, tmp_path / "parts", resume=True), whole)
    assert str(tmp_path) not in str(checkpoints.read_facts(whole).recipe)


def test_with_all_shards_open_it_is_the_run_of_a_disk_that_holds_them(recipe, packed, tmp_path):
    near = replace(recipe.data, manifests=(str(packed),), streaming=Streaming())
    expected = train(replace(recipe, data=near), tmp_path / "near")
    far = replace(recipe.data, streaming=replace(recipe.data.streaming, shards=5))
    assert same_weights(train(replace(recipe, data=far), tmp_path / "far"), expected)


def test_what_does_not_go_with_streaming_is_refused(recipe, collection, tmp_path):
    def run(**changes) -> None:
        data = replace(recipe.data, **changes)
        train(replace(recipe, data=data), tmp_path / "run" / str(len(list(tmp_path.rglob("*")))))

    with pytest.raises(RecipeError, match=r"needs data\.streaming\.cache"):
        run(streaming=Streaming(SOURCE))
    with pytest.raises(MissingDataError, match=r"no path in the manifests goes on below a \.tar"):
        run(manifests=(str(collection),))
    with pytest.raises(RecipeError, match="exclude each other"):
        run(pretext=Pretext(("table.csv",)))
    with pytest.raises(RecipeError, match="A fit reads pictures of this machine"):
        fit(replace(recipe, method="linear_probe", probing=Probing()), tmp_path / "fit")
