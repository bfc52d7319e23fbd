"""How versions of images are counted, and how each is judged by a fit without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.detectors import base
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.evaluation.calibrating import (
    Plan,
    _donor,
    _fit,
    _Gathered,
    _held_out,
    _Versions,
    calibrate,
)
from gammascope.evaluation.fitting import fit_thresholds
from gammascope.sample import Entry, Label, Sample

ROUGH = Plan(false_alarms=0.5)
"""What a single photo can promise."""


def gathered(photos: int, seed: int = 0) -> _Gathered:
    """As many fakes as photos, two versions of each."""
    rng, found = np.random.default_rng(seed), _Gathered()
    for at in range(2 * photos):
        fake = at % 2
        facts = {"path": f"{at}-{seed}.png", "label": fake, "source": f"s{at % 3}", "format": "png"}
        facts |= {"generator": "", "kind": "", "error": "", "width": 300, "height": 600}
        found.facts.append(facts | {"jpeg_quality": None})
        own = rng.normal(3.0 * fake, 1.0)
        for version in range(2):
            found.logits.append(own + rng.normal(0, 0.3))
            found.truth.append(fake)
            found.photo.append(not fake)
            found.as_is.append(version == 0)
            found.image.append(at)
    return found


def test_each_photo_counts_once_at_its_worst_version() -> None:
    found = _Versions.of(gathered(30))
    worst = found.extreme(found.photo, highest=True)
    assert len(np.unique(worst.image)) == len(worst.image) == 30
    for image, logit in zip(worst.image, worst.logits, strict=True):
        assert logit == found.logits[found.image == image].max()
    faintest = found.extreme(found.truth == 1, highest=False)
    for image, logit in zip(faintest.image, faintest.logits, strict=True):
        assert logit == found.logits[found.image == image].min()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_conformal_rates_hold_on_photos_of_other_draws_for_every_version(method) -> None:
    alarms = []
    for seed in range(40):
        fitted = _fit(_Versions.of(gathered(40, seed)), Plan(method, "conformal", 0.1, 0.1))
        assert (fitted.photos, fitted.rates[1], fitted.missed) == (40, 0.1, 0.1)
        new = _Versions.of(gathered(100, 1000 + seed))
        alarms.append(np.mean(new.logits[new.photo] >= fitted.fake_from))
    assert 0.02 < np.mean(alarms) <= 0.1


def test_the_worst_zone_keeps_the_rate_in_every_source() -> None:
    found = gathered(600)
    for index, image in enumerate(found.image):
        found.logits[index] += 2.0 * (found.facts[image]["source"] == "s0")
    versions = _Versions.of(found)
    photos = versions.where(versions.photo)
    of_odd = photos.logits[photos.sources == "s0"]
    fitted = _fit(versions, Plan(zone="worst", false_alarms=0.01))
    assert (fitted.zone, fitted.rates) == ("worst", (0.05, 0.01))
    assert np.mean(of_odd >= fitted.fake_from) <= 0.01
    assert np.mean(of_odd >= _fit(versions, Plan(false_alarms=0.01)).fake_from) > 0.02


def test_versions_of_a_photo_do_not_make_a_source_large_enough() -> None:
    versions = _Versions.of(gathered(60))
    plan = Plan(zone="worst", false_alarms=0.01)
    # No source has the hundred photos that a rate of 1 % can be told from, though some have as many versions.
    fitted = _fit(versions, plan)
    worst = versions.extreme(versions.photo, highest=True)
    mean = fit_thresholds(worst.logits, worst.sources.tolist(), (0.05, 0.01))
    assert fitted.fake_from == mean[1]
    assert all(point.logit is None for point in fitted.points if point.rate == 0.01)


def test_every_image_is_judged_as_it_is_by_a_fit_that_did_not_see_it() -> None:
    found = gathered(60)
    # One photo so far off that a fit on it would not flag it: seen, the threshold lies above it.
    found.logits[0] = found.logits[1] = 50.0
    held = _held_out(found, "generated", Plan(false_alarms=0.005))
    assert not held.missing
    assert len(held.table) == len(held.truth) == 120
    assert held.table["logit_generated"][0] > 40
    assert _fit(_Versions.of(found), Plan(false_alarms=0.005)).fake_from > 50.0
    assert ((held.probability >= 0) & (held.probability <= 1)).all()


def test_too_few_images_for_fits_without_a_fifth_are_said_to_be() -> None:
    held = _held_out(gathered(10), "generated", Plan(zone="conformal", false_alarms=0.1))
    assert "at least 9 are needed" in held.missing


@pytest.fixture
def checkpoint_of(tmp_path):
    """Write a detector that has learnt nothing, and says that it kept some sources apart."""

    def make(name: str, apart: list[str], seed: int = 0, seen: tuple[str, ...] = (), **config):
        definition = base.get("gamma")
        torch.manual_seed(seed)
        detector = definition.build(replace(definition.tiny, **config)).eval()
        recipe = {"data": {"validation_sources": apart}}
        facts = checkpoints.Facts(
            "gamma", settings.plain(detector.config), detector.view, recipe=recipe, seen=seen
        )
        path = tmp_path / f"{name}.safetensors"
        checkpoints.save(path, detector, facts)
        return path

    return make


def test_others_answer_for_what_they_kept_apart(checkpoint_of, collection):
    entries = read_manifest(collection)
    mine = [entry for entry in entries if entry.source == "held-out"]
    theirs = [entry for entry in entries if entry.source == "coffee"]
    one, other = checkpoint_of("one", ["held-out"]), checkpoint_of("other", ["coffee"], seed=1)
    with pytest.raises(
        MissingDataError, match="coffee was trained on: what was kept apart is held-out"
    ):
        calibrate(one, [*mine, *theirs], ROUGH)
    assert not checkpoints.read_facts(one).calibration
    together = calibrate(one, [*mine, *theirs], ROUGH, like=[other]).calibration["generated"]
    assert together.sources == ("coffee", "held-out")
    alone = calibrate(other, theirs, ROUGH).calibration["generated"]
    coffee = [point for point in together.points if point.source == "coffee"]
    assert coffee == list(alone.points)  # as the other sees it, to the last bit
    assert checkpoints.read_facts(one).calibration["generated"] == together


def test_what_it_kept_apart_itself_it_answers_itself(checkpoint_of, collection):
    mine = [entry for entry in read_manifest(collection) if entry.source == "held-out"]
    one, other = checkpoint_of("one", ["held-out"]), checkpoint_of("other", ["held-out"], seed=1)
    assert (
        calibrate(one, mine, ROUGH, like=[other]).calibration
        == calibrate(one, mine, ROUGH).calibration
    )


def test_the_same_checkpoint_twice_cannot_help(checkpoint_of, collection):
    one = checkpoint_of("one", ["held-out"])
    with pytest.raises(RecipeError, match=r"--like .*one\.safetensors is the same checkpoint as"):
        calibrate(one, read_manifest(collection), ROUGH, like=[one])
    assert not checkpoints.read_facts(one).calibration


def test_another_design_cannot_help(checkpoint_of, collection):
    one, other = checkpoint_of("one", ["held-out"]), checkpoint_of("other", ["coffee"], pool="max")
    with pytest.raises(IncompatibleCheckpointError, match="other settings"):
        calibrate(one, read_manifest(collection), ROUGH, like=[other])


def test_photos_of_ones_own_may_be_calibrated_on(checkpoint_of, collection):
    """A detector that says what it was trained on can be calibrated on anything else."""
    path = checkpoint_of("one", [], seen=("coffee",))
    entries = read_manifest(collection)
    mine = [entry for entry in entries if entry.source == "motorcycle"]
    assert calibrate(path, mine, ROUGH).calibration["generated"].sources == ("motorcycle",)
    with pytest.raises(MissingDataError, match="coffee was trained on"):
        calibrate(path, entries, ROUGH)
    with pytest.raises(MissingDataError, match="has no source"):
        calibrate(path, [replace(entry, source=None) for entry in mine], ROUGH)


def test_a_manifest_of_which_nothing_can_be_read_leaves_the_calibration(checkpoint_of, tmp_path):
    path = checkpoint_of("one", [], seen=("coffee",))
    checkpoints.recalibrate(
        path, {"generated": checkpoints.Calibration(1.0, 0.0, 1.0, (0.1, 0.1), 9, ("s",))}
    )
    moved = [
        Entry(tmp_path / f"{n}.png", Label(n % 2), source="moved", generator="g" if n % 2 else None)
        for n in range(80)
    ]
    with pytest.raises(MissingDataError, match="None of the 80 images can be read"):
        calibrate(path, moved, ROUGH)
    assert set(checkpoints.read_facts(path).calibration) == {"generated"}


def test_pieces_come_from_photos_that_can_give_one(tmp_path, photos):
    tiny, whole = tmp_path / "tiny.png", tmp_path / "whole.png"
    PIL.Image.fromarray(photos["cat"][:12, :12]).save(tiny)
    PIL.Image.fromarray(photos["cat"]).save(whole)
    gone = Entry(tmp_path / "gone.png", Label.REAL)
    entries = [Entry(tiny, Label.REAL), Entry(whole, Label.REAL), gone]
    host = Sample(entries[1], photos["coffee"], None, None)
    rng, pictures = np.random.default_rng(0), Pictures(0)
    for _ in range(20):
        assert _donor(entries, pictures, host, rng).image.shape == photos["cat"].shape
    assert _donor([gone], pictures, host, rng).image is host.image
