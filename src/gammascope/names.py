r"""Names of files are bytes, not text: how they are written where only text can go, and found again.

Python keeps bytes that are no UTF-8 as lone surrogates, which no JSON, Parquet, HTML or terminal can hold. They are
written ``\xe9``, which a person can read and ``path_of`` understands.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def shown(name: str | os.PathLike[str]) -> str:
    r"""Return a name as text that any encoding of Unicode can hold.

    >>> shown("caf\udce9.jpg"), shown("café.jpg")
    ('caf\\xe9.jpg', 'café.jpg')
    """
    text = os.fspath(name)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # Surrogates that stand for no byte: from JSON, or from Windows.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def path_of(text: str) -> Path:
    r"""Return the path that ``shown`` has written; a file that is really called so comes first.

    >>> path_of("caf\\xe9.jpg") == Path("caf\udce9.jpg")
    True
    """
    path = Path(text)
    if "\\x" not in text or path.exists():
        return path
    raw = _ESCAPED.sub(
        lambda found: bytes.fromhex(found[1].decode()), text.encode("utf-8", "replace")
    )
    return Path(raw.decode("utf-8", "surrogateescape"))
