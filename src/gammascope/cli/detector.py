"""Which detector the options ``--weights``, ``--then``, ``--zone``, ``--method`` and ``--device`` name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gammascope.errors import RecipeError, first_line

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Besides, Execution, Pipeline


def load(  # noqa: PLR0913 - each is an option
    weights: str,
    method: str | None = None,
    device: str = "cpu",
    besides: Besides | None = None,
    execution: Execution | None = None,
    *,
    then: str | None = None,
    zone: str | None = None,
) -> Pipeline:
    """Load a checkpoint, a fusion file (.json), or a cascade of two checkpoints.

    Raises:
        BadParameter: If there is no such device.
        RecipeError: If options contradict each other.
        GammascopeError: As ``Pipeline.load`` and ``fusion.load``.
    """
    fused = weights.endswith(".json")
    if fused and (then is not None or method is not None):
        raise RecipeError(
            f"--weights {weights} names its members itself: leave out --then and --method."
        )
    if zone is not None and then is None:
        raise RecipeError(f"--zone {zone} belongs to a cascade: add --then, the strong detector.")
    try:
        return _loaded(weights, method, device, besides, execution, then=then, zone=zone)
    except (RuntimeError, AssertionError) as error:  # torch, where there is no such device
        raise typer.BadParameter(
            f"{device!r} cannot be used: {first_line(error)}", param_hint="--device"
        ) from error


def _loaded(  # noqa: PLR0913 - each is an option
    weights: str,
    method: str | None,
    device: str,
    besides: Besides | None,
    execution: Execution | None,
    *,
    then: str | None,
    zone: str | None,
) -> Pipeline:
    from gammascope import checkpoints
    from gammascope.detection import fusion
    from gammascope.detection.pipeline import Besides, Execution, Pipeline

    besides, execution = besides or Besides(), execution or Execution()
    if weights.endswith(".json"):
        return fusion.load(Path(weights), device=device, besides=besides, execution=execution)
    first = Pipeline.load(
        weights, method=method, device=device, besides=besides, execution=execution
    )
    if then is None:
        return first
    strong = fusion.member_at(checkpoints.resolve(then), device=device, execution=execution)
    return fusion.cascade(first, strong, zone_of(zone), besides=besides)


def zone_of(text: str | None) -> tuple[float, float]:
    """Read "0.2,0.8".

    Raises:
        RecipeError: If these are no two numbers.
    """
    from gammascope.detection import fusion

    if text is None:
        return fusion.ZONE
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise RecipeError(f"--zone {text}: expected two probabilities, as in 0.1,0.9.") from None
    return low, high


def refuse_beside_several(weights: Sequence[str], then: str | None, method: str | None) -> None:
    """Refuse options that are about one detector.

    Raises:
        BadParameter: If there are several.
    """
    if len(weights) > 1 and (then is not None or method is not None):
        given = [name for name, value in (("--then", then), ("--method", method)) if value]
        raise typer.BadParameter(
            "not with several --weights: each speaks for itself", param_hint=", ".join(given)
        )


def saving(pipeline: Pipeline) -> str | None:
    """Return what a cascade saved; None for anything else."""
    from gammascope.detection import fusion

    if isinstance(pipeline, fusion.Fused) and pipeline.plan.kind == "cascade":
        return str(pipeline.saving)
    return None


def say_saving(pipeline: Pipeline) -> None:
    """Tell what a cascade saved."""
    from gammascope.cli import terminal

    said = saving(pipeline)
    if said is not None:
        terminal.say(said)
