"""Edits found by what they break: each method marks a part that differs from the rest of its picture.

Most are formulas without training; ``consistency``, ``cloning`` and ``collage`` have small networks, the last one
behind a vision tower (``Picture.eyes``), and what ``quantisation`` and ``consistency`` find is weighed by ``parts``.
Methods are evidence for a person; those that were counted on enough photos also answer *edited*, by the clearest of
them. Where a method's assumptions do not hold it is silent, and says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gammascope.forensics import (
    cloning,
    collage,
    consistency,
    grids,
    noise,
    quantisation,
    shifted,
    variance,
)
from gammascope.forensics.base import Finding, Method, Outcome, Picture, Silence, blobs
from gammascope.report import Answer, Evidence, Strength, Verdict, about, shares

UNCERTAIN_FROM = 0.5
"""Clearness from which the answer is uncertain."""


@dataclass(frozen=True, slots=True)
class Described:
    """A method and what a person needs to know of it.

    Attributes:
        examine: The method.
        title: What it examines.
        threshold: Score above which a part is shown; how few photos reach it is in docs/forensics.md.
        found: What a score above the threshold says of the marked part; "{elsewhere}" stands for where another part is.
        limits: What else may bring it about.
        quick: Whether it finds enough for its time to run in every scan; others run only when asked for.
        answers: Whether it has shown on photos and edits that a score above the threshold means an edit.
        nothing: Score up to which it says nothing, so that the answer is as if it were 0.
        doubtful: Score from which the answer is uncertain; None: half-way to the threshold.
        coarse: Whether it sees where a part lies only roughly, so that what finer methods show is drawn in its place.
    """

    examine: Method
    title: str
    threshold: float
    found: str
    limits: str
    quick: bool = False
    answers: bool = True
    nothing: float = 0.0
    doubtful: float | None = None
    coarse: bool = False

    def clearness(self, finding: Finding) -> float:
        """Return how clearly a part stands out: 0 not at all, from 0.5 in doubt, above 1 if it is shown."""
        return self.clearness_of(finding.score)

    def clearness_of(self, score: float) -> float:
        """Return the same from a score alone."""
        middle = self.doubtful
        if middle is None:
            middle = (self.nothing + self.threshold) / 2
        if score < middle:
            return max(0.0, UNCERTAIN_FROM * (score - self.nothing) / (middle - self.nothing))
        return UNCERTAIN_FROM + (1 - UNCERTAIN_FROM) * (score - middle) / (self.threshold - middle)


METHODS: Mapping[str, Described] = {
    "quantisation": Described(
        quantisation.examine,
        "Earlier compression",
        2.5,
        "lacks a JPEG compression that the rest of the picture went through",
        "Dates, captions and marks of a photographer or a shop, put on later, look alike.",
        quick=True,
        doubtful=1.55,
    ),
    "consistency": Described(
        consistency.examine,
        "Traces",
        3.5,
        "has other traces of lens, sensor, scaling and compression than the rest",
        "Parts lit, graded or focused on their own, frames and writing look alike.",
        doubtful=2.55,
    ),
    "variance": Described(
        variance.examine,
        "Fine detail",
        5.5,
        "has less fine detail than its brightness and texture explain",
        "Blur, shallow focus and skies smoothed by a camera look alike.",
        answers=False,
    ),
    "shifted": Described(
        shifted.examine,
        "Shifted compression",
        20.0,
        "was compressed as JPEG before on another grid, as a piece of another file is",
        "Collages, and photos put on a page and saved with it, have such parts without an intent to deceive.",
        answers=False,
    ),
    "grids": Described(
        grids.examine,
        "JPEG grids",
        10.0,
        "lies on another JPEG grid than the rest of the picture, or on none",
        "Collages and overlays have several grids without an intent to deceive.",
        answers=False,
    ),
    "cloning": Described(
        cloning.examine,
        "Copies",
        3.5,
        "is the same as one {elsewhere}, down to its fine detail",
        "Banners, frames and labels, whose letters and ornaments repeat exactly, look alike.",
        doubtful=2.25,
    ),
    "collage": Described(
        collage.examine,
        "What is seen",
        3.4,
        "looks as if it came from elsewhere, by what it shows or by its outline",
        "Montages, screens, posters, toys and prints in a picture, and things lit on their own, look alike.",
        quick=True,
        nothing=1.2,
        doubtful=2.8,
        coarse=True,
    ),
    "noise": Described(
        noise.examine,
        "Noise",
        12.0,
        "has noise of another kind",
        "Scenes of two materials, and phones that treat faces and skies apart, look alike.",
        answers=False,
    ),
}
"""Every method by name, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Answers on photos chosen as hard, none of them known to be edited (docs/forensics.md).

    Attributes:
        photos: How many.
        uncertain: Share of them that is uncertain or worse.
        fake: Share that is called edited.
        at_most: Whether the shares are sums of methods that were counted apart, so that fewer may be called so.
    """

    photos: int
    uncertain: float
    fake: float
    at_most: bool = False


QUICK = Counted(1067, 0.015, 0.0084)
"""By the quick methods."""

THOROUGH = Counted(917, 0.041, 0.019, at_most=True)
"""By all that may answer: ``quantisation`` and ``consistency`` together, what ``cloning`` adds at most, and what
``collage`` does, which was counted on 1,067 such photos."""

# Clearness, chance of an edit: knots of ``evaluation.fitting.fit_curve``, those nearly on a line left out. They rest on
# 1,367 untouched pictures of 1,067 photos and 1,500 pictures of 300 edits, as far as the quick methods could speak
# (docs/forensics.md), both classes as heavy.
_CHANCES = (
    (0.0, 0.04, 0.13, 0.2, 0.44, 0.73, 1.13, 1.96, 2.49, 5.0),
    (0.18, 0.28, 0.4, 0.49, 0.64, 0.78, 0.88, 0.92, 0.97, 0.99),
)
# Likewise by ``quantisation`` and ``consistency``, of 917 photos.
_CHANCES_OF_ALL = (
    (0.0, 0.04, 0.19, 0.27, 0.36, 0.45, 0.64, 0.9, 1.3, 2.17),
    (0.14, 0.36, 0.48, 0.59, 0.66, 0.79, 0.89, 0.9, 0.96, 0.98),
)


def examine(picture: Picture, *, thorough: bool = False) -> dict[str, Outcome]:
    """Look at a picture with the methods that are quick, or with all.

    Returns:
        By name, what was found, or why nothing can be said.
    """
    return {
        name: method.examine(picture)
        for name, method in METHODS.items()
        if thorough or method.quick
    }


def answered(outcomes: Mapping[str, Outcome]) -> Answer | None:
    """Answer whether a picture was edited: the method that sees it most clearly decides.

    Returns:
        The probability holds where half of all pictures are edited. None if no method that may answer can speak.
    """
    clear = [
        METHODS[name].clearness(outcome)
        for name, outcome in outcomes.items()
        if METHODS[name].answers and isinstance(outcome, Finding)
    ]
    if not clear:
        return None
    clearest = max(clear)
    curve = _CHANCES if all(METHODS[name].quick for name in outcomes) else _CHANCES_OF_ALL
    in_doubt, shown, chance = np.interp((UNCERTAIN_FROM, 1.0, clearest), *curve).tolist()
    verdict = (
        Verdict.FAKE
        if clearest > 1
        else Verdict.UNCERTAIN
        if clearest > UNCERTAIN_FROM
        else Verdict.NO_SIGN
    )
    return Answer(chance, verdict, (in_doubt, shown))


def evidence_of(outcomes: Mapping[str, Outcome]) -> Iterator[Evidence]:
    """Say for a person what each method found; a map is shown only for what few untouched photos show."""
    for name, outcome in outcomes.items():
        yield _evidence(f"forensics:{name}", METHODS[name], outcome)


def reasons_of(outcomes: Mapping[str, Outcome]) -> Iterator[Evidence]:
    """Show what a yes rests on in one map, with a reason for each part; nothing where there is none."""
    parts = []
    shown = {
        name: outcome
        for name, outcome in outcomes.items()
        if METHODS[name].answers
        and isinstance(outcome, Finding)
        and outcome.score > METHODS[name].threshold
    }
    for name, outcome in shown.items():
        place, *others = _places(outcome)
        elsewhere = " and one ".join(others) or "elsewhere"
        parts.append(f"a part {place} {METHODS[name].found.format(elsewhere=elsewhere)}")
    marked = marks_of(shown)
    if marked is not None:
        share = f"About {about(shares(marked)[1])} of the picture looks edited"
        yield Evidence("mask:edited", f"{share}: {'; '.join(parts)}.", marked)


def marks_of(shown: Mapping[str, Finding]) -> np.ndarray | None:
    """Draw what methods show into one map, in the picture's frame; coarse ones only where there is no finer one."""
    fine = [found for name, found in shown.items() if not METHODS[name].coarse]
    maps = [np.nan_to_num(found.map()) for found in fine or shown.values()]
    return np.maximum.reduce(maps) if maps else None


def _places(finding: Finding) -> list[str]:
    """Say in which ninths of the picture all places of a piece lie, or else the middle of the largest part."""
    if finding.repeats:
        return [_ninth(x, y) for x, y in finding.repeats[0]]
    rows, columns = np.nonzero(blobs(finding.cells > 0.5) == 1)
    if not len(rows):
        return ["somewhere"]
    height, width = finding.cells.shape
    return [_ninth(columns.mean() / width, rows.mean() / height)]


def _ninth(x: float, y: float) -> str:
    down, across = ("top", "", "bottom")[int(3 * y)], ("left", "", "right")[int(3 * x)]
    corner = " ".join(filter(None, (down, across)))
    return f"at the {corner}" if corner else "in the middle"


def _evidence(name: str, method: Described, outcome: Outcome) -> Evidence:
    if isinstance(outcome, Silence):
        reason = f"{method.title}: cannot speak ({outcome.reason})."
        return Evidence(name, reason, strength=Strength.NEUTRAL)
    if outcome.score <= method.threshold:
        nothing = f"{method.title}: no part stands out. {outcome.note}".rstrip()
        return Evidence(name, nothing, strength=Strength.NEUTRAL)
    marked = outcome.map()
    share = about(shares(np.nan_to_num(marked))[1])  # of the whole picture
    found = method.found.format(elsewhere="elsewhere")
    return Evidence(
        name,
        f"{method.title}: a part, {share} of the picture, {found}. {outcome.note}".rstrip(),
        marked,
        Strength.WEAK,
        method.limits,
        repeats=outcome.repeats,
    )


__all__ = [
    "METHODS",
    "QUICK",
    "THOROUGH",
    "UNCERTAIN_FROM",
    "Counted",
    "Described",
    "Finding",
    "Outcome",
    "Picture",
    "Silence",
    "answered",
    "evidence_of",
    "examine",
    "marks_of",
    "reasons_of",
]
