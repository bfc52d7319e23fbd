"""The server as a process: sockets, signals, log lines, doors."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import uvicorn
from typer.testing import CliRunner

from gammascope.cli.app import app as command_line
from gammascope.detection.pipeline import Pipeline
from gammascope.errors import MissingExtraError
from gammascope.server import serving
from gammascope.server.service import DrainingServer, create_app
from gammascope.server.store import Results, opened

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@contextmanager
def process_of(*arguments, without: str = ""):
    """A running server: its process and its host and port."""
    start = "from gammascope.cli.app import main; main()"
    if without:
        start = f"import sys; sys.modules[{without!r}] = None; {start}"
    command = [sys.executable, "-c", start, "serve"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            found = re.search(r"http://\S+/", process.stderr.readline())
            assert found
            yield process, urlsplit(found.group()).netloc
        finally:
            process.kill()


def body_of(files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> bytes:
    head = '--b\r\nContent-Disposition: form-data; name="f"; filename="{}"\r\n\r\n'
    named = files.items() if isinstance(files, Mapping) else files
    parts = [head.format(name).encode() + content + b"\r\n" for name, content in named]
    return b"".join(parts) + b"--b--\r\n"


def posted(
    netloc: str,
    path: str,
    files: Mapping[str, bytes] | Sequence[tuple[str, bytes]],
    **headers: str,
):
    connection = http.client.HTTPConnection(netloc, timeout=60)
    headers["Content-Type"] = "multipart/form-data; boundary=b"
    connection.request("POST", path, body_of(files), headers)
    answer = connection.getresponse()
    row = json.loads(answer.read())
    connection.close()
    return answer.status, row


def begun_upload(netloc: str, begin: bytes, length: int) -> http.client.HTTPConnection:
    """A connection on which the begin of an upload was sent."""
    connection = http.client.HTTPConnection(netloc, timeout=60)
    connection.putrequest("POST", "/v1/detect")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", str(length))
    connection.endheaders(begin)
    return connection


def test_the_embedded_detector_is_served_without_torch(pictures):
    expected = Pipeline.load().report(pictures["cat.png"]).probability
    with process_of("--results", "memory", without="torch") as (_, netloc):
        status, answer = posted(netloc, "/v1/detect?masks=true", {"a.png": pictures["cat.png"]})
        assert status == 200
        assert answer["results"][0]["probability"] == pytest.approx(expected, abs=1e-4)
        connection = http.client.HTTPConnection(netloc, timeout=60)
        connection.request("GET", "/v1/methods")
        methods = json.loads(connection.getresponse().read())
        connection.close()
    assert methods["serving"]["method"] == "linear_probe"
    assert methods["methods"] == [], "all others need torch"


def test_many_clients_then_a_stop_that_finishes_what_was_begun(embedded, pictures, tmp_path):
    place = tmp_path / "results.sqlite"
    expected = {name: embedded.report(content).probability for name, content in pictures.items()}
    with process_of("--results", str(place), "--weights", "mobilenet") as (process, netloc):
        turns = [name for name in pictures for _ in range(4)]
        with ThreadPoolExecutor(8) as clients:
            ask = lambda name: posted(netloc, "/v1/detect", {name: pictures[name]})  # noqa: E731
            for name, (status, answer) in zip(turns, clients.map(ask, turns), strict=True):
                assert status == 200
                (row,) = answer["results"]
                assert row["image"] == name
                assert row["probability"] == pytest.approx(expected[name], abs=2e-5)

        files = {
            f"{number} anna.png": pictures["cat.png"] + bytes([number]) for number in range(40)
        }
        status, job = posted(netloc, "/v1/jobs", files)
        assert status == 202

        body = body_of({"rocket.jpg": pictures["rocket.jpg"] + b"new"})
        late = begun_upload(netloc, body[:100], len(body))
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        lines = []
        for line in process.stderr:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "stopping":
                break
        late.send(body[100:])
        answer = late.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["results"][0]["image"] == "rocket.jpg"
        late.close()
        lines += [json.loads(line) for line in process.stderr]
        assert process.wait(30) == 0

    assert lines[-1]["event"] == "stopped"
    assert "anna" not in json.dumps(lines)
    assert sum(line["event"] == "request" for line in lines) == len(turns) + 2
    results = Results(opened(str(place)), embedded.weights_sha256, 1000, 1.0)
    kept = results.get_job(job["id"], "")
    results.close()
    assert kept is not None
    assert kept["status"] == "finished"
    assert [row["image"] for row in kept["results"]] == list(files)
    assert kept["failed"] == 0


def test_a_second_stop_ends_the_drain_and_loses_nothing(parts_with, gated, pictures, tmp_path):
    place = tmp_path / "results.sqlite"
    parts = parts_with(pipeline=gated, results=place)
    app = create_app(parts)
    server = DrainingServer(uvicorn.Config(app, log_config=None), app.state.service, 0.5)
    with serving.listen("127.0.0.1", 0) as listening:
        netloc = urlsplit(serving.url_of(listening)).netloc
        running = threading.Thread(target=server.run, args=([listening],))
        running.start()
        status, job = posted(netloc, "/v1/jobs", {"a.png": pictures["cat.png"]})
        assert status == 202
        body = body_of({"rocket.png": pictures["rocket.png"]})
        held = app.state.service.held.bytes
        late = begun_upload(netloc, body[:100], len(body))
        while app.state.service.held.bytes == held:
            time.sleep(0.01)
        for _ in range(2):
            server.handle_exit(signal.SIGINT, None)
        time.sleep(1)  # until after the drain would have ended
        gated.gate.set()
        late.send(body[100:])
        assert late.getresponse().status == 200
        late.close()
        running.join(20)
    results = Results(opened(str(place)), parts.detectors.key, 1000, 1.0)
    kept = results.get_job(job["id"], "")
    results.close()
    assert kept is not None
    assert kept["status"] == "finished"


def test_a_port_in_use_is_one_line():
    taken = serving.listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    arguments = ["serve", "--port", str(port), "--results", "memory"]
    result = CliRunner().invoke(command_line, arguments)
    taken.close()
    assert result.exit_code == 3
    assert result.stderr == f"Error: Address already in use: 127.0.0.1:{port}.\n"


def test_the_address_that_is_shown_can_be_opened():
    with serving.listen("127.0.0.1", 0) as listening:
        assert serving.url_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with serving.listen("0.0.0.0", 0) as listening:  # noqa: S104 - never accepts
        assert serving.url_of(listening).startswith("http://localhost:")


def test_without_the_extra_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[serve\]'"):
        serving.require_extra()
    result = CliRunner().invoke(command_line, ["serve"])
    assert result.exit_code == 3
    assert "Serving needs uvicorn" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--limit", "files"], 2, "--limit files: expected name=value, as in --limit files=4"),
        (["--limit", "fils=3"], 2, "mean 'files'?"),
        (["--keys", "nowhere.toml"], 3, "Cannot read the keys in nowhere.toml"),
        (["--weights", "no.safetensors"], 3, "No checkpoint at no.safetensors"),
        (["--results", "{folder}"], 3, "Cannot keep results in"),
        (["--port", "70000"], 2, ""),
    ],
)
def test_what_is_wrong_is_told_before_it_listens_for_long(tmp_path, arguments, code, message):
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    if "--results" not in filled:
        filled += ["--results", "memory"]
    result = CliRunner().invoke(command_line, ["serve", "--port", "0", *filled])
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert message in result.stderr
