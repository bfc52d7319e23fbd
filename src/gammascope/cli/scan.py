"""``gammascope scan``: pictures in, verdicts out; with ``--out`` for millions of them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gammascope.choices import FailOn, Where
from gammascope.cli import detector, options
from gammascope.cli.failures import FOUND, refuse_unwritable

Images: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders and patterns ('holiday/*.jpg'); with --out also manifests, tar shards, tables, URLs."
    ),
]
Recursive: TypeAlias = Annotated[bool, typer.Option(help="Look into folders within folders.")]
JsonLines: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per file and line on stdout, as they come."),
]
Page: TypeAlias = Annotated[
    Path | None, typer.Option(help="Write one HTML page with pictures and maps, readable offline.")
]
FailOnVerdict: TypeAlias = Annotated[
    FailOn | None,
    typer.Option(help=f"Exit with {FOUND} if a verdict is at least this, on either question."),
]
FileFindings: TypeAlias = Annotated[
    bool,
    typer.Option(help="Read what the files say about their origin; it never changes a verdict."),
]
TrustedSigners: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        help="PEM file, or folder of such files: authorities whose signers of Content Credentials are trusted, "
        "instead of the C2PA's list.",
    ),
]
Stability: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--stability",
        help="Ask whether the verdicts hold under JPEG 80 and at half size; up to three times slower.",
    ),
]
LabelsOnly: TypeAlias = Annotated[
    bool,
    typer.Option("--labels-only", help="Labels without any number of confidence."),
]

_BULK = "Very many images"

ResultsOut: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--out",
        help="Write rows into this folder (or URL) of Parquet parts; started again, go on.",
        rich_help_panel=_BULK,
    ),
]
EngineChoice: TypeAlias = Annotated[
    Where, typer.Option("--engine", help="With --out: where it runs.", rich_help_panel=_BULK)
]
ClusterAddress: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster; default: start one here.", rich_help_panel=_BULK),
]
Deduplicate: TypeAlias = Annotated[
    bool, typer.Option(help="With --out: examine the same bytes once.", rich_help_panel=_BULK)
]


def scan(  # noqa: PLR0913, PLR0917 - each is an option
    paths: Images,
    recursive: Recursive = True,
    as_json: JsonLines = False,
    report: Page = None,
    fail_on: FailOnVerdict = None,
    max_megapixels: options.MaxMegapixels = 200.0,
    provenance: FileFindings = True,
    trust: TrustedSigners = None,
    stability: Stability = False,
    labels_only: LabelsOnly = False,
    weights: options.SeveralWeights = None,
    then: options.Then = None,
    zone: options.Zone = None,
    method: options.MethodName = None,
    device: options.Device = "cpu",
    profile: options.Profile = "default",
    runtime: options.RuntimeChoice = "auto",
    precision: options.PrecisionChoice = "auto",
    quiet: options.Quiet = False,
    out: ResultsOut = None,
    engine: EngineChoice = "local",
    address: ClusterAddress = None,
    deduplicate: Deduplicate = True,
) -> None:
    """Say for every image whether it contains AI-generated pixels and whether it was edited.

    With --out, for millions of images: rows go into a folder, and a scan that was interrupted goes on.

    Exit codes: 0 all examined, whatever the verdicts; 3 nothing examined; 4 some files were unreadable; 10
    --fail-on found something.
    """
    from gammascope import checkpoints
    from gammascope.cli import scan_into, scan_results, terminal
    from gammascope.detection import opinions
    from gammascope.detection.pipeline import Besides, Execution
    from gammascope.imaging.decode import Limits
    from gammascope.scanning.ordered import Plan

    named = weights or ["default"]
    if out is not None:
        scan_into.refuse_beside_out(report, then, engine, named, labels_only=labels_only)
    scan_into.refuse_without_out(out, engine, address, deduplicate=deduplicate)
    detector.refuse_beside_several(named, then, method)
    if report is not None:
        refuse_unwritable(report, ".html", ".htm")
    besides = Besides(provenance, scan_results.trusted(trust), stability, report is not None)
    execution = Execution(runtime, precision, profile)
    load = partial(detector.load, method=method, device=device, execution=execution)
    limits = Limits(max_pixels=int(max_megapixels * 1e6))
    if out is not None:
        place = None if named[0] == "default" else checkpoints.resolve(named[0])
        where = scan_into.Engine(engine, address, place, device, execution)
        plan = Plan(tuple(paths), recursive, limits, deduplicate)
        pipeline = load(named[0], besides=besides, zone=zone)
        summary = scan_into.run(out, plan, pipeline, where, bar=not quiet)
        told = json.dumps(scan_into.plain(summary)) if as_json else ""
        typer.echo(told or scan_into.statement(summary, out))
        raise typer.Exit(scan_into.exit_code(summary, fail_on))
    files = _listed(paths, recursive)
    detectors = opinions.Detectors.load(named, besides, partial(load, then=then, zone=zone))
    results = scan_results.Results(files, detectors, as_json, numbers=not labels_only)
    results.run(limits, report, bar=not (as_json or quiet))
    if report is not None:
        terminal.say(f"Page: {report}")
    raise typer.Exit(results.exit_code(fail_on))


def _listed(paths: list[str], recursive: bool) -> list[Path]:
    """List the files to examine, and say of those that hold many pictures how they are scanned."""
    from gammascope.cli import scan_into, scan_results, terminal
    from gammascope.data.folder import SCANNED_SUFFIXES, find_images

    for line in scan_into.hints(paths):
        terminal.say(line)
    return scan_results.distinct(find_images(paths, recursive, suffixes=SCANNED_SUFFIXES))
