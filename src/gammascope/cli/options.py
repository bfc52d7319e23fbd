"""Arguments and options that several commands share, with their help."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from gammascope import choices


def refuse_useless(context: typer.Context, doing: str, *names: str) -> None:
    """Refuse options that were given and would change nothing.

    Args:
        context: Of the command.
        doing: What has no use for them.
        names: Of the command's parameters.

    Raises:
        typer.BadParameter: Naming the first of them.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            option = max(parameter.opts, key=len)
            raise typer.BadParameter(f"{doing} has no use for it", param_hint=option)


def finite(value: float) -> float:
    """Refuse numbers that are none, and infinite ones."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


DETECTOR = "Detector"
"""Heading of the options about it."""

Weights: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Checkpoint, fusion file (.json), or 'default': the embedded detector.",
        rich_help_panel=DETECTOR,
    ),
]
SeveralWeights: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="Checkpoint, fusion file (.json), or an embedded detector: 'default', 'clip', 'mobilenet'. Repeatable: a "
        "second opinion beside the first.",
        rich_help_panel=DETECTOR,
    ),
]
MethodName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--method", help="Refuse a checkpoint of another method.", rich_help_panel=DETECTOR
    ),
]
Then: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--then",
        metavar="WEIGHTS",
        help="A strong detector that is asked only where --weights is unsure (cascade).",
        rich_help_panel=DETECTOR,
    ),
]
Zone: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="Probabilities of --weights between which --then is asked. Default: {zone}.",
        rich_help_panel=DETECTOR,
    ),
]
Device: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Where the network runs, as torch names it: cpu, cuda, mps.", rich_help_panel=DETECTOR
    ),
]
Profile: TypeAlias = Annotated[
    choices.Profile,
    typer.Option(
        help="Views of an image: default as many as thresholds were fitted with (embedded detector: {default_views}), "
        "fast fewer ({fast_views}), thorough no fewer, and all for maps and edits; default and fast "
        "look at fewer where these settle the matter.",
        rich_help_panel=DETECTOR,
    ),
]
RuntimeChoice: TypeAlias = Annotated[
    choices.Engine,
    typer.Option(
        "--runtime",
        help="What runs the network; auto: the first that is installed and can.",
        rich_help_panel=DETECTOR,
    ),
]
PrecisionChoice: TypeAlias = Annotated[
    choices.Precision,
    typer.Option(
        "--precision",
        help="auto: int8 where a tower's weights are; f32: never; bf16: logits differ by some per cent.",
        rich_help_panel=DETECTOR,
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")
]


MaxMegapixels: TypeAlias = Annotated[
    float, typer.Option(min=0.0, callback=finite, help="Larger images are not examined.")
]


CalibrationData: TypeAlias = Annotated[
    list[Path],
    typer.Option("--data", metavar="MANIFEST", help="CSV or Parquet; repeatable."),
]


_LABELLED = typer.Argument(help="Manifest (CSV, Parquet), or a folder with real and fake images.")
LabelledData: TypeAlias = Annotated[Path, _LABELLED]
Split: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Only images of this split. Default: all; of a benchmark, its first."),
]
