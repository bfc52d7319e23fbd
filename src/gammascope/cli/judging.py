"""``gammascope judge``: tune a vision-language model on what pictures show, and let it say what it sees."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gammascope.cli import options
from gammascope.cli.failures import PARTLY_DONE


def judge(  # noqa: PLR0913, PLR0917 - each is an option
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
    objective: Annotated[
        Literal["dpo", "sft"], typer.Option(help="Preferences, or right answers alone (ours).")
    ] = "dpo",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the pictures.")] = 1,
    rate: Annotated[float, typer.Option(min=0.0, help="Learning rate.")] = 1e-6,
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
        how = {"objective": objective, "epochs": epochs, "learning_rate": rate}
        _tune(model, _entries(data, split), out, how, device, quiet=quiet)
        return
    if out is not None or data or not pictures:
        raise typer.BadParameter("say takes pictures, no --data and no --out", param_hint="say")
    rows = _said(model, pictures, device, quiet=quiet or as_json)
    _tell(rows, as_json=as_json)
    raise typer.Exit(PARTLY_DONE if any("error" in row for row in rows) else 0)


def _entries(data: list[Path], split: str) -> list[Any]:
    from gammascope.data.manifest import read_manifest

    return [entry for manifest in data for entry in read_manifest(manifest, split)]


def _tune(
    model: str, entries: list[Any], out: Path, how: dict[str, Any], device: str, *, quiet: bool
) -> None:
    from gammascope.cli import terminal
    from gammascope.detection.judge import Judge, Pairs, tune

    judge = Judge.load(model, device=device)
    pairs = Pairs(entries, judge.how)
    with terminal.progress_bar("Tuning", shown=not quiet) as advance:
        told = tune(judge, pairs, report=advance, **how)
    sources = sorted({entry.source for entry in pairs.entries if entry.source})
    judge.how = replace(judge.how, sources=", ".join(sources) or "unnamed sources")
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
