"""Evaluating as programs do: a detector and a list of images in, numbers out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from gammascope.evaluation import run
from gammascope.evaluation.predicting import Foreign
from gammascope.sample import Entry, Label


def brightness(path: str) -> float:
    """A detector that takes light pictures for fakes."""
    return float(np.asarray(PIL.Image.open(path)).mean() / 255)


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    made = []
    for number, grey in enumerate((20, 40, 60, 180, 200, 220)):
        path = tmp_path / f"{number}.png"
        PIL.Image.new("RGB", (64, 64), (grey,) * 3).save(path)
        made.append(Entry(path, Label.FAKE if grey > 100 else Label.REAL))
    return made


def candidate() -> run.Candidate:
    foreign = Foreign("brightness", brightness)
    return run.Candidate("brightness", "", {}, foreign, threads=1, device="cpu")


def test_a_program_evaluates_with_one_call(entries):
    told = run.evaluate(candidate(), entries, about={"data": "greys", "labels": "by hand"})
    assert list(told.tables) == [run.NATIVE, run.ALIGNED, run.ALL_RECODED]
    for column in told.evaluation.columns.values():
        assert column["fake"]["overall"]["auroc"]["value"] == 1.0
    assert told.evaluation.plain["data"] == "greys"
    assert told.evaluation.plain["speed"]["answers"] > 0


def test_only_the_columns_that_are_named_are_shown(entries):
    native = {run.NATIVE: run.columns_of(())[run.NATIVE]}
    told = run.evaluate(candidate(), entries, native)
    assert list(told.tables) == [run.NATIVE, run.ALIGNED]


def test_what_lies_in_the_folder_is_not_scored_again(entries, tmp_path):
    pytest.importorskip("pyarrow")
    first = run.evaluate(candidate(), entries, folder=tmp_path / "out")
    again = candidate()
    second = run.evaluate(again, entries, folder=tmp_path / "out")
    assert again.predict.answers == 0
    assert second.evaluation.columns == first.evaluation.columns
