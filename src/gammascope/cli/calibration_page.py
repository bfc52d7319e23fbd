"""What ``gammascope calibrate`` is fed with, and its outcome as tables, files and plots."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from gammascope import checkpoints, settings
from gammascope.cli import terminal
from gammascope.errors import MissingExtraError
from gammascope.evaluation.calibrating import Calibrated
from gammascope.evaluation.contact_sheet import false_alarm_slices
from gammascope.evaluation.tables import Grid, markdown
from gammascope.files import complete_or_absent
from gammascope.report import percent

NUMBERS = "calibration.json"
PAGE = "calibration.md"


def table(fitted: Mapping[str, checkpoints.Calibration]) -> Table:
    """Draw what was fitted, a row for each question."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    grid = _fitted(fitted)
    for title in grid.header:
        drawn.add_column(
            title, justify="left" if title in {"question", "zone", "sources"} else "right"
        )
    for row in grid.rows:
        drawn.add_row(*map(terminal.literal, row))
    return drawn


def grids(calibrated: Calibrated) -> list[Grid]:
    """Lay out how what was fitted does on images it was not fitted on, and each source's own thresholds."""
    made = []
    for question, known in calibrated.calibration.items():
        held = calibrated.held_out[question]
        if not held.missing:
            made.append(
                replace(
                    false_alarm_slices(held.table, question),
                    title=f"{question}: real photos called fake, each by a fit without it",
                )
            )
        if known.points:
            made.append(_points(question, known))
    return made


_SPREAD = {
    "quantile": "each source weighing the same",
    "worst": "in every source that has enough photos to tell",
}


def notes(calibrated: Calibrated) -> list[str]:
    """Return a line for each question on what its rates mean, and on what could not be measured."""
    lines = []
    for question, known in calibrated.calibration.items():
        if known.zone == "conformal":
            lines.append(
                f"{question}: of new images like these (same sources, same mix) at most "
                f"{percent(known.rates[1])} of real photos are called fake, and at most "
                f"{percent(known.missed or 0.0)} of fakes get 'no sign'; {percent(known.rates[0])} of "
                f"{known.photos} photos were uncertain or fake."
            )
        else:
            lines.append(
                f"{question}: at most {percent(known.rates[1])} of these {known.photos} photos are called fake and "
                f"{percent(known.rates[0])} uncertain or fake, {_SPREAD[known.zone]}; of new ones "
                "it may be more (--zone conformal limits that)."
            )
        if missing := calibrated.held_out[question].missing:
            lines.append(f"{question}: rates on held-out photos were not measured. {missing}")
    return lines


def write(calibrated: Calibrated, folder: Path) -> Iterator[str]:
    """Write ``calibration.json``, ``calibration.md`` and ``reliability_<question>.png``; yield lines for people."""
    from gammascope.evaluation import plots

    made = grids(calibrated)
    plain = {
        "calibration": settings.plain(calibrated.calibration),
        "notes": notes(calibrated),
        "tables": [settings.plain(grid) for grid in made],
    }
    with complete_or_absent(folder / NUMBERS) as unfinished:
        unfinished.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", "utf-8")
    with complete_or_absent(folder / PAGE) as unfinished:
        text = "\n".join(f"- {note}" for note in notes(calibrated))
        tables = markdown([_fitted(calibrated.calibration), *made])
        unfinished.write_text(f"{text}\n\n{tables}", "utf-8")
    for question, held in calibrated.held_out.items():
        if held.missing:
            continue
        try:
            at = folder / f"reliability_{question}.png"
            plots.plot_reliability(held.probability, held.truth, at)
        except MissingExtraError as error:
            yield str(error)
            break
    yield f"Rates, thresholds and plots: {folder}"


def _fitted(fitted: Mapping[str, checkpoints.Calibration]) -> Grid:
    header = (
        *("question", "temperature", "offset", "knots", "uncertain from", "fake from"),
        *("zone", "photos", "sources"),
    )
    rows = tuple(
        (
            question,
            f"{values.temperature:.3f}",
            f"{values.offset:.3f}",
            str(len(values.knots) or "-"),
            f"logit {values.uncertain_from:.3f} ({percent(values.rates[0], 1)} of photos)",
            f"logit {values.fake_from:.3f} ({percent(values.rates[1], 1)})",
            values.zone,
            str(values.photos),
            ", ".join(values.sources),
        )
        for question, values in fitted.items()
    )
    return Grid("fitted", header, rows)


def _points(question: str, known: checkpoints.Calibration) -> Grid:
    rates = sorted({point.rate for point in known.points}, reverse=True)
    photos = {point.source: point.photos for point in known.points}
    at = {(point.source, point.rate): point.logit for point in known.points}
    rows = tuple(
        (
            source or "unnamed",
            str(count),
            *(_from(at[source, rate]) for rate in rates),
        )
        for source, count in photos.items()
    )
    header = ("source", "photos", *(f"{percent(rate)} from" for rate in rates))
    title = f"{question}: logit from which a share of each source's photos would be flagged"
    return Grid(title, header, rows)


def _from(logit: float | None) -> str:
    return "too few photos" if logit is None else f"{logit:.3f}"
