"""What methods gain over plain ones on the same images: paired differences, over images and over collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gammascope.errors import MissingDataError
from gammascope.evaluation.comparing import answered
from gammascope.evaluation.intervals import Rows, Value, Weights, bootstrap
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid, cell

QUESTION = "generated"

Columns = Mapping[str, ScoreTable]
"""Scores of one run, by column."""


def differences(
    runs: Mapping[str, Sequence[Columns]], plain: Sequence[str], *, resamples: int = 1000
) -> dict[str, Any]:
    """Compare the AUROC of every method with that of each plain one, column by column, in plain types.

    A method with several runs (seeds) counts by the mean of their AUROC. Intervals of 95 % are of a paired bootstrap:
    "over_images" draws images of each class, "over_collections" collections, which says how far a difference carries.

    Args:
        runs: By method; all of the same images.
        plain: Methods that the others are compared with.
        resamples: Of the bootstrap.

    Returns:
        By method and column: "auroc" of each run, and "against" by plain method.

    Raises:
        MissingDataError: If a plain method is not there, or two runs answer for other images.
    """
    absent = [name for name in plain if name not in runs]
    if absent:
        raise MissingDataError(f"No scores of {', '.join(absent)}, which others are compared with.")
    columns = list(next(iter(runs.values()))[0])
    made: dict[str, Any] = {name: {} for name in runs}
    for column in columns:
        sides = {name: _Side([run[column] for run in of]) for name, of in runs.items()}
        for name, side in sides.items():
            against = {
                other: side.minus(sides[other], resamples) for other in plain if other != name
            }
            made[name][column] = {"auroc": side.aurocs(), "against": against}
    return made


class _Side:
    """The scores of a method's runs on the images of one column."""

    def __init__(self, tables: Sequence[ScoreTable]) -> None:
        found = [answered(table, QUESTION) for table in tables]
        self.paths, self.truth, _ = found[0]
        if any(not np.array_equal(paths, self.paths) for paths, _, _ in found):
            raise MissingDataError("Runs of one method answer for other images.")
        self.logits = [logits for _, _, logits in found]
        known = dict(zip(tables[0]["path"].tolist(), tables[0]["source"].tolist(), strict=True))
        self.sources = np.array([known[path] for path in self.paths.tolist()])

    def aurocs(self) -> list[float]:
        """Return one AUROC for each run."""
        return [round(auroc(logits, self.truth), 6) for logits in self.logits]

    def minus(self, other: _Side, resamples: int) -> dict[str, Any]:
        """Return the difference of the means over runs, with both intervals."""
        if not np.array_equal(self.paths, other.paths):
            raise MissingDataError("Two methods answer for other images: they cannot be paired.")

        def kernel(rows: Rows, weight: Weights) -> Float[np.ndarray, " b"]:
            truth = self.truth[rows]
            own, its = (
                np.mean([auroc.kernel(z[rows], truth, weight) for z in side.logits], axis=0)
                for side in (self, other)
            )
            return np.asarray(own - its)

        found: Mapping[str, Value] = {
            "over_images": bootstrap(kernel, self.truth, resamples=resamples),
            "over_collections": bootstrap(kernel, self.truth, self.sources, resamples=resamples),
        }
        return {name: value.to_json() for name, value in found.items()}


def grid(plain: Mapping[str, Any]) -> Grid:
    """Lay differences out, a row for each method and column."""
    others = list(
        dict.fromkeys(name for by in plain.values() for of in by.values() for name in of["against"])
    )
    rows = []
    for method, columns in plain.items():
        name = method
        for column, of in columns.items():
            seeds = ", ".join(f"{value:.3f}" for value in of["auroc"])
            gained = [
                cell(of["against"].get(other, {}).get(interval))
                for other in others
                for interval in ("over_images", "over_collections")
            ]
            rows.append((name, column, seeds, *gained))
            name = ""
    titles = [
        f"minus {other}, 95 % over {over}" for other in others for over in ("images", "collections")
    ]
    header = ("method", "column", "AUROC of each run", *titles)
    return Grid("zoo: differences in AUROC", header, tuple(rows))
