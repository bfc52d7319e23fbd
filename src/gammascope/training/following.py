"""The one way to follow a recipe: it says itself whether the loop trains or features are fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gammascope.errors import RecipeError
from gammascope.training import loop, probing
from gammascope.training.recipe import Recipe
from gammascope.training.run_folder import Progress


def follow(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Follow a recipe and write ``checkpoint.safetensors`` into a folder.

    With a section ``probing`` the method is fitted to cached features, without one the loop trains it.

    Args:
        recipe: What to do.
        folder: Gets the checkpoint and what ``loop.train`` or ``probing.fit`` leaves.
        resume: Go on from what the folder holds.
        stop_after: Stop, resumably, after this many steps; a fit has none.
        report: Told about progress.

    Returns:
        The checkpoint's path; not calibrated yet.

    Raises:
        GammascopeError: As ``loop.train`` and ``probing.fit``.
    """
    if recipe.probing is None:
        return loop.train(recipe, folder, resume=resume, stop_after=stop_after, report=report)
    if stop_after is not None:
        raise RecipeError("A fit has no steps to stop after; interrupt it at will, and --resume.")
    return probing.fit(recipe, folder, resume=resume, report=report)
