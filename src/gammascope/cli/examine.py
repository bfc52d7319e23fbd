"""``gammascope doctor``: what is wrong with a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gammascope.cli import options
from gammascope.cli.failures import FOUND, refuse_unwritable

AuditedData: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="PATH", help="Manifest (CSV, Parquet), or a folder of real and fake."),
]
AuditFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Folder for a page, a plot and all findings as JSON.")
]
Strict: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--strict",
        help=f"Exit with {FOUND} if splits leak, labels conflict, or headers tell the labels.",
    ),
]


def doctor(
    data: AuditedData,
    out: AuditFolder = None,
    as_json: options.Json = False,
    strict: Strict = False,
    max_megapixels: options.MaxMegapixels = 200.0,
    quiet: options.Quiet = False,
) -> None:
    """Examine a data set: broken and misnamed files, duplicates, leaks, wrong labels, headers that tell the labels.

    Exit codes: 0 all files could be read, whatever was found; 3 none could; 4 some could not; 10 --strict found
    something.
    """
    from gammascope.cli import doctor, terminal
    from gammascope.evaluation import run
    from gammascope.imaging.decode import Limits

    entries, assumption = run.entries_of(data, None)
    if out is not None:
        refuse_unwritable(out / doctor.PAGE)
    with terminal.progress_bar("Examining", shown=not (as_json or quiet)) as advance:
        limits = Limits(max_pixels=int(max_megapixels * 1e6))
        checkup = doctor.checked(data, entries, assumption, limits, advance)
    if as_json:
        typer.echo(json.dumps(doctor.plain(checkup), allow_nan=False))
    else:
        lines = map(terminal.literal, doctor.statements(checkup))
        terminal.output().print(*doctor.drawn(checkup), *lines, sep="\n")
    for note in doctor.write(checkup, out) if out is not None else ():
        terminal.say(note)
    raise typer.Exit(checkup.exit_code(strict))
