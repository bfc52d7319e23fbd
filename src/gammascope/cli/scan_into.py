"""The command ``scan --out``: very many images into a folder, on this machine or on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from gammascope.choices import FailOn, Where
from gammascope.cli import terminal
from gammascope.cli.failures import DONE, FOUND, IMPOSSIBLE, PARTLY_DONE
from gammascope.cli.scan_results import fails_on
from gammascope.detection.pipeline import Execution, Pipeline
from gammascope.report import COUNTED, FORMAT, Verdict
from gammascope.scanning.destination import Destination
from gammascope.scanning.ordered import Plan, Progress, scan_into
from gammascope.scanning.results import ResultsFolder, Summary, by_verdict
from gammascope.scanning.sources import LISTS, PACKED_SHARDS, SHARDS

_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """Where a scan runs.

    Attributes:
        name: Here, or on Ray.
        address: Of a Ray cluster; None: one that Ray finds, or starts on this machine.
        weights: The checkpoint's path, which the cluster is sent; None: the embedded one.
        device: Where the networks run, as torch names it.
        execution: What runs them, and how many views they read.
    """

    name: Where
    address: str | None
    weights: Path | None
    device: str
    execution: Execution


def refuse_without_out(
    out: str | None, engine: Where, address: str | None, *, deduplicate: bool
) -> None:
    """Refuse options of a scan that are about a folder of rows.

    Raises:
        BadParameter: With the options' names.
    """
    if out is None and (engine != "local" or address is not None or not deduplicate):
        raise typer.BadParameter(
            "needs --out: it is about rows in a folder",
            param_hint="--engine, --address, --no-deduplicate",
        )


def hints(paths: Sequence[str]) -> Iterator[str]:
    """Say of files that hold or list many pictures how they are scanned: without --out each is one broken picture."""
    for path in paths:
        if not Path(path).is_file():
            continue
        if path.lower().endswith(PACKED_SHARDS):
            yield f"{path}: to scan the pictures in it, unpack it, and name the folder."
        elif path.lower().endswith((*SHARDS, *LISTS)):
            yield f"{path}: to scan the pictures in it, add --out FOLDER."


def refuse_beside_out(
    report: Path | None,
    then: str | None,
    engine: Where,
    weights: Sequence[str],
    *,
    labels_only: bool,
) -> None:
    """Refuse options of a scan that do not go with a folder of rows.

    Raises:
        BadParameter: With the option's name and the reason.
    """
    if report is not None:
        raise typer.BadParameter(
            "a page of millions of images helps nobody", param_hint="--report with --out"
        )
    if then is not None:
        raise typer.BadParameter(
            "not together with --out: name a fusion file as --weights", param_hint="--then"
        )
    if len(weights) > 1:
        raise typer.BadParameter(
            "one detector fills a folder: scan into another folder with the other",
            param_hint="--weights with --out",
        )
    if labels_only:
        raise typer.BadParameter(
            "rows of a folder are for programs and hold the numbers: leave out that column",
            param_hint="--labels-only with --out",
        )
    if engine == "ray" and weights[0].endswith(".json"):
        raise typer.BadParameter(
            "a fusion is of several files, and machines of a cluster are sent one: scan without --engine ray",
            param_hint="--weights",
        )


def run(place: str, plan: Plan, pipeline: Pipeline, engine: Engine, *, bar: bool) -> Summary:
    """Scan into a folder, or one behind a URL, and say what came out."""
    out = Destination(place)
    out.check()
    folder = out.folder
    with _progress(shown=bar) as progress, _told_how_to_go_on(folder):
        if engine.name == "ray":
            from gammascope.scanning.ray_engine import Cluster, scan_on

            cluster = Cluster(engine.address, engine.weights, engine.device, engine.execution)
            scan_on(cluster, folder, plan, pipeline, progress)
        else:
            scan_into(folder, plan, pipeline, progress)
    out.copy()
    return ResultsFolder(folder).summary()


@contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    """Let Ctrl-C say that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note(
            f"What was found is kept in {folder}: the same command goes on from there."
        )
        raise


def statement(summary: Summary, place: str) -> str:
    """Return the last line for a person; ``place`` is where the rows are.

    >>> counts = {"fake": 1, "edited": 1, "uncertain": 0, "no sign": 1}
    >>> statement(Summary(4, counts, {}, 1), "out")
    '4 images: 1 fake, 1 edited, 1 no sign, 1 unreadable. Rows: out'
    >>> counts, once = {"fake": 1, "no sign": 2}, {"fake": 1, "no sign": 1}
    >>> statement(Summary(3, counts, {}, 0, copies=1, contents=once), "out")
    '3 images: 1 fake, 2 no sign; 1 with the bytes of another, counted once: 1 fake, 1 no sign. Rows: out'
    >>> statement(Summary(3, counts, {}, 0, alike=2, alike_groups=1, pictures=once), "out")
    '3 images: 1 fake, 2 no sign; 2 contents look like another (1 group), counted once: 1 fake, 1 no sign. Rows: out'
    """
    parts = [_counted(summary.words)]
    if summary.failed:
        parts.append(f"{summary.failed:,} unreadable")
    told = [", ".join(filter(None, parts))]
    if summary.copies:
        told.append(f"{summary.copies:,} with the bytes of another{_once(summary.contents)}")
    if summary.alike_groups:
        groups = f"{summary.alike_groups:,} group{'s' if summary.alike_groups > 1 else ''}"
        once = _once(summary.pictures)
        told.append(f"{summary.alike:,} contents look like another ({groups}){once}")
    return f"{summary.images:,} images: {'; '.join(told)}. Rows: {place}"


def _counted(words: Mapping[str, int]) -> str:
    """Write counts, the gravest first; what is 0 is left out."""
    return ", ".join(f"{words[word]:,} {word}" for word in reversed(COUNTED) if words.get(word))


def _once(words: Mapping[str, int]) -> str:
    """Write counts of what is counted once, to follow what is there several times; copies may all be unreadable."""
    return f", counted once: {_counted(words)}" if any(words.values()) else ""


def plain(summary: Summary) -> dict[str, object]:
    """Return the counts as plain types."""

    def named(counts: Mapping[Verdict, int]) -> dict[str, int]:
        return {str(verdict): count for verdict, count in counts.items()}

    return {
        "format": FORMAT,
        "images": summary.images,
        "verdicts": named(by_verdict(summary.words)),
        "answers": {question: named(counts) for question, counts in summary.answers.items()},
        "unreadable": summary.failed,
        "copies": summary.copies,
        "alike": {"contents": summary.alike, "groups": summary.alike_groups},
        "once": {
            "contents": named(by_verdict(summary.contents)),
            "pictures": named(by_verdict(summary.pictures)),
        },
    }


def exit_code(summary: Summary, fail_on: FailOn | None) -> int:
    """Return the exit code, by the rules of a scan without a folder."""
    verdicts = by_verdict(summary.words)
    if any(verdicts[verdict] for verdict in fails_on(fail_on)):
        return FOUND
    if summary.failed:
        return PARTLY_DONE if summary.failed < summary.images else IMPOSSIBLE
    return DONE


@dataclass(slots=True)
class _Lines:
    """Progress where there is no terminal: a line now and then, with the time left."""

    begun: dict[str, tuple[float, int]] = field(default_factory=dict)
    said_at: float = field(default_factory=time.monotonic)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        at, first = self.begun.setdefault(what, (now, done))
        if now - self.said_at < _SECONDS_BETWEEN_LINES:
            return
        self.said_at = now
        if total is None and not done:
            terminal.say(f"{what} ...")
            return
        rate = (done - first) / (now - at) if now > at else 0.0
        terminal.say(f"{what}: {_estimate(done, total, rate)}")


def _estimate(done: int, total: int | None, rate: float) -> str:
    """Say how far it is.

    >>> _estimate(500, 1000, 10.0)
    '500 of 1,000, 10.0/s, about 0:00:50 left'
    >>> _estimate(500, None, 10.0)
    '500, 10.0/s'
    >>> _estimate(1, 24, 0.02)
    '1 of 24, 0.02/s, about 0:19:10 left'
    """
    speed = f"{rate:.1f}/s" if rate >= 1 or not rate else f"{rate:.2g}/s"
    if total is None:
        return f"{done:,}, {speed}"
    left = int((total - done) / rate) if rate else None
    hours = "unknown" if left is None else f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"{done:,} of {total:,}, {speed}, about {hours} left"


@contextmanager
def _progress(*, shown: bool) -> Iterator[Progress]:
    """Show a bar for each stage in a terminal, lines elsewhere, nothing where it is off."""
    if not shown:
        yield lambda *_: None
        return
    if not terminal.messages().is_terminal:
        yield _Lines()
        return
    with terminal.stage_bars() as advance:
        yield advance
