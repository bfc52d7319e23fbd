"""Around every request: a name for it, who may come from where, the headers of the answer, its line in the log.

What a client still sends when the answer is known is read and dropped up to a bound, because a connection closed too
early takes the answer with it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gammascope.server.figures import Figures
from gammascope.server.logs import failure, log
from gammascope.server.problems import Problem, problem_of

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
        # The pattern, not the path: paths are free text from strangers, and name jobs.
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
