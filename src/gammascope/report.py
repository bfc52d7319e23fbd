"""What we say about one image: verdict, evidence, caveats. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from jaxtyping import Float


class Verdict(StrEnum):
    """Outcome against two operating thresholds."""

    REAL = "real"
    FAKE = "fake"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that supports or weakens a verdict.

    Attributes:
        name: What kind of evidence ("mask:generated", "mask:edited").
        statement: One sentence for a person.
        map: 0..1 per pixel in the image's frame; NaN where no view looked. None if the evidence has no place.
    """

    name: str
    statement: str
    map: Float[np.ndarray, "h w"] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One image-level question, answered.

    Attributes:
        probability: Calibrated probability of yes, 0..1.
        verdict: FAKE = yes, REAL = no, UNCERTAIN = between the two thresholds.
        thresholds: Probabilities at which the verdict becomes uncertain, then fake.
    """

    probability: float
    verdict: Verdict
    thresholds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Report:
    """What we say about one image; serialises to JSON, and never says more than we know.

    Attributes:
        image: File name or "<memory>".
        size: Width and height of the upright image, pixels.
        method: Name of the detection method.
        weights_sha256: Which weights spoke.
        probability: P(fake) of the method's main question, 0..1.
        calibrated: Whether probability and thresholds were fitted on held-out photos.
        verdict: Of the main question.
        answers: By question: "generated" (contains generated pixels), "edited" (was edited).
        evidence: What supports it.
        caveats: What weakens it ("96 px wide: below the 160 px seen in training").
    """

    image: str
    size: tuple[int, int]
    method: str
    weights_sha256: str
    probability: float
    calibrated: bool
    verdict: Verdict
    answers: Mapping[str, Answer] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    caveats: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain types for ``json.dumps``; maps are left out, their share above one half is kept."""
        return {
            "image": self.image,
            "width": self.size[0],
            "height": self.size[1],
            "verdict": str(self.verdict),
            "probability": round(self.probability, 6),
            "calibrated": self.calibrated,
            "answers": {
                name: {
                    "verdict": str(answer.verdict),
                    "probability": round(answer.probability, 6),
                    "thresholds": [round(value, 6) for value in answer.thresholds],
                }
                for name, answer in self.answers.items()
            },
            "evidence": [_evidence_json(item) for item in self.evidence],
            "caveats": list(self.caveats),
            "method": self.method,
            "weights_sha256": self.weights_sha256,
        }


def _evidence_json(evidence: Evidence) -> dict[str, Any]:
    row: dict[str, Any] = {"name": evidence.name, "statement": evidence.statement}
    if evidence.map is not None:
        seen = np.isfinite(evidence.map)
        row["examined_share"] = round(float(seen.mean()), 4)
        row["marked_share"] = (
            round(float((evidence.map[seen] > 0.5).mean()), 4) if seen.any() else 0.0
        )
    return row
