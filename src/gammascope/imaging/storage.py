"""Where the bytes of pictures lie beside plain files: cells of tables, members of tar shards, and URLs.

A cell and a member get paths of their own that go on below the table or the archive, and are plain ``Path`` objects:
entries, manifests and score tables hold them like those of files, ``decode`` opens them, and nothing is unpacked.

- ``test-00000.parquet/17.image`` is the cell in row 17, counted from 0, and column "image", as datasets on Hugging Face
  keep pictures: bytes, or bytes and a name (``{"bytes": ..., "path": ...}``).
- ``photos-000.tar/a/17.jpg`` is a member of an uncompressed archive, as WebDataset writes them. Its headers are read
  once, on first use; after that each picture is one read, in any order.
- URLs are opened by fsspec; what fails is tried again.
"""

from __future__ import annotations

import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from gammascope.errors import GammascopeError, MissingDataError, MissingExtraError
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


def cell_content(path: Path) -> bytes:
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


SUFFIX = ".tar"
"""Ending of the archives, in any case."""

_INDICES = 256  # archives whose headers are kept: about 200 bytes for each member


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path goes on below; None if it names a file or a folder.

    Opens nothing unless a folder above is called like an archive.
    """
    return next((archive for archive in called_archives(path) if archive.is_file()), None)


def called_archives(path: Path) -> Iterator[Path]:
    """Yield the folders above a path that are called like an archive, the innermost first; opens nothing."""
    return (parent for parent in path.parents if parent.suffix.lower() == SUFFIX)


def members_of(archive: Path) -> list[Path]:
    """List the members of an archive that are files, as paths that ``decode`` opens, in the archive's order.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no plain tar archive.
    """
    return [archive / name for name in _index(archive, archive.stat().st_mtime_ns)]


def member_content(archive: Path, path: Path, most: int) -> bytes:
    """Return the bytes of a member, ``most`` and one more at most.

    Args:
        archive: As ``archive_of`` found it.
        path: Of the member, as ``members_of`` lists it.
        most: Bytes that are allowed.

    Raises:
        OSError: If the archive cannot be read.
        ValueError: If it is no plain tar archive, has no such member, or ends inside it.
    """
    name = path.relative_to(archive).as_posix()
    try:
        start, size = _index(archive, archive.stat().st_mtime_ns)[name]
    except KeyError:
        raise ValueError(f"{archive.name} has no member {name!r}") from None
    wanted = min(size, most + 1)
    with archive.open("rb") as file:
        file.seek(start)
        data = file.read(wanted)
    if len(data) < wanted:
        raise ValueError(f"{archive.name} ends inside {name!r}")
    return data


@lru_cache(maxsize=_INDICES)
def _index(archive: Path, changed_ns: int) -> dict[str, tuple[int, int]]:
    """Return where each member's bytes begin, and how many they are; ``changed_ns`` reads a rewritten archive anew."""
    del changed_ns
    found = {}
    try:
        with tarfile.open(archive, "r:") as opened:
            for member in opened:
                if member.isfile():
                    found[Path(member.name).as_posix()] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{archive.name} is no plain tar archive: {error}") from error
    return found


TRIES = 3
"""How often a remote file is read before its error counts."""

T = TypeVar("T")


def is_remote(place: str) -> bool:
    """Whether a place is a URL and not a path.

    >>> is_remote("s3://bucket/a.jpg"), is_remote("C:/a.jpg"), is_remote("a/b.jpg")
    (True, False, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", place, re.IGNORECASE) is not None


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        MissingDataError: If the URL is of no known kind.
        MissingExtraError: If fsspec, or what it needs for this kind of URL, is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError.of("Reading URLs", "fsspec", "bulk") from error
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(
            f"{url.partition('://')[0]}:// needs another package: {error}."
        ) from error
    except ValueError as error:
        raise MissingDataError(f"{url} is of no known kind ({error}).") from error
    return filesystem, path


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Let what a store's own package raises, for want of credentials or of a connection, be an OSError."""
    try:
        yield
    except (
        GammascopeError,
        OSError,
        ValueError,
        KeyError,
        EOFError,
        MemoryError,
        tarfile.TarError,
    ):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def again(read: Callable[[], T], *, remote: bool = True) -> T:
    """Read, and try again what a network may mend."""
    for left in range(TRIES - 1, -1, -1):
        try:
            with as_os_errors():
                return read()
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except OSError:
            if not (remote and left):
                raise
            time.sleep(0.2 * (TRIES - left))
    raise AssertionError("unreachable: the last try returns or raises")
