"""The folder that a bulk scan fills: the list of its images, rows in Parquet parts, and what they come to.

A memory of contents examined before lets the same bytes be examined once.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from gammascope.data import audit, ledger
from gammascope.files import complete_or_absent, pyarrow_for, shown
from gammascope.report import COUNTED, EDITED, Verdict
from gammascope.scanning.sources import Item

pyarrow_here = partial(pyarrow_for, "A scan into a folder", "bulk")
"""``files.pyarrow_for`` of all that writes and reads rows."""

_LISTED = "listed.json"
_WHAT = "results"
_QUESTIONS = ("generated", "edited")

LOOK = "perceptual_hash"
"""Key of an outcome, and column of rows, that tells pictures which look alike (``audit.hash_of``)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was found for one image.

    Attributes:
        number: Its place in the list.
        image: Its name, as in ``Item``, as ``files.shown`` writes it.
        sha256: Of its content; None if that could not be read.
        size: Of its content, bytes.
        outcome: JSON: the report without its "image" and with ``LOOK``, or only an "error".
    """

    number: int
    image: str
    sha256: str | None
    size: int | None
    outcome: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the rows of a folder come to.

    Attributes:
        images: Rows.
        words: Images by the word for what was found on the whole picture, one of ``COUNTED``.
        answers: Images by question, "generated" or "edited", and verdict on it; only those that were asked it.
        failed: Images that could not be examined.
        copies: Images with the same bytes as one before.
        alike: Contents that look like another content (``audit.COPY_RADIUS``); verdicts are each one's own.
        alike_groups: Groups of those.
        contents: Examined contents by word, the same bytes counted once.
        pictures: The same with those that look alike counted once, at the gravest word among them.
    """

    images: int
    words: dict[str, int]
    answers: dict[str, dict[Verdict, int]]
    failed: int
    copies: int = 0
    alike: int = 0
    alike_groups: int = 0
    contents: dict[str, int] = field(default_factory=dict)
    pictures: dict[str, int] = field(default_factory=dict)


def by_verdict(words: Mapping[str, int]) -> dict[Verdict, int]:
    """Count by verdict what is counted by word: an edit is a yes, too."""
    counts = {verdict: words.get(str(verdict), 0) for verdict in Verdict}
    counts[Verdict.FAKE] += words.get(EDITED, 0)
    return counts


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """The folder of a scan.

    Attributes:
        folder: Parts with rows, one for each image, and ``_ledger``, which readers of Parquet folders skip.
        rows: A part is written after so many rows at the latest.
        seconds: A part is written after so many seconds at the latest: what a kill may cost.
        merged_rows: Small parts become larger ones of about so many rows when all is done.
        listed_rows: Rows in a part of the list of images.
    """

    folder: Path
    rows: int = 8192
    seconds: float = 30.0
    merged_rows: int = 2**19
    listed_rows: int = 2**16

    @property
    def seen_path(self) -> Path:
        """Where outcomes by content are."""
        return self._ledger / "seen.sqlite"

    @property
    def listing(self) -> Path:
        """Folder with the list of images, in parts."""
        return self._ledger / "listing"

    @property
    def _ledger(self) -> Path:
        return self.folder / "_ledger"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes away, and clear what a killed one left.

        Raises:
            MissingDataError: If another process is writing to the folder.
        """
        pyarrow_here()
        self.folder.mkdir(parents=True, exist_ok=True)
        with ledger.alone_in(self._ledger, _WHAT):
            for left in self.folder.glob(".*.part"):
                left.unlink()
            self._drop_merged()
            yield

    def claim(self, run: dict[str, Any]) -> None:
        """Make the folder this run's.

        Raises:
            RecipeError: If it is another's.
        """
        if not (self._ledger / _LISTED).exists():  # No row was begun: sources were wrong, say.
            (self._ledger / ledger.RUN).unlink(missing_ok=True)
        ledger.claim(self._ledger, run, _WHAT)

    def list_once(self, items: Iterable[Item]) -> int:
        """Write down the images, unless that was done; return how many there are."""
        done = self._ledger / _LISTED
        if done.exists():
            count: int = json.loads(done.read_text("utf-8"))["images"]
            return count
        shutil.rmtree(self.listing, ignore_errors=True)
        self.listing.mkdir(parents=True)
        first, held = 0, []
        for item in items:
            held.append(item)
            if len(held) == self.listed_rows:
                self._write_listing(first, held)
                first, held = first + len(held), []
        if held:
            self._write_listing(first, held)
        with complete_or_absent(done) as unfinished:
            unfinished.write_text(json.dumps({"images": first + len(held)}), "utf-8")
        return first + len(held)

    def left(self, total: int) -> int:
        """Return how many images have no row yet."""
        return sum(len(gap) for gap in ledger.missing(self.folder, total))

    def items(self, total: int) -> Iterator[tuple[int, Item]]:
        """Yield the images that have no row yet, with their numbers."""
        _, parquet = pyarrow_here()
        gaps = ledger.Gaps(ledger.missing(self.folder, total))
        for path, span in ledger.parts(self.listing):
            for batch in parquet.ParquetFile(path).iter_batches(4096) if gaps.meet(span) else ():
                for values in batch.to_pylist():
                    number = values.pop("number")
                    if number in gaps:
                        yield number, Item.of(values)

    def writer(self) -> AbstractContextManager[Callable[[Row], None]]:
        """Return what takes rows, in any order; leaving it writes what is held, also after an error or Ctrl-C."""
        return _Writer(self)

    def merge(self) -> None:
        """Turn many small parts into few large ones; a stop at any moment loses nothing."""
        parts = ledger.parts(self.folder)
        group: list[tuple[Path, range]] = []
        for at, part in enumerate(parts):
            group.append(part)
            size = sum(len(span) for _, span in group)
            follows = at + 1 < len(parts) and parts[at + 1][1].start == part[1].stop
            if size >= self.merged_rows or not follows:
                if len(group) > 1:
                    ledger.join_parts(self.folder, group)
                group = []
        self._drop_merged()

    def summary(self) -> Summary:
        """Count verdicts, copies and look-alikes; reads columns part by part, and holds 17 bytes for each image."""
        _, parquet = pyarrow_here()
        images, failed = 0, 0
        digests, looks, graveness = [_NOTHING], [_NOTHING], [np.empty(0, np.uint8)]
        answers = {name: dict.fromkeys(Verdict, 0) for name in _QUESTIONS}
        columns = {f"{name}_verdict": found for name, found in answers.items()}
        for path, _ in ledger.parts(self.folder):
            file = parquet.ParquetFile(path)
            asked = ["verdict", *columns, "sha256", LOOK, "error"]
            for batch in file.iter_batches(65536, columns=asked):
                images += batch.num_rows
                failed += batch.num_rows - batch.column("error").null_count
                for name, found in columns.items():
                    for count in batch.column(name).value_counts().to_pylist():
                        if count["values"] is not None:
                            found[Verdict(count["values"])] += count["counts"]
                read = batch.filter(batch.column("sha256").is_valid())
                # A quarter of a hash tells contents apart, too: two of a billion agree on it with a chance of 3 %.
                quarters = (int(one[:16], 16) for one in read.column("sha256").to_pylist())
                digests.append(np.fromiter(quarters, np.uint64, read.num_rows))
                looks.append(read.column(LOOK).fill_null(_NO_LOOK).to_numpy(zero_copy_only=False))
                graveness.append(_graveness_of(read))
        _, first, content = np.unique(
            np.concatenate(digests), return_index=True, return_inverse=True
        )
        each = np.concatenate(graveness)
        gravest = _gravest(each, content)
        examined = gravest > 0
        picture = audit.groups_of_copies(np.concatenate(looks)[first][examined])
        alike = np.bincount(picture)
        alike = alike[alike > 1]
        return Summary(
            images,
            _by_word(each),
            answers,
            failed,
            copies=len(content) - len(first),
            alike=int(alike.sum()),
            alike_groups=len(alike),
            contents=_by_word(gravest),
            pictures=_by_word(_gravest(gravest[examined], picture)),
        )

    def _write_listing(self, first: int, items: list[Item]) -> None:
        arrow, _ = pyarrow_here()
        numbers, texts, names = arrow.int64(), arrow.string(), arrow.binary()
        kinds = {"start": numbers, "size": numbers, "name": names, "file": names}
        schema = arrow.schema(
            [("number", numbers), *((f.name, kinds.get(f.name, texts)) for f in fields(Item))]
        )
        columns = (range(first, first + len(items)), *zip(*map(_stored, items), strict=True))
        arrays = [
            arrow.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
        ]
        ledger.write_part(self.listing, first, arrow.table(arrays, schema=schema))

    def _drop_merged(self) -> None:
        """Remove parts whose rows are in a larger one: a merge was stopped before it did."""
        end = 0
        for path, span in ledger.parts_in(self.folder):
            if span.stop <= end:
                path.unlink()
            end = max(end, span.stop)


@dataclass(slots=True)
class _Writer(AbstractContextManager[Callable[[Row], None]]):
    """Rows on their way to the disk."""

    results: ResultsFolder
    held: list[Row] = field(default_factory=list)
    written_at: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Callable[[Row], None]:
        return self.add

    def __exit__(self, *_: object) -> None:
        self.write()

    def add(self, row: Row) -> None:
        """Take a row."""
        self.held.append(row)
        late = time.monotonic() - self.written_at >= self.results.seconds
        if late or len(self.held) >= self.results.rows:
            self.write()

    def write(self) -> None:
        """Write each stretch of consecutive rows as a part."""
        rows = sorted(self.held, key=lambda row: row.number)
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end].number != rows[end - 1].number + 1:
                if end > start:
                    table = table_of(rows[start:end])
                    ledger.write_part(self.results.folder, rows[start].number, table)
                start = end
        self.held, self.written_at = [], time.monotonic()


_NOTHING = np.empty(0, np.uint64)
_NO_LOOK = 2**64 - 1  # hashes are even
_GRAVENESS = {None: 0} | {word: at for at, word in enumerate(COUNTED, 1)}


def _gravest(
    graveness: UInt8[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> UInt8[np.ndarray, " _g"]:
    """Return the gravest of each group, whose numbers begin with 0 and leave none out."""
    found = np.zeros(group.max(initial=-1) + 1, np.uint8)
    np.maximum.at(found, group, graveness)
    return found


def _graveness_of(batch: Any) -> UInt8[np.ndarray, " n"]:
    """Return the place in ``COUNTED`` of what was found in each, from 1; 0: could not be examined."""
    columns = ("verdict", "edited_verdict", "generated_verdict")
    rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    # Where "generated" was not asked, the columns do not tell an edit from a fake that was edited, too.
    others = (None, Verdict.FAKE)
    grave = (
        _GRAVENESS[EDITED if edited == Verdict.FAKE and generated not in others else verdict]
        for verdict, edited, generated in rows
    )
    return np.fromiter(grave, np.uint8, batch.num_rows)


def _by_word(graveness: UInt8[np.ndarray, " n"]) -> dict[str, int]:
    _, *counts = np.bincount(graveness, minlength=1 + len(COUNTED)).tolist()
    return dict(zip(COUNTED, counts, strict=True))


def _stored(item: Item) -> tuple[Any, ...]:
    """Return an item as the list of images keeps it: names as bytes, for they need be no text."""
    values = asdict(item) | {name: os.fsencode(getattr(item, name)) for name in ("name", "file")}
    values["problem"] = item.problem and shown(item.problem)
    return tuple(values.values())


def table_of(rows: list[Row]) -> Any:
    """Return rows as a ``pyarrow.Table``.

    Columns: number, image, sha256, bytes; width, height and perceptual_hash; verdict on the whole picture, the question
    that decided it and its probability; the same for "generated" and "edited" where the method answers them; report
    (JSON, everything that is said); error. What is unknown is null.
    """
    arrow, _ = pyarrow_here()
    schema = arrow.schema(
        [
            *(("number", arrow.int64()), ("image", arrow.string()), ("sha256", arrow.string())),
            *(("bytes", arrow.int64()), ("width", arrow.int32()), ("height", arrow.int32())),
            (LOOK, arrow.uint64()),
            *(("verdict", arrow.string()), ("question", arrow.string())),
            ("probability", arrow.float64()),
            *(("generated_verdict", arrow.string()), ("generated_probability", arrow.float64())),
            *(("edited_verdict", arrow.string()), ("edited_probability", arrow.float64())),
            *(("report", arrow.string()), ("error", arrow.string())),
        ]
    )
    return arrow.Table.from_pylist([_values(row) for row in rows], schema=schema)


def _values(row: Row) -> dict[str, Any]:
    said = json.loads(row.outcome)
    values = {"number": row.number, "image": row.image, "sha256": row.sha256, "bytes": row.size}
    if "error" in said:
        return values | {"error": said["error"]}
    whole = ("width", "height", "verdict", "question", "probability")
    look = said.pop(LOOK)
    each = {
        f"{question}_{name}": said["answers"].get(question, {}).get(name)
        for question in _QUESTIONS
        for name in ("verdict", "probability")
    }
    told = {LOOK: look, "report": json.dumps(said)}
    return values | {name: said[name] for name in whole} | each | told


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
