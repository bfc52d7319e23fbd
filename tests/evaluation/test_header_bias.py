"""Whether headers tell the labels: chance where they do not, certainty where they do, and small print."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from gammascope.data.audit import Examined, Look
from gammascope.evaluation.header_bias import (
    Feature,
    Headers,
    carried,
    header_bias,
    headers_of,
)
from gammascope.evaluation.intervals import wilson
from gammascope.sample import Entry, Label

NO_LOOK = Look(0, bytes(768))


def file(number: int, label: Label, split: str = "test", **headers) -> Examined:
    known = {
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "file_bytes": 60_000,
        "jpeg_quality": 90,
        "subsampling": "4:2:0",
        "traits": frozenset({"jfif"}),
    }
    name = f"{split}{label.name}{number}"
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Examined(
        Entry(Path(name), label, split=split), sha256=digest, look=NO_LOOK, **(known | headers)
    )


def collection(seed: int, n: int = 80, split: str = "test", **of_fakes) -> list[Examined]:
    """Real and fake files of one law, but for what is said of the fakes."""
    rng = np.random.default_rng(seed)
    files = []
    for label in (Label.REAL, Label.FAKE):
        for number in range(n):
            drawn = {
                "width": int(rng.integers(300, 900)),
                "height": int(rng.integers(300, 900)),
                "file_bytes": int(rng.integers(20_000, 90_000)),
                "jpeg_quality": int(rng.integers(60, 99)),
                "traits": frozenset({"exif"} if rng.random() < 0.4 else ()),
            }
            drawn |= of_fakes if label is Label.FAKE else {}
            files.append(file(number, label, split, **drawn))
    return files


def test_one_law_for_both_labels_stays_at_chance_and_it_says_so():
    """In one collection the intervals may miss chance by bad luck, but not in many."""
    above = [header_bias(headers_of(collection(seed))).above_chance for seed in range(10)]
    assert sum(above) <= 1
    bias = header_bias(headers_of(collection(0)))
    assert bias.stump.low < 0.5 < bias.stump.high
    assert bias.statement.startswith("Headers alone do not tell real from fake: balanced accuracy")


@pytest.mark.parametrize(
    ("of_fakes", "rule"),
    [
        ({"format": "png", "jpeg_quality": None}, "fake if JPEG quality (0: no JPEG) is up to"),
        ({"traits": frozenset({"exif", "c2pa"})}, "fake if C2PA manifest"),
        ({"subsampling": "4:4:4"}, "real if chroma 4:2:0"),
        ({"width": 500, "height": 500}, "fake if square"),
    ],
)
def test_a_shortcut_is_found_and_named(of_fakes, rule):
    bias = header_bias(headers_of(collection(1, **of_fakes)))
    assert bias.stump.value > 0.95
    assert bias.above_chance
    assert bias.features[0].balanced_accuracy.value > 0.95
    assert bias.statement.startswith("Headers alone tell real from fake: balanced accuracy")
    assert rule in bias.statement


def test_two_properties_together_may_tell_what_none_tells_alone():
    rng = np.random.default_rng(3)
    files = []
    for number in range(300):
        label = Label(number % 2)
        landscape = rng.random() < 0.5
        fine = landscape == (label is Label.FAKE)
        size = {"width": 640, "height": 480} if landscape else {"width": 480, "height": 640}
        files.append(file(number, label, **size, jpeg_quality=95 if fine else 75))
    bias = header_bias(headers_of(files))
    assert bias.stump.low < 0.55
    assert bias.tree.value > 0.95
    assert bias.above_chance


def test_the_order_of_the_files_does_not_matter():
    files = collection(2, format="png")
    shuffled = [files[at] for at in np.random.default_rng(0).permutation(len(files))]
    assert header_bias(headers_of(files)) == header_bias(headers_of(shuffled))


def test_copies_count_once_for_each_label():
    files = collection(4, n=10)
    copies = [dataclasses.replace(files[0], entry=Entry(Path("copy"), Label.REAL))] * 5
    other_label = dataclasses.replace(files[0], entry=Entry(Path("copy"), Label.FAKE))
    assert len(headers_of([*files, *copies]).label) == len(files)
    assert len(headers_of([*files, other_label]).label) == len(files) + 1


def test_what_is_the_same_for_all_files_is_no_feature():
    names = {bias.name for bias in header_bias(headers_of(collection(0))).features}
    assert "EXIF data" in names
    assert not {"XMP data", "format jpeg", "chroma 4:2:0"} & names


def test_medians_and_shares_are_told_by_label():
    by_name = {b.name: b for b in header_bias(headers_of(collection(1, width=512))).features}
    exif = by_name["EXIF data"]
    assert exif.is_flag
    assert 0.2 < exif.real < 0.6
    assert by_name["width / height"].is_flag is False
    files = [file(n, label, width=500 + 9 * label) for n in range(9) for label in Label]
    longest = {b.name: b for b in header_bias(headers_of(files)).features}["longer side, px"]
    assert (longest.real, longest.fake) == (500, 509)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (collection(0, n=4), "4 real files, expected 5 or more and 4 fake files"),
        ([f for f in collection(0) if f.entry.label is Label.REAL], "0 fake files"),
        ([file(n, label) for n in range(9) for label in Label], "all headers are the same"),
        ([], "0 real files"),
    ],
)
def test_what_cannot_be_measured_is_said_not_guessed(files, reason):
    bias = header_bias(headers_of(files))
    assert math.isnan(bias.stump.value)
    assert not bias.above_chance
    assert reason in bias.statement
    assert bias.rule == ""


def test_a_perfect_answer_on_few_files_keeps_an_honest_interval():
    label = np.array([0] * 20 + [1] * 20)
    flag = Feature("flag", True, label.astype(np.float64))
    headers = Headers((flag,), label, np.full(40, "test"))
    stump = header_bias(headers).stump
    assert stump.value == stump.high == 1.0
    of_one = wilson(20, 20)
    assert stump.low == pytest.approx(1 - 1.5 * math.sqrt(2) * (1 - of_one.low) / 2)


def test_a_shortcut_that_both_splits_share_carries_over():
    files = collection(1, split="train", format="png") + collection(2, format="png")
    over = carried(headers_of(files), "train", "test")
    assert over.stump.value == over.tree.value == 1.0
    assert over.stump.n == 160
    assert over.statement.startswith("Rules about headers learned on train reach a balanced")


def test_a_shortcut_that_is_turned_round_falls_below_chance():
    files = collection(1, split="train", traits=frozenset({"icc"}))
    files += [
        dataclasses.replace(file, traits=frozenset({"icc"} if not file.entry.label else ()))
        for file in collection(2)
    ]
    headers = headers_of(files)
    assert header_bias(headers.of("train")).stump.value > 0.95
    assert header_bias(headers.of("test")).stump.value > 0.95
    assert carried(headers, "train", "test").stump.high < 0.2


def test_what_cannot_be_carried_over_is_said():
    over = carried(headers_of(collection(0, n=3, split="train") + collection(1)), "train", "test")
    assert "train has 3 real files, expected 5 or more" in over.statement
    assert "test has" not in over.statement
