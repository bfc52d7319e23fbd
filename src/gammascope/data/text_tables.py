"""Tables in CSV files, read row by row: what is no such table is refused in one line, whoever reads it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gammascope.errors import MissingDataError
from gammascope.files import shown

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TextTable:
    """The header of a CSV table, and its rows as they are read.

    Attributes:
        name: Of the file, for messages.
        columns: Names in the header; none if the file is empty.

    Args:
        opened: The file, in binary mode at its beginning (fsspec has types of its own); read from as long as
            rows are.
        name: Of the file.
        delimiter: Between values.

    Raises:
        MissingDataError: If it is not UTF-8, holds NUL, is no CSV, is separated by other signs, or has two columns of
            one name; asking for rows does so, too.
    """

    def __init__(self, opened: Any, name: str | Path, delimiter: str = ",") -> None:
        self.name = shown(name)
        self._values = csv.reader(self._lines(opened), delimiter=delimiter)
        self.columns = tuple(next(self._guarded(), []))
        refuse_twins(self.name, self.columns)
        if delimiter == "," and len(self.columns) == 1:
            self._refuse_other_delimiter(self.columns[0])

    def lists(self) -> Iterator[list[str]]:
        """Yield the values of each row that is not blank."""
        return (values for values in self._guarded() if values)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield each row with its number, as editors and spreadsheets count (the header is 1); missing values are "".

        Raises:
            MissingDataError: As above, or if a row has more values than the header has columns.
        """
        for number, values in enumerate(self._guarded(), start=2):
            if not values:
                continue
            if len(values) > len(self.columns):
                raise MissingDataError(
                    f"{self.name}, row {number}: more values than the header has columns; put values "
                    "that hold a comma in double quotes."
                )
            lacking = [""] * (len(self.columns) - len(values))
            yield number, dict(zip(self.columns, [*values, *lacking], strict=True))

    def _refuse_other_delimiter(self, header: str) -> None:
        for sign, name in _DELIMITERS.items():
            if re.fullmatch(rf"{_NAME}({sign}{_NAME})+", header):
                raise MissingDataError(
                    f"{self.name} is separated by {name}: save it with commas, as CSV in UTF-8."
                )

    def _guarded(self) -> Iterator[list[str]]:
        try:
            yield from self._values
        except csv.Error as error:
            raise MissingDataError(f"{self.name} is no CSV table ({error}).") from error

    def _lines(self, opened: Any) -> Iterator[str]:
        # Spreadsheets write a byte order mark.
        text = io.TextIOWrapper(opened, "utf-8-sig", newline="")
        try:
            for number, line in enumerate(text, start=1):
                if "\0" in line:
                    wide = line.count("\0") > len(line) / 3
                    reason = (
                        f"so it is no text in UTF-8 (perhaps UTF-16, or no table at all). {_SAVE}"
                        if wide
                        else "as cameras fill up what they write. Take it out, for instance by tr -d '\\000'."
                    )
                    raise MissingDataError(f"{self.name}, line {number}: holds a NUL, {reason}")
                yield line
        except UnicodeDecodeError as error:
            wide = error.object.startswith(_UTF16_MARKS)
            looks = "UTF-16" if wide else "Windows-1252 or Latin-1"
            raise MissingDataError(
                f"{self.name} is not encoded in UTF-8 (byte 0x{error.object[error.start]:02x}; it looks like {looks}). "
                f"{_SAVE}"
            ) from error
        finally:
            text.close()  # Where the file is closed already, nothing happens.


_DELIMITERS = {";": "semicolons", "\t": "tabs"}
_NAME = r"\w[\w .-]*"  # what columns are called
_SAVE = "Save it as CSV in UTF-8."


def refuse_twins(name: str, columns: Sequence[str]) -> None:
    """Refuse a table with two columns of one name: which of them is meant cannot be known.

    Columns without a name, which spreadsheets leave behind, hold nothing that is read.

    Args:
        name: Of the file.
        columns: Their names.

    Raises:
        MissingDataError: With the column.
    """
    counts = Counter(columns)
    twins = [column for column in counts if column and counts[column] > 1]
    if twins:
        raise MissingDataError(
            f"{name} has {counts[twins[0]]} columns {twins[0]!r}: rename or delete all but one."
        )


def read_lists(path: Path, delimiter: str = ",") -> tuple[tuple[str, ...], list[list[str]]]:
    """Read a whole table: its header, and the values of each row.

    Raises:
        MissingDataError: If it cannot be read, is not UTF-8, is no CSV, or has two columns of one name.
    """
    try:
        with path.open("rb") as file:
            table = TextTable(file, path, delimiter)
            return table.columns, list(table.lists())
    except OSError as error:
        raise MissingDataError(f"{shown(path)} cannot be read ({error.strerror}).") from error


def dictionaries(path: Path, delimiter: str = ",") -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Do as ``read_lists``, with each row as values by column; those beyond the header are left out."""
    columns, rows = read_lists(path, delimiter)
    lacking = [""] * len(columns)
    return columns, [dict(zip(columns, [*row, *lacking], strict=False)) for row in rows]
