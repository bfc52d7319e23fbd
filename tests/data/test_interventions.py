"""Interventions: what is drawn for a pair says nothing of its control, and no photo is in two pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gammascope.data.policies import interventions
from gammascope.sample import Entry, Label

PHOTOS = [Entry(Path(f"{n}.png"), Label.REAL, source="ab"[n % 2]) for n in range(480)]


def pairs(prompts, budget=240, photos=PHOTOS, seed=0):
    jobs = interventions.plan(photos, prompts, budget, np.random.default_rng(seed))
    return list(zip(jobs[::2], jobs[1::2], strict=True))


@pytest.mark.parametrize("prompts", [("",), ("dog", "cat", "shelf", "web")], ids=len)
def test_each_cell_has_photos_of_its_own_and_retrieved_ones_as_controls(prompts):
    planned = pairs(prompts)
    retrieved = [control.host is not made.host for made, control in planned]
    assert sum(retrieved) == 120
    for factor in ("prompt", "strength", "style"):
        values = [getattr(made, factor) for made, _ in planned]
        assert len(set(Counter(values).values())) == 1
        beside = Counter(zip(values, retrieved, strict=True))
        assert all(beside[value, True] and beside[value, False] for value in values)
    assert all(control.style == made.style for made, control in planned)
    assert all(control.host.source == made.host.source for made, control in planned)


def test_no_photo_is_in_two_pairs():
    for budget in (240, 400, 480):
        planned = pairs(("dog", "cat"), budget)
        photos = [path for both in planned for path in {job.host.path for job in both}]
        assert len(planned) == budget
        assert len(set(photos)) == len(photos)


def test_a_style_that_is_a_prompt_is_the_style_of_both():
    for made, control in pairs(("sketch", "dusk", "dog"), 60):
        assert made.style == control.style
        assert made.prompt in {made.style, "dog"}


def test_styles_change_a_photo_and_keep_its_size(photos):
    photo = np.ascontiguousarray(photos["cat"][:90, :120])
    looks = {name: style(photo) for name, style in interventions.STYLES.items()}
    assert {look.shape for look in looks.values()} == {photo.shape}
    np.testing.assert_array_equal(looks["plain"], photo)
    assert len({look.tobytes() for look in looks.values()}) == len(looks)
    assert (looks["sketch"] > 200).mean() > 0.5
    assert looks["dusk"].mean() < photo.mean()


def test_a_retrieved_control_is_of_the_split_of_its_pair():
    photos = [replace(photo, split=("train", "test")[n % 3 == 0]) for n, photo in enumerate(PHOTOS)]
    planned = pairs(("",), photos=photos)
    assert sum(control.host is not made.host for made, control in planned) > 80
    assert all(control.host.split == made.host.split for made, control in planned)
