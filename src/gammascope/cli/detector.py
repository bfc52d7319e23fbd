"""Which detector the options name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from gammascope.errors import first_line

if TYPE_CHECKING:
    from gammascope.pipeline import Besides, Execution, Pipeline


def load(  # noqa: PLR0913 - each is an option
    weights: str,
    method: str | None,
    device: str,
    besides: Besides | None = None,
    execution: Execution | None = None,
    *,
    then: str | None = None,
    zone: str | None = None,
) -> Pipeline:
    """Load the detector that ``--weights``, ``--then``, ``--zone``, ``--method`` and ``--device`` name.

    Raises:
        BadParameter: If there is no such device.
        RecipeError: If options contradict each other.
        GammascopeError: As ``Pipeline.load`` and ``fusion.load``.
    """
    from gammascope.cli import fusing
    from gammascope.pipeline import Besides, Execution

    try:
        return fusing.loaded(
            weights,
            then=then,
            zone=zone,
            method=method,
            device=device,
            besides=besides or Besides(),
            execution=execution or Execution(),
        )
    except (RuntimeError, AssertionError) as error:  # torch, where there is no such device
        raise typer.BadParameter(
            f"{device!r} cannot be used: {first_line(error)}", param_hint="--device"
        ) from error


def say_saving(pipeline: Pipeline) -> None:
    """Tell what a cascade saved."""
    from gammascope.cli import fusing, terminal

    said = fusing.saving(pipeline)
    if said is not None:
        terminal.say(said)
