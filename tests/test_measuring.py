"""What benchmarks make of measured figures: ratios that fell, costs, floors, and rows as they came."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

PLACE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Import a benchmark as it imports its neighbours."""
    monkeypatch.syspath_prepend(str(PLACE))

    def imported(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return imported


def speeds(**seconds: float) -> dict[str, dict[str, float]]:
    """Return runs of ten images; ``thorough`` of one."""
    runs = {
        name: {"images": 10, "seconds": spent, "cpu": 2 * spent, "views": 20, "failed": 0, "peak_mib": 1}
        for name, spent in {"decoding alone": 0.1, "torch eager, fast": 8.0, **seconds}.items()
    }  # fmt: skip
    runs["thorough"] |= {"images": 1}
    return runs | {"arithmetic": {"cpu": 0.05}}


def test_a_ratio_that_fell_by_more_than_a_tenth_is_named_and_no_other(script, tmp_path):
    run = script("run")
    now = {"a": 0.89, "b": 0.91, "c": 2.0, "new": 1.0, "d": 0.4}
    kept = {"a": 1.0, "b": 1.0, "c": 1.0, "gone": 1.0, "d": 1.0}
    place = tmp_path / "ratios.json"
    assert "none kept" in run.verdict_on(now, place)
    place.write_text(json.dumps({"machine": "a desk", "ratios": kept}), "utf-8")
    said = run.verdict_on(now, place)
    assert said.startswith("4 of 5 ratios compared with those of a desk: 2 fell by more than 10 %.")
    lines = said.splitlines()[2:]
    assert lines == [
        "- **fell by 60 %**: d, 1 before, 0.4 now",
        "- **fell by 11 %**: a, 1 before, 0.89 now",
    ]
    place.write_text(json.dumps({"machine": "a desk", "ratios": {"c": 2.1}}), "utf-8")
    assert "none fell" in run.verdict_on(now, place)


def test_ratios_of_all_scripts_are_gathered_under_their_names(script, tmp_path):
    run = script("run")
    (tmp_path / "cluster_scan.json").write_text('{"ratios": {"two": 0.9}}', "utf-8")
    (tmp_path / "server_load.json").write_text("[1, 2]", "utf-8")
    (tmp_path / "scan_speed.json").write_text('{"sets": {}}', "utf-8")
    assert run.ratios_in(tmp_path) == {"cluster_scan: two": 0.9}


def test_every_job_asks_for_options_that_its_script_has(script):
    run = script("run")
    for job in run.JOBS:
        text = (PLACE / f"{job.script}.py").read_text("utf-8")
        for word in f"{job.asked} {job.quick}".split():
            if word.startswith("--"):
                assert f'"{word}"' in text, (job.script, word)


def test_ratios_of_a_scan_are_of_one_picture_and_of_the_floor(script):
    scan_speed = script("scan_speed")
    runs = speeds(fast=1.0, default=2.0, thorough=1.5)
    told = scan_speed.ratios({"sets": {"1 MP": {"runs": runs}}})
    assert told["1 MP, fast: torch / scan"] == pytest.approx(8.0)
    assert told["1 MP, fast: decoding / scan"] == pytest.approx(0.1)
    assert told["1 MP, thorough: decoding / scan"] == pytest.approx(0.02 / 3.0)
    # Decoding takes 0.02 s of the processor, each of two views 0.05.
    assert told["1 MP, fast: floor / scan"] == pytest.approx(0.12 / 0.2)


def test_medians_are_of_each_figure_alone(script):
    runs = [{"a": 1.0, "b": 9.0}, {"a": 5.0, "b": 1.0}, {"a": 2.0, "b": 2.0}]
    assert script("scan_speed").middle(runs) == {"a": 2.0, "b": 2.0}


def test_costs_follow_from_what_was_measured_and_what_is_assumed(script):
    costs = script("costs")
    assumed = costs.Assumed(1e9, 4, 0.02, 0.5, 0.2, 0.3, 500)
    one = costs.cost(10.0, 2, 0.8, assumed)
    assert one.core_seconds == 0.2
    assert one.core_hours == pytest.approx(1e6 * 0.8 * 0.2 / 0.8 / 0.5 / 3600)
    assert one.hours == pytest.approx(one.core_hours / 4)
    assert one.machines == 1158  # 111,111 core-hours a day on 24 x 4 each are 1157.4
    assert one.price == pytest.approx(0.02 * one.core_hours)
    assert one.price_a_day == pytest.approx(1000 * one.price)


def test_costs_are_written_between_the_marks_of_a_document_and_nowhere_else(
    script, tmp_path, monkeypatch, capsys
):
    costs = script("costs")
    runs = speeds(fast=1.0, default=2.0, thorough=1.5)
    measured = {"machine": "a desk", "threads": 2, "weights": "default", "repeats": 5}
    (tmp_path / "speed.json").write_text(
        json.dumps(measured | {"sets": {"12 MP": {"runs": runs}, "1 MP": {"runs": runs}}}), "utf-8"
    )
    document = tmp_path / "page.md"
    document.write_text(f"before\n{costs.MARKS[0]}\nold\n{costs.MARKS[1]}\nafter\n", "utf-8")
    command = ["costs.py", str(tmp_path / "speed.json"), "--into", str(document)]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        costs.main()
    text = document.read_text("utf-8")
    assert text.startswith(f"before\n{costs.MARKS[0]}\n\n| profile")
    assert text.endswith(f"\n\n{costs.MARKS[1]}\nafter\n")
    assert text.count("| `fast` | 10.00 | 0.200 |") == 1
    assert "pictures a second of 1 MP on 2 cores of a desk" in text
    assert "old" not in text
    cluster = {"machine": "a shelf", "ratios": {"2 workers / twice 1 worker": 0.8}}
    (tmp_path / "cluster.json").write_text(json.dumps(cluster), "utf-8")
    monkeypatch.setattr(sys, "argv", [*command[:2], "--cluster", str(tmp_path / "cluster.json")])
    alone = text[text.index("| `fast`") :].split("|")
    capsys.readouterr()
    costs.main()
    said = capsys.readouterr().out
    assert "80 % of twice one worker's speed with two (a shelf)" in said
    slower = said[said.index("| `fast`") :].split("|")
    assert float(slower[7]) == pytest.approx(float(alone[7]) / 0.8, abs=0.01)  # $ a million
    monkeypatch.setattr(sys, "argv", ["costs.py", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit, match="measure it first"):
        costs.main()
    document.write_text("no marks", "utf-8")
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="has no lines"):
        costs.main()


def test_the_rate_of_a_cluster_is_that_between_the_ends_of_tasks(script):
    """Two tasks of ten rows each second, from the fifth on; the last one comes late."""
    cluster_scan = script("cluster_scan")
    came: list[tuple[float, int]] = [(0.0, 0)]
    for task in range(20):
        came += [(5.0 + task / 2 + row / 1e6, 10 * task + row + 1) for row in range(10)]
    came += [(30.0 + row / 1e6, 201 + row) for row in range(10)]
    found = cluster_scan.figures(came)
    assert found["rate"] == pytest.approx(20.0, rel=1e-3)
    assert found["to_first_row"] == 5.0
    assert found["longest_wait"] == pytest.approx(15.5, abs=1e-3)


def test_rows_that_are_missing_or_other_ones_are_counted(script):
    differing = script("cluster_scan").differing
    rows = [{"number": n, "verdict": "fake", "probability": 0.5, "error": None} for n in range(4)]
    assert differing(rows, rows) == 0
    assert differing(rows[:-1], rows) == 1
    assert differing([rows[0] | {"probability": 0.50001}, *rows[1:]], rows) == 0
    assert differing([rows[0] | {"probability": 0.6}, *rows[1:]], rows) == 1
    assert differing([rows[0] | {"probability": None, "error": "x"}, *rows[1:]], rows) == 1


def test_growth_is_told_of_counts_where_starting_is_not_most_of_the_cost(script):
    bulk_scale = script("bulk_scale")
    spent = {"list": 1.0, "rows": 2.0, "merge": 1.0, "summary": 2.0, "go on": 9.0}
    ledger = {"1000": spent, "10000": spent, "100000": {**spent, "rows": 42.0}}
    pictures = {"1000": {"seconds": 10.0}, "10000": {"seconds": 200.0}}
    told = bulk_scale.ratios({"ledger": ledger, "pictures": pictures})
    assert told == {
        "ledger, cost of an image: of 10,000 / of 100,000": pytest.approx(8e-4 / 8.8e-4),
        "pictures, cost of an image: of 1,000 / of 10,000": pytest.approx(0.5),
    }
