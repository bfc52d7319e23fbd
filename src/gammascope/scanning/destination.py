"""Where the rows of a bulk scan go in the end: a folder, or a place behind a URL that other scans keep out of."""

from __future__ import annotations

import hashlib
import platform
import secrets
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gammascope.data import ledger
from gammascope.errors import MissingDataError, RecipeError
from gammascope.files import cache_folder, complete_or_absent
from gammascope.imaging.storage import again, filesystem_of, is_remote

_MARK = "_unfinished"  # readers of Parquet folders skip such names


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the rows of a scan go in the end: a folder, or one behind a URL.

    Rows for a URL are kept in the user's cache folder while the scan goes on, which so can be interrupted like any
    other; whole parts are copied once all is done. Until then a mark at the URL says whose place it is: that of whoever
    has the folder in the cache.

    Attributes:
        place: Path, or URL that fsspec understands.
    """

    place: str

    @property
    def folder(self) -> Path:
        """Where the scan works."""
        if not is_remote(self.place):
            return Path(self.place)
        digest = hashlib.blake2b(self.place.rstrip("/").encode(), digest_size=8).hexdigest()
        return cache_folder() / "scans" / digest

    def check(self) -> None:
        """Make sure that rows can be copied there, before the work begins: a mark is left there until they are.

        Raises:
            RecipeError: If there are rows that no scan from this machine's cache folder has copied there, or the mark
                of a scan from elsewhere.
            MissingDataError: If the place cannot be reached.
            MissingExtraError: If the URL needs a package that is not installed.
        """
        if not is_remote(self.place):
            return
        self._refuse_others()
        filesystem, root = self._behind()
        mark = f"Scan {self._token()} on {platform.node()} copies its rows here once it is done.\n"
        try:
            again(partial(filesystem.pipe_file, f"{root}/{_MARK}", mark.encode()))
        except OSError as error:
            raise MissingDataError(f"{self.place} cannot be written to ({error}).") from error
        self._refuse_others()  # One that began at the same moment may have left its mark after ours.

    def copy(self) -> None:
        """Copy finished parts to the URL, and remove those that were copied there before and are merged since.

        Raises:
            RecipeError: If another scan has taken the place meanwhile.
            MissingDataError: If the place cannot be reached; the same scan goes on from there.
        """
        if not is_remote(self.place):
            return
        try:
            self._refuse_others()
        except RecipeError as error:
            raise RecipeError(f"{error} The rows of this scan are in {self.folder}.") from error
        filesystem, root = self._behind()
        parts = [path for path, _ in ledger.parts(self.folder)]
        names, copied = {path.name for path in parts}, self._copied()
        with complete_or_absent(self._copied_list) as unfinished:
            unfinished.write_text("\n".join(sorted(copied | names)), "utf-8")
        try:
            for path in parts:
                again(partial(filesystem.put_file, str(path), f"{root}/{path.name}"))
            for name in self._there() & copied - names:
                again(partial(filesystem.rm_file, f"{root}/{name}"))
            again(partial(filesystem.rm_file, f"{root}/{_MARK}"))
        except OSError as error:
            raise MissingDataError(
                f"Rows cannot be copied to {self.place} ({error}). They are in {self.folder}, and the same command "
                "copies them."
            ) from error

    def _refuse_others(self) -> None:
        """Refuse a place with another scan's mark or rows."""
        mark = self._mark()
        if mark is not None and self._token() not in mark:
            raise RecipeError(
                f"{_MARK} in {self.place} is another scan's ({' '.join(mark.split())[:120]!r}): choose another place, "
                f"or, if that scan will never go on, delete {_MARK}."
            )
        others = self._there() - self._copied()
        if self._copied_list.exists():
            # Other tables may have come beside our rows; they stay there.
            others = {name for name in others if ledger.is_part(name)}
        if others:
            raise RecipeError(
                f"{self.place} holds rows of another scan, or of one on another machine ({min(others)}): choose "
                "another place, or delete them."
            )

    def _mark(self) -> str | None:
        """Read the mark; None: there is none."""
        filesystem, root = self._behind()
        try:
            return str(again(partial(filesystem.cat_file, f"{root}/{_MARK}")), "utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MissingDataError(f"{self.place} cannot be read ({error}).") from error

    def _token(self) -> str:
        """Return what tells the scan in this folder from all others, made when it is first asked for."""
        place = self.folder / "_ledger" / "token"
        if not place.exists():
            with complete_or_absent(place) as unfinished:
                unfinished.write_text(secrets.token_hex(16), "utf-8")
        return place.read_text("utf-8")

    def _copied(self) -> set[str]:
        """Name the parts that this scan has copied, or begun to."""
        if not self._copied_list.exists():
            return set()
        names = self._copied_list.read_text("utf-8").split()
        # Earlier versions left an empty file.
        return set(names) or {path.name for path, _ in ledger.parts_in(self.folder)}

    @property
    def _copied_list(self) -> Path:
        return self.folder / "_ledger" / "copied"

    def _behind(self) -> tuple[Any, str]:
        """Return the file system of the URL, and the folder in it."""
        return filesystem_of(self.place.rstrip("/"))

    def _there(self) -> set[str]:
        """Name the tables behind the URL."""
        filesystem, root = self._behind()
        filesystem.invalidate_cache(root)
        try:
            found = again(partial(filesystem.ls, root, detail=False))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise MissingDataError(f"{self.place} cannot be listed ({error}).") from error
        names = (name.rstrip("/").rpartition("/")[2] for name in found)
        return {name for name in names if name.endswith(".parquet")}
