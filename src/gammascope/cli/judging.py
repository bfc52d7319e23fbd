"""``gammascope judge``: tune a vision-language model on what pictures show, and let it say what it sees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from gammascope.cli import options
from gammascope.cli.failures import PARTLY_DONE

if TYPE_CHECKING:
    from gammascope.detection.judge import JudgeSettings, Pairs, Tuning

TUNING = "Tuning"
"""Heading of the options about it."""
_OF_TUNING = (
    *("split", "objective", "epochs", "rate", "beta"),
    *("seed", "rank", "question", "reasons", "resume"),
)
"""Parameters that only tuning heeds."""

Objective: TypeAlias = Annotated[
    Literal["dpo", "sft"],
    typer.Option(help="Preferences, or right answers alone (ours).", rich_help_panel=TUNING),
]
Epochs: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Passes over the pictures.", rich_help_panel=TUNING)
]
Rate: TypeAlias = Annotated[
    float,
    typer.Option(min=0.0, callback=options.finite, help="Learning rate.", rich_help_panel=TUNING),
]
Beta: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0.0,
        callback=options.finite,
        help="Of dpo: the higher, the closer it stays to the model.",
        rich_help_panel=TUNING,
    ),
]
Seed: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Of adapters and order.", rich_help_panel=TUNING)
]
Rank: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of the adapters; their alpha is twice that. Default: 16, or that of the tuned judge.",
        rich_help_panel=TUNING,
    ),
]
Question: TypeAlias = Annotated[
    str | None,
    typer.Option(help="In place of ours; the two verdicts follow it.", rich_help_panel=TUNING),
]
Reasons: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A larger model, which gives reasons for both verdicts on each picture. Default: bare verdicts.",
        rich_help_panel=TUNING,
    ),
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on where it stopped.", rich_help_panel=TUNING)
]


def judge(  # noqa: PLR0913, PLR0917 - each is an option
    context: typer.Context,
    action: Annotated[Literal["tune", "say"], typer.Argument(help="tune or say.")],
    model: Annotated[
        str,
        typer.Argument(help="Folder of a tuned judge; or a model, folder or hub id (downloads)."),
    ],
    pictures: Annotated[
        list[str] | None, typer.Argument(help="To say something about: files, folders, patterns.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="MANIFEST", help="To tune on; CSV or Parquet; repeatable."),
    ] = None,
    split: Annotated[str, typer.Option(help="Rows of this split are tuned on.")] = "train",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the tuned judge.")] = None,
    objective: Objective = "dpo",
    epochs: Epochs = 1,
    rate: Rate = 1e-6,
    beta: Beta = 0.05,
    seed: Seed = 0,
    rank: Rank = None,
    question: Question = None,
    reasons: Reasons = None,
    resume: Resume = False,
    device: options.Device = "cpu",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tune a vision-language model to judge what pictures show, or let it say what it sees.

    A tuned folder is a member of `fuse`. An answer without a verdict is undecided. Exit code 4: some pictures could not
    be read.
    """
    if action == "tune":
        if out is None or not data or pictures:
            raise typer.BadParameter("tune takes --data, --out and no pictures", param_hint="tune")
        from gammascope.detection.judge import Tuning

        tuning = Tuning(objective, beta, rate, epochs, seed=seed)
        how = _settings(model, question, rank)
        _claim(out, how, tuning, reasons, data, split, resume=resume)
        pairs = _pairs(data, split, how, quiet=quiet)
        if reasons:
            _give_reasons(reasons, pairs, out, device, quiet=quiet)
        _tune(model, pairs, out, tuning, device, quiet=quiet)
        raise typer.Exit(PARTLY_DONE if pairs.broken else 0)
    options.refuse_useless(context, "say", *_OF_TUNING)
    if out is not None or data or not pictures:
        raise typer.BadParameter("say takes pictures, no --data and no --out", param_hint="say")
    rows = _said(model, pictures, device, quiet=quiet or as_json)
    _tell(rows, as_json=as_json)
    raise typer.Exit(PARTLY_DONE if any("error" in row for row in rows) else 0)


def _settings(model: str, question: str | None, rank: int | None) -> JudgeSettings:
    from gammascope.detection.judge import JudgeSettings

    how = JudgeSettings.at(model)
    if question is not None:
        how = replace(how, question=question)
    return how if rank is None else replace(how, rank=rank, alpha=2 * rank)


def _claim(  # noqa: PLR0913 - all that decides the outcome
    out: Path,
    how: JudgeSettings,
    tuning: Tuning,
    reasons: str | None,
    data: list[Path],
    split: str,
    *,
    resume: bool,
) -> None:
    from gammascope import settings
    from gammascope.detection.judge import REASONS, STATE
    from gammascope.training.run_folder import claim

    recipe = {
        "judge": settings.plain(how),
        "tuning": settings.plain(tuning),
        "reasons": reasons,
        "data": [str(path.absolute()) for path in data],
        "split": split,
    }
    claim(out, recipe, REASONS if reasons else STATE, resume=resume)


def _pairs(data: list[Path], split: str, how: JudgeSettings, *, quiet: bool) -> Pairs:
    """List what is tuned on, and name the pictures that are left out."""
    from gammascope.cli import terminal
    from gammascope.data.manifest import read_manifest
    from gammascope.detection.judge import Pairs

    entries = [entry for manifest in data for entry in read_manifest(manifest, split)]
    with terminal.progress_bar("Reading", shown=not quiet) as advance:
        pairs = Pairs(entries, how, advance)
    for line in pairs.broken:
        terminal.say(f"left out: {line}")
    return pairs


def _give_reasons(writer: str, pairs: Pairs, out: Path, device: str, *, quiet: bool) -> None:
    from gammascope.cli import terminal
    from gammascope.detection.judge import REASONS, Judge, JudgeSettings, write_reasons

    how = JudgeSettings.at(writer)
    how = replace(how, question=pairs.how.question, verdicts=pairs.how.verdicts)
    model = Judge.load(writer, how=how, device=device)
    with terminal.progress_bar("Writing reasons", shown=not quiet) as advance:
        pairs.reasons = write_reasons(model, pairs, out / REASONS, advance)


def _tune(model: str, pairs: Pairs, out: Path, tuning: Tuning, device: str, *, quiet: bool) -> None:
    import torch

    from gammascope.cli import terminal
    from gammascope.detection.judge import STATE, Judge, tune

    torch.manual_seed(tuning.seed)  # adapters start at random
    judge = Judge.load(model, how=pairs.how, device=device)
    with terminal.progress_bar("Tuning", shown=not quiet) as advance:
        told = tune(judge, pairs, tuning, sources=pairs.sources, state=out / STATE, report=advance)
    judge.save(out)
    terminal.say(
        f"Judge: {out}, {len(pairs)} pictures, loss {told[0]:.4f} to {told[-1]:.4f}. Next: gammascope fuse DETECTOR "
        f"{out} --kind any --data MANIFEST --out both.json"
    )


def _said(
    model: str, pictures: list[str], device: str, *, quiet: bool
) -> list[dict[str, str | float]]:
    from gammascope.cli import terminal
    from gammascope.data.folder import find_images
    from gammascope.detection.judge import Judge
    from gammascope.errors import MissingDataError, UndecodableImageError
    from gammascope.imaging.decode import decode

    paths, rows = find_images(pictures), []
    judge = Judge.load(model, device=device)
    with terminal.progress_bar("Judging", shown=not quiet) as advance:
        for done, path in enumerate(paths, start=1):
            row: dict[str, str | float] = {"path": str(path)}
            try:
                image = decode(path).image
            except (MissingDataError, UndecodableImageError) as error:
                rows.append(row | {"error": str(error)})
            else:
                verdict, words = judge.verdict(image)
                logit = judge.scores_of([image])[0].logit
                rows.append(row | {"verdict": verdict, "logit": round(logit, 4), "words": words})
            advance(done, len(paths))
    return rows


def _tell(rows: list[dict[str, str | float]], *, as_json: bool) -> None:
    from gammascope.cli import terminal

    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        if "error" in row:
            terminal.say(f"not judged: {row['path']}: {row['error']}")
        else:
            typer.echo(f"{row['verdict']:<9}  {row['logit']:+.3f}  {row['path']}  {row['words']}")
