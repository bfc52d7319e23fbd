"""A run's folder: it names its recipe, so that a run goes on only with the recipe it began with.

``Progress`` is what long work tells its caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gammascope.errors import MissingDataError, RecipeError
from gammascope.files import complete_or_absent


@dataclass(frozen=True, slots=True)
class Progress:
    """What a caller gets after every step and every picture loaded.

    Attributes:
        stage: "loading", "training" or "validating".
        done: Units done.
        total: Units in all.
        values: Latest losses or validation figures.
    """

    stage: str
    done: int
    total: int
    values: dict[str, float]


RECIPE = "recipe.json"


def claim(
    folder: Path,
    recipe: Mapping[str, Any],
    begun: str,
    *,
    resume: bool,
    known: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: values,
) -> None:
    """Make the folder this run's, or refuse, before anything costly happens.

    Args:
        folder: Made if it is not there.
        recipe: In plain types.
        begun: Name of what lies there as soon as there is something to resume.
        resume: Whether to go on with a run that has begun.
        known: Reads the folder's recipe: an older one lacks settings, which have their defaults.

    Raises:
        MissingDataError: If there is nothing to resume.
        RecipeError: If the folder holds a run that is not to be resumed, or one of another recipe.
    """
    place, there = folder / RECIPE, (folder / begun).exists()
    if there and not resume:
        raise RecipeError(f"{folder} holds a run already: pass --resume, or choose another folder.")
    if resume and not there:
        raise MissingDataError(f"Nothing to resume in {folder}: it has no {begun}.")
    if resume:
        other = list(_different(known(json.loads(place.read_text("utf-8"))), recipe))
        if other:
            raise RecipeError(
                f"{folder} holds a run of another recipe ({'; '.join(other[:3])}): resume with {place}'s values."
            )
        return
    with complete_or_absent(place) as unfinished:
        unfinished.write_text(json.dumps(recipe, indent=1), "utf-8")


def _different(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Tell the values that two recipes do not share."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _different(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name} is {before} there, {now} here"
