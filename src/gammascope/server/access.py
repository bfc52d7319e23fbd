"""Who may send requests, from where and how often: API keys, and a guard around every request.

A key is 32 random bytes, so one round of SHA-256 is as good at rest as a slow password hash: there is nothing to guess.
The file holds names, hashes and rates, never keys::

    [newsroom]
    sha256 = "9f86d081884c7d65..."
    files_per_minute = 120

The guard gives each request a name, checks where it comes from, sets the answer's headers and writes its log line.
What a client still sends when the answer is known is read and dropped up to a bound, because a connection closed too
early takes the answer with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gammascope import settings
from gammascope.errors import MissingDataError, RecipeError
from gammascope.server.problems import Problem, problem_of
from gammascope.server.telemetry import Figures, failure, log

FILES_PER_MINUTE = 120.0
"""Of a key whose entry names no other rate."""

_MARK = "gs_"
_HEADER = "x-api-key"


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of the file.

    Attributes:
        sha256: Of the key, 64 hexadecimal digits.
        files_per_minute: How many files may be sent; unused ones add up for a minute.
    """

    sha256: str
    files_per_minute: float = FILES_PER_MINUTE

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(
                "sha256: expected 64 hexadecimal digits, as `gammascope api-key` prints them."
            )
        if not 0 < self.files_per_minute < float("inf"):
            raise ValueError(f"files_per_minute = {self.files_per_minute}: expected more than 0.")


class Caller:
    """Whoever sends a request, with what is left of their rate.

    Attributes:
        name: Of the key; "" where none is needed.
    """

    def __init__(
        self, name: str, files_per_minute: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._rate = files_per_minute / 60
        self._most = max(1.0, files_per_minute)
        self._clock = clock
        self._left, self._seen_at = self._most, clock()

    def take(self, files: int) -> None:
        """Count files against the rate.

        A request may overdraw what is left, so that one with many files can ever be sent; the next ones pay for it.
        With 0 files this only asks whether something is left, before an upload is read.

        Raises:
            Problem: "rate-limited" if nothing is left.
        """
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._seen_at) * self._rate)
        self._seen_at = now
        if self._left < 1:
            wait = math.ceil((1 - self._left) / self._rate)
            detail = f"This key may send {60 * self._rate:g} files a minute."
            raise Problem("rate-limited", detail, retry_after=wait)
        self._left -= files


class Keys:
    """All who may ask.

    Args:
        entries: By name; None: anybody may.
    """

    def __init__(self, entries: dict[str, Key] | None) -> None:
        self.required = entries is not None
        self._known = [
            (bytes.fromhex(key.sha256), Caller(name, key.files_per_minute))
            for name, key in (entries or {}).items()
        ]
        self._anybody = Caller("", 1e12)

    def caller(self, request: Request) -> Caller:
        """Say who sent a request.

        Raises:
            Problem: "not-authenticated" if a key is needed and none or an unknown one was sent.
        """
        if not self.required:
            return self._anybody
        shown = _shown_key(request)
        if not shown:
            raise Problem(
                "not-authenticated",
                "Send an API key: Authorization: Bearer KEY, or X-API-Key: KEY.",
            )
        digest = hashlib.sha256(shown.encode()).digest()
        found = None
        for known, caller in self._known:  # all of them, so that time tells nothing
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise Problem("not-authenticated", "This API key is not known here.")
        return found


def read_keys(path: Path) -> Keys:
    """Read a file of keys.

    Raises:
        MissingDataError: If it is not there, or holds no key.
        RecipeError: If it is no TOML, or an entry is not as expected.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MissingDataError(f"Cannot read the keys in {path}: {error.strerror}.") from error
    except ValueError as error:
        raise RecipeError(f"{path} is no TOML file: {error}.") from error
    if not tables:
        raise MissingDataError(f"{path} holds no key: gammascope api-key NAME >> {path}.")
    entries = {}
    for name, values in tables.items():
        if not isinstance(values, dict):
            raise RecipeError(f"{path}: {name} = ... outside a table; expected [{name}].")
        entries[name] = settings.parse(Key, values, f"{path}, key {name}")
    return Keys(entries)


def new_key(name: str, files_per_minute: float = FILES_PER_MINUTE) -> tuple[str, str]:
    """Make a key.

    Returns:
        The key, which is shown once, and the entry for the file.

    Raises:
        RecipeError: If the name is not made of letters, digits, "-" and "_".
    """
    if not name or not all(sign.isascii() and (sign.isalnum() or sign in "-_") for sign in name):
        raise RecipeError(f"Name {name!r}: expected letters, digits, '-' and '_'.")
    key = _MARK + secrets.token_urlsafe(32)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, f'[{name}]\nsha256 = "{digest}"\nfiles_per_minute = {files_per_minute:g}\n'


def _shown_key(request: Request) -> str:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    return request.headers.get(_HEADER, "").strip()


_DROPPED_BYTES: Final = 256 * 2**20
_DROPPED_SECONDS: Final = 10.0

HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""On every answer that does not set them itself."""


class Guard:
    """Middleware.

    Args:
        app: The rest.
        figures: Told of each request.
        hosts: Names this server answers to; None: any. On a loopback address without keys, other names would let a
            foreign page in (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, figures: Figures, hosts: frozenset[str] | None) -> None:
        self._app, self._figures, self._hosts = app, figures, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        scope.setdefault("state", {})["facts"] = exchange.facts
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, exchange.receive, exchange.send)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # nothing may end in a bare 500
            log("bug", logging.ERROR, request=exchange.name, **failure(error))
            if not exchange.status:
                response: Response = problem_of(error).response()
                await response(scope, exchange.receive, exchange.send)
        finally:
            self._note(scope, exchange)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return Problem("wrong-host", "Use its own name, or start it with --allow-host NAME.")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        if site in ("cross-site", "same-site") or (site is None and foreign):
            return Problem("foreign-page", "Only pages of this server may.")
        return None

    def _note(self, scope: Scope, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.start
        # The pattern, not the path: paths are untrusted text, and name jobs.
        route = getattr(scope.get("route"), "path", "none")
        self._figures.requests.labels(route, str(exchange.status)).inc()
        self._figures.seconds.labels(route).observe(seconds)
        log(
            "request",
            request=exchange.name,
            method=scope["method"] if scope["method"] in _METHODS else "other",
            route=route,
            status=exchange.status,
            seconds=round(seconds, 4),
            bytes=exchange.received,
            **exchange.facts,
        )


_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class _Exchange:
    """One request and its answer, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.name = secrets.token_hex(8)
        self.start = time.perf_counter()
        self.facts: dict[str, Any] = {}
        self.status = self.received = 0
        self._receive, self._send = receive, send
        headers = Headers(scope=scope)
        self._whole = "content-length" not in headers and "transfer-encoding" not in headers
        self._expects = "100-continue" in headers.get("expect", "").lower()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
        else:
            self._whole = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.name
            await self._drop_rest()
            if not self._whole:
                headers["Connection"] = "close"
        await self._send(message)

    async def _drop_rest(self) -> None:
        if self._expects and not self.received:  # it waits for leave to send, and gets none
            return
        most = self.received + _DROPPED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_DROPPED_SECONDS):
                while not self._whole and self.received < most:
                    await self.receive()


def _name_of(host: str) -> str:
    """Return a Host header without its port.

    >>> _name_of("localhost:8000"), _name_of("[::1]:8000")
    ('localhost', '[::1]')
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
