"""The training loop: it learns, resumes bit for bit, keeps what is apart, and refuses what it must."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gammascope import checkpoints, settings
from gammascope.data.batches import Collate
from gammascope.data.edits import Generators, Plan, make_edits
from gammascope.data.laws import Mixture, Pairs
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import base, gamma
from gammascope.errors import MissingDataError, RecipeError
from gammascope.imaging import codecs
from gammascope.networks.mobilenet import MobileNetConfig
from gammascope.prediction import Batch
from gammascope.sample import Label
from gammascope.training import probing
from gammascope.training.loop import (
    CHECKPOINT,
    LOG,
    STATE,
    _groups,
    _schedule,
    refuse_divided_weights,
    train,
    write_checkpoint,
)
from gammascope.training.recipe import (
    Data,
    Keeping,
    Optimisation,
    Probing,
    Recipe,
    Rhythm,
    plain_recipe,
    recipe_of,
    without_places,
)
from gammascope.training.run_folder import RECIPE, Progress
from gammascope.training.views import entries_of, loader_of, streams

KINDS = [item.name for item in fields(Mixture)]
TINY = replace(base.get("gamma").tiny, manip_label="by_pixels")


def recipe_for(manifest: Path, **optimisation) -> Recipe:
    values = {"steps": 6, "batch": 4, "precision": "no", "warmup_share": 0.2} | optimisation
    return Recipe(
        method="gamma",
        config=TINY,
        data=Data(manifests=(str(manifest),), validation_sources=("held-out",), workers=0),
        optimisation=Optimisation(**values),
        rhythm=Rhythm(log=2, validate=3, save=2, validation_views=6),
        seed=5,
        trained_on="five photographs",
    )


@pytest.fixture(scope="module")
def recipe(collection) -> Recipe:
    return recipe_for(collection)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    """A folder in which a run went through without interruption."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(recipe, folder)
    return folder


def same_weights(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def log_of(folder: Path) -> list[dict[str, float | str]]:
    return [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]


def test_a_checkpoint_names_no_place_on_this_machine(recipe, tmp_path):
    definition = base.get("mpft")
    config = replace(definition.tiny, backbone=str(tmp_path / "towers" / "clip"))
    here = replace(recipe.data, manifests=(str(tmp_path / "photos.csv"),))
    detector = definition.build(config)
    path = tmp_path / CHECKPOINT
    write_checkpoint(path, detector, replace(recipe, method="mpft", config=config, data=here))
    facts = checkpoints.read_facts(path)
    assert str(tmp_path) not in json.dumps(settings.plain(facts))
    assert facts.config["backbone"] == facts.recipe["method"]["backbone"] == "clip"
    assert checkpoints.load(path).detector.config.architecture == config.architecture


def test_a_run_leaves_a_checkpoint_that_knows_everything(recipe, finished):
    checkpoint = checkpoints.load(finished / CHECKPOINT, method="gamma")
    facts = checkpoint.facts
    assert facts.view == checkpoint.detector.view == base.get("gamma").build(TINY).view
    assert recipe_of(facts.recipe, "checkpoint") == without_places(recipe)
    assert not facts.recipe["data"]["manifests"], "paths of this machine mean nothing elsewhere"
    assert facts.trained_on == "five photographs"
    assert facts.version
    assert not facts.calibration
    report = Pipeline.load(finished / CHECKPOINT).report(np.zeros((40, 50, 3), np.uint8))
    assert not report.calibrated


def test_the_same_recipe_gives_the_same_weights(recipe, finished, tmp_path):
    assert same_weights(train(recipe, tmp_path / "again"), finished / CHECKPOINT)


def test_another_seed_gives_other_weights(recipe, finished, tmp_path):
    other = train(replace(recipe, seed=6), tmp_path / "other")
    assert not same_weights(other, finished / CHECKPOINT)


def test_the_weights_that_are_kept_are_averages(recipe, finished, tmp_path):
    """Without a decay the average is the last network itself."""
    optimisation = replace(recipe.optimisation, ema=0.0)
    path = train(replace(recipe, optimisation=optimisation), tmp_path / "last")
    assert same_weights(path, tmp_path / "last" / STATE / "model.safetensors")
    assert same_weights(finished / STATE / "model.safetensors", path), "averaging guides nothing"
    averaged, last = load_file(finished / CHECKPOINT), load_file(path)
    for key, value in last.items():
        assert torch.isfinite(averaged[key]).all()
        assert averaged[key].dtype == value.dtype
    assert not torch.equal(averaged["classify.weight"], last["classify.weight"])
    # Statistics of batch norm belong to the weights they were gathered with, so they are averaged, too.
    running = "backbone.stem.1.running_mean"
    assert not torch.equal(averaged[running], last[running])


@pytest.mark.parametrize("pauses", [[2], [1, 2], [5], [6]])
def test_a_resumed_run_equals_an_uninterrupted_one(recipe, finished, tmp_path, pauses):
    folder = tmp_path / "run"
    for index, steps in enumerate(pauses):
        train(recipe, folder, resume=index > 0, stop_after=steps)
        torch.rand(3)  # A new process starts from another state of the generator.
    path = train(recipe, folder, resume=True)
    assert same_weights(path, finished / CHECKPOINT)
    # The validation of the last step is that of the uninterrupted run, too.
    figures = [row for row in log_of(folder) if row["stage"] == "validation" and row["step"] == 6]
    expected = [
        row for row in log_of(finished) if row["stage"] == "validation" and row["step"] == 6
    ]
    assert figures[-1] == expected[-1]


def test_batches_leave_torchs_generator_to_the_network(recipe, collection):
    """A network with dropout draws from it, and a resumed run has to go on where it stopped."""
    detector = base.get("gamma").build(TINY)
    training, _ = streams(recipe, detector, lambda _: None)
    torch.manual_seed(3)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(3))
    for _ in range(2):
        list(loader_of(training, 0, 4, 4, detector.view, 0))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.slow
def test_a_resumed_run_with_workers_equals_one_without(recipe, finished, tmp_path):
    busy = replace(recipe, data=replace(recipe.data, workers=1))
    folder = tmp_path / "run"
    train(busy, folder, stop_after=3)
    assert same_weights(train(busy, folder, resume=True), finished / CHECKPOINT)


def test_a_crash_while_saving_loses_no_state(recipe, finished, tmp_path):
    """Killed between the two renames, the complete state lies under its other name."""
    folder = tmp_path / "run"
    train(recipe, folder, stop_after=4)
    (folder / STATE).rename(folder / f"{STATE}.old")
    shutil.copytree(folder / f"{STATE}.old", folder / f"{STATE}.part")
    assert same_weights(train(recipe, folder, resume=True), finished / CHECKPOINT)


def test_a_run_is_never_overwritten(recipe, finished):
    before = (finished / CHECKPOINT).read_bytes()
    with pytest.raises(RecipeError, match="holds a run already: pass --resume"):
        train(recipe, finished)
    assert (finished / CHECKPOINT).read_bytes() == before


def test_another_recipe_is_not_resumed(recipe, finished):
    other = replace(recipe, optimisation=replace(recipe.optimisation, learning_rate=0.5))
    with pytest.raises(
        RecipeError, match=r"another recipe \(optimisation.learning_rate is .*, 0.5 here\)"
    ):
        train(other, finished, resume=True)


def test_a_run_that_is_older_than_a_setting_is_resumed(recipe, finished, tmp_path):
    folder = tmp_path / "run"
    train(recipe, folder, stop_after=3)
    values = json.loads((folder / RECIPE).read_text("utf-8"))
    del values["optimisation"]["divided"]
    del values["data"]["streaming"]
    (folder / RECIPE).write_text(json.dumps(values), "utf-8")
    assert same_weights(train(recipe, folder, resume=True), finished / CHECKPOINT)


@pytest.mark.parametrize("there", [False, True])
def test_nothing_to_resume_is_missing_data(recipe, tmp_path, there):
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
    with pytest.raises(MissingDataError, match="Nothing to resume in"):
        train(recipe, folder, resume=True)


def test_a_run_ends_with_readings_of_whole_pictures(recipe, collection, tmp_path):
    sizes = MobileNetConfig(8, (8, 8, 16), (1, 1, 1), (1, 2, 2), fused=16, token=16)
    config = replace(
        TINY,
        backbone="mobilenetv2",
        mobilenetv2=sizes,
        overview=0.3,
        whole=gamma.WholeConfig(content=1.0, views=24),
    )
    short = replace(recipe.optimisation, steps=2)
    path = train(replace(recipe, config=config, optimisation=short), tmp_path / "run")
    loaded = checkpoints.load(path)
    readings = loaded.detector.readings
    assert readings.content_weight.any()
    assert readings.content_weight.isfinite().all()
    image = np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8)
    pipeline = Pipeline(loaded.detector, loaded.facts, loaded.sha256)
    told = pipeline.scores(image).logit
    readings.content_bias += 3
    assert pipeline.scores(image).logit == pytest.approx(told + 3, abs=1e-3)


def test_photos_and_their_twins_come_in_one_batch_and_resume_exactly(recipe, tmp_path):
    paired = replace(recipe, data=replace(recipe.data, pairs=Pairs(share=1.0)))
    training, validation = streams(paired, base.get("gamma").build(TINY), lambda _: None)
    batch = next(iter(loader_of(training, 0, 8, 8, base.get("gamma").build(TINY).view, 0)))
    assert batch.label.tolist() == [0, 1] * 4
    assert not validation.pairs.share, "validation keeps to the mixture"
    whole = train(paired, tmp_path / "whole")
    train(paired, tmp_path / "parts", stop_after=3)
    assert same_weights(train(paired, tmp_path / "parts", resume=True), whole)
    odd = replace(paired, optimisation=replace(recipe.optimisation, batch=5))
    with pytest.raises(RecipeError, match=r"divides photos from their twins.* a multiple of 2"):
        train(odd, tmp_path / "odd")


SIZES = MobileNetConfig(8, (8, 8, 16), (1, 1, 1), (1, 2, 2), fused=16, token=16, trained="own")


@pytest.mark.parametrize(
    ("method", "config", "told"),
    [
        ("gamma", replace(TINY, backbone="mobilenetv2", mobilenetv2=SIZES), "its weights are rand"),
        ("effort", replace(base.get("effort").tiny, backbone="compact"), "its weights are random"),
        ("linear_probe", base.get("linear_probe").tiny, "its weights are random"),
        (
            "align_gemini",
            replace(base.get("align_gemini").tiny, backbone="facebook/dinov2-large"),
            r"method\.architecture is given",
        ),
    ],
)
def test_a_frozen_backbone_with_random_weights_is_refused(recipe, tmp_path, method, config, told):
    """It would train to the end, and its checkpoint would look like any other."""
    blind = replace(recipe, method=method, config=config)
    with pytest.raises(RecipeError, match=rf"is frozen, and .*{told}.*method\.backbone=embedded"):
        train(blind, tmp_path / "run")
    if method == "linear_probe":
        with pytest.raises(RecipeError, match=r"is frozen, and .*method\.backbone=embedded"):
            probing.fit(replace(blind, probing=Probing()), tmp_path / "fit")


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("gamma", replace(TINY, backbone="embedded", size=64)),
        ("align_gemini", base.get("align_gemini").tiny),  # named "random": a control
        ("gamma", replace(TINY, backbone="mobilenetv2", mobilenetv2=replace(SIZES, trained="all"))),
    ],
)
def test_what_was_taught_or_is_trained_as_a_whole_is_not_refused(recipe, tmp_path, method, config):
    short = replace(recipe.optimisation, steps=1)
    train(replace(recipe, method=method, config=config, optimisation=short), tmp_path / "run")


def test_the_recipe_lies_beside_the_run(recipe, finished):
    assert json.loads((finished / RECIPE).read_text("utf-8")) == plain_recipe(recipe)


def test_figures_are_logged_in_their_rhythm(finished):
    rows = log_of(finished)
    steps = {
        stage: [row["step"] for row in rows if row["stage"] == stage]
        for stage in ("training", "validation")
    }
    assert steps["training"] == [2, 4, 6]
    assert set(steps["validation"]) <= {3, 6}
    terms = {"label_bce", "generated_bce", "generated_dice", "edited_bce", "edited_dice"}
    for row in rows:
        if row["stage"] == "training":
            assert terms | {"was_edited_bce", "loss", "learning_rate"} <= row.keys()
            parts = sum(float(row[term]) for term in [*terms, "was_edited_bce"])
            assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)
    assert list(finished.rglob("events.out.tfevents*")), "curves for TensorBoard"


@pytest.mark.parametrize("cosine_steps", [0, 40])
def test_the_rate_falls_along_a_cosine_and_rises_again_where_a_recipe_says_so(cosine_steps):
    """With its own length as torch's scheduler has it, which knows no end either."""
    how = Optimisation(
        steps=101,
        learning_rate=1e-2,
        final_learning_rate=1e-4,
        warmup_share=0.0,
        cosine_steps=cosine_steps,
    )
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], how.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, cosine_steps or 100, how.final_learning_rate
    )
    expected = []
    for _ in range(100):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    factor = _schedule(how)
    found = [how.learning_rate * factor(step + 1) for step in range(100)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert (found[60] > found[40]) == (cosine_steps == 40)


def test_a_tower_learns_at_a_rate_of_its_own(collection, tmp_path):
    """At none it stays what it was, and the heads above it learn; its momentum cannot move it either."""
    recipe = recipe_for(collection, tower_rate=0.0)
    before, after = (_after(recipe, tmp_path / "run", steps) for steps in (2, 4))
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    learnt = {name for name, _ in base.get("gamma").build(TINY).named_parameters()}
    assert moved & learnt == {name for name in learnt if not name.startswith("backbone.")}
    slow = [
        group["lr"]
        for group in _groups(base.get("gamma").build(TINY), Optimisation(tower_rate=0.02))
    ]
    assert slow == pytest.approx([1e-3, 1e-3, 2e-5, 2e-5])


def _after(recipe: Recipe, folder: Path, steps: int) -> dict[str, torch.Tensor]:
    train(recipe, folder, resume=folder.exists(), stop_after=steps)
    return load_file(folder / STATE / "model.safetensors")


def test_progress_is_reported(recipe, tmp_path):
    seen: list[Progress] = []
    train(recipe, tmp_path / "run", report=seen.append)
    stages = [progress.stage for progress in seen]
    assert stages.count("training") == 6
    assert stages.count("loading") == 15
    assert all(progress.done <= progress.total for progress in seen)
    assert [p.done for p in seen if p.stage == "training"] == [1, 2, 3, 4, 5, 6]


def test_sources_kept_apart_are_never_trained_on(recipe):
    training, validation = entries_of(recipe)
    assert {entry.source for entry in validation} == {"held-out"}
    assert "held-out" not in {entry.source for entry in training}
    assert len(training) == 9
    hosts = {entry.path for entry in training}
    assert all(entry.host_path in hosts for entry in training if entry.host_path)


@pytest.fixture(scope="module")
def edits(collection, tmp_path_factory) -> Path:
    """What ``synthesize`` makes of the photos; what stands for a generator is a blur."""
    photos = [entry for entry in read_manifest(collection) if entry.label is Label.REAL]
    folder = tmp_path_factory.mktemp("edits")
    kinds = ("copy_move", "telea", "diffusion", "splicing")
    plan = Plan(kinds=kinds, per_photo=4, controls=0, inpainter="blur")
    make_edits(photos, folder, plan, Generators(inpainter=Blur()))
    return folder / "manifest.csv"


class Blur:
    """Writes the whole frame anew, as a diffusion model does."""

    generative = True
    replaces_content = True

    def __call__(self, image, mask, rng):  # noqa: ARG002 - the Inpainter protocol
        return codecs.blur(image, 1.2)


def test_manipulated_pictures_are_trained_on_if_they_have_a_share(
    recipe, collection, edits, tmp_path
):
    mixture = replace(Mixture(**dict.fromkeys(KINDS, 0.0)), authentic=0.5, made=0.5)
    data = replace(recipe.data, manifests=(str(collection), str(edits)), mixture=mixture)
    seen: list[Progress] = []
    path = train(replace(recipe, data=data), tmp_path / "run", report=seen.append)
    assert {"f1_edited", "f1_generated"} <= {key for row in log_of(tmp_path / "run") for key in row}
    assert checkpoints.read_facts(path).seen == ("astronaut", "coffee", "motorcycle")
    assert not any("manipulated left out" in progress.values for progress in seen)


def test_a_run_tells_how_many_manipulated_pictures_it_leaves_out(
    recipe, collection, edits, finished, tmp_path
):
    data = replace(recipe.data, manifests=(str(collection), str(edits)))
    seen: list[Progress] = []
    path = train(replace(recipe, data=data), tmp_path / "run", report=seen.append)
    assert {"manipulated left out": 12.0} in [progress.values for progress in seen]
    assert same_weights(path, finished / CHECKPOINT), "views are drawn as if they were not there"


def test_what_was_made_of_a_photo_is_kept_apart_with_it(recipe, collection, edits, tmp_path):
    """Whatever source its own row names."""
    renamed = [replace(entry, source="edits") for entry in read_manifest(edits)]
    write_manifest(renamed, tmp_path / "manifest.csv")
    manifests = (str(collection), str(tmp_path / "manifest.csv"))
    training, validation = entries_of(
        replace(recipe, data=replace(recipe.data, manifests=manifests))
    )
    assert sum(entry.source == "edits" for entry in training) == 12
    assert sum(entry.source == "edits" for entry in validation) == 8


def test_pictures_whose_mask_is_broken_are_left_out(recipe, collection, edits, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(edits.parent, root)
    masks = sorted(root.rglob("*.edited.png"))
    masks[0].write_bytes(b"no mask")
    entries = [replace(entry, host_path=None) for entry in read_manifest(root / edits.name)]
    write_manifest(entries, root / edits.name)
    manifests = (str(collection), str(root / edits.name))
    data = replace(recipe.data, manifests=manifests, mixture=replace(Mixture(), made=0.2))
    seen: list[Progress] = []
    train(replace(recipe, data=data), tmp_path / "run", stop_after=1, report=seen.append)
    assert {"broken": 1.0} in [progress.values for progress in seen]


@pytest.mark.parametrize("fit", ["resize", "center_crop", "tiles"])
def test_training_and_validation_obey_the_fit(recipe, fit):
    detector = base.get("npr").build(replace(base.get("npr").tiny, fit=fit))
    training, validation = streams(recipe, detector, lambda _: None)
    assert (training.fit, validation.fit) == (fit, fit)


def test_a_checkpoint_says_what_it_was_trained_on(finished):
    facts = checkpoints.read_facts(finished / CHECKPOINT)
    assert facts.seen == ("astronaut", "coffee", "motorcycle")
    assert "held-out" in facts.kept_apart.sources


def test_generators_kept_apart_are_never_trained_on_whatever_their_source(recipe):
    known = {entry.generator for entry in entries_of(recipe)[0] if entry.generator}
    apart = sorted(known)[0]
    training, validation = entries_of(
        replace(recipe, data=replace(recipe.data, validation_generators=(apart,)))
    )
    assert apart not in {entry.generator for entry in training}
    assert {entry.generator for entry in validation if entry.source != "held-out"} == {apart}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_generators": ("gan-3",)}, "No image of validation generator gan-3"),
        ({"manifests": ()}, "The recipe names no data"),
        ({"manifests": ("nowhere.csv",)}, "No table at nowhere.csv"),
        ({"split": "trian"}, "no row in split 'trian'. Did you mean 'train'"),
        ({"validation_sources": ("held-out", "attic")}, "No image of validation source attic"),
        (
            {"validation_sources": ("astronaut", "coffee", "motorcycle", "held-out")},
            "No real photo",
        ),
    ],
)
def test_missing_data_is_named(recipe, tmp_path, changes, message):
    without = replace(recipe, data=replace(recipe.data, **changes))
    with pytest.raises(MissingDataError, match=message):
        train(without, tmp_path / "run")


def test_broken_pictures_are_counted_and_left_out(recipe, tmp_path):
    """A twin whose photo is broken is left out with it."""
    manifest = Path(recipe.data.manifests[0])
    root = tmp_path / "copy"
    shutil.copytree(manifest.parent, root)
    (root / "coffee.jpg").write_bytes(b"\xff\xd8\xff broken")
    write_manifest(read_manifest(root / manifest.name), root / manifest.name)
    seen: list[Progress] = []
    data = replace(recipe.data, manifests=(str(root / manifest.name),))
    train(replace(recipe, data=data), tmp_path / "run", stop_after=1, report=seen.append)
    assert {"broken": 1.0} in [progress.values for progress in seen]


def test_a_loss_that_is_no_number_stops_the_run(recipe, tmp_path):
    wild = replace(recipe.optimisation, learning_rate=1e30, warmup_share=0.0, clip_norm=1e30)
    with pytest.raises(RecipeError, match="lower the learning rate"):
        train(replace(recipe, optimisation=wild), tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_half_precision_resumes_as_exactly(recipe, finished, tmp_path):
    half = replace(recipe, optimisation=replace(recipe.optimisation, precision="bf16"))
    whole = train(half, tmp_path / "whole")
    train(half, tmp_path / "parts", stop_after=3)
    assert same_weights(train(half, tmp_path / "parts", resume=True), whole)
    assert not same_weights(whole, finished / CHECKPOINT)
    assert all(value.dtype != torch.bfloat16 for value in load_file(whole).values())


def eight_views(collection: Path) -> Batch:
    """Eight views that hold every kind; what stands for a generator is a blur."""
    mixture = Mixture(0.3, 0.0, 0.2, 0.2, 0.2, 0.0, 0.2, 0.0)
    stream = Stream(read_manifest(collection), Pictures(10**9), TINY.size, mixture, seed=8)
    detector = base.get("gamma").build(TINY)
    return Collate(detector.view)([stream[index] for index in range(8)])


def test_a_tiny_detector_learns_eight_views_by_heart(collection):
    """Everything that must be learnt can be: loss of label and masks down to a tenth in 100 steps."""
    batch = eight_views(collection)
    assert 2 <= int(batch.label.sum()) <= 6
    torch.manual_seed(0)
    detector = base.get("gamma").build(TINY).train()
    loss = base.get("gamma").loss
    assert loss is not None
    terms_of = loss(TINY)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=1e-2)
    totals = []
    for _ in range(100):
        terms = terms_of(detector(batch.pixels), batch)
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0] / 10
    gates = [layer.gate for layer in detector.correct.attention.layers]
    assert all(gate.any() for gate in gates), "the correction has opened"


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED"])
def test_weights_divided_among_processes_are_refused(kind):
    with pytest.raises(
        RecipeError,
        match=f"under accelerate's {kind} is not supported: .* optimisation.divided = true",
    ):
        refuse_divided_weights(kind)
    refuse_divided_weights("MULTI_CPU")


def test_states_are_kept_of_towers_alone_and_where_they_lie_stays_here(collection, tmp_path):
    keeping = Keeping(str(tmp_path / "states"), 1)
    recipe = replace(recipe_for(collection), keeping=keeping)
    with pytest.raises(RecipeError, match="'gamma' sees with no tower here"):
        train(recipe, tmp_path / "run")
    assert recipe_of(plain_recipe(recipe), "here").keeping == keeping
    assert without_places(recipe).keeping is None
