"""Pictures in, reports out, over HTTP."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from gammascope.cli.app import app as command_line
from gammascope.imaging.decode import decode
from gammascope.server.schema import DetectShape, MethodsShape


def sent(pictures, *names):
    return [("files", (name, pictures[name])) for name in names]


def without_numbers(row):
    """A row without what batches may round differently."""
    return {key: value for key, value in row.items() if key not in ("probability", "answers")}


def same_answers(first, second):
    assert without_numbers(first) == without_numbers(second)
    for name, answer in first["answers"].items():
        assert second["answers"][name]["verdict"] == answer["verdict"]
        assert second["answers"][name]["probability"] == pytest.approx(
            answer["probability"], abs=2e-5
        )


def test_the_answer_is_what_scan_prints(client, pictures, tmp_path):
    (tmp_path / "cat.jpg").write_bytes(pictures["cat.jpg"])
    printed = CliRunner().invoke(
        command_line, ["scan", str(tmp_path / "cat.jpg"), "--json", "--weights", "mobilenet"]
    )
    answer = client.post("/v1/detect", files=sent(pictures, "cat.jpg"))
    assert answer.status_code == 200
    (row,) = answer.json()["results"]
    same_answers(row, json.loads(printed.stdout) | {"image": "cat.jpg"})


def test_several_files_are_answered_in_their_order(client, pictures, embedded):
    names = ["rocket.png", "cat.png", "coffee.jpg", "astronaut.png"]
    answer = client.post("/v1/detect", files=sent(pictures, *names)).json()
    DetectShape.model_validate(answer)
    for name, row in zip(names, answer["results"], strict=True):
        same_answers(row, embedded.report(pictures[name]).to_json() | {"image": name})


def test_files_may_come_under_any_part_name_and_twice_the_same(client, pictures):
    files = [(part, ("x.png", pictures["cat.png"])) for part in ("a", "files[]", "a")]
    rows = client.post("/v1/detect", files=files).json()["results"]
    assert len(rows) == 3
    assert rows[0] == rows[1] == rows[2]


def test_masks_come_only_when_asked_for_and_lie_over_the_picture(serve, suspicious, photos):
    photo = np.ascontiguousarray(photos["coffee"][:300, :500])
    data = io.BytesIO()
    PIL.Image.fromarray(photo).save(data, "PNG")
    client = serve(pipeline=suspicious)
    plain, masked = (
        client.post(f"/v1/detect{query}", files={"files": ("a.png", data.getvalue())}).json()
        for query in ("", "?masks=true")
    )
    DetectShape.model_validate(masked)
    assert all("mask" not in item for item in plain["results"][0]["evidence"])
    evidence = [e for e in suspicious.report(photo).evidence if e.name.startswith("mask:")]
    rows = [row for row in masked["results"][0]["evidence"] if row["name"].startswith("mask:")]
    for item, expected in zip(rows, evidence, strict=True):
        mask = item.pop("mask")
        assert (mask["width"], mask["height"]) == (384, 230)
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(mask["png"])))
        assert picture.size == (384, 230)
        values, seen = np.moveaxis(np.asarray(picture), 2, 0)
        assert (seen == 255).all()
        coarse = PIL.Image.fromarray(expected.map).resize((384, 230), PIL.Image.Resampling.BOX)
        np.testing.assert_allclose(values / 255, np.asarray(coarse), atol=0.01)
    assert masked == plain, "apart from the masks"


def test_labels_come_without_numbers_where_that_is_asked_for(serve, suspicious, pictures):
    client = serve(pipeline=suspicious)
    asked = "/v1/detect?labels_only=true&masks=true"
    (row,) = client.post(asked, files=sent(pictures, "cat.jpg")).json()["results"]
    (whole,) = client.post("/v1/detect", files=sent(pictures, "cat.jpg")).json()["results"]
    assert row["verdict"] == whole["verdict"]
    assert {name: answer["verdict"] for name, answer in whole["answers"].items()} == {
        name: answer["verdict"] for name, answer in row["answers"].items()
    }
    for number in ("probability", "thresholds", "marked_share", "%"):
        assert number not in json.dumps(row)
        assert number in json.dumps(whole)
    assert any("mask" in item for item in row["evidence"])


def test_what_no_tile_looked_at_is_transparent_in_the_mask(serve, suspicious, photos):
    wide = np.ascontiguousarray(np.tile(photos["coffee"][:96, :96], (1, 130, 1)))
    data = io.BytesIO()
    PIL.Image.fromarray(wide).save(data, "PNG")
    answer = serve(pipeline=suspicious).post(
        "/v1/detect?masks=true", files={"files": ("wide.png", data.getvalue())}
    )
    item = answer.json()["results"][0]["evidence"][0]
    view = suspicious.view
    share = view.max_tiles * view.size / wide.shape[1]
    assert item["examined_share"] == pytest.approx(share, abs=0.01)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(item["mask"]["png"])))
    assert (np.asarray(picture)[..., 1] > 0).mean() == pytest.approx(share, abs=0.2)


def test_a_file_that_cannot_be_examined_does_not_spoil_the_others(client, pictures):
    files = sent(pictures, "cat.png", "rocket.jpg")
    files.insert(1, ("files", ("notes.txt", b"no picture")))
    answer = client.post("/v1/detect", files=files)
    assert answer.status_code == 200
    DetectShape.model_validate(answer.json())
    first, failed, last = answer.json()["results"]
    assert (first["image"], last["image"]) == ("cat.png", "rocket.jpg")
    assert failed["image"] == "notes.txt"
    assert failed["problem"]["status"] == 415
    assert failed["problem"]["detail"].startswith("Not an image (known: JPEG, PNG")


def test_where_no_file_can_be_examined_the_answer_is_a_problem(client):
    files = [("files", ("a.txt", b"text")), ("files", ("b.jpg", b"\xff\xd8\xff broken"))]
    answer = client.post("/v1/detect", files=files)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:gammascope:problem:no-file-examined"
    assert [row["problem"]["status"] for row in answer.json()["results"]] == [415, 422]


def test_what_was_examined_before_is_not_examined_again(serve, gated, pictures):
    gated.gate.set()
    client = serve(pipeline=gated)
    first = client.post("/v1/detect?masks=true", files=sent(pictures, "cat.jpg")).json()
    renamed = {"files": ("other name.jpg", pictures["cat.jpg"])}
    second = client.post("/v1/detect?masks=true", files=renamed).json()
    assert second["results"][0] == first["results"][0] | {"image": "other name.jpg"}
    assert gated.batches == [1]
    figures = client.get("/metrics").text
    assert 'gammascope_files_total{outcome="examined"} 1.0' in figures
    assert 'gammascope_files_total{outcome="known"} 1.0' in figures


def test_methods_say_what_answers_here_and_with_which_bounds(serve, embedded):
    answer = serve("files=3").get("/v1/methods").json()
    MethodsShape.model_validate(answer)
    assert answer["serving"]["weights_sha256"] == embedded.weights_sha256
    assert answer["serving"]["files"] == 3
    assert "gamma" in [row["name"] for row in answer["methods"]]


def test_health_readiness_and_figures(client, pictures):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/v1/detect", files=sent(pictures, "cat.png", "rocket.png"))
    client.get("/no/such/place")
    figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    for line in (
        'gammascope_requests_total{route="/v1/detect",status="200"} 1.0',
        'gammascope_requests_total{route="none",status="404"} 1.0',
        "gammascope_queue_files 0.0",
        "gammascope_held_bytes 0.0",
        "gammascope_batch_images_sum 2.0",
    ):
        assert line in figures.text, line


def test_every_answer_carries_the_headers_that_keep_browsers_careful(client):
    for path in ("/healthz", "/v1/methods", "/no/such/place", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "access-control-allow-origin" not in headers
        assert len(headers["x-request-id"]) == 16


def test_an_upright_picture_is_reported_whatever_its_exif_says(client, photos):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    PIL.Image.fromarray(photos["cat"][:60, :100]).save(data, "JPEG", exif=exif.tobytes())
    (row,) = client.post("/v1/detect", files={"f": ("a.jpg", data.getvalue())}).json()["results"]
    assert (row["width"], row["height"]) == (60, 100)
    assert decode(data.getvalue()).image.shape == (100, 60, 3)
    assert "Turned upright (EXIF orientation 6)." in row["caveats"]
