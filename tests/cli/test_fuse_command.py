"""``fuse``, ``convert`` and the options of cascades on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tests.checkpoints.test_conversion import effort_state
from tests.detection.test_fusion import SCALE, member

from gammascope.cli import app as cli


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(8):
        place = tmp_path / "data" / ("1_fake" if number % 2 else "0_real")
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.normal(0, 5 + 30 * (number % 2), (40, 40, 3))
        PIL.Image.fromarray(np.clip(120 + noise, 0, 255).astype(np.uint8)).save(
            place / f"{number}.png"
        )
    rows = ["path,label,source,split"]
    for path in sorted((tmp_path / "data").rglob("*.png")):
        label = "fake" if "fake" in str(path.parent) else "real"
        rows.append(f"{path},{label},a,train")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    for seed in (1, 2):
        member(tmp_path / f"{seed}.safetensors", seed, SCALE)
    return tmp_path


def run(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gammascope", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_fusion_is_fitted_evaluated_and_scans(folder, capsys, monkeypatch):
    out = folder / "both.json"
    members = (folder / "1.safetensors", folder / "2.safetensors")
    data = ("--data", folder / "manifest.csv", "--source", "a", "--out", out)
    code, said, _ = run(capsys, monkeypatch, "fuse", *members, *data, "-q")
    assert code == 0
    assert "any of them, at one half each" in said
    code, said, _ = run(
        capsys, monkeypatch, "evaluate", folder / "data", "--weights", out, "--json"
    )
    assert code == 0
    assert json.loads(said)["method"] == "logistic(linear_probe, linear_probe)"
    code, said, _ = run(capsys, monkeypatch, "scan", folder / "data", "--weights", out, "--json")
    assert code == 0
    assert len(said.splitlines()) == 8


def test_a_zone_without_a_cascade_is_refused_before_anything_is_fitted(folder, capsys, monkeypatch):
    out = folder / "any.json"
    members = (folder / "1.safetensors", folder / "2.safetensors")
    data = ("--data", folder / "manifest.csv", "--source", "a", "--out", out)
    wrong = ("--kind", "any", "--zone", "0.1,0.9")
    code, _, told = run(capsys, monkeypatch, "fuse", *members, *data, *wrong)
    assert code == 2
    assert "--zone 0.1,0.9 belongs to a cascade: add --kind cascade" in " ".join(told.split())
    assert not out.exists()


def test_a_cascade_tells_what_it_saved(folder, capsys, monkeypatch):
    both = ("--weights", folder / "1.safetensors", "--then", folder / "2.safetensors")
    code, _, told = run(capsys, monkeypatch, "scan", folder / "data", *both, "--zone", "0,1", "-q")
    assert code == 0
    assert "8 of 8 pictures (100 %) went on to the strong detector" in " ".join(told.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--zone", "0.1,0.9"), "belongs to a cascade"),
        (("--then", "default", "--zone", "wide"), "expected two probabilities"),
        (("--then", "default", "--zone", "0.9,0.1"), "the lower one first"),
    ],
)
def test_contradictory_options_are_refused(folder, capsys, monkeypatch, options, message):
    code, _, told = run(capsys, monkeypatch, "scan", folder / "data", *options)
    assert code == 2
    assert message in " ".join(told.split())


def test_without_common_sources_one_has_to_be_named(folder, capsys, monkeypatch):
    members = (folder / "1.safetensors", folder / "2.safetensors")
    data = ("--data", folder / "manifest.csv", "--out", folder / "f.json")
    code, _, told = run(capsys, monkeypatch, "fuse", *members, *data)
    assert code == 2
    assert "give --source" in told


def test_a_published_file_is_converted(tmp_path, capsys, monkeypatch):
    torch.save(effort_state("backbone.", "head", 2), tmp_path / "published.pth")
    out = tmp_path / "ours.safetensors"
    code, _, told = run(
        capsys, monkeypatch, "convert", tmp_path / "published.pth", "--from", "effort", "--out", out
    )
    assert code == 0
    assert out.is_file()
    assert "authors' terms hold" in " ".join(told.split())


def test_a_published_file_without_key_map_is_refused(tmp_path, capsys, monkeypatch):
    code, _, told = run(
        capsys,
        monkeypatch,
        "convert",
        tmp_path / "x.pth",
        "--from",
        "mirage",
        "--out",
        tmp_path / "y",
    )
    assert code == 2
    assert "No key map for published files of 'mirage'" in " ".join(told.split())
