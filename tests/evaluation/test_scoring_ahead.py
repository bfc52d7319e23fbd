"""Several images at once, and an image in all of its columns together: the same rows as one by one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gammascope.errors import MissingDataError
from gammascope.evaluation.columns import Recoded
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import AsIs, ScoreStore, score_columns
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding
from gammascope.sample import Entry, Label, Sample

COLUMNS = {"native": AsIs(), "jpeg_50": Recoded(Encoding("jpeg", 50)), "again": AsIs()}


@dataclass(frozen=True)
class Answer:
    answers: Mapping[str, float]
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def brightness(sample: Sample) -> Answer:
    return Answer({"generated": float(sample.image.mean()) - 128.0})


class Together:
    """A detector that looks at several samples at once, and cannot bear some."""

    def __init__(self, darkest: float = -999.0) -> None:
        self.darkest = darkest
        self.calls: list[int] = []

    def __call__(self, sample: Sample) -> Answer:
        return self.of_all([sample])[0]

    def of_all(self, samples: Any) -> list[Answer]:
        self.calls.append(len(samples))
        if any(brightness(sample).answers["generated"] < self.darkest for sample in samples):
            raise MissingDataError("too dark")
        return [brightness(sample) for sample in samples]


@pytest.fixture
def entries(tmp_path) -> list[Entry]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(12):
        path = tmp_path / f"{number:02d}.png"
        image = rng.integers(0, 20 * number + 20, (16, 16, 3), dtype=np.uint8)
        path.write_bytes(codecs.encode(image, Encoding("png")))
        made.append(Entry(path, Label(number % 2)))
    made[7].path.write_bytes(b"broken")
    return made


def assert_equal(one: Mapping[str, ScoreTable], other: Mapping[str, ScoreTable]) -> None:
    for column in COLUMNS:
        assert sorted(one[column].columns) == sorted(other[column].columns)
        for name in one[column].columns:
            np.testing.assert_array_equal(one[column][name], other[column][name], err_msg=name)


def test_threads_give_the_rows_of_one_in_order_and_work_at_the_same_time(entries):
    together = threading.Barrier(3, timeout=30)
    left = iter(range(3))

    def waiting(sample: Sample) -> Answer:
        if next(left, None) is not None:
            together.wait()  # passes only if three images are worked on at once
        return brightness(sample)

    expected = score_columns(brightness, entries, COLUMNS)
    seen: list[int] = []
    found = score_columns(
        waiting, entries, COLUMNS, threads=3, progress=lambda done, _: seen.append(done)
    )
    assert_equal(found, expected)
    assert seen == list(range(1, 13))


def test_columns_of_an_image_are_looked_at_together_and_equal_ones_once(entries):
    detector = Together()
    assert_equal(
        score_columns(detector, entries, COLUMNS), score_columns(brightness, entries, COLUMNS)
    )
    assert detector.calls == [2] * 11


def test_an_image_that_cannot_be_scored_costs_no_other_column_or_image_its_number(entries):
    # Re-encoding moves the brightness a little: the first image may pass in one column and fail in the other.
    expected = score_columns(brightness, entries, COLUMNS)
    darkest = float(
        np.mean([expected[name]["logit_generated"][1] for name in ("native", "jpeg_50")])
    )
    found = score_columns(Together(darkest), entries, COLUMNS, threads=2)
    for name, table in found.items():
        kept = expected[name]["logit_generated"] >= darkest
        np.testing.assert_array_equal(table["error"] == "", kept)
        np.testing.assert_array_equal(
            table["logit_generated"][kept], expected[name]["logit_generated"][kept]
        )


@pytest.mark.parametrize("threads", [1, 3])
def test_a_fault_of_the_detector_ends_the_run_and_the_rows_before_it_are_kept(
    entries, tmp_path, threads
):
    def faulty(sample: Sample) -> Answer:
        if sample.entry.path.name == "05.png":
            raise ZeroDivisionError
        return brightness(sample)

    store = ScoreStore(tmp_path / "scores", threads=threads)
    with pytest.raises(ZeroDivisionError):
        store.score(faulty, entries, COLUMNS, {"method": "b"})
    done = list((tmp_path / "scores" / "native").glob("*.parquet"))
    assert [path.name for path in done] == ["0000000000-0000000005.parquet"]
    store.score(brightness, entries, COLUMNS, {"method": "b"})
    assert_equal(
        {name: store.read(name) for name in COLUMNS}, score_columns(brightness, entries, COLUMNS)
    )


class Tape(list[Entry]):
    """Images that are no files and come one after the other."""

    def contents(self, stretch: range) -> Iterator[bytes]:
        self.asked = stretch
        for at in stretch:
            yield self[at].host_path.read_bytes() if at != 3 else b""


def test_images_without_files_are_scored_from_their_contents(entries, tmp_path):
    tape = Tape(
        Entry(Path(f"tape:{at}"), e.label, host_path=e.path) for at, e in enumerate(entries)
    )
    store = ScoreStore(tmp_path / "scores", threads=2)
    store.score(brightness, tape, COLUMNS, {"method": "b"})
    found, expected = store.read("native"), score_columns(brightness, entries, COLUMNS)["native"]
    assert [path for path, _ in found.failures] == ["tape:3", "tape:7"]
    kept = np.arange(12) != 3
    np.testing.assert_array_equal(found["logit_generated"][kept], expected["logit_generated"][kept])
    assert tape.asked == range(12)
