"""Training of generators: what they see, that stages follow each other, and that a resumed run is the same run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.generation import base
from gammascope.generation.harmon import Harmon
from gammascope.generation.small_autoencoder import Design, SmallAutoencoder
from gammascope.training.autoencoders import save
from gammascope.training.generators import GeneratorRecipe, Pool, Schedule, recipe_of, train
from gammascope.training.recipe import read_values
from gammascope.training.run_folder import Progress

TINY = base.get("small_diffusion").tiny
RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "generators").glob("*.toml"))


@pytest.fixture
def manifest(tmp_path):
    rows = ["path,label,source,split"]
    for number, source in enumerate(["a", "a", "b", "hidden"]):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,real,{source},train")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows += ["broken.png,real,a,train", "0.png,fake,a,train", "1.png,real,a,test"]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    return str(tmp_path / "m.csv")


def recipe_for(manifest, **changes):
    pool = Pool((manifest,), held_out=("hidden",), classes={"dog": ("a",)})
    plan = Schedule(steps=6, batch=2, save=2)
    return dataclasses.replace(GeneratorRecipe("small_diffusion", TINY, pool, plan), **changes)


def on_a_first_stage(recipe, folder):
    """Give a generator that writes latents the autoencoder that its config names."""
    if not isinstance(base.build(recipe.generator, recipe.config), base.TwoStage):
        return recipe
    save(SmallAutoencoder(recipe.config.first_stage.small), folder / "autoencoder")
    return dataclasses.replace(recipe, first_stage=str(folder / "autoencoder"))


@pytest.mark.parametrize("name", base.names())
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name, manifest, tmp_path):
    recipe = recipe_for(manifest, generator=name, config=base.get(name).tiny)
    recipe = on_a_first_stage(recipe, tmp_path)
    if "dog" not in getattr(recipe.config, "classes", ()):
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, classes={}))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    seen: list[Progress] = []
    train(recipe, whole, report=seen.append)
    train(recipe, parts, stop_after=3)
    train(recipe, parts, resume=True)
    assert (whole / base.FILE).read_bytes() == (parts / base.FILE).read_bytes()
    generator = base.load(whole)
    assert generator.signature == f"{name}:self-trained"
    torch.manual_seed(0)
    start = base.build(name, recipe.config).state_dict()
    for stage in base.get(name).stages:
        names = {id(p): n for n, p in generator.named_parameters()}
        assert any((p != start[names[id(p)]]).any() for p in stage.trained(generator)), stage.name
    assert [p.done for p in seen if p.stage == "training"] == [1, 2, 3, 4, 5, 6]
    assert len((whole / "log.jsonl").read_text().splitlines()) == 3


def test_the_autoencoder_of_a_generator_of_latents_is_asked_for_and_copied(manifest, tmp_path):
    config = dataclasses.replace(base.get("harmon").tiny, classes=())
    recipe = recipe_for(manifest, generator="harmon", config=config, data=Pool((manifest,)))
    with pytest.raises(RecipeError, match="say first_stage"):
        train(recipe, tmp_path / "none")
    with pytest.raises(MissingDataError, match=r"autoencoder\.safetensors"):
        train(dataclasses.replace(recipe, first_stage=str(tmp_path)), tmp_path / "empty")
    with pytest.raises(RecipeError, match="small_diffusion writes pixels"):
        train(recipe_for(manifest, first_stage=str(tmp_path)), tmp_path / "pixels")
    save(SmallAutoencoder(Design(8, 4, "nearest", "plain", width=4)), tmp_path / "other")
    with pytest.raises(IncompatibleCheckpointError, match="does not fit"):
        train(dataclasses.replace(recipe, first_stage=str(tmp_path / "other")), tmp_path / "misfit")
    assert not [path for path in tmp_path.iterdir() if (path / "recipe.json").exists()]
    recipe = on_a_first_stage(recipe, tmp_path)
    made = base.load(train(recipe, tmp_path / "made").parent)
    given = SmallAutoencoder.from_folder(tmp_path / "autoencoder").state_dict()
    assert all(torch.equal(made.vae.state_dict()[key], value) for key, value in given.items())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_build_and_say_how_to_run_them(path):
    recipe = recipe_of(read_values(path), path.name)
    with torch.device("meta"):
        network = base.get(recipe.generator).build(recipe.config)
    assert network.native_px == recipe.config.px
    head = path.read_text("utf-8").split("trained_on")[0]
    assert f"gammascope train recipes/generators/{path.name}" in head
    assert ("first_stage=" in head) == isinstance(network, base.TwoStage)


def test_rules_can_be_learnt_in_place_of_photos(tmp_path):
    config = dataclasses.replace(TINY, px=64, classes=())
    recipe = GeneratorRecipe(
        "small_diffusion", config, Pool(context="flags"), Schedule(steps=1, batch=2)
    )
    assert base.load(train(recipe, tmp_path / "a").parent).native_px == 64
    wrong = dataclasses.replace(recipe, config=dataclasses.replace(config, classes=("one", "two")))
    with pytest.raises(RecipeError, match="flags has 8 kinds"):
        train(wrong, tmp_path / "b")
    small = dataclasses.replace(recipe, config=dataclasses.replace(config, px=32))
    with pytest.raises(RecipeError, match="side=32: flags needs"):
        train(small, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_autoencoder_encodes_each_of_a_few_crops_once(manifest, tmp_path, monkeypatch):
    seen: list[torch.Tensor] = []
    tokens = Harmon.tokens

    def counted(network, pixels):
        seen.append(pixels)
        return tokens(network, pixels)

    monkeypatch.setattr(Harmon, "tokens", counted)
    config = dataclasses.replace(base.get("harmon").tiny, classes=())
    recipe = recipe_for(
        *(manifest,), generator="harmon", config=config, data=Pool((manifest,), crops=2)
    )
    recipe = on_a_first_stage(recipe, tmp_path)
    train(dataclasses.replace(recipe, optimisation=Schedule(steps=30, batch=4)), tmp_path / "run")
    photos = 4  # the fifth cannot be read
    assert len(seen) == photos * 2
    assert len({pixels.numpy().tobytes() for pixels in seen}) == photos * 2


def test_a_run_of_an_older_version_goes_on(manifest, tmp_path):
    """Its recipe lacks what could not be chosen then."""
    recipe = recipe_for(manifest)
    train(recipe, tmp_path / "run", stop_after=1)
    place = tmp_path / "run" / "recipe.json"
    kept = json.loads(place.read_text())
    del kept["data"]["crops"]
    place.write_text(json.dumps(kept))
    assert train(recipe, tmp_path / "run", resume=True).is_file()


def test_a_folder_belongs_to_one_run(manifest, tmp_path):
    recipe = recipe_for(manifest)
    with pytest.raises(MissingDataError, match="Nothing to resume"):
        train(recipe, tmp_path / "run", resume=True)
    train(recipe, tmp_path / "run", stop_after=1)
    with pytest.raises(RecipeError, match="holds a run already"):
        train(recipe, tmp_path / "run")
    with pytest.raises(RecipeError, match="another recipe"):
        train(dataclasses.replace(recipe, seed=1), tmp_path / "run", resume=True)


def test_without_photos_there_is_nothing_to_learn(manifest, tmp_path):
    nothing = recipe_for(manifest, data=Pool((manifest,), held_out=("a", "b", "hidden")))
    with pytest.raises(MissingDataError, match="No real photo to train on"):
        train(nothing, tmp_path / "run")
    with pytest.raises(MissingDataError, match="no manifest"):
        train(recipe_for(manifest, data=Pool()), tmp_path / "run")
    unknown = Pool((manifest,), classes={"dgo": ("a",)})
    with pytest.raises(RecipeError, match=r"\[data\.classes\] has 'dgo'"):
        train(recipe_for(manifest, data=unknown), tmp_path / "run")
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(MissingDataError, match="None of 5 photos could be read"):
        train(recipe_for(manifest, data=Pool((manifest,))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"generator": {"name": "small_difusion"}}, "Did you mean 'small_diffusion'"),
        ({"generator": {}}, "needs name"),
        ({"generator": {"name": "small_diffusion", "widht": 3}}, "Did you mean 'width'"),
        ({"generator": {"name": "small_diffusion"}, "method": {}}, "unknown key 'method'"),
        ({}, "needs name"),
        ({"generator": "iq_vae"}, r"generator = 'iq_vae': expected a section \[generator\]"),
        ({"data": 3}, r"data = 3: expected a section"),
        ({"seed": "abc"}, "seed = 'abc': expected int"),
        ({"seed": True}, "seed = True: expected int"),
        ({"seed": -1}, "seed=-1: expected 0 or more"),
        ({"first_stage": 3}, "first_stage = 3: expected str"),
        ({"data": {"photos": 0}}, "photos=0"),
        ({"data": {"crops": 0}}, "crops=0"),
        ({"data": {"context": "flgs"}}, "Did you mean 'flags'"),
        ({"optimisation": {"steps": 0}}, "steps=0"),
        ({"optimisation": {"learning_rate": -1.0}}, r"learning_rate=-1\.0"),
        ({"optimisation": {"weight_decay": float("nan")}}, "weight_decay=nan"),
    ],
    ids=str,
)
def test_wrong_recipes_are_one_line(values, said):
    if values and "generator" not in values:
        values = {"generator": {"name": "small_diffusion"}} | values
    with pytest.raises(RecipeError, match=said):
        recipe_of(values, "recipe x.toml")


def test_the_recipe_is_kept(manifest, tmp_path):
    train(recipe_for(manifest), tmp_path / "run", stop_after=1)
    kept = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert kept["generator"] == "small_diffusion"
