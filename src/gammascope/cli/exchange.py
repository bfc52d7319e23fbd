"""``gammascope fuse``, ``average``, ``convert`` and ``export``: one detector made of others, or written otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from gammascope.choices import Fusing
from gammascope.cli import options
from gammascope.cli.failures import refuse_unwritable, refuse_unwritable_folder
from gammascope.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from gammascope.evaluation.fusing import Cost

FusedMembers: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="WEIGHTS...", help="Checkpoints, or 'default'; the fast one first."),
]
FusionFile: TypeAlias = Annotated[Path, typer.Option("--out", help="The fusion file, .json.")]
FusionKind: TypeAlias = Annotated[
    Fusing, typer.Option("--kind", help="Weighted sum, OR, or a strong one after a fast one.")
]
FusionZone: TypeAlias = Annotated[
    str | None,
    typer.Option("--zone", metavar="LOW,HIGH", help="Of a cascade. Default: {zone}."),
]
FusionSources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        help="Only images of this source; repeatable. Default: those that every member kept apart in training.",
    ),
]


UncalibratedFile: TypeAlias = Annotated[
    Path, typer.Option("--out", help="The checkpoint, .safetensors; still to be calibrated.")
]
AveragedMembers: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="CHECKPOINT...", help="Trained with one recipe and seed on other data."),
]
PublishedFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="A published checkpoint (.pth, .pt).")
]
PublishedAs: TypeAlias = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="NAME",
        help="Whose file it is: univfd, effort, gapl, npr, safe, c2p_clip, drct, dda, rine or ferretnet.",
    ),
]
ClipSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="The CLIP it was trained on, where FILE leaves its weights out or it is not OpenAI's: folder, or hub id "
        "(downloads)."
    ),
]
ExportedCheckpoint: TypeAlias = Annotated[
    str, typer.Argument(metavar="[CHECKPOINT]", help="A checkpoint; default: the embedded one.")
]
ExportFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Folder for files that need no checkpoint.")
]
QuantisingData: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="MANIFEST",
        help="Training images, to compare on and, with --out, to calibrate int8 on.",
    ),
]


def fuse(  # noqa: PLR0913, PLR0917 - each is an option
    members: FusedMembers,
    data: options.CalibrationData,
    out: FusionFile,
    kind: FusionKind = "logistic",
    zone: FusionZone = None,
    source: FusionSources = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Combine detectors, fitted on images that none was trained on; scan and evaluate take the file as --weights."""
    from gammascope import checkpoints, settings
    from gammascope.cli import detector, terminal
    from gammascope.evaluation import fusing
    from gammascope.evaluation.fitting import fewest
    from gammascope.report import percent

    if zone is not None and kind != "cascade":
        raise RecipeError(
            f"--zone {zone} belongs to a cascade: add --kind cascade, or leave it out."
        )
    if out.suffix.lower() != ".json":
        raise RecipeError(f"--out {out}: a fusion is known by its ending, .json.")
    refuse_unwritable(out, ".json")
    paths = [checkpoints.resolve(name) for name in members]
    entries = fusing.entries_of(paths, data, source or ())
    with terminal.progress_bar("Fusing", shown=not (as_json or quiet)) as advance:
        limits = detector.zone_of(zone)
        plan, costs = fusing.fuse(paths, entries, out, kind=kind, zone=limits, progress=advance)
    if as_json:
        typer.echo(
            json.dumps(
                {"plan": settings.plain(plan), "costs": [settings.plain(cost) for cost in costs]},
                allow_nan=False,
            )
        )
    else:
        terminal.output().print(_costs(costs))
        known = plan.calibration["generated"]
        needed = fewest(known.rates[1])
        if known.photos < needed:
            terminal.say(
                f"{known.photos} real photos cannot promise {percent(known.rates[1])} of false alarms on new ones: "
                f"at least {needed} are needed. So its threshold lies above all of them."
            )
        terminal.say(f"Fusion: {out}. Next: gammascope evaluate DATA --weights {out}")


def _costs(costs: Sequence[Cost]) -> Table:
    """Draw what members and combinations cost."""
    from rich.table import Table

    from gammascope.cli import terminal
    from gammascope.report import percent

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("on the images fitted to", "false alarms", "fakes found", "AUROC"):
        drawn.add_column(title, justify="left" if title.startswith("on") else "right")
    for cost in costs:
        drawn.add_row(
            terminal.literal(cost.name),
            percent(cost.false_alarms, 1),
            percent(cost.found, 1),
            f"{cost.auroc:.3f}",
        )
    return drawn


def average(members: AveragedMembers, out: UncalibratedFile) -> None:
    """Make one detector from several of one design: the mean of their weights."""
    from gammascope.checkpoints import averaging
    from gammascope.cli import terminal

    refuse_unwritable(out, ".safetensors")
    digest = averaging.average(members, out)
    terminal.say(f"Checkpoint: {out} (sha256 {digest}), the mean of {len(members)}.")
    terminal.say(f"Next: gammascope calibrate {out} --data MANIFEST")


def convert(
    published: PublishedFile,
    name: PublishedAs,
    out: UncalibratedFile,
    clip: ClipSource = None,
) -> None:
    """Turn a checkpoint that authors published for their own code into one of ours; nothing in it is executed."""
    from gammascope.checkpoints import conversion, read_facts
    from gammascope.cli import terminal

    refuse_unwritable(out, ".safetensors")
    digest = conversion.convert(published, name, out, clip=clip)
    terminal.say(f"Checkpoint: {out} (sha256 {digest}), {read_facts(out).trained_on}.")
    terminal.say(f"Next: gammascope calibrate {out} --data MANIFEST")


def export(
    checkpoint: ExportedCheckpoint = "default",
    out: ExportFolder = None,
    data: QuantisingData = None,
    as_json: options.Json = False,
) -> None:
    """Write a detector as ONNX and OpenVINO files that run without torch, and compare their answers with torch's.

    Without --out only a small graph is written beside the checkpoint, which keeps the weights; scans then use it.
    """
    from gammascope.checkpoints import resolve
    from gammascope.cli import exporting, terminal

    path = resolve(checkpoint)
    if out is not None:
        refuse_unwritable_folder(out)
    files, compared = exporting.exported(path, out, data)
    if as_json:
        typer.echo(json.dumps(exporting.plain(files, compared), allow_nan=False))
        return
    terminal.output().print(exporting.table(compared))
    for file in files:
        terminal.say(f"Written: {file} ({file.stat().st_size / 1e6:.1f} MB)")
