"""``gammascope train``: a recipe in, a run's folder out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

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
    if "generator" in values:
        wanted = generators.recipe_of(values, where)
        with terminal.TrainingDisplay() as display:
            path = generators.train(wanted, out, resume=resume, stop_after=steps, report=display)
        following = "gammascope synthesize --generator" if display.finished else "--resume"
        terminal.say(f"Generator: {path}. Next: {following}")
        return
    plan = recipe_of(values, where)
    with terminal.TrainingDisplay() as display:
        path = follow(plan, out, resume=resume, stop_after=steps, report=display)
    following = f"gammascope calibrate {path} --data MANIFEST" if display.finished else "--resume"
    terminal.say(f"Checkpoint: {path}. Next: {following}")
