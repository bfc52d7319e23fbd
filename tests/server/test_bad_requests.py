"""What is wrong with a request is said in a problem document with the right status; nothing ends in a 500."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import time
import zlib
from typing import Any

import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gammascope.server.problems import KINDS
from gammascope.server.uploads import shown_name

BOUNDARY = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(content: bytes, name: str = 'name="files"; filename="a.png"', more: str = "") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n{more}\r\n"
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def problem_of(answer, status: int, kind: str) -> dict[str, Any]:
    """Hold an answer against RFC 9457, and return the document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:gammascope:problem:{kind}"
    assert document["status"] == status
    assert document["title"] == KINDS[kind][1]
    assert document["detail"]
    if "retry_after" in document:
        assert answer.headers["retry-after"] == str(document["retry_after"])
    return document


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that declare many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def truncated(kind: str) -> bytes:
    data = io.BytesIO()
    PIL.Image.effect_noise((80, 60), 60).convert("RGB").save(data, kind)
    return data.getvalue()[: data.tell() // 2]


HOSTILE = {
    "empty": (b"", 422, "undecodable-image"),
    "text": (b"plain text", 415, "not-an-image"),
    "html": (b"<html><script>alert(1)</script>", 415, "not-an-image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not-an-image"),
    "pdf": (b"%PDF-1.7", 415, "not-an-image"),
    "zip": (b"PK\x03\x04" + bytes(100), 415, "not-an-image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run", 415, "not-an-image"),
    "bomb": (huge_png(60_000, 60_000), 413, "image-too-large"),
    "just over the pixels": (huge_png(10_001, 5_000), 413, "image-too-large"),
    "lying header": (huge_png(1000, 1000), 422, "undecodable-image"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", 422, "undecodable-image"),
    "half a jpeg": (truncated("JPEG"), 422, "undecodable-image"),
    "half a png": (truncated("PNG"), 422, "undecodable-image"),
    "half a webp": (truncated("WEBP"), 422, "undecodable-image"),
    "half an avif": (truncated("AVIF"), 422, "undecodable-image"),
    "a tiff that ends": (b"II*\0\x08\0\0\0", 422, "undecodable-image"),
}


@pytest.mark.parametrize(("content", "status", "kind"), HOSTILE.values(), ids=HOSTILE)
def test_files_that_are_no_good_picture(client, content, status, kind):
    document = problem_of(client.post("/v1/detect", files={"f": ("x", content)}), status, kind)
    assert "<memory>" not in document["detail"]


def test_a_file_with_too_many_bytes_is_refused_and_the_others_are_examined(serve, pictures):
    client = serve("file_bytes=20000")
    large = ("f", ("large.png", pictures["cat.png"] + bytes(20_000)))
    problem_of(client.post("/v1/detect", files=[large]), 413, "image-too-large")
    both = client.post("/v1/detect", files=[large, ("f", ("small.png", pictures["cat.png"]))])
    assert both.status_code == 200
    assert both.json()["results"][0]["problem"]["detail"] == "More than the 0.02 MB allowed."
    assert both.json()["results"][1]["image"] == "small.png"


@pytest.mark.parametrize("declared", [True, False])
def test_a_request_with_too_many_bytes_is_refused(serve, pictures, declared):
    client = serve("request_bytes=5000")
    body = form(part(pictures["cat.png"]))
    content = (
        body if declared else (body[start : start + 999] for start in range(0, len(body), 999))
    )
    document = problem_of(
        client.post("/v1/detect", content=content, headers=FORM), 413, "request-too-large"
    )
    assert document["detail"] == "More than the 0.005 MB allowed."


def test_too_many_files_are_refused(serve, pictures):
    client = serve("files=2", "job_files=3")
    files = [("f", ("a.png", pictures["cat.png"]))] * 4
    problem_of(client.post("/v1/detect", files=files[:3]), 413, "too-many-files")
    problem_of(client.post("/v1/jobs", files=files), 413, "too-many-files")
    assert client.post("/v1/detect", files=files[:2]).status_code == 200


def test_uploads_that_do_not_fit_into_memory_now_are_told_to_come_later(serve, gated, pictures):
    body = form(part(pictures["cat.png"]))
    client = serve(f"held_bytes={len(body) + 100}", pipeline=gated)
    held = client.post("/v1/jobs", content=body, headers=FORM)
    assert held.status_code == 202
    problem_of(client.post("/v1/detect", content=body, headers=FORM), 429, "queue-full")
    gated.gate.set()
    while client.get(held.headers["location"]).json()["status"] != "finished":
        time.sleep(0.02)
    assert "gammascope_held_bytes 0.0" in client.get("/metrics").text
    assert client.post("/v1/detect", content=body, headers=FORM).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("address", ["/v1/detect", "/v1/jobs"])
def test_uploads_that_will_never_fit_into_memory_are_refused_for_good(
    serve, pictures, address, declared
):
    client = serve("held_bytes=3000")
    body = form(part(pictures["cat.png"]))
    content = (
        body if declared else (body[start : start + 999] for start in range(0, len(body), 999))
    )
    refused = problem_of(
        client.post(address, content=content, headers=FORM), 413, "request-too-large"
    )
    assert refused["detail"] == "More than the 0.003 MB allowed."
    assert "gammascope_held_bytes 0.0" in client.get("/metrics").text
    assert client.get("/v1/methods").json()["serving"]["request_bytes"] == 3000


@pytest.mark.parametrize(
    ("headers", "body", "status", "kind"),
    [
        ({}, b"", 415, "not-a-form"),
        ({"content-type": "application/json"}, b'{"url": "http://localhost/"}', 415, "not-a-form"),
        ({"content-type": "image/png"}, b"\x89PNG", 415, "not-a-form"),
        ({"content-type": "multipart/form-data"}, form(part(b"x")), 400, "malformed-request"),
        ({"content-type": f"multipart/form-data; boundary={'b' * 71}"}, b"", 400, "malformed-request"),
        (FORM, b"", 400, "malformed-request"),
        (FORM, b"no boundary anywhere", 400, "malformed-request"),
        (FORM, form(part(b"x"))[:-20], 400, "malformed-request"),
        (FORM, b"--" + BOUNDARY.encode() + b"\r\nno header\r\n\r\nx", 400, "malformed-request"),
        (FORM, f"--{BOUNDARY}\r\nX-A: 1\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(), 400, "malformed-request"),
        (FORM, form(part(b"x", 'filename="a.png"')), 400, "malformed-request"),
        (FORM, form(part(b"x", more=f"X-Long: {'a' * 9000}\r\n")), 400, "malformed-request"),
        (FORM, form(part(b"http://localhost/", 'name="url"')), 400, "malformed-request"),
        (FORM, form(), 400, "no-files"),
    ],
)  # fmt: skip
def test_what_is_no_form_with_files(client, headers, body, status, kind):
    for address in ("/v1/detect", "/v1/jobs"):
        problem_of(client.post(address, content=body, headers=headers), status, kind)


def test_a_job_says_of_each_file_what_a_request_would_have_said(client):
    files = [("f", (name, content)) for name, (content, _, _) in HOSTILE.items()]
    place = client.post("/v1/jobs", files=files).headers["location"]
    for _ in range(500):
        job = client.get(place).json()
        if job["status"] == "finished":
            break
        time.sleep(0.02)
    found = [
        (row["problem"]["status"], row["problem"]["type"].rpartition(":")[2])
        for row in job["results"]
    ]
    assert found == [(status, kind) for _, status, kind in HOSTILE.values()]


def test_the_type_that_a_part_claims_to_have_does_not_matter(client, pictures):
    picture = {"f": ("a.png", pictures["cat.png"], "text/html")}
    assert client.post("/v1/detect", files=picture).status_code == 200
    text = {"f": ("a.png", b"plain text", "image/png")}
    problem_of(client.post("/v1/detect", files=text), 415, "not-an-image")


@pytest.mark.parametrize(
    "method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST", "TRACE", "BREW"]
)
def test_other_methods_are_refused_everywhere(client, method):
    for address, allowed in client.get("/openapi.json").json()["paths"].items():
        if method.lower() in allowed:
            continue
        answer = client.request(method, address.replace("{job}", "any"))
        problem_of(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == ", ".join(allowed).upper()


@pytest.mark.parametrize(
    "address",
    ["/v1/detect/", "//v1/detect", "/v1", "/v1/jobs/", "/web/", "/web/..%2fservice.py", "/docs"],
)
def test_addresses_beside_ours_are_not_found(client, address):
    answer = client.request("GET", f"http://testserver{address}", follow_redirects=False)
    problem_of(answer, 404, "not-found")


def test_a_job_without_files_or_with_an_endless_field_is_refused(client):
    fields = {"webhook": "x" * 5000}
    only_field = client.post(
        "/v1/jobs", content=form(part(b"http://a", 'name="webhook"')), headers=FORM
    )
    problem_of(only_field, 400, "no-files")
    long = client.post("/v1/jobs", data=fields, files={"f": ("a.png", b"")})
    problem_of(long, 400, "malformed-request")


def test_text_in_place_of_a_file_is_named_with_what_to_send(client):
    text = form(part(b"hello", 'name="files"'))
    answer = client.post("/v1/detect", content=text, headers=FORM)
    detail = problem_of(answer, 400, "malformed-request")["detail"]
    assert detail == "The part 'files' holds text and no file: with curl, -F files=@photo.jpg."
    answer = client.post("/v1/jobs", content=text, headers=FORM)
    detail = problem_of(answer, 400, "malformed-request")["detail"]
    assert detail.endswith("Fields of text known here: webhook.")


def test_unknown_addresses_methods_and_parameters(client, pictures):
    problem_of(client.get("/v1/nothing"), 404, "not-found")
    problem_of(client.get("/v1/jobs/unknown"), 404, "not-found")
    refused = client.get("/v1/detect")
    problem_of(refused, 405, "method-not-allowed")
    assert refused.headers["allow"] == "POST"
    files = {"f": ("a.png", pictures["cat.png"])}
    document = problem_of(
        client.post("/v1/detect?masks=perhaps", files=files), 422, "invalid-parameter"
    )
    assert "query masks" in document["detail"]


def test_a_mistyped_parameter_is_refused_with_those_that_are_known(client, pictures):
    files = {"f": ("a.png", pictures["cat.png"])}
    mistyped = client.post("/v1/detect?mask=true", files=files)
    assert problem_of(mistyped, 422, "invalid-parameter")["detail"] == (
        "There is no parameter 'mask' here. Did you mean 'masks'? Known: labels_only, masks, quiet_masks."
    )
    problem_of(client.post("/v1/jobs?masks=true", files=files), 422, "invalid-parameter")
    problem_of(client.get("/v1/jobs/unknown?label_only=true"), 422, "invalid-parameter")
    problem_of(client.get("/v1/methods?all=1"), 422, "invalid-parameter")
    assert client.get("/healthz?probe=1").status_code == 200


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/cron.d/evil.png", "evil.png"),
        ("\\\\server\\me\\cat.png", "cat.png"),
        ("a\x1b[31m\x00\u202ered.png", "a[31mred.png"),
        ("", "file 1"),
        ("///", "file 1"),
        ("\N{SNOWMAN}.png", "\N{SNOWMAN}.png"),
        ("x" * 500, "x" * 200),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ],
)
def test_names_are_shown_but_lead_nowhere(client, pictures, sent, shown):
    quoted = sent.replace("\\", "\\\\")
    body = form(part(pictures["cat.png"], f'name="f"; filename="{quoted}"'))
    (row,) = client.post("/v1/detect", content=body, headers=FORM).json()["results"]
    assert row["image"] == shown


@given(st.text())
def test_no_name_survives_with_a_folder_or_a_control_character(sent):
    name = shown_name(sent)
    assert name.isprintable()
    assert not set(name) & set("/\\")
    assert len(name) <= 200


def test_uploads_never_touch_a_disk(serve, pictures, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("an upload was written")

    client = serve()
    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    large = pictures["cat.png"] + bytes(3_000_000)
    answer = client.post("/v1/detect", files={"f": ("a.png", large)})
    assert answer.status_code == 200


def test_logs_hold_neither_names_nor_content_nor_addresses(client, pictures, caplog):
    caplog.set_level("DEBUG")
    client.post("/v1/detect", files={"f": ("holiday with anna.png", pictures["cat.png"])})
    client.post("/v1/detect?secret=word", files={"f": ("anna.png", pictures["cat.png"])})
    client.post("/v1/detect", files={"f": ("holiday with anna.png", b"broken anna")})
    client.get("/anna")
    from gammascope.server.telemetry import JsonLines

    records = [one for one in caplog.records if one.name == "gammascope.server"]
    lines = [json.loads(JsonLines().format(record)) for record in records]
    assert [line["status"] for line in lines] == [200, 422, 415, 404]
    assert lines[0].keys() == {
        "time", "level", "event", "request", "method", "route", "status", "seconds", "bytes", "files",
        "failed",
    }  # fmt: skip
    assert "anna" not in json.dumps(lines)
    assert "secret" not in json.dumps(lines)


def test_a_bug_is_a_problem_with_an_id_and_a_log_line_without_its_text(
    serve, gated, caplog, pictures
):
    def broken(_):
        raise ZeroDivisionError("anna.png")

    gated.reports_of = broken
    client = serve(pipeline=gated)
    answer = client.post("/v1/detect", files={"f": ("a.png", pictures["cat.png"])})
    document = problem_of(answer, 500, "internal-error")
    assert "anna" not in json.dumps(document)
    bugs = [one.fields for one in caplog.records if getattr(one, "fields", {}).get("error")]
    assert bugs[0]["error"] == "ZeroDivisionError"
    assert any("broken" in place for place in bugs[0]["where"])
    assert "anna" not in json.dumps(bugs)


def test_a_picture_that_breaks_the_detector_does_not_take_its_neighbours_along(
    serve, embedded, gated, pictures
):
    whole = type(gated).reports_of

    def fails_for_small(examined):
        if any(decoded.image.shape[0] == 64 for decoded, _ in examined):
            raise MemoryError
        return whole(gated, examined)

    gated.gate.set()
    gated.reports_of = fails_for_small
    client = serve(pipeline=gated)
    names = ["cat.jpg", "rocket.png", "coffee.jpg"]
    files = [("f", (name, pictures[name])) for name in names]
    first, failed, last = client.post("/v1/detect", files=files).json()["results"]
    assert failed["problem"]["status"] == 503
    for row in (first, last):
        expected = embedded.report(pictures[row["image"]])
        assert row["probability"] == pytest.approx(expected.probability, abs=2e-5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300)
    | st.builds(
        lambda head, tail: head + tail,
        st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM", b"RIFF\0\0\0\0WEBP"]),
        st.binary(max_size=200),
    )
)  # fmt: skip
def test_any_bytes_get_an_answer_below_500(client, content):
    answer = client.post("/v1/detect", files={"f": ("x", content)})
    assert answer.status_code in (200, 413, 415, 422)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [b"--", BOUNDARY.encode(), b"\r\n", b"Content-Disposition: form-data; ", b'name="a"; ',
             b'filename="x"', b":", b'"', b"\x00", b"\xff\xd8\xff", b";", b"="]
        ),
        max_size=25,
    )
)  # fmt: skip
def test_any_form_gets_an_answer_below_500(client, pieces):
    answer = client.post("/v1/detect", content=b"".join(pieces), headers=FORM)
    assert 400 <= answer.status_code < 500
