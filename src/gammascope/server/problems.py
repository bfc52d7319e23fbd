"""What went wrong, as RFC 9457 problem documents: the same words over HTTP as on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from gammascope.errors import (
    GammascopeError,
    ImageTooLargeError,
    MissingExtraError,
    NotAnImageError,
    UndecodableImageError,
)

MEDIA_TYPE: Final = "application/problem+json"

_PREFIX: Final = "urn:gammascope:problem:"

KINDS: Final[dict[str, tuple[int, str]]] = {
    "malformed-request": (400, "The request cannot be read"),
    "no-files": (400, "The form holds no file"),
    "not-authenticated": (401, "No valid API key"),
    "foreign-page": (403, "Another site's page may not send pictures here"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This address takes other methods"),
    "too-slow": (408, "The request did not arrive in time"),
    "job-outdated": (410, "The job was answered by an older version"),
    "request-too-large": (413, "The request is larger than allowed"),
    "too-many-files": (413, "The request holds more files than allowed"),
    "image-too-large": (413, "The picture is larger than allowed"),
    "not-a-form": (415, "Expected a multipart form with files"),
    "not-an-image": (415, "The file is no picture of a known format"),
    "wrong-host": (421, "This server has another name"),
    "undecodable-image": (422, "The picture is broken"),
    "invalid-parameter": (422, "A parameter has an impossible value"),
    "webhook-refused": (422, "This address may not be called"),
    "no-file-examined": (422, "None of the files could be examined"),
    "queue-full": (429, "The server is busy"),
    "rate-limited": (429, "More requests than this key allows"),
    "internal-error": (500, "A bug of ours"),
    "results-unreadable": (503, "Results cannot be read now"),
    "out-of-memory": (503, "Not enough memory for this picture"),
    "shutting-down": (503, "The server is about to stop"),
    "out-of-time": (504, "The answer took too long"),
}
"""Status and title by name; ``type`` is the name behind ``urn:gammascope:problem:``."""


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - RFC 9457 calls it so
    """One thing that went wrong, for one request or one of its files.

    Attributes:
        kind: One of ``KINDS``.
        detail: One sentence for a person: what was seen, and what to do.
        retry_after: Seconds until another try makes sense, 1 and up; None: not by itself.
        members: Further members of the document.
    """

    kind: str
    detail: str
    retry_after: int | None = None
    members: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """HTTP status."""
        return KINDS[self.kind][0]

    def document(self) -> dict[str, Any]:
        """Return the problem as plain types."""
        status, title = KINDS[self.kind]
        plain = {"type": _PREFIX + self.kind, "title": title, "status": status}
        plain["detail"] = self.detail
        if self.retry_after is not None:
            plain["retry_after"] = self.retry_after
        return plain | self.members

    def response(self) -> JSONResponse:
        """Return the problem as a response."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="gammascope"'
        return JSONResponse(self.document(), self.status, headers, MEDIA_TYPE)


_KINDS_OF_ERRORS: Final[tuple[tuple[type[GammascopeError], str], ...]] = (
    (ImageTooLargeError, "image-too-large"),
    (NotAnImageError, "not-an-image"),
    (MissingExtraError, "not-an-image"),
    (UndecodableImageError, "undecodable-image"),
    (GammascopeError, "internal-error"),
)


def problem_of(error: BaseException) -> Problem:
    """Say what an error means to whoever sent the file."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MemoryError):
        return Problem("out-of-memory", "Send it alone, later, or smaller.", retry_after=10)
    for known, kind in _KINDS_OF_ERRORS:
        if isinstance(error, known):
            said = str(error).removeprefix("<memory>: ")  # as the decoder calls bytes
            return Problem(kind, f"{said[:1].upper()}{said[1:]}")
    return Problem("internal-error", "The request was fine; please report this with its id.")


async def answer_problem(_: Request, error: Exception) -> JSONResponse:
    """Turn a raised problem into the response."""
    return problem_of(error).response()


async def answer_invalid(_: Request, error: Exception) -> JSONResponse:
    """Turn the framework's complaints about parameters into a problem."""
    if not isinstance(error, RequestValidationError):
        raise TypeError(f"{type(error).__name__}: expected RequestValidationError.")
    first = error.errors()[0]
    place = " ".join(str(part) for part in first["loc"])
    return Problem("invalid-parameter", f"{place}: {first['msg'].lower()}.").response()


async def answer_http(_: Request, error: Exception) -> JSONResponse:
    """Turn the framework's own refusals (unknown address, wrong method) into problems."""
    if not isinstance(error, HTTPException):
        raise TypeError(f"{type(error).__name__}: expected HTTPException.")
    names = {404: "not-found", 405: "method-not-allowed"}
    problem = Problem(names.get(error.status_code, "malformed-request"), f"{error.detail}.")
    response = problem.response()
    response.headers.update(error.headers or {})
    return response
