"""What a person sees in a terminal: consoles, progress bars, and untrusted text made harmless."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from rich.cells import cell_len
from rich.console import Console, Group
from rich.text import Text

_PIPED_WIDTH = 400
"""Columns where there is no terminal: a line per row is worth more than a narrow table."""

_ALIGNED = 60
"""Columns up to which cells are padded where there is no terminal: one long name would widen every line."""

_BETWEEN = 2

_SECONDS_BETWEEN_LINES = 30.0
"""How often progress is printed where there is no terminal."""

T = TypeVar("T")

Advance = Callable[[int, int], None]


def output() -> Console:
    """Return the console of stdout, whose lines are only broken where there is a terminal."""
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=_PIPED_WIDTH)
    return console


def messages() -> Console:
    """Return the console of stderr."""
    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one or more lines for a person to stderr."""
    text = "\n".join(printable(line) for line in message.split("\n"))
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal


def printable(text: str) -> str:
    """Replace what could steer a terminal or cannot be encoded: file names are untrusted."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def literal(text: str, style: str = "") -> Text:
    """Return a text whose square brackets are no markup, safe to print."""
    return Text(printable(text), style=style)


def speaks_unicode(console: Console) -> bool:
    """Whether check marks can be printed."""
    return console.encoding.lower().replace("-", "").startswith("utf")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table that is fitted to the terminal.

    Attributes:
        title: Its head.
        cells: One of each row.
        right: Whether they end below each other, as numbers do.
        spare: Where the terminal is too narrow, the highest goes first; 0: never.
    """

    title: str
    cells: Sequence[Text]
    right: bool = False
    spare: int = 0

    @property
    def width(self) -> int:
        """Of the widest cell."""
        return max(cell_len(self.title), *(cell.cell_len for cell in self.cells))


def fitted_table(columns: Sequence[Column], console: Console) -> tuple[list[Text], list[str]]:
    """Lay out a table, a line for each row; the first column is of names.

    Returns:
        Its lines, and the titles of columns that were left out because the terminal is too narrow.
    """
    widths = [column.width for column in columns]
    kept = list(range(len(columns)))
    if console.is_terminal:
        room = console.width

        def needed() -> int:
            return sum(widths[at] + _BETWEEN for at in kept) - _BETWEEN

        while needed() > room and any(columns[at].spare for at in kept):
            kept.remove(max(kept, key=lambda at: (columns[at].spare, at)))
        widths[0] -= max(0, min(needed() - room, widths[0] - 1))
    else:
        widths = [min(width, _ALIGNED) for width in widths]
    heads = [Text(columns[at].title, style="bold") for at in kept]
    rows = zip(*(columns[at].cells for at in kept), strict=True)
    lines = []
    for cells in (heads, *rows):
        line = Text()
        for at, cell in zip(kept, cells, strict=True):
            shown = middle_cut(cell, widths[at]) if at == 0 and console.is_terminal else cell
            padding = " " * max(0, widths[at] - shown.cell_len)
            line += Text.assemble(*((padding, shown) if columns[at].right else (shown, padding)))
            line += " " * _BETWEEN
        line.rstrip()
        lines.append(line)
    gone = [column.title for at, column in enumerate(columns) if at not in kept]
    return lines, gone


def middle_cut(text: Text, width: int) -> Text:
    """Shorten a name in its middle: its end tells files of one folder apart."""
    if text.cell_len <= width:
        return text
    plain, head = text.plain, max(0, width // 3)
    tail = len(plain) - max(1, width - head - 1)
    while cell_len(plain[:head]) + 1 + cell_len(plain[tail:]) > width and tail < len(plain):
        tail += 1  # some letters are two columns wide
    return Text(f"{plain[:head]}…{plain[tail:]}", style=text.style)


@contextmanager
def progress_bar(what: str, total: int | None = None, *, shown: bool = True) -> Iterator[Advance]:
    """Show a bar with the time left on stderr; yield what is to be called with (done, all).

    Nothing is drawn where stderr is no terminal.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = messages()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Transient: the bar goes when the result comes.
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each of several stages on stderr; yield what is to be called with (stage, done, all).

    ``all`` is None while it is not known.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    tasks: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=messages(), transient=True) as bars:

        def advance(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance


def counted(items: Iterable[T], total: int, advance: Advance) -> Iterator[T]:
    """Hand items on and tell a progress bar after each."""
    for done, item in enumerate(items, start=1):
        yield item
        advance(done, total)


@runtime_checkable
class Stage(Protocol):
    """How far a stage of a training run is."""

    @property
    def stage(self) -> str:
        """Its name."""

    @property
    def done(self) -> int:
        """Units done."""

    @property
    def total(self) -> int:
        """Units in all."""

    @property
    def values(self) -> dict[str, float]:
        """Latest figures by name."""


class TrainingDisplay:
    """Steps, time left and losses of a training run: a bar in a terminal, a line now and then elsewhere.

    Attributes:
        finished: Whether the last step was taken.
    """

    def __init__(self) -> None:
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.finished = False
        self._tasks: dict[str, Any] = {}
        self._values = ""
        self._printed_at = -math.inf
        self._console = messages()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._live = Live(
            get_renderable=lambda: Group(self._bar, Text(self._values, style="dim")),
            console=self._console,
        )

    def __enter__(self) -> TrainingDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, progress: Stage) -> None:
        """Take note of progress in a stage."""
        stage, done, total = progress.stage, progress.done, progress.total
        self.finished = self.finished or (stage == "training" and done == total)
        ranked = sorted(progress.values.items(), key=lambda item: item[0] != "loss")
        text = "  ".join(f"{name} {value:.4g}" for name, value in ranked)
        if self._console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=total)
            self._bar.update(self._tasks[stage], completed=done, total=total)
            self._values = text or self._values
        elif done == total or time.monotonic() - self._printed_at > _SECONDS_BETWEEN_LINES:
            self._printed_at = time.monotonic()
            say(f"{stage} {done}/{total}  {text}".rstrip())
