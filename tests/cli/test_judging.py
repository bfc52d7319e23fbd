"""``gammascope judge``, as people call it, on a tiny vision-language model with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tests.detection.test_fusion import SCALE, member
from typer.testing import CliRunner

from gammascope import settings
from gammascope.cli.app import app
from gammascope.detection import judge as judging
from gammascope.detection.judge import REASONS, SETTINGS, STATE, Judge, Tuning


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
    assert how["tuning"] == settings.plain(Tuning(learning_rate=1e-2)), "usual ones are the paper's"
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


@pytest.fixture
def manifest(tmp_path) -> Path:
    """Dark photos and light generated pictures: four to tune on, four of a source that is kept."""
    rows = ["path,label,source,split"]
    for number in range(8):
        label = "fake" if number % 2 else "real"
        place = tmp_path / f"{number}.png"
        level = (240 if number % 2 else 15) + number
        PIL.Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(place)
        split = "train" if number < 4 else "kept"
        rows.append(f"{place.name},{label},{split},{split}")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def test_from_labelled_pictures_to_verdicts_in_words_and_a_fused_scan(
    tiny_llava, manifest, tmp_path
):
    """Nothing is stubbed. The model's weights are random, so it has no verdict until it is tuned to give one."""
    judge = tmp_path / "judge"
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

    def fuse(source: str):
        arguments = [
            *("fuse", str(expert), str(judge), "--kind", "any", "--data", str(manifest)),
            *("--source", source, "--out", str(both), "--quiet"),
        ]
        return CliRunner().invoke(app, arguments)

    refused = fuse("train")
    assert refused.exit_code == 3, refused.output
    assert "trained on source train" in refused.output
    fused = fuse("kept")
    assert fused.exit_code == 0, fused.output
    told = CliRunner().invoke(
        app, ["scan", str(dark), str(light), "--weights", str(both), "--json"]
    )
    assert told.exit_code == 0, told.output
    assert {json.loads(line)["method"] for line in told.stdout.splitlines()} == {
        "any(linear_probe, judge)"
    }


def test_settings_of_a_tuning_come_from_the_shell(tiny_llava, manifest, tmp_path):
    tuned = run(
        *("tune", tiny_llava, "--data", manifest, "--out", tmp_path / "judge", "--quiet"),
        *("--beta", 0.2, "--seed", 5, "--rank", 4, "--question", "This or ?"),
    )
    assert tuned.exit_code == 0, tuned.output
    how = Judge.load(tmp_path / "judge").how
    assert (how.rank, how.alpha, how.question) == (4, 8, "This or ?")
    assert how.tuning == Tuning(beta=0.2, seed=5)


def test_a_larger_model_gives_the_reasons_that_are_tuned_on(
    tiny_llava, manifest, tmp_path, monkeypatch
):
    seen = []
    loss = Judge.loss

    def kept(self, pair, how):
        seen.append(pair)
        return loss(self, pair, how)

    monkeypatch.setattr(Judge, "loss", kept)
    monkeypatch.setattr(Judge, "explain", lambda *_, begun: f"because of {begun[-5:-1]}")
    judge = tmp_path / "judge"
    tuned = run(
        *("tune", tiny_llava, "--data", manifest, "--out", judge, "--quiet"),
        *("--reasons", tiny_llava),
    )
    assert tuned.exit_code == 0, tuned.output
    both = ["This picture is fake. because of fake", "This picture is real. because of real"]
    assert [sorted((pair.chosen, pair.rejected)) for pair in seen] == [both] * 4
    assert len((judge / REASONS).read_text().splitlines()) == 4


def test_a_broken_picture_is_named_and_left_out(tiny_llava, manifest, tmp_path):
    (tmp_path / "2.png").write_bytes(b"no picture")
    tuned = run("tune", tiny_llava, "--data", manifest, "--out", tmp_path / "judge", "--quiet")
    assert tuned.exit_code == 4, tuned.output
    assert f"left out: {tmp_path / '2.png'}" in tuned.output
    assert "3 pictures" in tuned.output


def test_an_interrupted_tuning_goes_on_where_it_stopped(
    tiny_llava, manifest, tmp_path, monkeypatch
):
    def tuned(out: str, *more: object):
        return run(
            *("tune", tiny_llava, "--data", manifest, "--out", tmp_path / out, "--quiet"),
            *("--epochs", 3, "--rate", 1e-2, *more),
        )

    monkeypatch.setattr(judging, "_UPDATES_BETWEEN_STATES", 1)
    assert tuned("whole").exit_code == 0
    done, loss = [], Judge.loss

    def torn(self, pair, how):
        done.append(pair)
        if len(done) == 10:
            raise KeyboardInterrupt
        return loss(self, pair, how)

    monkeypatch.setattr(Judge, "loss", torn)
    assert tuned("torn").exit_code != 0
    assert (tmp_path / "torn" / STATE).is_file()
    assert not (tmp_path / "torn" / SETTINGS).exists()
    refused = tuned("torn")
    assert refused.exit_code == 2
    assert "pass --resume" in refused.output
    other = tuned("torn", "--resume", "--beta", 0.2)
    assert other.exit_code == 2
    assert "run of another recipe" in other.output
    resumed = tuned("torn", "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(done) == 10 + 4, "only the update that was interrupted is done again"
    whole, again = (Judge.load(tmp_path / name) for name in ("whole", "torn"))
    assert again.weights_sha256 == whole.weights_sha256


def test_what_does_not_go_together_is_refused(tmp_path):
    for arguments in (
        ("tune", "model"),
        ("tune", "model", "a.png", "--data", "x.csv", "--out", tmp_path),
        ("say", "model"),
        ("say", "model", "a.png", "--out", tmp_path),
    ):
        assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "option", [("--rate", "1e-6"), ("--question", "Is it?"), ("--resume",), ("--split", "train")]
)
def test_say_refuses_what_only_tuning_heeds(option, tmp_path):
    refused = run("say", tmp_path, tmp_path, *option)
    assert refused.exit_code == 2
    assert "say has no use for it" in refused.output


def test_an_infinite_rate_is_refused(tmp_path):
    refused = run("tune", tmp_path, "--data", tmp_path, "--out", tmp_path, "--rate", "inf")
    assert refused.exit_code == 2
    assert "inf is not a finite number" in refused.output
