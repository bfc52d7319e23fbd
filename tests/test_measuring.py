"""What benchmarks make of measured figures: ratios that fell, costs, floors, and rows as they came."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gammascope.imaging.decode import decode
from gammascope.report import Answer, Verdict
from gammascope.sample import Label

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


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (48, 48)])
def test_photos_of_any_shape_are_written(size, script, tmp_path):
    script("scan_speed").write_photos(tmp_path / "photos", size, 24)
    sizes = [decode(path).image.shape[1::-1] for path in (tmp_path / "photos").iterdir()]
    assert sizes == [size] * 24


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
    assert lines[:3] == [
        "- **fell by 60 %**: d, 1 before, 0.4 now",
        "- **fell by 11 %**: a, 1 before, 0.89 now",
        "",
    ]
    place.write_text(json.dumps({"machine": "a desk", "ratios": {"c": 2.1}}), "utf-8")
    assert "none fell" in run.verdict_on(now, place)


def test_a_ratio_that_could_not_fall_for_none_is_kept_is_named_too(script, tmp_path):
    run, place = script("run"), tmp_path / "ratios.json"
    place.write_text(json.dumps({"machine": "a desk", "ratios": {"a": 1.0}}), "utf-8")
    said = run.verdict_on({"a": 1.0, "12 MP": 0.1, "24 MP": 0.2}, place)
    assert said.startswith("1 of 3 ratios compared")
    assert said.endswith("None kept to compare with (--keep keeps them): 12 MP; 24 MP.")


def test_a_benchmark_is_left_out_where_it_needs_what_was_not_given(script, tmp_path):
    run = script("run")
    jobs = {job.script: job for job in run.JOBS}
    data, peer = tmp_path / "PHOTOS.csv", tmp_path / "OUT"

    def words(name: str, data: Path | None, peer: Path | None, **how: bool) -> list[str]:
        given = {"DATA": data, "PEER": peer}
        return run.words_of(jobs[name], tmp_path, given, quick=how.get("quick", False))

    for quick in (False, True):
        assert words("own_commands", data, None, quick=quick) == []
        assert words("own_commands", None, peer, quick=quick) == []
        asked = words("own_commands", data, peer, quick=quick)
        assert asked[:3] == [str(data), "--peer", str(peer)]
        assert asked[-1] == f"{tmp_path}/own_commands.json"
        assert words("scan_speed", None, peer, quick=quick)[-2:] == ["--peer", str(peer)]
        assert "--peer" not in words("scan_speed", data, None, quick=quick)
    assert words("precisions", None, None)[0] == "--synthetic"
    assert words("precisions", data, None)[0] == str(data)
    assert run.needed(jobs["own_commands"]) == ["--data", "--peer"]


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
        for word in f"{job.asked} {job.quick} {job.labelled}".split():
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


def test_medians_reach_into_tables_and_leave_words_alone(script):
    runs = [
        {"rows": [{"ms": ms, "name": "one", "ok": True}], "waits": list(range(ms)), "page": None}
        for ms in (3, 1, 2)
    ]
    assert script("scan_speed").middle(runs) == {
        "rows": [{"ms": 2, "name": "one", "ok": True}],
        "waits": [0, 1, 2],
        "page": None,
    }


def process(_chosen: argparse.Namespace) -> dict[str, int]:
    return {"process": os.getpid()}


def test_each_run_has_a_process_of_its_own(script):
    """Else the peak of one is that of all before it."""
    runs = script("scan_speed").repeated(process, argparse.Namespace(repeats=2))
    assert len({os.getpid(), *(run["process"] for run in runs)}) == 3


def load(clients: int, p50: float, **unsound: int) -> dict[str, Any]:
    row = {
        "clients": clients,
        "p50_ms": p50,
        "requests_per_cpu_second": 5.0,
        "errors": 0,
        "wrong": 0,
    }
    memory = {"rss_before_mib": 200, "rss_peak_mib": 400}
    return {**row, **memory, "examples": ["bad"] * sum(unsound.values()), **unsound}


def test_one_wrong_answer_in_one_of_five_runs_is_not_lost_in_the_median(script):
    tables = script("server_tables")
    pair = {"clients": 1, "batched": load(1, 9.0), "unbatched": load(1, 9.0, errors=2)}
    runs = [
        {
            "load": [load(1, p50, wrong=int(p50 == 5.0))],
            "burst": [],
            "scan_cpu": 0.1,
            "batching": {"whole": [{**pair, "ratio_cpu_second": 1.5}]},
        }
        for p50 in (3.0, 1.0, 2.0, 5.0, 4.0)
    ]
    found = tables.summed(json.loads(json.dumps(runs)))
    (row,) = found["load"]
    assert (row["p50_ms"], row["wrong"], row["examples"]) == (3.0, 1, ["bad"])
    assert sum(one["errors"] for one in tables.loads(found)) == 10
    told = tables.ratios(found)
    assert told["1 clients: CPU of a scan / of the server"] == pytest.approx(0.5)
    assert told["1 clients: memory before / at most"] == 0.5
    assert told["whole, 1 clients: batched / unbatched, per CPU-second"] == 1.5


def test_memory_that_grows_with_images_and_a_detector_that_needs_more_lower_a_ratio(script):
    found = {
        "default": {"200": {"peak_mib": 400}, "2000": {"peak_mib": 500}},
        "mobilenet": {"200": {"peak_mib": 250}, "2000": {"peak_mib": 250}},
    }
    assert script("scan_memory").ratios(found) == {
        "default: memory with 200 images / with 2,000": 0.8,
        "mobilenet: memory with 200 images / with 2,000": 1.0,
        "2,000 images: memory of mobilenet / of default": 0.5,
    }


def test_shares_are_told_with_their_number_and_interval(script):
    labelled = script("labelled")
    assert labelled.told(labelled.share(1, 268)) == "1 of 268, 0.4 % [0.1, 2.1]"
    assert labelled.told(labelled.share(0, 0)) == "-"


def test_fakes_found_and_false_alarms_are_counted_apart(script):
    labels = [Label.FAKE, Label.FAKE, Label.FAKE, Label.REAL, Label.REAL]
    called, scores = [True, True, False, True, False], [0.9, 0.8, 0.2, 0.5, 0.1]
    found = script("labelled").rates(labels, called, scores)
    assert (found["found"]["count"], found["found"]["n"]) == (2, 3)
    assert (found["false_alarms"]["count"], found["false_alarms"]["n"]) == (1, 2)
    assert found["auroc"]["value"] == pytest.approx(5 / 6, abs=1e-6)
    assert found["tpr_at_1"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    photos = script("labelled").rates([Label.REAL], [False], [0.1])
    assert photos["auroc"]["value"] is None
    json.dumps(found | photos)


def test_all_pictures_are_judged_once_and_some_are_timed_often(script, monkeypatch):
    labelled, asked = script("labelled"), []

    def here(measure: Any, chosen: argparse.Namespace) -> list[Any]:
        return [measure(chosen) for _ in range(chosen.repeats)]

    def measure(chosen: argparse.Namespace) -> dict[str, Any]:
        asked.append(chosen.images)
        return {"fast": {"found": chosen.images, "cpu_ms": len(asked), "speed": [len(asked)]}}

    monkeypatch.setattr(labelled, "repeated", here)  # which would start a process for each
    chosen = argparse.Namespace(images=None, timed=48, repeats=3)
    found = labelled.judged_and_timed(measure, chosen, ("cpu_ms",))
    assert asked == [None, 48, 48, 48]
    assert found == {"fast": {"found": None, "cpu_ms": 3, "speed": [1]}}
    asked.clear()
    few = argparse.Namespace(images=4, timed=48, repeats=1)
    labelled.judged_and_timed(measure, few, ("cpu_ms",))
    assert asked == [4, 4]


def way(script: ModuleType, seconds: float, *said: tuple[Verdict, float]) -> Any:
    """Return a way of looking with what it said of each picture: verdict and logit."""
    answers = [{"generated": Answer(0.5, verdict, (0.4, 0.6))} for verdict, _ in said]
    logits = [{"generated": logit} for _, logit in said]
    return script.Way(None, seconds, len(said), answers, logits)


def test_verdicts_that_a_precision_changes_are_counted_against_float32(script):
    precisions, (no, unsure, fake) = script("precisions"), Verdict
    exact = way(precisions, 4.0, (no, -1.0), (unsure, 0.5), (fake, 2.0))
    other = way(precisions, 1.0, (fake, 1.5), (fake, 0.7), (fake, 2.0))
    found = precisions.changes(other, exact)
    assert found["logit_difference"] == 2.5
    assert found["other_verdict"]["count"] == 2
    assert found["no_sign_to_fake_or_back"]["count"] == 1
    same = precisions.changes(exact, exact)
    assert precisions.ratios({"f32": same, "auto": found}, "dev") == {
        "dev, auto: CPU of f32 / of it": 4.0,
        "dev, auto: verdicts of f32 that stay": pytest.approx(1 / 3, abs=1e-6),
    }
    assert (
        "| auto | 3 | 333.33 | 4.00 | 2.5 | 2 of 3, 66.7 % [20.8, 93.9] |"
        in precisions.markdown({"auto": found})
    )


def test_answering_early_is_judged_beside_all_views_of_the_same_profile(script):
    early, (no, _, fake) = script("early_answers"), Verdict
    labels = [Label.FAKE, Label.FAKE, Label.REAL]
    patient = way(early, 3.0, (fake, 1.0), (fake, 1.0), (no, 0.0))
    hasty = way(early, 1.5, (fake, 1.0), (no, 0.0), (no, 0.0))
    ways = {"fast, all views": patient, "fast, early exits": hasty, "fast, mobilenet": hasty}
    found = {
        name: early.figures(one, labels, early.beside(name, ways)) for name, one in ways.items()
    }
    assert early.ratios(found) == {
        "fast, early exits: CPU of all views / of it": 2.0,
        "fast, early exits: verdicts of all views that stay": pytest.approx(2 / 3, abs=1e-6),
        "fast, early exits: fakes found, of those by all views": 0.5,
    }
    table = early.markdown({"machine": "a desk", "timed": 3, "repeats": 1, "found": found})
    assert "| fast, early exits | 1 of 2, 50.0 % [9.5, 90.5] | 0 of 1, 0.0 % [0.0, 79.3] |" in table


def test_exits_are_off_in_the_copy_of_a_detector_alone_and_a_cascade_may_begin_under_fast(script):
    ways = script("early_answers").ways_of()
    patient = ways["default, all views"]
    patient.look(np.full((600, 500, 3), 90, np.uint8))
    assert patient.views == 4
    assert ways["default, early exits"].pipeline.facts.settled
    assert ways["default, early exits"].pipeline.network is patient.pipeline.network
    cascade = ways["default, mobilenet under fast, then default"].pipeline
    assert [member.profile for member in cascade.members] == ["fast", "default"]


def test_what_two_tools_print_is_read_alike(script):
    own = script("own_commands")
    row = {"answers": {"generated": {"verdict": "fake", "probability": 0.9}}, "verdict": "fake"}
    assert own.ours(row) == (True, 0.9)
    assert own.ours({"image": "a", "error": "broken"}) is None
    assert own.theirs('{"verdict": "inconclusive", "ai_probability": 0.5}') == (False, 0.5)
    assert own.theirs('{"verdict": "ai_generated_verified", "ai_probability": 1.0}') == (True, 1.0)
    assert own.theirs("sahu65: unsupported file") is None


def test_a_tool_that_is_slower_and_ranks_worse_makes_ratios_above_one(script):
    own = script("own_commands")
    speed = {name: {"seconds": 0.5, "cpu": 1.0} for name in (own.DEFAULT, own.FAST, own.EACH)}
    speed[own.PEER] = {"seconds": 2.0, "cpu": 1.0}
    quality: dict[str, Any] = {name: {"auroc": {"value": 0.9}} for name in (own.DEFAULT, own.FAST)}
    quality[own.PEER] = {"auroc": {"value": 0.6}}
    told = own.ratios({"speed": speed, "quality": quality})
    assert told["scan, a command for each: seconds of sahu65 / of it"] == 4.0
    assert told["scan: AUROC of it / of sahu65"] == pytest.approx(1.5)
    quality[own.PEER]["auroc"]["value"] = None  # of one class
    assert len(own.ratios({"speed": speed, "quality": quality})) == 3


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
