"""Several detectors behind one server, each for itself; maps beside "no sign"; what the thorough profile adds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from gammascope.cli.app import app as command_line
from gammascope.detection.opinions import Detectors
from gammascope.detection.pipeline import Pipeline
from gammascope.imaging.codecs import Encoding, encode
from gammascope.server import serving
from gammascope.server.schema import DetectShape, JobShape


@pytest.fixture
def deaf(embedded):
    """The embedded detector with thresholds that no picture reaches, and with maps all the same."""
    calibration = {
        name: replace(known, uncertain_from=98.0, fake_from=99.0)
        for name, known in embedded.facts.calibration.items()
    }
    facts = replace(embedded.facts, calibration=calibration)
    return Pipeline(embedded.detector, facts, "deaf", serving.BESIDES)


@pytest.fixture
def both(serve, suspicious, deaf):
    return serve(pipeline=suspicious, second=deaf)


def asked(client, content: bytes, query: str = ""):
    answer = client.post(f"/v1/detect{query}", files={"files": ("a.jpg", content)}).json()
    DetectShape.model_validate(answer)
    (row,) = answer["results"]
    return row


def masks_of(row) -> dict[str, dict[str, object]]:
    return {one["name"]: one["mask"] for one in row["evidence"] if "mask" in one}


def test_each_detector_speaks_for_itself_with_its_own_thresholds(both, pictures, suspicious, deaf):
    row = asked(both, pictures["cat.jpg"])
    (second,) = row["second_opinions"]
    assert (row["detector"], row["verdict"]) == ("first", "fake")
    assert (second["detector"], second["verdict"]) == ("second", "no sign")
    for said, pipeline in ((row, suspicious), (second, deaf)):
        expected = pipeline.report(pictures["cat.jpg"]).to_json()
        assert said["weights_sha256"] == pipeline.weights_sha256
        for question, answer in expected["answers"].items():
            assert said["answers"][question]["thresholds"] == answer["thresholds"]
            assert said["answers"][question]["probability"] == pytest.approx(
                answer["probability"], abs=2e-5
            )
    assert row["differences"] == [
        f"The detectors differ on {question}: first says {yes}, second says no sign."
        for question, yes in {"generated": "fake", "edited": "edited"}.items()
        if question in row["answers"]
    ]


def test_one_detector_answers_as_ever(client, pictures):
    row = asked(client, pictures["cat.jpg"])
    assert {"detector", "second_opinions", "differences"} & set(row) == set()


def test_masks_and_numbers_of_every_opinion_come_only_when_asked_for(both, pictures):
    plain, masked, quiet, labels = (
        asked(both, pictures["cat.jpg"], query)
        for query in ("", "?masks=true", "?masks=true&quiet_masks=true", "?labels_only=true")
    )
    for row, first, second in ((plain, 0, 0), (masked, 2, 0), (quiet, 2, 2), (labels, 0, 0)):
        assert len(masks_of(row)) == first
        assert len(masks_of(row["second_opinions"][0])) == second
    assert not any("on_request" in mask for mask in masks_of(quiet).values())
    for mask in masks_of(quiet["second_opinions"][0]).values():
        assert mask["on_request"] is True, "something is always marked"
    for number in ("probability", "thresholds", "marked_share"):
        assert number not in json.dumps(labels)


def test_a_map_beside_no_sign_is_small_for_nearly_every_picture_has_one(serve, deaf, photos):
    content = encode(np.ascontiguousarray(photos["coffee"][:300, :500]), Encoding("jpeg", 90))
    row = asked(serve(pipeline=deaf), content, "?masks=true&quiet_masks=true")
    for mask in masks_of(row).values():
        assert (mask["width"], mask["height"]) == (192, 115)


def test_a_job_holds_every_opinion(both, pictures):
    accepted = both.post("/v1/jobs", files={"files": ("a.jpg", pictures["cat.jpg"])})
    for _ in range(2000):
        job = both.get(accepted.headers["location"]).json()
        if job["status"] == "finished":
            break
    JobShape.model_validate(job)
    (row,) = job["results"]
    assert [one["detector"] for one in row["second_opinions"]] == ["second"]
    assert len(masks_of(row)) == 2
    assert masks_of(row["second_opinions"][0]) == {}


def test_a_file_that_is_no_picture_has_one_problem_however_many_look(both, pictures):
    files = [("files", ("no.jpg", b"no picture")), ("files", ("a.jpg", pictures["cat.jpg"]))]
    failed, row = both.post("/v1/detect", files=files).json()["results"]
    assert failed["problem"]["status"] == 415
    assert row["second_opinions"]


def test_methods_say_who_answers_with_which_profile(both, suspicious, deaf):
    said = both.get("/v1/methods").json()["serving"]
    assert [(one["name"], one["weights_sha256"]) for one in said["detectors"]] == [
        ("first", suspicious.weights_sha256),
        ("second", deaf.weights_sha256),
    ]
    assert {one["profile"] for one in said["detectors"]} == {"default"}
    assert said["weights_sha256"] == suspicious.weights_sha256


def test_results_are_known_to_the_same_detectors_only(serve, suspicious, deaf, pictures, tmp_path):
    place = tmp_path / "results.sqlite"
    one, other = ({"pipeline": suspicious}, {"pipeline": suspicious, "second": deaf})
    for parts, known in ((one, 0), (other, 0), (other, 1), (one, 1)):
        client = serve(results=place, **parts)
        asked(client, pictures["cat.jpg"])
        assert ('outcome="known"' in client.get("/metrics").text) == bool(known)


def test_answers_of_another_profile_have_another_key(embedded):
    fast = Pipeline(embedded.detector, embedded.facts, embedded.weights_sha256, profile="fast")
    keys = {Detectors(("any",), (one,)).key for one in (embedded, fast)}
    assert len(keys) == 2
    assert Detectors(("other",), (embedded,)).key in keys, "a name that is in no answer"


def test_thorough_shows_parts_with_another_history_and_their_maps(serve, embedded, composite):
    looks = Pipeline(embedded.detector, embedded.facts, "t", serving.BESIDES, "thorough")
    row = asked(serve(pipeline=looks), composite, "?masks=true")
    assert "forensics:quantisation" in masks_of(row)
    said = {one["name"]: one for one in row["evidence"]}
    assert "lacks a JPEG compression" in said["forensics:quantisation"]["statement"]
    assert said["forensics:noise"]["statement"]


def refused(*arguments):
    return CliRunner().invoke(command_line, ["serve", "--port", "0", *arguments])


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_impossible_weights_are_refused_in_words():
    twice = refused("--weights", "mobilenet", "--weights", "mobilenet")
    assert twice.exit_code == 2
    assert "are one detector: name it once" in twice.stderr
    missing = refused("--weights", "mobilenet", "--weights", "nowhere.safetensors")
    assert missing.exit_code == 3
    assert "nowhere.safetensors" in missing.stderr
    of_one = refused("--weights", "mobilenet", "--weights", "clip", "--method", "gamma")
    assert of_one.exit_code == 2
    assert "each speaks for itself" in of_one.stderr


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_more_detectors_than_memory_was_promised_for_are_refused_before_one_is_loaded():
    every = [option for number in range(5) for option in ("--weights", f"missing-{number}")]
    most = refused(*every)
    assert most.exit_code == 2
    assert "--limit detectors=5" in most.stderr
    assert "missing-0" in refused(*every, "--limit", "detectors=5").stderr
