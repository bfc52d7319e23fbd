"""Generators on the command line: listed, trained, and put to work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gammascope.cli import making
from gammascope.cli.app import app
from gammascope.data.manifest import load_sample, read_manifest
from gammascope.errors import RecipeError
from gammascope.generation import base
from gammascope.sample import Label

RECIPE = """
[generator]
name = "small_diffusion"
px = 16
width = 8
halvings = 2
steps = 2
classes = ["dog"]

[optimisation]
steps = 2
batch = 2
"""


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold photos, their manifest, a recipe, and a generator that was trained for two steps."""
    place = tmp_path_factory.mktemp("generators")
    rows = ["path,label,source,split"]
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 52, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
        rows.append(f"{number}.png,real,a,train")
    (place / "m.csv").write_text("\n".join(rows))
    (place / "tiny.toml").write_text(RECIPE)
    done = run("train", place / "tiny.toml", "--data", place / "m.csv", "--out", place / "run")
    assert done.exit_code == 0, done.stderr
    assert "Next: gammascope synthesize --generator" in " ".join(done.stderr.split())
    return place


def made(folder, out, *arguments):
    done = run(
        *("synthesize", folder / "m.csv", "--out", out, "--generator", folder / "run", "--quiet"),
        *("--quality", "png", *arguments),
    )
    assert done.exit_code == 0, done.stderr
    return read_manifest(out / "manifest.csv")


def test_all_are_listed():
    rows = json.loads(run("generators", "--json").stdout)
    assert [row["name"] for row in rows] == base.names()
    assert all(row["licence"] and row["can"] for row in rows)
    shown = run("generators")
    assert shown.exit_code == 0
    assert "small_diffusion" in shown.stdout
    assert "class: one of those that it was trained with" in " ".join(shown.stdout.split())


def test_the_page_on_generators_tells_the_same_abilities():
    page = (Path(__file__).parents[2] / "docs" / "generators.md").read_text("utf-8")
    told = {}
    for row in re.findall(r"(?m)^\| \[`.*$", page):
        name, _, can, _ = (cell.strip() for cell in row.strip("|").split("|"))
        told[re.sub(r"^\[`(\w+)`.*", r"\1", name)] = sorted(
            re.sub(r"\s*\(.*?\)", "", can).split(", ")
        )
    rows = json.loads(run("generators", "--json").stdout)
    assert told == {row["name"]: row["can"] for row in rows}


def test_inpainted_regions_are_in_the_masks(folder, tmp_path):
    entries = made(folder, tmp_path, "--kind", "inpaint")
    fakes = [entry for entry in entries if entry.label is Label.FAKE]
    assert len(fakes) == len(entries) - len(fakes) == 3
    for entry in fakes:
        assert entry.generator == "small_diffusion:self-trained"
        sample = load_sample(entry)
        assert entry.host_path is not None
        photo = np.asarray(Image.open(entry.host_path))
        assert sample.generated is not None
        assert sample.generated.any()
        np.testing.assert_array_equal(sample.image[~sample.generated], photo[~sample.generated])


def test_edits_and_samples_are_generated_as_a_whole(folder, tmp_path):
    asked = ("--kind", "edit", "--kind", "sample", "--per-photo", 2, "--prompt", "dog", "--seed", 5)
    entries = made(folder, tmp_path, *asked)
    fakes = [entry for entry in entries if entry.label is Label.FAKE]
    assert len(fakes) == 6
    for entry in fakes:
        assert entry.kind is None
        assert entry.origin is not None
        assert (entry.origin.prompt, entry.origin.seed) == ("dog", 5)
        sample = load_sample(entry)
        assert sample.image.shape == ((40, 52, 3) if entry.host_path else (16, 16, 3))
    # A photo, its edit and its control are told to belong together.
    assert {entry.origin.twin for entry in entries if entry.origin} == {"0.png", "1.png", "2.png"}
    before = {entry.path: entry.path.read_bytes() for entry in entries}
    again = made(folder, tmp_path, *asked)
    assert again == entries
    assert before == {entry.path: entry.path.read_bytes() for entry in again}


def test_a_generator_of_one_size_gets_squares_of_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gammascope.generation.small_diffusion.SmallDiffusion.any_size", False)
    entries = made(folder, tmp_path, "--kind", "inpaint")
    assert {np.asarray(Image.open(entry.path)).shape for entry in entries} == {(16, 16, 3)}
    assert all(entry.host_path is None for entry in entries)


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(folder, tmp_path):
    out = tmp_path / "new"
    nobody = run("synthesize", folder / "m.csv", "--out", out, "--kind", "inpaint")
    assert nobody.exit_code == 2
    assert "give --generator" in nobody.stderr
    empty = run(
        "synthesize", folder / "m.csv", "--out", out, "--kind", "edit", "--generator", tmp_path
    )
    assert empty.exit_code == 3
    assert base.FILE in empty.stderr
    unknown = run(
        *("synthesize", folder / "m.csv", "--out", out, "--kind", "edit", "--quiet"),
        *("--generator", folder / "run", "--prompt", "dgo"),
    )
    assert unknown.exit_code == 2
    assert "knows no class" in " ".join(unknown.stderr.split())
    assert not (out / "manifest.csv").exists()


def test_an_unknown_generator_in_a_recipe_is_told(folder, tmp_path):
    wrong = run(
        *("train", folder / "tiny.toml", "--out", tmp_path / "x"),
        "generator.name=harmoni",
    )
    assert wrong.exit_code == 2
    assert "Unknown generator" in wrong.stderr
    assert not (tmp_path / "x").exists()


def test_a_policy_makes_pairs_within_its_budget(folder, tmp_path):
    entries = made(folder, tmp_path, "--policy", "interventions", "--budget", 2)
    assert [entry.label for entry in entries] == [Label.FAKE, Label.REAL] * 2
    assert {entry.origin.policy for entry in entries if entry.origin} == {"interventions"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--policy", "interventions"), "belong together"),
        (("--budget", 3), "belong together"),
        (("--policy", "interventions", "--budget", 9), "A budget of 9 with 3 photos"),
        (("--policy", "interventions", "--budget", 3, "--held-out", "a"), "with 0 photos"),
        (("--policy", "genmix", "--budget", 1), "--accept-patent-notice"),
        (("--policy", "genmx", "--budget", 1), "Did you mean 'genmix'"),
        (("--policy", "interventions", "--budget", 1, "--kind", "edit"), "no --kind"),
        (("--policy", "actgen", "--budget", 1, "--prompt", "dog"), "no --prompt"),
        (("--policy", "actgen", "--budget", 1, "--strength", 0.2), "no --strength"),
        (("--policy", "actgen", "--budget", 1, "--controls", 0), "no --controls"),
        (("--policy", "actgen", "--budget", 1, "--per-photo", 2), "no --per-photo"),
        (("--policy", "actgen", "--budget", 1, "--autoencoder", "nowhere"), "no --autoencoder"),
        (("--policy", "actgen", "--budget", 1, "--styles", "x"), "no --styles"),
        (("--accept-patent-notice",), "belong together"),
        (("--policy", "actgen", "--budget", 1, "--held-out", "aa"), "no photo is of this source"),
        (("--kind", "edit", "--held-out", "aa"), "no photo is of this source. Did you mean 'a'"),
        (("--kind", "inpaint", "--prompt", "dog"), "it goes with edit, sample"),
        ((), "it goes with inpaint, edit, sample"),
    ],
    ids=str,
)
def test_what_cannot_be_heeded_is_one_line_and_leaves_nothing(folder, tmp_path, asked, said):
    wrong = run(
        *("synthesize", folder / "m.csv", "--out", tmp_path / "new"),
        *("--generator", folder / "run", *asked),
    )
    assert wrong.exit_code == 2
    assert said in " ".join(wrong.stderr.split())
    assert not (tmp_path / "new").exists()


def test_photos_are_reduced_for_policies_and_kinds_alike(folder, tmp_path):
    reduced = ("--largest-side", 64)
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(
        tmp_path / "large.png"
    )
    for asked in (("--policy", "actgen", "--budget", 1), ("--kind", "edit")):
        out = tmp_path / asked[1]
        done = run(
            *("synthesize", tmp_path / "large.png", "--out", out, "--quiet"),
            *("--generator", folder / "run", *reduced, *asked),
        )
        assert done.exit_code == 0, done.stderr
        made = read_manifest(out / "manifest.csv")
        assert {np.asarray(Image.open(entry.path)).shape for entry in made} == {(48, 64, 3)}


def test_a_source_held_out_is_left_alone_without_a_policy_too(folder, tmp_path):
    rows = (folder / "m.csv").read_text().replace("2.png,real,a", "2.png,real,b")
    (folder / "two.csv").write_text(rows)
    arguments = ("--kind", "edit", "--generator", folder / "run", "--held-out", "a", "--quiet")
    done = run("synthesize", folder / "two.csv", "--out", tmp_path, *arguments)
    assert done.exit_code == 0, done.stderr
    assert {entry.source for entry in read_manifest(tmp_path / "manifest.csv")} == {"b"}


def test_an_unknown_policy_is_told_with_those_that_exist(folder, tmp_path):
    for more in ((), ("--budget", "2")):
        refused = run("synthesize", folder, "--out", tmp_path / "out", "--policy", "foo", *more)
        assert refused.exit_code == 2
        said = " ".join(refused.stderr.split())
        assert "Unknown policy 'foo'. Known: actgen, genmix, interventions." in said


def test_a_policy_needs_a_generator(folder, tmp_path):
    asked = ("--policy", "interventions", "--budget", 1)
    wrong = run("synthesize", folder / "m.csv", "--out", tmp_path, *asked)
    assert wrong.exit_code == 2
    assert "give --generator" in wrong.stderr


def test_designs_of_autoencoders_are_four_all_or_those_that_are_named():
    assert len(making.designs(None)) == 4
    assert len(making.designs(["all"])) == 36
    assert making.designs(["vq-8-shuffle", "vq-8-shuffle"]) == ["vq-8-shuffle"]
    with pytest.raises(RecipeError, match=r"Unknown design 'vq-8-shufle'\. Did you mean"):
        making.designs(["vq-8-shufle"])
