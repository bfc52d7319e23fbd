"""The outcome of a scan for people (table, page) and for programs (JSON lines, exit code)."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gammascope import checkpoints, forensics
from gammascope.choices import FailOn
from gammascope.cli import detector, terminal
from gammascope.cli.failures import DONE, FOUND, IMPOSSIBLE, PARTLY_DONE, until_interrupted
from gammascope.detection.opinions import Detectors, differences, opinions_json
from gammascope.detection.pipeline import Pipeline
from gammascope.files import shown
from gammascope.imaging import provenance
from gammascope.imaging.decode import Limits
from gammascope.pages.report_page import FailedRow, PageRow, write_report
from gammascope.report import (
    COUNTED,
    FORMAT,
    Answer,
    Report,
    Strength,
    Verdict,
    percent,
    without_numbers,
)
from gammascope.scanning.ordered import Scanned, scan

_STYLES = {Verdict.FAKE: "bold red", Verdict.UNCERTAIN: "yellow", Verdict.NO_SIGN: "green"}
# No check mark: that nothing was found confirms nothing.
_SYMBOLS = {Verdict.FAKE: "●", Verdict.UNCERTAIN: "◐", Verdict.NO_SIGN: "○"}
_PLAIN_SYMBOLS = {Verdict.FAKE: "!", Verdict.UNCERTAIN: "?", Verdict.NO_SIGN: "-"}
_FINDINGS_SHOWN = 20


@dataclass(slots=True)
class Results:
    """Takes the rows of a scan as they come and keeps what its end shows; pixels are released.

    Attributes:
        files: What is scanned, to name each file relative to their common folder.
        detectors: What examines it.
        json_lines: Print each row as JSON to stdout at once.
        numbers: Show numbers of confidence beside the labels.
        reports: One of each detector, by the file's name, in scan order.
        failed: Reasons by name.
        said: What files say about their origin and show of parts: rank, kind, name of the file, words.
    """

    files: Sequence[Path]
    detectors: Detectors
    json_lines: bool = False
    numbers: bool = True
    reports: dict[str, tuple[Report, ...]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    said: list[tuple[int, str, str, str]] = field(default_factory=list)
    _folder: str = ""

    def __post_init__(self) -> None:
        folder = common_folder(self.files)
        # Names relative to the root of the file system would be absolute ones that lack a slash.
        self._folder = "" if folder == Path(folder).anchor else folder

    def run(self, limits: Limits, page: Path | None, *, bar: bool) -> None:
        """Scan all files and print; with ``page``, write them into one at the end, complete or not at all."""
        try:
            self._scan(limits, page, bar=bar)
        finally:  # what was found before an interruption is worth showing
            if not self.json_lines:
                self.print()
                for said in filter(None, map(detector.saving, self.detectors.pipelines)):
                    terminal.say(said)

    def _scan(self, limits: Limits, page: Path | None, *, bar: bool) -> None:
        first, *further = self.detectors.pipelines
        with terminal.progress_bar("Scanning", shown=bar) as advance:
            scanned = until_interrupted(scan(self.files, first, further=further, limits=limits))
            rows = self.take(terminal.counted(scanned, len(self.files), advance))
            if page is None:
                deque(rows, maxlen=0)  # the rows' pixels are not needed
            else:
                title, facts = page_title(self.files), page_facts(self.files, self.detectors)
                write_report(
                    rows,
                    page,
                    title=title,
                    profile=first.profile,
                    summary=facts,
                    numbers=self.numbers,
                )

    def take(self, rows: Iterable[Scanned]) -> Iterator[PageRow | FailedRow]:
        """Note down rows and hand them on, as a page wants them."""
        for row in rows:
            whole = str(row.path.absolute())
            name = shown(os.path.relpath(whole, self._folder) if self._folder else whole)
            if self.json_lines:
                # One write a row, so that an interrupted output ends with a whole line.
                plain = json_row(row, self.detectors.names)
                plain = plain if self.numbers else without_numbers(plain)
                sys.stdout.write(json.dumps(plain) + "\n")
                sys.stdout.flush()
            if row.report is None or row.image is None:
                self.failed[name] = row.error or "unknown reason"
                yield FailedRow(name, self.failed[name])
                continue
            reports = [replace(one, image=name) for one in (row.report, *row.further)]
            self.reports[name] = tuple(replace(one, evidence=(), tiles=()) for one in reports)
            self.said += _said(name, row.report)
            first, *others = self.detectors.names
            further = dict(zip(others, reports[1:], strict=True))
            yield PageRow(reports[0], row.image, first, further)

    def exit_code(self, fail_on: FailOn | None) -> int:
        """Return the exit code of the scan; a verdict named by --fail-on outweighs unreadable files."""
        every = (report for reports in self.reports.values() for report in reports)
        if any(report.verdict in fails_on(fail_on) for report in every):
            return FOUND
        if self.failed:
            return PARTLY_DONE if self.reports else IMPOSSIBLE
        return DONE

    def print(self) -> None:
        """Print the table, unreadable files, counts, and what the verdicts mean."""
        console = terminal.output()
        shared = self._shared_caveats()
        left_out: list[str] = []
        if self.reports:
            lines, left_out = terminal.fitted_table(self._columns_shown(console), console)
            for line in lines:
                console.print(line, soft_wrap=True)
        for about, words, style in self._notes(shared):
            console.print(terminal.literal(f"{about}: {words}", style))
        console.print(terminal.literal(self.counts(), "bold"))
        for caveat in shared:
            console.print(terminal.literal(f"All: {caveat}", "yellow"))
        if left_out:
            which = ", ".join(left_out)
            narrow = f"Not shown, for the terminal is too narrow: {which}. --json has all."
            console.print(terminal.literal(narrow, "dim"))
        if self.numbers and self._ranked():
            console.print(terminal.literal(_AS_HIGH_MEANS, "dim"))
        for name, pipeline in self._spoke():
            lead = f"{name}: " if self.detectors.several else ""
            console.print(terminal.literal(lead + meaning(pipeline), "dim"))

    def _notes(self, shared: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield what is said of single files below the table: a heading, words, and a style."""
        for words, files in self._unreadable().items():
            yield "unreadable", f"{_files(files)}: {words}", "magenta"
        found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in _KINDS}
        for _, kind, name, words in sorted(self.said, key=itemgetter(0)):
            found[kind].append((name, words))
        found["differ"] = self._differing()
        for what, notes in found.items():
            style = "yellow" if what == "differ" else "cyan"
            for name, words in notes[:_FINDINGS_SHOWN]:
                yield f"{what}: {name}", words, style
            if len(notes) > _FINDINGS_SHOWN:
                more = len(notes) - _FINDINGS_SHOWN
                yield what, f"{more} more findings; see --report or --json.", style
        beside: dict[str, list[str]] = {}
        for name in self.reports:
            for caveat in self._caveats(name):
                if caveat not in shared:
                    beside.setdefault(caveat, []).append(name)
        for caveat, files in beside.items():
            yield "caveat", f"{_files(files)}: {caveat}", "yellow"

    def counts(self) -> str:
        """Return one line: how many files, which verdicts, how many unreadable."""
        seen, total = len(self.reports) + len(self.failed), len(self.files)
        every = [self._counted(number) for number in range(len(self.detectors.names))]
        if self.detectors.several and self.reports:
            parts = [
                f"{name}: {', '.join(one)}"
                for name, one in zip(self.detectors.names, every, strict=True)
            ]
            count = len({name for name, _ in self._differing()})
            parts.append(f"they differ on {count}" if count else "they agree")
        else:
            parts = every[0]
        if self.failed:
            parts.append(f"{len(self.failed)} unreadable")
        part = f"{seen} of " if seen < total else ""
        said = ("; " if self.detectors.several else ", ").join(parts) or "nothing examined"
        return f"{part}{total} {'file' if total == 1 else 'files'}: {said}"

    def _counted(self, number: int) -> list[str]:
        """Count one detector's verdicts, in words."""
        found = Counter(_counted_as(every[number]) for every in self.reports.values())
        return [f"{found[words]} {words}" for words in reversed(COUNTED) if found[words]]

    def _unreadable(self) -> dict[str, list[str]]:
        """Return names of files by the reason: a folder of camera raws has one for all."""
        found: dict[str, list[str]] = {}
        for name, reason in self.failed.items():
            # The decoder's message starts with the file's name; the table's name says more.
            found.setdefault(reason.removeprefix(f"{Path(name).name}: "), []).append(name)
        return found

    def _differing(self) -> list[tuple[str, str]]:
        """Return names of files, and in words what the detectors differ on there."""
        return [
            (name, sentence)
            for name, reports in self.reports.items()
            for sentence in differences(self.detectors.named(reports))
        ]

    def _spoke(self) -> list[tuple[str, Pipeline]]:
        """Return the detectors that gave an answer."""
        named = zip(self.detectors.names, self.detectors.pipelines, strict=True)
        return list(named) if self.reports else []

    def _shared_caveats(self) -> tuple[str, ...]:
        """Caveats that every one of several reports has: said once, not in each row."""
        every = [self._caveats(name) for name in self.reports]
        if len(every) < 2:
            return ()
        return tuple(caveat for caveat in every[0] if all(caveat in one for one in every))

    def _columns_shown(self, console: Console) -> list[terminal.Column]:
        """Return the table: names and verdicts stay in a narrow terminal, numbers go before further answers."""
        symbols = _SYMBOLS if terminal.speaks_unicode(console) else _PLAIN_SYMBOLS
        shown = [terminal.Column("file", [terminal.literal(name) for name in self.reports])]
        for at, column in enumerate(self._columns()):
            said = [reports[column.detector] for reports in self.reports.values()]
            whole = at == 0 or self.detectors.several
            words = [_answer_cell(report, column.question, symbols) for report in said]
            shown.append(terminal.Column(column.title, words, spare=0 if whole else 1))
            for title, number in column.numbers.items() if self.numbers else ():
                numbers = [_number_cell(report, column.question, number) for report in said]
                shown.append(terminal.Column(title, numbers, right=True, spare=2))
        for title, cells in self._besides().items():
            shown.append(terminal.Column(title, cells, spare=1 if title == "holds" else 3))
        return shown

    def _besides(self) -> dict[str, list[Text]]:
        """Return what stands beside verdicts, by title: only columns that say something."""
        found: dict[str, list[Text]] = {}
        seen = [reports[0].coverage for reports in self.reports.values()]
        if not self.detectors.several and any(seen):
            found["examined"] = [
                terminal.literal(coverage.brief if coverage else "all", "dim") for coverage in seen
            ]
        if any(one.stability for every in self.reports.values() for one in every):
            found["holds"] = [_holds(reports) for reports in self.reports.values()]
        return found

    def _columns(self) -> list[_Column]:
        """Return one column for each question and detector; of one detector, the verdict on the whole first."""
        by_detector = zip(*self.reports.values(), strict=True)
        asked = [
            list(dict.fromkeys(question for report in some for question in report.answers))
            for some in by_detector
        ]
        if self.detectors.several:
            named = zip(self.detectors.names, asked, strict=True)
            return [
                _Column(number, question, f"{name}: {question}", {"P": _chance})
                for number, (name, questions) in enumerate(named)
                for question in questions
            ]
        (questions,) = asked
        ranked = self._ranked()
        each = [
            _Column(0, one, one, _AS_HIGH if one in ranked else {f"P({one})": _chance})
            for one in questions
        ]
        if len(each) == 1:  # its answer is the verdict
            return [replace(each[0], title="verdict")]
        return [_Column(0, "", "verdict", {}), *each]

    def _ranked(self) -> set[str]:
        """Return the questions of a single detector whose scores have ranks among held-out pictures."""
        if self.detectors.several:
            return set()
        every = (report.answers.items() for (report, *_) in self.reports.values())
        return {question for answers in every for question, answer in answers if answer.as_high}

    def _caveats(self, name: str) -> tuple[str, ...]:
        """Return what weakens the verdicts on a file: said of one detector where others do not have it."""
        first, *further = self.reports[name]
        if not further:  # how much was examined has a column of its own
            return tuple(caveat for caveat in first.caveats if caveat != str(first.coverage))
        every = self.detectors.named(self.reports[name])
        common = [one for one in first.caveats if all(one in other.caveats for other in further)]
        own = [
            f"{detector}: {caveat}"
            for detector, report in every.items()
            for caveat in report.caveats
            if caveat not in common
        ]
        return (*common, *own)


def _said(name: str, report: Report) -> Iterator[tuple[int, str, str, str]]:
    """Yield what a file says and shows beside its verdict: rank, 0 the loudest, kind, file and words."""
    unseen = report.declarations if report.verdict is Verdict.NO_SIGN else ()
    for item in report.evidence:
        plainly = item.strength in (Strength.STRONG, Strength.MODERATE)
        if any(item is one for one in unseen):
            yield 0, "says", name, f"{_UNSEEN} {item.statement}"
        elif item.strength and (plainly or item.name in _WEAK_BUT_SAID):
            yield 1 + _ORDER.index(item.strength), "says", name, item.statement
        elif item.name.startswith("forensics:") and item.map is not None:
            # What has no strength of its own is what the answer rests on.
            yield 1, "hint" if item.strength else "edited", name, item.statement


_UNSEEN = "The file itself declares a generator, though nothing was found in its pixels."
_ORDER = list(Strength)
_KINDS = ("says", "edited", "hint")
# Hints that a person wants to know of; a camera's name, say, every photo has.
_WEAK_BUT_SAID = frozenset(("provenance:editor", "provenance:dates"))


def _files(names: Sequence[str]) -> str:
    """Name some of several files, with their number."""
    more = len(names) - _FINDINGS_SHOWN
    count = f"{len(names)} files: " if len(names) > 1 else ""
    end = f" and {more} more (see --report or --json)" if more > 0 else ""
    return f"{count}{', '.join(names[:_FINDINGS_SHOWN])}{end}"


def _counted_as(report: Report) -> str:
    """Return the one of ``COUNTED`` that a picture goes under."""
    return str(report.verdict) if report.verdict is Verdict.UNCERTAIN else report.words


def _answer_cell(report: Report, question: str, symbols: Mapping[Verdict, str]) -> Text:
    """Return a verdict, on the whole picture where no question is named; a dash for one without an answer."""
    if not question:
        return terminal.literal(
            f"{symbols[report.verdict]} {report.words}", _STYLES[report.verdict]
        )
    if question not in report.answers:
        return terminal.literal("-")
    verdict = report.answers[question].verdict
    return terminal.literal(f"{symbols[verdict]} {verdict.on(question)}", _STYLES[verdict])


def _number_cell(report: Report, question: str, number: Callable[[Answer], str]) -> Text:
    answer = report.answers.get(question)
    return terminal.literal("-" if answer is None else number(answer))


@dataclass(frozen=True, slots=True)
class _Column:
    """What a detector says on one question, or of the whole picture.

    Attributes:
        detector: Its number.
        question: As in ``Report.answers``; empty: the whole.
        title: Of the column.
        numbers: What stands beside it, by title.
    """

    detector: int
    question: str
    title: str
    numbers: Mapping[str, Callable[[Answer], str]]


def _chance(answer: Answer) -> str:
    return shown_chance(answer.probability)


def _as_high(answer: Answer, number: int) -> str:
    if answer.as_high is None:
        return "-"
    return "<0.1 %" if answer.as_high[number] < 0.001 else percent(answer.as_high[number], 1)


_AS_HIGH_MEANS = "As high: the share of held-out photos, and of held-out fakes, whose score is at least this one."
# A probability would assume a share of fakes; these shares assume nothing, and are what thresholds are set by.
_AS_HIGH = {
    "photos as high": partial(_as_high, number=0),
    "fakes as high": partial(_as_high, number=1),
}


def _holds(reports: Sequence[Report]) -> Text:
    """Say whether the verdicts survived ordinary processing."""
    if all(check.holds for report in reports for check in report.stability):
        return terminal.literal("yes")
    return terminal.literal("no", "yellow")


def trusted(place: Path | None) -> provenance.TrustList | None:
    """Read the authorities that a scan trusts.

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
    return frozenset(one for one in Verdict if one.gravity >= Verdict(weakest).gravity)


def json_row(row: Scanned, detectors: Sequence[str] = ("",)) -> dict[str, Any]:
    """Return a row as plain types, with the file's absolute path, and several detectors' answers by their names."""
    image = shown(row.path.absolute())
    if row.report is None:
        error = shown(row.error or "unknown reason")
        return {"format": FORMAT, "image": image, "error": error}
    reports = dict(zip(detectors, (row.report, *row.further), strict=True))
    return opinions_json(reports) | {"image": image}


def shown_chance(probability: float) -> str:
    """Return a probability for people, never rounded to certainty.

    >>> shown_chance(0.534), shown_chance(0.9999), shown_chance(0.0)
    ('0.53', '>0.99', '<0.01')
    """
    if probability > 0.99:
        return ">0.99"
    return "<0.01" if probability < 0.01 else f"{probability:.2f}"


def meaning(pipeline: Pipeline) -> str:
    """Return what the verdicts mean, in the words of the calibration and of what forensics was counted on."""
    known: Mapping[str, checkpoints.Calibration] = pipeline.facts.calibration
    ways = {name: _rates(one) for name, one in known.items()}
    if ways and pipeline.answers_edited and "edited" not in known:
        seen = forensics.THOROUGH if pipeline.profile == "thorough" else forensics.QUICK
        share = f"{'at most ' * seen.at_most}{percent(seen.fake)}"
        called = f"{share} of {seen.photos:,} photos chosen as hard were called so"
        ways["edited"] = f"{called}, {percent(seen.uncertain)} with 'uncertain'"
    if ways:
        said = [
            f"'{Verdict.FAKE.on(name)}': {_WAYS.get(name, name)} ({rates})."
            for name, rates in ways.items()
        ]
    else:
        said = [f"'{Verdict.FAKE.on(name)}': {words}." for name, words in _WAYS.items()]
    return f"{' '.join(said)} That is no proof, and 'no sign' only means that nothing was found."


_WAYS = {
    "generated": "contains AI-generated pixels",
    "edited": "a part was pasted, painted or processed by itself",
}


def _rates(known: checkpoints.Calibration) -> str:
    unsure, called = map(percent, known.rates)
    if known.zone != "conformal":
        sources = len(known.sources)
        how = "in the mean over" if known.zone == "quantile" else "in each of"
        where = f" {how} {sources} sources" if sources > 1 else ""
        share = f"at most {called} of {known.photos:,} held-out photos were called so{where}"
        return f"{share}, {unsure} with 'uncertain'"
    promised = f"at most {called} of new photos like the {known.photos} held-out ones are called so"
    if known.missed is None:
        return promised
    return f"{promised}, and {percent(known.missed)} of fakes get 'no sign'"


def page_title(files: Sequence[Path]) -> str:
    """Return a heading for the page of a scan."""
    return f"Scan of {terminal.printable(Path(common_folder(files)).name or 'files')}"


def page_facts(files: Sequence[Path], detectors: Detectors) -> dict[str, str]:
    """Return what the page says about the scan as a whole."""
    facts = {"Folder": terminal.printable(common_folder(files)), "Files": str(len(files))}
    for name, pipeline in zip(detectors.names, detectors.pipelines, strict=True):
        which = f" {name}" if detectors.several else ""
        facts[f"Method{which}"] = pipeline.facts.method
        facts[f"Weights{which}"] = pipeline.weights_sha256[:12]
    return facts


def distinct(files: Sequence[Path]) -> list[Path]:
    """Keep the first of several names for the same path ("a.jpg", "./a.jpg")."""
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(os.path.normpath(file.absolute()), file)
    return list(first.values())


def common_folder(files: Sequence[Path]) -> str:
    """Return the deepest folder that all files are in."""
    return os.path.commonpath([file.absolute().parent for file in files])
