"""The outcome of a scan for people (table, page) and for programs (JSON lines, exit code)."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gammascope import checkpoints, names
from gammascope.apps import terminal
from gammascope.apps.choices import FailOn
from gammascope.apps.failures import DONE, FOUND, IMPOSSIBLE, PARTLY_DONE, until_interrupted
from gammascope.apps.report_page import FailedRow, PageRow, write_report
from gammascope.imaging import provenance
from gammascope.imaging.decode import Limits
from gammascope.pipeline import Pipeline
from gammascope.report import FORMAT, Report, Strength, Verdict
from gammascope.scanning.scan import Scanned, scan

_STYLES = {Verdict.FAKE: "bold red", Verdict.UNCERTAIN: "yellow", Verdict.NO_SIGN: "green"}
# No check mark: that nothing was found confirms nothing.
_SYMBOLS = {Verdict.FAKE: "●", Verdict.UNCERTAIN: "◐", Verdict.NO_SIGN: "○"}
_PLAIN_SYMBOLS = {Verdict.FAKE: "!", Verdict.UNCERTAIN: "?", Verdict.NO_SIGN: "-"}
_FINDINGS_SHOWN = 20


@dataclass(slots=True)
class Results:
    """Takes the rows of a scan as they come and keeps what is shown at its end; pixels are let go.

    Attributes:
        files: What is scanned, to name each file relative to their common folder.
        json_lines: Print each row as JSON to stdout at once.
        reports: By name, in scan order.
        failed: Reasons by name.
        said: Names, and what these files say about their origin that is more than a hint.
    """

    files: Sequence[Path]
    json_lines: bool = False
    reports: dict[str, Report] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    said: list[tuple[str, str]] = field(default_factory=list)
    _folder: str = ""

    def __post_init__(self) -> None:
        folder = common_folder(self.files)
        # Names relative to the root of the file system would be absolute ones that lack a slash.
        self._folder = "" if folder == Path(folder).anchor else folder

    def run(self, pipeline: Pipeline, limits: Limits, page: Path | None, *, bar: bool) -> None:
        """Scan all files; with ``page``, write them into one at the end, complete or not at all."""
        with terminal.progress_bar("Scanning", shown=bar) as advance:
            scanned = until_interrupted(scan(self.files, pipeline, limits=limits))
            rows = self.take(terminal.counted(scanned, len(self.files), advance))
            if page is None:
                deque(rows, maxlen=0)  # the rows' pixels are not needed
            else:
                facts = page_facts(self.files, pipeline)
                write_report(rows, page, title=page_title(self.files), summary=facts)

    def take(self, rows: Iterable[Scanned]) -> Iterator[PageRow | FailedRow]:
        """Note down rows and hand them on, as a page wants them."""
        for row in rows:
            whole = str(row.path.absolute())
            name = names.shown(os.path.relpath(whole, self._folder) if self._folder else whole)
            if self.json_lines:
                # One write a row, so that an interrupted output ends with a whole line.
                sys.stdout.write(json.dumps(json_row(row)) + "\n")
                sys.stdout.flush()
            if row.report is None or row.image is None:
                self.failed[name] = row.error or "unknown reason"
                yield FailedRow(name, self.failed[name])
                continue
            report = replace(row.report, image=name)
            self.reports[name] = replace(report, evidence=(), tiles=())
            for item in report.evidence:
                if item.strength in (Strength.STRONG, Strength.MODERATE):
                    self.said.append((name, item.statement))
            yield PageRow(report, row.image)

    def exit_code(self, fail_on: FailOn | None) -> int:
        """Return the exit code of the scan; a verdict that was asked for outweighs unreadable files."""
        if any(report.verdict in fails_on(fail_on) for report in self.reports.values()):
            return FOUND
        if self.failed:
            return PARTLY_DONE if self.reports else IMPOSSIBLE
        return DONE

    def print(self, facts: checkpoints.Facts) -> None:
        """Print the table, unreadable files, counts, and what the verdicts mean."""
        console = terminal.output()
        shared = self._shared_caveats()
        if self.reports:
            console.print(self._table(console, shared))
        for name, reason in self.failed.items():
            # The decoder's message starts with the file's name; the table's name says more.
            words = reason.removeprefix(f"{Path(name).name}: ")
            console.print(terminal.literal(f"unreadable: {name}: {words}", "magenta"))
        for name, statement in self.said[:_FINDINGS_SHOWN]:
            console.print(terminal.literal(f"says: {name}: {statement}", "cyan"))
        if len(self.said) > _FINDINGS_SHOWN:
            more = len(self.said) - _FINDINGS_SHOWN
            console.print(
                terminal.literal(f"says: {more} more findings; see --report or --json.", "cyan")
            )
        console.print(terminal.literal(self.counts(), "bold"))
        for caveat in shared:
            console.print(terminal.literal(f"All: {caveat}", "yellow"))
        if self.reports:
            console.print(terminal.literal(meaning(facts), "dim"))

    def counts(self) -> str:
        """Return one line: how many files, which verdicts, how many unreadable."""
        seen, total = len(self.reports) + len(self.failed), len(self.files)
        found = Counter(report.verdict for report in self.reports.values())
        parts = [f"{found[verdict]} {verdict}" for verdict in _STYLES if found[verdict]]
        if self.failed:
            parts.append(f"{len(self.failed)} unreadable")
        part = f"{seen} of " if seen < total else ""
        return f"{part}{total} {'file' if total == 1 else 'files'}: {', '.join(parts) or 'nothing examined'}"

    def _shared_caveats(self) -> tuple[str, ...]:
        """Caveats that every one of several reports has: said once, not in each row."""
        every = [report.caveats for report in self.reports.values()]
        if len(every) < 2:
            return ()
        return tuple(caveat for caveat in every[0] if all(caveat in one for one in every))

    def _table(self, console: Console, shared: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("file", overflow="fold", ratio=2 if console.is_terminal else None)
        some = next(iter(self.reports.values()))
        questions = list(some.answers)
        table.add_column("verdict", no_wrap=True)
        for question in questions:
            if len(questions) > 1:  # where there is one question, its answer is the verdict
                table.add_column(question, no_wrap=True)
            table.add_column(f"P({question})", justify="right", no_wrap=True)
        caveats = {
            name: " ".join(caveat for caveat in report.caveats if caveat not in shared)
            for name, report in self.reports.items()
        }
        if any(caveats.values()):
            table.add_column("caveats", overflow="fold", ratio=3 if console.is_terminal else None)
        rechecked = any(report.stability for report in self.reports.values())
        if rechecked:
            table.add_column("holds", no_wrap=True)
        symbols = _SYMBOLS if terminal.speaks_unicode(console) else _PLAIN_SYMBOLS
        for name, report in self.reports.items():
            cells = [terminal.literal(name), *_answered(report, questions, symbols)]
            if any(caveats.values()):
                cells.append(terminal.literal(caveats[name], "dim"))
            if rechecked:
                cells.append(_holds(report))
            table.add_row(*cells)
        return table


def _answered(
    report: Report, questions: Sequence[str], symbols: Mapping[Verdict, str]
) -> Iterator[Text]:
    """Yield the cells of the verdict on the picture, and of each question's verdict and probability."""

    def said(verdict: Verdict) -> Text:
        return terminal.literal(f"{symbols[verdict]} {verdict}", _STYLES[verdict])

    yield said(report.verdict)
    for question in questions:
        answer = report.answers[question]
        if len(questions) > 1:
            yield said(answer.verdict)
        yield terminal.literal(shown_chance(answer.probability))


def _holds(report: Report) -> Text:
    """Say whether the verdicts survived ordinary processing."""
    if all(check.holds for check in report.stability):
        return terminal.literal("yes")
    return terminal.literal("no", "yellow")


def trusted(place: Path | None) -> provenance.TrustList | None:
    """Read the authorities that a scan is told to trust.

    Raises:
        MissingDataError: If there is no certificate at the place.
        MissingExtraError: If nothing is installed that could make use of them.
    """
    if place is None:
        return None
    provenance.c2pa.require_library()
    return provenance.TrustList.read(place)


def fails_on(weakest: FailOn | None) -> frozenset[Verdict]:
    """Return the verdicts on a whole picture that make a scan exit with FOUND."""
    if weakest is None:
        return frozenset()
    return frozenset(one for one in Verdict if one.gravity >= Verdict(weakest.value).gravity)


def json_row(row: Scanned) -> dict[str, object]:
    """Return a row as plain types, with the file's absolute path."""
    image = names.shown(row.path.absolute())
    if row.report is None:
        return {
            "format": FORMAT,
            "image": image,
            "error": names.shown(row.error or "unknown reason"),
        }
    return row.report.to_json() | {"image": image}


def shown_share(share: float) -> str:
    """Return a rate in per cent with the digits that it has: half a per cent is not none.

    >>> shown_share(0.01), shown_share(0.005), shown_share(0.05)
    ('1 %', '0.5 %', '5 %')
    """
    return f"{100 * share:.3g} %"


def shown_chance(probability: float) -> str:
    """Return a probability for people, never rounded to certainty.

    >>> shown_chance(0.534), shown_chance(0.9999), shown_chance(0.0)
    ('0.53', '>0.99', '<0.01')
    """
    if probability > 0.99:
        return ">0.99"
    return "<0.01" if probability < 0.01 else f"{probability:.2f}"


def meaning(facts: checkpoints.Facts) -> str:
    """Return what the verdicts mean, in the words of the calibration."""
    known: Mapping[str, checkpoints.Calibration] = facts.calibration
    ways = [f"{_WAYS.get(name, name)} ({_rates(one)})" for name, one in known.items()]
    words = " or ".join(ways or _WAYS.values())
    return f"'fake': {words}. That is no proof, and 'no sign' only means that nothing was found."


_WAYS = {"generated": "contains AI-generated pixels", "edited": "was edited"}


def _rates(known: checkpoints.Calibration) -> str:
    unsure, called = map(shown_share, known.rates)
    if known.zone != "conformal":
        return f"at most {called} of {known.photos} held-out photos were called so, {unsure} with 'uncertain'"
    promised = f"at most {called} of new photos like the {known.photos} held-out ones are called so"
    if known.missed is None:
        return promised
    return f"{promised}, and {shown_share(known.missed)} of fakes get 'no sign'"


def page_title(files: Sequence[Path]) -> str:
    """Return a heading for the page of a scan."""
    return f"Scan of {terminal.printable(Path(common_folder(files)).name or 'files')}"


def page_facts(files: Sequence[Path], pipeline: Pipeline) -> dict[str, str]:
    """Return what the page says about the scan as a whole."""
    return {
        "Folder": terminal.printable(common_folder(files)),
        "Files": str(len(files)),
        "Method": pipeline.facts.method,
        "Weights": pipeline.weights_sha256[:12],
    }


def distinct(files: Sequence[Path]) -> list[Path]:
    """Keep the first of several names for the same path ("a.jpg", "./a.jpg")."""
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(os.path.normpath(file.absolute()), file)
    return list(first.values())


def common_folder(files: Sequence[Path]) -> str:
    """Return the deepest folder that all files are in."""
    return os.path.commonpath([file.absolute().parent for file in files])
