"""``gammascope judge``, as people call it, on a tiny vision-language model with random weights."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
from typer.testing import CliRunner

from gammascope.cli.app import app
from gammascope.detection.judge import SETTINGS, Judge


def run(*arguments: object):
    return CliRunner().invoke(app, ["judge", *map(str, arguments)])


def test_a_judge_is_tuned_and_says_what_it_sees(tiny_llava, collection, tmp_path, monkeypatch):
    made = run(
        "tune", tiny_llava, "--data", collection, "--out", tmp_path / "judge", "--rate", 1e-2, "-q"
    )
    assert made.exit_code == 0, made.output
    assert "gammascope fuse" in made.output
    how = json.loads((tmp_path / "judge" / SETTINGS).read_text("utf-8"))
    assert how["sources"]
    before, after = Judge.load(tiny_llava), Judge.load(tmp_path / "judge")
    assert before.weights_sha256 != after.weights_sha256

    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    said = run("say", tmp_path / "judge", folder, "--json")
    assert said.exit_code == 4, said.output
    picture, broken = sorted(json.loads(said.stdout), key=lambda row: row["path"])
    assert picture["verdict"] == after.read(picture["words"])
    assert abs(picture["logit"] - after.scores_of([pixels])[0].logit) < 1e-3
    assert "error" in broken
    # A model of random weights says no whole sentence of its own: it is told what to say here.
    monkeypatch.setattr(Judge, "explain", lambda *_: "this picture is FAKE. because of light")
    assert "fake" in run("say", tmp_path / "judge", folder / "a.png").stdout


def test_what_does_not_go_together_is_refused(tmp_path):
    for arguments in (
        ("tune", "model"),
        ("tune", "model", "a.png", "--data", "x.csv", "--out", tmp_path),
        ("say", "model"),
        ("say", "model", "a.png", "--out", tmp_path),
    ):
        assert run(*arguments).exit_code == 2
