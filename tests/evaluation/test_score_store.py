"""Scores on disk: they go on after any interruption, and never mix two runs."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gammascope.data.ledger import RUN
from gammascope.errors import MissingDataError, RecipeError
from gammascope.evaluation.columns import Recoded
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import AsIs, ScoreStore, StoredTables, score_columns
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding
from gammascope.sample import Entry, Label, Sample

DETECTOR = {"method": "brightness", "weights_sha256": "00"}
COLUMNS = {"native": AsIs(), "jpeg_50": Recoded(Encoding("jpeg", 50))}


@dataclass(frozen=True)
class Answer:
    answers: Mapping[str, float]
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def brightness(sample: Sample) -> Answer:
    return Answer({"generated": float(sample.image.mean()) - 128.0})


class StopError(Exception):
    """What ends a run in the middle."""


def stopping_after(calls: int) -> Any:
    left = iter(range(calls))

    def predict(sample: Sample) -> Answer:
        if next(left, None) is None:
            raise StopError
        return brightness(sample)

    return predict


@pytest.fixture
def entries(tmp_path) -> list[Entry]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        path = tmp_path / "images" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path.write_bytes(codecs.encode(image, Encoding("png")))
        made.append(Entry(path, Label(number % 2), source="studio"))
    made[7].path.write_bytes(b"broken")
    return made


def assert_equal(one: ScoreTable, other: ScoreTable) -> None:
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture
def expected(entries) -> dict[str, ScoreTable]:
    return score_columns(brightness, entries, COLUMNS)


def test_what_is_read_is_what_was_scored_in_one_go(entries, expected, tmp_path):
    store = ScoreStore(tmp_path / "parts", rows=6)
    seen: list[tuple[int, int]] = []
    store.score(brightness, entries, COLUMNS, DETECTOR, lambda *at: seen.append(at))
    assert seen == [(at, 20) for at in range(1, 21)]
    tables = StoredTables(store, tuple(COLUMNS))
    assert list(tables) == list(expected)
    for name, table in expected.items():
        assert_equal(tables[name], table)
    with pytest.raises(KeyError):
        tables["webp"]
    assert len(list((tmp_path / "parts" / "native").glob("*.parquet"))) == 7


@pytest.mark.parametrize("calls", [0, 1, 5, 8, 25, 37])
def test_an_interrupted_run_goes_on_without_losing_or_repeating_a_row(
    entries, expected, tmp_path, calls
):
    store = ScoreStore(tmp_path / "parts", rows=8)
    with pytest.raises(StopError):
        store.score(stopping_after(calls), entries, COLUMNS, DETECTOR)
    with pytest.raises(MissingDataError, match=r"lacks \d+ of 20 images: run the same command"):
        store.read("native")
    asked: list[Path] = []

    def counting(sample: Sample) -> Answer:
        asked.append(sample.entry.path)
        return brightness(sample)

    store.score(counting, entries, COLUMNS, DETECTOR)
    for name, table in expected.items():
        assert_equal(store.read(name), table)
    # All rows that were whole had been written; the image at which it stopped is scored anew.
    assert len(asked) == 38 - calls + calls % 2


def test_a_killed_process_loses_at_most_a_part(entries, expected, tmp_path):
    program = (
        "import sys, time, json\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_score_store as here\n"
        "from gammascope.sample import Entry, Label\n"
        "def slow(sample):\n"
        "    time.sleep(0.03)\n"
        "    return here.brightness(sample)\n"
        "entries = [Entry(Path(p), Label(l), source='studio') for p, l in json.loads(sys.argv[3])]\n"
        "store = here.ScoreStore(Path(sys.argv[2]), rows=6)\n"
        "store.score(slow, entries, here.COLUMNS, here.DETECTOR)\n"
    )
    folder = tmp_path / "parts"
    listed = json.dumps([(str(entry.path), int(entry.label)) for entry in entries])
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", program, here, str(folder), listed]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("native/*.parquet"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (folder / "native" / ".0000000006-0000000009.parquet.1.part").write_bytes(b"half a file")
    written = len(list(folder.glob("native/*.parquet")))
    assert 2 <= written < 7
    asked: list[Path] = []

    def counting(sample: Sample) -> Answer:
        asked.append(sample.entry.path)
        return brightness(sample)

    store = ScoreStore(folder, rows=6)
    store.score(counting, entries, COLUMNS, DETECTOR)
    for name, table in expected.items():
        assert_equal(store.read(name), table)
    assert len(asked) <= 2 * (20 - 3 * (written - 1))
    assert not list(folder.glob("*/.*.part"))


def test_further_columns_are_added_and_old_ones_kept(entries, expected, tmp_path):
    store = ScoreStore(tmp_path / "parts")
    store.score(brightness, entries, {"native": AsIs()}, DETECTOR)
    asked: list[Path] = []

    def counting(sample: Sample) -> Answer:
        asked.append(sample.entry.path)
        return brightness(sample)

    store.score(counting, entries, COLUMNS, DETECTOR)
    assert len(asked) == 19
    assert_equal(store.read("jpeg_50"), expected["jpeg_50"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"detector": {**DETECTOR, "weights_sha256": "11"}},
            'weights_sha256 is "00" there and "11"',
        ),
        ({"columns": {"jpeg_50": Recoded(Encoding("jpeg", 51))}}, "column is .*jpeg:050.* there"),
        ({"drop": 1}, "images is 20 there and 19 here"),
        ({"relabel": True}, "images_sha256 is"),
    ],
)
def test_scores_of_another_run_are_refused_and_kept(entries, expected, tmp_path, change, named):
    store = ScoreStore(tmp_path / "parts")
    store.score(brightness, entries, COLUMNS, DETECTOR)
    if "drop" in change:
        entries = entries[1:]
    if "relabel" in change:
        entries = [dataclasses.replace(entries[0], label=Label.FAKE), *entries[1:]]
    with pytest.raises(RecipeError, match=named) as error:
        store.score(
            brightness, entries, change.get("columns", COLUMNS), change.get("detector", DETECTOR)
        )
    assert "Choose another folder, or delete this one" in str(error.value)
    assert_equal(store.read("native"), expected["native"])


def test_damaged_files_are_named_with_what_to_do(entries, expected, tmp_path):
    store = ScoreStore(tmp_path / "parts", rows=6)
    store.score(brightness, entries, COLUMNS, DETECTOR)
    first, second, *_ = sorted((tmp_path / "parts" / "native").glob("*.parquet"))
    first.write_bytes(b"nothing")
    with pytest.raises(MissingDataError, match=rf"{first.name} is damaged.*delete it"):
        store.read("native")
    first.write_bytes(second.read_bytes()[:0])
    with pytest.raises(MissingDataError, match="is damaged"):
        store.read("native")
    first.unlink()
    store.score(brightness, entries, COLUMNS, DETECTOR)
    assert_equal(store.read("native"), expected["native"])
    first.with_name("0000000001-0000000003.parquet").write_bytes(b"")
    with pytest.raises(MissingDataError, match="repeats images"):
        store.read("native")
    (tmp_path / "parts" / "jpeg_50" / RUN).write_text("{")
    with pytest.raises(MissingDataError, match=r"run\.json is broken"):
        store.read("jpeg_50")
    with pytest.raises(MissingDataError, match="No scores at"):
        store.read("webp_3")
    with pytest.raises(MissingDataError, match="empty"):
        store.score(brightness, [], COLUMNS, DETECTOR)


def test_two_processes_do_not_write_to_one_folder(entries, tmp_path):
    store = ScoreStore(tmp_path / "parts")

    def intruding(sample: Sample) -> Answer:
        with pytest.raises(MissingDataError, match="Another process is writing"):
            store.score(brightness, entries, COLUMNS, DETECTOR)
        return brightness(sample)

    store.score(intruding, entries[:1], COLUMNS, DETECTOR)


class Repeated(Sequence[Entry]):
    """One image as often as wanted, in no memory."""

    def __init__(self, entry: Entry, length: int) -> None:
        self.entry, self.length = entry, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self.length:
            raise IndexError
        return self.entry


def test_memory_does_not_grow_with_the_number_of_images(entries, tmp_path):
    def peak(images: int) -> int:
        store = ScoreStore(tmp_path / f"{images}", rows=100)
        store.score(brightness, Repeated(entries[0], 50), {"native": AsIs()}, DETECTOR)  # warm
        many = ScoreStore(tmp_path / f"{images} again", rows=100)
        tracemalloc.start()
        many.score(brightness, Repeated(entries[0], images), {"native": AsIs()}, DETECTOR)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(800) < 1.2 * peak(200)
