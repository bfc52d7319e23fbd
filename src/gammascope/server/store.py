"""What was examined before, and the results of finished jobs: SQLite, or PostgreSQL for several servers.

A report depends on the content, the detectors, the version of this package and the format of its JSON alone, so these
are its key. No content is kept, and no name but those inside a job's own results. What has expired is never
returned; ``prune`` deletes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from gammascope import __version__
from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.files import cache_folder
from gammascope.report import FORMAT
from gammascope.server.telemetry import log

IN_MEMORY: Final = "memory"

_PRUNED_EVERY: Final = 1000
_TRIES: Final = 5
_DAY_S: Final = 86_400.0

# Words that SQLite and PostgreSQL understand alike.
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, report TEXT NOT NULL, "
    "written DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS results_by_age ON results (written)",
    "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, owner TEXT NOT NULL, job TEXT NOT NULL, "
    "expires DOUBLE PRECISION NOT NULL)",
)


@runtime_checkable
class Database(Protocol):
    """The seam: one statement at a time, each a transaction of its own; safe to call from several threads."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement with ``?`` for each value, and return its rows."""

    def close(self) -> None:
        """Give back what is held."""


class Sqlite:
    """A file, or memory."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Created before SQLite does, to be readable for its owner only.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path or ":memory:", timeout=5, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement."""
        with self._lock:
            return self._connection.execute(statement, tuple(values)).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


class Postgres:
    """A PostgreSQL server, through psycopg; connects anew when the connection was lost."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtraError.of("Results in PostgreSQL", "psycopg", "postgres") from error
        self._psycopg, self._url, self._lock = psycopg, url, threading.Lock()
        self._connection = self._connected()

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement, on a new connection if the old one is gone."""
        with self._lock:
            if self._connection.closed:
                self._connection = self._connected()
            try:
                return self._rows(statement, values)
            except self._psycopg.OperationalError:
                if not self._connection.closed:
                    raise
                self._connection = self._connected()
                return self._rows(statement, values)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _connected(self) -> Any:
        return self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)

    def _rows(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(statement.replace("?", "%s"), tuple(values))
        return cursor.fetchall() if cursor.description else []


def opened(place: str) -> Database:
    """Open the place that an option names.

    Args:
        place: "memory", the path of an SQLite file, or a ``postgresql://`` URL.

    Raises:
        MissingDataError: If it cannot be opened.
        MissingExtraError: If psycopg is needed and not installed.
    """
    if place == IN_MEMORY:
        return Sqlite(None)
    is_url = place.startswith(("postgresql://", "postgres://"))
    try:
        return Postgres(place) if is_url else Sqlite(Path(place).expanduser())
    except MissingExtraError:
        raise
    except (
        Exception
    ) as error:  # a driver's own types; a URL may hold a password, so it is not shown
        shown = "the PostgreSQL database" if is_url else place
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingDataError(
            f"Cannot keep results in {shown} ({reason}). Choose another place, or --results memory."
        ) from error


def default_place() -> str:
    """Return where results are kept unless told otherwise: a file in the user's cache folder."""
    return str(cache_folder() / "server.sqlite")


def _make_tables(database: Database) -> None:
    """Make what is missing; of servers that start at the same moment, PostgreSQL lets all but one fail at that."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            for statement in _TABLES:
                database.execute(statement)
        except Exception as error:  # drivers have types of their own
            if not left:
                raise MissingDataError(
                    f"The database takes no tables of results ({' '.join(str(error).split())}). Choose another place, "
                    "or --results memory."
                ) from error
            time.sleep(0.1 * (_TRIES - left))
        else:
            return


class Results:
    """Reports by content, and jobs by id.

    A database that fails costs speed, never an answer: what cannot be read is examined again.

    Args:
        database: Where to keep them.
        detectors: What answers; part of every key.
        most: Reports kept.
        days: How long.

    Raises:
        MissingDataError: If the database takes no tables.
    """

    def __init__(self, database: Database, detectors: str, most: int, days: float) -> None:
        self._database, self._detectors = database, detectors
        self._most, self._days = most, days
        self._written = 0
        _make_tables(database)
        self.prune()

    def key(self, content: bytes) -> str:
        """Return under which key the report of a content is kept."""
        digest = hashlib.sha256(content).hexdigest()
        return f"{digest}:{self._detectors}:{__version__}:{FORMAT}"

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a report as it was put, or None if there is none or it is too old."""
        try:
            rows = self._database.execute(
                "SELECT report FROM results WHERE key = ? AND written >= ?", (key, self._oldest())
            )
        except Exception as error:  # drivers have types of their own
            log("results-unreadable", logging.WARNING, error=type(error).__name__)
            return None
        found: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
        return found

    def put(self, key: str, report: dict[str, Any]) -> None:
        """Keep a report; one that is there already may be too old, and is replaced."""
        statement = (
            "INSERT INTO results (key, report, written) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET report = excluded.report, written = excluded.written"
        )
        try:
            self._database.execute(statement, (key, json.dumps(report), time.time()))
            self._written += 1
            if self._written % _PRUNED_EVERY == 0:
                self.prune()
        except Exception as error:  # drivers have types of their own
            log("results-unwritable", logging.WARNING, error=type(error).__name__)

    def get_job(self, job: str, owner: str) -> dict[str, Any] | None:
        """Return a job that was put under this owner's name and has not expired, or None."""
        rows = self._database.execute(
            "SELECT job FROM jobs WHERE id = ? AND owner = ? AND expires > ?",
            (job, owner, time.time()),
        )
        found: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
        return found

    def put_job(self, job: str, owner: str, content: dict[str, Any], expires: float) -> None:
        """Keep a job, or replace it."""
        self._database.execute(
            "INSERT INTO jobs (id, owner, job, expires) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET job = excluded.job, expires = excluded.expires",
            (job, owner, json.dumps(content), expires),
        )

    def prune(self) -> None:
        """Delete what is too old or too much, also of jobs that other servers put."""
        self._database.execute("DELETE FROM jobs WHERE expires <= ?", (time.time(),))
        self._database.execute("DELETE FROM results WHERE written < ?", (self._oldest(),))
        self._database.execute(
            "DELETE FROM results WHERE written <= (SELECT written FROM results ORDER BY written DESC LIMIT 1 OFFSET ?)",
            (self._most,),
        )

    def _oldest(self) -> float:
        return time.time() - self._days * _DAY_S

    def close(self) -> None:
        """Close the database."""
        self._database.close()
