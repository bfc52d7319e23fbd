"""``gammascope rounds``: train a detector in rounds, each with pictures made where it erred."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gammascope.choices import GuideChoice
from gammascope.cli import options
from gammascope.cli.synthesize import Quality, Seed
from gammascope.cli.train import Manifests, Overrides, RecipeFile, RunFolder


def rounds(  # noqa: PLR0913, PLR0917 - each is an option
    recipe: RecipeFile,
    out: RunFolder,
    generator: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Of a generator that train made; it edits.")
    ],
    guide: Annotated[
        list[str],
        typer.Option(help="Source whose photos are looked at and edited, not learnt; repeatable."),
    ],
    overrides: Overrides = None,
    data: Manifests = None,
    count: Annotated[int, typer.Option("--rounds", min=1, help="How many.")] = 3,
    budget: Annotated[
        int, typer.Option(min=1, help="Pairs of an edit and its photo in each round.")
    ] = 100,
    choose: Annotated[
        GuideChoice, typer.Option(help="Photos that it is wrong about, or random ones.")
    ] = "errors",
    guided: Annotated[
        bool, typer.Option(help="Make a growing share of the edits against the detector.")
    ] = True,
    most: Annotated[int, typer.Option(min=1, help="At most so many guides.")] = 1000,
    quality: Quality = "90",
    seed: Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a detector in rounds, each with new edits of photos that it was wrong about (ActGen).

    An interrupted run goes on when it is started again. The last checkpoint still has to be calibrated.
    """
    from gammascope.cli import making, terminal
    from gammascope.generation.base import load
    from gammascope.training import rounds as training
    from gammascope.training.recipe import read_values, recipe_of

    assignments = list(overrides or ())
    if data:
        assignments.append(f"data.manifests={json.dumps([str(path) for path in data])}")
    wanted = recipe_of(read_values(recipe, assignments), f"recipe {recipe.name}")
    plan = training.Rounds(
        guides=tuple(guide),
        count=count,
        budget=budget,
        choice=choose,
        guided=guided,
        most=most,
        seed=seed,
        encoding=making.encoding_of(quality),
    )
    if as_json or quiet:
        path, found = training.run(wanted, plan, load(generator), out)
    else:
        with terminal.TrainingDisplay() as display:
            path, found = training.run(wanted, plan, load(generator), out, display)
    if as_json:
        rows = [asdict(each) for each in found]
        typer.echo(json.dumps({"checkpoint": str(path), "rounds": rows}))
        return
    terminal.output().print(_table(found))
    terminal.say(f"Checkpoint: {path}. Next: gammascope calibrate {path} --data MANIFEST")


def _table(found: Any) -> Any:
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("round", "guides", "called fake", "edits missed", "made", "hard", "still hard"):
        drawn.add_column(title, justify="right")
    for number, each in enumerate(found):
        drawn.add_row(str(number), *map(str, asdict(each).values()))
    return drawn
