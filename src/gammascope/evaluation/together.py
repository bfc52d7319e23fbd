"""What the best methods of a zoo say together: a fusion and a cascade of three, against one detector.

The three that rank pictures of the collections left out of training best are taken. Scales, weights and thresholds are
fitted to these pictures in all columns, and judged on other pictures, by which nothing was chosen or fitted. How well
it works on the collections left out is measured on each by a fit to all others (cross-fitting), and so are thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped

from gammascope.checkpoints import RAW, Calibration
from gammascope.detection import fusion
from gammascope.errors import MissingDataError
from gammascope.evaluation.against_plain import QUESTION, Columns, differences
from gammascope.evaluation.fitting import fit_scale, fit_thresholds
from gammascope.evaluation.fusing import PENALTY, RATES
from gammascope.evaluation.intervals import wilson
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid, cell, truth_of, usable
from gammascope.networks.fitted import fit_logistic

FITTED_ON, JUDGED_ON = "validation, ", "dev, "
"""How names of columns begin: of pictures of collections left out of training, and of pictures that judge."""

BEST = 3
FUSION, CASCADE = "fusion of them", "cascade of them"
TITLE = "zoo: fusion and cascade of the three best on the left-out collections"

_LOGIT = f"logit_{QUESTION}"
_SHARES = {
    "called_fake": "photos called fake",
    "found": "fakes found",
    "passed_on": "asked all three",
}

Logits = Float[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Pictures with an answer of every method, all columns below each other.

    Attributes:
        logits: One column for each method.
        truth: 1 generated, 0 not.
        sources: Of which collection.
        column: As it was shown in which column.
        row: In which row of that column.
    """

    logits: Float[np.ndarray, "n k"]
    truth: Int[np.ndarray, " n"]
    sources: Shaped[np.ndarray, " n"]
    column: Shaped[np.ndarray, " n"]
    row: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, methods: Sequence[Columns], start: str) -> _Seen:
        parts = []
        for name in (name for name in methods[0] if name.startswith(start)):
            tables = [method[name] for method in methods]
            if any(not np.array_equal(table["path"], tables[0]["path"]) for table in tables):
                raise MissingDataError(f"Methods answer for other pictures in column {name!r}.")
            truth = truth_of(tables[0], QUESTION)
            row = np.flatnonzero(np.all([usable(t, QUESTION, truth) for t in tables], axis=0))
            logits = np.stack([table[_LOGIT][row] for table in tables], 1).astype(np.float64)
            sources = np.array(tables[0]["source"][row].tolist(), dtype=np.str_)
            parts.append((logits, truth[row], sources, np.full(len(row), name), row))
        if not parts:
            raise MissingDataError(f"No column begins with {start!r}: nothing to fit to, or judge.")
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def table(self, column: str, like: ScoreTable, logits: Logits) -> ScoreTable:
        """Return a column with other logits; pictures without an answer of every method have none."""
        own = self.column == column
        filled = np.full(len(like), np.nan)
        filled[self.row[own]] = logits[own]
        return ScoreTable({**like.columns, _LOGIT: filled})


class _Fit:
    """Three methods as one, in two ways. The first is the best: a cascade asks the others where it is unsure."""

    def __init__(self, logits: Float[np.ndarray, "n k"], truth: Int[np.ndarray, " n"]) -> None:
        found = fit_logistic(torch.from_numpy(logits), torch.from_numpy(truth), PENALTY)
        names = tuple(str(number) for number in range(logits.shape[1]))
        weights = tuple(found.weight.tolist())
        self.both = fusion.Plan("logistic", names, weights=weights, bias=float(found.bias))
        self.cascade = fusion.Plan("cascade", (names[0], FUSION))
        self.scales = [_scale(each, truth) for each in (logits[:, 0], self.both.fused(logits))]

    def _odds(self, logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 2"]:
        """Return what the first and the fusion say, as log-odds: what a cascade chooses from."""
        both = (logits[:, 0], self.both.fused(logits))
        return np.stack([s.log_odds(each) for s, each in zip(self.scales, both, strict=True)], 1)

    def said(self, logits: Float[np.ndarray, "n k"]) -> dict[str, Logits]:
        """Return the log-odds of both ways."""
        odds = self._odds(logits)
        return {FUSION: odds[:, 1], CASCADE: self.cascade.fused(odds)}

    def unsure(self, logits: Float[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
        """Return where the cascade asks all three."""
        return np.asarray(self.cascade.unsure(self._odds(logits)[:, 0]))


def judged(
    runs: Mapping[str, Sequence[Columns]],
    against: str,
    fake_from: float | None = None,
    *,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Fuse the three best methods and compare them with one detector, in plain types.

    Args:
        runs: By method, all of the same pictures; the first run of each counts.
        against: Method that the others are compared with; it is none of the three.
        fake_from: Logit from which it calls pictures fake; None: fitted as for the others.
        resamples: Of the bootstrap.

    Returns:
        "members", the best first; "ways" by name: "threshold", "fitted" (AUROC on the collections left out, by column)
        and "judged" by column: "auroc", "against", and shares with their intervals.

    Raises:
        MissingDataError: If methods, collections or a class are too few, or methods answer for other pictures.
    """
    firsts = {name: of[0] for name, of in runs.items()}
    members = _best({name: of for name, of in firsts.items() if name != against})
    known = [firsts[name] for name in members]
    seen, own = _Seen.of(known, FITTED_ON), _Seen.of([firsts[against]], FITTED_ON)
    fitted = dict(zip(members, seen.logits.T, strict=True)) | _cross_fitted(seen)
    thresholds = {name: _threshold(logits, seen) for name, logits in fitted.items()}
    thresholds[against] = _threshold(own.logits[:, 0], own) if fake_from is None else fake_from
    new = _Seen.of([*known, firsts[against]], JUDGED_ON)
    fit = _Fit(seen.logits, seen.truth)
    said = dict(zip((*members, against), new.logits.T, strict=True))
    said |= fit.said(new.logits[:, :BEST])
    columns = list(dict.fromkeys(new.column.tolist()))
    tables = {
        name: [{c: new.table(c, firsts[against][c], logits) for c in columns}]
        for name, logits in said.items()
    }
    compared = differences(tables, [against], resamples=resamples)
    unsure = fit.unsure(new.logits[:, :BEST])
    ways: dict[str, Any] = {}
    for name in (*members, FUSION, CASCADE, against):
        called = said[name] >= thresholds[name]
        ways[name] = {
            "threshold": round(float(thresholds[name]), 6),
            "fitted": _areas(fitted[name], seen) if name in fitted else {},
            "judged": {
                column: compared[name][column]
                | _shares(new, new.column == column, called, unsure if name == CASCADE else None)
                for column in columns
            },
        }
    return {"members": members, "against": against, "ways": ways}


def grid(plain: Mapping[str, Any]) -> Grid:
    """Lay out what ``judged`` returns: a row for each way and column."""
    against = plain["against"]
    rows = []
    for way, of in plain["ways"].items():
        name = way
        for column, told in of["judged"].items():
            bare = column.removeprefix(JUDGED_ON)
            gained = told["against"].get(against, {})
            rows.append(
                (
                    name,
                    bare,
                    f"{of['fitted'][bare]:.3f}" if bare in of["fitted"] else "-",
                    f"{told['auroc'][0]:.3f}",
                    *(cell(gained.get(over)) for over in ("over_images", "over_collections")),
                    *(cell(told.get(share)) for share in _SHARES),
                )
            )
            name = ""
    header = (
        *("way", "column", "AUROC there, cross-fitted", "AUROC on dev"),
        *(f"minus {against}, 95 % over {over}" for over in ("images", "collections")),
        *_SHARES.values(),
    )
    return Grid(f"{TITLE}, judged on dev", header, tuple(rows))


def _best(methods: Mapping[str, Columns]) -> list[str]:
    """Return the three methods with the highest AUROC in the first column of the collections left out."""
    found = {}
    for name, columns in methods.items():
        table = next((t for column, t in columns.items() if column.startswith(FITTED_ON)), None)
        if table is not None:
            truth = truth_of(table, QUESTION)
            used = usable(table, QUESTION, truth)
            found[name] = auroc(table[_LOGIT][used], truth[used])
    if len(found) < BEST:
        raise MissingDataError(f"{len(found)} methods are measured: expected at least {BEST}.")
    return sorted(found, key=lambda name: -found[name])[:BEST]


def _cross_fitted(seen: _Seen) -> dict[str, Logits]:
    """Return what both ways say of each collection, by a fit to all others."""
    made = {name: np.empty(len(seen.truth)) for name in (FUSION, CASCADE)}
    every = np.unique(seen.sources)
    if len(every) < 2:
        raise MissingDataError("One collection was left out of training: cross-fitting needs two.")
    for source in every:
        own = seen.sources == source
        for name, logits in (
            _Fit(seen.logits[~own], seen.truth[~own]).said(seen.logits[own]).items()
        ):
            made[name][own] = logits
    return made


def _scale(logits: Logits, truth: Int[np.ndarray, " n"]) -> Calibration:
    temperature, offset = fit_scale(logits, truth)
    return replace(RAW, temperature=temperature, offset=offset)


def _threshold(logits: Logits, seen: _Seen) -> float:
    photos = seen.truth == 0
    return fit_thresholds(logits[photos], seen.sources[photos].tolist(), RATES)[1]


def _areas(logits: Logits, seen: _Seen) -> dict[str, float]:
    """Return AUROC by column."""
    return {
        name.removeprefix(FITTED_ON): round(auroc(logits[of], seen.truth[of]), 6)
        for name in dict.fromkeys(seen.column.tolist())
        for of in [seen.column == name]
    }


def _shares(
    seen: _Seen,
    of: Bool[np.ndarray, " n"],
    called: Bool[np.ndarray, " n"],
    unsure: Bool[np.ndarray, " n"] | None,
) -> dict[str, Any]:
    counted = {
        "called_fake": (called, of & (seen.truth == 0)),
        "found": (called, of & (seen.truth == 1)),
    }
    if unsure is not None:
        counted["passed_on"] = (unsure, of)
    return {
        name: wilson(int((hit & among).sum()), int(among.sum())).to_json()
        for name, (hit, among) in counted.items()
    }
