"""``gammascope judge``, as people call it, on a tiny vision-language model with random weights."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
from tests.detection.test_fusion import SCALE, member
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


def test_from_labelled_pictures_to_verdicts_in_words_and_a_fused_scan(tiny_llava, tmp_path):
    """Nothing is stubbed. The model's weights are random, so it has no verdict until it is tuned to give one."""
    rows = ["path,label,source,split"]
    for number in range(8):
        label = "fake" if number % 2 else "real"
        place = tmp_path / f"{number}.png"
        level = (240 if number % 2 else 15) + number
        PIL.Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(place)
        split = "train" if number < 4 else "kept"
        rows.append(f"{place.name},{label},{split},{split}")
    manifest, judge = tmp_path / "manifest.csv", tmp_path / "judge"
    manifest.write_text("\n".join(rows) + "\n")
    dark, light = tmp_path / "4.png", tmp_path / "5.png"

    before = json.loads(run("say", tiny_llava, dark, light, "--json").stdout)
    assert [row["verdict"] for row in before] == ["undecided", "undecided"]

    tuned = run(
        *("tune", tiny_llava, "--data", manifest, "--out", judge, "--objective", "sft"),
        *("--epochs", 100, "--rate", 1e-2, "--quiet"),
    )
    assert tuned.exit_code == 0, tuned.output
    after = json.loads(run("say", judge, dark, light, "--json").stdout)
    assert [row["verdict"] for row in after] == ["real", "fake"]
    assert after[0]["words"].startswith("This picture is real")
    assert after[0]["logit"] < 0 < after[1]["logit"]

    expert, both = tmp_path / "expert.safetensors", tmp_path / "both.json"
    member(expert, 1, SCALE)
    fused = CliRunner().invoke(
        app,
        [
            *("fuse", str(expert), str(judge), "--kind", "any", "--data", str(manifest)),
            *("--source", "kept", "--out", str(both), "--quiet"),
        ],
    )
    assert fused.exit_code == 0, fused.output
    told = CliRunner().invoke(
        app, ["scan", str(dark), str(light), "--weights", str(both), "--json"]
    )
    assert told.exit_code == 0, told.output
    assert {json.loads(line)["method"] for line in told.stdout.splitlines()} == {
        "any(linear_probe, judge)"
    }


def test_what_does_not_go_together_is_refused(tmp_path):
    for arguments in (
        ("tune", "model"),
        ("tune", "model", "a.png", "--data", "x.csv", "--out", tmp_path),
        ("say", "model"),
        ("say", "model", "a.png", "--out", tmp_path),
    ):
        assert run(*arguments).exit_code == 2
