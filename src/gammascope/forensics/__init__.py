"""Edits found by what they break, without training: each method marks a part that differs from the rest of its picture.

Methods are evidence for a person. Where a method's assumptions do not hold it is silent, and says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gammascope.forensics import cloning, grids, noise, quantisation, variance
from gammascope.forensics.base import Finding, Method, Outcome, Picture, Silence
from gammascope.report import Evidence, Strength, percent, shares


@dataclass(frozen=True, slots=True)
class Described:
    """A method and what a person needs to know of it.

    Attributes:
        examine: The method.
        title: What it looks at.
        threshold: Score above which a part is shown; how few photos reach it is in docs/forensics.md.
        found: What a score above the threshold says of the marked part.
        limits: What else may bring it about.
        heavy: Whether it takes more than 80 CPU-milliseconds a megapixel, so that it runs only when asked for.
    """

    examine: Method
    title: str
    threshold: float
    found: str
    limits: str
    heavy: bool = False


METHODS: Mapping[str, Described] = {
    "quantisation": Described(
        quantisation.examine,
        "Double compression",
        4.0,
        "was compressed as JPEG once, the rest of the picture twice",
        "Parts that were flat or overexposed at the first compression look alike.",
    ),
    "variance": Described(
        variance.examine,
        "Fine detail",
        3.5,
        "has less fine detail than its brightness and texture explain",
        "Blur, shallow focus and skies smoothed by a camera look alike.",
    ),
    "grids": Described(
        grids.examine,
        "JPEG grids",
        10.0,
        "lies on another JPEG grid than the rest of the picture, or on none",
        "Collages and overlays have several grids without an intent to deceive.",
        heavy=True,
    ),
    "cloning": Described(
        cloning.examine,
        "Copies",
        0.88,
        "is there twice, down to its fine detail",
        "Graphics, text and screens repeat themselves exactly.",
        heavy=True,
    ),
    "noise": Described(
        noise.examine,
        "Noise",
        12.0,
        "has noise of another kind",
        "Scenes of two materials, and phones that treat faces and skies apart, look alike.",
        heavy=True,
    ),
}
"""Every method by name, in the order of the page."""


def examine(picture: Picture, *, thorough: bool = False) -> dict[str, Outcome]:
    """Look at a picture with every method that is quick, or with all of them.

    Returns:
        By name, what was found, or why nothing can be said.
    """
    return {
        name: method.examine(picture)
        for name, method in METHODS.items()
        if thorough or not method.heavy
    }


def evidence_of(picture: Picture, *, thorough: bool = False) -> Iterator[Evidence]:
    """Say for a person what each method found; a map is shown only for what few untouched photos show."""
    for name, outcome in examine(picture, thorough=thorough).items():
        yield _evidence(f"forensics:{name}", METHODS[name], outcome)


def _evidence(name: str, method: Described, outcome: Outcome) -> Evidence:
    if isinstance(outcome, Silence):
        reason = f"{method.title}: cannot speak ({outcome.reason})."
        return Evidence(name, reason, strength=Strength.NEUTRAL)
    if outcome.score <= method.threshold:
        nothing = f"{method.title}: no part stands out."
        return Evidence(name, nothing, strength=Strength.NEUTRAL)
    marked = outcome.map()
    return Evidence(
        name,
        f"{method.title}: a part, {percent(shares(marked)[1], 0)} of the picture, {method.found}.",
        marked,
        Strength.WEAK,
        method.limits,
    )


__all__ = [
    "METHODS",
    "Described",
    "Finding",
    "Outcome",
    "Picture",
    "Silence",
    "evidence_of",
    "examine",
]
