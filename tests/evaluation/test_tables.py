"""Summaries of score tables, and how they are drawn."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rich.console

from gammascope.checkpoints import RAW
from gammascope.errors import MissingDataError
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import (
    UNKNOWN,
    comparison,
    grids,
    markdown,
    rich_tables,
    summarise,
    truth_of,
)


def table_of(rows: list[dict[str, Any]]) -> ScoreTable:
    texts = ("path", "generator", "kind", "source", "split", "format", "error")
    names = dict.fromkeys((*texts, *(name for row in rows for name in row)))
    return ScoreTable(
        {
            name: np.array([row.get(name, "" if name in texts else np.nan) for row in rows])
            for name in names
        }
    )


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for source, mean in (("phone", -2.0), ("scanner", -0.5)):
        rows += [
            {
                "label": 0,
                "source": source,
                "logit_generated": rng.normal(mean),
                "edited_tp": 0.0,
                "edited_fp": 5.0,
                "edited_fn": 0.0,
                "edited_tn": 95.0,
            }
            for _ in range(40)
        ]
    for generator, mean in (("easy", 4.0), ("hard", 0.0)):
        rows += [
            {"label": 1, "generator": generator, "logit_generated": rng.normal(mean)}
            for _ in range(30)
        ]
    rows.append(
        {
            "label": 1,
            "kind": "copy_move",
            "logit_generated": -9.0,
            "edited_tp": 8.0,
            "edited_fp": 2.0,
            "edited_fn": 2.0,
            "edited_tn": 88.0,
        }
    )
    rows.append({"label": 1, "kind": "manipulated", "logit_generated": 1.0})
    rows.append({"label": 0, "error": "truncated"})
    rows.append({"label": 0})
    return table_of(rows)


@pytest.mark.parametrize(
    ("row", "generated", "edited"),
    [
        ({"label": 0}, 0, 0),
        ({"label": 1}, 1, 0),
        ({"label": 1, "generator": "sd-1.4"}, 1, 0),
        ({"label": 1, "generator": "sd-1.4", "kind": "inpainting"}, 1, 1),
        ({"label": 1, "kind": "copy_move"}, 0, 1),
        ({"label": 1, "kind": "splicing"}, 0, 1),
        ({"label": 1, "kind": "splicing", "generator": "sd-1.4"}, 1, 1),
        ({"label": 1, "kind": "manipulated"}, UNKNOWN, 1),
    ],
)
def test_a_montage_of_photos_is_edited_and_not_generated(
    row: Any, generated: Any, edited: Any
) -> None:
    table = table_of([row])
    assert truth_of(table, "generated").tolist() == [generated]
    assert truth_of(table, "edited").tolist() == [edited]
    assert truth_of(table, "fake").tolist() == [row["label"]]


def test_an_unknown_question_is_refused_with_the_nearest(table: Any) -> None:
    with pytest.raises(MissingDataError, match="Did you mean 'generated'"):
        truth_of(table, "generate")
    with pytest.raises(MissingDataError, match="no column 'logit_edited'"):
        summarise(table, "edited")


def test_a_summary_counts_what_it_rests_on_and_what_it_leaves_out(table: Any) -> None:
    summary = summarise(table, resamples=100)
    assert (summary["yes"], summary["no"]) == (60, 81)
    assert (summary["failed"], summary["unanswered"], summary["truth_unknown"]) == (1, 1, 1)
    assert summary["images"] == len(table) == 144


def test_groups_are_measured_by_themselves(table: Any) -> None:
    summary = summarise(table, resamples=100)
    assert list(summary["sources"]) == ["phone", "scanner"]
    alarms = table["logit_generated"][table["source"] == "scanner"] >= 0
    assert summary["sources"]["scanner"]["false_alarms"]["value"] == pytest.approx(alarms.mean())
    assert list(summary["generators"]) == ["easy", "hard"]
    reals = table["source"] != ""
    hard = table["generator"] == "hard"
    expected = auroc(table["logit_generated"][reals | hard], hard[reals | hard].astype(np.int64))
    assert summary["generators"]["hard"]["auroc"]["value"] == pytest.approx(expected, abs=1e-6)
    assert summary["generators"]["easy"]["recall"]["value"] == 1.0


def test_mean_accuracy_weighs_generators_and_not_images(table: Any) -> None:
    summary = summarise(table, resamples=100)
    recalls = [row["recall"]["value"] for row in summary["generators"].values()]
    expected = (np.mean(recalls) + summary["overall"]["real_accuracy"]["value"]) / 2
    value = summary["overall"]["mean_accuracy"]
    assert value["value"] == pytest.approx(expected, abs=1e-5)
    assert value["low"] < value["value"] < value["high"]


def test_pixels_are_scored_where_there_is_something_to_locate_and_false_marks_on_photos(
    table: Any,
) -> None:
    pixels = summarise(table, resamples=100)["pixels"]["edited"]
    assert pixels["images"] == 1
    assert pixels["f1"]["value"] == pytest.approx(0.8)
    assert pixels["iou"]["value"] == pytest.approx(8 / 12, abs=1e-6)
    assert pixels["false_marks_on_reals"]["value"] == pytest.approx(0.05)


def test_the_threshold_and_the_temperature_are_those_asked_for(table: Any) -> None:
    low, high = (
        summarise(table, calibration=replace(RAW, fake_from=at), resamples=50)["overall"]
        for at in (-1.0, 1.0)
    )
    assert low["real_accuracy"]["value"] < high["real_accuracy"]["value"]
    assert low["auroc"] == high["auroc"]
    hot = summarise(table, calibration=replace(RAW, temperature=1e6), resamples=50)["overall"]
    assert hot["brier"]["value"] == pytest.approx(0.25, abs=1e-4)


def test_photos_alone_give_false_alarms_and_say_what_is_missing(table: Any) -> None:
    photos = table.where(table["label"] == 0)
    summary = summarise(photos, resamples=50)
    assert summary["overall"]["auroc"]["value"] is None
    assert summary["overall"]["mean_accuracy"]["reason"] == "no fake image"
    assert summary["overall"]["real_accuracy"]["n"] == 80
    text = markdown(grids(summary))
    assert "no fake image" in text
    assert "nan" not in text.lower()


def test_nothing_left_to_measure_is_an_error(table: Any) -> None:
    with pytest.raises(MissingDataError, match="No image left to measure 'generated'"):
        summarise(table.where(table["error"] != ""))


def test_a_summary_is_json_and_drawn_alike_in_markdown_and_the_terminal(table: Any) -> None:
    summary = json.loads(json.dumps(summarise(table, resamples=50), allow_nan=False))
    made = grids(summary)
    text = markdown(made)
    assert "60 yes, 81 no, 1 failed, 1 without an answer, 1 of unknown truth" in text
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert line.endswith("|")
    shown = io.StringIO()
    console = rich.console.Console(file=shown, width=200)
    for drawn in rich_tables(made):
        console.print(drawn)
    for grid in made:
        for row in grid.rows:
            assert all(cell in shown.getvalue() for cell in row)
            assert all(cell in text for cell in row)


def test_names_are_not_read_as_markup() -> None:
    rows = [{"label": 0, "source": "[red]a|b[/red]", "logit_generated": -1.0}] * 2
    made = grids(summarise(table_of(rows), resamples=10))
    shown = io.StringIO()
    console = rich.console.Console(file=shown, width=200)
    for drawn in rich_tables(made):
        console.print(drawn)
    assert "[red]a|b[/red]" in shown.getvalue()
    assert r"a\|b" in markdown(made)


def test_evaluations_stand_side_by_side(table: Any) -> None:
    native = summarise(table, resamples=50)
    recoded = summarise(table, calibration=replace(RAW, fake_from=1.0), resamples=50)
    grid, *_ = comparison({"native": native, "jpeg": recoded})
    assert grid.header == ("number", "native", "jpeg")
    by_name = {row[0]: row[1:] for row in grid.rows}
    assert by_name["AUROC"][0] == by_name["AUROC"][1]
    assert by_name["fake accuracy"][0] != by_name["fake accuracy"][1]
