"""A detector and a list of images in, a table with one row per image out, for each column.

A *column* is what a detector is shown in an evaluation: images as they are, or changed in one
stated way. Each image is decoded once for all columns.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from gammascope.data.manifest import load_sample
from gammascope.data.text_tables import read_lists
from gammascope.errors import GammascopeError, MissingDataError
from gammascope.evaluation.localisation import best_threshold, counts_over_grid, pixel_auroc
from gammascope.evaluation.metrics import PixelCounts, count_pixels
from gammascope.evaluation.score_columns import TEXTS, WHOLES, Coded, StoredColumns, array
from gammascope.files import complete_or_absent, pyarrow_for
from gammascope.imaging.decode import decode
from gammascope.names import shown
from gammascope.sample import Entry, Image, Mask, Sample

MASKS = ("generated", "edited")
"""Names of the masks that are scored where there is ground truth."""

MAP_THRESHOLD = 0.5
"""A pixel is marked where its probability is above this."""

_COUNTS = ("tp", "fp", "fn", "tn")
_TOGETHER = 4  # columns of an image that are looked at together, and so in memory
_ROWS_AT_ONCE = 100_000  # made into Python objects at a time, when tables are written and read


@runtime_checkable
class Scores(Protocol):
    """What scoring needs of a detector's answer for one image."""

    @property
    def answers(self) -> Mapping[str, float]:
        """Image-level logits by question ("generated", "edited")."""

    @property
    def maps(self) -> Mapping[str, Float[np.ndarray, "h w"]]:
        """Probabilities 0..1 in the image's frame by mask; NaN where no view looked."""


@runtime_checkable
class Column(Protocol):
    """What a detector is shown instead of an image; equal columns show the same."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """All that decides what is shown, in plain types: scores are kept with it."""

    def __call__(self, sample: Sample) -> Sample:
        """Return what is shown: the very same object where nothing changes.

        Masks are None where the change moves pixels.

        Raises:
            GammascopeError: If this image cannot be changed so; its row says why.
        """

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class AsIs:
    """The column of images as they are."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """Nothing is changed."""
        return {"change": "none"}

    def __call__(self, sample: Sample) -> Sample:
        """Return the sample."""
        return sample


Predict: TypeAlias = Callable[[Sample], Scores]
"""Answers for one sample; called from several threads where ``threads`` is above 1."""


@runtime_checkable
class PredictsTogether(Protocol):
    """A ``Predict`` that looks at several samples in common batches: an image in all of its columns, say."""

    def __call__(self, sample: Sample) -> Scores:
        """Answer for one sample."""

    def of_all(self, samples: Sequence[Sample]) -> Sequence[Scores]:
        """Answer for each of several samples."""


@runtime_checkable
class Streamed(Protocol):
    """A list of images whose files are no files: their contents come one after the other."""

    def contents(self, stretch: range) -> Iterator[bytes]:
        """Yield the content of each image of a stretch, in order; empty where there is none."""


Progress: TypeAlias = Callable[[int, int], None]
Row: TypeAlias = dict[str, Any]
"""Values of one image by name; what is not there is missing."""


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
        return PixelCounts(**{count: self[f"{mask}_{count}"] for count in _COUNTS})

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


def score(
    predict: Predict,
    entries: Sequence[Entry],
    *,
    recode: Callable[[Image], Image] | None = None,
    progress: Progress | None = None,
) -> ScoreTable:
    """Run a detector over images and keep one row for each, in their order.

    A file that cannot be read or scored becomes a row with its error and no numbers: one broken
    file does not stop an evaluation, and is not silently dropped either.

    Args:
        predict: Answers for one sample.
        entries: What to score.
        recode: Applied to every decoded image first (a JPEG round trip, say); keeps the size.
        progress: Called with (done, all) after each image.

    Raises:
        MissingDataError: If there are no entries, or none of them could be scored.
        ValueError: If ``recode`` changes the size of an image.
    """
    column = AsIs() if recode is None else _Recode(recode)
    return score_columns(predict, entries, {"": column}, progress=progress)[""]


def score_columns(
    predict: Predict,
    entries: Sequence[Entry],
    columns: Mapping[str, Column],
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, ScoreTable]:
    """Run a detector over images once for each column, keeping all rows in memory; see ``score`` and ``rows_ahead``.

    Raises:
        MissingDataError: If there are no entries, or none of them could be scored in some column.
    """
    if not entries:
        raise MissingDataError("No image to score: the list of entries is empty.")
    rows: dict[str, list[Row]] = {name: [] for name in columns}
    made = rows_ahead(predict, entries, range(len(entries)), columns, threads)
    for done, of_image in enumerate(made, start=1):
        for name, row in of_image.items():
            rows[name].append(row)
        if progress is not None:
            progress(done, len(entries))
    tables = {name: ScoreTable.of_rows(of) for name, of in rows.items()}
    for table in tables.values():
        refuse_all_failed(table)
    return tables


def refuse_all_failed(table: ScoreTable) -> None:
    """Tell a broken set-up from broken files.

    Raises:
        MissingDataError: If no image could be scored.
    """
    if (table["error"] != "").all():
        path, error = table.failures[0]
        raise MissingDataError(f"None of {len(table)} images could be scored; {path}: {error}")


def rows_ahead(
    predict: Predict,
    entries: Sequence[Entry],
    stretch: range,
    columns: Mapping[str, Column],
    threads: int = 1,
) -> Iterator[dict[str, Row]]:
    """Yield the rows of a stretch of images in order, as ``rows_of``, while threads are at the next ones.

    Each thread has an image of its own from its bytes to its rows, as in a scan: decoders, encoders and networks let
    other threads run meanwhile, so that nothing waits for anything. As many images as threads are in memory.
    What ``predict`` raises comes where the rows of its image would.

    Args:
        predict: Answers for one sample.
        entries: Images; what is no file must be ``Streamed``.
        stretch: Which of them.
        columns: What the detector is shown, by name.
        threads: 1: this thread does it all.
    """
    sources: Iterator[Path | bytes] = (
        entries.contents(stretch)
        if isinstance(entries, Streamed)
        else (entries[at].path for at in stretch)
    )
    images = zip((entries[at] for at in stretch), sources, strict=True)
    if threads == 1:
        for entry, source in images:
            yield rows_of(predict, entry, columns, source)
        return
    waiting: deque[Future[dict[str, Row]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="score") as pool:
        try:
            for entry, source in images:
                waiting.append(pool.submit(rows_of, predict, entry, columns, source))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for begun in waiting:
                begun.cancel()


def rows_of(
    predict: Predict,
    entry: Entry,
    columns: Mapping[str, Column],
    source: Path | bytes | None = None,
) -> dict[str, Row]:
    """Decode an image once and return its row in each column.

    Where columns show the same, the detector runs once. An image whose masks cannot be read is
    scored without them.

    Args:
        predict: Answers for one sample.
        entry: The image.
        columns: What the detector is shown, by name.
        source: Its file, or what is in it; None: ``entry.path``.
    """
    known = row_of(entry)
    try:
        decoded = decode(entry.path if source is None else source)
        known["format"], known["jpeg_quality"] = decoded.format, decoded.jpeg_quality
        known["sha256"] = hashlib.sha256(decoded.content).hexdigest()
        known["height"], known["width"] = decoded.image.shape[:2]
        sample = _sample(entry, decoded.image, known)
    except (GammascopeError, MemoryError) as problem:
        failed = known | {"error": _said(entry, problem)}
        return {name: dict(failed) for name in columns}
    waiting: dict[Column, Sample] = {}
    stands_for: dict[Column, Column] = {}
    answered: dict[Column, Row] = {}
    for column in columns.values():
        if column in stands_for or column in answered:
            continue
        try:
            changed = column(sample)
        except (GammascopeError, MemoryError) as problem:
            answered[column] = {"error": _said(entry, problem)}
            continue
        stands_for[column] = as_is = AsIs() if changed is sample else column
        if as_is not in answered:
            waiting.setdefault(as_is, changed)
        if len(waiting) == _TOGETHER:
            answered |= _answers(predict, entry, waiting)
            waiting = {}
    answered |= _answers(predict, entry, waiting)
    return {name: known | answered[stands_for.get(of, of)] for name, of in columns.items()}


def _answers(predict: Predict, entry: Entry, shown: Mapping[Column, Sample]) -> dict[Column, Row]:
    """Ask for all samples together if that can be done, else one by one: one that fails is no other's loss."""
    if isinstance(predict, PredictsTogether) and len(shown) > 1:
        try:
            every = predict.of_all(list(shown.values()))
            pairs = zip(shown.items(), every, strict=True)
            return {column: _measured(scores, sample) for (column, sample), scores in pairs}
        except (GammascopeError, MemoryError):
            pass
    answered: dict[Column, Row] = {}
    for column, sample in shown.items():
        try:
            answered[column] = _measured(predict(sample), sample)
        except (GammascopeError, MemoryError) as problem:
            answered[column] = {"error": _said(entry, problem)}
    return answered


@dataclass(frozen=True, slots=True)
class _Recode:
    """A function on pixels as a column."""

    recode: Callable[[Image], Image]

    @property
    def definition(self) -> Mapping[str, Any]:
        return {"change": repr(self.recode)}

    def __call__(self, sample: Sample) -> Sample:
        recoded = self.recode(sample.image)
        (height, width), size = sample.image.shape[:2], recoded.shape[:2]
        if size != (height, width):
            raise ValueError(
                f"recode made {sample.entry.path} {size[1]}x{size[0]} from {width}x{height} "
                "pixels: it must keep the size."
            )
        return replace(sample, image=recoded)


def row_of(entry: Entry) -> Row:
    """Return what an entry tells about its row of a score table; the rest is as of an image that is not decoded."""
    return {
        "path": shown(entry.path),
        "label": int(entry.label),
        "generator": entry.generator or "",
        "kind": entry.kind or "",
        "source": entry.source or "",
        "split": entry.split,
        "format": "",
        "width": 0,
        "height": 0,
        "jpeg_quality": None,
        "sha256": "",
        "mask_error": "",
        "error": "",
    }


def _sample(entry: Entry, image: Image, row: Row) -> Sample:
    """Load the masks too; one that cannot be used leaves a message in the row."""
    try:
        return load_sample(entry, image)
    except MissingDataError as problem:
        row["mask_error"] = str(problem)
        return Sample(entry, image, None, None)


def _said(entry: Entry, problem: Exception) -> str:
    if isinstance(problem, MemoryError):
        return f"{entry.path.name}: not enough memory to score it."
    return str(problem)


def _measured(scores: Scores, sample: Sample) -> Row:
    row: Row = {f"logit_{question}": float(logit) for question, logit in scores.answers.items()}
    for mask, truth in zip(MASKS, (sample.generated, sample.edited), strict=True):
        if truth is not None and mask in scores.maps:
            measured = _located(scores.maps[mask], truth)
            row |= {f"{mask}_{name}": number for name, number in measured.items()}
    return row


def _located(probability: Float[np.ndarray, "h w"], truth: Mask) -> Row:
    counts = count_pixels(probability, truth, MAP_THRESHOLD)
    row: Row = dict(zip(_COUNTS, counts, strict=True))
    if truth.all():
        return row  # nothing to locate
    row |= counts_over_grid(probability, truth)
    if truth.any():
        best = best_threshold(probability, truth)
        row["auroc"] = pixel_auroc(probability, truth)
        row |= {"best_threshold": best.threshold, "best_tp": best.tp, "best_fp": best.fp}
    return row


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
    counts = name.split("@", maxsplit=1)[0].rsplit("_", 1)[-1] in _COUNTS
    return ["" if math.isnan(v) else int(v) if counts else v for v in values]


def _read_csv(path: Path) -> dict[str, list[Any]]:
    header, rows = read_lists(path)
    if any(len(row) != len(header) for row in rows):
        raise MissingDataError(f"{path} is no score table: its rows differ in length.")
    return {name: [row[at] for row in rows] for at, name in enumerate(header)}
