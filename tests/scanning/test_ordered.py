"""Many files in, one row each out: order, broken files, and a thread that does not stay behind."""

from __future__ import annotations

import threading
import time
from copy import copy
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import threadpoolctl
import torch

from gammascope import checkpoints, settings
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors import gamma
from gammascope.imaging.decode import Limits, decode
from gammascope.scanning.ordered import scan


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    torch.manual_seed(0)
    detector = gamma.build(gamma.METHOD.tiny)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = settings.plain(gamma.METHOD.tiny)
    checkpoints.save(path, detector, checkpoints.Facts("gamma", config, detector.view))
    return Pipeline.load(path)


@pytest.fixture
def files(photos, tmp_path):
    paths = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        side = 40 + number
        PIL.Image.fromarray(photos["cat"][:side, :side]).save(path)
        paths.append(path)
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    return paths


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scan")]


@pytest.mark.parametrize("ahead", [1, 2, 50])
def test_every_file_gives_one_row_in_order_with_what_the_pipeline_says(files, pipeline, ahead):
    rows = list(scan(files, pipeline, ahead=ahead))
    assert [row.path for row in rows] == files
    assert rows[3].report is None
    assert rows[3].image is None
    assert rows[3].error is not None
    assert rows[3].error.startswith("3.png: ")
    for number in (0, 1, 2, 4, 5, 6):
        alone, row = pipeline.report(files[number]), rows[number]
        assert row.error is None
        assert row.report.to_json() == alone.to_json()
        assert row.image.shape == (40 + number, 40 + number, 3)
    assert threads_left() == []


def test_numpy_s_threads_take_no_core_from_the_network(files, pipeline):
    with threadpoolctl.threadpool_limits(2, "blas"):
        list(scan(files[:1], pipeline))
        pools = threadpoolctl.threadpool_info()
        assert {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"} == {1}


def test_leaving_early_ends_the_thread(files, pipeline):
    rows = scan(files, pipeline)
    assert next(rows).path == files[0]
    assert threads_left()
    rows.close()
    assert threads_left() == []


def test_decoding_runs_ahead_but_no_further_than_allowed(files, pipeline, monkeypatch):
    decoded = []

    def noted(path, limits):
        decoded.append(path)
        return decode(path, limits)

    monkeypatch.setattr("gammascope.scanning.ordered.decode", noted)
    rows = scan(files, pipeline, ahead=3)
    next(rows)
    deadline = time.monotonic() + 5
    while len(decoded) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert sorted(decoded) == files[:3]
    rows.close()


def test_further_detectors_look_at_the_same_pixels_and_none_at_a_file_again(
    files, pipeline, monkeypatch
):
    decoded = []

    def noted(path, limits):
        decoded.append(path)
        return decode(path, limits)

    other = copy(pipeline)
    other.facts = replace(pipeline.facts, method="other")
    monkeypatch.setattr("gammascope.scanning.ordered.decode", noted)
    rows = list(scan(files, pipeline, further=[other]))
    assert sorted(decoded) == files
    assert rows[3].further == ()
    for row in (*rows[:3], *rows[4:]):
        assert row.report is not None
        (further,) = row.further
        assert further.to_json() == row.report.to_json() | {"method": "other"}


def test_decoding_pauses_while_huge_pictures_wait(files, pipeline, monkeypatch):
    monkeypatch.setattr("gammascope.scanning.ordered.HELD_BYTES", 1)
    assert [row.path for row in scan(files, pipeline, ahead=5)] == files


def test_a_file_above_the_limits_is_a_row_with_its_error(files, pipeline):
    rows = list(scan(files[:2], pipeline, limits=Limits(max_pixels=40 * 40)))
    assert rows[0].error is None
    assert rows[1].error is not None
    assert "41 x 41" in rows[1].error


def test_an_answer_that_is_not_a_number_is_never_a_verdict(files, tmp_path):
    detector = gamma.build(gamma.METHOD.tiny)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.fill_(np.nan)
    config = settings.plain(gamma.METHOD.tiny)
    path = tmp_path / "broken.safetensors"
    checkpoints.save(path, detector, checkpoints.Facts("gamma", config, detector.view))
    (row,) = scan(files[:1], Pipeline.load(path))
    assert row.report is None
    assert row.error is not None
    assert "answer is not a number" in row.error


def test_nothing_to_scan_gives_nothing(pipeline):
    assert list(scan([], pipeline)) == []


def test_looking_ahead_by_nothing_is_refused(files, pipeline):
    with pytest.raises(ValueError, match="ahead=0"):
        list(scan(files, pipeline, ahead=0))


def test_a_fault_of_ours_is_its_row_s_error_and_keeps_the_other_rows(files, pipeline, monkeypatch):
    report_of = pipeline.report_of

    def broken(decoded, name, stop=None):
        if name == "1.png":
            raise ZeroDivisionError("by nothing")
        return report_of(decoded, name, stop)

    monkeypatch.setattr(pipeline, "report_of", broken)
    rows = list(scan(files, pipeline))
    assert [row.report is None for row in rows] == [n in (1, 3) for n in range(7)]
    assert "please report it: ZeroDivisionError: by nothing (test_ordered.py:" in rows[1].error
    assert threads_left() == []
