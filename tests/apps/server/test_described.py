"""The server keeps to its own description: requests made from it get answers that it names, and never a 500."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.checks")


pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(scope="module")
def described(embedded):
    import uvicorn

    from gammascope.apps.server import serving
    from gammascope.apps.server.app import Parts, create_app
    from gammascope.apps.server.keys import Keys
    from gammascope.apps.server.limits import limits_of
    from gammascope.apps.server.results import opened
    from gammascope.apps.server.webhooks import Webhooks

    app = create_app(Parts(embedded, opened("memory"), limits_of([]), Keys(None), Webhooks()))
    listening = serving.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield schemathesis.openapi.from_url(f"{serving.url_of(listening)}openapi.json")
    server.should_exit = True
    thread.join()


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


# Its strategies draw from the random module, which hypothesis would rather they did not.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
def test_requests_made_from_the_description_get_described_answers(described):
    # Random bytes are no pictures, so refusals are fine as long as they are described, and are problem documents.
    kept = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    for operation in operations(described):

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def asked(case):
            case.call_and_validate(checks=kept)

        asked()
