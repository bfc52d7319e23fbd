"""The command line: each command parses, calls the library and prints."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

import gammascope
from gammascope.cli import contexts, error_report, listing, making, options, serving_options
from gammascope.cli.failures import (
    FOUND,
    INTERRUPTED,
    Commands,
    explain,
    refuse_unwritable,
    terminal_that_never_fails,
)
from gammascope.cli.help import Command

if TYPE_CHECKING:
    from gammascope.pipeline import Besides, Execution, Pipeline

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


@app.command(cls=Command)
def scan(  # noqa: PLR0913, PLR0917 - each is an option
    paths: options.Images,
    recursive: options.Recursive = True,
    as_json: options.JsonLines = False,
    report: options.Page = None,
    fail_on: options.FailOnVerdict = None,
    max_megapixels: options.MaxMegapixels = 200.0,
    provenance: options.FileFindings = True,
    trust: options.TrustedSigners = None,
    stability: options.Stability = False,
    labels_only: options.LabelsOnly = False,
    weights: options.SeveralWeights = None,
    then: options.Then = None,
    zone: options.Zone = None,
    method: options.MethodName = None,
    device: options.Device = "cpu",
    profile: options.Profile = "default",
    runtime: options.RuntimeChoice = "auto",
    precision: options.PrecisionChoice = "auto",
    quiet: options.Quiet = False,
    out: options.ResultsOut = None,
    engine: options.EngineChoice = "local",
    address: options.ClusterAddress = None,
    deduplicate: options.Deduplicate = True,
) -> None:
    """Say for every image whether it contains AI-generated pixels and whether it was edited.

    With --out, for millions of images: rows go into a folder, and a scan that was interrupted goes on.

    Exit codes: 0 all examined, whatever the verdicts; 3 nothing examined; 4 some files were unreadable; 10
    --fail-on found something.
    """
    from gammascope import checkpoints
    from gammascope.apps import opinions
    from gammascope.cli import bulk, scan_results, terminal
    from gammascope.data.folder import SCANNED_SUFFIXES, find_images
    from gammascope.imaging.decode import Limits
    from gammascope.pipeline import Besides, Execution
    from gammascope.scanning.bulk import Plan

    named = weights or ["default"]
    if out is not None:
        bulk.refuse_beside_out(report, then, engine, named, labels_only=labels_only)
    opinions.refuse_beside_several(named, then, method)
    if report is not None:
        refuse_unwritable(report)
    besides = Besides(provenance, scan_results.trusted(trust), stability, report is not None)
    execution = Execution(runtime, precision, profile)
    load = partial(_pipeline, method=method, device=device, execution=execution)
    limits = Limits(max_pixels=int(max_megapixels * 1e6))
    if out is not None:
        place = None if named[0] == "default" else checkpoints.resolve(named[0])
        where = bulk.Engine(engine, address, place, device, execution)
        plan = Plan(tuple(paths), recursive, limits, deduplicate)
        summary = bulk.run(out, plan, load(named[0], besides=besides), where, bar=not quiet)
        typer.echo(json.dumps(bulk.plain(summary)) if as_json else bulk.statement(summary, out))
        raise typer.Exit(bulk.exit_code(summary, fail_on))
    files = scan_results.distinct(find_images(paths, recursive, suffixes=SCANNED_SUFFIXES))
    detectors = opinions.Detectors.load(named, besides, partial(load, then=then, zone=zone))
    results = scan_results.Results(files, detectors, as_json, numbers=not labels_only)
    results.run(limits, report, bar=not (as_json or quiet))
    if report is not None:
        terminal.say(f"Page: {report}")
    raise typer.Exit(results.exit_code(fail_on))


@app.command(cls=Command)
def train(
    recipe: options.RecipeFile,
    out: options.RunFolder,
    overrides: options.Overrides = None,
    data: options.Manifests = None,
    resume: options.Resume = False,
    steps: options.StopAfter = None,
) -> None:
    """Train a detector or a generator as a recipe says; a detector's checkpoint still has to be calibrated."""
    from gammascope.cli import terminal
    from gammascope.training import generators
    from gammascope.training.following import follow
    from gammascope.training.recipe import read_values, recipe_of

    assignments = list(overrides or ())
    if data:
        assignments.append(f"data.manifests={json.dumps([str(path) for path in data])}")
    values, where = read_values(recipe, assignments), f"recipe {recipe.name}"
    if "generator" in values:
        wanted = generators.recipe_of(values, where)
        with terminal.TrainingDisplay() as display:
            path = generators.train(wanted, out, resume=resume, stop_after=steps, report=display)
        following = "gammascope synthesize --generator" if display.finished else "--resume"
        terminal.say(f"Generator: {path}. Next: {following}")
        return
    plan = recipe_of(values, where)
    with terminal.TrainingDisplay() as display:
        path = follow(plan, out, resume=resume, stop_after=steps, report=display)
    following = f"gammascope calibrate {path} --data MANIFEST" if display.finished else "--resume"
    terminal.say(f"Checkpoint: {path}. Next: {following}")


@app.command(cls=Command)
def calibrate(  # noqa: PLR0913, PLR0917 - each is an option
    checkpoint: options.CheckpointFile,
    data: options.CalibrationData,
    source: options.Sources = None,
    like: options.LikeCheckpoints = None,
    method: options.Curve = "platt",
    zone: options.CalibrationZone = "quantile",
    false_alarms: options.FalseAlarms = 0.01,
    missed: options.Missed = 0.1,
    out: options.CalibrationFolder = None,
    quiet: options.Quiet = False,
) -> None:
    """Fit probabilities and thresholds on images that were not trained on, and store them in the checkpoint."""
    from gammascope.cli import calibration, terminal
    from gammascope.evaluation.calibrating import Plan
    from gammascope.evaluation.calibrating import calibrate as fit

    helping = like or []
    entries = calibration.entries_of([checkpoint, *helping], data, source or ())
    if out is not None:
        refuse_unwritable(out / calibration.NUMBERS)
    plan = Plan(method, zone, false_alarms, missed)
    with terminal.progress_bar("Calibrating", shown=not quiet) as advance:
        calibrated = fit(checkpoint, entries, plan, like=helping, progress=advance)
    terminal.output().print(calibration.table(calibrated.calibration))
    for line in calibration.notes(calibrated):
        terminal.say(line)
    for line in calibration.write(calibrated, out) if out is not None else ():
        terminal.say(line)


@app.command(cls=Command)
def evaluate(  # noqa: PLR0913, PLR0917 - each is an option
    data: options.EvaluationData = None,
    benchmark: options.BenchmarkName = None,
    root: options.BenchmarkRoot = None,
    partial: options.Partial = False,
    split: options.Split = None,
    recode: options.Recodes = None,
    black: options.BlackMasks = "skip",
    out: options.EvaluationFolder = None,
    as_json: options.Json = False,
    weights: options.Weights = "default",
    then: options.Then = None,
    zone: options.Zone = None,
    method: options.MethodName = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    first: options.First = None,
    predict: options.ForeignDetector = None,
    replay: options.ReplayFile = None,
) -> None:
    """Measure a detector on labelled images: as they are, with the formats of real and fake made alike, with intervals.

    With --out, an evaluation that was interrupted goes on where it was. --replay makes all numbers anew from a file
    that --out wrote, without pictures; --predict measures somebody else's detector.
    """
    from gammascope.cli import evaluating, predicting, replaying, terminal
    from gammascope.evaluation import costs

    if replay is not None:
        replaying.refuse_besides(data, benchmark, predict, recode)
        told = replaying.replayed(replay, black)
        replaying.tell(told, out, as_json=as_json, pictures=False)
        return
    columns = evaluating.columns_of(recode or ())
    streaming = evaluating.Streaming(image_column, label_column, first)
    name, entries, assumption = evaluating.listed(
        data, benchmark, root, split, partial=partial, streaming=streaming
    )
    terminal.say(f"{name}: {assumption}")
    if out is not None:
        refuse_unwritable(out / evaluating.SUMMARY)
    if predict is not None:
        pipeline, candidate, size = None, predicting.candidate(predict), None
    else:
        pipeline = _pipeline(weights, method, device, then=then, zone=zone)
        candidate, size = evaluating.Candidate.of(pipeline), costs.size_of(weights, then)
    columns = evaluating.with_aligned(columns, entries)
    with terminal.progress_bar("Scoring", shown=not (as_json or quiet)) as advance:
        tables, speed = evaluating.scored(candidate, entries, columns, out, advance)
    about = {"data": name, "labels": assumption, "speed": speed, "size": size}
    shown = evaluating.definitions_of(columns)
    evaluation = evaluating.summarised(candidate, tables, shown, about=about, black=black)
    replaying.tell(replaying.Told(evaluation, tables), out, as_json=as_json)
    if pipeline is not None and not as_json:
        _say_saving(pipeline)


@app.command(cls=Command)
def compare(
    first: options.FirstEvaluation,
    second: options.SecondEvaluation,
    as_json: options.Json = False,
) -> None:
    """Say whether one of two detectors, evaluated on the same images, is better, or whether it may be chance."""
    from gammascope.cli import comparing, terminal

    compared = comparing.compared(first, second)
    if as_json:
        typer.echo(json.dumps(comparing.plain(compared), allow_nan=False))
    else:
        terminal.output().print(comparing.table(compared))
        terminal.say(comparing.notes(compared))


@app.command(cls=Command)
def leaderboard(
    tables: options.Evaluations,
    out: options.LeaderboardPage = None,
    title: options.PageTitle = "Leaderboard",
    as_json: options.Json = False,
) -> None:
    """Put evaluated detectors side by side on one page; those of different images never share a table."""
    from gammascope.cli import leaderboard as page
    from gammascope.cli import terminal

    if out is not None:
        refuse_unwritable(out)
    made = page.made_of(tables)
    if out is not None:
        page.write(made, out, title)
    if as_json:
        typer.echo(json.dumps(page.plain(made), allow_nan=False))
    else:
        terminal.output().print(*page.drawn(made))
    if out is not None:
        terminal.say(f"Page: {out}")


@app.command(cls=Command)
def robustness(  # noqa: PLR0913, PLR0917 - each is an option
    data: options.LabelledData,
    out: options.RobustnessFolder,
    split: options.Split = None,
    suite: options.Suite = "quick",
    limit: options.PerClass = None,
    as_json: options.Json = False,
    weights: options.Weights = "default",
    method: options.MethodName = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Measure what ordinary processing does to a detector: JPEG, resizing, screenshots, social media and more.

    Run it again to go on where it was interrupted, or with the other suite: what is there is not scored again.
    """
    from gammascope.cli import evaluating, terminal
    from gammascope.cli import robustness as running
    from gammascope.evaluation.robustness import chosen

    entries, assumption = evaluating.entries_of(data, split)
    terminal.say(f"{data}: {assumption}")
    refuse_unwritable(out / running.TABLE)
    pipeline = _pipeline(weights, method, device)
    entries = chosen(entries, limit)
    with terminal.progress_bar("Scoring", shown=not (as_json or quiet)) as advance:
        points = running.measured(pipeline, entries, suite, out, advance)
    for note in running.write(points, out):
        terminal.say(note)
    if as_json:
        typer.echo(json.dumps(running.plain(points), allow_nan=False))
    else:
        terminal.output().print(running.table(points))


@app.command(cls=Command)
def doctor(
    data: options.AuditedData,
    out: options.AuditFolder = None,
    as_json: options.Json = False,
    strict: options.Strict = False,
    max_megapixels: options.MaxMegapixels = 200.0,
    quiet: options.Quiet = False,
) -> None:
    """Examine a data set: broken and misnamed files, duplicates, leaks, wrong labels, headers that tell the labels.

    Exit codes: 0 all files could be read, whatever was found; 3 none could; 4 some could not; 10 --strict found
    something.
    """
    from gammascope.cli import doctor, evaluating, terminal
    from gammascope.imaging.decode import Limits

    entries, assumption = evaluating.entries_of(data, None)
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


for _command in (
    error_report.report_error,
    making.synthesize,
    making.autoencoders,
    listing.generators,
    contexts.contexts,
    making.fuse,
    making.average,
    making.convert,
    making.export,
    listing.benchmarks,
    listing.methods,
):
    app.command(cls=Command)(_command)


@app.command(cls=Command)
def serve(  # noqa: PLR0913, PLR0917 - each is an option
    host: serving_options.Host = "127.0.0.1",
    port: serving_options.Port = 8000,
    keys: serving_options.KeyFile = None,
    insecure_no_keys: serving_options.InsecureNoKeys = False,
    allow_host: serving_options.AllowHosts = None,
    webhook_host: serving_options.WebhookHosts = None,
    results: serving_options.ResultsPlace = None,
    limit: serving_options.ServerBounds = None,
    weights: options.Weights = "default",
    method: options.MethodName = None,
    device: options.Device = "cpu",
) -> None:
    """Answer over HTTP: a page for people, an API for programs. Log lines in JSON go to stderr."""
    from gammascope.apps.server import serving
    from gammascope.cli import terminal

    hosts = (tuple(webhook_host or ()), tuple(allow_host or ()))
    chosen = serving.Options(
        host, port, keys, insecure_no_keys, results, *hosts, tuple(limit or ())
    )
    serving.refuse_open_door(chosen)
    serving.require_extra()
    with serving.listen(host, port) as listening:
        parts = serving.parts_of(chosen, _pipeline(weights, method, device))
        terminal.say(f"Serving on {serving.url_of(listening)} (stop: Ctrl-C)")
        serving.serve(chosen, parts, listening)


@app.command(cls=Command)
def api_key(
    name: serving_options.KeyName, files_per_minute: serving_options.FilesPerMinute = 120.0
) -> None:
    """Make a key for serve: the key goes to stderr, once; its entry for the file of keys to stdout."""
    from gammascope.apps.server import serving
    from gammascope.cli import terminal

    serving.require_extra()
    from gammascope.apps.server import keys

    key, entry = keys.new_key(name, files_per_minute)
    terminal.say(f"Key of {name}, shown only here: {key}")
    typer.echo(entry, nl=False)


def _pipeline(  # noqa: PLR0913 - each is an option
    weights: str,
    method: str | None,
    device: str,
    besides: Besides | None = None,
    execution: Execution | None = None,
    *,
    then: str | None = None,
    zone: str | None = None,
) -> Pipeline:
    from gammascope.cli import fusing
    from gammascope.pipeline import Besides, Execution

    try:
        return fusing.loaded(
            weights,
            then=then,
            zone=zone,
            method=method,
            device=device,
            besides=besides or Besides(),
            execution=execution or Execution(),
        )
    except (RuntimeError, AssertionError) as error:  # torch, where there is no such device
        reason = str(error).strip().splitlines()[0]
        raise typer.BadParameter(
            f"{device!r} cannot be used: {reason}", param_hint="--device"
        ) from error


def _say_saving(pipeline: Pipeline) -> None:
    from gammascope.cli import fusing, terminal

    said = fusing.saving(pipeline)
    if said is not None:
        terminal.say(said)
