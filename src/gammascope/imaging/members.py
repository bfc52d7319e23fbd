"""Images in tar shards, addressed by paths.

Training sets of millions of pictures are kept in uncompressed tar archives, as WebDataset writes them. A member gets a
path of its own that goes on below the archive, ``photos-000.tar/a/17.jpg``. It is a plain ``Path``, so an entry, a
manifest and a score table hold it like that of a file, and ``decode`` opens it; nothing is unpacked. An archive's
headers are read once, on first use; after that each picture is one read, in any order.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

SUFFIX = ".tar"
"""Ending of the archives, in any case."""

_INDICES = 256  # archives whose headers are kept: about 200 bytes for each member


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path goes on below; None if it names a file or a folder.

    Opens nothing unless a folder above is called like an archive.
    """
    return next((archive for archive in called_archives(path) if archive.is_file()), None)


def called_archives(path: Path) -> Iterator[Path]:
    """Yield the folders above a path that are called like an archive, the innermost first; opens nothing."""
    return (parent for parent in path.parents if parent.suffix.lower() == SUFFIX)


def names(archive: Path) -> list[Path]:
    """List the members of an archive that are files, as paths that ``decode`` opens, in the archive's order.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no plain tar archive.
    """
    return [archive / name for name in _index(archive, archive.stat().st_mtime_ns)]


def content(archive: Path, path: Path, most: int) -> bytes:
    """Return the bytes of a member, ``most`` and one more at most.

    Args:
        archive: As ``archive_of`` found it.
        path: Of the member, as ``names`` lists it.
        most: Bytes that are allowed.

    Raises:
        OSError: If the archive cannot be read.
        ValueError: If it is no plain tar archive, has no such member, or ends inside it.
    """
    name = path.relative_to(archive).as_posix()
    try:
        start, size = _index(archive, archive.stat().st_mtime_ns)[name]
    except KeyError:
        raise ValueError(f"{archive.name} has no member {name!r}") from None
    wanted = min(size, most + 1)
    with archive.open("rb") as file:
        file.seek(start)
        data = file.read(wanted)
    if len(data) < wanted:
        raise ValueError(f"{archive.name} ends inside {name!r}")
    return data


@lru_cache(maxsize=_INDICES)
def _index(archive: Path, changed_ns: int) -> dict[str, tuple[int, int]]:
    """Return where each member's bytes begin, and how many they are; ``changed_ns`` reads a rewritten archive anew."""
    del changed_ns
    found = {}
    try:
        with tarfile.open(archive, "r:") as opened:
            for member in opened:
                if member.isfile():
                    found[Path(member.name).as_posix()] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{archive.name} is no plain tar archive: {error}") from error
    return found
