"""Results by content, in SQLite and, where there is a server, in PostgreSQL."""

from __future__ import annotations

import sqlite3
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.server.store import Postgres, Results, Sqlite, default_place, opened


@pytest.fixture(params=["memory", "file", "postgres"])
def database(request, tmp_path):
    if request.param == "postgres":
        made = opened(request.getfixturevalue("postgres"))
        made.execute("DROP TABLE IF EXISTS results, jobs")
    else:
        made = opened("memory" if request.param == "memory" else str(tmp_path / "r.sqlite"))
    yield made
    made.close()


def results_in(database, most=100, weights="w", days=1.0) -> Results:
    return Results(database, weights, most, days)


REPORT = {"image": "", "probability": 0.123456, "caveats": ["\N{SNOWMAN} ' ; ? %s"], "evidence": []}


def test_a_report_comes_back_as_it_was_put(database):
    results = results_in(database)
    key = results.key(b"content")
    assert results.get(key) is None
    results.put(key, REPORT)
    results.put(key, REPORT)
    assert results.get(key) == REPORT


def test_other_content_and_other_weights_have_other_keys(database):
    results = results_in(database)
    results.put(results.key(b"content"), REPORT)
    assert results.get(results.key(b"other")) is None
    assert results.get(results_in(database, weights="v").key(b"content")) is None


def test_the_oldest_go_when_there_are_too_many(database):
    results = results_in(database, most=3)
    for number in range(5):
        results.put(str(number), REPORT)
        time.sleep(0.002)
    results.prune()
    assert [number for number in range(5) if results.get(str(number))] == [2, 3, 4]


def test_what_is_too_old_goes(database):
    results_in(database).put("old", REPORT)
    database.execute("UPDATE results SET written = written - ?", (2 * 86_400.0,))
    assert results_in(database).get("old") is None


def test_what_grew_too_old_is_not_returned_and_makes_room_for_a_new_report(database):
    results = results_in(database)
    results.put("key", REPORT)
    database.execute("UPDATE results SET written = written - ?", (2 * 86_400.0,))
    assert results.get("key") is None
    results.put("key", REPORT | {"image": "new"})
    assert results.get("key") == REPORT | {"image": "new"}


def test_jobs_belong_to_their_owner_and_expire(database):
    results = results_in(database)
    results.put_job("id", "a", {"status": "accepted"}, time.time() + 60)
    results.put_job("id", "a", {"status": "finished"}, time.time() + 60)
    assert results.get_job("id", "a") == {"status": "finished"}
    assert results.get_job("id", "b") is None
    results.put_job("id", "a", {"status": "finished"}, time.time() - 1)
    assert results.get_job("id", "a") is None
    results.put_job("other", "a", {"status": "finished"}, time.time() + 60)
    results.prune()
    assert database.execute("SELECT id FROM jobs") == [("other",)]


def test_a_server_that_starts_deletes_jobs_that_expired_while_it_was_off(database):
    results_in(database).put_job("id", "a", {"status": "finished"}, time.time() + 60)
    database.execute("UPDATE jobs SET expires = expires - 61")
    results_in(database)
    assert database.execute("SELECT * FROM jobs") == []


def test_a_server_with_nothing_to_do_deletes_what_expires(serve, tmp_path, monkeypatch):
    monkeypatch.setattr("gammascope.server.service._PRUNED_EVERY_S", 0.02)
    results = serve(results=tmp_path / "r.sqlite").app.state.service.results
    results.put_job("id", "a", {"results": [{"image": "anna.png"}]}, time.time() + 0.1)
    rows = sqlite3.connect(tmp_path / "r.sqlite")
    assert rows.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    for _ in range(200):
        if rows.execute("SELECT count(*) FROM jobs").fetchone() == (0,):
            break
        time.sleep(0.02)
    assert rows.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    rows.close()


def test_a_database_that_fails_while_it_is_pruned_is_pruned_again_later(serve, monkeypatch, caplog):
    pruned: list[int] = []

    def prune(_):
        pruned.append(len(pruned))
        if len(pruned) == 2:  # the first is that of the start
            raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(Results, "prune", prune)
    monkeypatch.setattr("gammascope.server.service._PRUNED_EVERY_S", 0.02)
    serve()
    for _ in range(200):
        if len(pruned) > 2:
            break
        time.sleep(0.02)
    assert len(pruned) > 2
    assert "results-unwritable" in {record.message for record in caplog.records}


def test_threads_share_a_database(database):
    results = results_in(database)

    def work(number: int) -> None:
        for step in range(20):
            results.put(f"{number}-{step}", REPORT | {"number": number})
            assert results.get(f"{number}-{step}") == REPORT | {"number": number}

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.execute("SELECT count(*) FROM results") == [(120,)]


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_servers_that_start_together_make_their_tables_once(kind, request, tmp_path):
    place = (
        request.getfixturevalue("postgres") if kind == "postgres" else str(tmp_path / "r.sqlite")
    )
    if kind == "postgres":
        emptied = opened(place)
        emptied.execute("DROP TABLE IF EXISTS results, jobs")
        emptied.close()
    gate, failed = threading.Barrier(4), []

    def start() -> None:
        database = opened(place)
        gate.wait(10)
        try:
            results_in(database).put("key", REPORT)
        except Exception as error:
            failed.append(error)
        database.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_database_that_takes_no_tables_is_told_in_words(tmp_path):
    sqlite3.connect(tmp_path / "r.sqlite").close()

    class ReadOnly(Sqlite):
        def execute(self, statement, values=()):  # noqa: ARG002
            raise sqlite3.OperationalError("attempt to write a readonly database")

    with pytest.raises(MissingDataError, match=r"takes no tables of results \(attempt to write"):
        results_in(ReadOnly(tmp_path / "r.sqlite"))


def test_two_servers_share_a_file(tmp_path):
    place = str(tmp_path / "deep" / "results.sqlite")
    first, second = (results_in(opened(place)) for _ in range(2))
    first.put("key", REPORT)
    assert second.get("key") == REPORT
    for results in (first, second):
        results.close()
    assert stat.S_IMODE(Path(place).stat().st_mode) == 0o600


def test_a_database_that_fails_costs_no_answer(serve, pictures, tmp_path, caplog):
    class Failing(Sqlite):
        broken = False

        def execute(self, statement, values=()):
            if self.broken:
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(statement, values)

    client = serve()
    service = client.app.state.service
    database = Failing(None)
    service.results._database.close()
    service.results._database = database
    for statement in ("CREATE TABLE results (key TEXT)", "CREATE TABLE jobs (id TEXT)"):
        database.execute(statement)
    database.broken = True
    files = {"f": ("a.png", pictures["cat.png"])}
    assert client.post("/v1/detect", files=files).status_code == 200
    place = client.post("/v1/jobs", files=files).headers["location"]
    for _ in range(200):
        job = client.get(place).json()
        if job["status"] == "finished":
            break
        time.sleep(0.02)
    assert job["results"][0]["image"] == "a.png"
    events = {record.message for record in caplog.records}
    assert {"results-unreadable", "results-unwritable", "job-unwritable"} <= events


def test_what_cannot_be_opened_is_told_without_the_password(tmp_path, monkeypatch):
    with pytest.raises(MissingDataError, match="or --results memory"):
        opened(str(tmp_path))
    (tmp_path / "text.sqlite").write_text("no database, but a text that is long enough to be none")
    with pytest.raises(MissingDataError, match="file is not a database"):
        opened(str(tmp_path / "text.sqlite"))
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"\.\[postgres\]") as caught:
        opened("postgresql://me:secret@localhost/results")
    assert "secret" not in str(caught.value)


def test_a_lost_connection_is_made_anew(postgres):
    database = Postgres(postgres)
    database._connection.close()
    assert database.execute("SELECT 1") == [(1,)]
    database.close()


def test_the_usual_place_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_place() == str(tmp_path / "gammascope" / "server.sqlite")
