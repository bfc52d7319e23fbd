"""API keys: who may ask, and how often.

A key is 32 random bytes, so one round of SHA-256 is as good at rest as a slow password hash: there is nothing to guess.
The file holds names, hashes and rates, never keys::

    [newsroom]
    sha256 = "9f86d081884c7d65..."
    files_per_minute = 120
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from gammascope import settings
from gammascope.errors import MissingDataError, RecipeError
from gammascope.server.problems import Problem

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
