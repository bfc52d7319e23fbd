"""The server keeps to its own description: requests made from it get answers that it names, and never a 500."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.checks")


pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    # Its strategies draw from the random module, which hypothesis would rather they did not.
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
]

SECRET = "gs_" + "s" * 43
# Random bytes are no pictures, so refusals are fine as long as they are described, and are problem documents.
KEPT = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@contextmanager
def running(pipeline, keys) -> Iterator[str]:
    """A server that listens; gives its address."""
    import uvicorn

    from gammascope.detection.opinions import Detectors
    from gammascope.server import serving
    from gammascope.server.jobs import Webhooks
    from gammascope.server.limits import limits_of
    from gammascope.server.service import Parts, create_app
    from gammascope.server.store import opened

    webhooks = Webhooks(["hooks.example"], reachable=lambda _: False, pauses_s=(0.0,))
    detectors = Detectors(("only",), (pipeline,))
    app = create_app(Parts(detectors, opened("memory"), limits_of([]), keys, webhooks))
    listening = serving.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield serving.url_of(listening)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def described(embedded):
    from gammascope.server.access import Keys

    with running(embedded, Keys(None)) as address:
        yield schemathesis.openapi.from_url(f"{address}openapi.json")


@pytest.fixture(scope="module")
def locked(embedded):
    from gammascope.server.access import Key, Keys

    key = Key(hashlib.sha256(SECRET.encode()).hexdigest(), files_per_minute=1e9)
    with running(embedded, Keys({"newsroom": key})) as address:
        yield schemathesis.openapi.from_url(f"{address}openapi.json")


def operations(schema):
    return [found.ok() for found in schema.get_all_operations()]


def test_every_address_is_described(described):
    found = {(one.method.upper(), one.path) for one in operations(described)}
    assert found == {
        ("POST", "/v1/detect"),
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs/{job}"),
        ("GET", "/v1/methods"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    }


def test_the_description_says_which_addresses_ask_for_a_key(described):
    paths = described.raw_schema["paths"]
    asking = {path for path, of in paths.items() if any("security" in one for one in of.values())}
    assert asking == set(paths) - {"/healthz", "/readyz"}
    schemes = described.raw_schema["components"]["securitySchemes"].values()
    assert {(one["type"], one.get("scheme") or one["name"]) for one in schemes} == {
        ("http", "bearer"),
        ("apiKey", "X-API-Key"),
    }


def test_requests_made_from_the_description_get_described_answers(described):
    for operation in operations(described):
        ask_all(operation.as_strategy(), 12, KEPT)


def test_requests_that_contradict_the_description_get_described_answers(described):
    wrong = schemathesis.GenerationMode.NEGATIVE
    for operation in operations(described):
        if operation.method.upper() == "POST":  # there is nothing to get wrong about the others
            ask_all(operation.as_strategy(generation_mode=wrong), 12, KEPT)


def test_with_keys_every_address_asks_for_them_and_answers_to_them(locked):
    headers = {"X-API-Key": SECRET}
    for operation in operations(locked):
        ask_all(operation.as_strategy(), 8, KEPT, headers)
        if operation.path in {"/healthz", "/readyz"}:
            continue
        for wrong in ({}, {"X-API-Key": "gs_wrong"}, {"Authorization": "Bearer \xff"}):
            answer = operation.Case(path_parameters={"job": "any"}, headers=wrong).call()
            assert answer.status_code == 401, operation.path
            assert answer.headers["content-type"] == ["application/problem+json"]


def ask_all(cases, number, kept, headers=None):
    @settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def asked(case):
        case.call_and_validate(checks=kept, headers=headers)

    asked()
