"""``gammascope train`` and ``rounds``: a recipe in, a run's folder out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from gammascope.choices import GuideChoice
from gammascope.cli import options
from gammascope.cli.synthesize import LargestSide, Quality, Seed

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


def train(
    recipe: RecipeFile,
    out: RunFolder,
    overrides: Overrides = None,
    data: Manifests = None,
    resume: Resume = False,
    steps: StopAfter = None,
) -> None:
    """Train a detector or a generator as a recipe says; a detector's checkpoint still has to be calibrated."""
    from gammascope.cli import terminal
    from gammascope.training import generators
    from gammascope.training.following import follow
    from gammascope.training.recipe import read_values, recipe_of

    assignments = list(overrides or ())
    if data:
        assignments.append(f"data.manifests={json.dumps([str(path) for path in data])}")
    values, where = read_values(recipe, assignments), f"recipe {recipe.name}"

    def following(command: str) -> str:
        # A run that was through before takes no step.
        return command if display.finished or steps is None else "--resume"

    if "generator" in values:
        wanted = generators.recipe_of(values, where)
        with terminal.TrainingDisplay() as display:
            path = generators.train(wanted, out, resume=resume, stop_after=steps, report=display)
        terminal.say(f"Generator: {path}. Next: {following('gammascope synthesize --generator')}")
        return
    plan = recipe_of(values, where)
    with terminal.TrainingDisplay() as display:
        path = follow(plan, out, resume=resume, stop_after=steps, report=display)
    then = following(f"gammascope calibrate {path} --data MANIFEST")
    terminal.say(f"Checkpoint: {path}. Next: {then}")


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
    largest_side: LargestSide = None,
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
        largest_side=largest_side,
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
    titles = ("round", "guides", "called fake", "edits missed", "made", "either way", "hard")
    for title in (*titles, "still hard"):
        drawn.add_column(title, justify="right")
    for number, each in enumerate(found):
        drawn.add_row(str(number), *map(str, asdict(each).values()))
    return drawn
