"""What long work tells its caller."""

from __future__ import annotations

from dataclasses import dataclass


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
