"""The shapes of answers, for the OpenAPI document; a test holds real answers against them."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gammascope.server.problems import KINDS, MEDIA_TYPE

_Verdict = Literal["no sign", "uncertain", "fake"]
_Format = Literal[2]

_UNLESS_LABELS = "Absent where only labels were asked for."


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AnswerShape(_Shape):
    """One question, answered: "fake" is yes; "no sign" means that nothing was found."""

    verdict: _Verdict
    probability: float | None = Field(None, ge=0, le=1, description=_UNLESS_LABELS)
    thresholds: tuple[float, float] | None = Field(
        None,
        description=f"Probabilities from which the verdict is uncertain, then fake. {_UNLESS_LABELS}",
    )


class MaskShape(_Shape):
    """A map over the picture: grey PNG with alpha, base64; 0..255 is 0..1, transparent is not examined."""

    width: int
    height: int
    png: str
    on_request: bool | None = Field(
        None,
        description="True beside an answer of no: something is always marked, so show it only to who asks.",
    )


class EvidenceShape(_Shape):
    """What supports or weakens a verdict."""

    name: str
    statement: str
    examined_share: float | None = None
    marked_share: float | None = None
    strength: Literal["strong", "moderate", "weak", "neutral"] | None = None
    limits: str | None = None
    repeats: list[list[tuple[float, float]]] | None = Field(
        None,
        description="Groups of places that show the same piece, as shares of width and height.",
    )
    mask: MaskShape | None = None


class RecheckShape(_Shape):
    """The verdicts on the same picture after ordinary processing."""

    change: str
    holds: bool
    answers: dict[str, AnswerShape]


class OpinionShape(_Shape):
    """What one detector says about a picture."""

    detector: str | None = Field(
        None, description="Its short name; absent where there is only one."
    )
    verdict: _Verdict = Field(description="The gravest of all answers.")
    question: str = Field(description="Which of the answers that is.")
    probability: float | None = Field(
        None, ge=0, le=1, description=f"Of a yes to that question. {_UNLESS_LABELS}"
    )
    calibrated: bool
    answers: dict[str, AnswerShape]
    evidence: list[EvidenceShape]
    caveats: list[str]
    method: str
    weights_sha256: str
    stability: list[RecheckShape] | None = None


class ReportShape(OpinionShape):
    """What is said about one picture; as ``gammascope scan --json``."""

    format: _Format
    image: str = Field(description="File name as it was sent.")
    width: int
    height: int
    second_opinions: list[OpinionShape] | None = Field(
        None, description="Of further detectors, where there are several; each for itself."
    )
    differences: list[str] | None = Field(
        None, description="On which questions they do not say the same, one sentence each."
    )


class ProblemShape(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    retry_after: int | None = Field(None, description="Seconds; as the header Retry-After.")


class FailedShape(_Shape):
    """A file that could not be examined."""

    image: str
    problem: ProblemShape


class DetectShape(_Shape):
    """One row for each file, in the order they were sent."""

    format: _Format
    version: str = Field(description="Of gammascope.")
    results: list[ReportShape | FailedShape]


class JobShape(_Shape):
    """A job; with its results once it is finished."""

    format: _Format
    id: str
    status: Literal["accepted", "finished", "lost"]
    accepted: str
    files: int
    done: int
    failed: int | None = None
    results: list[ReportShape | FailedShape] | None = None


class MethodShape(_Shape):
    """A detection method."""

    name: str
    title: str
    paper: str
    licence: str | None
    published_parameters: int | None
    trained_parameters: int | None
    measured: dict[str, Any] | None
    parameters: int | None
    embedded_weights: bool
    calibrated: bool
    published_weights: list[str]
    converted_from: list[str]
    extras: dict[str, str]


class MethodsShape(_Shape):
    """What this server answers with, and what else the package knows."""

    format: _Format
    serving: dict[str, Any]
    methods: list[MethodShape]


def responses(wanted: dict[int, Any], *kinds: str) -> dict[int | str, dict[str, Any]]:
    """Describe what an address answers: what is wanted, and the problems there may be, by status."""
    described: dict[int | str, dict[str, Any]] = dict(wanted.items())
    for status in sorted({KINDS[kind][0] for kind in kinds}):
        titles = "; ".join(KINDS[kind][1] for kind in kinds if KINDS[kind][0] == status)
        schema = {"$ref": "#/components/schemas/ProblemShape"}
        described[status] = {"description": titles, "content": {MEDIA_TYPE: {"schema": schema}}}
    return described


def form(*, webhook: bool) -> dict[str, Any]:
    """Describe the body of a request with files."""
    files = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "string", "format": "binary"},
        "description": "Parts with a file name; what the parts are called does not matter.",
    }
    properties: dict[str, Any] = {"files": files}
    if webhook:
        properties["webhook"] = {
            "type": "string",
            "format": "uri",
            "description": "Called once the job is finished; its host must be on the server's list.",
        }
    schema = {"type": "object", "properties": properties, "required": ["files"]}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


UPLOAD_PROBLEMS: Final = (
    "malformed-request", "no-files", "not-authenticated", "foreign-page", "too-slow",
    "request-too-large", "too-many-files", "image-too-large", "not-a-form", "not-an-image",
    "wrong-host", "undecodable-image", "invalid-parameter", "no-file-examined", "queue-full",
    "rate-limited", "out-of-memory", "shutting-down", "out-of-time",
)  # fmt: skip
"""What can go wrong with a request that carries files."""
