"""Arguments and options of the commands that make files, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias, get_args

import typer

from gammascope.choices import EditKind, Fusing

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
PublishedFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="A published checkpoint (.pth, .pt).")
]
PublishedAs: TypeAlias = Annotated[
    str,
    typer.Option(
        "--from", metavar="NAME", help="Whose file it is: univfd, effort, gapl, npr or dda."
    ),
]
UncalibratedFile: TypeAlias = Annotated[
    Path, typer.Option("--out", help="The checkpoint, .safetensors; still to be calibrated.")
]
AveragedMembers: TypeAlias = Annotated[
    list[Path],
    typer.Argument(metavar="CHECKPOINT...", help="Trained with one recipe and seed on other data."),
]
ClipSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="CLIP ViT-L/14 where FILE leaves its weights out: folder, or hub id (downloads)."
    ),
]
Photos: TypeAlias = Annotated[
    list[str], typer.Argument(help="Real photos: files, folders and patterns, or one manifest.")
]
EditFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder for pictures, masks and manifest.csv.")
]
EditKinds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help=f"How to manipulate: {', '.join(get_args(EditKind))}; repeatable. Default: copy_move, splicing, telea.",
    ),
]
AutoencoderSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--autoencoder",
        help="Folder of an autoencoder (ours, TAESD family, diffusers), or a hub id (downloads).",
    ),
]
AutoencoderFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder that gets one folder for each autoencoder.")
]
AutoencoderDesigns: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--design", help="Which autoencoder; repeatable. Default: all of them."),
]
AutoencoderSteps: TypeAlias = Annotated[int, typer.Option(min=1, help="Updates of each.")]
InpainterSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--inpainter", help="Folder of a diffusers inpainting pipeline, or a hub id (downloads)."
    ),
]
UpscalerSource: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--upscaler",
        metavar="FILE.param",
        help="ncnn network that enlarges pictures; its .bin lies beside it.",
    ),
]
StylesSource: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--styles",
        metavar="FOLDER|FILE.onnx",
        help="Folder with *predict.onnx and *transform.onnx, or one network of numbered styles.",
    ),
]
StyleStrength: TypeAlias = Annotated[
    float, typer.Option(help="Share of the restyled photo, or of an edit's strength, above 0.")
]
GeneratorFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--generator", metavar="FOLDER", help="Of a generator that train made."),
]
PolicyName: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What decides what is made: interventions or genmix; in place of --kind."),
]
Budget: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Of a policy: pairs of a picture and its control.")
]
HeldOut: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Source that a policy never touches; repeatable."),
]
AcceptNotice: TypeAlias = Annotated[
    bool, typer.Option("--accept-patent-notice", help="You know of the patent beside genmix.")
]
Prompt: TypeAlias = Annotated[
    str, typer.Option(help="What the generator is asked for: one of its classes.")
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
