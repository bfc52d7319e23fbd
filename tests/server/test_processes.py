"""Servers as processes that come and go: a thousand uploads at once, rolling restarts, the services of ``deploy``."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from tests.server.test_serving import body_of, posted

pytestmark = [pytest.mark.slow, pytest.mark.allow_hosts(["127.0.0.1"])]

ROOT = Path(__file__).parents[2]
GAMMASCOPE = f"exec {sys.executable} -c 'from gammascope.cli.app import main; main()'"
SMALL = ("--weights", "mobilenet", "--profile", "fast")
HELD_MIB = 64
"""Of uploads at once in the test of a thousand, which send 31 times as much."""
CONNECTION_MIB = 0.3
"""What one more connection may hold: asyncio reads 0.25 at once, before anything is refused or dropped."""


@contextmanager
def started(log: Path, *command: str, **options) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that logs to a file: its process, and host and port."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    with log.open("w") as lines:
        process = subprocess.Popen(command, stderr=lines, env=environment, **options)
        try:
            yield process, address_in(log, process)
        finally:
            process.kill()
            process.wait()


def address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"http://localhost:(\d+)|http://(127\.0\.0\.1:\d+)", log.read_text())
        if found and '"serving"' in log.read_text():
            return found[2] or f"127.0.0.1:{found[1]}"
        time.sleep(0.05)
    raise AssertionError(f"it did not start: {log.read_text()}")


def serving(log: Path, *options: str):
    command = ("sh", "-c", f'{GAMMASCOPE} serve --port 0 "$@"', "serve", *SMALL, *options)
    return started(log, *command)


def got(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    """What a server says: status and content; 0 if it is not there."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def job_at(address: str, job: str, **headers: str) -> dict[str, Any]:
    status, content = got(address, f"/v1/jobs/{job}", **headers)
    assert status == 200, content
    found: dict[str, Any] = json.loads(content)
    return found


def finished(address: str, job: str, **headers: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while (found := job_at(address, job, **headers))["status"] != "finished":
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def fast():
    """The detector that ``SMALL`` asks for."""
    from gammascope.detection.pipeline import Execution, Pipeline

    return Pipeline.load("mobilenet", execution=Execution(profile="fast"))


@pytest.fixture(scope="module")
def load() -> ModuleType:
    """``benchmarks/server_load.py``, which is no module of a package."""
    place = ROOT / "benchmarks" / "server_load.py"
    spec = importlib.util.spec_from_file_location(place.stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[place.stem] = module  # dataclasses ask for it
    spec.loader.exec_module(module)
    return module


def test_of_a_thousand_uploads_at_once_each_is_answered_or_refused_and_memory_is_bounded(
    load, fast, pictures, tmp_path
):
    asked = [(content, fast.report(content).to_json()) for content in pictures.values()]
    bound = f"held_bytes={HELD_MIB * 2**20}"
    with serving(tmp_path / "log", "--limit", bound, "--results", "memory") as (process, address):
        server = load.Server(f"http://{address}", process.pid)
        load.warm_up(server, asked)
        server.forget_peak()
        before = server.mib("VmRSS")
        turns = [asked[number % len(asked)] for number in range(1000)]
        answers = asyncio.run(sent_in_halves(server.address, [content for content, _ in turns]))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert len(refused) >= 500
        answered = 0
        for answer, (_, expected) in zip(answers, turns, strict=True):
            if answer.status_code != 429:
                assert answer.status_code == 200, answer.text
                assert not load.differs(answer.json()["results"][0], expected)
                answered += 1
        assert answered >= HELD_MIB // 4
        assert server.mib("VmHWM") - before < HELD_MIB + 1000 * CONNECTION_MIB
        assert posted(address, "/v1/detect", {"a.png": pictures["cat.png"]})[0] == 200
        assert b"gammascope_held_bytes 0.0" in got(address, "/metrics")[1]


async def sent_in_halves(address: str, contents: list[bytes]) -> list[httpx.Response]:
    """Upload files with two mebibytes behind them that no decoder reads; all wait for the others in the midst of it."""
    begun, zeros = 0, bytes(2**20)
    everyone = asyncio.Event()

    async def sent(number: int, content: bytes) -> httpx.Response:
        body = body_of({"a.jpg": content + b"|" + str(number).encode()})
        head, _, tail = body.rpartition(b"|")

        async def parts() -> AsyncIterator[bytes]:
            nonlocal begun
            yield head
            yield zeros
            begun += 1
            if begun == len(contents):
                everyone.set()
            await everyone.wait()
            await asyncio.sleep(2)  # for the server to take what it takes
            yield zeros
            yield tail

        headers = {
            "Content-Type": "multipart/form-data; boundary=b",
            "Content-Length": str(len(head) + 2 * len(zeros) + len(tail)),
        }
        return await session.post("/v1/detect", content=parts(), headers=headers)

    unbounded = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=unbounded) as session:
        return await asyncio.gather(*map(sent, range(len(contents)), contents))


class Sender:
    """Sends jobs to whichever server is ready, as a balancer would, until it is told to stop."""

    def __init__(self, servers: list[str], pictures: dict[str, bytes]) -> None:
        self.servers, self.pictures = servers, pictures
        self.accepted: dict[str, list[str]] = {}
        self.unexpected: list[object] = []
        self.stop = threading.Event()

    def send(self, sender: int) -> None:
        names = list(self.pictures)
        for number in range(10_000):
            if self.stop.is_set():
                return
            some = [names[(number + further) % len(names)] for further in range(3)]
            end = f"{sender}-{number}".encode()  # new content, so that it is examined anew
            address = next((one for one in self.servers if got(one, "/readyz")[0] == 200), None)
            if address is None:
                self.unexpected.append("no server was ready")
                continue
            try:
                files = {name: self.pictures[name] + end for name in some}
                status, row = posted(address, "/v1/jobs", files)
            except (OSError, http.client.HTTPException) as error:
                self.unexpected.append(error)
                continue
            if status == 202:
                self.accepted[row["id"]] = some
            elif status not in (429, 503):
                self.unexpected.append(row)
            time.sleep(0.1)


@pytest.mark.parametrize("kept", ["file", "postgres"])
def test_a_rolling_restart_loses_no_job(kept, request, fast, pictures, tmp_path):
    place = request.getfixturevalue("postgres") if kept == "postgres" else tmp_path / "r.sqlite"
    options = ("--results", str(place), "--limit", "drain_seconds=3")
    expected = {name: fast.report(content).probability for name, content in pictures.items()}
    with ExitStack() as stack, ThreadPoolExecutor(3) as clients:
        running = [
            stack.enter_context(serving(tmp_path / f"log {number}", *options)) for number in (0, 1)
        ]
        sender = Sender([address for _, address in running], pictures)
        sending = [clients.submit(sender.send, number) for number in range(3)]
        accepted = []
        for number, (process, address) in enumerate(running):
            # Much more than it can answer before it stops to listen.
            names = [name for _ in range(25) for name in pictures]
            ends = (f"{number}-{place}".encode() for place in range(len(names)))
            large = [(name, pictures[name] + end) for name, end in zip(names, ends, strict=True)]
            status, row = posted(address, "/v1/jobs", large)
            assert status == 202
            sender.accepted[row["id"]] = names
            process.send_signal(signal.SIGTERM)
            other = sender.servers[1 - number]
            while got(address, "/readyz")[0]:
                time.sleep(0.05)
            assert job_at(other, row["id"])["status"] == "accepted"
            assert process.wait(120) == 0
            assert job_at(other, row["id"])["status"] == "finished"
            new = stack.enter_context(serving(tmp_path / f"log {number + 2}", *options))
            sender.servers[number] = new[1]
            time.sleep(2)
            accepted.append(len(sender.accepted))
        sender.stop.set()
        for one in sending:
            one.result()
        assert sender.unexpected == []
        assert 0 < accepted[0] < accepted[1]
        for turn, (job, names) in enumerate(sender.accepted.items()):
            found = finished(sender.servers[turn % 2], job)
            assert [row["image"] for row in found["results"]] == names
            for row in found["results"]:
                assert row["probability"] == pytest.approx(expected[row["image"]], abs=2e-5)


# What deploy/ names


def prepared(folder: Path, environment: dict[str, str]) -> str:
    """Make the secrets as the comment at the top of the compose file says; return the key."""
    comment = (ROOT / "deploy/compose.yaml").read_text("utf-8").partition("\nservices:")[0]
    commands = re.findall(r"^#   (\S.*?)(?: {6}\(.*)?$", comment, re.MULTILINE)
    assert len(commands) == 4
    said = ""
    for command in commands:
        said += subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            check=True,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ).stderr
    return re.findall(r"gs_\S+", said)[0]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def shell(tmp_path) -> dict[str, str]:
    """An environment in which ``gammascope`` is ours, and takes any port: containers have networks of their own."""
    place = tmp_path / "bin" / "gammascope"
    place.parent.mkdir()
    options = " ".join(("--port", "0", *SMALL))
    place.write_text(
        f'#!/bin/sh\n[ "$1" = serve ] && set -- "$@" {options}\n{GAMMASCOPE} "$@"\n', "utf-8"
    )
    place.chmod(0o755)
    return os.environ | {"PATH": f"{place.parent}:{os.environ['PATH']}"}


@pytest.fixture
def composed(shell, postgres_in, open_folder, tmp_path, monkeypatch):
    """The services of the compose file, each started by its own command: the key, and the running servers.

    Containers themselves, their networks and their bounds are not in it.
    """
    services = pytest.importorskip("yaml").safe_load((ROOT / "deploy/compose.yaml").read_text())
    server, results = services["services"]["gammascope"], services["services"]["results"]
    user, key = results["environment"]["POSTGRES_USER"], prepared(tmp_path, shell)
    place, port = open_folder / "compose", free_port()
    place.mkdir()
    password = place / "password"
    password.write_text((tmp_path / results["secrets"][0]).read_text("utf-8"), "utf-8")
    password.chmod(0o644)
    # In place of a network of containers, and of the folder that secrets are mounted in:
    url = tmp_path / "results_url"
    url.write_text(url.read_text("utf-8").replace("@results/", f"@127.0.0.1:{port}/"), "utf-8")
    command = [part.replace("$$", "$") for part in server["entrypoint"]]
    command[-1] = command[-1].replace("/run/secrets/results_url", str(url))
    command[-1] = command[-1].replace("/run/secrets/gammascope_keys", str(tmp_path / "keys.toml"))
    assert "/run/" not in command[-1]
    settings = f"-c listen_addresses=127.0.0.1 -p {port}"
    secret = ("-A", "scram-sha-256", "--pwfile", str(password))
    with postgres_in(place, user, settings, *secret) as call, ExitStack() as stack:
        there = ("-h", "127.0.0.1", "-p", str(port))
        _, tool, *arguments = results["healthcheck"]["test"]
        assert "accepting connections" in call(tool, *there, *arguments)
        # The image makes a database of the user's name, and nobody connects without the password.
        monkeypatch.setenv("PGPASSWORD", password.read_text("utf-8").strip())
        call("createdb", *there, "-U", user, user)
        monkeypatch.delenv("PGPASSWORD")
        logs = [tmp_path / f"log {number}" for number in range(server["deploy"]["replicas"])]
        contexts = [started(log, *command, env=shell) for log in logs]
        with ThreadPoolExecutor(len(logs)) as threads:  # all at once, as an engine does
            yield key, list(threads.map(stack.enter_context, contexts))


def test_the_services_of_the_compose_file_work_together(composed, pictures):
    key, ((process, first), (_, second)) = composed
    headers = {"X-API-Key": key}
    for address in (first, second):
        checked = healthcheck_at(address)
        assert checked.returncode == 0, checked.stderr
        assert got(address, "/v1/methods")[0] == 401
        assert got(address, "/v1/methods", **headers)[0] == 200
    files = {f"{number}.png": pictures["cat.png"] + bytes([number]) for number in range(30)}
    status, job = posted(first, "/v1/jobs", files, **headers)
    assert status == 202
    assert job_at(second, job["id"], **headers)["status"] in {"accepted", "finished"}
    process.send_signal(signal.SIGTERM)
    time.sleep(1)  # of five in which it says that it goes
    assert got(first, "/readyz")[0] == 503
    assert healthcheck_at(first).returncode != 0
    assert process.wait(60) == 0
    found = finished(second, job["id"], **headers)
    assert (found["failed"], [row["image"] for row in found["results"]]) == (0, list(files))


def healthcheck_at(address: str) -> subprocess.CompletedProcess[str]:
    """Run the image's health check against a server."""
    text = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.MULTILINE)
    assert found
    _, *arguments = json.loads(found[1])
    command = [one.replace("127.0.0.1:8000", address) for one in arguments]
    return subprocess.run(
        [sys.executable, *command], check=False, stderr=subprocess.PIPE, text=True
    )
