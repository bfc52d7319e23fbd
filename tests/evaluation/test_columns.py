"""Columns of an evaluation, tried on detectors that cheat: they see how a file was stored, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gammascope.errors import MissingDataError
from gammascope.evaluation.columns import FakesAligned, Recoded
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import AsIs, score_columns
from gammascope.evaluation.tables import summarise
from gammascope.imaging import codecs
from gammascope.imaging import decode as decoding
from gammascope.imaging.codecs import Encoding
from gammascope.sample import Entry, Label, Sample

EACH = 100
SIDE = 128


@dataclass(frozen=True)
class Answer:
    answers: Mapping[str, float]
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def blockiness(image: np.ndarray) -> float:
    """How much more pixels differ across the borders of JPEG's blocks than beside these borders."""
    grey = image.astype(np.float64).mean(axis=2)
    excess = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis))
        border, before, after = (
            np.take(steps, range(at, steps.shape[axis] - 1, 8), axis) for at in (7, 6, 8)
        )
        excess.append((border - (before + after) / 2).mean() / (steps.mean() + 1e-9))
    return float(np.mean(excess))


def cheat(sample: Sample) -> Answer:
    """Call everything fake that shows no trace of JPEG."""
    return Answer({"generated": 0.05 - blockiness(sample.image)})


@pytest.fixture(scope="module")
def entries(photos, tmp_path_factory) -> list[Entry]:
    """Pieces of the same photos, rid of old traces: as JPEG the reals, as PNG the fakes."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    clean = [codecs.rescale(photo, 0.71) for photo in photos.values()]
    made = []
    for number in range(2 * EACH):
        photo = clean[number % len(clean)]
        top, left = (int(rng.integers(0, side - SIDE)) for side in photo.shape[:2])
        piece = np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE])
        if number < EACH:
            quality = int(rng.integers(50, 81))
            chroma: Any = ("4:2:0", "4:4:4")[number % 2]
            entry = Entry(root / f"{number}.jpg", Label.REAL, source="camera")
            data = codecs.encode(piece, Encoding("jpeg", quality, chroma))
        else:
            entry = Entry(root / f"{number}.png", Label.FAKE, generator="generator")
            data = codecs.encode(piece, Encoding("png"))
        entry.path.write_bytes(data)
        made.append(entry)
    return made


@pytest.fixture(scope="module")
def tables(entries) -> dict[str, ScoreTable]:
    columns = {
        "native": AsIs(),
        "fakes_aligned": FakesAligned.to_reals_of(entries),
        "all_recoded": Recoded(Encoding("jpeg", 90)),
    }
    return score_columns(cheat, entries, columns)


def overall(table: ScoreTable) -> dict[str, Any]:
    numbers: dict[str, Any] = summarise(table, resamples=200)["overall"]
    return numbers


def test_a_detector_of_jpeg_traces_is_nearly_perfect_on_files_as_they_are(tables):
    numbers = overall(tables["native"])
    assert numbers["auroc"]["value"] > 0.97
    assert numbers["balanced_accuracy"]["value"] > 0.93


def test_it_is_at_chance_once_fakes_are_stored_as_the_reals_are(tables):
    numbers = overall(tables["fakes_aligned"])
    assert 0.42 < numbers["auroc"]["value"] < 0.58
    assert numbers["auroc"]["low"] < 0.5 < numbers["auroc"]["high"]
    assert 0.44 < numbers["balanced_accuracy"]["value"] < 0.56


def test_recoding_everything_once_leaves_the_earlier_history_of_the_reals(tables):
    # Why aligned fakes are the column to trust: a light re-encoding does not hide a heavy one.
    numbers = overall(tables["all_recoded"])
    assert numbers["auroc"]["value"] > overall(tables["fakes_aligned"])["auroc"]["value"] + 0.1


def test_reals_are_not_touched_and_every_fake_is_stored_as_some_real(entries, tables):
    real = tables["native"]["label"] == 0
    native, aligned = (tables[name]["logit_generated"] for name in ("native", "fakes_aligned"))
    assert (native[real] == aligned[real]).all()
    assert (native[~real] != aligned[~real]).all()
    column = FakesAligned.to_reals_of(entries)
    of_reals = {encoding for encoding, _ in column.encodings}
    image = np.zeros((8, 8, 3), np.uint8)
    drawn = [column.drawn(image + np.uint8(level)) for level in range(200)]
    assert set(drawn) <= of_reals
    assert len(set(drawn)) > 20
    counts = dict(column.encodings)
    qualities = np.repeat([e.quality for e in counts if e], [counts[e] for e in counts if e])
    found = np.mean([each.quality for each in drawn if each])
    assert found == pytest.approx(qualities.mean(), abs=2.5)


def test_reals_in_an_archive_are_aligned_to_as_well(entries, tmp_path):
    reals = [entry for entry in entries if entry.label is Label.REAL]
    archive = tmp_path / "reals.tar"
    with tarfile.open(archive, "w") as file:
        for number, entry in enumerate(reals):
            file.add(entry.path, f"{number}{entry.path.suffix}")
    inside = [
        dataclasses.replace(entry, path=archive / f"{number}{entry.path.suffix}")
        for number, entry in enumerate(reals)
    ]
    assert FakesAligned.to_reals_of(inside) == FakesAligned.to_reals_of(reals)


def test_the_draw_follows_the_pixels_and_not_the_name_or_the_order(entries, tmp_path):
    column, mirrored = FakesAligned.to_reals_of(entries), FakesAligned.to_reals_of(entries[::-1])
    assert column == mirrored
    assert json.dumps(column.definition) == json.dumps(mirrored.definition)
    fake = entries[-1]
    moved = dataclasses.replace(fake, path=tmp_path / "elsewhere.png")
    moved.path.write_bytes(fake.path.read_bytes())
    tables = score_columns(cheat, [fake, moved], {"aligned": column})
    assert len(np.unique(tables["aligned"]["logit_generated"])) == 1


def test_fakes_stay_as_they_are_as_often_as_reals_are_no_jpeg_files(entries, tmp_path):
    reals = []
    for number in range(4):
        reals.append(Entry(tmp_path / f"{number}.png", Label.REAL))
        reals[-1].path.write_bytes(entries[-1].path.read_bytes())
    column = FakesAligned.to_reals_of([*reals, *entries[:4]])
    assert column.definition["encodings_of_reals"]["none"] == 4
    noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 3), dtype=np.uint8)
    assert 60 < sum(column.drawn(image) is None for image in noise) < 140
    only_png = FakesAligned.to_reals_of(reals)
    sample = Sample(entries[-1], noise[0], None, None)
    assert only_png(sample) is sample


def test_nothing_to_align_to_is_an_error(entries, tmp_path):
    gone = Entry(tmp_path / "gone.jpg", Label.REAL)
    with pytest.raises(MissingDataError, match="No real image"):
        FakesAligned.to_reals_of([gone, *entries[EACH:]])


def test_an_image_that_a_format_cannot_hold_is_a_row_with_its_error(tmp_path):
    path = tmp_path / "long.png"
    path.write_bytes(codecs.encode(np.zeros((32, 16384, 3), np.uint8), Encoding("png")))
    columns = {"native": AsIs(), "webp": Recoded(Encoding("webp", 80))}
    with pytest.raises(MissingDataError, match=r"None of 1 images.*webp holds at most 16383"):
        score_columns(cheat, [Entry(path, Label.REAL)], columns)


def test_each_image_is_decoded_once_and_equal_columns_are_asked_once(entries, monkeypatch):
    decoded, asked = [], []

    def decode(path: Path) -> Any:
        decoded.append(path)
        return original(path)

    def counting(sample: Sample) -> Answer:
        asked.append(sample.entry.label)
        return cheat(sample)

    original = decoding.decode
    monkeypatch.setattr("gammascope.evaluation.scoring.decode", decode)
    columns = {
        "native": AsIs(),
        "aligned": FakesAligned.to_reals_of(entries),
        "one": Recoded(Encoding("jpeg", 90)),
        "same": Recoded(Encoding("jpeg", 90)),
    }
    some = [entries[0], entries[-1]]
    tables = score_columns(counting, some, columns)
    assert decoded == [entry.path for entry in some]
    assert asked == [Label.REAL, Label.REAL, Label.FAKE, Label.FAKE, Label.FAKE]
    np.testing.assert_array_equal(
        tables["one"]["logit_generated"], tables["same"]["logit_generated"]
    )
