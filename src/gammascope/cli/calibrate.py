"""``gammascope calibrate``: probabilities and thresholds for a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gammascope import choices
from gammascope.cli import options
from gammascope.cli.failures import refuse_unwritable
from gammascope.errors import RecipeError

CheckpointFile: TypeAlias = Annotated[
    Path, typer.Argument(help="Checkpoint; rewritten with the same weights.")
]
Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        help="Only images of this source; repeatable. Default: those kept apart in training.",
    ),
]
LikeCheckpoints: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--like",
        metavar="CHECKPOINT",
        help="A checkpoint of the same design that kept other collections apart: its answers on those count as this "
        "one's on what it never saw. Repeatable.",
    ),
]
Curve: TypeAlias = Annotated[
    choices.Curve,
    typer.Option(
        "--method",
        help="Probabilities by temperature and offset (platt), or by any rising curve (isotonic): that needs more "
        "images.",
    ),
]
CalibrationZone: TypeAlias = Annotated[
    choices.Zone,
    typer.Option(
        "--zone",
        help="Thresholds that keep the rates on these photos in the mean over sources (quantile), in every source "
        "(worst), or for new photos like them too (conformal).",
    ),
]
FalseAlarms: TypeAlias = Annotated[
    float,
    typer.Option(
        "--false-alarms",
        min=1e-6,
        max=0.5,
        help="Share of real photos that may be called fake; n of them promise 1/(n+1) at best.",
    ),
]
Missed: TypeAlias = Annotated[
    float,
    typer.Option(
        "--missed",
        min=1e-6,
        max=0.5,
        help="Share of fakes that may get 'no sign', with --zone conformal: sizes the uncertain zone.",
    ),
]
CalibrationFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write false alarms by source, size and quality, thresholds of each source, and plots.",
    ),
]


def refuse_embedded(checkpoint: Path) -> None:
    """Refuse the name of an embedded detector, whose file is the installation's and is not rewritten.

    Raises:
        RecipeError: With what to do instead.
    """
    from gammascope.checkpoints import resolve

    embedded = resolve(checkpoint)
    if embedded != checkpoint and not checkpoint.exists():
        raise RecipeError(
            f"{checkpoint} is embedded and calibrated already; its file is not rewritten. Copy {embedded}, and "
            "calibrate the copy."
        )


def calibrate(  # noqa: PLR0913, PLR0917 - each is an option
    checkpoint: CheckpointFile,
    data: options.CalibrationData,
    source: Sources = None,
    like: LikeCheckpoints = None,
    method: Curve = "platt",
    zone: CalibrationZone = "quantile",
    false_alarms: FalseAlarms = 0.01,
    missed: Missed = 0.1,
    out: CalibrationFolder = None,
    quiet: options.Quiet = False,
) -> None:
    """Fit probabilities and thresholds on images that were not trained on, and store them in the checkpoint."""
    from gammascope.cli import calibration_page, terminal
    from gammascope.evaluation import calibrating

    refuse_embedded(checkpoint)
    helping = like or []
    entries = calibrating.entries_of([checkpoint, *helping], data, source or ())
    if out is not None:
        refuse_unwritable(out / calibration_page.NUMBERS)
    plan = calibrating.Plan(method, zone, false_alarms, missed)
    with terminal.progress_bar("Calibrating", shown=not quiet) as advance:
        calibrated = calibrating.calibrate(
            checkpoint, entries, plan, like=helping, progress=advance
        )
    terminal.output().print(calibration_page.table(calibrated.calibration))
    for line in calibration_page.notes(calibrated):
        terminal.say(line)
    for line in calibration_page.write(calibrated, out) if out is not None else ():
        terminal.say(line)
