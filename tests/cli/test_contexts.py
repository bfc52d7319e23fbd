"""``gammascope contexts``, as people call it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gammascope.cli.app import app
from gammascope.data.manifest import load_sample, read_manifest
from gammascope.sample import Label


def run(*arguments):
    return CliRunner().invoke(app, ["contexts", *map(str, arguments)])


def test_drawn_pictures_are_read_back_and_pass(tmp_path):
    drawn = run("draw", "alphabet", "--out", tmp_path, "--count", 3, "--side", 64, "--quiet")
    assert drawn.exit_code == 0, drawn.stderr
    entries = read_manifest(tmp_path / "manifest.csv")
    assert [entry.label for entry in entries] == [Label.REAL] * 3
    found = run("test", "alphabet", tmp_path / "alphabet", "--json")
    assert found.exit_code == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["pictures"] == report["perfect"] == 3


def test_a_broken_rule_has_exact_masks_and_a_run_goes_on(tmp_path):
    asked = ("draw", "alphabet", "--out", tmp_path, "--side", 64, "--breaks", "count", "--quiet")
    assert run(*asked, "--count", 1).exit_code == 0
    first = (tmp_path / "alphabet" / "000000.png").stat().st_mtime_ns
    assert run(*asked, "--count", 2).exit_code == 0
    assert (tmp_path / "alphabet" / "000000.png").stat().st_mtime_ns == first
    entries = read_manifest(tmp_path / "manifest.csv")
    assert {entry.kind for entry in entries} == {"broken_count"}
    sample = load_sample(entries[0])
    assert sample.generated is not None
    assert sample.edited is not None
    assert not sample.generated.any()
    assert sample.edited.sum() == 4 * 8 * 8  # four letters of 8 x 8 pixels
    other = run(*asked, "--count", 1, "--seed", 1)
    assert other.exit_code == 2
    assert "hoose another folder" in other.stderr


def test_fewer_than_are_there_are_refused_and_the_manifest_stays(tmp_path):
    asked = ("draw", "alphabet", "--out", tmp_path, "--side", 64, "--quiet")
    assert run(*asked, "--count", 3).exit_code == 0
    fewer = run(*asked, "--count", 2)
    assert fewer.exit_code == 2
    assert "Give --count 3 or more, or choose another folder" in " ".join(fewer.stderr.split())
    assert len(read_manifest(tmp_path / "manifest.csv")) == 3


def test_masks_are_no_pictures_to_test(tmp_path):
    broken = tmp_path / "broken"
    asked = ("draw", "alphabet", "--out", broken, "--side", 64, "--breaks", "order")
    assert run(*asked, "--count", 2, "--quiet").exit_code == 0
    for named in (broken, broken / "**" / "*.png"):
        found = run("test", "alphabet", named, "--json")
        assert found.exit_code == 0, found.stderr
        assert json.loads(found.stdout)["pictures"] == 2
        assert "4 masks left out" in found.stderr
    only = run("test", "alphabet", broken / "masks")
    assert only.exit_code == 3
    assert "Only masks in" in only.stderr


def test_masks_that_a_manifest_names_are_left_out_and_folders_above_may_be_called_masks(tmp_path):
    made = tmp_path / "masks" / "made"
    assert run("draw", "alphabet", "--out", made, "--side", 64, "--count", 2).exit_code == 0
    (made / "alphabet" / "000001.png").rename(made / "alphabet" / "of_0.png")
    (made / "manifest.csv").write_text(
        "path,label,edited_mask\nalphabet/000000.png,fake,alphabet/of_0.png\n"
    )
    found = run("test", "alphabet", made, "--json")
    assert json.loads(found.stdout)["pictures"] == 1
    named = run("test", "alphabet", made / "alphabet" / "of_0.png", "--json")
    assert json.loads(named.stdout)["pictures"] == 1


def test_pictures_that_cannot_be_tested_are_told_and_counted(tmp_path):
    assert run("draw", "alphabet", "--out", tmp_path, "--count", 1, "--side", 64).exit_code == 0
    Image.fromarray(np.zeros((65, 64), np.uint8)).save(tmp_path / "alphabet" / "odd.png")
    (tmp_path / "alphabet" / "shot.CR3").write_bytes(b"\0\0\0\x18ftypcrx ")
    found = run("test", "alphabet", tmp_path / "alphabet")
    assert found.exit_code == 4
    assert "expected a square" in " ".join(found.stderr.split())
    assert "a camera raw, which holds no finished picture" in " ".join(found.stderr.split())
    (tmp_path / "alphabet" / "000000.png").unlink()
    assert run("test", "alphabet", tmp_path / "alphabet").exit_code == 3


def test_a_flag_of_a_side_without_bounds_is_named_and_the_others_are_tested(tmp_path):
    assert run("draw", "flags", "--out", tmp_path, "--count", 1, "--side", 64).exit_code == 0
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(tmp_path / "flags" / "odd.png")
    found = run("test", "flags", tmp_path / "flags", "--json")
    assert found.exit_code == 4
    report = json.loads(found.stdout)
    assert report["pictures"] == 1
    assert [
        "odd.png: There are no calibrated thresholds for flags of 96 px" in line
        for line in report["not_tested"]
    ] == [True]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("draw", "flags", "--amount", 6), "--amount: draw without --breaks has no use for it"),
        (
            ("draw", "flags", "--breaks", "prevalence", "--amount", 6),
            "--amount: draw with --breaks 'prevalence' has no use for it",
        ),
        (("draw", "flags", "--thresholds", "paper"), "--thresholds: draw has no use for it"),
        (("draw", "flags", "--json"), "--json: draw has no use for it"),
        (
            ("draw", "flags", "--side", 100000),
            "side=100000: flags needs a multiple of 16 from 64 to 2048",
        ),
        (
            ("draw", "flags", "--breaks", "texture", "--amount", 1000),
            "amount=1000: a picture of flags has 256 parts at most",
        ),
    ],
)
def test_what_drawing_cannot_heed_is_refused(tmp_path, asked, said):
    refused = run(*asked, "--out", tmp_path / "new", "--count", 1, "--quiet")
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.replace("│", " ").split())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("option", [("--breaks", "position"), ("--count", 600), ("--seed", 1)])
def test_what_testing_cannot_heed_is_refused(tmp_path, option):
    refused = run("test", "flags", tmp_path, *option)
    assert refused.exit_code == 2
    assert f"{option[0]}: test has no use for it" in " ".join(refused.stderr.split())


def test_wrong_words_are_one_line(tmp_path):
    assert run("draw", "flags").exit_code == 2
    assert run("test", "flags").exit_code == 2
    wrong = run("draw", "flags", "--out", tmp_path / "new", "--breaks", "positon", "--quiet")
    assert wrong.exit_code == 2
    assert "Did you mean 'position'" in wrong.stderr
    assert not (tmp_path / "new").exists()
