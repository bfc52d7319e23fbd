r"""Files that are whole or absent, packages that are installed or named by their extra, and names that are bytes.

Python keeps bytes of a file's name that are no UTF-8 as lone surrogates, which no JSON, Parquet, HTML or terminal can
hold. ``shown`` writes them as ``\xe9``, which a person can read and ``path_of`` understands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from gammascope.errors import BrokenPackageError, MissingDataError, MissingExtraError, said_by

T = TypeVar("T")


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


def cache_folder() -> Path:
    """Return where this user's programs keep what they can do without."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "gammascope").expanduser()


def pyarrow_for(feature: str, extra: str = "evaluate") -> tuple[Any, Any]:
    """Import and return ``pyarrow`` (with ``pyarrow.ipc``) and ``pyarrow.parquet``.

    Raises:
        MissingExtraError: If it is not installed; the message names the feature, and the extra that brings it.
    """
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.of(feature, "pyarrow", extra) from error
    return pyarrow, pyarrow.parquet


def of_package(point: EntryPoint, kind: type[T]) -> T:
    """Load what another package adds, whose code may fail in any way.

    Raises:
        BrokenPackageError: If it cannot be imported, or is nothing of this kind.
    """
    package = "of another package" if point.dist is None else f"of the package {point.dist.name}"
    what = f"{point.name} {package} (entry point {point.value} in {point.group})"
    try:
        found = point.load()
    except Exception as error:
        raise BrokenPackageError(
            f"{what} cannot be loaded: {type(error).__name__}: {said_by(error)}. Mend or uninstall that package."
        ) from error
    if not isinstance(found, kind):
        raise BrokenPackageError(
            f"{what} is of the type {type(found).__name__}, expected a {kind.__name__}. Mend or uninstall that package."
        )
    return found


_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def refuse_no_model(what: str, place: str | os.PathLike[str]) -> None:
    """Refuse what is neither here nor the form of a hub id; libraries would try to download it for half a minute.

    Args:
        what: Is looked for.
        place: Local folder or hub id.

    Raises:
        MissingDataError: If it cannot be a model.
    """
    if not Path(place).exists() and not _HUB_ID.fullmatch(str(place)):
        raise MissingDataError(f"No {what}: no folder {str(place)!r}; a hub id is owner/name.")


def why_no_model(place: str | os.PathLike[str], error: BaseException) -> str:
    """Return why a library could not load a folder or a hub id, for a message of ours.

    Args:
        place: Local folder or hub id.
        error: What the library raised; of some hub ids it says only that a file is missing.
    """
    said = said_by(error)
    if Path(place).exists():
        return said
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    # Raised by huggingface_hub where its cache has no copy and the hub cannot be asked.
    unreached = "LocalEntryNotFoundError" in causes
    hub = "the Hugging Face hub could not be reached" if unreached else f"of the hub id: {said}"
    return f"there is no such folder here, and {hub}".removesuffix(".") + "."


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
