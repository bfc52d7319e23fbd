"""Uploaded files, read from the request as it arrives: into memory only, within limits, never to a disk.

The framework's own form parser spools to temporary files and counts afterwards; this one refuses the first byte too
many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from gammascope.server.problems import Problem

_NAME_LENGTH: Final = 200
_PART_HEADER_BYTES: Final = 8192
_FIELD_BYTES: Final = 4096
_FIELDS: Final = 8


@dataclass(frozen=True, slots=True)
class Upload:
    """One file.

    Attributes:
        name: Its last part, printable, at most 200 characters; "file 3" if it came without one.
        content: Its bytes; empty if there is a problem.
        problem: Why it cannot be examined, as far as that is known already.
    """

    name: str
    content: bytes
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What a request held."""

    files: list[Upload]
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Bounds of one form.

    Attributes:
        request_bytes: Of the whole body.
        file_bytes: Of each file.
        files: How many.
        seconds: Until the last byte has to be there.
        fields: Names of the parts that may come beside the files.
    """

    request_bytes: int
    file_bytes: int
    files: int
    seconds: float
    fields: frozenset[str] = frozenset()


class Held:
    """Bytes of uploads in memory, over all requests. Used by the event loop alone, so without a lock."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Reserve upload memory; it is released at the end unless ``kept`` is set."""
        share = Share(self)
        try:
            yield share
        finally:
            if not share.kept:
                share.give_back()


@dataclass(slots=True)
class Share:
    """One request's part of what may be held.

    Attributes:
        kept: Whether it outlives the request; whoever sets it gives it back.
    """

    held: Held
    bytes: int = 0
    kept: bool = False

    def grow(self, to: int) -> None:
        """Ask for so many bytes in all.

        Raises:
            Problem: "queue-full" if there is no room now.
        """
        more = to - self.bytes
        if more <= 0:
            return
        if self.held.bytes + more > self.held.most:
            raise Problem("queue-full", "Too many uploads at once.", retry_after=2)
        self.held.bytes += more
        self.bytes = to

    def give_back(self) -> None:
        """Let others have it."""
        self.held.bytes -= self.bytes
        self.bytes = 0


async def read_form(request: Request, limits: FormLimits, share: Share) -> Form:
    """Read the files of a multipart form.

    A file beyond ``file_bytes`` is a problem of its own, and its bytes are released; all else that is wrong is the
    problem of the whole request.

    Args:
        request: Its body must not have been read.
        limits: What may come.
        share: Grows with what is held.

    Raises:
        Problem: If it is no form, holds no or too many files, is too large, too slow, cut short or malformed.
    """
    parts = _Parts(limits, share)
    parser = MultipartParser(_boundary(request), parts.callbacks())
    declared = _declared_length(request)
    if declared is not None and declared > limits.request_bytes:
        raise _too_large(limits)
    share.grow(min(declared or 0, limits.request_bytes))
    received = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                received += len(chunk)
                if received > limits.request_bytes:
                    raise _too_large(limits)
                parser.write(chunk)
        parser.finalize()
    except TimeoutError:
        detail = f"More than {limits.seconds:g} seconds passed before its last byte."
        raise Problem("too-slow", detail) from None
    except (MultipartParseError, ClientDisconnect) as error:
        raise Problem("malformed-request", f"The form is malformed: {error}.") from error
    if not parts.ended:
        raise Problem("malformed-request", "The form is cut short: its last boundary is missing.")
    if not parts.files:
        raise Problem("no-files", "Send each file as a part with a file name.")
    return Form(parts.files, parts.fields)


@dataclass(slots=True)
class _Parts:
    """Takes the parser's events; sees one part at a time."""

    limits: FormLimits
    share: Share
    files: list[Upload] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header_bytes: int = 0
    _name: str = ""
    _file_name: str | None = None
    _data: bytearray = field(default_factory=bytearray)
    _size: int = 0
    _held: int = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self.begin,
            "on_header_field": lambda data, start, end: self.header(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self.header(self._value, data[start:end]),
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_part_data": lambda data, start, end: self.data(data[start:end]),
            "on_part_end": self.end,
            "on_end": self.finish,
        }

    def begin(self) -> None:
        self._headers, self._header_bytes = {}, 0
        self._header, self._value, self._data = bytearray(), bytearray(), bytearray()
        self._size, self._file_name = 0, None

    def header(self, text: bytearray, more: bytes) -> None:
        self._header_bytes += len(more)
        if self._header_bytes > _PART_HEADER_BYTES:
            raise Problem("malformed-request", "The headers of a part are too long.")
        text += more

    def header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise Problem("malformed-request", "A part of the form has no name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._file_name = options[b"filename"].decode("utf-8", "replace")
            if len(self.files) == self.limits.files:
                detail = f"At most {self.limits.files} files at once."
                raise Problem("too-many-files", detail)
        elif self._name not in self.limits.fields:
            known = ", ".join(sorted(self.limits.fields))
            detail = f"The part {shown_name(self._name)!r} holds text and no file: with curl, -F files=@photo.jpg."
            detail += f" Fields of text known here: {known}." if known else ""
            raise Problem("malformed-request", detail)

    def data(self, more: bytes) -> None:
        self._size += len(more)
        if self._file_name is None:
            if self._size > _FIELD_BYTES or len(self.fields) >= _FIELDS:
                raise Problem("malformed-request", "The fields of the form are too long.")
        elif self._size > self.limits.file_bytes:
            self._data = bytearray()
            return
        else:
            self.share.grow(self._held + self._size)
        self._data += more

    def end(self) -> None:
        if self._file_name is None:
            self.fields[self._name] = self._data.decode("utf-8", "replace")
            return
        name = shown_name(self._file_name) or f"file {len(self.files) + 1}"
        problem = None
        if self._size > self.limits.file_bytes:
            allowed = f"{self.limits.file_bytes / 1e6:.3g} MB"
            problem = Problem("image-too-large", f"More than the {allowed} allowed.")
        else:
            self._held += self._size
        self.files.append(Upload(name, bytes(self._data), problem))
        self._data = bytearray()

    def finish(self) -> None:
        self.ended = True


def shown_name(sent: str) -> str:
    r"""Return the last part of a file name, without anything that steers a terminal or leads elsewhere.

    >>> shown_name(r"..\holiday\cat.jpg"), shown_name("../../cat\n.jpg")
    ('cat.jpg', 'cat.jpg')
    """
    last = sent.replace("\\", "/").rpartition("/")[2]
    return "".join(sign for sign in last if sign.isprintable()).strip()[:_NAME_LENGTH]


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", "").encode("latin-1"))
    if kind != b"multipart/form-data":
        raise Problem("not-a-form", "Expected Content-Type: multipart/form-data; boundary=...")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046
        raise Problem("malformed-request", "The form's boundary has not 1 to 70 characters.")
    return boundary


def _declared_length(request: Request) -> int | None:
    text = request.headers.get("content-length")
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _too_large(limits: FormLimits) -> Problem:
    allowed = f"{limits.request_bytes / 1e6:.4g} MB"
    return Problem("request-too-large", f"More than the {allowed} allowed.")
