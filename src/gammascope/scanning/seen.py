"""What was found for contents that were examined before: the same bytes are examined once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Memory(Protocol):
    """The seam between one machine and many: outcomes by the hash of the content."""

    def get(self, digest: bytes) -> str | None:
        """Return the outcome of a content, or None."""

    def put(self, digest: bytes, outcome: str) -> None:
        """Keep an outcome."""


class Forgetful:
    """Remembers nothing: every image is examined."""

    def get(self, digest: bytes) -> str | None:
        """Return None."""

    def put(self, digest: bytes, outcome: str) -> None:
        """Do nothing."""


class Seen:
    """Outcomes in an SQLite file, about as large as they are. Safe in several threads.

    It only saves work: what is in it is right whether or not a row was written, and a file that a power cut broke is
    begun anew. So whatever goes wrong with it (a full disk, say) never stops a scan: the image is examined again.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._connection = _opened_at(path)
        except sqlite3.DatabaseError:
            with suppress(OSError):
                path.unlink()
            try:
                self._connection = _opened_at(path)
            except sqlite3.Error:
                self._connection = _opened_at(":memory:")

    def get(self, digest: bytes) -> str | None:
        """Return the outcome of a content, or None."""
        found = None
        with self._lock, suppress(sqlite3.Error):
            found = self._connection.execute(
                "SELECT outcome FROM seen WHERE digest = ?", (digest,)
            ).fetchone()
        return found[0] if found else None

    def put(self, digest: bytes, outcome: str) -> None:
        """Keep an outcome."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, outcome))

    def close(self) -> None:
        """Close the file."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()


def _opened_at(place: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(place, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing by it
    connection.execute(
        "CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY, outcome TEXT NOT NULL) WITHOUT ROWID"
    )
    return connection
