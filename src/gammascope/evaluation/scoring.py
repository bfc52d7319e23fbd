"""A detector and a list of images in, a table with one row per image out."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped

from gammascope.data.manifest import complete_or_absent, load_sample
from gammascope.errors import GammascopeError, MissingDataError
from gammascope.evaluation.metrics import PixelCounts, count_pixels
from gammascope.imaging.cells import pyarrow_for
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Image, Sample

MASKS = ("generated", "edited")
"""Names of the masks that are scored where there is ground truth."""

MAP_THRESHOLD = 0.5
"""A pixel is marked where its probability is above this."""

_TEXTS = ("path", "generator", "kind", "source", "split", "format", "error")
_WHOLES = ("label", "width", "height")
_COUNTS = ("tp", "fp", "fn", "tn")


class Scores(Protocol):
    """What scoring needs of a detector's answer for one image."""

    @property
    def answers(self) -> Mapping[str, float]:
        """Image-level logits by question ("generated", "edited")."""

    @property
    def maps(self) -> Mapping[str, Float[np.ndarray, "h w"]]:
        """Probabilities 0..1 in the image's frame by mask; NaN where no view looked."""


Predict: TypeAlias = Callable[[Sample], Scores]
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """One row per image, by column; rebuild any number from it without running a detector again.

    Columns: path, label, generator, kind, source, split, format (texts, "" = unknown; label 0 or
    1), width, height (0 = unknown), jpeg_quality, ``logit_<question>``, ``<mask>_tp/fp/fn/tn``
    (NaN = not there: no JPEG, no answer, no ground truth), error ("" = scored).

    Attributes:
        columns: Arrays of the same length by name.
    """

    columns: Mapping[str, Shaped[np.ndarray, " n"]]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Columns of different lengths: {lengths}.")

    def __len__(self) -> int:
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

    def where(self, rows: Shaped[np.ndarray, " n"]) -> ScoreTable:
        """Return the rows that a boolean array marks."""
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
            # tolist: Python's shortest exact floats, not NumPy's representation.
            writer.writerows(zip(*(_texts(name, self[name]) for name in self.columns), strict=True))

    def to_parquet(self, path: Path) -> None:
        """Write as Parquet, complete or not at all.

        Raises:
            MissingExtraError: If pyarrow is not installed.
        """
        arrow, parquet = pyarrow_for("A Parquet score table")
        table = arrow.table({name: column.tolist() for name, column in self.columns.items()})
        with complete_or_absent(path) as unfinished:
            parquet.write_table(table, unfinished)

    @classmethod
    def read(cls, path: Path) -> ScoreTable:
        """Read a table written by ``to_csv`` or ``to_parquet``; the suffix says which.

        Raises:
            MissingDataError: If the file is not there or is no score table.
            MissingExtraError: If it is a Parquet file and pyarrow is not installed.
        """
        if not path.is_file():
            raise MissingDataError(f"No score table at {path}: run an evaluation first.")
        raw = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
        missing = [name for name in ("path", "label", "error") if name not in raw]
        if missing:
            raise MissingDataError(f"{path} is no score table: it has no column {missing[0]!r}.")
        try:
            return cls({name: _array(name, values) for name, values in raw.items()})
        except ValueError as error:
            raise MissingDataError(f"{path} is no score table: {error}.") from error


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
    if not entries:
        raise MissingDataError("No image to score: the list of entries is empty.")
    rows: list[dict[str, Any]] = []
    for done, entry in enumerate(entries, start=1):
        row = _known(entry)
        try:
            row |= _measured(predict, entry, recode)
        except GammascopeError as problem:
            row["error"] = str(problem)
        rows.append(row)
        if progress is not None:
            progress(done, len(entries))
    table = _table(rows)
    if len(table.failures) == len(table):
        path, error = table.failures[0]
        raise MissingDataError(f"None of {len(table)} images could be scored; {path}: {error}")
    return table


def _known(entry: Entry) -> dict[str, Any]:
    return {
        "path": str(entry.path),
        "label": int(entry.label),
        "generator": entry.generator or "",
        "kind": entry.kind or "",
        "source": entry.source or "",
        "split": entry.split,
        "format": "",
        "width": 0,
        "height": 0,
        "error": "",
    }


def _measured(
    predict: Predict, entry: Entry, recode: Callable[[Image], Image] | None
) -> dict[str, Any]:
    decoded = decode(entry.path)
    sample = load_sample(entry, decoded.image)
    height, width = sample.image.shape[:2]
    if recode is not None:
        recoded = recode(sample.image)
        if recoded.shape[:2] != (height, width):
            raise ValueError(
                f"recode made {entry.path} {recoded.shape[1]}x{recoded.shape[0]} from "
                f"{width}x{height} pixels: it must keep the size."
            )
        sample = replace(sample, image=recoded)
    scores = predict(sample)
    row: dict[str, Any] = {"width": width, "height": height, "format": decoded.format}
    row["jpeg_quality"] = decoded.jpeg_quality
    row |= {f"logit_{question}": float(logit) for question, logit in scores.answers.items()}
    for mask, truth in zip(MASKS, (sample.generated, sample.edited), strict=True):
        if truth is not None and mask in scores.maps:
            counts = count_pixels(scores.maps[mask], truth, MAP_THRESHOLD)
            row |= {f"{mask}_{name}": n for name, n in zip(_COUNTS, counts, strict=True)}
    return row


def _table(rows: Sequence[Mapping[str, Any]]) -> ScoreTable:
    names = list(dict.fromkeys(name for row in rows for name in row if name != "error"))
    return ScoreTable(
        {name: _array(name, [row.get(name) for row in rows]) for name in (*names, "error")}
    )


def _array(name: str, values: Sequence[Any]) -> Shaped[np.ndarray, " _n"]:
    if name in _TEXTS:
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    if name in _WHOLES:
        return np.array([int(value) for value in values], dtype=np.int64)
    empty = (None, "")
    return np.array([np.nan if v in empty else float(v) for v in values], dtype=np.float64)


def _texts(name: str, column: Shaped[np.ndarray, " n"]) -> list[Any]:
    values: list[Any] = column.tolist()
    if name in _TEXTS or name in _WHOLES:
        return values
    counts = name.rsplit("_", 1)[-1] in _COUNTS
    return ["" if math.isnan(v) else int(v) if counts else v for v in values]


def _read_csv(path: Path) -> dict[str, list[Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if any(len(row) != len(header) for row in rows):
        raise MissingDataError(f"{path} is no score table: its rows differ in length.")
    return {name: [row[at] for row in rows] for at, name in enumerate(header)}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    _, parquet = pyarrow_for("A Parquet score table")
    columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return columns
