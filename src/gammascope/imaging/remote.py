"""Files wherever fsspec reaches: which places are URLs, what opens them, and what is tried again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from gammascope.errors import MissingDataError, MissingExtraError

TRIES = 3
"""How often a remote file is read before its error counts."""

T = TypeVar("T")


def is_remote(place: str) -> bool:
    """Whether a place is a URL and not a path.

    >>> is_remote("s3://bucket/a.jpg"), is_remote("C:/a.jpg"), is_remote("a/b.jpg")
    (True, False, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", place, re.IGNORECASE) is not None


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        MissingDataError: If the URL is of no known kind.
        MissingExtraError: If fsspec, or what it needs for this kind of URL, is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError.of("Reading URLs", "fsspec", "bulk") from error
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(
            f"{url.partition('://')[0]}:// needs another package: {error}."
        ) from error
    except ValueError as error:
        raise MissingDataError(f"{url} is of no known kind ({error}).") from error
    return filesystem, path


def again(read: Callable[[], T], *, remote: bool = True) -> T:
    """Read, and try again what a network may mend."""
    for left in range(TRIES - 1, -1, -1):
        try:
            return read()
        except (FileNotFoundError, PermissionError, IsADirectoryError):
            raise
        except OSError:
            if not (remote and left):
                raise
            time.sleep(0.2 * (TRIES - left))
    raise AssertionError("unreachable: the last try returns or raises")
