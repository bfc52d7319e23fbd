"""Files and packages that may not be there: whole or absent on disk, installed or named by their extra."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gammascope.errors import MissingExtraError


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; rename it to ``path`` if nothing was raised.

    So a reader never sees half a file, and an error or a stop leaves an older file as it was. Makes
    the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def pyarrow_for(feature: str) -> tuple[Any, Any]:
    """Import and return ``pyarrow`` (with ``pyarrow.ipc``) and ``pyarrow.parquet``.

    Raises:
        MissingExtraError: If it is not installed; the message names the feature.
    """
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.of(feature, "pyarrow", "evaluate") from error
    return pyarrow, pyarrow.parquet
