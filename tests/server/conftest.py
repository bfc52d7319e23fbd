"""A server in this process, with the small embedded detector; small pictures, so that it answers in milliseconds."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """A picture as a file's content."""
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


@pytest.fixture(scope="session")
def pictures(photos) -> dict[str, bytes]:
    """Small pictures by name, all different."""
    made = {}
    for name, photo in photos.items():
        made[f"{name}.png"] = encoded(np.ascontiguousarray(photo[60:124, 80:144]))
        made[f"{name}.jpg"] = encoded(np.ascontiguousarray(photo[:90, :120]), "JPEG", quality=85)
    return made


@pytest.fixture(scope="session")
def embedded():
    """The small embedded detector: it answers in milliseconds, asks both questions and draws maps."""
    from gammascope.detection.pipeline import Pipeline

    return Pipeline.load("mobilenet")


@pytest.fixture
def suspicious(embedded):
    """The embedded detector with thresholds so low that every picture gets masks."""
    from dataclasses import replace

    from gammascope.detection.pipeline import Pipeline

    calibration = {
        name: replace(known, uncertain_from=-99.0, fake_from=-98.0)
        for name, known in embedded.facts.calibration.items()
    }
    facts = replace(embedded.facts, calibration=calibration)
    return Pipeline(embedded.detector, facts, "suspicious")


@pytest.fixture
def gated(embedded):
    """The embedded detector, which looks at nothing before ``gate`` is set; notes the sizes of batches."""
    from gammascope.detection.pipeline import Pipeline

    class Gated(Pipeline):
        def __init__(self) -> None:
            super().__init__(embedded.detector, embedded.facts, embedded.weights_sha256)
            self.gate = threading.Event()
            self.batches: list[int] = []
            self.waiting = 0

        def reports_of(self, pictures, stop=None):  # noqa: ARG002
            self.waiting = len(pictures)
            assert self.gate.wait(20)
            self.batches.append(len(pictures))
            return super().reports_of(pictures)

    pipeline = Gated()
    yield pipeline
    pipeline.gate.set()  # or its server would never stop


@pytest.fixture
def parts_with(embedded) -> Callable[..., Any]:
    """Return a function that puts the parts of a server together."""
    from gammascope.detection.opinions import Detectors
    from gammascope.server.access import Keys
    from gammascope.server.jobs import Webhooks
    from gammascope.server.limits import limits_of
    from gammascope.server.service import Parts
    from gammascope.server.store import opened

    def parts(
        *limits, pipeline=None, second=None, keys=None, webhooks=None, hosts=None, results="memory"
    ):
        pipelines = (pipeline or embedded, *([second] if second else []))
        return Parts(
            detectors=Detectors(("first", "second")[: len(pipelines)], pipelines),
            database=opened(str(results)),
            limits=limits_of(limits),
            keys=Keys(keys),
            webhooks=webhooks or Webhooks(),
            hosts=hosts,
        )

    return parts


@pytest.fixture
def serve(parts_with) -> Iterator[Callable[..., Any]]:
    """Return a function that starts a server with other limits or parts, and gives its client."""
    from starlette.testclient import TestClient

    from gammascope.server.service import create_app

    with ExitStack() as stack:

        def start(*limits, **parts) -> TestClient:
            app = create_app(parts_with(*limits, **parts))
            # A bug has to show as a 500 problem, as it would in a real server.
            client = TestClient(app, raise_server_exceptions=False)
            return stack.enter_context(client)

        yield start


@pytest.fixture
def client(serve):
    """A server as it comes."""
    return serve()


@pytest.fixture(scope="session")
def postgres_in() -> Callable[..., AbstractContextManager[Callable[..., str]]]:
    """Return what runs a PostgreSQL of our own, reached through a socket in its folder, and what calls its tools."""
    found = shutil.which("initdb"), *Path("/usr/lib/postgresql").glob("*/bin/initdb")
    initdb = next((Path(place).resolve() for place in found if place), None)
    if initdb is None:
        pytest.skip("PostgreSQL: no initdb on this machine")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL: psycopg is not installed")

    @contextmanager
    def running(folder: Path, user: str, settings: str, *options: str):
        owner = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        if owner:
            shutil.chown(folder, owner)

        def call(tool: str, *arguments: str, check: bool = True) -> str:
            command = [str(initdb.with_name(tool)), *arguments]
            done = subprocess.run(command, user=owner, capture_output=True, text=True, check=check)
            return done.stdout

        data = str(folder / "data")
        call("initdb", "-D", data, "-U", user, *options)
        control = ("-D", data, "-w", "-o", f"-k {folder} -c fsync=off {settings}")
        call("pg_ctl", *control, "-l", str(folder / "log"), "start")
        try:
            yield call
        finally:
            # Where something else has ended it already, there is nothing left to stop.
            call("pg_ctl", *control, "-m", "fast", "stop", check=False)

    return running


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users reach: every start of pytest closes the one that all its runs share."""
    with tempfile.TemporaryDirectory(prefix="gammascope-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture(scope="session")
def postgres(postgres_in, open_folder) -> Iterator[str]:
    """The URL of a PostgreSQL server of our own."""
    folder = open_folder / "shared"
    folder.mkdir()
    with postgres_in(folder, "gs", "-c listen_addresses=''", "-A", "trust"):
        yield f"postgresql:///postgres?host={folder}&user=gs"
