"""Score tables on disk that grow part by part, and go on after any interruption.

A folder per column holds ``run.json``, which says what the scores are of, and parts
``<first>-<end>.parquet``: the rows of the images from ``first`` up to, not including, ``end`` in
the order of the list. A part appears whole or not at all, so that a run that was killed loses at
most what it had not written, and no image is ever there twice. Images are decoded once for all
columns that lack them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gammascope.data.manifest import complete_or_absent
from gammascope.errors import MissingDataError, RecipeError
from gammascope.evaluation.scoring import (
    Column,
    Predict,
    Progress,
    Row,
    ScoreTable,
    refuse_all_failed,
    rows_of,
)
from gammascope.imaging.cells import pyarrow_for
from gammascope.sample import Entry

FORMAT = 1
"""Raised whenever older scores would no longer mean the same."""

RUN = "run.json"

_PART = re.compile(r"(\d{10})-(\d{10})\.parquet")
_LOCK = ".lock"
_FEATURE = "A resumable evaluation"


@dataclass(frozen=True, slots=True)
class ScoreStore:
    """A folder of scores.

    Attributes:
        folder: Made if it is not there.
        rows: A part is written after so many rows, in all columns together, at the latest.
        seconds: A part is written after so many seconds at the latest: what is not written yet is
            lost if the process is killed.
    """

    folder: Path
    rows: int = 8192
    seconds: float = 30.0

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
        with _alone_in(self.folder):
            images = {"images": len(entries), "images_sha256": _digest(entries)}
            common = {"format": FORMAT} | dict(detector) | images
            for name, column in columns.items():
                _claim(self.folder / name, common | {"column": dict(column.definition)})
            missing = {name: _missing(self.folder / name, len(entries)) for name in columns}
            done = len(entries) - sum(len(stretch) for stretch, _ in _stretches(missing))
            for stretch, names in _stretches(missing):
                some = {name: columns[name] for name in names}
                with _Parts(self, names, stretch.start) as parts:
                    for at in stretch:
                        parts.add(rows_of(predict, entries[at], some))
                        done += 1
                        if progress is not None:
                            progress(done, len(entries))

    def read(self, column: str) -> ScoreTable:
        """Return all rows of a column, in the order of the images.

        Raises:
            MissingDataError: If some are missing, a part is broken, or no image could be scored.
        """
        arrow, parquet = pyarrow_for(_FEATURE)
        folder = self.folder / column
        run = _read_run(folder)
        if run is None:
            raise MissingDataError(f"No scores at {folder}: run the evaluation first.")
        left = sum(len(stretch) for stretch in _missing(folder, run["images"]))
        if left:
            raise MissingDataError(
                f"{folder} lacks {left} of {run['images']} images: run the same command again."
            )
        tables = []
        for path, span in _parts(folder):
            try:
                table = parquet.read_table(path)
            except (arrow.ArrowException, OSError) as error:
                raise MissingDataError(_damaged(path, str(error))) from error
            if table.num_rows != len(span):
                raise MissingDataError(_damaged(path, f"{table.num_rows} rows of {len(span)}"))
            tables.append(table)
        scores = ScoreTable.from_arrow(arrow.concat_tables(tables, promote_options="default"))
        refuse_all_failed(scores)
        return scores


@dataclass(frozen=True, slots=True)
class StoredTables(Mapping[str, ScoreTable]):
    """Score tables of columns by name, each read when it is asked for: only one need be in memory.

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
        _, parquet = pyarrow_for(_FEATURE)
        count = len(self.rows.get(self.names[0], ()))
        for name, rows in self.rows.items():
            span = f"{self.first:010d}-{self.first + count:010d}"
            path = self.store.folder / name / f"{span}.parquet"
            with complete_or_absent(path) as unfinished:
                parquet.write_table(ScoreTable.of_rows(rows).to_arrow(), unfinished)
                with unfinished.open("rb") as file:  # the name must not outlive a power cut alone
                    os.fsync(file.fileno())
        self.rows, self.first = {}, self.first + count
        self.written_at = time.monotonic()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process away: the system lets go when this one ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as lock:
        try:
            import fcntl
        except ImportError:  # Windows: two runs at once are up to the user
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MissingDataError(f"Another process is writing scores to {folder}.") from error
        except OSError:
            pass  # a file system without locks
        for left in folder.glob("*/.*.part"):  # of a process that was killed
            left.unlink()
        yield


def _claim(folder: Path, run: Mapping[str, Any]) -> None:
    known = _read_run(folder)
    if known is None:
        with complete_or_absent(folder / RUN) as unfinished:
            unfinished.write_text(json.dumps(run, indent=1) + "\n", "utf-8")
        return
    for name in {**known, **run}:
        if known.get(name) != run.get(name):
            raise RecipeError(
                f"{folder} holds scores of another run: {name} is {_short(known.get(name))} there "
                f"and {_short(run.get(name))} here. Choose another folder, or delete this one."
            )


def _read_run(folder: Path) -> dict[str, Any] | None:
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MissingDataError(f"{folder / RUN} is broken ({error}): delete {folder}.") from error
    return run


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _parts(folder: Path) -> list[tuple[Path, range]]:
    """List parts with the images they hold, in order."""
    found = [
        (path, range(int(match[1]), int(match[2])))
        for path in sorted(folder.glob("*.parquet"))
        if (match := _PART.fullmatch(path.name))
    ]
    for (_, before), (path, after) in pairwise(found):
        if after.start < before.stop:
            raise MissingDataError(_damaged(path, "it repeats images of the part before"))
    return found


def _damaged(path: Path, why: str) -> str:
    return f"{path} is damaged ({why}): delete it, and the next run scores its images again."


def _missing(folder: Path, images: int) -> list[range]:
    """List the stretches of images that no part holds."""
    edges = [0, *(edge for _, span in _parts(folder) for edge in (span.start, span.stop)), images]
    gaps = (range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True))
    return [gap for gap in gaps if gap]


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
    for entry in entries:
        masks = (entry.generated_path, entry.edited_path)
        texts = (entry.generator, entry.kind, entry.source, entry.split, *masks)
        row = "\0".join("" if text is None else str(text) for text in texts)
        digest.update(f"{entry.path.absolute()}\0{int(entry.label)}\0{row}\n".encode())
    return digest.hexdigest()
