"""What we say about one image: verdict, evidence, caveats. Nothing here needs torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

FORMAT = 2
"""Of ``Report.to_json`` and all that carries it. 1 had no number, and its "verdict" was that of one question alone."""


class Verdict(StrEnum):
    """What is said of one question, or of a whole picture, after comparison with two thresholds.

    FAKE: at or above the upper one: the answer is yes. UNCERTAIN: between the two. NO_SIGN: below both: nothing was
    found, which does not make a picture real. A whole picture has the gravest verdict of its questions.
    """

    NO_SIGN = "no sign"
    UNCERTAIN = "uncertain"
    FAKE = "fake"

    @property
    def gravity(self) -> int:
        """0 where nothing was found, 2 where something was."""
        return list(Verdict).index(self)

    def on(self, question: str) -> str:
        """Return the word for a person: an edited photo is no fake, so a yes to that question has a word of its own."""
        return EDITED if self is Verdict.FAKE and question == "edited" else str(self)


EDITED = "edited"
COUNTED = (str(Verdict.NO_SIGN), str(Verdict.UNCERTAIN), EDITED, str(Verdict.FAKE))
"""Words that pictures are counted under, the gravest last: an edit apart from a fake, all doubts together."""


class Strength(StrEnum):
    """How far a finding carries when it stands alone.

    STRONG: checked by cryptography. MODERATE: said plainly, by something anyone can write, remove or break. WEAK: a
    hint with ordinary explanations. NEUTRAL: a fact that speaks neither way.
    """

    STRONG = "strong"
    MODERATE = "moderate"
    WEAK = "weak"
    NEUTRAL = "neutral"


Repeats: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that supports or weakens a verdict.

    Attributes:
        name: What kind of evidence ("mask:generated", "mask:edited", "provenance:c2pa").
        statement: One sentence for a person.
        map: 0..1 per pixel in the image's frame; NaN where no view looked. None if the evidence has no place.
        on_request: The map belongs to an answer of "no", where its marks mislead: only who asks for it sees it. It may
            be smaller than the image.
        strength: How far it carries; None for what an answer rests on, for that has a probability: maps, and forensic
            findings that answer "edited".
        limits: What it cannot show, for a person; empty if the answer it belongs to says so.
        repeats: Groups of places that show the same piece, as (x, y), shares of the width and the height.
    """

    name: str
    statement: str
    map: Float[np.ndarray, "h w"] | None = None
    strength: Strength | None = None
    limits: str = ""
    on_request: bool = False
    repeats: Repeats = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One image-level question, answered.

    Attributes:
        probability: Calibrated probability of yes, 0..1.
        verdict: FAKE = yes, NO_SIGN = nothing was found, UNCERTAIN = between the two thresholds.
        thresholds: Probabilities at which the verdict becomes uncertain, then fake.
        as_high: Shares of held-out photos and of held-out fakes whose score is at least this one; None if not known.
    """

    probability: float
    verdict: Verdict
    thresholds: tuple[float, float]
    as_high: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """What the detector said about one of the views that cover an image.

    Attributes:
        box: Left, top, width and height, pixels of the upright image; may reach beyond it.
        probabilities: By question, 0..1.
    """

    box: tuple[float, float, float, float]
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Coverage:
    """At how much of a picture a detector looked, where that is not all of it.

    Attributes:
        tiles: How many were examined at full resolution.
        possible: Of how many.
        whole: Whether it also saw the whole picture reduced.
        mosaic: Whether it also saw small patches from all over the picture at full resolution.
        settled: Whether it stopped because more would not have changed the verdict.
    """

    tiles: int
    possible: int
    whole: bool
    settled: bool
    mosaic: bool = False

    @property
    def brief(self) -> str:
        """For a table: "whole + patches + 1 of 9 tiles"."""
        whole, patches = "whole + " * self.whole, "patches + " * self.mosaic
        return f"{whole}{patches}{self.tiles} of {self.possible} tiles"

    def __str__(self) -> str:
        """In a sentence."""
        verb = "were" if self.tiles > 1 else "was"
        count = (
            f"{self.tiles or 'None'} of {self.possible} tiles {verb} examined at full resolution"
        )
        patches = ["small patches from all over the picture"] * self.mosaic
        if self.settled and not self.tiles:
            seen = " and ".join(patches + ["the reduced whole"] * self.whole)
            return f"{count}: {seen} settled the matter."
        spread = ", evenly spread" if self.tiles > 1 and not self.settled else ""
        also = " and ".join(patches + ["the whole picture reduced"] * self.whole)
        beside = f", {'and' if self.tiles else 'but'} {also}" if also else ""
        enough = ": they settled the matter" if self.settled else ""
        return f"{count}{spread}{beside}{enough}."


@dataclass(frozen=True, slots=True)
class Recheck:
    """The verdicts on the same picture after ordinary processing.

    Attributes:
        change: What was done ("saved as JPEG at quality 80").
        answers: By question, as in ``Report.answers``.
        holds: Whether every verdict is the one on the picture itself.
    """

    change: str
    answers: Mapping[str, Answer]
    holds: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What we say about one image; serialises to JSON, and never says more than we know.

    Attributes:
        image: File name or "<memory>".
        size: Width and height of the upright image, pixels.
        method: Name of the detection method.
        weights_sha256: Which weights spoke.
        calibrated: Whether probabilities and thresholds were fitted on held-out photos.
        answers: By question: "generated" (contains generated pixels), "edited" (was edited), or "fake" (either) where a
            method does not tell them apart. At least one.
        evidence: What supports it.
        caveats: What weakens it ("96 px wide: below the 160 px seen in training").
        tiles: The views that were read, if they were several.
        stability: Whether the verdicts survive ordinary processing, where ``--stability`` is on.
        coverage: At how much it looked; None: at all of it. ``caveats`` say so, too; ``evidence``, where it settled the
            matter.
    """

    image: str
    size: tuple[int, int]
    method: str
    weights_sha256: str
    calibrated: bool
    answers: Mapping[str, Answer]
    evidence: tuple[Evidence, ...] = ()
    caveats: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()
    stability: tuple[Recheck, ...] = ()
    coverage: Coverage | None = None

    @property
    def question(self) -> str:
        """The question that decides: with the gravest verdict; among equals, with the highest probability."""

        def weight(name: str) -> tuple[int, float]:
            answer = self.answers[name]
            return answer.verdict.gravity, answer.probability

        return max(self.answers, key=weight)

    @property
    def verdict(self) -> Verdict:
        """On the whole picture: FAKE where any question is answered with yes."""
        return self.answers[self.question].verdict

    @property
    def words(self) -> str:
        """The verdict for a person: "edited" where that is all that was found, "uncertain: edited?" likewise."""
        gravest = {name for name, answer in self.answers.items() if answer.verdict is self.verdict}
        if gravest != {"edited"} or self.verdict is Verdict.NO_SIGN:
            return str(self.verdict)
        return "uncertain: edited?" if self.verdict is Verdict.UNCERTAIN else EDITED

    @property
    def declarations(self) -> tuple[Evidence, ...]:
        """Where the file itself says that a generator had a part in it, which changes no verdict."""
        return tuple(
            item
            for item in self.evidence
            if item.name in _DECLARATIONS and item.strength is Strength.MODERATE
        )

    @property
    def probability(self) -> float:
        """Of a yes to the question that decides, 0..1."""
        return self.answers[self.question].probability

    def to_json(self) -> dict[str, Any]:
        """Return plain types for ``json.dumps``; tiles and maps are left out, a map's share above one half is kept.

        The keys are those of ``FORMAT``, which grows whenever one of them goes, or means something else.
        """
        row: dict[str, Any] = {
            "format": FORMAT,
            "image": self.image,
            "width": self.size[0],
            "height": self.size[1],
            "verdict": str(self.verdict),
            "question": self.question,
            "probability": round(self.probability, 6),
            "calibrated": self.calibrated,
            "answers": _answers_json(self.answers),
            "evidence": [_evidence_json(item) for item in self.evidence],
            "caveats": list(self.caveats),
            "method": self.method,
            "weights_sha256": self.weights_sha256,
        }
        if self.stability:
            row["stability"] = [
                {
                    "change": check.change,
                    "holds": check.holds,
                    "answers": _answers_json(check.answers),
                }
                for check in self.stability
            ]
        return row


def without_numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``Report.to_json`` gave without any number of confidence, for who publishes labels alone.

    Probabilities, thresholds, ranks of scores and marked shares go. What else is counted stays: sizes, tiles examined.
    """
    plain = {name: value for name, value in row.items() if name not in _NUMBERS}
    if "answers" in row:
        plain["answers"] = {
            name: without_numbers(answer) for name, answer in row["answers"].items()
        }
    if "evidence" in row:
        kept = (item for item in row["evidence"] if not item["name"].startswith("rank:"))
        plain["evidence"] = [_unmeasured(item) for item in kept]
    for name in ("stability", "second_opinions"):
        if name in row:
            plain[name] = [without_numbers(one) for one in row[name]]
    return plain


_DECLARATIONS = frozenset(
    f"provenance:{name}" for name in ("generator", "ai_software", "aigc_label", "source_type")
)

_ABOUT = re.compile(r"^About (less than )?\d+ %")
_SHARE = re.compile(r", (less than )?\d+ % of the picture,")
"""How statements tell a share (``about``)."""

_NUMBERS = frozenset(("probability", "thresholds", "as_high"))


def _unmeasured(evidence: Mapping[str, Any]) -> dict[str, Any]:
    if "marked_share" not in evidence:
        return dict(evidence)
    plain = {name: value for name, value in evidence.items() if name != "marked_share"}
    return plain | {"statement": _SHARE.sub("", _ABOUT.sub("Some", str(evidence["statement"])))}


def shares(values: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Return which share of a map's pixels was examined, and which share of those is marked (above 0.5)."""
    seen = int(np.count_nonzero(np.isfinite(values)))
    marked = int(np.count_nonzero(values > 0.5))  # NaN is not
    return seen / max(1, values.size), marked / max(1, seen)


def about(share: float) -> str:
    """Write the share of a picture that is marked, 0..1, for a sentence: a part that is there is never 0 %.

    >>> about(0.123), about(0.004), about(0.0)
    ('12 %', 'less than 1 %', '0 %')
    """
    return "less than 1 %" if 0 < share < 0.01 else percent(share, 0)


def percent(share: float, decimals: int | None = None) -> str:
    """Write a share (0..1) for people: with so many decimals, or with the digits that it has, three at most.

    >>> percent(0.01), percent(0.005), percent(0.421, 0), percent(0.1, 1)
    ('1 %', '0.5 %', '42 %', '10.0 %')
    """
    return f"{100 * share:.3g} %" if decimals is None else f"{100 * share:.{decimals}f} %"


def _answers_json(answers: Mapping[str, Answer]) -> dict[str, Any]:
    return {name: _answer_json(answer) for name, answer in answers.items()}


def _answer_json(answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {
        "verdict": str(answer.verdict),
        "probability": round(answer.probability, 6),
        "thresholds": [round(value, 6) for value in answer.thresholds],
    }
    if answer.as_high is not None:
        photos, fakes = answer.as_high
        row["as_high"] = {"photos": round(photos, 4), "fakes": round(fakes, 4)}
    return row


def _evidence_json(evidence: Evidence) -> dict[str, Any]:
    row: dict[str, Any] = {"name": evidence.name, "statement": evidence.statement}
    if evidence.map is not None and not evidence.on_request:
        examined, marked = shares(evidence.map)
        row["examined_share"], row["marked_share"] = round(examined, 4), round(marked, 4)
    if evidence.strength is not None:
        row["strength"] = str(evidence.strength)
    if evidence.limits:
        row["limits"] = evidence.limits
    if evidence.repeats:
        row["repeats"] = [[list(place) for place in places] for places in evidence.repeats]
    return row
