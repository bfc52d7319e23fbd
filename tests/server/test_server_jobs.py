"""Jobs: accepted at once, finished later, fetched by whoever sent them, told of where that is allowed."""

from __future__ import annotations

import hashlib
import http.server
import ipaddress
import json
import socket
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from gammascope.report import FORMAT
from gammascope.server.access import Key
from gammascope.server.jobs import Webhooks, is_public
from gammascope.server.problems import Problem
from gammascope.server.schema import JobShape
from gammascope.server.service import create_app
from gammascope.server.store import Results, opened

loopback = pytest.mark.allow_hosts(["127.0.0.1"])


def finished(client, place, **headers):
    for _ in range(400):
        job = client.get(place, headers=headers).json()
        if job["status"] == "finished":
            return job
        time.sleep(0.02)
    raise AssertionError(f"{place} did not finish: {job}")


def test_a_job_gives_the_same_answers_as_a_request(client, pictures):
    names = [*sorted(pictures), "broken.jpg"]
    files = [("files", (name, pictures.get(name, b"\xff\xd8\xff broken"))) for name in names]
    accepted = client.post("/v1/jobs", files=files)
    assert accepted.status_code == 202
    assert accepted.json()["files"] == len(names)
    JobShape.model_validate(accepted.json())
    place = accepted.headers["location"]
    assert place == f"/v1/jobs/{accepted.json()['id']}"
    job = finished(client, place)
    JobShape.model_validate(job)
    assert (job["done"], job["failed"]) == (len(names), 1)
    assert [row["image"] for row in job["results"]] == names
    assert job["results"][-1]["problem"]["status"] == 422
    answered = client.post("/v1/detect?masks=true", files=files[:-1]).json()["results"]
    assert job["results"][:-1] == answered


def test_a_job_is_told_in_labels_alone_where_that_is_asked_for(client, pictures):
    files = {"files": ("cat.jpg", pictures["cat.jpg"])}
    place = client.post("/v1/jobs", files=files).headers["location"]
    whole = finished(client, place)
    labels = client.get(f"{place}?labels_only=true").json()
    JobShape.model_validate(labels)
    assert labels["results"][0]["verdict"] == whole["results"][0]["verdict"]
    assert "probability" in json.dumps(whole)
    assert "probability" not in json.dumps(labels)


def test_a_job_says_how_far_it_is(serve, gated, pictures):
    client = serve(pipeline=gated)
    place = client.post("/v1/jobs", files={"f": ("a.png", pictures["cat.png"])}).headers["location"]
    waiting = client.get(place)
    assert (waiting.json()["status"], waiting.json()["done"]) == ("accepted", 0)
    assert waiting.headers["retry-after"] == "1"
    assert "gammascope_open_jobs 1.0" in client.get("/metrics").text
    gated.gate.set()
    finished(client, place)
    figures = client.get("/metrics").text
    assert "gammascope_open_jobs 0.0" in figures
    assert "gammascope_held_bytes 0.0" in figures


def test_many_files_of_a_job_wait_outside_the_queue(serve, gated, pictures):
    client = serve("queue_files=5", "files=5", pipeline=gated)
    files = [("f", (f"{number}.png", pictures["cat.png"])) for number in range(30)]
    place = client.post("/v1/jobs", files=files).headers["location"]
    gated.gate.set()
    job = finished(client, place)
    assert job["failed"] == 0
    assert [row["image"] for row in job["results"]] == [name for _, (name, _) in files]


def test_too_many_jobs_are_told_to_come_later(serve, gated, pictures):
    client = serve("jobs=1", pipeline=gated)
    files = {"f": ("a.png", pictures["cat.png"])}
    assert client.post("/v1/jobs", files=files).status_code == 202
    refused = client.post("/v1/jobs", files=files)
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    assert refused.json()["detail"] == "1 of at most 1 jobs are not finished."


def test_a_job_is_seen_by_the_key_that_sent_it_only(serve, pictures):
    keys = {name: Key(hashlib.sha256(name.encode()).hexdigest()) for name in ("one", "two")}
    client = serve(keys=keys)
    files = {"f": ("a.png", pictures["cat.png"])}
    sent = client.post("/v1/jobs", files=files, headers={"x-api-key": "one"})
    place = sent.headers["location"]
    for _ in range(2):  # while it runs, and when it is finished
        assert client.get(place, headers={"x-api-key": "two"}).status_code == 404
        finished(client, place, **{"x-api-key": "one"})


def test_results_of_a_job_outlive_the_server(serve, parts_with, gated, pictures, tmp_path):
    place_of_results = tmp_path / "results.sqlite"
    app = create_app(parts_with(pipeline=gated, results=place_of_results))
    with TestClient(app) as client:
        place = client.post("/v1/jobs", files={"f": ("a.png", pictures["cat.png"])}).headers[
            "location"
        ]
        threading.Timer(0.2, gated.gate.set).start()
    # Leaving the block stopped the server, which finished the job first.
    job = serve(results=place_of_results).get(place).json()
    assert job["status"] == "finished"
    assert job["results"][0]["image"] == "a.png"


def test_another_server_knows_a_job_as_soon_as_it_is_accepted(
    serve, gated, pictures, tmp_path, monkeypatch
):
    first, second = (serve(results=tmp_path / "r.sqlite", pipeline=one) for one in (gated, None))
    put = Results.put_job

    def slowly(*values):
        time.sleep(0.3)
        put(*values)

    monkeypatch.setattr(Results, "put_job", slowly)
    files = {"f": ("a.png", pictures["cat.png"])}
    place = first.post("/v1/jobs", files=files).headers["location"]
    assert second.get(place).json()["status"] == "accepted"
    gated.gate.set()
    assert finished(second, place)["failed"] == 0


def test_a_job_whose_server_died_is_lost_and_says_so(serve, tmp_path):
    place = tmp_path / "results.sqlite"
    results = Results(opened(str(place)), "w", 10, 1.0)
    for name, accepted in (("new", datetime.now(UTC)), ("old", datetime(2020, 1, 1, tzinfo=UTC))):
        row = {
            "format": FORMAT,
            "id": name,
            "status": "accepted",
            "accepted": accepted.isoformat(),
            "files": 1,
            "done": 0,
        }
        results.put_job(name, "", row, time.time() + 100)
    results.close()
    client = serve(results=place)
    for name, status in (("new", "accepted"), ("old", "lost")):
        job = client.get(f"/v1/jobs/{name}").json()
        assert job["status"] == status
        JobShape.model_validate(job)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({}, "were written before answers had formats, and this server reads format 2"),
        ({"format": 1}, "have format 1, and this server reads 2"),
    ],
)
def test_a_job_of_an_older_server_is_told_in_words(serve, tmp_path, known, told):
    place = tmp_path / "results.sqlite"
    results = Results(opened(str(place)), "w", 10, 1.0)
    row = known | {"accepted": datetime.now(UTC).isoformat(), "files": 1, "done": 1}
    finished_row = {"failed": 0, "results": [{"image": "a.png", "verdict": "real"}]}
    results.put_job("waiting", "", row | {"id": "waiting", "status": "accepted"}, time.time() + 100)
    results.put_job(
        "done", "", row | finished_row | {"id": "done", "status": "finished"}, time.time() + 100
    )
    results.close()
    client = serve(results=place)
    JobShape.model_validate(client.get("/v1/jobs/waiting").json())
    for query in ("", "?labels_only=true"):
        answer = client.get(f"/v1/jobs/done{query}")
        assert answer.status_code == 410
        assert answer.json()["type"] == "urn:gammascope:problem:job-outdated"
        assert answer.json()["detail"] == f"Its results {told}: send the files again."


@pytest.mark.parametrize(
    "name", ["%00", "a%00b", "..%2f..", "%ff", "x" * 5000, "\N{SNOWMAN}", "%27--"]
)
def test_odd_names_of_jobs_are_not_found(client, name):
    answer = client.get(f"/v1/jobs/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_database_that_fails_is_no_bug_of_ours(serve, pictures, monkeypatch):
    client = serve()

    def broken(*_):
        raise OSError("gone")

    monkeypatch.setattr(Results, "get_job", broken)
    answer = client.get("/v1/jobs/unknown")
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:gammascope:problem:results-unreadable"
    assert answer.headers["retry-after"] == "5"


def test_results_expire(serve, pictures):
    client = serve("job_kept_seconds=1")
    place = client.post("/v1/jobs", files={"f": ("a.png", pictures["cat.png"])}).headers["location"]
    finished(client, place)
    time.sleep(1.1)
    assert client.get(place).status_code == 404


def test_files_without_an_answer_in_time_are_given_up(serve, gated, pictures):
    client = serve("answer_seconds=1", "job_seconds=1", pipeline=gated)
    files = [("f", ("a.png", pictures["cat.png"]))]
    place = client.post("/v1/jobs", files=files).headers["location"]
    late = client.post("/v1/detect", files=files)
    assert late.status_code == 504
    assert late.json()["type"] == "urn:gammascope:problem:out-of-time"
    time.sleep(0.5)
    job = client.get(place).json()
    assert job["results"][0]["problem"]["status"] == 504


# Webhooks


class Told(http.server.HTTPServer):
    """Keeps what it was told, and answers with the statuses it is given, then with success."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.told: list[tuple[str, str | None, Any]] = []
        self.statuses: list[int] = []


class Receiver(http.server.BaseHTTPRequestHandler):
    """One message to ``Told``."""

    server: Told

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append((self.path, self.headers["host"], json.loads(body)))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = Told()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def anywhere(_) -> bool:
    return True


@loopback
def test_the_webhook_is_told_how_the_job_went_and_no_more(serve, receiver, pictures):
    host = f"127.0.0.1:{receiver.server_port}"
    client = serve(webhooks=Webhooks([host], anywhere))
    sent = client.post(
        "/v1/jobs",
        files=[("f", ("anna.png", pictures["cat.png"])), ("f", ("b.png", b"broken"))],
        data={"webhook": f"http://{host}/told?by=us"},
    )
    assert sent.status_code == 202
    for _ in range(300):
        if receiver.told:
            break
        time.sleep(0.02)
    ((path, named, message),) = receiver.told
    assert (path, named) == ("/told?by=us", host)
    assert (message["id"], message["status"], message["failed"]) == (
        sent.json()["id"],
        "finished",
        1,
    )
    assert "anna" not in json.dumps(message)
    assert "results" not in message


@loopback
@pytest.mark.parametrize(
    ("statuses", "taken", "calls"), [([], True, 1), ([500, 200], True, 2), ([302, 302], False, 2)]
)
def test_failures_are_tried_again_and_redirects_are_not_followed(receiver, statuses, taken, calls):
    receiver.statuses.extend(statuses)
    host = f"127.0.0.1:{receiver.server_port}"
    hooks = Webhooks([host], anywhere, pauses_s=(0.0, 0.0))
    assert hooks.call(f"http://{host}/hook", {"id": "x"}) is taken
    assert [path for path, _, _ in receiver.told] == ["/hook"] * calls


@pytest.fixture
def slow():
    """Webhooks that answer at the end of the test."""
    released = threading.Event()

    class Slow(Webhooks):
        def call(self, url, message):  # noqa: ARG002
            return released.wait(30)

    yield Slow(["example.org", "example.net"])
    released.set()  # or its server would never stop


def counted(client, event: str) -> bool:
    """Whether the figures soon name an event of one job."""
    for _ in range(200):
        if f'gammascope_jobs_total{{event="{event}"}} 1.0' in client.get("/metrics").text:
            return True
        time.sleep(0.02)
    return False


def test_slow_webhooks_keep_nobody_from_sending_jobs_and_from_their_results(serve, slow, pictures):
    client = serve("jobs=2", webhooks=slow)
    files = {"f": ("a.png", pictures["cat.png"])}
    for _ in range(10):
        sent = client.post("/v1/jobs", files=files, data={"webhook": "http://example.org/"})
        assert sent.status_code == 202
        finished(client, sent.headers["location"])
        assert "gammascope_open_jobs 0.0" in client.get("/metrics").text
    assert client.post("/v1/detect", files=files).status_code == 200


def test_jobs_for_a_receiver_that_many_wait_for_are_refused_and_no_others(
    serve, slow, pictures, monkeypatch
):
    monkeypatch.setattr("gammascope.server.jobs._CALLS_WAITING", 3)
    client = serve(webhooks=slow)
    files = {"f": ("a.png", pictures["cat.png"])}
    for _ in range(20):
        sent = client.post("/v1/jobs", files=files, data={"webhook": "http://Example.org/a"})
        if sent.status_code != 202:
            break
        finished(client, sent.headers["location"])
    assert sent.status_code == 429
    assert sent.json()["detail"].startswith("3 finished jobs wait until the webhook's host answers")
    assert sent.headers["retry-after"] == "30"
    for fields in ({}, {"webhook": "http://example.net/"}):
        assert client.post("/v1/jobs", files=files, data=fields).status_code == 202


def test_a_stop_waits_for_the_calls_of_webhooks(parts_with, pictures):
    calls = []

    class Late(Webhooks):
        def call(self, url, message):
            time.sleep(0.3)
            calls.append((url, message["status"]))
            return True

    hook = {"webhook": "http://example.org/"}
    with TestClient(create_app(parts_with(webhooks=Late(["example.org"])))) as client:
        files = {"f": ("a.png", pictures["cat.png"])}
        for _ in range(6):  # more than are called at once
            finished(client, client.post("/v1/jobs", files=files, data=hook).headers["location"])
    assert calls == [("http://example.org/", "finished")] * 6


def test_a_bug_in_a_call_is_logged_and_counted(serve, pictures, caplog):
    class Broken(Webhooks):
        def call(self, url, message):  # noqa: ARG002
            raise ZeroDivisionError(url)

    client = serve(webhooks=Broken(["example.org"]))
    files = {"f": ("a.png", pictures["cat.png"])}
    client.post("/v1/jobs", files=files, data={"webhook": "http://example.org/secret"})
    assert counted(client, "not-told")
    (line,) = [one.fields for one in caplog.records if one.message == "webhook-failed"]
    assert line["error"] == "ZeroDivisionError"
    assert "secret" not in json.dumps(line)


def test_a_name_that_leads_inside_the_network_is_not_called(monkeypatch):
    answers = {"mixed.example": ["9.9.9.9", "10.0.0.1"], "metadata.example": ["169.254.169.254"]}

    def resolved(host, port, **_):
        return [(None, None, None, "", (address, port)) for address in answers[host]]

    def refused(*_, **__):
        raise AssertionError("a connection was opened")

    network = SimpleNamespace(
        getaddrinfo=resolved, create_connection=refused, SOCK_STREAM=socket.SOCK_STREAM
    )
    monkeypatch.setattr("gammascope.server.jobs.socket", network)
    hooks = Webhooks(answers, pauses_s=(0.0,))
    for host in answers:
        hooks.check(f"http://{host}/")
        assert hooks.call(f"http://{host}/", {}) is False


@loopback
def test_addresses_inside_the_network_are_not_called_even_if_they_are_listed(receiver):
    host = f"127.0.0.1:{receiver.server_port}"
    hooks = Webhooks([host], pauses_s=(0.0,))
    hooks.check(f"http://{host}/")
    assert hooks.call(f"http://{host}/", {}) is False
    assert receiver.told == []


def test_a_job_with_a_webhook_that_is_not_on_the_list_is_refused(client, pictures):
    files = {"f": ("a.png", pictures["cat.png"])}
    refused = client.post("/v1/jobs", files=files, data={"webhook": "https://example.org/"})
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:gammascope:problem:webhook-refused"
    assert "gammascope_open_jobs 0.0" in client.get("/metrics").text
    assert "gammascope_held_bytes 0.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://example.org.evil.example/",
        "https://example.org@evil.example/",
        "https://me:secret@example.org/",
        "https://example.org:8443/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "example.org",
        "http://[::1",
        "http://example.org:99999/",
        "//example.org/",
        "https://example.org/caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "https://example.org/?name=\N{SNOWMAN}",
        "https://example.org/two words",
        "",
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(Problem):
        Webhooks(["example.org"]).check(url)


def test_listed_addresses_are_accepted():
    hooks = Webhooks(["Example.org", "hooks.example.net:8443"])
    for url in (
        "http://example.org/a",
        "https://EXAMPLE.org:443/",
        "https://hooks.example.net:8443/",
        "https://example.org/caf%C3%A9?two%20words&a=[b]",
    ):
        hooks.check(url)
    with pytest.raises(Problem):
        hooks.check("https://hooks.example.net/")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True), ("2620:fe::fe", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::1", False), ("fe80::1", False), ("fd00::1", False),
        ("::ffff:10.0.0.1", False), ("2002:0a00:0001::1", False), ("ff02::1", False),
        ("64:ff9b::a00:1", False), ("64:ff9b::808:808", True), ("::10.0.0.1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert is_public(ipaddress.ip_address(address)) is public
