"""A detector and a list of images in, a table with one row per image out, for each column.

A *column* is what a detector is shown in an evaluation: images as they are, or changed in one
stated way. Each image is decoded once for all columns.

A ``ScoreStore`` keeps tables on disk that grow part by part, and goes on after any interruption: a folder per column is
a ledger (``data.ledger``) of scores.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float

from gammascope.data import ledger
from gammascope.data.manifest import load_sample
from gammascope.errors import GammascopeError, MissingDataError
from gammascope.evaluation.localisation import best_threshold, counts_over_grid, pixel_auroc
from gammascope.evaluation.metrics import count_pixels
from gammascope.evaluation.score_table import (
    COUNTS,
    MAP_THRESHOLD,
    MASKS,
    ScoreTable,
    StoredColumns,
)
from gammascope.files import pyarrow_for, shown
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Image, Mask, Sample

FORMAT = 1
"""Raised whenever older scores would no longer mean the same."""

_FEATURE = "A resumable evaluation"
_TOGETHER = 4  # columns of an image that are examined together, and so in memory


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
    row: Row = dict(zip(COUNTS, counts, strict=True))
    if truth.all():
        return row  # nothing to locate
    row |= counts_over_grid(probability, truth)
    if truth.any():
        best = best_threshold(probability, truth)
        row["auroc"] = pixel_auroc(probability, truth)
        row |= {"best_threshold": best.threshold, "best_tp": best.tp, "best_fp": best.fp}
    return row


@dataclass(frozen=True, slots=True)
class ScoreStore:
    """A folder of scores.

    Attributes:
        folder: Made if it is not there.
        rows: A part is written after so many rows, in all columns together, at the latest.
        seconds: A part is written after so many seconds at the latest: what is not written yet is
            lost if the process is killed.
        threads: How many images are worked on at once; see ``rows_ahead``.
    """

    folder: Path
    rows: int = 8192
    seconds: float = 30.0
    threads: int = 1

    def score(
        self,
        predict: Predict,
        entries: Sequence[Entry],
        columns: Mapping[str, Column],
        detector: Mapping[str, Any],
        progress: Progress | None = None,
    ) -> None:
        """Score images in each column, but for what the folder holds already.

        A file that cannot be read or scored becomes a row with its error; see ``scoring.score``.
        The memory needed does not depend on how many images there are.

        Args:
            predict: Answers for one sample.
            entries: What to score.
            columns: What the detector is shown, by name; names are those of folders.
            detector: What tells its scores from another's (method, hash of weights); plain types.
            progress: Called with (done, all) after each image.

        Raises:
            RecipeError: If a column of this name holds scores of another detector, of other images
                or of images changed in another way.
            MissingDataError: If there are no entries, parts contradict each other, or another
                process is writing to the folder.
            MissingExtraError: If pyarrow is not installed.
        """
        pyarrow_for(_FEATURE)
        if not entries:
            raise MissingDataError("No image to score: the list of entries is empty.")
        with ledger.alone_in(self.folder, "scores"):
            images = {"images": len(entries), "images_sha256": _digest(entries)}
            common = {"format": FORMAT} | dict(detector) | images
            for name, column in columns.items():
                run = common | {"column": dict(column.definition)}
                ledger.claim(self.folder / name, run, "scores")
            missing = {name: ledger.missing(self.folder / name, len(entries)) for name in columns}
            done = len(entries) - sum(len(stretch) for stretch, _ in _stretches(missing))
            for stretch, names in _stretches(missing):
                some = {name: columns[name] for name in names}
                with _Parts(self, names, stretch.start) as parts:
                    for rows in rows_ahead(predict, entries, stretch, some, self.threads):
                        parts.add(rows)
                        done += 1
                        if progress is not None:
                            progress(done, len(entries))

    def read(self, column: str) -> ScoreTable:
        """Return all rows of a column, in the order of the images; the other columns stay on disk.

        Raises:
            MissingDataError: If some are missing, a part is broken, or no image could be scored.
        """
        pyarrow_for(_FEATURE)
        folder = self.folder / column
        run = ledger.read_run(folder)
        if run is None:
            raise MissingDataError(f"No scores at {folder}: run the evaluation first.")
        left = sum(len(stretch) for stretch in ledger.missing(folder, run["images"]))
        if left:
            raise MissingDataError(
                f"{folder} lacks {left} of {run['images']} images: run the same command again."
            )
        held = ledger.parts(folder)
        stored = StoredColumns([path for path, _ in held], [len(span) for _, span in held])
        scores = ScoreTable(stored)
        refuse_all_failed(scores)
        return scores


@dataclass(frozen=True, slots=True)
class StoredTables(Mapping[str, ScoreTable]):
    """Score tables of columns by name, each read at every use: only one need be in memory.

    Attributes:
        store: Where they are.
        names: Of the columns.
    """

    store: ScoreStore
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> ScoreTable:
        if name not in self.names:
            raise KeyError(name)
        return self.store.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(slots=True)
class _Parts:
    """Rows of consecutive images on their way to the disk.

    Leaving it writes what is there, also after an error or Ctrl-C: every row in it is whole.
    """

    store: ScoreStore
    names: tuple[str, ...]
    first: int
    rows: dict[str, list[Row]] = field(default_factory=dict)
    written_at: float = field(default_factory=time.monotonic)

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, rows: Mapping[str, Row]) -> None:
        """Take the rows of the next image."""
        for name, row in rows.items():
            self.rows.setdefault(name, []).append(row)
        held = len(self.rows[self.names[0]]) * len(self.names)
        if held >= self.store.rows or time.monotonic() - self.written_at >= self.store.seconds:
            self._write()

    def _write(self) -> None:
        count = len(self.rows.get(self.names[0], ()))
        for name, rows in self.rows.items():
            table = ScoreTable.of_rows(rows).to_arrow()
            ledger.write_part(self.store.folder / name, self.first, table)
        self.rows, self.first = {}, self.first + count
        self.written_at = time.monotonic()


def _stretches(missing: Mapping[str, list[range]]) -> Iterator[tuple[range, tuple[str, ...]]]:
    """Yield stretches of images with the columns that lack them."""
    edges = {edge for gaps in missing.values() for gap in gaps for edge in (gap.start, gap.stop)}
    for start, stop in pairwise(sorted(edges)):
        names = tuple(name for name, gaps in missing.items() if any(start in gap for gap in gaps))
        if names:
            yield range(start, stop), names


def _digest(entries: Sequence[Entry]) -> str:
    """Tell lists of images apart, from wherever the program was started."""
    digest = hashlib.sha256()
    streamed = isinstance(entries, Streamed)
    for entry in entries:
        masks = (entry.generated_path, entry.edited_path)
        texts = (entry.generator, entry.kind, entry.source, entry.split, *masks)
        row = "\0".join("" if text is None else str(text) for text in texts)
        place = entry.path if streamed else entry.path.absolute()
        digest.update(f"{place}\0{int(entry.label)}\0{row}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
