"""Images in the cells of Parquet and Arrow tables, addressed by paths.

Datasets on Hugging Face keep the bytes of an image file in a row of a table. Such a cell gets a path of its own that
goes on below the table, ``test-00000.parquet/17.image``: row 17, counted from 0, column "image". It is a plain
``Path``, so an entry, a manifest and a score table hold it like that of a file; ``decode`` opens it; nothing is
extracted, and nothing has to be cleaned up.

A cell holds bytes, or bytes and a name as Hugging Face stores them (``{"bytes": ..., "path": ...}``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from gammascope.files import pyarrow_for

TABLE_SUFFIXES = (".parquet", ".arrow")
"""Endings of the tables, in any case."""

_AT_ONCE = 8  # rows decoded together: the images of one row group may have gigabytes
_OPEN_COLUMNS = 8  # columns kept open: images and masks of a few tables


def cell(table: Path, row: int, column: str) -> Path:
    """Name a cell of a table.

    >>> cell(Path("a.parquet"), 17, "image").as_posix()
    'a.parquet/17.image'
    """
    return table / f"{row}.{column}"


def is_cell(path: Path) -> bool:
    """Whether a path names a cell and not a file; opens nothing unless a folder is called like a table."""
    row, dot, column = path.name.partition(".")
    named = bool(row.isdecimal() and dot and column)
    return named and path.parent.suffix.lower() in TABLE_SUFFIXES and not path.exists()


def content(path: Path) -> bytes:
    """Return the bytes in a cell. Rows read one after the other cost no second reading of those before.

    Raises:
        OSError: If the table is not there or cannot be read.
        ValueError: If it is broken, has no such row or column, or the cell holds no bytes.
        MissingExtraError: If pyarrow is not installed.
    """
    row, _, column = path.name.partition(".")
    pyarrow, _ = pyarrow_for("Reading images from tables")
    try:
        status = path.parent.stat()
        held = _column(path.parent, column, status.st_mtime_ns).at(int(row))
    except KeyError as error:
        raise ValueError(f"{path.parent.name} has no column {column!r}") from error
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path.parent.name} is broken: {error}") from error
    data = bytes_held(held)
    if not data:
        raise ValueError(f"row {row} of {path.parent.name} holds no image in {column!r}")
    return data


def bytes_held(value: Any) -> bytes | None:
    """Return the bytes in a cell's value, plain or beside a name; None if there are none."""
    data = value.get("bytes") if isinstance(value, dict) else value
    return data if isinstance(data, bytes) and data else None


def arrow_table(table: Path) -> Any:
    """Open an Arrow file as Hugging Face's ``save_to_disk`` writes it, mapped into memory, as one table.

    Raises:
        OSError: If it is not there.
        pyarrow.ArrowException: If it is broken.
    """
    pyarrow, _ = pyarrow_for("Reading Arrow tables")
    mapped = pyarrow.memory_map(str(table))
    try:
        return pyarrow.ipc.open_stream(mapped).read_all()
    except pyarrow.ArrowInvalid:  # the other of the two Arrow formats, with a footer
        return pyarrow.ipc.open_file(mapped).read_all()


class ParquetColumn:
    """One column of a Parquet table, read forwards from the row group of the row asked for.

    Args:
        table: Path of a file, or one that is open for reading bytes (fsspec's own types too).
        column: Its name; KeyError if there is none.
    """

    def __init__(self, table: Any, column: str) -> None:
        _, parquet = pyarrow_for("Reading images from tables")
        self._file = parquet.ParquetFile(table, pre_buffer=False, buffer_size=1 << 20)
        if column not in self._file.schema_arrow.names:
            raise KeyError(column)
        self._column = column
        groups = range(self._file.num_row_groups)
        self._lengths = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._rows: Iterator[tuple[int, Any]] = iter(())
        self._next, self._end = 0, 0
        self._lock = threading.Lock()

    def at(self, row: int) -> Any:
        """Return what a row holds, as a Python value."""
        with self._lock:
            if not self._next <= row < self._end:
                self._open(row)
            for number, value in self._rows:
                self._next = number + 1
                if number == row:
                    return value
            raise ValueError(f"the table ends before row {row}")

    def _open(self, row: int) -> None:
        start = 0
        for group, length in enumerate(self._lengths):
            if row < start + length:
                self._next, self._end = start, start + length
                self._rows = enumerate(self._values(group), start)
                return
            start += length
        raise ValueError(f"the table has {start} rows, so no row {row}")

    def _values(self, group: int) -> Iterator[Any]:
        chosen = {"row_groups": [group], "columns": [self._column]}
        for batch in self._file.iter_batches(batch_size=_AT_ONCE, use_threads=False, **chosen):
            yield from (value.as_py() for value in batch.column(0))


class _ArrowColumn:
    """One column of an Arrow table mapped into memory: any row at once."""

    def __init__(self, table: Path, column: str) -> None:
        self._values = arrow_table(table).column(column)

    def at(self, row: int) -> Any:
        """Return what a row holds, as a Python value."""
        if row >= len(self._values):
            raise ValueError(f"the table has {len(self._values)} rows, so no row {row}")
        return self._values[row].as_py()


@lru_cache(maxsize=_OPEN_COLUMNS)
def _column(table: Path, column: str, changed_ns: int) -> ParquetColumn | _ArrowColumn:
    """Open a column, or return it as it is open; ``changed_ns`` opens a rewritten table anew."""
    del changed_ns
    return (_ArrowColumn if table.suffix.lower() == ".arrow" else ParquetColumn)(table, column)
