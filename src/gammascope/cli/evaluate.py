"""``gammascope evaluate``, ``robustness``, ``compare`` and ``leaderboard``: how good detectors are."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from gammascope import choices
from gammascope.cli import detector, options
from gammascope.cli.failures import PARTLY_DONE, refuse_unwritable

_NAMED = 10  # files without a score that are named

if TYPE_CHECKING:
    from rich.table import Table

    from gammascope.evaluation.comparing import Comparisons
    from gammascope.evaluation.replaying import Shown
    from gammascope.evaluation.score_table import ScoreTable
    from gammascope.evaluation.tables import Grid

EvaluationData: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        help="Manifest (CSV, Parquet), a folder with real and fake images, or a dataset to stream: "
        "hf:owner/name[@revision][:config[:split]]."
    ),
]
BenchmarkName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--benchmark", metavar="NAME", help="A public dataset; gammascope benchmarks lists them."
    ),
]
BenchmarkRoot: TypeAlias = Annotated[
    Path | None, typer.Option("--root", help="Folder that holds the benchmark.")
]
Partial: TypeAlias = Annotated[
    bool, typer.Option("--partial", help="Accept a benchmark that lacks parts or a class.")
]
Recodes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMAT:QUALITY",
        help="Score once more after re-encoding real and fake alike: jpeg:70, webp:80, avif:50; repeatable.",
    ),
]
BlackMasks: TypeAlias = Annotated[
    choices.Black,
    typer.Option(
        "--black-masks",
        help="What an image without a true pixel counts in F1 and IoU: left out, 1 if nothing is marked, or 0.",
    ),
]
EvaluationFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Folder for score tables, numbers and plots.")
]
ForeignDetector: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--predict",
        metavar="MODULE:FUNCTION",
        help="Measure a Python function of your own, which is imported and run: path of a PNG file in, "
        "probability of fake (0 to 1) out.",
    ),
]
ReplayFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        metavar="FILE",
        help="Make all numbers anew from replay.parquet, which --out of evaluate and of robustness writes: no pictures "
        "are needed.",
    ),
]

_STREAMED = "Streamed datasets"
_OF_DETECTORS = ("weights", "then", "zone", "method", "device")
"""Options that choose a detector of ours, and where it runs."""

ImageColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--image-column", help="Column of the images of hf:...", rich_help_panel=_STREAMED
    ),
]
LabelColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--label-column", help="Column of the labels of hf:...", rich_help_panel=_STREAMED
    ),
]
First: TypeAlias = Annotated[
    int | None,
    typer.Option("--first", min=1, help="Only so many rows of hf:...", rich_help_panel=_STREAMED),
]


def evaluate(  # noqa: PLR0913, PLR0917 - each is an option
    context: typer.Context,
    data: EvaluationData = None,
    benchmark: BenchmarkName = None,
    root: BenchmarkRoot = None,
    partial: Partial = False,
    split: options.Split = None,
    recode: Recodes = None,
    black: BlackMasks = "skip",
    out: EvaluationFolder = None,
    as_json: options.Json = False,
    weights: options.Weights = "default",
    then: options.Then = None,
    zone: options.Zone = None,
    method: options.MethodName = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    first: First = None,
    predict: ForeignDetector = None,
    replay: ReplayFile = None,
) -> None:
    """Measure a detector on labelled images: as they are, with the formats of real and fake made alike, with intervals.

    With --out, an evaluation that was interrupted goes on where it was. --replay makes all numbers anew from a file
    that --out wrote, without pictures, here or in robustness; --predict measures somebody else's detector.
    """
    from gammascope.cli import terminal
    from gammascope.evaluation import costs, predicting, replaying, run

    if replay is not None:
        heeded = {"replay", "out", "as_json", "black", "quiet"}
        others = [p.name for p in context.command.params if p.name and p.name not in heeded]
        options.refuse_useless(context, "--replay, whose file holds the scores already,", *others)
        if out is not None:
            _refuse_own_scores(out)
            refuse_unwritable(out / run.SUMMARY)
        measured = replaying.replayed(replay, black)
        _tell(measured, out, as_json=as_json)
        return
    if predict is not None:
        options.refuse_useless(context, "--predict", *_OF_DETECTORS)
    columns = run.columns_of(recode or ())
    streaming = run.Streaming(image_column, label_column, first)
    name, entries, assumption = run.listed(
        data, benchmark, root, split, partial=partial, streaming=streaming
    )
    terminal.say(f"{name}: {assumption}")
    if out is not None:
        refuse_unwritable(out / run.SUMMARY)
    if predict is not None:
        pipeline, candidate, size = None, predicting.candidate(predict), None
    else:
        pipeline = detector.load(weights, method, device, then=then, zone=zone)
        candidate, size = run.Candidate.of(pipeline), costs.size_of(weights, then)
    about = {"data": name, "labels": assumption, "speed": None, "size": size}
    with terminal.progress_bar("Scoring", shown=not (as_json or quiet)) as advance:
        told = run.evaluate(
            candidate, entries, columns, out, about=about, black=black, progress=advance
        )
    _tell(replaying.evaluation(told, fresh=True), out, as_json=as_json)
    if pipeline is not None and not as_json:
        detector.say_saving(pipeline)
    _end(told.tables.values())


def _refuse_own_scores(out: Path) -> None:
    from gammascope.evaluation import run

    if (out / run.PARTS).exists():
        raise FileExistsError(
            errno.EEXIST,
            "Holds scores of an evaluation, whose numbers would be replaced: choose another folder",
            str(out),
        )


def _end(tables: Iterable[ScoreTable]) -> None:
    """Name files without a score, and leave with the exit code of work that is done but for some files."""
    from gammascope.cli import terminal

    unscored = {
        str(path): str(error)
        for table in tables
        for path, error in zip(table["path"], table["error"], strict=True)
        if error
    }
    for path, error in list(unscored.items())[:_NAMED]:
        terminal.say(f"No score: {path}: {error.removeprefix(f'{Path(path).name}: ')}")
    if len(unscored) > _NAMED:
        terminal.say(f"No score: {len(unscored) - _NAMED} more.")
    if unscored:
        raise typer.Exit(PARTLY_DONE)


def _tell(measured: Shown, out: Path | None, *, as_json: bool) -> None:
    """Write a measurement into a folder, if there is one, and print its tables, or its numbers as JSON."""
    from gammascope.cli import terminal
    from gammascope.evaluation.tables import rich_tables

    if out is not None:
        for line in measured.write(out):
            terminal.say(line)
    if as_json:
        typer.echo(json.dumps(measured.plain, allow_nan=False))
        return
    terminal.output().print(*rich_tables(measured.grids))
    if measured.note:
        terminal.say(measured.note)


RobustnessFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder for scores, tables and curves.")
]
Suite: TypeAlias = Annotated[
    choices.Suite, typer.Option(help="quick: one to three severities of each kind; full: all.")
]
PerClass: TypeAlias = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="At most so many real and so many fake images."),
]


def robustness(  # noqa: PLR0913, PLR0917 - each is an option
    data: options.LabelledData,
    out: RobustnessFolder,
    split: options.Split = None,
    suite: Suite = "quick",
    limit: PerClass = None,
    as_json: options.Json = False,
    weights: options.Weights = "default",
    method: options.MethodName = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Measure what ordinary processing does to a detector: JPEG, resizing, screenshots, social media and more.

    Run it again to go on where it was interrupted, or with the other suite: what is there is not scored again.
    """
    from gammascope.cli import terminal
    from gammascope.evaluation import replaying, robustness, run
    from gammascope.evaluation import robustness_run as running

    entries, assumption = run.entries_of(data, split)
    terminal.say(f"{data}: {assumption}")
    refuse_unwritable(out / running.TABLE)
    pipeline = detector.load(weights, method, device)
    entries = robustness.chosen(entries, limit)
    with terminal.progress_bar("Scoring", shown=not (as_json or quiet)) as advance:
        scores = running.scored(pipeline, entries, suite, out, advance)
    _tell(replaying.perturbed(scores, fresh=True), out, as_json=as_json)
    _end(scores.tables.values())


FirstEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="A", help="Folder of an evaluation (evaluate --out).")
]
SecondEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="B", help="Folder of another detector's, on the same images.")
]


def compare(
    first: FirstEvaluation,
    second: SecondEvaluation,
    as_json: options.Json = False,
) -> None:
    """Say whether one of two detectors, evaluated on the same images, is better, or whether it may be chance."""
    from gammascope.cli import terminal
    from gammascope.evaluation import comparing

    compared = comparing.compared(first, second)
    if as_json:
        typer.echo(json.dumps(comparing.plain(compared), allow_nan=False))
    else:
        terminal.output().print(comparison_table(compared))
        terminal.say(comparing.notes(compared))


def comparison_table(comparisons: Comparisons) -> Table:
    """Draw a row for each column, question and number."""
    from rich.table import Table

    from gammascope.cli import terminal

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    titles = ("column", "question", "number", "first", "second", "second - first [95 %]")
    for title in titles:
        drawn.add_column(title, justify="left" if title in titles[:3] else "right")
    for (column, question), one in comparisons.items():
        where = (terminal.literal(column), terminal.literal(question))
        for name, values in (("AUROC", one.auroc), ("balanced accuracy", one.balanced_accuracy)):
            drawn.add_row(*where, name, *(terminal.literal(str(value)) for value in values))
        only = one.mcnemar
        drawn.add_row(
            *(*where, "only this one right", str(only.only_first), str(only.only_second)),
            f"p = {only.p:.3g} (McNemar)",
        )
    return drawn


Evaluations: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="TABLE...", help="Folders of evaluations (evaluate --out)."),
]
LeaderboardPage: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Where to write the page (HTML, works from disk).")
]
PageTitle: TypeAlias = Annotated[str, typer.Option("--title", help="Heading of the page.")]


def leaderboard(
    tables: Evaluations,
    out: LeaderboardPage = None,
    title: PageTitle = "Leaderboard",
    as_json: options.Json = False,
) -> None:
    """Put evaluated detectors side by side on one page; those of different images never share a table."""
    from gammascope.cli import terminal
    from gammascope.pages import leaderboard_page as page

    if out is not None:
        refuse_unwritable(out, ".html", ".htm")
    made = page.made_of(tables)
    if out is not None:
        page.write(made, out, title)
    if as_json:
        typer.echo(json.dumps(page.plain(made), allow_nan=False))
    else:
        terminal.output().print(*(_board(grid, notes) for grid, notes in page.grids(made)))
    if out is not None:
        terminal.say(f"Page: {out}")


def _board(grid: Grid, notes: str) -> Table:
    from rich.table import Table

    from gammascope.cli import terminal

    table = Table(
        title=terminal.literal(grid.title), title_justify="left", caption=terminal.literal(notes)
    )
    for title in grid.header:
        table.add_column(title, justify="right" if table.columns else "left")
    for row in grid.rows:
        table.add_row(*map(terminal.literal, row))
    return table
