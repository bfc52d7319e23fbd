"""Commands that make files: edited pictures, autoencoders, and converted, fused or exported detectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from gammascope.cli import making_options, options
from gammascope.cli.failures import PARTLY_DONE, refuse_unwritable

if TYPE_CHECKING:
    from gammascope.data.edits import Edits


def fuse(  # noqa: PLR0913, PLR0917 - each is an option
    members: making_options.FusedMembers,
    data: options.CalibrationData,
    out: making_options.FusionFile,
    kind: making_options.FusionKind = "logistic",
    zone: making_options.FusionZone = None,
    source: making_options.FusionSources = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Combine detectors, fitted on images that none was trained on; scan and evaluate take the file as --weights."""
    from gammascope import checkpoints
    from gammascope.cli import fusing, terminal
    from gammascope.evaluation.fusing import fuse as fit

    refuse_unwritable(out)
    paths = [checkpoints.resolve(name) for name in members]
    entries = fusing.entries_of(paths, data, source or ())
    with terminal.progress_bar("Fusing", shown=not (as_json or quiet)) as advance:
        limits = fusing.zone_of(zone)
        plan, costs = fit(paths, entries, out, kind=kind, zone=limits, progress=advance)
    if as_json:
        typer.echo(json.dumps(fusing.plain(plan, costs), allow_nan=False))
    else:
        terminal.output().print(fusing.table(costs))
        terminal.say(f"Fusion: {out}. Next: gammascope evaluate DATA --weights {out}")


def convert(
    published: making_options.PublishedFile,
    name: making_options.PublishedAs,
    out: making_options.UncalibratedFile,
    clip: making_options.ClipSource = None,
) -> None:
    """Turn a checkpoint that authors published for their own code into one of ours; nothing in it is executed."""
    from gammascope import conversion
    from gammascope.cli import terminal

    refuse_unwritable(out)
    digest = conversion.convert(published, name, out, clip=clip or conversion.CLIP)
    terminal.say(f"Checkpoint: {out} (sha256 {digest}). Its authors' terms hold.")
    terminal.say(f"Next: gammascope calibrate {out} --data MANIFEST")


def average(members: making_options.AveragedMembers, out: making_options.UncalibratedFile) -> None:
    """Make one detector from several of one design: the mean of their weights."""
    from gammascope.cli import terminal
    from gammascope.training import averaging

    refuse_unwritable(out)
    digest = averaging.average(members, out)
    terminal.say(f"Checkpoint: {out} (sha256 {digest}), the mean of {len(members)}.")
    terminal.say(f"Next: gammascope calibrate {out} --data MANIFEST")


def synthesize(  # noqa: PLR0913, PLR0917 - each is an option
    photos: making_options.Photos,
    out: making_options.EditFolder,
    kind: making_options.EditKinds = None,
    per_photo: making_options.PerPhoto = 1,
    controls: making_options.Controls = None,
    autoencoder: making_options.AutoencoderSource = None,
    inpainter: making_options.InpainterSource = None,
    upscaler: making_options.UpscalerSource = None,
    styles: making_options.StylesSource = None,
    strength: making_options.StyleStrength = 1.0,
    generator: making_options.GeneratorFolder = None,
    prompt: making_options.Prompt = "",
    policy: making_options.PolicyName = None,
    budget: making_options.Budget = None,
    held_out: making_options.HeldOut = None,
    accept_patent_notice: making_options.AcceptNotice = False,
    quality: making_options.Quality = "90",
    largest_side: making_options.LargestSide = None,
    seed: making_options.Seed = 0,
    split: making_options.EditSplit = None,
    quiet: options.Quiet = False,
) -> None:
    """Make edited pictures with exact masks from real photos, and authentic controls encoded alike.

    What is there already is kept, so an interrupted run goes on. Exit code 4: some photos could not be used.
    """
    from gammascope.cli import synthesis, terminal
    from gammascope.data.edits import CHEAP_KINDS, Plan, make_edits

    writer = synthesis.generator_of(generator)
    if policy is not None or budget is not None:
        synthesis.refuse_beside_policy(policy, budget, kind, prompt)
        made = synthesis.augmented(
            synthesis.photos_at(photos, out, split),
            out,
            writer,
            (str(policy), int(budget or 0), accept_patent_notice, tuple(held_out or ())),
            (seed, synthesis.encoding_of(quality)),
            quiet=quiet,
        )
        _tell(made, out)
    plan = Plan(
        kinds=tuple(kind) if kind else CHEAP_KINDS,
        per_photo=per_photo,
        controls=controls,
        seed=seed,
        encoding=synthesis.encoding_of(quality),
        largest_side=largest_side,
        autoencoder=synthesis.short_name(autoencoder),
        inpainter=synthesis.short_name(inpainter),
        upscaler=synthesis.short_name(upscaler),
        styles=synthesis.short_name(styles),
        strength=strength,
        generator="" if writer is None else writer.signature,
        prompt=prompt,
        square=None if writer is None or writer.any_size else writer.native_px,
    )
    entries = synthesis.photos_at(photos, out, split)
    generators = synthesis.generators(autoencoder, inpainter, upscaler, styles, writer)
    with terminal.progress_bar("Editing", shown=not quiet) as advance:
        made = make_edits(entries, out, plan, generators, progress=advance)
    _tell(made, out)


def _tell(made: Edits, out: Path) -> NoReturn:
    from gammascope.cli import synthesis, terminal

    terminal.output().print(synthesis.table(made))
    terminal.say(synthesis.closing(made, out))
    raise typer.Exit(PARTLY_DONE if made.broken else 0)


def autoencoders(
    photos: making_options.Photos,
    out: making_options.AutoencoderFolder,
    design: making_options.AutoencoderDesigns = None,
    steps: making_options.AutoencoderSteps = 1200,
    split: making_options.EditSplit = None,
    quiet: options.Quiet = False,
) -> None:
    """Train small autoencoders on real photos; synthesize --kind twin regenerates photos with them.

    One that is there already is kept.
    """
    from gammascope.cli import synthesis, terminal

    wanted = synthesis.designs(design)
    entries = synthesis.photos_at(photos, out, split)
    whole, pictures = synthesis.preloaded(entries)
    if len(whole) < len(entries):
        terminal.say(f"{len(entries) - len(whole)} unreadable photos left out")
    for name in wanted:
        with terminal.progress_bar(f"Training {name}", shown=not quiet) as advance:
            made = synthesis.autoencoder_made(name, whole, pictures, out / name, steps, advance)
        terminal.say(made)


def export(
    checkpoint: making_options.ExportedCheckpoint = "default",
    out: making_options.ExportFolder = None,
    data: making_options.QuantisingData = None,
    as_json: options.Json = False,
) -> None:
    """Write a detector as ONNX and OpenVINO files that run without torch, and compare their answers with torch's.

    Without --out only a small graph is written beside the checkpoint, which keeps the weights; scans then use it.
    """
    from gammascope.checkpoints import resolve
    from gammascope.cli import exporting, terminal

    path = resolve(checkpoint)
    files, compared = exporting.exported(path, out, data)
    if as_json:
        typer.echo(json.dumps(exporting.plain(files, compared), allow_nan=False))
        return
    terminal.output().print(exporting.table(compared))
    for file in files:
        terminal.say(f"Written: {file} ({file.stat().st_size / 1e6:.1f} MB)")
