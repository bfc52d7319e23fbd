"""Detectors on the same images: is one better, or was it chance?

Two are compared pair by pair, so that what is hard for both does not blur the difference: an interval of the
difference may exclude 0 where the two intervals overlap.

Several share a board if they were scored on the same images, and its numbers are of the images that all of them
answered for in every column. Others get a board of their own: numbers of different images are never in one table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gammascope.checkpoints import RAW, Calibration
from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.evaluation import run
from gammascope.evaluation.intervals import Rows, Value, Weights, bootstrap
from gammascope.evaluation.metrics import Metric, auroc, balanced_accuracy
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import overall, truth_of, usable
from gammascope.sample import Label


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers of two detectors to one question about the same images.

    Attributes:
        first: Logits of the first.
        second: Logits of the second.
        truth: 1 yes, 0 no.
        only_first: Images that only the first has an answer for; they are left out.
        only_second: Images that only the second has an answer for.
    """

    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    only_first: int
    only_second: int


@dataclass(frozen=True, slots=True)
class McNemar:
    """Images on which one detector is right and the other wrong.

    Attributes:
        only_first: Images that only the first gets right.
        only_second: Images that only the second gets right.
        p: Chance of a split at least as uneven if both were equally good; two-sided, exact.
    """

    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two detectors side by side; differences are second minus first.

    Attributes:
        auroc: Of the first, the second, and the difference.
        balanced_accuracy: Of the first, the second, and the difference, each at its own threshold.
        mcnemar: At these thresholds.
        pairs: What was compared.
    """

    auroc: tuple[Value, Value, Value]
    balanced_accuracy: tuple[Value, Value, Value]
    mcnemar: McNemar
    pairs: Pairs

    def to_json(self) -> dict[str, Any]:
        """Return plain types for ``json.dumps``."""
        sides = ("first", "second", "difference")
        measured = {"auroc": self.auroc, "balanced_accuracy": self.balanced_accuracy}
        made: dict[str, Any] = {
            name: {side: value.to_json() for side, value in zip(sides, values, strict=True)}
            for name, values in measured.items()
        }
        made["mcnemar"] = {
            "only_first_right": self.mcnemar.only_first,
            "only_second_right": self.mcnemar.only_second,
            "p": self.mcnemar.p,
        }
        truth = self.pairs.truth
        made |= {"yes": int((truth == 1).sum()), "no": int((truth == 0).sum())}
        made |= {"only_in_first": self.pairs.only_first, "only_in_second": self.pairs.only_second}
        return made


def pair(first: ScoreTable, second: ScoreTable, question: str) -> Pairs:
    """Match two score tables by path and keep the images that both have an answer for.

    Raises:
        MissingDataError: If a table has no answers to the question or lists an image twice, the
            tables disagree on the truth about an image, or no image remains.
    """
    sides = [answered(table, question) for table in (first, second)]
    (paths, truth, logits), (other_paths, other_truth, other_logits) = sides
    here, there = places(paths, other_paths)
    shared = len(here)
    if not shared:
        raise MissingDataError(
            f"The two evaluations have no image in common that both answered {question!r} for: "
            "paths must be the same in both."
        )
    unlike = truth[here] != other_truth[there]
    if unlike.any():
        raise MissingDataError(
            f"The two evaluations disagree on the truth about {paths[here][unlike][0]} "
            f"({int(unlike.sum())} of {shared} images): they were made from other labels."
        )
    return Pairs(
        logits[here],
        other_logits[there],
        truth[here],
        only_first=len(paths) - shared,
        only_second=len(other_paths) - shared,
    )


def compare(
    pairs: Pairs,
    thresholds: tuple[float, float] = (0.0, 0.0),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Measure both detectors and their difference.

    Intervals come from a paired bootstrap: each resample draws images of each class once, for both
    detectors. McNemar's test counts the share of right answers, which moves with the mix of
    classes; AUROC and balanced accuracy do not.

    Args:
        pairs: Answers to one question.
        thresholds: Logit from which the answer is yes, of the first and of the second.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    def sides(one: Metric, other: Metric) -> tuple[Value, Value, Value]:
        if len(np.unique(pairs.truth)) < 2:
            missing = Value.undefined(len(pairs.truth), "one class only")
            return missing, missing, missing

        def kernel(rows: Rows, weight: Weights) -> Float[np.ndarray, " b"]:
            truth = pairs.truth[rows]
            before = one.kernel(pairs.first[rows], truth, weight)
            return np.asarray(other.kernel(pairs.second[rows], truth, weight) - before)

        return (
            one.measure(pairs.first, pairs.truth, resamples=resamples, seed=seed),
            other.measure(pairs.second, pairs.truth, resamples=resamples, seed=seed),
            bootstrap(kernel, pairs.truth, resamples=resamples, seed=seed),
        )

    at_first, at_second = thresholds
    yes = pairs.truth == Label.FAKE
    return Comparison(
        auroc=sides(auroc, auroc),
        balanced_accuracy=sides(balanced_accuracy(at_first), balanced_accuracy(at_second)),
        mcnemar=mcnemar((pairs.first >= at_first) == yes, (pairs.second >= at_second) == yes),
        pairs=pairs,
    )


def mcnemar(first_right: Bool[np.ndarray, " n"], second_right: Bool[np.ndarray, " n"]) -> McNemar:
    """Test whether two detectors are right equally often on the same images.

    Exact: of the images on which only one is right, each is as likely to be either's.

    >>> mcnemar(np.array([True] * 8 + [False]), np.array([False] * 8 + [True])).p
    0.0390625

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157, with the binomial instead of the chi-square
        distribution.
    """
    one = int(np.count_nonzero(first_right & ~second_right))
    other = int(np.count_nonzero(second_right & ~first_right))
    return McNemar(one, other, _two_sided(min(one, other), one + other))


def _two_sided(fewer: int, n: int) -> float:
    """Return the chance that n tosses of a fair coin are split at least as unevenly."""
    if n == 0:
        return 1.0
    # Logarithms of the binomial coefficients: they themselves overflow from 1030 tosses on.
    steps = np.arange(1, fewer + 1)
    logs = np.r_[0.0, np.cumsum(np.log((n + 1.0 - steps) / steps))] - n * math.log(2.0)
    highest = float(logs.max())
    tail = math.exp(highest) * float(np.exp(logs - highest).sum())
    return min(1.0, 2.0 * tail)


def places(
    paths: Shaped[np.ndarray, " n"], others: Shaped[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Say where the paths that two lists share are in the one and in the other; neither names one twice."""
    # Sorted as one array: NumPy 2.4's searchsorted misreads long strings that two arrays store apart.
    both = np.concatenate([paths, others])
    order = np.argsort(both, kind="stable")
    ranked = both[order]
    first = np.flatnonzero(ranked[1:] == ranked[:-1])
    here, there = order[first], order[first + 1] - len(paths)
    return here, there


def answered(
    table: ScoreTable, question: str
) -> tuple[Shaped[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return path, truth and logit of the images with an answer and a known truth, by path.

    Raises:
        MissingDataError: If the table has no answers to the question, or lists an image twice.
    """
    logits, truth = table[f"logit_{question}"], truth_of(table, question)
    used = usable(table, question, truth)
    paths = table["path"][used].astype(np.dtypes.StringDType())
    order = np.argsort(paths, kind="stable")
    paths = paths[order]
    twice = paths[1:] == paths[:-1]
    if twice.any():
        raise MissingDataError(
            f"{paths[1:][twice][0]} is listed more than once: images cannot be paired."
        )
    return paths, truth[used][order], logits[used][order].astype(np.float64)


Comparisons: TypeAlias = Mapping[tuple[str, str], Comparison]
"""Comparisons by column and question."""


def compared(first: Path, second: Path) -> Comparisons:
    """Compare two folders of ``gammascope evaluate`` in every column and question that both have.

    Raises:
        MissingDataError: If a folder holds no evaluation, or they have nothing in common.
    """
    summaries = [summary_of(folder) for folder in (first, second)]
    made: dict[tuple[str, str], Comparison] = {}
    for column, questions in summaries[0]["columns"].items():
        shared = [name for name in questions if name in summaries[1]["columns"].get(column, {})]
        if not shared:
            continue
        tables = [scores_in(folder, column) for folder in (first, second)]
        for question in shared:
            at, other = (each["columns"][column][question]["threshold"] for each in summaries)
            made[column, question] = compare(pair(tables[0], tables[1], question), (at, other))
    if not made:
        raise MissingDataError(f"{first} and {second} have no column and question in common.")
    return made


def plain(comparisons: Comparisons) -> dict[str, Any]:
    """Return plain types for JSON: by column, then by question."""
    made: dict[str, dict[str, Any]] = {}
    for (column, question), comparison in comparisons.items():
        made.setdefault(column, {})[question] = comparison.to_json()
    return {"difference": "second minus first", "columns": made}


def notes(comparisons: Comparisons) -> str:
    """Say what the numbers rest on, and what they do not account for."""
    pairs = next(iter(comparisons.values())).pairs
    left_out = pairs.only_first + pairs.only_second
    told = [
        f"{', '.join(where)}: {_concluded(one.auroc[2])}." for where, one in comparisons.items()
    ]
    told.append(
        f"{len(pairs.truth)} images that both answered for"
        + (f", {left_out} left out because only one did" if left_out else "")
        + f". {len(comparisons)} comparisons: p is not corrected for their number."
    )
    least = int(min((pairs.truth == 1).sum(), (pairs.truth == 0).sum()))
    if least < run.FEW:
        told.append(run.too_few(least))
    return "\n".join(told)


def _concluded(difference: Value) -> str:
    """Say in words what the interval of a difference in AUROC means."""
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "the images do not tell which ranks better"
    if difference.low > 0 or difference.high < 0:
        return f"the {'second' if difference.low > 0 else 'first'} ranks these images better"
    return "which ranks better may be chance"


def summary_of(folder: Path) -> dict[str, Any]:
    """Read what an evaluation found.

    Raises:
        MissingDataError: If the folder holds none, or a broken one.
    """
    path = folder / run.SUMMARY
    try:
        summary: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingDataError(
            f"No evaluation at {folder}: make one with gammascope evaluate ... --out {folder}."
        ) from error
    except ValueError as error:
        raise MissingDataError(f"{path} is broken: {error}.") from error
    return summary


def scores_in(folder: Path, column: str) -> ScoreTable:
    """Read the score table of a column of an evaluation.

    Raises:
        MissingDataError: If it is not there.
    """
    path = folder / f"scores_{column}.parquet"
    try:
        return ScoreTable.read(path)
    except (MissingExtraError, MissingDataError):
        return ScoreTable.read(path.with_suffix(".csv"))


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
