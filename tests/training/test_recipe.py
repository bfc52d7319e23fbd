"""Recipes: the shipped ones, the way there and back, and every mistake a writer can make."""

from __future__ import annotations

import json
import re
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gammascope import settings
from gammascope.data.laws import Mixture
from gammascope.detectors import base
from gammascope.errors import MissingDataError, RecipeError, UnknownMethodError
from gammascope.training.recipe import plain_recipe, read_recipe, recipe_of
from gammascope.weights import methods_path

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


STAGED = {"stage", "start", "encoder", "extractor", "pretrained"}
"""Values that differ between the parts of one method."""


@pytest.mark.parametrize("name", base.names())
def test_every_method_has_recipes_in_its_paper_s_setting(name):
    """All of its values, not only some: what a demonstration changes for small machines is no setting of a paper."""
    published = settings.plain(base.get(name).config)
    wanted = {key: value for key, value in published.items() if key not in STAGED}
    recipes = [recipe for path in RECIPES if (recipe := read_recipe(path)).method == name]
    proper = [
        recipe for recipe in recipes if wanted.items() <= settings.plain(recipe.config).items()
    ]
    assert proper, f"recipes of {name}: {len(recipes)}, all of them change values"
    if "stage" in published:
        kinds = typing.get_type_hints(type(base.get(name).config))["stage"]
        assert {recipe.config.stage for recipe in proper} == set(typing.get_args(kinds))


def test_the_first_stage_of_gapl_sees_pictures_as_they_are():
    recipe = read_recipe(RECIPES[[path.stem for path in RECIPES].index("gapl_stage1_clip")])
    law = recipe.data.nuisance
    assert law.encoding.untouched == law.history.untouched == 1
    assert law.rescale.probability == law.again == law.tone == law.noise == law.blur == 0


@every_recipe
def test_a_recipe_denies_no_score_that_is_published(path):
    score = re.search(r"^# score +(.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert score is None or not re.match(r"none yet|not measured yet", score[1])


@pytest.mark.parametrize("name", base.names())
def test_a_card_quotes_where_its_method_is_measured(name):
    measured = json.loads(methods_path().read_text("utf-8"))[name].get("measured")
    card = (RECIPES[0].parents[1] / "docs" / "model_cards" / f"{name}.md").read_text("utf-8")
    if measured and measured["weights"].startswith(("recipes", "benchmarks/zoo.py")):
        assert Path(measured["quoted_in"]).name in {f"{name}.md", *re.findall(r"[\w.]+\.md", card)}
        assert "No score on real images yet" not in card
        assert "Nothing yet beyond the tests" not in card


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


def test_what_older_runs_wrote_down_and_asked_for_nothing_is_left_out(tmp_path):
    values: dict[str, Any] = {
        "method": {"name": "npr"},
        "data": {"pretext": {"tables": [], "faces": False}},
    }
    none = {"proxy": "", "rate": 3e-4, "gradient": "finite_diff", "floor": None}
    values |= {"optimisation": {"steps": 7, "weighting": none}}
    assert recipe_of(values, "run").optimisation.steps == 7
    assert "faces" in values["data"]["pretext"], "what is read is not written to"
    for key, value in {"weighting": none | {"proxy": "label_bce"}, "steps": "seven"}.items():
        asked = values | {"optimisation": {key: value}}
        with pytest.raises(RecipeError, match=rf"'?{key}"):
            recipe_of(asked, "run")
    with pytest.raises(RecipeError, match="faces"):
        recipe_of(values | {"data": {"pretext": {"faces": True}}}, "run")


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
