"""Measurements shown, fresh or told again from a file of scores: one function for each kind makes the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from gammascope import settings
from gammascope.checkpoints import Calibration
from gammascope.choices import Black
from gammascope.errors import GammascopeError, MissingDataError, MissingExtraError, did_you_mean
from gammascope.evaluation import (
    against_plain,
    left_out,
    robustness,
    robustness_run,
    run,
)
from gammascope.evaluation.replay_file import FILE, Kept, not_replayable
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid, cell

_OF_METHOD = "/"  # between a method of a zoo and the column that it was shown
_ZOO_NUMBERS = {
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "real_accuracy": "real accuracy",
    "fake_accuracy": "fake accuracy",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A measurement as people and programs get it.

    Attributes:
        plain: Its numbers in plain types, for JSON.
        grids: Its tables.
        note: Lines below the tables; "" for none.
        write: Writes it into a folder; yields one line for people about each part.
    """

    plain: Any
    grids: list[Grid]
    note: str
    write: Callable[[Path], Iterator[str]]


def replayed(path: Path, black: Black = "skip") -> Shown:
    """Make all numbers of a measurement anew from what ``Kept.save`` wrote.

    Args:
        path: The file.
        black: What images without a true pixel count in F1 and IoU.

    Raises:
        MissingDataError: If it is not there, or not such a file.
        MissingExtraError: If pyarrow is not installed.
    """
    kept = Kept.read(path)
    if kept.kind not in KINDS:
        raise MissingDataError(
            f"{path} holds scores of the kind {kept.kind!r}.{did_you_mean(kept.kind, KINDS)} "
            f"Known: {', '.join(KINDS)}. A newer gammascope may know it."
        )
    try:
        return KINDS[kept.kind](kept, black)
    except GammascopeError as error:
        raise not_replayable(path, str(error)) from error


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What an evaluation's tables need besides scores; see ``run.summarised``."""

    method: str
    weights_sha256: str
    definitions: Mapping[str, Any]
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: str | None = None
    labels: str | None = None
    speed: Mapping[str, Any] | None = None
    size: Mapping[str, Any] | None = None


def kept(told: run.Told) -> Kept:
    """Return what is kept of an evaluation; of the path of its data, the last part."""
    plain = told.evaluation.plain
    about = _Evaluated(
        method=plain["method"],
        weights_sha256=plain["weights_sha256"],
        definitions=plain["definitions"],
        calibration=plain["calibration"] if plain["calibrated"] else {},
        data=PurePath(str(plain["data"])).name,
        labels=plain.get("labels"),
        speed=plain.get("speed"),
        size=plain.get("size"),
    )
    return Kept("evaluation", settings.plain(about), told.tables)


def evaluation(told: run.Told, *, fresh: bool) -> Shown:
    """Show an evaluation.

    Args:
        told: The evaluation.
        fresh: Whether its pictures are there, so that the worst can be drawn, and its scores are worth keeping.
    """

    def write(folder: Path) -> Iterator[str]:
        yield from run.write(told.evaluation, told.tables, folder, pictures=fresh)
        if fresh:
            with suppress(MissingExtraError):  # Said already.
                yield kept(told).save(folder / FILE)

    made = told.evaluation
    return Shown(made.plain, run.grids(made), run.operating_points(made), write)


def perturbed(scores: Kept, *, fresh: bool) -> Shown:
    """Show what perturbations do (``robustness_run.scored``).

    Args:
        scores: By perturbation.
        fresh: Whether they are worth keeping.
    """
    points = robustness_run.points_of(scores)

    def write(folder: Path) -> Iterator[str]:
        yield from robustness_run.write(points, folder)
        if fresh:
            yield scores.save(folder / FILE)

    return Shown(robustness_run.plain(points), [robustness.grid(points)], "", write)


def zoo(
    evaluations: Mapping[str, Kept],
    costs: Mapping[str, Mapping[str, str]],
    missing: Sequence[str] = (),
    *,
    runs_of: Mapping[str, str] | None = None,
    plain: Sequence[str] = (),
    against: str = "",
) -> Kept:
    """Return what is kept of several methods' evaluations on the same images.

    Args:
        evaluations: What is kept of each, by method or by run of a method.
        costs: What each has cost, by the same names: texts by their titles, the same for all.
        missing: Methods that could not be measured.
        runs_of: The method of each run that is one of several; others are named after their method.
        plain: Methods that all are compared with, pair by pair; none: no second table.
        against: Method that the three best together are compared with (``together``); "": no such table.
    """
    of = runs_of or {}
    methods = {
        name: {"evaluated": each.about, "costs": dict(costs[name]), "of": of.get(name, name)}
        for name, each in evaluations.items()
    }
    tables = {
        f"{name}{_OF_METHOD}{column}": table
        for name, each in evaluations.items()
        for column, table in each.tables.items()
    }
    about = {"methods": methods, "missing": list(missing), "plain": list(plain), "against": against}
    return Kept("zoo", about, tables)


def runs_of_zoo(kept: Kept) -> dict[str, tuple[Kept, Mapping[str, str]]]:
    """Take apart again what ``zoo`` put together: the evaluation and the costs of each run, by its name.

    Raises:
        MissingDataError: If the file is of another kind.
    """
    if kept.kind != "zoo":
        raise MissingDataError(f"Expected scores of several methods, found those of: {kept.kind}.")
    return {
        name: (Kept("evaluation", one["evaluated"], _tables_of(kept, name)), one["costs"])
        for name, one in kept.about["methods"].items()
    }


def _tables_of(kept: Kept, name: str) -> dict[str, ScoreTable]:
    start = f"{name}{_OF_METHOD}"
    return {key.removeprefix(start): t for key, t in kept.tables.items() if key.startswith(start)}


@dataclass(frozen=True, slots=True)
class _Method:
    evaluated: Mapping[str, Any]
    costs: Mapping[str, str]
    of: str = ""


@dataclass(frozen=True, slots=True)
class _Zoo:
    methods: Mapping[str, _Method]
    missing: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    against: str = ""


def _told(scores: Kept, black: Black) -> run.Told:
    """Make an evaluation anew of what is kept of it."""
    about = settings.parse(_Evaluated, scores.about, "evaluation")
    calibration = {
        question: settings.parse(Calibration, values, f"calibration of {question}")
        for question, values in about.calibration.items()
    }
    made = run.summarised(
        run.Answered(about.method, about.weights_sha256, calibration),
        scores.tables,
        about.definitions,
        about={name: getattr(about, name) for name in ("data", "labels", "speed", "size")},
        black=black,
    )
    return run.Told(made, scores.tables)


def _evaluation(scores: Kept, black: Black) -> Shown:
    return evaluation(_told(scores, black), fresh=False)


def _perturbed(scores: Kept, _: Black) -> Shown:
    return perturbed(scores, fresh=False)


def _left_out(scores: Kept, _: Black) -> Shown:
    plain = left_out.summarised(scores)
    return _in_numbers(plain, left_out.grids(plain))


def _zoo(scores: Kept, black: Black) -> Shown:
    about = settings.parse(_Zoo, scores.about, "zoo")
    made: dict[str, run.Evaluation] = {}
    runs: dict[str, list[Mapping[str, ScoreTable]]] = {}
    for name, method in about.methods.items():
        own = {column: _answering(table) for column, table in _tables_of(scores, name).items()}
        if not own:
            raise MissingDataError(f"No scores of the method {name!r}.")
        made[name] = _told(Kept("evaluation", method.evaluated, own), black).evaluation
        runs.setdefault(method.of or name, []).append(own)
    plain: dict[str, Any] = {
        "methods": {
            name: {**each.plain, "costs": dict(about.methods[name].costs)}
            for name, each in made.items()
        },
        "missing": list(about.missing),
    }
    grids = [_side_by_side(plain)]
    if about.plain:
        plain["differences"] = against_plain.differences(runs, about.plain)
        grids.append(against_plain.grid(plain["differences"]))
    if about.against:
        plain["together"], grid = _together(runs, about.against, made)
        grids.append(grid)
    return _in_numbers(plain, grids)


def _together(
    runs: Mapping[str, Sequence[against_plain.Columns]],
    against: str,
    made: Mapping[str, run.Evaluation],
) -> tuple[dict[str, Any], Grid]:
    """Compare the three best with a detector, at its own threshold if it has one; or say why that cannot be."""
    if against not in made:
        raise MissingDataError(f"No scores of {against}, which the three best are compared with.")
    known = made[against]
    at = known.calibration["generated"].fake_from if known.plain["calibrated"] else None
    from gammascope.evaluation import together  # fits by torch; all other tables go without

    try:
        plain = together.judged(runs, against, at)
    except MissingDataError as error:
        return {"reason": str(error)}, Grid(together.TITLE, ("not measured",), ((str(error),),))
    return plain, together.grid(plain)


def _answering(table: ScoreTable) -> ScoreTable:
    """Take away questions that a method does not answer: one file has columns for those of all methods."""
    empty = {f"logit_{name}" for name in table.questions if np.isnan(table[f"logit_{name}"]).all()}
    return ScoreTable({name: of for name, of in table.columns.items() if name not in empty})


def _side_by_side(plain: Mapping[str, Any]) -> Grid:
    """Lay methods out below each other, the highest AUROC in their first column first."""
    titles = list(dict.fromkeys(t for each in plain["methods"].values() for t in each["costs"]))
    ranked: list[tuple[float, list[tuple[str, ...]]]] = []
    for name, each in plain["methods"].items():
        rows: list[tuple[str, ...]] = []
        best = -1.0
        facts = (name, *(each["costs"].get(title, "-") for title in titles))
        for column, by_question in each["columns"].items():
            summary = by_question.get("generated") or next(iter(by_question.values()), None)
            if summary is None:
                continue
            numbers = (cell(summary["overall"].get(key)) for key in _ZOO_NUMBERS)
            if not rows:
                best = summary["overall"]["auroc"]["value"] or best
            rows.append((*facts, column, f"{summary['no']} + {summary['yes']}", *numbers))
            facts = ("",) * len(facts)
        ranked.append((best, rows))
    ranked.sort(key=lambda each: -each[0])
    header = ("method", *titles, "column", "n", *_ZOO_NUMBERS.values())
    missing = [(name, *("-",) * (len(header) - 2), "not measured") for name in plain["missing"]]
    lines = [row for _, rows in ranked for row in rows]
    return Grid("zoo: n is real + fake images", header, (*lines, *missing))


def _in_numbers(plain: Any, grids: list[Grid]) -> Shown:
    def write(folder: Path) -> Iterator[str]:
        run.write_numbers(plain, grids, folder)
        yield f"Numbers and tables: {folder}"

    return Shown(plain, grids, "", write)


KINDS: Mapping[str, Callable[[Kept, Black], Shown]] = {
    "evaluation": _evaluation,
    robustness_run.KIND: _perturbed,
    left_out.KIND: _left_out,
    "zoo": _zoo,
}
"""What makes the tables of each kind of file."""
