"""Who may ask: keys and their rates, names of the server, pages of other sites, doors that stay closed."""

from __future__ import annotations

import hashlib

import pytest
from typer.testing import CliRunner

from gammascope.cli.app import app as command_line
from gammascope.detection.opinions import Detectors
from gammascope.errors import MissingDataError, RecipeError
from gammascope.server import serving
from gammascope.server.access import Caller, Key, new_key, read_keys
from gammascope.server.problems import Problem

SECRET = "gs_" + "s" * 43


def key_of(secret: str, files_per_minute: float = 1000.0) -> Key:
    return Key(hashlib.sha256(secret.encode()).hexdigest(), files_per_minute)


def run(*arguments):
    return CliRunner().invoke(command_line, list(arguments))


@pytest.fixture
def locked(serve):
    return serve(keys={"newsroom": key_of(SECRET), "archive": key_of("gs_other", 3.0)})


@pytest.mark.parametrize("path", ["/v1/methods", "/v1/jobs/any", "/metrics"])
def test_without_a_known_key_there_is_no_answer(locked, path):
    wrong = (
        {"x-api-key": "gs_wrong"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {SECRET}"},
    )
    for headers in ({}, *wrong):
        answer = locked.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"] == "urn:gammascope:problem:not-authenticated"
        assert answer.headers["www-authenticate"] == 'Bearer realm="gammascope"'


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {SECRET}"}, {"x-api-key": SECRET}])
def test_a_known_key_opens(locked, pictures, headers):
    files = {"f": ("a.png", pictures["cat.png"])}
    assert locked.post("/v1/detect", files=files).status_code == 401
    assert locked.post("/v1/detect", files=files, headers=headers).status_code == 200
    assert locked.get("/v1/methods", headers=headers).status_code == 200


def test_the_page_and_the_signs_of_life_need_no_key(locked):
    for path in ("/", "/web/visit.js", "/healthz", "/readyz", "/openapi.json"):
        assert locked.get(path).status_code == 200


def test_the_log_names_the_key_and_never_holds_it(locked, caplog):
    caplog.set_level("INFO", logger="gammascope.server")
    locked.get("/v1/methods", headers={"x-api-key": SECRET})
    assert caplog.records[-1].fields["key"] == "newsroom"
    assert SECRET not in str([record.fields for record in caplog.records])


def test_a_rate_is_counted_in_files_and_by_key(locked, pictures):
    files = [("f", ("a.png", pictures["cat.png"]))] * 3
    archive = {"x-api-key": "gs_other"}
    assert locked.post("/v1/detect", files=files, headers=archive).status_code == 200
    refused = locked.post("/v1/detect", files=files[:1], headers=archive)
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:gammascope:problem:rate-limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert locked.post("/v1/detect", files=files, headers={"x-api-key": SECRET}).status_code == 200


def test_a_rate_fills_up_again_and_no_further():
    now = [0.0]
    caller = Caller("a", 60.0, clock=lambda: now[0])
    for _ in range(60):
        caller.take(1)
    with pytest.raises(Problem) as refused:
        caller.take(1)
    assert refused.value.retry_after == 1
    now[0] = 2.0
    caller.take(1)
    caller.take(1)
    with pytest.raises(Problem):
        caller.take(1)
    now[0] = 9999.0
    caller.take(100)  # more than a minute's worth in one request is allowed once, and paid for
    with pytest.raises(Problem) as refused:
        caller.take(1)
    assert refused.value.retry_after == 41


def test_a_new_key_works_and_only_its_hash_is_in_the_file(tmp_path):
    made = run("api-key", "newsroom", "--files-per-minute", "30")
    assert made.exit_code == 0
    key = made.stderr.strip().rpartition(" ")[2]
    assert len(key) > 40
    assert key not in made.stdout
    path = tmp_path / "keys.toml"
    path.write_text(made.stdout + new_key("archive")[1])
    assert key.encode() not in path.read_bytes()

    class Asked:
        headers = {"x-api-key": key}  # noqa: RUF012 - as a request has them

    keys = read_keys(path)
    assert keys.required
    assert hashlib.sha256(key.encode()).hexdigest() in path.read_text()
    assert len(keys._known) == 2


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("", MissingDataError, "holds no key"),
        ("no toml at all", RecipeError, "is no TOML file"),
        ("[a]\nsha256 = 'abc'", RecipeError, "expected 64 hexadecimal digits"),
        (f"[a]\nsha256 = '{'0' * 64}'\nfiles_per_minute = 0", RecipeError, "expected more than 0"),
        (f"[a]\nsha265 = '{'0' * 64}'", RecipeError, "mean 'sha256'?"),
        (f"a = '{'0' * 64}'", RecipeError, "outside a table"),
    ],
)
def test_what_is_wrong_with_a_file_of_keys_is_told(tmp_path, content, error, message):
    path = tmp_path / "keys.toml"
    path.write_text(content)
    with pytest.raises(error, match=message.replace("?", r"\?")):
        read_keys(path)


def test_a_file_of_keys_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MissingDataError, match="Cannot read the keys"):
        read_keys(tmp_path / "none.toml")
    assert run("api-key", "two words").exit_code == 2


# Doors


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - what is refused
def test_other_machines_are_not_let_in_without_keys(host):
    result = run("serve", "--host", host, "--port", "0", "--results", "memory")
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"Error: --host {host} can be reached from other machines")
    assert "--keys FILE" in line
    assert "--insecure-no-keys" in line
    serving.refuse_open_door(serving.Options(host, insecure_no_keys=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_this_machine_needs_no_keys(host):
    serving.refuse_open_door(serving.Options(host))


def test_a_server_without_keys_answers_to_its_own_names_only(serve):
    client = serve(hosts=serving.LOOPBACK_NAMES)
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        answer = client.get("/healthz", headers={"host": host})
        assert answer.status_code == 421
        assert answer.json()["type"] == "urn:gammascope:problem:wrong-host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://testserver"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site", "origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://other.testserver"}, 403),
        ({"origin": "http://testserver"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_send_pictures(client, pictures, headers, status):
    files = {"f": ("a.png", pictures["cat.png"])}
    assert client.post("/v1/detect", files=files, headers=headers).status_code == status


def test_keys_and_bounds_come_from_the_options(embedded, tmp_path):
    path = tmp_path / "keys.toml"
    path.write_text(new_key("a")[1])
    options = serving.Options(keys=path, limits=("files=2",), results=str(tmp_path / "r.sqlite"))
    detectors = Detectors(("only",), (embedded,))
    parts = serving.parts_of(options, detectors)
    assert (parts.keys.required, parts.limits.files, parts.hosts) == (True, 2, None)
    open_parts = serving.parts_of(
        serving.Options(results="memory", allow_hosts=("My.name",)), detectors
    )
    assert open_parts.hosts == serving.LOOPBACK_NAMES | {"my.name"}
    for one in (parts, open_parts):
        one.database.close()
