"""Evaluations told again: one file of scores, without pictures and their paths, from which all numbers follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from gammascope import settings
from gammascope.checkpoints import Calibration
from gammascope.choices import Black
from gammascope.errors import MissingDataError
from gammascope.evaluation import run
from gammascope.evaluation.matching import draws_of
from gammascope.evaluation.run import Evaluation
from gammascope.evaluation.score_table import ScoreTable
from gammascope.files import complete_or_absent, pyarrow_for

FILE = "replay.parquet"

MOST_ROWS = 100_000
"""Of all columns together; larger evaluations write no such file, which is held in memory while it is made."""

_FORMAT = 1
_ABOUT = b"gammascope.evaluation"
_TOLD = ("method", "weights_sha256", "labels", "speed", "size", "definitions")
_FEATURE = "Replaying an evaluation"


def save(evaluation: Evaluation, tables: Mapping[str, ScoreTable], path: Path) -> str:
    """Write what a replay needs; return a line for people.

    In the place of paths and error texts, which may tell of the machine, stand the files' sha256 and "not scored".

    Raises:
        MissingExtraError: If pyarrow is not installed.
    """
    arrow, parquet = pyarrow_for(_FEATURE)
    if sum(map(len, tables.values())) > MOST_ROWS:
        return f"No {FILE}: there are more than {MOST_ROWS:,} scores."
    parts = []
    for name, table in tables.items():
        part = _without_paths(table).to_arrow()
        parts.append(part.append_column("column", arrow.array([name] * len(part), arrow.string())))
    plain = evaluation.plain
    calibration = plain["calibration"] if plain["calibrated"] else {}
    about = {name: plain.get(name) for name in _TOLD} | {
        "format": _FORMAT,
        "data": PurePath(str(plain["data"])).name,
        "calibration": calibration,
    }
    whole = arrow.concat_tables(parts, promote_options="default")
    whole = whole.replace_schema_metadata({_ABOUT: json.dumps(about)})
    with complete_or_absent(path) as unfinished:
        parquet.write_table(whole, unfinished, compression="zstd")
    return f"To be replayed without pictures: {path}"


def replayed(path: Path, black: Black) -> run.Told:
    """Make all numbers of an evaluation anew from what ``save`` wrote.

    Args:
        path: The file.
        black: What images without a true pixel count in F1 and IoU.

    Raises:
        MissingDataError: If it is not there, or not such a file.
        MissingExtraError: If pyarrow is not installed.
    """
    arrow, parquet = pyarrow_for(_FEATURE)
    if not path.is_file():
        raise MissingDataError(
            f"No file of scores at {path}: evaluate with --out, which writes {FILE}."
        )
    try:
        whole = parquet.read_table(path)
        about = json.loads((whole.schema.metadata or {})[_ABOUT])
        names = list(about["definitions"])
        of = np.array(whole["column"].to_pylist())
        rest = whole.drop_columns(["column"])
        tables = {
            name: ScoreTable.from_arrow(rest.filter(arrow.array(of == name))) for name in names
        }
        calibration = {
            question: settings.parse(Calibration, values, f"calibration of {path.name}")
            for question, values in about["calibration"].items()
        }
        candidate = run.Answered(about["method"], about["weights_sha256"], calibration)
    except (
        arrow.ArrowException,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise MissingDataError(
            f"{path} cannot be replayed ({type(error).__name__}: {error}): "
            f"expected the {FILE} that evaluate --out writes."
        ) from error
    told: dict[str, Any] = {name: about.get(name) for name in ("data", "labels", "speed", "size")}
    evaluation = run.summarised(candidate, tables, about["definitions"], about=told, black=black)
    return run.Told(evaluation, tables)


def _without_paths(table: ScoreTable) -> ScoreTable:
    columns = dict(table.columns)
    shas = columns.pop("sha256", np.full(len(table), ""))
    numbered = [sha or f"row {number}" for number, sha in enumerate(shas.tolist())]
    columns["draw"] = draws_of(columns["path"])
    columns["path"] = np.array(numbered)
    for name, words in (("error", "not scored"), ("mask_error", "unusable")):
        columns[name] = np.where(table[name] != "", words, "")
    return ScoreTable(columns)
