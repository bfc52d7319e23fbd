"""Files of scores without pictures and their paths, from which the tables of a measurement follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gammascope.errors import MissingDataError
from gammascope.evaluation.score_table import ScoreTable, draws_of
from gammascope.files import complete_or_absent, pyarrow_for

FILE = "replay.parquet"

MOST_ROWS = 100_000
"""Of all tables together; larger measurements write no such file, which is held in memory while it is made."""

_FORMAT = 1
_ABOUT = b"gammascope.evaluation"
_FEATURE = "Replaying an evaluation"
_FIRST_KIND = "evaluation"
"""Files that name no kind are of this one, which was the only one once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a measurement.

    Attributes:
        kind: What was measured: says how tables are made of it (``replaying.KINDS``).
        about: What the tables need besides scores, in plain types: thresholds, the detector and its hash.
        tables: Scores by name.
    """

    kind: str
    about: Mapping[str, Any]
    tables: Mapping[str, ScoreTable]

    def save(self, path: Path) -> str:
        """Write the file, complete or not at all; return a line for people.

        In the place of paths and error texts, which may tell of the machine, stand the files' sha256 (or the number of
        the row) and "not scored".

        Raises:
            MissingExtraError: If pyarrow is not installed.
        """
        arrow, parquet = pyarrow_for(_FEATURE)
        if sum(map(len, self.tables.values())) > MOST_ROWS:
            return f"No {path.name}: there are more than {MOST_ROWS:,} scores."
        parts = []
        for name, table in self.tables.items():
            part = _without_paths(table).to_arrow()
            parts.append(
                part.append_column("column", arrow.array([name] * len(part), arrow.string()))
            )
        about = {**self.about, "kind": self.kind, "format": _FORMAT}
        whole = arrow.concat_tables(parts, promote_options="default")
        whole = whole.replace_schema_metadata({_ABOUT: json.dumps(about)})
        with complete_or_absent(path) as unfinished:
            parquet.write_table(whole, unfinished, compression="zstd")
        return f"To be replayed without pictures: {path}"

    @classmethod
    def read(cls, path: Path) -> Kept:
        """Read what ``save`` wrote.

        Raises:
            MissingDataError: If it is not there, or not such a file.
            MissingExtraError: If pyarrow is not installed.
        """
        arrow, parquet = pyarrow_for(_FEATURE)
        if not path.is_file():
            raise MissingDataError(
                f"No file of scores at {path}: evaluate and robustness write {FILE} with --out."
            )
        try:
            whole = parquet.read_table(path)
            about = json.loads((whole.schema.metadata or {})[_ABOUT])
            of = np.array(whole["column"].to_pylist())
            rest = whole.drop_columns(["column"])
            tables = {
                name: ScoreTable.from_arrow(rest.filter(arrow.array(of == name)))
                for name in dict.fromkeys(of.tolist())
            }
        except (arrow.ArrowException, OSError, ValueError, KeyError, MissingDataError) as error:
            raise not_replayable(path, f"{type(error).__name__}: {error}") from error
        if not tables or not isinstance(about, dict):
            raise not_replayable(path, "it holds no scores")
        about.pop("format", None)
        return cls(about.pop("kind", _FIRST_KIND), about, tables)


def not_replayable(path: Path, why: str) -> MissingDataError:
    """Say of a file that no tables can be made of it, and why."""
    return MissingDataError(
        f"{path} cannot be replayed ({why}): expected the {FILE} that evaluate or robustness writes with --out."
    )


def _without_paths(table: ScoreTable) -> ScoreTable:
    columns = dict(table.columns)
    shas = columns.pop("sha256", np.full(len(table), ""))
    numbered = [sha or f"row {number}" for number, sha in enumerate(shas.tolist())]
    if "width" in columns:  # Draws match images of the same sizes.
        columns["draw"] = draws_of(columns["path"])
    columns["path"] = np.array(numbered)
    for name, words in (("error", "not scored"), ("mask_error", "unusable")):
        if name in columns:
            columns[name] = np.where(columns[name] != "", words, "")
    return ScoreTable(columns)
