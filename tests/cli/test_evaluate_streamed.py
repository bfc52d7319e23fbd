"""``evaluate hf:...``: a streamed dataset from the command to the numbers, again after an interruption."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from gammascope.cli.app import app

datasets = pytest.importorskip("datasets")

SMALL = ("--weights", "mobilenet")  # What is tested here is the stream, not the detector.


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path, photos):
    rows = []
    for number, photo in enumerate(photos.values()):
        made = io.BytesIO()
        PillowImage.fromarray(np.ascontiguousarray(photo[:48, :64])).save(made, "jpeg")
        rows.append({"bytes": made.getvalue() if number else b"broken", "path": f"{number}.jpg"})
    features = {
        "image": datasets.Image(decode=False),
        "label": datasets.ClassLabel(names=["ai", "real"]),
    }
    columns = {"image": rows, "label": [at % 2 for at in range(len(rows))]}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    (tmp_path / "set").mkdir()
    table.cast_column("image", datasets.Image()).to_parquet(tmp_path / "set" / "test.parquet")
    return tmp_path / "set"


def test_a_streamed_dataset_is_scored_and_what_is_there_is_not_scored_again(folder, tmp_path):
    out = tmp_path / "out"
    result = run("evaluate", f"hf:{folder}", *SMALL, "--out", out, "--json")
    assert result.exit_code == 4  # one row is broken
    assert "2 real and 3 fake (column 'label': ai = fake; real = real)" in result.stderr
    plain = json.loads(result.stdout)
    measured = plain["columns"]["fakes_aligned"]["generated"]
    assert (measured["yes"], measured["no"], measured["failed"]) == (2, 2, 1)
    # Reals are the same in two of three columns: 2 x 2 + 2 x 3 looks.
    assert plain["speed"]["answers"] == 10
    assert 50 < plain["speed"]["peak_memory_mib"] < 20_000
    assert plain["size"]["parameters"] > 1_000_000
    for part in (out / "parts" / "native").glob("*.parquet"):
        part.unlink()
    again = json.loads(run("evaluate", f"hf:{folder}", *SMALL, "--out", out, "--json").stdout)
    assert again["columns"] == plain["columns"]
    assert again["speed"]["answers"] == 14
    other = run("evaluate", f"hf:{folder}", *SMALL, "--first", 3, "--out", out)
    assert other.exit_code == 2
    assert "holds scores of another run" in " ".join(other.stderr.split())


def test_options_of_a_stream_are_refused_for_files(tmp_path):
    result = run("evaluate", tmp_path, "--first", 3)
    assert result.exit_code == 2
    assert "belong to a dataset that is streamed" in result.stderr
