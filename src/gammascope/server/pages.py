"""The page for people: a few files of our own, read once at the start, under a policy that allows nothing else.

Viewer, words and style are those of the page that ``gammascope scan --report`` writes.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gammascope.server.problems import Problem

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

_SHARED: Final = (
    "page.css", "words.js", "opinions.js", "viewer.js", "findings.js", "sheet.js"
)  # fmt: skip
_OWN: Final = ("visit.css", "masks.js", "upload.js", "visit.js")
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "html": "text/html"}


def page_routes() -> list[Route]:
    """Return the addresses of the page and its parts."""
    shared, own = resources.files("gammascope.pages") / "web", resources.files(__package__) / "web"
    parts = {name: (shared / name).read_bytes() for name in _SHARED}
    parts |= {name: (own / name).read_bytes() for name in _OWN}
    viewer = (shared / "viewer.html").read_text("utf-8")
    page = (own / "visit.html").read_text("utf-8").replace("{{viewer}}", viewer).encode()

    async def index(request: Request) -> Response:
        return _sent(request, "visit.html", page)

    async def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in parts:
            return Problem("not-found", "The page has no such part.").response()
        return _sent(request, name, parts[name])

    return [Route("/", index, name="page"), Route("/web/{name}", part, name="part of the page")]


def _sent(request: Request, name: str, content: bytes) -> Response:
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    kind = _KINDS[name.rpartition(".")[2]]
    return Response(content, headers=headers, media_type=f"{kind}; charset=utf-8")
