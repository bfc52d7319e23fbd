"""The example pictures and what the embedded detector says of them: what README and page show is held to its truth."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from gammascope.detection.pipeline import Pipeline
from gammascope.forensics import METHODS, Picture, answered
from gammascope.imaging.decode import decode
from gammascope.report import Report, Verdict

FOLDER = Path(__file__).resolve().parents[1] / "examples"


def told() -> dict[str, list[str]]:
    """Read the table of examples/README.md: by file name, the cells after it."""
    lines = (FOLDER / "README.md").read_text("utf-8").splitlines()
    rows = [row for row in csv.reader(lines, delimiter="|") if len(row) == 7]
    found = {}
    for row in rows:
        name = re.fullmatch(r"\s*`(\w+\.jpg)`\s*", row[1])
        if name:
            found[name[1]] = [cell.strip() for cell in row[2:6]]
    return found


def test_every_picture_is_in_the_table():
    assert told().keys() == {path.name for path in (FOLDER / "pictures").iterdir()}


NEAR = 0.01
"""Scores as near to a threshold as this may fall on its other side on another processor."""


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    pipeline = Pipeline.load()
    return {path.name: pipeline.report(path) for path in sorted((FOLDER / "pictures").iterdir())}


@pytest.fixture(scope="module")
def verdicts(reports) -> dict[str, Verdict]:
    return {name: report.verdict for name, report in reports.items()}


def test_the_table_says_what_the_embedded_detector_says(reports):
    for name, cells in told().items():
        report = reports[name]
        thresholds = report.answers["generated"].thresholds
        if all(abs(report.probability - threshold) > NEAR for threshold in thresholds):
            assert cells[3].strip("*").startswith(report.words.split(":")[0]), name


def test_of_the_untouched_photos_the_retouched_portrait_alone_leaves_doubt(verdicts):
    untouched = {name: found for name, found in verdicts.items() if name.endswith("_untouched.jpg")}
    assert len(untouched) == 4
    assert Verdict.FAKE not in untouched.values()
    doubted = {name for name, found in untouched.items() if found is Verdict.UNCERTAIN}
    assert doubted <= {"astronaut_untouched.jpg"}


def test_most_generated_pictures_are_found(verdicts):
    generated = [name for name in verdicts if name.startswith("generated_")]
    assert len(generated) == 8
    assert sum(verdicts[name] is Verdict.FAKE for name in generated) >= 4
    assert sum(verdicts[name] is Verdict.NO_SIGN for name in generated) <= 1


def test_of_the_edits_the_thorough_profile_finds_the_copy_alone():
    """Splice and reconstruction come from pictures without an earlier compression: nothing that is looked for."""
    found = {}
    for name in ("astronaut_copy_moved", "cat_partly_reconstructed", "rocket_spliced"):
        decoded = decode(FOLDER / "pictures" / f"{name}.jpg")
        picture = Picture(decoded.image, decoded.content)
        answer = answered({n: m.examine(picture) for n, m in METHODS.items() if m.answers})
        found[name] = answer is not None and answer.verdict is Verdict.FAKE
    assert found == {
        "astronaut_copy_moved": True,
        "cat_partly_reconstructed": False,
        "rocket_spliced": False,
    }
