"""Arguments and options of the commands, with their help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer


class FailOn(StrEnum):
    """The weakest verdict that makes a scan end with an exit code of its own."""

    FAKE = "fake"
    UNCERTAIN = "uncertain"


class EditKind(StrEnum):
    """How a photo is manipulated; the names of ``gammascope.data.edits.KINDS``."""

    COPY_MOVE = "copy_move"
    SPLICING = "splicing"
    TELEA = "telea"
    NAVIER_STOKES = "navier_stokes"
    AUTOENCODER = "autoencoder"
    REGENERATED = "regenerated"
    TWIN = "twin"
    DIFFUSION = "diffusion"


_DETECTOR = "Detector"

Weights: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Checkpoint file, or 'default': the embedded detector.", rich_help_panel=_DETECTOR
    ),
]
MethodName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--method", help="Refuse a checkpoint of another method.", rich_help_panel=_DETECTOR
    ),
]
Device: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Where the network runs, as torch names it: cpu, cuda, mps.", rich_help_panel=_DETECTOR
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")
]
JsonLines: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per file and line on stdout, as they come."),
]

Images: TypeAlias = Annotated[
    list[str], typer.Argument(help="Files, folders and patterns ('holiday/*.jpg').")
]
Recursive: TypeAlias = Annotated[bool, typer.Option(help="Look into folders within folders.")]
Page: TypeAlias = Annotated[
    Path | None, typer.Option(help="Write one HTML page with pictures and maps, readable offline.")
]
FailOnVerdict: TypeAlias = Annotated[
    FailOn | None,
    typer.Option(help="Exit with 10 if a verdict is at least this, on either question."),
]
MaxMegapixels: TypeAlias = Annotated[
    float, typer.Option(min=0.0, help="Larger images are not examined.")
]

FileFindings: TypeAlias = Annotated[
    bool,
    typer.Option(help="Read what the files say about their origin; it never changes a verdict."),
]
TrustedSigners: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        help="PEM file, or folder of such files: authorities whose signers of Content Credentials are trusted.",
    ),
]
Stability: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--stability",
        help="Ask whether the verdicts hold under JPEG 80 and at half size; up to three times slower.",
    ),
]

RecipeFile: TypeAlias = Annotated[Path, typer.Argument(help="Recipe, a TOML file.")]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Other values: optimisation.steps=500."),
]
Manifests: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(metavar="MANIFEST", help="CSV or Parquet; repeatable; replaces data.manifests."),
]
RunFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder of the run: checkpoint, curves, log, state.")
]
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]
StopAfter: TypeAlias = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Stop after so many steps; go on later with --resume."),
]

CheckpointFile: TypeAlias = Annotated[
    Path, typer.Argument(help="Checkpoint; rewritten with the same weights.")
]
CalibrationData: TypeAlias = Annotated[
    list[Path],
    typer.Option("--data", metavar="MANIFEST", help="CSV or Parquet; repeatable."),
]
Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        help="Only images of this source; repeatable. Default: those kept apart in training.",
    ),
]

EvaluationData: TypeAlias = Annotated[
    Path,
    typer.Argument(help="Manifest (CSV, Parquet), or a folder with real and fake images."),
]
Split: TypeAlias = Annotated[str | None, typer.Option(help="Only rows of this split.")]
Recodes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMAT:QUALITY",
        help="Score once more after re-encoding real and fake alike: jpeg:90, webp:80; repeatable.",
    ),
]
EvaluationFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Folder for score tables, numbers and plots.")
]

Photos: TypeAlias = Annotated[
    list[str], typer.Argument(help="Real photos: files, folders and patterns, or one manifest.")
]
EditFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder for pictures, masks and manifest.csv.")
]
EditKinds: TypeAlias = Annotated[
    list[EditKind] | None,
    typer.Option(
        "--kind", help="How to manipulate; repeatable. Default: copy_move, splicing, telea."
    ),
]
AutoencoderSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--autoencoder",
        help="Folder of a TAESD-family or diffusers autoencoder, or a hub id (downloads).",
    ),
]
InpainterSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--inpainter", help="Folder of a diffusers inpainting pipeline, or a hub id (downloads)."
    ),
]
PerPhoto: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Edits per photo; the kinds take turns.")
]
Controls: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, help="So many photos also unedited, encoded alike. Default: all."),
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Of all draws.")]
Quality: TypeAlias = Annotated[
    str, typer.Option(help="JPEG quality 1..100 of all pictures written, or 'png'.")
]
LargestSide: TypeAlias = Annotated[
    int | None, typer.Option(min=64, help="Reduce larger photos to this longer side first.")
]
EditSplit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Only rows of this split of a manifest; for files, the split to write (test).",
    ),
]
