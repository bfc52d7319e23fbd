"""A folder of Parquet parts that grows and goes on after any interruption: whose it is, and what it lacks.

Long work over a list of images writes parts ``<first>-<end>.parquet``: the rows of the images from ``first`` up to, not
including, ``end`` in the order of the list. A part appears whole or not at all, so work that was killed loses at most
what it had not written, and no image is ever there twice. ``run.json`` says what the rows are of.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from gammascope.errors import MissingDataError, RecipeError
from gammascope.files import complete_or_absent, pyarrow_for

RUN = "run.json"

_PART = re.compile(r"(\d{10,})-(\d{10,})\.parquet")
_LOCK = ".lock"


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[None]:
    """Keep a second process away: the system lets go when this one ends, however it ends.

    Args:
        folder: Made if it is not there; what a killed process left half written in it is removed.
        what: What is written there, for the message ("scores").

    Raises:
        MissingDataError: If another process is there.
    """
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
            raise MissingDataError(f"Another process is writing {what} to {folder}.") from error
        except OSError:
            pass  # a file system without locks
        for left in (*folder.glob(".*.part"), *folder.glob("*/.*.part")):
            left.unlink()
        yield


def claim(folder: Path, run: Mapping[str, Any], what: str) -> None:
    """Say what the rows of a folder are of, or make sure that it says so already.

    Args:
        folder: Where ``run.json`` is, or gets written.
        run: Plain types.
        what: What the rows are, for the message ("scores").

    Raises:
        RecipeError: If the folder holds rows of another run; it names the first difference.
        MissingDataError: If ``run.json`` is broken.
    """
    known = read_run(folder)
    if known is None:
        with complete_or_absent(folder / RUN) as unfinished:
            unfinished.write_text(json.dumps(run, indent=1) + "\n", "utf-8")
        return
    differs = difference(known, run)
    if differs:
        raise RecipeError(
            f"{folder} holds {what} of another run: {differs}. Choose another folder, or delete this one."
        )


def difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say which setting differs first; "": none.

    >>> difference({"seed": 1, "side": 64}, {"seed": 2, "side": 64})
    'seed is 1 there and 2 here'
    """
    for name in {**known, **wanted}:
        there, here = known.get(name), wanted.get(name)
        if there != here:
            return f"{name} is {_short(there)} there and {_short(here)} here"
    return ""


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return what ``run.json`` says; None if there is none.

    Raises:
        MissingDataError: If it is broken.
    """
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MissingDataError(f"{folder / RUN} is broken ({error}): delete {folder}.") from error
    return run


def write_part(folder: Path, first: int, table: Any) -> Path:
    """Write the rows of consecutive images; the file is there whole or not at all, also after a power cut.

    Args:
        folder: Where it goes.
        first: Number of the first image.
        table: A ``pyarrow.Table`` with one row for each image.
    """
    _, parquet = pyarrow_for("Writing tables")
    path = folder / f"{first:010d}-{first + table.num_rows:010d}.parquet"
    with complete_or_absent(path) as unfinished:
        parquet.write_table(table, unfinished)
        _onto_disk(unfinished)
    return path


def _onto_disk(unfinished: Path) -> None:
    with unfinished.open("rb") as file:  # the name must not outlive a power cut alone
        os.fsync(file.fileno())


def join_parts(folder: Path, group: Sequence[tuple[Path, range]]) -> Path:
    """Write the rows of parts that follow each other as one part, holding one of them at a time.

    Args:
        folder: Where it goes; there whole or not at all.
        group: Parts as ``parts`` lists them, two and more.
    """
    _, parquet = pyarrow_for("Writing tables")
    path = folder / f"{group[0][1].start:010d}-{group[-1][1].stop:010d}.parquet"
    with complete_or_absent(path) as unfinished:
        schema = parquet.read_schema(group[0][0])
        with parquet.ParquetWriter(unfinished, schema) as writer:
            for part, _ in group:
                writer.write_table(parquet.read_table(part))
        _onto_disk(unfinished)
    return path


def is_part(name: str) -> bool:
    """Whether a file is called as parts are."""
    return _PART.fullmatch(name) is not None


def parts_in(folder: Path) -> list[tuple[Path, range]]:
    """List parts with the images they hold, in order; they may overlap."""
    found = [
        (path, range(int(match[1]), int(match[2])))
        for path in folder.glob("*.parquet")
        if (match := _PART.fullmatch(path.name))
    ]
    return sorted(found, key=lambda part: (part[1].start, -part[1].stop))


def parts(folder: Path) -> list[tuple[Path, range]]:
    """List parts with the images they hold, in order.

    Raises:
        MissingDataError: If two of them hold the same image.
    """
    found = parts_in(folder)
    for (_, before), (path, after) in pairwise(found):
        if after.start < before.stop:
            raise MissingDataError(damaged(path, "it repeats images of the part before"))
    return found


def missing(folder: Path, images: int) -> list[range]:
    """List the stretches of images, of 0 up to ``images``, that no part holds."""
    edges = [0, *(edge for _, span in parts(folder) for edge in (span.start, span.stop)), images]
    gaps = (range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True))
    return [gap for gap in gaps if gap]


@dataclass(frozen=True, slots=True)
class Gaps:
    """Stretches of images without rows, found in a time that hardly grows with their number.

    Attributes:
        stretches: In order, without overlap, as ``missing`` lists them.
    """

    stretches: Sequence[range]

    def __contains__(self, number: int) -> bool:
        return self.meet(range(number, number + 1))

    def meet(self, span: range) -> bool:
        """Whether any image of a span is in a stretch; an empty span has none."""
        at = bisect_right(self.stretches, span.stop - 1, key=lambda gap: gap.start) - 1
        return bool(span) and at >= 0 and self.stretches[at].stop > span.start


def damaged(path: Path, why: str) -> str:
    """Say that a part is damaged, and what to do."""
    return f"{path} is damaged ({why}): delete it, and the next run does its images again."


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
