"""Score tables on disk that grow part by part, and go on after any interruption.

A folder per column is a ledger (``data.ledger``) of scores. Images are decoded once for all columns that lack them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gammascope.data import ledger
from gammascope.errors import MissingDataError
from gammascope.evaluation.score_columns import StoredColumns
from gammascope.evaluation.scoring import (
    Column,
    Predict,
    Progress,
    Row,
    ScoreTable,
    Streamed,
    refuse_all_failed,
    rows_ahead,
)
from gammascope.files import pyarrow_for
from gammascope.sample import Entry

FORMAT = 1
"""Raised whenever older scores would no longer mean the same."""

_FEATURE = "A resumable evaluation"


@dataclass(frozen=True, slots=True)
class ScoreStore:
    """A folder of scores.

    Attributes:
        folder: Made if it is not there.
        rows: A part is written after so many rows, in all columns together, at the latest.
        seconds: A part is written after so many seconds at the latest: what is not written yet is
            lost if the process is killed.
        threads: How many images are worked on at once; see ``scoring.rows_ahead``.
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
