"""Score tables: one row per image, in memory, as CSV, and in Parquet files that are read column by column."""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped

from gammascope.data.ledger import damaged
from gammascope.data.text_tables import read_lists
from gammascope.errors import MissingDataError
from gammascope.evaluation.metrics import PixelCounts
from gammascope.files import complete_or_absent, pyarrow_for

TEXTS = (
    *("path", "generator", "kind", "source", "split", "format", "sha256", "mask_error", "error"),
)
"""Columns of texts; "" is not known."""

WHOLES = ("label", "width", "height", "draw")
"""Columns of whole numbers; all others are float64, NaN for what is not there."""

STRING = np.dtypes.StringDType()  # a path of any length costs no more than itself

_ROWS_AT_ONCE = 100_000  # made into Python objects at a time

MASKS = ("generated", "edited")
"""Names of the masks that are scored where there is ground truth."""

MAP_THRESHOLD = 0.5
"""A pixel is marked where its probability is above this."""

COUNTS = ("tp", "fp", "fn", "tn")
"""What the pixels of a mask are counted as; names of columns end with them."""


class Coded(NamedTuple):
    """A column of texts that repeat: each text once, and for every row the number of its text."""

    names: Shaped[np.ndarray, " k"]
    codes: Int[np.ndarray, " n"]


class StoredColumns(Mapping[str, Shaped[np.ndarray, " n"]]):
    """Columns of Parquet files below each other; each is read at every use, and not kept.

    A column that a file lacks is unknown there.

    Args:
        paths: The files, in order.
        lengths: How many rows each should have; None: as many as it has.

    Raises:
        MissingDataError: If a file is broken or has another number of rows.
        MissingExtraError: If pyarrow is not installed.
    """

    def __init__(self, paths: Sequence[Path], lengths: Sequence[int] | None = None) -> None:
        names: dict[str, None] = {}
        self._paths = tuple(paths)
        self._held: list[frozenset[str]] = []
        self._lengths: list[int] = []
        for at, path in enumerate(self._paths):
            with _Readable(path) as file:
                held, rows = file.schema_arrow.names, file.metadata.num_rows
            if lengths is not None and rows != lengths[at]:
                raise MissingDataError(damaged(path, f"{rows} rows of {lengths[at]}"))
            names.update(dict.fromkeys(held))
            self._held.append(frozenset(held))
            self._lengths.append(rows)
        self._names = tuple(names)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self._lengths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Shaped[np.ndarray, " n"]:
        if name not in self._names:
            raise KeyError(name)
        column = np.empty(self.rows, dtype=_kind(name))
        start = 0
        for values, rows in self._values(name):
            column[start : start + rows] = _unknown(name) if values is None else array(name, values)
            start += rows
        return column

    def coded(self, name: str) -> Coded:
        """Return a column of texts as numbers: a hundredth of the time and a quarter of the memory."""
        known: dict[str, int] = {}
        codes = np.empty(self.rows, dtype=np.int32)
        start = 0
        for values, rows in self._values(name):
            if values is None:
                codes[start : start + rows] = known.setdefault("", len(known))
                start += rows
                continue
            for chunk in values.cast("string").iterchunks():
                part = chunk.fill_null("").dictionary_encode()
                texts = part.dictionary.to_pylist()
                own = np.array([known.setdefault(text, len(known)) for text in texts], np.int32)
                codes[start : start + len(part)] = own[part.indices.to_numpy()]
                start += len(part)
        return Coded(np.array(list(known), dtype=STRING), codes)

    def slices(self) -> Iterator[dict[str, Shaped[np.ndarray, " _n"]]]:
        """Yield all columns of some consecutive rows at a time."""
        for path in self._paths:
            with _Readable(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False):
                    held = {name: _chunked(batch.column(name)) for name in batch.schema.names}
                    yield {
                        name: array(name, held[name])
                        if name in held
                        else np.full(batch.num_rows, _unknown(name), dtype=_kind(name))
                        for name in self._names
                    }

    def _values(self, name: str) -> Iterator[tuple[Any, int]]:
        """Yield the Arrow column of each file, None where it has none, with its number of rows."""
        for path, held, rows in zip(self._paths, self._held, self._lengths, strict=True):
            if name not in held:
                yield None, rows
                continue
            with _Readable(path) as file:
                yield file.read(columns=[name], use_threads=False).column(0), rows


def array(name: str, values: Any) -> Shaped[np.ndarray, " _n"]:
    """Make an array of a list, or of a chunked Arrow array, with the type of this column."""
    if hasattr(values, "iterchunks"):
        return _from_arrow(name, values)
    if name in TEXTS:
        return np.array(["" if value is None else str(value) for value in values], dtype=STRING)
    if name in WHOLES:
        return np.array([int(value) for value in values], dtype=np.int64)
    empty = (None, "")
    return np.array([np.nan if v in empty else float(v) for v in values], dtype=np.float64)


def _from_arrow(name: str, values: Any) -> Shaped[np.ndarray, " _n"]:
    if name not in TEXTS:
        return np.asarray(values.to_numpy()).astype(_kind(name), copy=False)
    texts = np.empty(len(values), dtype=STRING)
    start = 0
    for chunk in values.cast("string").iterchunks():
        for at in range(0, len(chunk), _ROWS_AT_ONCE):
            part = chunk.slice(at, _ROWS_AT_ONCE).fill_null("").dictionary_encode()
            known = np.array(part.dictionary.to_pylist(), dtype=STRING)
            texts[start : start + len(part)] = known[part.indices.to_numpy()]
            start += len(part)
    return texts


def _kind(name: str) -> Any:
    return STRING if name in TEXTS else np.int64 if name in WHOLES else np.float64


def _unknown(name: str) -> Any:
    return "" if name in TEXTS else 0 if name in WHOLES else np.nan


def _chunked(values: Any) -> Any:
    arrow, _ = pyarrow_for("A Parquet score table")
    return arrow.chunked_array([values])


class _Readable:
    """A Parquet file, open; errors of reading it name it."""

    def __init__(self, path: Path) -> None:
        self._arrow, self._parquet = pyarrow_for("A Parquet score table")
        self._path = path

    @cached_property
    def _file(self) -> Any:
        return self._parquet.ParquetFile(self._path, pre_buffer=False)

    def __enter__(self) -> Any:
        try:
            return self._file
        except (self._arrow.ArrowException, OSError) as error:
            raise MissingDataError(damaged(self._path, str(error))) from error

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if "_file" in self.__dict__:
            self._file.close()
        if isinstance(error, self._arrow.ArrowException | OSError):
            raise MissingDataError(damaged(self._path, str(error))) from error


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """One row per image, by column; rebuild any number from it without running a detector again.

    Columns: path, label, generator, kind, source, split, format, sha256 (of the file; texts, "" = unknown; label 0 or
    1), width, height (of the file; 0 = unknown), jpeg_quality, ``logit_<question>``,
    ``<mask>_tp/fp/fn/tn`` at MAP_THRESHOLD, ``<mask>_tp@<t>/fp@<t>`` at the thresholds of
    ``localisation.GRID`` where not all pixels are true, ``<mask>_auroc`` and
    ``<mask>_best_threshold/tp/fp`` where a part is (NaN = not there: no JPEG, no answer, no ground
    truth), mask_error ("" = masks could be read; else the image is scored without them), error ("" =
    scored).

    Attributes:
        columns: Arrays of the same length by name; a table on disk reads each at first use.
    """

    columns: Mapping[str, Shaped[np.ndarray, " n"]]

    def __post_init__(self) -> None:
        if isinstance(self.columns, StoredColumns):
            return
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Columns of different lengths: {lengths}.")

    def __len__(self) -> int:
        if isinstance(self.columns, StoredColumns):
            return self.columns.rows
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> Shaped[np.ndarray, " n"]:
        """Return a column.

        Raises:
            MissingDataError: If there is none of this name; the message lists the others.
        """
        if name not in self.columns:
            raise MissingDataError(
                f"The score table has no column {name!r}; it has {', '.join(self.columns)}."
            )
        return self.columns[name]

    def coded(self, name: str) -> Coded:
        """Return a column of texts as each text once and a number for every row.

        Raises:
            MissingDataError: If there is none of this name.
        """
        if isinstance(self.columns, StoredColumns) and name in self.columns:
            return self.columns.coded(name)
        names, codes = np.unique(self[name], return_inverse=True)
        return Coded(names, codes)

    def where(self, rows: Shaped[np.ndarray, " n"] | slice) -> ScoreTable:
        """Return the rows that a boolean array marks, or a slice; all columns of them are then in memory."""
        return ScoreTable({name: column[rows] for name, column in self.columns.items()})

    @property
    def questions(self) -> tuple[str, ...]:
        """Image-level questions with a logit, in the order of their columns."""
        start = "logit_"
        return tuple(name[len(start) :] for name in self.columns if name.startswith(start))

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Path and error of the images that could not be scored."""
        failed = self["error"] != ""
        return tuple(
            zip(self["path"][failed].tolist(), self["error"][failed].tolist(), strict=True)
        )

    def pixels(self, mask: str) -> PixelCounts:
        """Return the pixel counts of a mask, NaN for images without ground truth or map."""
        return PixelCounts(**{count: self[f"{mask}_{count}"] for count in COUNTS})

    def to_csv(self, path: Path) -> None:
        """Write as CSV, complete or not at all; ``read`` gives back the same numbers."""
        with (
            complete_or_absent(path) as unfinished,
            unfinished.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            for part in self._slices():
                # tolist: Python's shortest exact floats, not NumPy's representation.
                texts = (_texts(name, column) for name, column in part.columns.items())
                writer.writerows(zip(*texts, strict=True))

    def to_parquet(self, path: Path) -> None:
        """Write as Parquet, complete or not at all.

        Raises:
            MissingExtraError: If pyarrow is not installed.
        """
        _, parquet = pyarrow_for("A Parquet score table")
        first, *others = self._slices()
        start = first.to_arrow()
        with (
            complete_or_absent(path) as unfinished,
            parquet.ParquetWriter(unfinished, start.schema) as writer,
        ):
            writer.write_table(start)
            for part in others:
                writer.write_table(part.to_arrow())

    def to_arrow(self) -> Any:
        """Return as an Arrow table, NaN as null.

        Raises:
            MissingExtraError: If pyarrow is not installed.
        """
        arrow, _ = pyarrow_for("A Parquet score table")
        kinds = {name: arrow.string() for name in TEXTS}
        kinds |= {name: arrow.int64() for name in WHOLES}
        return arrow.table(
            {
                name: arrow.array(
                    column.tolist() if name in TEXTS else column,
                    kinds.get(name, arrow.float64()),
                    from_pandas=True,
                )
                for name, column in self.columns.items()
            }
        )

    @classmethod
    def from_arrow(cls, table: Any) -> ScoreTable:
        """Take over an Arrow table; null is NaN, or "" in texts.

        Raises:
            MissingDataError: If it is no score table.
        """
        return _checked({name: table[name] for name in table.column_names}, "The table")

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Any]]) -> ScoreTable:
        """Put rows below each other; a column for each name that occurs."""
        names = list(dict.fromkeys(name for row in rows for name in row if name != "error"))
        return cls(
            {name: array(name, [row.get(name) for row in rows]) for name in (*names, "error")}
        )

    @classmethod
    def read(cls, path: Path) -> ScoreTable:
        """Read a table written by ``to_csv`` or ``to_parquet``; the suffix says which.

        Raises:
            MissingDataError: If the file is not there or is no score table.
            MissingExtraError: If it is a Parquet file and pyarrow is not installed.
        """
        if not path.is_file():
            raise MissingDataError(f"No score table at {path}: run an evaluation first.")
        if path.suffix.lower() != ".parquet":
            return _checked(_read_csv(path), str(path))
        try:
            stored = StoredColumns([path])
        except MissingDataError as error:
            raise MissingDataError(f"{path} is no score table: {error.__cause__}.") from error
        _check_names(stored, str(path))
        return cls(stored)

    def _slices(self) -> Iterator[ScoreTable]:
        if isinstance(self.columns, StoredColumns) and len(self):
            yield from map(ScoreTable, self.columns.slices())
            return
        for start in range(0, max(len(self), 1), _ROWS_AT_ONCE):
            yield self.where(slice(start, start + _ROWS_AT_ONCE))


def _checked(raw: Mapping[str, Any], what: str) -> ScoreTable:
    _check_names(raw, what)
    try:
        return ScoreTable({name: array(name, values) for name, values in raw.items()})
    except ValueError as error:
        raise MissingDataError(f"{what} is no score table: {error}.") from error


def _check_names(names: Collection[str], what: str) -> None:
    missing = [name for name in ("path", "label", "error") if name not in names]
    if missing:
        raise MissingDataError(f"{what} is no score table: it has no column {missing[0]!r}.")


def _texts(name: str, column: Shaped[np.ndarray, " n"]) -> list[Any]:
    values: list[Any] = column.tolist()
    if name in TEXTS or name in WHOLES:
        return values
    counts = name.split("@", maxsplit=1)[0].rsplit("_", 1)[-1] in COUNTS
    return ["" if math.isnan(v) else int(v) if counts else v for v in values]


def _read_csv(path: Path) -> dict[str, list[Any]]:
    header, rows = read_lists(path)
    if any(len(row) != len(header) for row in rows):
        raise MissingDataError(f"{path} is no score table: its rows differ in length.")
    return {name: [row[at] for row in rows] for at, name in enumerate(header)}


_AT_ONCE = 100_000  # names made into Python objects at a time


def same_sizes(
    width: Int[np.ndarray, " n"],
    height: Int[np.ndarray, " n"],
    truth: Int[np.ndarray, " n"],
    draw: Int[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """Mark as many images of either class in every bucket of sizes, as many as there are of both.

    A bucket is half an octave of the shorter and of the longer side (512 to 723 px, say). Which
    images of the larger class stay depends on their file names alone: neither the order of the list
    nor any score has a say. Within a bucket sizes may still differ, and so may content.

    Args:
        width: Pixels; 0 = unknown, never marked.
        height: Pixels; 0 = unknown, never marked.
        truth: 1 or 0; others are never marked.
        draw: As ``draws_of`` makes them.
    """
    known: Bool[np.ndarray, " n"] = (width > 0) & (height > 0) & ((truth == 0) | (truth == 1))
    rows = np.flatnonzero(known)
    if not len(rows):
        return known
    short, long = (side(width[rows], height[rows]) for side in (np.minimum, np.maximum))
    bucket = 1000 * _half_octave(short) + _half_octave(long)
    _, bucket = np.unique(bucket, return_inverse=True)
    group = 2 * bucket + truth[rows]
    order = np.lexsort((draw[rows], group))
    counts = np.bincount(group, minlength=2 * (int(bucket.max()) + 1))
    starts = np.cumsum(counts) - counts
    place = np.empty(len(rows), dtype=np.int64)  # of each image among those of its bucket and class
    place[order] = np.arange(len(rows)) - starts[group[order]]
    kept = np.zeros(len(width), dtype=np.bool_)
    kept[rows[place < counts.reshape(-1, 2).min(axis=1)[bucket]]] = True
    return kept


def _half_octave(side: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.asarray(np.floor(2.0 * np.log2(side)), dtype=np.int64)


def draws_of(path: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the number by which each image is drawn: the checksum of its file's name, the last part of its path."""
    draws = np.empty(len(path), dtype=np.int64)
    for start in range(0, len(path), _AT_ONCE):
        names = [str(name).replace("\\", "/") for name in path[start : start + _AT_ONCE].tolist()]
        draws[start : start + len(names)] = [
            zlib.crc32(name[name.rfind("/") + 1 :].encode()) for name in names
        ]
    return draws
