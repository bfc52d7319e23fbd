"""The keys of every version of our JSON: whoever reads it, reads them by name.

A key that goes, or means something else, needs a new number, and a line in docs/cli.md#json.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path

import numpy as np
import pydantic
from typer.testing import CliRunner

from gammascope.cli import scan_into
from gammascope.cli.app import app
from gammascope.report import FORMAT, Answer, Evidence, Recheck, Report, Strength, Verdict
from gammascope.scanning.results import Summary
from gammascope.server import schema

ROOT = Path(__file__).parents[2]

REPORT = {
    1: "image width height verdict probability calibrated answers evidence caveats method weights_sha256",
    2: "format image width height verdict question probability calibrated answers evidence caveats method "
    "weights_sha256",
}
ANSWER = {2: "verdict probability thresholds"}
EVIDENCE = {2: "name statement examined_share marked_share strength limits repeats"}
RECHECK = {2: "change holds answers"}
SUMMARY = {2: "format images verdicts answers unreadable copies alike once"}
OVER_HTTP: dict[type[pydantic.BaseModel], dict[int, str]] = {
    schema.DetectShape: {2: "format version results"},
    schema.JobShape: {2: "format id status accepted files done failed results"},
    schema.MethodsShape: {2: "format serving methods"},
    schema.FailedShape: {2: "image problem"},
    schema.AnswerShape: ANSWER,
    schema.RecheckShape: RECHECK,
}


def told() -> Report:
    answers = {"edited": Answer(0.91, Verdict.FAKE, (0.5, 0.7))}
    area = np.ones((4, 4), np.float32)
    twice = (((0.1, 0.2), (0.5, 0.6)),)
    evidence = Evidence(
        "mask:edited", "A region.", area, Strength.WEAK, "Not sharp.", repeats=twice
    )
    again = Recheck("reduced to half its size", answers, True)
    return Report("a", (64, 64), "gamma", "0" * 64, True, answers, (evidence,), stability=(again,))


def test_a_report_has_the_keys_of_its_format():
    row = told().to_json()
    assert row["format"] == FORMAT
    assert list(row) == [*REPORT[FORMAT].split(), "stability"]
    assert list(row["answers"]["edited"]) == ANSWER[FORMAT].split()
    assert list(row["evidence"][0]) == EVIDENCE[FORMAT].split()
    assert list(row["stability"][0]) == RECHECK[FORMAT].split()


def test_the_server_has_the_keys_of_its_format():
    for shape, keys in OVER_HTTP.items():
        assert list(shape.model_fields) == keys[FORMAT].split()
    beside = {"stability", "detector", "second_opinions", "differences"}
    assert set(schema.ReportShape.model_fields) == {*REPORT[FORMAT].split(), *beside}
    assert list(schema.EvidenceShape.model_fields) == [*EVIDENCE[FORMAT].split(), "mask"]
    written = schema.ReportShape.model_validate(told().to_json())
    assert typing.get_args(schema.AnswerShape.model_fields["verdict"].annotation) == tuple(Verdict)
    assert written.format == FORMAT


def test_a_file_that_cannot_be_read_and_a_scan_into_a_folder_have_the_number_too(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    weights = ["--weights", "mobilenet"]
    result = CliRunner().invoke(app, ["scan", str(tmp_path / "broken.jpg"), "--json", *weights])
    assert list(json.loads(result.stdout)) == ["format", "image", "error"]
    counted = scan_into.plain(Summary(1, {"edited": 1}, {"edited": {Verdict.FAKE: 1}}, 0))
    assert list(counted) == SUMMARY[FORMAT].split()


def test_every_format_is_described():
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for number in REPORT:
        assert f"\n| {number} | " in text
    for key in REPORT[FORMAT].split():
        assert f'"{key}"' in text
