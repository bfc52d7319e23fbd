"""``gammascope synthesize`` and ``autoencoders``: edited pictures, and what writes some of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias, get_args

import typer

from gammascope.choices import EditKind
from gammascope.cli import options
from gammascope.cli.failures import PARTLY_DONE

if TYPE_CHECKING:
    from gammascope.data.products import Edits


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
PerPhoto: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Edits per photo; the kinds take turns.")
]
Controls: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, help="So many photos also unedited, encoded alike. Default: all."),
]
AutoencoderSource: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--autoencoder",
        help="Folder of an autoencoder (ours, TAESD family, diffusers), or a hub id (downloads).",
    ),
]
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
Prompt: TypeAlias = Annotated[
    str, typer.Option(help="What the generator is asked for: one of its classes.")
]
PolicyName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="What decides what is made: interventions, genmix or actgen; in place of --kind."
    ),
]
Budget: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Of a policy: pairs of a picture and its control.")
]
HeldOut: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Source whose photos, and copies of them, are left alone; repeatable."),
]
AcceptNotice: TypeAlias = Annotated[
    bool, typer.Option("--accept-patent-notice", help="You know of the patent beside genmix.")
]
Quality: TypeAlias = Annotated[
    str, typer.Option(help="JPEG quality 1..100 of all pictures written, or 'png'.")
]
LargestSide: TypeAlias = Annotated[
    int | None, typer.Option(min=64, help="Reduce larger photos to this longer side first.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="Of all draws.")]
EditSplit: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Only rows of this split of a manifest; for files, the split to write (test).",
    ),
]


def synthesize(  # noqa: PLR0913, PLR0917 - each is an option
    photos: Photos,
    out: EditFolder,
    kind: EditKinds = None,
    per_photo: PerPhoto = 1,
    controls: Controls = None,
    autoencoder: AutoencoderSource = None,
    inpainter: InpainterSource = None,
    upscaler: UpscalerSource = None,
    styles: StylesSource = None,
    strength: StyleStrength = 1.0,
    generator: GeneratorFolder = None,
    prompt: Prompt = "",
    policy: PolicyName = None,
    budget: Budget = None,
    held_out: HeldOut = None,
    accept_patent_notice: AcceptNotice = False,
    quality: Quality = "90",
    largest_side: LargestSide = None,
    seed: Seed = 0,
    split: EditSplit = None,
    quiet: options.Quiet = False,
) -> None:
    """Make edited pictures with exact masks from real photos, and authentic controls encoded alike.

    What is there already is kept, so an interrupted run goes on. Exit code 4: some photos could not be used.
    """
    from gammascope.cli import making, terminal
    from gammascope.data.edits import CHEAP_KINDS, Plan, make_edits

    writer, apart = making.generator_of(generator), tuple(held_out or ())
    if policy is not None or budget is not None or accept_patent_notice:
        given = {"kind": kind, "prompt": prompt, "strength": strength != 1.0, "styles": styles}
        given |= {"per-photo": per_photo != 1, "controls": controls is not None}
        given |= {"autoencoder": autoencoder, "inpainter": inpainter, "upscaler": upscaler}
        making.refuse_beside_policy(policy, budget, given)
        pool = making.photos_at(photos, out, split, apart)
        decided = (str(policy), int(budget or 0), accept_patent_notice, apart)
        how = (seed, making.encoding_of(quality), largest_side)
        _tell(making.augmented(pool, out, writer, decided, how, quiet=quiet), out)
    plan = Plan(
        kinds=tuple(kind) if kind else CHEAP_KINDS,
        per_photo=per_photo,
        controls=controls,
        seed=seed,
        encoding=making.encoding_of(quality),
        largest_side=largest_side,
        autoencoder=making.short_name(autoencoder),
        inpainter=making.short_name(inpainter),
        upscaler=making.short_name(upscaler),
        styles=making.short_name(styles),
        strength=strength,
        generator="" if writer is None else writer.signature,
        prompt=prompt,
        square=None if writer is None or writer.any_size else writer.native_px,
        held_out=apart,
    )
    entries = making.photos_at(photos, out, split, apart)
    generators = making.generators(autoencoder, inpainter, upscaler, styles, writer)
    with terminal.progress_bar("Editing", shown=not quiet) as advance:
        made = make_edits(entries, out, plan, generators, progress=advance)
    _tell(made, out)


def _tell(made: Edits, out: Path) -> NoReturn:
    from gammascope.cli import making, terminal

    terminal.output().print(making.table(made))
    terminal.say(making.closing(made, out))
    raise typer.Exit(PARTLY_DONE if made.broken else 0)


AutoencoderFolder: TypeAlias = Annotated[
    Path, typer.Option("--out", help="Folder that gets one folder for each autoencoder.")
]
AutoencoderDesigns: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--design",
        help='Which autoencoder, BOTTLENECK-STRIDE-WAYUP ("vq-16-shuffle"), or all; repeatable. Default: four of 36.',
    ),
]
AutoencoderSteps: TypeAlias = Annotated[int, typer.Option(min=1, help="Updates of each.")]


def autoencoders(
    photos: Photos,
    out: AutoencoderFolder,
    design: AutoencoderDesigns = None,
    steps: AutoencoderSteps = 1200,
    split: EditSplit = None,
    quiet: options.Quiet = False,
) -> None:
    """Train small autoencoders on real photos; synthesize --kind twin regenerates photos with them.

    One that is there already is kept.
    """
    from gammascope.cli import making, terminal

    wanted = making.designs(design)
    entries = making.photos_at(photos, out, split)
    whole, pictures = making.preloaded(entries)
    if len(whole) < len(entries):
        terminal.say(f"{len(entries) - len(whole)} unreadable photos left out")
    for name in wanted:
        with terminal.progress_bar(f"Training {name}", shown=not quiet) as advance:
            made = making.autoencoder_made(name, whole, pictures, out / name, steps, advance)
        terminal.say(made)
