"""What every augmentation policy promises, checked over all of them with a real, tiny generator."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gammascope.data.augmenting import PolicyPlan, augment
from gammascope.data.manifest import load_sample, read_manifest
from gammascope.data.policies import base
from gammascope.data.products import MANIFEST
from gammascope.errors import MissingDataError, RecipeError
from gammascope.imaging.codecs import Encoding, jpeg_quality
from gammascope.sample import Entry, KeptApart, Label

every_policy = pytest.mark.parametrize("name", base.names())
PROMPTS = ("dog", "cat")
APART = KeptApart(frozenset({"hidden"}))


@pytest.fixture(scope="module")
def generator(lively):
    return lively("small_diffusion")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    entries = []
    for number in range(14):
        path = folder / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (40, 37, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        source = ("a", "b", "hidden")[number % 3]
        entries.append(Entry(path, Label.REAL, source=source, split="train"))
    return [*entries, Entry(folder / "fake.png", Label.FAKE, source="a")]


def planned(name, pool, budget=8, seed=0):
    policy = base.get(name, accepted=True)
    return base.jobs(policy, pool, PROMPTS, budget, seed, APART)


@every_policy
def test_metadata_says_where_it_comes_from(name):
    policy = base.get(name, accepted=True)
    assert policy.paper.startswith("arXiv:")
    assert policy.title


@every_policy
def test_plans_are_deterministic_and_follow_the_seed_alone(name, pool):
    assert planned(name, pool) == planned(name, pool)
    assert planned(name, pool) == planned(name, list(reversed(pool)))
    assert planned(name, pool) != planned(name, pool, seed=1)


@every_policy
def test_both_arms_have_equal_factors_and_the_budget_is_kept(name, pool):
    jobs = planned(name, pool)
    arms = {arm: [job for job in jobs if job.arm == arm] for arm in ("generated", "control")}
    assert [len(each) for each in arms.values()] == [8, 8]
    counts = [Counter(job.factors for job in each) for each in arms.values()]
    assert counts[0] == counts[1]
    assert {job.prompt for job in arms["generated"]} == set(PROMPTS)
    assert {(job.prompt, job.strength) for job in arms["control"]} == {("", 0)}
    for first, second in zip(jobs[::2], jobs[1::2], strict=True):
        assert first.twin == second.twin
    hosts = [job.host.path for job in arms["generated"]]
    assert len(set(hosts)) == len(hosts)


@every_policy
def test_no_job_touches_a_source_held_out_or_a_fake(name, pool):
    jobs = planned(name, pool, budget=10)
    assert all(job.host.source != "hidden" for job in jobs)
    assert all(job.host.label is Label.REAL for job in jobs)
    with pytest.raises(RecipeError, match="A budget of 11 with 10 photos"):
        planned(name, pool, budget=11)


@every_policy
def test_a_photo_makes_one_pair_whatever_files_hold_it(name, pool, tmp_path):
    copies = []
    for entry in pool[:-1]:
        path = tmp_path / f"copy of {entry.path.name}"
        path.write_bytes(entry.path.read_bytes())
        copies.append(replace(entry, path=path, source="copied"))
    jobs = planned(name, [*pool, *pool, *copies], budget=10)
    assert len({job.host.path.read_bytes() for job in jobs}) == 10
    hidden = {entry.path.read_bytes() for entry in pool if entry.source == "hidden"}
    assert not {job.host.path.read_bytes() for job in jobs} & hidden


def made(name, pool, folder, generator, **changes):
    plan = PolicyPlan(name, 4, generator.signature, ("hidden",), accepted=True, **changes)
    return augment(pool, folder, plan, generator)


@every_policy
def test_products_are_labelled_truly_and_encoded_alike(name, pool, generator, tmp_path):
    made(name, pool, tmp_path, generator, encoding=Encoding("jpeg", 73))
    entries = read_manifest(tmp_path / MANIFEST)
    assert Counter(entry.label for entry in entries) == {Label.REAL: 4, Label.FAKE: 4}
    assert {jpeg_quality(entry.path.read_bytes()) for entry in entries} == {73}
    for entry in entries:
        assert entry.origin is not None
        assert entry.origin.policy == name
        sample = load_sample(entry)
        assert sample.generated is not None
        assert sample.edited is not None
        if entry.label is Label.REAL:
            assert not sample.generated.any()
            assert not sample.edited.any()
            assert (entry.origin.prompt, entry.origin.strength) == ("", None)
        else:
            assert entry.origin.prompt in PROMPTS
            assert 0 < entry.origin.strength < 1
            assert entry.generator == "small_diffusion:untrained"
            assert sample.generated.any()
    twins = Counter(entry.origin.twin for entry in entries if entry.origin)
    assert set(twins.values()) == {2}


@every_policy
def test_a_failed_job_never_becomes_a_fake(name, pool, generator, tmp_path, monkeypatch):
    calls = []

    def fails_every_second(image, prompt, strength, rng):
        calls.append(prompt)
        return np.zeros_like(image) if len(calls) % 2 else 255 - image

    monkeypatch.setattr(generator, "edit", fails_every_second)
    done = made(name, pool, tmp_path, generator)
    assert len(done.broken) == 2
    assert Counter(entry.label for entry in done.entries) == {Label.REAL: 2, Label.FAKE: 2}
    files = list(Path(tmp_path).rglob("*.jpg"))
    assert len(files) == 4
    for failed, said in (
        (lambda image, *_: image.copy(), "the answer is the photo"),
        (lambda image, *_: image[1:], r"the answer is \(39"),
    ):
        monkeypatch.setattr(generator, "edit", failed)
        with pytest.raises(MissingDataError, match=said):
            made(name, pool, tmp_path / "none", generator)
        assert not list((tmp_path / "none").rglob("*.jpg"))


@every_policy
def test_an_interrupted_run_goes_on_and_ends_alike(name, pool, generator, tmp_path):
    whole = made(name, pool, tmp_path / "a", generator)

    class StopError(Exception):
        pass

    def stop(done, _):
        if done == 2:
            raise StopError

    plan = PolicyPlan(name, 4, generator.signature, ("hidden",), accepted=True)
    with pytest.raises(StopError):
        augment(pool, tmp_path / "b", plan, generator, progress=stop)
    assert not (tmp_path / "b" / MANIFEST).exists()
    again = augment(pool, tmp_path / "b", plan, generator)
    assert again.kept == 4
    for first, second in zip(whole.entries, again.entries, strict=True):
        assert first.path.read_bytes() == second.path.read_bytes()


@every_policy
def test_pictures_of_other_photos_or_by_other_weights_are_not_taken_for_these(
    name, pool, generator, tmp_path, lively
):
    folder = tmp_path / "made"
    before = made(name, pool, folder, generator)
    files = {path: path.read_bytes() for path in folder.rglob("*.*")}
    others: list[Entry] = []
    for entry in pool:
        pixels = np.random.default_rng(len(others) + 100).integers(0, 256, (40, 37, 3))
        path = tmp_path / entry.path.name
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        others.append(replace(entry, path=path))
    with pytest.raises(
        RecipeError, match=r"not the same photos and sources \(sha256 .* another folder"
    ):
        made(name, others, folder, generator)
    renamed = [replace(entry, source={"a": "b"}.get(entry.source, entry.source)) for entry in pool]
    with pytest.raises(RecipeError, match="photos and sources"):
        made(name, renamed, folder, generator)
    again = lively("small_diffusion")
    next(again.parameters()).add_(0.01)
    assert again.signature == generator.signature
    with pytest.raises(RecipeError, match=r"not the same generator \(sha256 .* another folder"):
        made(name, pool, folder, again)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == files
    assert made(name, pool, folder, generator).entries == before.entries


@every_policy
def test_photos_are_reduced_in_both_arms(name, pool, generator, tmp_path):
    done = made(name, pool, tmp_path, generator, largest_side=32)
    sizes = {(entry.label, load_sample(entry).image.shape) for entry in done.entries}
    assert sizes == {(label, (32, 30, 3)) for label in Label}


@every_policy
def test_what_both_arms_go_through_is_the_same_in_both(
    name, pool, generator, tmp_path, monkeypatch
):
    """The generator inverts its photo: inverted back, its picture is the control, where that shows the same photo."""
    monkeypatch.setattr(generator, "edit", lambda image, *_: 255 - image)
    monkeypatch.setattr("gammascope.data.policies.genmix.FRACTAL_CHANCE", 0.0)
    plan = PolicyPlan(name, 10, "g", ("hidden",), encoding=Encoding("png"), accepted=True)
    arms: dict[str, dict[Label, Entry]] = {}
    for entry in augment(pool, tmp_path, plan, generator).entries:
        arms.setdefault(entry.origin.twin, {})[entry.label] = entry
    for both in arms.values():
        assert both[Label.REAL].origin.style == both[Label.FAKE].origin.style
        fake, control = (load_sample(both[label]) for label in (Label.FAKE, Label.REAL))
        outside = ~fake.generated
        np.testing.assert_array_equal(fake.image[outside], control.image[outside])
        if name != "genmix":
            np.testing.assert_array_equal(255 - fake.image, control.image)


def test_genmix_is_off_unless_its_notice_is_accepted():
    with pytest.raises(RecipeError, match=r"patent .* --accept-patent-notice"):
        base.get("genmix")
    assert base.get("interventions").notice == ""


def test_an_unknown_policy_is_named_with_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean 'genmix'"):
        base.get("genmx")
