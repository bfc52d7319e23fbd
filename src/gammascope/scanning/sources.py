"""Where many images come from: folders, patterns, manifests, tar shards, tables; on disk or wherever fsspec reaches.

A listing yields one ``Item`` for each image and holds no more than a folder's names in memory. An item says where the
bytes are, so a reader can fetch any one of them, on any machine that sees the same files.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sqlite3
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from gammascope.data.folder import (
    IMAGE_SUFFIXES,
    SCANNED_SUFFIXES,
    files_matching,
    is_folder,
    walk_below,
)
from gammascope.data.text_tables import TextTable
from gammascope.errors import GammascopeError, MissingDataError, UndecodableImageError
from gammascope.files import path_of, pyarrow_for, shown
from gammascope.imaging import storage
from gammascope.imaging.decode import Limits, content_of
from gammascope.imaging.storage import again, as_os_errors, filesystem_of, is_remote

TABLES = (".parquet",)
LISTS = (".csv", *TABLES)
SHARDS = (".tar",)
PACKED_SHARDS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_PACKS = (*SHARDS, *PACKED_SHARDS, *LISTS)

_OPEN_FILES = 4  # shards and tables kept open by a reader
_NAMES_AT_ONCE = 4096  # rows of a manifest in memory


@dataclass(frozen=True, slots=True)
class Item:
    """One image, and where its bytes are.

    Attributes:
        name: Absolute path or URL; that of a shard or table goes on with what is inside ("a.tar/1.jpg",
            "b.parquet/17.image").
        file: Path or URL of the file that holds it.
        start: First byte inside a shard, or row of a table; None if the file is the image.
        size: Bytes inside a shard.
        column: Of a table.
        problem: Why there is nothing to read: the shard or table is broken.

    Names may hold bytes that are no UTF-8 (``gammascope.files``).
    """

    name: str
    file: str
    start: int | None = None
    size: int | None = None
    column: str | None = None
    problem: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Item:
        """Return an item from its row of a list, where names are bytes (or text, in older ones)."""
        names = {key: os.fsdecode(values[key]) for key in ("name", "file")}
        return cls(**{**values, **names})


def listed(sources: Sequence[str], *, recursive: bool = True) -> Iterator[Item]:
    """Yield the images of sources, one source after the other.

    A source is an image, a folder, a pattern (``*``, ``**``, ``?``, and ``{000..127}`` as shards are often named), a
    manifest (CSV or Parquet with a column "path", relative to it), a tar shard, or a Parquet table with a column of
    images' bytes; as a path, or as a URL that fsspec understands (``s3://bucket/folder``). A folder that a pattern
    without ``**`` matches stands for its images. What several sources hold is listed with the first of them.

    Args:
        sources: As above.
        recursive: Look into folders within folders.

    Raises:
        MissingDataError: If a source is not there or holds no image.
        MissingExtraError: If a URL needs a package that is not installed.
    """
    spelled = [name for source in sources for name in _braces_spread(source)]
    whole = list(dict.fromkeys(_absolute(name) for name in spelled))
    with closing(_Firsts()) as firsts:
        for number, name in enumerate(whole):
            empty = True
            for item in _listed(name, recursive):
                empty = False
                if len(whole) == 1 or firsts.source_of(item, number) == number:
                    yield item
            if empty:
                raise MissingDataError(
                    f"No image found in {name}: looked for {', '.join(IMAGE_SUFFIXES)}, shards ({SHARDS[0]}), "
                    f"and manifests or tables ({', '.join(LISTS)})."
                )


class _Firsts:
    """Which source was the first to hold an item; in a temporary file, for there may be more names than memory."""

    def __init__(self) -> None:
        self._names = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._names.execute("PRAGMA journal_mode = OFF")
        self._names.execute(
            "CREATE TABLE firsts (name BLOB PRIMARY KEY, source INTEGER NOT NULL) WITHOUT ROWID"
        )

    def source_of(self, item: Item, source: int) -> int:
        """Return the first source of an item, which this one is if there was none before."""
        name = os.fsencode(f"{_plain(item.file)}{item.name.removeprefix(item.file)}")
        try:
            new = self._names.execute("INSERT OR IGNORE INTO firsts VALUES (?, ?)", (name, source))
            if new.rowcount:
                return source
            found = self._names.execute("SELECT source FROM firsts WHERE name = ?", (name,))
            return int(found.fetchone()[0])
        except sqlite3.Error as error:
            raise MissingDataError(
                f"Names of images do not fit into a temporary file ({error}): make room for it, or let TMPDIR name "
                "another folder."
            ) from error

    def close(self) -> None:
        """Drop the file."""
        self._names.close()


@lru_cache(maxsize=64)  # The members of a shard share its file.
def _plain(file: str) -> str:
    """Return a file's name, the same for all ways to write its URL ("memory://a", "memory:///a")."""
    if not is_remote(file):
        return file
    try:
        filesystem, path = filesystem_of(file)
    except GammascopeError:  # A manifest may name anything: reading it says what is wrong.
        return file
    return f"{hash(filesystem)} {path}"


class Reader:
    """Fetches the bytes of items; keeps the shards and tables it has read from last open. Safe in several threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: OrderedDict[tuple[str, str | None], _Open] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, item: Item) -> bytes:
        """Return the bytes of an image.

        Raises:
            UndecodableImageError: If they cannot be read; the reason, without a name.
        """
        if item.problem is not None:
            raise UndecodableImageError(item.problem)
        if item.size is not None and item.size > self._limits.max_bytes:
            raise UndecodableImageError(f"more than the {self._limits.max_bytes} bytes allowed")
        if item.start is None and not is_remote(item.file):
            return content_of(Path(item.file), self._limits)
        try:
            return again(lambda: self._read(item), remote=is_remote(item.file))
        except (OSError, ValueError, KeyError) as error:
            self._forget(item)
            problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UndecodableImageError(f"cannot be read ({problem.lower()})") from error

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].file.close()

    def _read(self, item: Item) -> bytes:
        if item.start is None:
            filesystem, path = filesystem_of(item.file)
            try:
                content: bytes = filesystem.cat_file(path, end=self._limits.max_bytes + 1)
            except OSError:
                if filesystem.size(path) != 0:
                    raise
                content = b""  # S3 has no first byte of an empty object to give, and says that the range is wrong
            return content
        with self._lock:
            held = self._held(item)
            if held.column is not None:
                content = storage.bytes_held(held.column.at(item.start)) or b""
                if not content:
                    raise ValueError(f"row {item.start} holds no image in {item.column!r}")
                return content
            held.file.seek(item.start)
            content = held.file.read(item.size or 0)
        if len(content) != item.size:
            raise ValueError("the archive ends inside it")
        return content

    def _held(self, item: Item) -> _Open:
        key = item.file, item.column
        if key not in self._open:
            file = _opened(item.file)
            try:
                column = item.column and storage.ParquetColumn(file, item.column)
            except BaseException:
                file.close()
                raise
            self._open[key] = _Open(file, column or None)
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].file.close()
        self._open.move_to_end(key)
        return self._open[key]

    def _forget(self, item: Item) -> None:
        """Open it anew next time: a broken connection would stay broken."""
        with self._lock:
            held = self._open.pop((item.file, item.column), None)
            if held is not None:
                held.file.close()


@dataclass(frozen=True, slots=True)
class _Open:
    """A shard, or a table and the column of it that is read."""

    file: Any  # fsspec has types of its own
    column: storage.ParquetColumn | None


def _braces_spread(source: str) -> list[str]:
    """Spell out the first ``{000..127}`` of a name, and what follows.

    >>> _braces_spread("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    found = re.search(r"\{(\d+)\.\.(\d+)\}", source)
    if not found:
        return [source]
    width = len(found[1])
    numbers = range(int(found[1]), int(found[2]) + 1)
    ends = _braces_spread(source[found.end() :])
    return [
        f"{source[: found.start()]}{number:0{width}d}{end}" for number in numbers for end in ends
    ]


def _absolute(source: str) -> str:
    return source if is_remote(source) else str(Path(source).absolute())


def _listed(name: str, recursive: bool) -> Iterator[Item]:
    if is_remote(name):
        yield from _listed_remotely(name, recursive)
        return
    path = Path(name)
    if path.is_dir():
        files = walk_below(path, recursive=recursive, suffixes=SCANNED_SUFFIXES)
    elif path.is_file() or not glob.has_magic(name):
        yield from _inside(name)
        return
    else:
        files = files_matching(name, recursive=recursive, suffixes=SCANNED_SUFFIXES, further=_PACKS)
    for file in files:
        # A folder that cannot be read stands for what it holds: its row says why.
        packed = file.name.lower().endswith(_PACKS) and not is_folder(file)
        yield from _inside(str(file)) if packed else [Item(str(file), str(file))]


def _listed_remotely(name: str, recursive: bool) -> Iterator[Item]:
    filesystem, path = filesystem_of(name)
    try:
        with as_os_errors():
            if glob.has_magic(path):
                files = _matched(filesystem, path, recursive)
            elif filesystem.isdir(path):
                files = _walked(filesystem, path, recursive)
            else:
                yield from _inside(name)
                return
            for file in files:
                yield from _inside(filesystem.unstrip_protocol(file))
    except OSError as error:
        raise MissingDataError(f"{name} cannot be listed ({error}).") from error


def _matched(filesystem: Any, pattern: str, recursive: bool) -> Iterator[str]:
    """Yield the files that a pattern means, by the rules of ``files_matching``."""
    dotted = [part for part in pattern.split("/") if part.startswith(".")]
    for path, about in filesystem.glob(pattern, detail=True).items():
        hidden = [part for part in path.split("/") if part.startswith(".")]
        # For fsspec ``*`` matches hidden names, too.
        if not all(any(fnmatch.fnmatchcase(one, part) for part in dotted) for one in hidden):
            continue
        if about["type"] == "directory":
            if "**" not in pattern:
                yield from _walked(filesystem, path, recursive)
        elif path.lower().endswith((*SCANNED_SUFFIXES, *_PACKS)) and not _is_hidden(path):
            yield path


def _walked(filesystem: Any, folder: str, recursive: bool) -> Iterator[str]:
    """Yield the images below a folder, its own first; fsspec's ``walk`` leaves out what it cannot list, in silence."""
    below = []
    for about in sorted(filesystem.ls(folder, detail=True), key=lambda one: str(one["name"])):
        path = about["name"].rstrip("/")
        if _is_hidden(path) or path == folder.rstrip("/"):  # Some stores list a folder in itself.
            continue
        if about["type"] == "directory":
            below.append(path)
        elif path.lower().endswith(SCANNED_SUFFIXES):
            yield path
    for path in below if recursive else ():
        yield from _walked(filesystem, path, recursive)


def _is_hidden(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith(".")


def _inside(file: str) -> Iterator[Item]:
    """Yield what a file holds: itself, if it is neither shard nor list nor table."""
    lower = file.lower()
    if lower.endswith(PACKED_SHARDS):
        raise MissingDataError(
            f"{file} is compressed as a whole, so no image in it can be reached alone: unpack it to a plain .tar."
        )
    if lower.endswith(SHARDS):
        yield from _members(file)
    elif lower.endswith(TABLES):
        yield from _rows(file)
    elif lower.endswith(LISTS):
        yield from _manifest(file)
    else:
        _refuse_missing(file)
        yield Item(file, file)


def _members(file: str) -> Iterator[Item]:
    """Yield the images of a tar archive; if it breaks off, one more item says so."""
    with _opened(file) as opened:
        count = 0
        try:
            with tarfile.open(fileobj=opened, mode="r:") as archive:
                for member in archive:
                    cast(Any, archive).members = []  # it would remember every header
                    name = member.name.rsplit("/", 1)[-1].lower()
                    if member.isfile() and name.endswith(SCANNED_SUFFIXES) and name[0] != ".":
                        count += 1
                        place = f"{file}/{member.name}"
                        yield Item(place, file, member.offset_data, member.size)
        except (tarfile.TarError, EOFError, ValueError) as error:
            yield Item(file, file, problem=f"the archive is broken after {count} images ({error})")


def _rows(file: str) -> Iterator[Item]:
    """Yield the images of a Parquet table with bytes, or the files that a Parquet manifest names."""
    arrow, parquet = pyarrow_for("Scanning tables", "bulk")
    with _opened(file) as opened:
        try:
            table = parquet.ParquetFile(opened)
            held = [field.name for field in table.schema_arrow if _holds_bytes(arrow, field.type)]
            columns = sorted(held, key=lambda name: (name not in {"image", "bytes", "jpg"}, name))
            if columns:
                for row in range(table.metadata.num_rows):
                    yield Item(f"{file}/{row}.{columns[0]}", file, row, column=columns[0])
                return
            if "path" not in table.schema_arrow.names:
                raise MissingDataError(
                    f"{file} has no column of bytes and none called 'path': it has "
                    f"{', '.join(table.schema_arrow.names)}."
                )
            for batch in table.iter_batches(_NAMES_AT_ONCE, columns=["path"]):
                yield from (_named(name, file) for name in batch.column(0).to_pylist() if name)
        except arrow.ArrowException as error:
            yield Item(file, file, problem=f"the table is broken ({error})")


def _holds_bytes(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(arrow, field.type) for field in kind)
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _manifest(file: str) -> Iterator[Item]:
    with _opened(file) as opened:
        table = TextTable(opened, file)
        if "path" not in table.columns:
            raise MissingDataError(
                f"{shown(file)} has no column 'path': it has {', '.join(table.columns) or 'none'}."
            )
        yield from (_named(row["path"], file) for _, row in table.rows() if row["path"])


def _named(name: str, manifest: str) -> Item:
    """Return the image that a manifest names, relative to its folder."""
    if is_remote(name):
        place = name
    elif is_remote(manifest):
        place = f"{manifest.rsplit('/', 1)[0]}/{name}"
    else:
        place = str(path_of(str(Path(manifest).parent / name)))
    return Item(place, place)


def _refuse_missing(file: str) -> None:
    if not is_remote(file):
        if not Path(file).exists():
            raise MissingDataError(f"No file or folder {file}.")
        return
    filesystem, path = filesystem_of(file)
    if not filesystem.exists(path):
        raise MissingDataError(f"No file or folder {file}.")


def _opened(file: str) -> Any:
    try:
        if not is_remote(file):
            return Path(file).open("rb")
        filesystem, path = filesystem_of(file)
        return filesystem.open(path, "rb")
    except OSError as error:
        raise MissingDataError(f"{file} cannot be read ({error.strerror or error}).") from error
