"""The command line: its commands, and what holds for all of them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import gammascope
from gammascope.cli import (
    calibrate,
    contexts,
    error_report,
    evaluate,
    examine,
    exchange,
    judging,
    listing,
    scan,
    serve,
    synthesize,
    train,
)
from gammascope.cli.failures import (
    FOUND,
    INTERRUPTED,
    Commands,
    explain,
    terminal_that_never_fails,
)
from gammascope.cli.help import Command

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Tell real photographs from AI-generated and edited ones, and show where. Try: gammascope scan holiday/. "
    "Each command explains itself: gammascope scan --help.",
    epilog="Exit codes: 0 done · 1 bug · 2 wrong option, recipe or method · 3 nothing done: a file, image, "
    "checkpoint or extra is missing, or the output cannot be written · 4 done, but some files were unreadable · "
    f"{FOUND} scan --fail-on or doctor --strict found something · {INTERRUPTED} interrupted.",
)


def main() -> None:
    """Run the command line."""
    terminal_that_never_fails()
    try:
        app()
    except Exception as error:  # a person gets a line, not a traceback
        sys.exit(explain(error, debug="--debug" in sys.argv))


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"gammascope {gammascope.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _globally(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _command in (
    scan.scan,
    error_report.report_error,
    evaluate.evaluate,
    evaluate.robustness,
    evaluate.compare,
    evaluate.leaderboard,
    listing.benchmarks,
    listing.methods,
    examine.doctor,
    synthesize.synthesize,
    synthesize.autoencoders,
    listing.generators,
    contexts.contexts,
    train.rounds,
    judging.judge,
    train.train,
    calibrate.calibrate,
    exchange.fuse,
    exchange.average,
    exchange.convert,
    exchange.export,
    serve.serve,
    serve.api_key,
):
    app.command(cls=Command)(_command)
