"""Several detectors in one scan, side by side, and labels without numbers: in table, JSON and page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from gammascope import checkpoints, settings
from gammascope.cli.app import app
from gammascope.detection.opinions import differences
from gammascope.detectors import gamma
from gammascope.report import Answer, Report, Verdict

QUESTIONS = ("generated", "edited")
NUMBER = re.compile(r"\d?\.\d|%|≥|<")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Three checkpoints: one that finds everything, one that finds nothing, one that was never calibrated."""
    root = tmp_path_factory.mktemp("weights")
    fitted = checkpoints.Calibration(1.0, -99.0, -98.0, (0.05, 0.01), 200, ("mine",))
    calibrations = {
        "eager": dict.fromkeys(QUESTIONS, fitted),
        "deaf": dict.fromkeys(QUESTIONS, replace(fitted, uncertain_from=98.0, fake_from=99.0)),
        "raw": {},
    }
    made = {}
    for number, (name, calibration) in enumerate(calibrations.items()):
        torch.manual_seed(number)
        detector = gamma.build(gamma.METHOD.tiny)
        config = settings.plain(gamma.METHOD.tiny)
        facts = checkpoints.Facts("gamma", config, detector.view, calibration=calibration)
        made[name] = root / name / "checkpoint.safetensors"
        made[name].parent.mkdir()
        checkpoints.save(made[name], detector, facts)
    return made


@pytest.fixture
def folder(photos, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("cat", "rocket"):
        pixels = np.ascontiguousarray(photos[name][:64, :80])
        PIL.Image.fromarray(pixels).save(root / f"{name}.png")
    return root


def run(*arguments, **options):
    given = [str(argument) for argument in arguments]
    environment = {"COLUMNS": "160", "NO_COLOR": "1"}
    return CliRunner().invoke(app, given, env=environment, catch_exceptions=False, **options)


def both(weights) -> tuple[object, ...]:
    return ("--weights", weights["eager"], "--weights", weights["deaf"])


def keys_of(value) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def page_data(path) -> dict[str, Any]:
    (text,) = re.findall(r'id="page-data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(text)


def test_each_detector_has_its_own_columns_and_differences_are_said(folder, weights):
    result = run("scan", folder, *both(weights))
    assert result.exit_code == 0
    head, first, *_ = result.stdout.splitlines()
    wanted = [
        f"{name}/checkpoint: {question}" for name in ("eager", "deaf") for question in QUESTIONS
    ]
    assert re.findall(r"\S+: \S+", head) == wanted
    assert len(re.findall("[●○]", first)) == 4
    assert (
        "differ: cat.png: The detectors differ on generated: eager/checkpoint says" in result.stdout
    )
    assert "they differ on 2" in result.stdout
    assert result.stdout.count("That is no proof") == 2, "each detector has its own rates"


def test_json_holds_both_and_mixes_nothing(folder, weights):
    one, other = (
        [json.loads(line) for line in run("scan", folder, "--json", *asked).stdout.splitlines()]
        for asked in (("--weights", weights["eager"]), ("--weights", weights["deaf"]))
    )
    for row, first, second in zip(
        map(json.loads, run("scan", folder, "--json", *both(weights)).stdout.splitlines()),
        one,
        other,
        strict=True,
    ):
        (opinion,) = row.pop("second_opinions")
        assert (row.pop("detector"), opinion.pop("detector")) == (
            "eager/checkpoint",
            "deaf/checkpoint",
        )
        assert len(row.pop("differences")) == 2
        assert row == first
        said = {key: value for key, value in second.items() if key in opinion}
        about_file = ("provenance:", "forensics:")
        own = [item for item in said["evidence"] if not item["name"].startswith(about_file)]
        assert opinion == said | {"evidence": own}, "what the file says is said once"


def test_any_of_them_can_fail_a_scan(folder, weights):
    turned = ("--weights", weights["deaf"], "--weights", weights["eager"])
    assert run("scan", folder, "--fail-on", "fake", *turned).exit_code == 10
    assert run("scan", folder, "--fail-on", "fake", "--weights", weights["deaf"]).exit_code == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--weights", "eager"), 2, "are one detector: name it once"),
        (("--weights", "deaf", "--method", "gamma"), 2, "each speaks for itself"),
        (("--weights", "deaf", "--out", "rows"), 2, "one detector fills a folder"),
        (("--labels-only", "--out", "rows"), 2, "hold the numbers"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, weights, tmp_path, more, code, said):
    given = [weights.get(word, tmp_path / word if word == "rows" else word) for word in more]
    result = run("scan", folder, "--weights", weights["eager"], *given)
    assert result.exit_code == code
    assert said in " ".join(re.sub("[│╭╰─╮╯]", " ", result.stderr).split())


def report(**verdicts: Verdict) -> Report:
    answers = {name: Answer(0.5, verdict, (0.4, 0.6)) for name, verdict in verdicts.items()}
    return Report("a.jpg", (9, 9), "m", "w", True, answers)


def test_only_what_both_were_asked_can_differ():
    one = report(generated=Verdict.FAKE)
    other = report(generated=Verdict.UNCERTAIN, edited=Verdict.FAKE)
    assert differences({"a": one, "b": other}) == [
        "The detectors differ on generated: a says fake, b says uncertain."
    ]
    assert differences({"a": one, "b": report(generated=Verdict.FAKE)}) == []


def test_labels_stand_alone_in_the_table(folder, weights):
    result = run("scan", folder, "--labels-only", "--weights", weights["eager"])
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()[:3]
    assert "P(" not in head
    for line in rows:
        assert re.search("[●◐○] fake", line)
        assert not NUMBER.search(line.split(".png")[1].split("tiles")[0])


def test_labels_stand_alone_in_json_and_on_the_page(folder, weights, tmp_path):
    path = tmp_path / "page.html"
    asked = ("scan", folder, "--stability", *both(weights), "--report", path, "--json")
    numbers = keys_of([json.loads(line) for line in run(*asked).stdout.splitlines()])
    assert {"probability", "thresholds", "marked_share"} <= numbers
    with_numbers = page_data(path)
    result = run(*asked, "--labels-only")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    data = page_data(path)
    pictures = re.findall(r'id="picture-\d+">(.*?)</script>', path.read_text(), re.DOTALL)
    assert len(pictures) == 2
    for plain in (rows, data):
        keys = keys_of(plain)
        assert "verdict" in keys
        assert keys.isdisjoint({"probability", "thresholds", "marked_share"})
        assert "rank:" not in json.dumps(plain)
        assert "%" not in json.dumps([row.get("evidence") for row in rows])
    assert (with_numbers["numbers"], data["numbers"]) == (True, False)
    assert [row["suspicion"] for row in data["rows"]] == [2, 2], "no number is hidden in the order"
    assert all(json.loads(text)["tiles"] == {} for text in pictures)


def test_maps_beside_no_are_on_the_page_only(folder, weights, tmp_path):
    path = tmp_path / "page.html"
    result = run("scan", folder, "--weights", weights["deaf"], "--report", path, "--json")
    assert "marked_share" not in result.stdout
    pictures = re.findall(r'id="picture-\d+">(.*?)</script>', path.read_text(), re.DOTALL)
    assert {"generated", "edited"} <= set(json.loads(pictures[0])["layers"])
