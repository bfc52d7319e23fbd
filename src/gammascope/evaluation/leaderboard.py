"""Several detectors side by side, on the same images only.

Detectors that were scored on the same images share a board, and its numbers are of the images that all of them
answered for in every column. Others get a board of their own: numbers of different images are never in one table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from gammascope.checkpoints import RAW, Calibration
from gammascope.evaluation.comparing import answered, places
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import overall, truth_of, usable

SHARED = 0.5
"""A detector joins a board if at least this share of its images, and of the board's, remain (our choice)."""

LEADING = ("fakes_aligned", "native")
"""Columns whose AUROC ranks a board: the first that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One detector's answers to one question.

    Attributes:
        name: For people; different for each.
        question: "generated", "edited" or "fake".
        tables: Score tables by column; "native" must be there. Each is read at first use.
        calibration: Whose ``fake_from`` is the threshold.
        facts: Plain types that go into the row as they are (method, weights, speed, size).
    """

    name: str
    question: str
    tables: Mapping[str, ScoreTable]
    calibration: Calibration = RAW
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One detector on a board.

    Attributes:
        contestant: Whose row it is.
        columns: Numbers with intervals by column, in plain types; a column it was not scored in is not there.
        answered: Images it answered for.
        failed: Images that it could not be scored on.
        left_out: Images it answered for that another detector of the board did not.
    """

    contestant: Contestant
    columns: Mapping[str, Mapping[str, Any]]
    answered: int
    failed: int
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """Return plain types for ``json.dumps``."""
        return {
            "name": self.contestant.name,
            "question": self.contestant.question,
            **self.contestant.facts,
            "threshold": self.contestant.calibration.fake_from,
            "answered": self.answered,
            "failed": self.failed,
            "left_out": self.left_out,
            "columns": dict(self.columns),
        }


@dataclass(frozen=True, slots=True)
class Board:
    """Detectors on the same images, the best first.

    Attributes:
        rows: At least one.
        yes: Images whose right answer is yes.
        no: Images whose right answer is no.
    """

    rows: tuple[Row, ...]
    yes: int
    no: int

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that any row has, in order."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.columns))

    @property
    def questions(self) -> tuple[str, ...]:
        """Questions that were answered; their truths agree on these images."""
        return tuple(dict.fromkeys(row.contestant.question for row in self.rows))

    @property
    def is_common_part(self) -> bool:
        """Whether some detector was scored on images that the others were not."""
        return any(row.left_out for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain types for ``json.dumps``."""
        return {
            "questions": list(self.questions),
            "yes": self.yes,
            "no": self.no,
            "common_part_only": self.is_common_part,
            "columns": list(self.columns),
            "rows": [row.to_json() for row in self.rows],
        }


@dataclass(slots=True)
class _Gathered:
    """Detectors on their way to a board, and the images (by path, in order) that all of them answered for."""

    paths: Shaped[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    members: list[tuple[Contestant, int]]

    def takes(self, paths: Shaped[np.ndarray, " _m"], truth: Int[np.ndarray, " _m"]) -> bool:
        """Keep what is shared, unless that is too little or the truths about it differ."""
        here, there = places(self.paths, paths)
        enough = len(here) >= SHARED * max(len(self.paths), len(paths), 1)
        if not enough or (self.truth[here] != truth[there]).any():
            return False
        self.paths, self.truth = self.paths[here], self.truth[here]
        return True


def boards(
    contestants: Sequence[Contestant], *, resamples: int = 1000, seed: int = 0
) -> list[Board]:
    """Put detectors that can be compared on one board each, and measure them there.

    The question "edited" never shares a board with another; "fake" and "generated" do where their truths about the
    images agree.

    Args:
        contestants: In any order; the order of the boards is that of their first members.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        MissingDataError: If a table lists an image twice or has no answers to the question.
    """
    gathered: list[_Gathered] = []
    for contestant in contestants:
        paths, truth, _ = answered(contestant.tables["native"], contestant.question)
        member = contestant, len(paths)
        asks_for_edits = contestant.question == "edited"
        for board in gathered:
            alike = asks_for_edits == (board.members[0][0].question == "edited")
            if alike and board.takes(paths, truth):
                board.members.append(member)
                break
        else:
            gathered.append(_Gathered(paths, truth, [member]))
    return [_measured(board, resamples, seed) for board in gathered]


def _measured(board: _Gathered, resamples: int, seed: int) -> Board:
    for contestant, _ in board.members:
        for name in contestant.tables:
            if name != "native":  # an image may fail in one column alone: too large for JPEG, say
                paths, _, _ = answered(contestant.tables[name], contestant.question)
                here, _ = places(board.paths, paths)
                board.paths, board.truth = board.paths[here], board.truth[here]
    rows = []
    for contestant, of in board.members:
        columns = {}
        failed = 0
        for name, table in contestant.tables.items():
            chosen = _among(board.paths, table, contestant.question)
            columns[name] = overall(
                table,
                contestant.question,
                chosen,
                calibration=contestant.calibration,
                resamples=resamples,
                seed=seed,
            )
            failed = max(failed, int((table["error"] != "").sum()))
        rows.append(Row(contestant, columns, of, failed, of - len(board.paths)))
    rows.sort(key=_rank)
    return Board(tuple(rows), int((board.truth == 1).sum()), int((board.truth == 0).sum()))


def _among(
    paths: Shaped[np.ndarray, " n"], table: ScoreTable, question: str
) -> Bool[np.ndarray, " _m"]:
    """Mark the answered rows of a table whose path is one of some."""
    rows = np.flatnonzero(usable(table, question, truth_of(table, question)))
    own = table["path"][rows].astype(np.dtypes.StringDType())
    chosen = np.zeros(len(table), dtype=np.bool_)
    chosen[rows[places(own, paths)[0]]] = True
    return chosen


def _rank(row: Row) -> tuple[float, str]:
    """Sort by falling AUROC in the column to quote; those without one last."""
    found: Iterable[Any] = (row.columns.get(name, {}).get("auroc") for name in LEADING)
    value = next((each["value"] for each in found if each is not None), None)
    return (math.inf if value is None else -value), row.contestant.name
