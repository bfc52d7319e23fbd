"""The command line: each command parses, calls the library and prints."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

import gammascope
from gammascope.apps import options
from gammascope.apps.failures import PARTLY_DONE, Commands, explain, refuse_unwritable

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


@app.command()
def scan(  # noqa: PLR0913, PLR0917 - each is an option
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
    from gammascope.data.folder import find_images
    from gammascope.imaging.decode import Limits

    if report is not None:
        refuse_unwritable(report)
    files = scan_results.distinct(find_images(paths, recursive))
    pipeline = _pipeline(weights, method, device)
    results = scan_results.Results(files, json_lines=as_json)
    try:
        limits = Limits(max_pixels=int(max_megapixels * 1e6))
        results.run(pipeline, limits, report, bar=not (as_json or quiet))
    finally:  # what was found before an interruption is worth showing
        if not as_json:
            results.print(pipeline.facts)
    if report is not None:
        terminal.say(f"Page: {report}")
    raise typer.Exit(results.exit_code(fail_on))


@app.command()
def train(
    recipe: options.RecipeFile,
    out: options.RunFolder,
    overrides: options.Overrides = None,
    data: options.Manifests = None,
    resume: options.Resume = False,
    steps: options.StopAfter = None,
) -> None:
    """Train a detector as a recipe says; the checkpoint still has to be calibrated."""
    from gammascope.apps import terminal
    from gammascope.training.following import follow
    from gammascope.training.recipe import read_recipe

    assignments = list(overrides or ())
    if data:
        assignments.append(f"data.manifests={json.dumps([str(path) for path in data])}")
    plan = read_recipe(recipe, assignments)
    with terminal.TrainingDisplay() as display:
        path = follow(plan, out, resume=resume, stop_after=steps, report=display)
    following = f"gammascope calibrate {path} --data MANIFEST" if display.finished else "--resume"
    terminal.say(f"Checkpoint: {path}. Next: {following}")


@app.command()
def calibrate(
    checkpoint: options.CheckpointFile,
    data: options.CalibrationData,
    source: options.Sources = None,
    quiet: options.Quiet = False,
) -> None:
    """Fit probabilities and thresholds on images that were not trained on, and store them in the checkpoint."""
    from gammascope.apps import calibration, terminal
    from gammascope.evaluation.calibrating import calibrate as fit

    entries = calibration.entries_of(checkpoint, data, source or ())
    with terminal.progress_bar("Calibrating", shown=not quiet) as advance:
        fitted = fit(checkpoint, entries, progress=advance)
    terminal.output().print(calibration.table(fitted))


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - each is an option
    data: options.EvaluationData,
    split: options.Split = None,
    recode: options.Recodes = None,
    out: options.EvaluationFolder = None,
    as_json: options.Json = False,
    weights: options.Weights = "default",
    method: options.MethodName = None,
    device: options.Device = "cpu",
    quiet: options.Quiet = False,
) -> None:
    """Measure a detector on labelled images, as they are and re-encoded, with intervals."""
    from gammascope.apps import evaluating, terminal

    columns = evaluating.columns_of(recode or ())
    entries, assumption = evaluating.entries_of(data, split)
    terminal.say(f"{data}: {assumption}")
    if out is not None:
        refuse_unwritable(out / evaluating.SUMMARY)
    pipeline = _pipeline(weights, method, device)
    tables = {}
    for name, encoding in columns.items():
        with terminal.progress_bar(f"Scoring {name}", shown=not (as_json or quiet)) as advance:
            tables[name] = evaluating.scored(pipeline, entries, encoding, advance)
    evaluation = evaluating.summarised(pipeline, tables, data=str(data), assumption=assumption)
    if out is not None:
        for note in evaluating.write(evaluation, tables, out):
            terminal.say(note)
    if as_json:
        typer.echo(json.dumps(evaluation.plain, allow_nan=False))
    else:
        terminal.output().print(*evaluating.drawn(evaluation))
        terminal.say(evaluating.operating_points(evaluation))


@app.command()
def synthesize(  # noqa: PLR0913, PLR0917 - each is an option
    photos: options.Photos,
    out: options.EditFolder,
    kind: options.EditKinds = None,
    per_photo: options.PerPhoto = 1,
    controls: options.Controls = None,
    autoencoder: options.AutoencoderSource = None,
    inpainter: options.InpainterSource = None,
    quality: options.Quality = "90",
    largest_side: options.LargestSide = None,
    seed: options.Seed = 0,
    split: options.EditSplit = None,
    quiet: options.Quiet = False,
) -> None:
    """Make edited pictures with exact masks from real photos, and authentic controls encoded alike.

    What is there already is kept, so an interrupted run goes on. Exit code 4: some photos could not be used.
    """
    from gammascope.apps import synthesis, terminal
    from gammascope.data.edits import CHEAP_KINDS, Plan, make_edits

    plan = Plan(
        kinds=tuple(str(name) for name in kind) if kind else CHEAP_KINDS,
        per_photo=per_photo,
        controls=controls,
        seed=seed,
        encoding=synthesis.encoding_of(quality),
        largest_side=largest_side,
        autoencoder=synthesis.short_name(autoencoder),
        inpainter=synthesis.short_name(inpainter),
    )
    entries = synthesis.photos_at(photos, out, split)
    networks = synthesis.networks(autoencoder, inpainter)
    with terminal.progress_bar("Editing", shown=not quiet) as advance:
        made = make_edits(entries, out, plan, **networks, progress=advance)
    terminal.output().print(synthesis.table(made))
    terminal.say(synthesis.closing(made, out))
    raise typer.Exit(PARTLY_DONE if made.broken else 0)


@app.command()
def methods(as_json: options.Json = False) -> None:
    """List the detection methods."""
    from gammascope.apps import method_list, terminal

    rows = method_list.rows()
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        terminal.output().print(method_list.table(rows))


def _pipeline(weights: str, method: str | None, device: str) -> Pipeline:
    from gammascope.pipeline import Pipeline

    try:
        return Pipeline.load(weights, method=method, device=device)
    except (RuntimeError, AssertionError) as error:  # torch, where there is no such device
        reason = str(error).strip().splitlines()[0]
        raise typer.BadParameter(
            f"{device!r} cannot be used: {reason}", param_hint="--device"
        ) from error
