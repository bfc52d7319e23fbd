"""Arguments and options of the commands, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from gammascope import choices
from gammascope.cli.failures import FOUND

_DETECTOR = "Detector"

Weights: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Checkpoint, fusion file (.json), or 'default': the embedded detector.",
        rich_help_panel=_DETECTOR,
    ),
]
SeveralWeights: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="Checkpoint, fusion file (.json), or an embedded detector: 'default', 'clip', 'mobilenet'. Repeatable: a "
        "second opinion beside the first.",
        rich_help_panel=_DETECTOR,
    ),
]
MethodName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--method", help="Refuse a checkpoint of another method.", rich_help_panel=_DETECTOR
    ),
]
Then: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--then",
        metavar="WEIGHTS",
        help="A strong detector that is asked only where --weights is unsure (cascade).",
        rich_help_panel=_DETECTOR,
    ),
]
Zone: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="Probabilities of --weights between which --then is asked. Default: {zone}.",
        rich_help_panel=_DETECTOR,
    ),
]
Device: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Where the network runs, as torch names it: cpu, cuda, mps.", rich_help_panel=_DETECTOR
    ),
]
Profile: TypeAlias = Annotated[
    choices.Profile,
    typer.Option(
        help="Views of an image: default as many as thresholds were fitted with (embedded detector: {default_views}), "
        "fast fewer ({fast_views}), thorough all.",
        rich_help_panel=_DETECTOR,
    ),
]
RuntimeChoice: TypeAlias = Annotated[
    choices.Engine,
    typer.Option(
        "--runtime",
        help="What runs the network; auto: the first that is installed and can.",
        rich_help_panel=_DETECTOR,
    ),
]
PrecisionChoice: TypeAlias = Annotated[
    choices.Precision,
    typer.Option(
        "--precision",
        help="auto: int8 where a tower's weights are; f32: never; bf16: logits differ by some per cent.",
        rich_help_panel=_DETECTOR,
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
    list[str],
    typer.Argument(
        help="Files, folders and patterns ('holiday/*.jpg'); with --out also manifests, tar shards, tables, URLs."
    ),
]
Recursive: TypeAlias = Annotated[bool, typer.Option(help="Look into folders within folders.")]
Page: TypeAlias = Annotated[
    Path | None, typer.Option(help="Write one HTML page with pictures and maps, readable offline.")
]
FailOn: TypeAlias = Literal["fake", "uncertain"]
"""The weakest verdict that makes a scan end with an exit code of its own."""

FailOnVerdict: TypeAlias = Annotated[
    FailOn | None,
    typer.Option(help=f"Exit with {FOUND} if a verdict is at least this, on either question."),
]
MaxMegapixels: TypeAlias = Annotated[
    float, typer.Option(min=0.0, help="Larger images are not examined.")
]

_BULK = "Very many images"

ResultsOut: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Write rows into this folder of Parquet parts; started again, go on.",
        rich_help_panel=_BULK,
    ),
]
Where: TypeAlias = Literal["local", "ray"]
"""Where a scan into a folder runs."""

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

_LABELLED = typer.Argument(help="Manifest (CSV, Parquet), or a folder with real and fake images.")
LabelledData: TypeAlias = Annotated[Path, _LABELLED]
EvaluationData: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        help="Manifest (CSV, Parquet), a folder with real and fake images, or a dataset to stream: "
        "hf:owner/name[@revision][:config[:split]]."
    ),
]
BenchmarkName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--benchmark", metavar="NAME", help="A public dataset; gammascope benchmarks lists them."
    ),
]
BenchmarkRoot: TypeAlias = Annotated[
    Path | None, typer.Option("--root", help="Folder that holds the benchmark.")
]
Partial: TypeAlias = Annotated[
    bool, typer.Option("--partial", help="Accept a benchmark that lacks parts or a class.")
]
Split: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Only images of this split. Default: all; of a benchmark, its first."),
]
Recodes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMAT:QUALITY",
        help="Score once more after re-encoding real and fake alike: jpeg:70, webp:80, avif:50; repeatable.",
    ),
]
BlackMasks: TypeAlias = Annotated[
    choices.Black,
    typer.Option(
        "--black-masks",
        help="What an image without a true pixel counts in F1 and IoU: left out, 1 if nothing is marked, or 0.",
    ),
]
EvaluationFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Folder for score tables, numbers and plots.")
]

ForeignDetector: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--predict",
        metavar="MODULE:FUNCTION",
        help="Measure a Python function of your own, which is imported and run: path of a PNG file in, "
        "probability of fake (0 to 1) out.",
    ),
]
ReplayFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        metavar="FILE",
        help="Make all numbers anew from replay.parquet, which --out writes: no pictures are needed.",
    ),
]

RobustnessFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder for scores, tables and curves.")
]
Suite: TypeAlias = Annotated[
    choices.Suite, typer.Option(help="quick: one to three severities of each kind; full: all.")
]
PerClass: TypeAlias = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="At most so many real and so many fake images."),
]

FirstEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="A", help="Folder of an evaluation (evaluate --out).")
]
SecondEvaluation: TypeAlias = Annotated[
    Path, typer.Argument(metavar="B", help="Folder of another detector's, on the same images.")
]

_STREAMED = "Streamed datasets"
ImageColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--image-column", help="Column of the images of hf:...", rich_help_panel=_STREAMED
    ),
]
LabelColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--label-column", help="Column of the labels of hf:...", rich_help_panel=_STREAMED
    ),
]
First: TypeAlias = Annotated[
    int | None,
    typer.Option("--first", min=1, help="Only so many rows of hf:...", rich_help_panel=_STREAMED),
]

Evaluations: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="TABLE...", help="Folders of evaluations (evaluate --out)."),
]
LeaderboardPage: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Where to write the page (HTML, works from disk).")
]
PageTitle: TypeAlias = Annotated[str, typer.Option("--title", help="Heading of the page.")]

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
