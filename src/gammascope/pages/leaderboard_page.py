"""A leaderboard from folders of ``gammascope evaluate``: boards for programs, a terminal, and one HTML page.

The page is one file without a network: style and script are inside, and its content security policy forbids everything
else. Without the script it is a plain table, already in order.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import gammascope
from gammascope import settings
from gammascope.checkpoints import Calibration
from gammascope.errors import MissingDataError
from gammascope.evaluation import comparing, costs, run
from gammascope.evaluation.comparing import LEADING, Board, Contestant, Row, boards
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid
from gammascope.files import complete_or_absent, shown
from gammascope.pages import policy, template, web_part

COLUMNS: Final = (run.NATIVE, run.ALIGNED, run.ALL_RECODED)
"""What was shown, in the order of the page; further columns of an evaluation are not on it."""

_SHOWN: Final = {
    run.NATIVE: "native",
    run.ALIGNED: "fakes aligned",
    run.ALL_RECODED: "all re-encoded",
}
_NUMBERS: Final = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "balanced_accuracy": "Balanced acc.",
    "real_accuracy": "Real acc.",
    "fake_accuracy": "Fake acc.",
    "eer": "EER",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "ece": "ECE",
}
_LESS_IS_BETTER: Final = {"eer", "ece", "ms", "parameters", "megabytes", "name"}
_COSTS: Final = {
    "images": "Images",
    "ms": "ms/image",
    "parameters": "Parameters",
    "megabytes": "MB",
}
_BAR: Final = (120, 10)  # width and height of an interval's drawing, in its own units


@dataclass(frozen=True, slots=True)
class _Folder(Mapping[str, ScoreTable]):
    """The score tables of an evaluation by column, each read at first use."""

    place: Path
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> ScoreTable:
        if name not in self.names:
            raise KeyError(name)
        return comparing.scores_in(self.place, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def made_of(folders: Sequence[Path]) -> list[Board]:
    """Read evaluations and put their detectors on boards, a row for each question that one was measured on.

    Raises:
        MissingDataError: If a folder holds no evaluation, or is named twice.
    """
    places = [folder.resolve() for folder in folders]
    twice = next((folder for folder in places if places.count(folder) > 1), None)
    if twice is not None:
        raise MissingDataError(f"{twice} is named twice: a detector has one row on a board.")
    names = _told_apart(places)
    return boards(
        [
            contestant
            for folder, name in zip(folders, names, strict=True)
            for contestant in _contestants(folder, name)
        ]
    )


def plain(made: Sequence[Board]) -> dict[str, Any]:
    """Return plain types for JSON."""
    return {
        "gammascope": gammascope.__version__,
        "note": "Numbers of different boards are of different images and must not be compared.",
        "boards": [board.to_json() for board in made],
    }


def grids(made: Sequence[Board]) -> Iterator[tuple[Grid, str]]:
    """Yield a table for each board, and what must be known before its rows are compared.

    Columns are AUROC in every condition, accuracies in the one to quote, time and size.
    """
    for board in made:
        quoted = next((name for name in LEADING if name in board.columns), run.NATIVE)
        columns = [name for name in COLUMNS if name in board.columns]
        titles = [f"AUROC {_SHOWN[name]}" for name in columns]
        titles += [
            f"{_NUMBERS[key]} {_SHOWN[quoted]}" for key in ("real_accuracy", "fake_accuracy")
        ]
        rows = []
        for row in board.rows:
            cells = [_with_interval(row.columns.get(name, {}).get("auroc")) for name in columns]
            cells += [
                _with_interval(row.columns.get(quoted, {}).get(key))
                for key in ("real_accuracy", "fake_accuracy")
            ]
            cells += [_cost_text(row, "ms"), _cost_text(row, "parameters")]
            rows.append((row.contestant.name, *cells))
        header = ("detector", *titles, "ms/image", "parameters")
        notes = " ".join(_warnings(board, several=_several(made)))
        yield Grid(_heading(board), header, tuple(rows)), notes


def write(made: Sequence[Board], path: Path, title: str, written: datetime | None = None) -> None:
    """Write the page; it is there complete or not at all.

    Args:
        made: What to show.
        path: Where.
        title: Heading.
        written: Date on the page; None: now.
    """
    moment = (written or datetime.now(UTC)).astimezone(UTC)
    style, script = web_part("leaderboard.css"), web_part("leaderboard.js")
    apart = (
        '<p class="notice warning"><strong>These detectors were not all scored on the same images.</strong> '
        "Each table below is of images of its own: numbers must not be compared between tables.</p>"
        if len({_subject(board) for board in made}) < len(made)
        else ""
    )
    filled = {
        "policy": html.escape(policy(script, style)),
        "title": html.escape(title),
        "written": html.escape(moment.strftime("%Y-%m-%d %H:%M UTC")),
        "version": html.escape(gammascope.__version__),
        "style": style,
        "script": script,
        "apart": apart,
        "boards": "\n".join(
            _board(board, number, several=_several(made))
            for number, board in enumerate(made, start=1)
        ),
    }
    pieces = template("leaderboard.html")
    text = "".join(filled[piece] if at % 2 else piece for at, piece in enumerate(pieces))
    with complete_or_absent(path) as unfinished:
        unfinished.write_bytes(text.encode("utf-8", "replace"))


def _contestants(folder: Path, name: str) -> Iterator[Contestant]:
    summary = comparing.summary_of(folder)
    columns: Mapping[str, Mapping[str, Any]] = summary["columns"]
    questions = columns.get(run.NATIVE, {})
    for question, measured in questions.items():
        known = summary.get("calibration", {}).get(question)
        yield Contestant(
            name=name,
            question=question,
            tables=_Folder(folder, tuple(at for at in COLUMNS if question in columns.get(at, {}))),
            calibration=settings.parse(Calibration, known, f"{folder}, calibration")
            if known
            else Calibration(
                temperature=measured["temperature"],
                uncertain_from=measured["threshold"],
                fake_from=measured["threshold"],
                rates=(0.0, 0.0),
                photos=0,
                sources=(),
                offset=measured["offset"],
            ),
            facts={
                "method": summary["method"],
                "weights_sha256": summary["weights_sha256"],
                "calibrated": summary["calibrated"],
                "data": summary["data"],
                **costs.facts_of(summary),
            },
        )


def _told_apart(places: Sequence[Path]) -> list[str]:
    """Name folders by as many of their last parts as tell them apart."""
    parts = 1
    while True:
        names = [shown("/".join(place.parts[-parts:])) for place in places]
        if len(set(names)) == len(names):
            return names
        parts += 1


def _heading(board: Board) -> str:
    return f"{' / '.join(board.questions)}: {board.yes} yes, {board.no} no"


def _subject(board: Board) -> bool:
    return board.questions == ("edited",)


def _several(made: Sequence[Board]) -> bool:
    return len({row.contestant.name for board in made for row in board.rows}) > 1


def _warnings(board: Board, *, several: bool) -> Iterator[str]:
    """Yield what must be known before rows of a board are compared."""
    if board.is_common_part:
        yield (
            f"Common part only: not all of these detectors answered for the same images. Every number here is of the "
            f"{board.yes + board.no} images that all of them answered for."
        )
    if len(board.rows) == 1 and several:
        yield "No other detector was scored on these images."
    known = {(row.contestant.facts.get("speed") or {}).get("machine") for row in board.rows}
    if len(known - {None}) > 1:
        yield "Times were measured on different machines: they are no comparison of the detectors."
    if not board.yes or not board.no:
        yield "Only one class is here: most numbers are undefined."


def _board(board: Board, number: int, *, several: bool) -> str:
    columns = [name for name in COLUMNS if name in board.columns]
    quoted = next((name for name in LEADING if name in columns), columns[0])
    notices = "".join(
        f'<p class="notice warning">{html.escape(text)}</p>'
        for text in _warnings(board, several=several)
    )
    data = sorted({str(row.contestant.facts.get("data", "")) for row in board.rows})
    machines = sorted(
        {
            str(speed["machine"])
            for row in board.rows
            if (speed := row.contestant.facts.get("speed")) is not None
        }
    )
    facts = {"Images": ", ".join(data), "Times measured on": "; ".join(machines) or "-"}
    described = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in facts.items()
    )
    head = "".join(
        f'<th scope="col" data-key="{key}" data-first="{"up" if key in _LESS_IS_BETTER else "down"}"'
        f"{_sorted_first(key)}>{html.escape(title)}</th>"
        for key, title in {"name": "Detector", "shown": "Shown", **_NUMBERS, **_COSTS}.items()
    )
    options = "".join(
        f'<option value="{name}"{" selected" if name == quoted else ""}>{_SHOWN[name]}</option>'
        for name in columns
    )
    asked = len(board.questions) > 1
    body = "\n".join(_row(row, columns, asked=asked) for row in board.rows)
    heading = html.escape(_heading(board))
    return f"""<section class="board" aria-labelledby="board-{number}">
<h2 id="board-{number}">{heading}</h2>
<dl class="facts">{described}</dl>
{notices}<p class="controls" hidden><label>Sort by numbers of <select>{options}</select></label></p>
<p class="hidden" role="status" aria-live="polite"></p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="board-{number}">
<table><thead><tr>{head}</tr></thead>
{body}
</table></div>
</section>"""


def _sorted_first(key: str) -> str:
    if key == "shown":
        return ""
    return f' aria-sort="{"descending" if key == "auroc" else "none"}"'


def _row(row: Row, columns: Sequence[str], *, asked: bool) -> str:
    """Draw a detector: a body of its own, with a line for each column it was shown."""
    facts = row.contestant.facts
    notes = [f"{facts.get('method', '-')} · {str(facts.get('weights_sha256', ''))[:8]}"]
    if asked:
        notes.append(f"asked: {row.contestant.question}")
    if not facts.get("calibrated"):
        notes.append("not calibrated: threshold 0")
    if row.failed:
        notes.append(f"{row.failed} images failed")
    if row.left_out:
        notes.append(f"{row.left_out} of its {row.answered} images left out here")
    name = html.escape(row.contestant.name)
    named = (
        f'<th scope="rowgroup" rowspan="{len(columns)}" data-key="name" data-value="{name}">'
        f"<span>{name}</span>"
        + "".join(f"<small>{html.escape(note)}</small>" for note in notes)
        + "</th>"
    )
    cost_cells = "".join(
        f'<td rowspan="{len(columns)}" data-key="{key}"{_value(_cost(row, key))}>'
        f"{html.escape(_cost_text(row, key))}</td>"
        for key in _COSTS
    )
    lines = []
    for at, name in enumerate(columns):
        numbers = row.columns.get(name)
        cells = "".join(_number(key, (numbers or {}).get(key)) for key in _NUMBERS)
        lines.append(
            f'<tr data-column="{name}">{named if at == 0 else ""}'
            f'<th scope="row" class="shown">{_SHOWN[name]}</th>{cells}{cost_cells if at == 0 else ""}</tr>'
        )
    return f"<tbody>{''.join(lines)}</tbody>"


def _number(key: str, value: Mapping[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        why = html.escape((value or {}).get("reason") or "not measured")
        return f'<td data-key="{key}" class="absent" title="{why}">-</td>'
    interval = drawing = ""
    if value["low"] is not None:
        interval = f"<small>{value['low']:.3f}\N{EN DASH}{value['high']:.3f}</small>"
        drawing = _interval_drawing(value) if key == "auroc" else ""
    return (
        f'<td data-key="{key}"{_value(value["value"])}>{value["value"]:.3f}{interval}{drawing}</td>'
    )


def _interval_drawing(value: Mapping[str, Any]) -> str:
    """Draw an interval on a line from 0 to 1 with a mark at one half, where nothing is told apart."""
    width, height = _BAR
    low, high, at = (value[name] * width for name in ("low", "high", "value"))
    return (
        f'<svg class="interval" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<rect class="track" y="{height / 2 - 1}" width="{width}" height="2"/>'
        f'<rect class="half" x="{width / 2 - 0.5}" y="1" width="1" height="{height - 2}"/>'
        f'<rect class="range" x="{low:.1f}" y="{height / 2 - 2}" width="{max(high - low, 1):.1f}" height="4"/>'
        f'<circle class="value" cx="{at:.1f}" cy="{height / 2}" r="3"/></svg>'
    )


def _cost(row: Row, key: str) -> float | None:
    facts = row.contestant.facts
    value = {
        "images": row.answered - row.left_out,
        "ms": (facts.get("speed") or {}).get("ms_per_image"),
        **(facts.get("size") or {}),
    }.get(key)
    return None if value is None else float(value)


def _cost_text(row: Row, key: str) -> str:
    value = _cost(row, key)
    if value is None:
        return "not measured" if key == "ms" else "not known"
    if key == "parameters":
        return f"{value / 1e6:.2f} M"
    return f"{value:,.0f}" if key == "images" else f"{value:.1f}"


def _value(value: float | None) -> str:
    return "" if value is None else f' data-value="{value!r}"'


def _with_interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "-"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
