"""Recipes: the shipped ones, the way there and back, and every mistake a writer can make."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gammascope.data.laws import Mixture
from gammascope.detectors import base
from gammascope.errors import MissingDataError, RecipeError, UnknownMethodError
from gammascope.training.recipe import plain_recipe, read_recipe, recipe_of

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def test_some_recipe_is_shipped():
    assert "gamma_embedded" in {path.stem for path in RECIPES}


@every_recipe
def test_shipped_recipes_are_understood(path):
    recipe = read_recipe(path)
    assert isinstance(recipe.config, type(base.get(recipe.method).config))
    assert recipe.rhythm.save <= recipe.optimisation.steps


@every_recipe
def test_shipped_recipes_say_how_to_run_them(path):
    head = path.read_text("utf-8").partition("[method]")[0]
    assert f"gammascope train recipes/{path.name}" in head
    assert "hardware" in head


@every_recipe
def test_a_recipe_survives_its_way_through_a_checkpoint(path):
    recipe = read_recipe(path)
    assert recipe_of(json.loads(json.dumps(plain_recipe(recipe))), "checkpoint") == recipe


def test_the_embedded_recipe_says_what_the_product_needs():
    config = read_recipe(RECIPES[[path.stem for path in RECIPES].index("gamma_embedded")]).config
    assert config.backbone == "mobilenetv2", "the embedded detector is small"
    assert config.pretrained == "", "where the weights to start from lie is the user's affair"
    assert config.fit == "tiles", "resizing would erase the traces"
    assert config.manip_label == "by_pixels", "a montage of photos must not be called AI-generated"


def test_what_a_recipe_leaves_out_has_the_methods_values(tmp_path):
    recipe = read_recipe(written(tmp_path, "[method]\nname = 'gamma'\nsize = 128\n"))
    assert recipe.config == replace(base.get("gamma").config, size=128)
    assert recipe.seed == 0
    assert recipe.data.mixture == Mixture()


def test_overrides_count_more_than_the_file(tmp_path):
    path = written(tmp_path, "seed = 1\n[method]\nname = 'gamma'\n[optimisation]\nsteps = 10\n")
    overrides = [
        "optimisation.steps=20",
        "seed=3",
        "data.mixture.twins=0",
        "method.compact.token=8",
    ]
    recipe = read_recipe(path, overrides)
    assert (recipe.optimisation.steps, recipe.seed) == (20, 3)
    assert recipe.data.mixture == replace(Mixture(), twins=0.0)
    assert recipe.config.compact == replace(base.get("gamma").config.compact, token=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[metod]\nname = 'gamma'",
            r"recipe mine\.toml: unknown key 'metod'. Did you mean 'method'",
        ),
        ("sed = 1\n[method]\nname = 'gamma'", r"unknown key 'sed'. Did you mean 'seed'"),
        ("[method]\nname = 'gamma'\nsise = 3", r"section method: unknown key 'sise'. .*'size'"),
        ("[method]\nname = 'gamma'\n[method.compact]\ntokn = 3", r"method\.compact: .*'tokn'"),
        ("[method]\nname = 'gamma'\n[data.mixture]\ntwin = 1", r"data\.mixture: .*'twin'.*'twins'"),
        (
            "[method]\nname = 'gamma'\n[optimisation]\nsteps = 'x'",
            "section optimisation: steps = 'x'",
        ),
        ("[method]\nname = 'gamma'\nseg_heads = 'three'", "section method: seg_heads = 'three'"),
        ("[method]\nsize = 3", "section method needs name = '...', one of .*gamma"),
        ("seed = 1", r"section method needs name"),
        ("method = 'gamma'", r"method = 'gamma': expected \[method\], a section"),
        ("data = 3\n[method]\nname = 'gamma'", r"data = 3: expected \[data\], a section"),
        ("seed = 'x'\n[method]\nname = 'gamma'", "seed = 'x': expected int"),
        ("seed = true\n[method]\nname = 'gamma'", "seed = True: expected int"),
        ("trained_on = 3\n[method]\nname = 'gamma'", "trained_on = 3: expected str"),
        (
            "[method]\nname = 'gamma'\n[data.nuisance.encoding]\njpeg = 0.9",
            "expected shares of 1",
        ),
        ("[method", r"Recipe .*mine\.toml is no TOML"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_unknown_method_is_named(tmp_path):
    with pytest.raises(UnknownMethodError, match="Did you mean 'gamma'"):
        read_recipe(written(tmp_path, "[method]\nname = 'gama'"))


def test_no_file_is_missing_data(tmp_path):
    with pytest.raises(MissingDataError, match=r"Cannot read recipe .*nothing\.toml"):
        read_recipe(tmp_path / "nothing.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "image.toml"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(RecipeError, match="is no TOML"):
        read_recipe(path)
