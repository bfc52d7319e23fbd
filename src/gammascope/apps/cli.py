"""The command line: each command parses, calls the library and prints."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

import gammascope
from gammascope.apps import options
from gammascope.apps.failures import Commands, explain, refuse_unwritable

if TYPE_CHECKING:
    from gammascope.pipeline import Pipeline

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Tell real photographs from AI-generated and edited ones, and show where.",
    epilog="Exit codes: 0 done · 1 bug · 2 wrong option, recipe or method · 3 nothing done: a file, image, "
    "checkpoint or extra is missing, or the output cannot be written · 4 done, but some files were unreadable · "
    "10 scan --fail-on found something · 130 interrupted.",
)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the last line of defence: a person gets a line, not a traceback
        sys.exit(explain(error, debug="--debug" in sys.argv))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gammascope {gammascope.__version__}")
        raise typer.Exit


@app.callback()
def _globally(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def scan(  # noqa: PLR0913 - each is an option
    paths: options.Images,
    recursive: options.Recursive = True,
    as_json: options.JsonLines = False,
    report: options.Page = None,
    fail_on: options.FailOnVerdict = None,
    max_megapixels: options.MaxMegapixels = 200.0,
    weights: options.Weights = "default",
    method: options.MethodName = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Say for every image whether it contains AI-generated pixels and whether it was edited.

    Exit codes: 0 all examined, whatever the verdicts; 3 nothing examined; 4 some files were unreadable; 10
    --fail-on found something.
    """
    from gammascope.apps import scan_results, terminal
    from gammascope.apps.report_page import write_report
    from gammascope.data.folder import find_images
    from gammascope.imaging.decode import Limits
    from gammascope.scanning.scan import scan as scanned

    if report is not None:
        refuse_unwritable(report)
    files = find_images(paths, recursive)
    pipeline = _pipeline(weights, method, device)
    results = scan_results.Results(files, json_lines=as_json)
    with terminal.progress_bar("Scanning", shown=not (as_json or quiet)) as advance:
        counted = terminal.counted(
            scanned(files, pipeline, limits=Limits(max_pixels=int(max_megapixels * 1e6))),
            len(files),
            advance,
        )
        rows = results.take(counted)
        if report is None:
            deque(rows, maxlen=0)
        else:
            facts = scan_results.page_facts(files, pipeline.facts, pipeline.weights_sha256)
            write_report(rows, report, title=scan_results.page_title(files), summary=facts)
    if not as_json:
        results.print(pipeline.facts)
        if report is not None:
            terminal.say(f"Page: {report}")
    raise typer.Exit(results.exit_code(fail_on))


def _pipeline(weights: str, method: str | None, device: str) -> Pipeline:
    from gammascope.pipeline import Pipeline

    try:
        return Pipeline.load(weights, method=method, device=device)
    except (RuntimeError, AssertionError) as error:  # torch, where there is no such device
        reason = str(error).strip().splitlines()[0]
        raise typer.BadParameter(
            f"{device!r} cannot be used: {reason}", param_hint="--device"
        ) from error
