"""Rounds of training, end to end with a tiny generator and a tiny detector."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gammascope import checkpoints
from gammascope.cli.app import app
from gammascope.data.augmenting import PolicyPlan, augment
from gammascope.data.laws import Mixture
from gammascope.data.manifest import read_manifest
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import base as detectors
from gammascope.errors import GammascopeError, MissingDataError, RecipeError
from gammascope.generation import base as generators
from gammascope.imaging.codecs import Encoding
from gammascope.imaging.decode import decode
from gammascope.imaging.views import views_of
from gammascope.sample import Entry, Label
from gammascope.training import rounds
from gammascope.training.recipe import Data, Optimisation, Recipe, Rhythm, Streaming
from gammascope.training.rounds import Rounds, critic_of, run

PLAN = Rounds(guides=("walk",), count=2, budget=3, encoding=Encoding("png"))
NPR = replace(detectors.get("npr").tiny, size=32)


@pytest.fixture(scope="module")
def generator(lively):
    return lively("small_diffusion")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Smooth photos of three sources, one of them to be kept apart, and noisy fakes."""
    folder = tmp_path_factory.mktemp("photos")
    rows = ["path,label,source,split"]
    for number in range(16):
        draw = np.random.default_rng(number)
        pixels = np.kron(draw.integers(0, 256, (5, 5, 3)), np.ones((10, 10, 1))).astype(np.uint8)
        source = ("home", "walk", "hidden", "walk")[number % 4]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,real,{source},train")
        Image.fromarray(draw.integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(
            folder / f"fake{number}.png"
        )
        rows.append(f"fake{number}.png,fake,{'hidden' if number % 4 == 2 else 'net'},train")
    (folder / "m.csv").write_text("\n".join(rows))
    return folder / "m.csv"


@pytest.fixture
def recipe(manifest):
    return Recipe(
        method="npr",
        config=NPR,
        data=Data(
            (str(manifest),),
            validation_sources=("hidden",),
            mixture=Mixture(0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0),
            workers=0,
        ),
        optimisation=Optimisation(steps=2, batch=4, precision="no"),
        rhythm=Rhythm(validate=100, save=100, validation_views=4),
    )


def test_rounds_train_make_and_train_again(recipe, generator, tmp_path):
    path, found = run(recipe, PLAN, generator, tmp_path)
    assert path == tmp_path / "detector" / "checkpoint.safetensors"
    assert [each.guides for each in found] == [8, 8]
    assert [each.made for each in found] == [3, 3]
    for each in found:
        assert 0 <= each.survived <= each.hard <= each.made
        assert max(each.false_alarms, each.missed) <= each.guides
    assert len(json.loads((tmp_path / "rounds.json").read_text())) == 2
    learnt = read_manifest(tmp_path / "data.csv")
    assert {entry.source for entry in learnt} == {"home", "net", "hidden"}
    for number in range(2):
        made = read_manifest(tmp_path / f"round-{number}" / "made" / "manifest.csv")
        assert Counter(entry.label for entry in made) == {Label.REAL: 3, Label.FAKE: 3}
        assert {entry.source for entry in made} == {"walk"}
        assert {entry.generator for entry in made if entry.label is Label.FAKE} == {
            "small_diffusion:untrained"
        }
    after = json.loads((tmp_path / "detector" / "recipe.json").read_text())["data"]["manifests"]
    assert [name.split("/")[-3:-1] for name in after[1:]] == [
        ["round-0", "made"],
        ["round-1", "made"],
    ]
    assert "walk" in checkpoints.read_facts(path).seen


def test_an_interrupted_run_goes_on_and_ends_alike(recipe, generator, tmp_path):
    plan = replace(PLAN, count=1)
    whole, found = run(recipe, plan, generator, tmp_path / "a")

    class StopError(Exception):
        pass

    def stop_at(stage, done):
        def stop(progress):
            if (progress.stage, progress.done) == (stage, done):
                raise StopError

        return stop

    for stage, done in (("guides", 2), ("training", 1), ("round 0", 2)):
        with pytest.raises(StopError):
            run(recipe, plan, generator, tmp_path / "b", stop_at(stage, done))
        assert not (tmp_path / "b" / "rounds.json").exists()
    again, found_again = run(recipe, plan, generator, tmp_path / "b")
    assert found_again == found
    first, second = (checkpoints.load(path).detector.state_dict() for path in (whole, again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    with pytest.raises(RecipeError, match="another way"):
        run(recipe, replace(plan, choice="random"), generator, tmp_path / "b")


def test_photos_that_the_detector_is_wrong_about_are_edited_first(recipe, generator, tmp_path):
    plan = replace(PLAN, count=1, budget=4, guided=False)
    _, (found,) = run(recipe, plan, generator, tmp_path)
    pipeline = Pipeline.load(tmp_path / "round-0" / "detector" / "checkpoint.safetensors")
    logits: dict[str, dict[Label, float]] = {}
    shown = {}
    for entry in read_manifest(tmp_path / "guides" / "manifest.csv"):
        assert entry.origin is not None
        image = decode(entry.path).image
        logits.setdefault(entry.origin.twin, {})[entry.label] = pipeline.scores(image).logit
        if entry.label is Label.REAL:
            shown[image.tobytes()] = entry.origin.twin
    margins = {twin: max(by[Label.REAL], -by[Label.FAKE]) for twin, by in logits.items()}
    assert found.false_alarms == sum(by[Label.REAL] > 0 for by in logits.values())
    assert found.missed == sum(by[Label.FAKE] <= 0 for by in logits.values())
    made = read_manifest(tmp_path / "round-0" / "made" / "manifest.csv")
    edited = {shown[decode(e.path).image.tobytes()] for e in made if e.label is Label.REAL}
    wrong = {twin for twin, margin in margins.items() if margin > 0}
    assert len(edited) == 4
    assert edited <= wrong or wrong <= edited
    left = [margin for twin, margin in margins.items() if twin not in edited | wrong]
    assert all(margins[twin] >= max(left, default=-1e9) for twin in edited)


def test_some_pictures_go_against_the_detector(generator, manifest, tmp_path):
    photos = [e for e in read_manifest(manifest) if e.label is Label.REAL]
    signs = []

    def critic(pixels):
        signs.append(1)
        return pixels.mean((1, 2, 3))

    plan = PolicyPlan("actgen", 4, generator.signature, guided=0.5)
    half = augment(photos, tmp_path / "half", plan, generator, critic=critic)
    asked = [entry.origin for entry in half.entries if entry.label is Label.FAKE]
    assert [origin.guided for origin in asked] == [False, True, False, True]
    assert {(o.prompt, o.strength) for o in asked if o.guided} == {("", None)}
    assert all(o.prompt in {"dog", "cat"} and o.strength for o in asked if not o.guided)
    steps = len(signs)
    assert steps > 0
    augment(photos, tmp_path / "all", replace(plan, guided=1.0), generator, critic=critic)
    assert len(signs) - steps == 2 * steps
    assert [plan.against(twin) for twin in range(4)] == [False, True, False, True]
    with pytest.raises(RecipeError, match="need one"):
        augment(photos, tmp_path / "none", plan, generator)
    with pytest.raises(RecipeError, match="share of 0 to 1"):
        replace(plan, guided=1.5)


def test_edits_against_the_detector_and_others_have_both_strengths(generator):
    photos = [Entry(Path(f"{n}.png"), Label.REAL) for n in range(100)]
    for share in (0.25, 0.5):
        plan = PolicyPlan("actgen", 100, "g", guided=share)
        made = [job for job, _ in plan.pairs(photos, generator)]
        beside = Counter((job.strength, plan.against(job.twin)) for job in made)
        assert len(beside) == 4
        assert min(beside.values()) > 5


def test_rounds_with_other_weights_or_guides_are_refused(recipe, generator, manifest, tmp_path):
    plan = replace(PLAN, count=1, guided=False, largest_side=40)
    _, (found,) = run(recipe, plan, generator, tmp_path)
    assert 0 <= found.either_way <= found.made
    made = read_manifest(tmp_path / "round-0" / "made" / "manifest.csv")
    assert {decode(entry.path).image.shape for entry in made} == {(40, 40, 3)}
    other = copy.deepcopy(generator)
    next(other.parameters()).add_(0.01)
    with pytest.raises(RecipeError, match="not the same generator"):
        run(recipe, plan, other, tmp_path)
    guide = manifest.parent / "1.png"
    kept = guide.read_bytes()
    try:
        Image.fromarray(255 - decode(guide).image).save(guide)
        with pytest.raises(RecipeError, match=r"guides holds .* photos and sources"):
            run(recipe, plan, generator, tmp_path)
    finally:
        guide.write_bytes(kept)


def test_a_resumed_round_edits_whom_it_chose_whatever_the_last_digits_say(
    recipe, generator, tmp_path, monkeypatch
):
    plan = replace(PLAN, count=1, guided=False)
    run(recipe, plan, generator, tmp_path)
    made = tmp_path / "round-0" / "made" / "manifest.csv"
    before = read_manifest(made)
    monkeypatch.setattr(rounds, "_logit", lambda *_: 0.0)
    run(recipe, plan, generator, tmp_path)
    assert read_manifest(made) == before


def test_a_photo_listed_twice_is_one_guide(recipe, generator, manifest):
    twice = manifest.parent / "twice.csv"
    rows = manifest.read_text().splitlines()
    twice.write_text("\n".join([*rows, *(row for row in rows if ",walk," in row)]))
    data = replace(recipe.data, manifests=(str(twice),))
    training, guides = rounds.divided(replace(recipe, data=data), PLAN)
    assert len(guides) == len({guide.path for guide in guides}) == 8
    assert not {entry.path for entry in training} & {guide.path for guide in guides}


@pytest.mark.parametrize("fit", ["resize", "center_crop", "tiles"])
@pytest.mark.parametrize("size", [(20, 50), (40, 70)])
def test_a_critic_says_what_the_detector_says_and_knows_the_way_down(fit, size):
    torch.manual_seed(0)
    detector = detectors.get("npr").build(replace(NPR, fit=fit))
    critic = critic_of(detector)
    pixels = torch.rand(2, 3, *size, requires_grad=True)
    said = critic(pixels)
    assert said.shape == (2,)
    (slope,) = torch.autograd.grad(said.sum(), pixels)
    assert slope.abs().sum() > 0
    if fit == "center_crop" and size == (40, 70):
        picture = (pixels[0].detach() * 255).round().byte().permute(1, 2, 0).numpy()
        (view,) = views_of(picture, detector.view)
        with torch.no_grad():
            expected = detector(torch.from_numpy(view.pixels)[None]).logit
            asked = critic(generators.to_pixels(picture))
        torch.testing.assert_close(asked, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"guides": ("hidden",)}, "Source hidden is kept apart for validation"),
        ({"guides": ("nowhere",)}, "No photo of guide source nowhere"),
        ({"guides": ()}, "No photo of guide source"),
        ({"budget": 9}, "A budget of 9 with 8 guides"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    recipe, generator, tmp_path, change, says
):
    with pytest.raises(GammascopeError, match=says):
        run(recipe, replace(PLAN, **change), generator, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_generators_that_cannot_and_streams_are_refused(recipe, tmp_path):
    flat = generators.build("iq_vae", generators.get("iq_vae").tiny)
    with pytest.raises(RecipeError, match="iq_vae cannot do 'edit'"):
        run(recipe, PLAN, flat, tmp_path)
    mute = generators.build("harmon", generators.get("harmon").tiny)
    with pytest.raises(RecipeError, match="harmon cannot do 'guided'"):
        run(recipe, PLAN, mute, tmp_path)
    apart = replace(recipe.data, validation_generators=("small_diffusion:untrained",))
    writer = generators.build("small_diffusion", generators.get("small_diffusion").tiny)
    with pytest.raises(RecipeError, match="nothing that it makes would be learnt"):
        run(replace(recipe, data=apart), PLAN, writer, tmp_path)
    streamed = replace(recipe, data=replace(recipe.data, streaming=Streaming("s3")))
    with pytest.raises(RecipeError, match="streaming"):
        rounds.divided(streamed, PLAN)
    with pytest.raises(MissingDataError, match="names no data"):
        rounds.divided(replace(recipe, data=Data()), PLAN)
    with pytest.raises(RecipeError, match="expected 1 or more"):
        replace(PLAN, count=0)


def test_the_command_says_what_each_round_found(manifest, generator, tmp_path):
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / generators.FILE).write_bytes(generators.to_bytes(generator))
    (tmp_path / "r.toml").write_text(
        '[method]\nname = "npr"\nwidth = 4\ndepths = [1, 1]\nsize = 32\n[data]\nworkers = 0\n'
        "[data.mixture]\nauthentic = 0.5\ngenerated = 0.5\ncontrol = 0\ntwins = 0\ninpainted = 0\n"
        "filled = 0\ncopy_move = 0\nspliced = 0\n"
        '[optimisation]\nsteps = 1\nbatch = 2\nprecision = "no"\n'
    )
    arguments = [
        *("rounds", tmp_path / "r.toml", "--data", manifest, "--out", tmp_path / "out"),
        *("--generator", tmp_path / "writer", "--guide", "walk", "--rounds", 1, "--budget", 2),
        *("--choose", "random", "--no-guided", "--quality", "png", "--json"),
    ]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert [each["made"] for each in said["rounds"]] == [2]
    assert said["checkpoint"].endswith("checkpoint.safetensors")
