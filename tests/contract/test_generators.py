"""What every generator promises, checked over all of them with tiny random networks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from gammascope import settings
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.generation import base
from gammascope.manipulation.inpainting import Inpainting

every_generator = pytest.mark.parametrize("name", base.names())


def tiny(name: str) -> base.Generator:
    """Build the tiny generator with fixed random weights; those that start at zero get values, too."""
    torch.manual_seed(0)
    generator = base.build(name, base.get(name).tiny)
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return generator.requires_grad_(requires_grad=False)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture_for(generator: base.Generator) -> np.ndarray:
    """A picture of the only size, or of one that is no multiple of anything."""
    px = generator.native_px
    size = (px + 3, px + 6) if generator.any_size else (px, px)
    return rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)


def products(generator: base.Generator, seed: int) -> dict[str, np.ndarray]:
    """What it can make of one picture, by ability."""
    picture = picture_for(generator)
    size = (picture.shape[0], picture.shape[1])
    mask = np.zeros(size, bool)
    mask[2:9, 3:12] = True
    made = {}
    if "sample" in generator.abilities:
        made["sample"] = generator.sample(None, size, rng(seed))
    if "class" in generator.abilities:
        made["class"] = generator.sample(generator.config.classes[0], size, rng(seed))
    if "map" in generator.abilities:
        made["map"] = generator.sample(picture, size, rng(seed))
    if "inpaint" in generator.abilities:
        made["inpaint"] = generator.inpaint(picture, mask, rng(seed))
    if "edit" in generator.abilities:
        made["edit"] = generator.edit(picture, "", 0.7, rng(seed))
    if "guided" in generator.abilities:
        made["guided"] = generator.guided(picture, lambda x: x.mean((1, 2, 3)), rng(seed))
    assert set(made) == generator.abilities
    return made


def test_some_generator_is_listed_and_parts_are_not():
    assert "small_diffusion" in base.names()
    assert "base" not in base.names()
    assert "upscaling" not in base.names()


def test_an_unknown_generator_is_named_with_the_nearest():
    with pytest.raises(RecipeError, match="small_diffusion"):
        base.get("small_difusion")


@every_generator
def test_metadata_says_where_it_comes_from(name):
    kind = base.get(name)
    assert re.match(r"arXiv:\d{4}\.\d{4,5}|10\.\d{4,}/", kind.paper)
    assert kind.title
    assert kind.family
    assert kind.licence
    assert sum(stage.share for stage in kind.stages) == pytest.approx(1)
    assert sum(p.numel() for p in tiny(name).parameters()) < 1_000_000


@every_generator
def test_the_full_config_builds_without_memory(name):
    with torch.device("meta"):
        generator = base.get(name).build(base.get(name).config)
    assert all(p.is_meta for p in generator.parameters())


@every_generator
def test_the_same_rng_gives_the_same_pixels_and_another_gives_others(name):
    generator = tiny(name)
    first, again, other = (products(generator, seed) for seed in (1, 1, 2))
    for ability, image in first.items():
        np.testing.assert_array_equal(image, again[ability])
        assert (image != other[ability]).any(), ability


@every_generator
def test_products_have_the_size_asked_for_and_hosts_are_not_written_to(name):
    generator = tiny(name)
    before = picture_for(generator)
    for image in products(generator, 0).values():
        assert image.shape == before.shape
        assert image.dtype == np.uint8
    np.testing.assert_array_equal(picture_for(generator), before)


@every_generator
def test_known_pixels_are_kept_by_inpainting(name):
    generator = tiny(name)
    if "inpaint" not in generator.abilities:
        pytest.skip("does not inpaint")
    photo = rng(3).integers(0, 256, (generator.native_px, generator.native_px, 3), dtype=np.uint8)
    made = Inpainting(base.Painting(generator))(photo, rng(1))
    assert made.kind == "inpainting"
    assert made.generated.any()
    np.testing.assert_array_equal(made.image[~made.generated], photo[~made.generated])
    mask = made.generated
    whole = generator.inpaint(photo, mask, rng(1))
    assert (whole[mask] != photo[mask]).any()
    if not generator.rewrites:
        np.testing.assert_array_equal(whole[~mask], photo[~mask])


@every_generator
def test_what_it_cannot_do_is_refused_in_one_line(name):
    generator = tiny(name)
    for ability in {"sample", "class", "map", "inpaint", "edit", "guided"} - generator.abilities:
        with pytest.raises(RecipeError, match=f"{name} cannot do '{ability}'; it can: "):
            generator.require(ability)
    if not generator.any_size:
        with pytest.raises(RecipeError, match="was asked for"):
            generator.sample(None, (generator.native_px + 1, generator.native_px), rng())
    if "class" in generator.abilities:
        with pytest.raises(RecipeError, match="Known: "):
            generator.sample("no such class", (generator.native_px,) * 2, rng())


def numbers(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of all numbers of a config."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from numbers(value, (*above, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*above, key)


def shown_to(generator: base.Generator) -> base.Shown:
    """Return what a generator sees in a step: two pictures, one of them of no class."""
    pictures = torch.rand(2, 3, generator.native_px, generator.native_px)
    if isinstance(generator, base.TwoStage):
        pictures = generator.tokens(pictures)
    return base.Shown(pictures, torch.tensor([0, -1]))


@every_generator
def test_a_number_that_cannot_be_is_refused_in_one_line(name):
    """Each number in turn is made 0, negative, and no number; what is not refused can be learnt and drawn with."""
    kind = base.get(name)
    refused = 0
    for *sections, key in numbers(settings.plain(kind.tiny)):
        for value in (0, -1, math.nan):
            values = settings.plain(kind.tiny)
            reduce(dict.__getitem__, sections, values)[key] = value
            torch.manual_seed(0)
            try:
                generator = base.build(name, settings.parse(type(kind.config), values, name))
            except RecipeError:
                refused += 1
                continue
            px, shown = generator.native_px, shown_to(generator)
            for stage in kind.stages:
                for term in stage.terms(generator, shown).values():
                    assert torch.isfinite(term), (sections, key, value)
            generator.sample(None, (px, px), rng())
    assert refused


@every_generator
def test_each_stage_teaches_what_it_says(name):
    kind = base.get(name)
    torch.manual_seed(0)
    generator = kind.build(kind.tiny).train()
    shown = shown_to(generator)
    for stage in kind.stages:
        generator.zero_grad(set_to_none=True)
        terms = stage.terms(generator, shown)
        assert all(torch.isfinite(term) and term.shape == () for term in terms.values())
        sum(terms.values()).backward()
        assert any(p.grad is not None and p.grad.any() for p in stage.trained(generator))


@every_generator
def test_a_folder_gives_back_the_same_generator(name, tmp_path):
    generator = tiny(name)
    generator.weights = "self-trained"
    (tmp_path / base.FILE).write_bytes(base.to_bytes(generator, "made pictures"))
    read = base.load(tmp_path)
    assert read.config == generator.config
    assert read.signature == f"{name}:self-trained"
    for ability, image in products(generator, 4).items():
        np.testing.assert_array_equal(products(read, 4)[ability], image)
    with safe_open(tmp_path / base.FILE, framework="np") as file:
        assert json.loads(file.metadata()[base.METADATA])["trained_on"] == "made pictures"


@every_generator
def test_broken_folders_are_one_line(name, tmp_path):
    with pytest.raises(MissingDataError, match=base.FILE):
        base.load(tmp_path)
    data = base.to_bytes(tiny(name))
    (tmp_path / base.FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(IncompatibleCheckpointError, match="no generator of ours"):
        base.load(tmp_path)


def test_untrained_weights_are_called_so():
    assert tiny("small_diffusion").signature == "small_diffusion:untrained"
