"""Worst cases in their order and as a picture, and false alarms by kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from gammascope.errors import MissingDataError
from gammascope.evaluation.contact_sheet import (
    WorstCase,
    draw_contact_sheet,
    false_alarm_slices,
    worst_cases,
)
from gammascope.evaluation.score_table import ScoreTable
from gammascope.imaging import codecs


def table_of(rows: list[dict[str, Any]]) -> ScoreTable:
    usual: dict[str, Any] = {
        "label": 0,
        "generator": "",
        "kind": "",
        "source": "",
        "split": "test",
        "format": "jpeg",
        "width": 640,
        "height": 480,
        "jpeg_quality": 90.0,
        "logit_generated": 0.0,
        "error": "",
    }
    full = [usual | {"path": f"{at}.jpg"} | row for at, row in enumerate(rows)]
    return ScoreTable({name: np.array([row[name] for row in full]) for name in full[0]})


def chance(table: ScoreTable) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-table["logit_generated"])))


def worst(rows: list[dict[str, Any]], **options) -> list[WorstCase]:
    table = table_of(rows)
    return worst_cases(table, "generated", chance(table), **options)


FAKE = {"label": 1, "generator": "sd"}


def test_false_alarms_come_first_and_the_most_confident_error_of_each_kind_leads():
    cases = worst(
        [
            {"logit_generated": 0.5, "source": "phone"},
            {"logit_generated": 3.0, "source": "camera"},
            {"logit_generated": -1.0},
            FAKE | {"logit_generated": -0.5},
            FAKE | {"logit_generated": -4.0, "generator": "midjourney"},
            FAKE | {"logit_generated": 2.0},
        ]
    )
    assert [(case.path.name, case.origin, case.false_alarm) for case in cases] == [
        ("1.jpg", "camera", True),
        ("0.jpg", "phone", True),
        ("4.jpg", "midjourney", False),
        ("3.jpg", "sd", False),
    ]
    assert cases[0].probability == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_the_threshold_decides_what_is_wrong_and_the_number_what_is_shown():
    rows = [{"logit_generated": float(at)} for at in range(9)] + [FAKE | {"logit_generated": 5.0}]
    assert len(worst(rows)) == 9
    assert [case.path.name for case in worst(rows, threshold=7.0)] == ["8.jpg", "7.jpg", "9.jpg"]
    assert [case.path.name for case in worst(rows, most=2)] == ["8.jpg", "7.jpg"]


def test_images_without_answer_or_truth_are_no_errors():
    assert not worst(
        [
            {"logit_generated": np.nan, "error": "broken"},
            {"logit_generated": np.nan},
            {"label": 1, "kind": "manipulated", "logit_generated": -9.0},  # by what, nobody knows
        ]
    )


def test_the_order_of_the_table_does_not_matter():
    rows = [
        {"path": f"{at}.jpg", "label": at % 2, "logit_generated": float(at % 3 - 1)}
        for at in range(12)
    ]
    assert worst(rows) == worst(rows[::-1])


def test_the_origin_of_a_fake_is_what_is_known_of_it():
    rows = [
        FAKE | {"logit_generated": -5.0},
        FAKE | {"generator": "", "source": "press", "logit_generated": -4.0},
        {"source": "", "logit_generated": 1.0},
    ]
    assert [case.origin for case in worst(rows)] == ["unnamed", "sd", "press"]


@pytest.fixture
def cases(photos, tmp_path) -> list[WorstCase]:
    made = []
    for name, photo in photos.items():
        path = tmp_path / f"{name} \u4e2d\n of a very long name indeed.png"
        path.write_bytes(codecs.encode(photo[:300, :200], codecs.Encoding("png")))
        made.append(WorstCase(path, "camera", 0.987, False))
    return made


def pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as file:
        return np.asarray(file.convert("RGB")).astype(np.int64)


def test_the_sheet_shows_the_pictures_and_a_caption_below_each(cases, photos, tmp_path):
    draw_contact_sheet({"misses": cases[:1]}, tmp_path / "one.png")
    sheet = pixels(tmp_path / "one.png")
    # Upright at the bottom of its square: 200 x 300 pixels fit as 133 x 200.
    small = PIL.Image.fromarray(photos["astronaut"][:300, :200]).resize((133, 200))
    shown = sheet[44:244, 12:145]
    assert np.abs(shown - np.asarray(small)).mean() < 6
    assert (sheet[246:294, 12:200] < 128).any()  # letters
    assert (sheet[:, 240:] == 255).all()  # nothing beside them


def test_sections_without_cases_and_rows_of_many_have_their_room(cases, tmp_path):
    draw_contact_sheet({"false alarms": [], "misses": cases * 3}, tmp_path / "many.jpg")
    draw_contact_sheet({"misses": cases}, tmp_path / "few.jpg")
    with PIL.Image.open(tmp_path / "many.jpg") as many, PIL.Image.open(tmp_path / "few.jpg") as few:
        assert many.format == "JPEG"
        assert many.width == few.width
        assert many.height > 2.5 * few.height
    assert {path.name for path in tmp_path.glob("*.jpg")} == {"many.jpg", "few.jpg"}


def test_a_file_that_is_gone_is_shown_as_such(cases, tmp_path):
    cases[0].path.unlink()
    draw_contact_sheet({"misses": cases[:1]}, tmp_path / "gone.png")
    grey = (pixels(tmp_path / "gone.png") == 211).all(axis=2)
    assert grey.mean() > 0.05


def test_a_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="there is no section"):
        draw_contact_sheet({}, tmp_path / "none.jpg")
    assert not list(tmp_path.iterdir())


def test_false_alarms_are_counted_by_kind_of_file():
    rows = [
        {"source": "phone", "logit_generated": 2.0, "width": 200},
        {"source": "phone", "logit_generated": -2.0, "jpeg_quality": 60.0},
        {"source": "", "format": "png", "jpeg_quality": np.nan, "logit_generated": 1.0},
        {"error": "broken", "logit_generated": np.nan},
        FAKE | {"logit_generated": 9.0},
    ]
    grid = false_alarm_slices(table_of(rows), "generated")
    assert [row[:4] for row in grid.rows] == [
        ("all", "photos", "3", "2"),
        ("source", "phone", "2", "1"),
        ("source", "unnamed", "1", "1"),
        ("shorter side, px", "below 256", "1", "1"),
        ("shorter side, px", "256 to 511", "2", "1"),
        ("JPEG quality", "below 70", "1", "0"),
        ("JPEG quality", "90 to 94", "1", "1"),
        ("JPEG quality", "none", "1", "1"),
        ("format", "jpeg", "2", "1"),
        ("format", "png", "1", "1"),
    ]
    assert grid.rows[0][4] == "0.667 [0.208, 0.939]"
    assert len(grid.header) == 5
    strict = false_alarm_slices(table_of(rows), "generated", threshold=1.5)
    assert strict.rows[0][3] == "1"


def test_borders_belong_to_the_range_above_them():
    rows = [{"width": side, "height": 2000} for side in (255, 256, 511, 512, 1023, 1024)]
    found = false_alarm_slices(table_of(rows), "generated", threshold=1.0).rows
    assert [row[1:3] for row in found if row[0] == "shorter side, px"] == [
        ("below 256", "1"),
        ("256 to 511", "2"),
        ("512 to 1023", "2"),
        ("1024 and above", "1"),
    ]


def test_without_photos_there_is_no_row():
    assert false_alarm_slices(table_of([FAKE]), "generated").rows == ()
