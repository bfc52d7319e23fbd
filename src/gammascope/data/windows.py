"""Views of pictures in remote shards, drawn through a window: only a few shards are open at a time.

The sequence of views is divided into windows. In each, a view is drawn as ``synthesis.Stream`` draws it, from the
entries of the shards that are open then and from all entries outside of shards; the next window exchanges one shard of
each kind. Which shards are open depends on the seed and the window's number alone, so view number ``n`` depends on the
seed and ``n`` alone as ever: resume, workers and processes stay exact.

``ShardCache`` keeps those few on this disk.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gammascope.data.drawn import Drawn
from gammascope.data.synthesis import Stream
from gammascope.errors import MissingDataError, RecipeError, UndecodableImageError
from gammascope.files import complete_or_absent
from gammascope.imaging import storage
from gammascope.imaging.storage import again, filesystem_of
from gammascope.sample import Entry, Label

_LOCK = ".lock"
_TOUCHED_S = 5.0  # a shard in use is marked as used no more often than that

Stamp: TypeAlias = tuple[tuple[int, int] | None, ...]
"""Which files lie there under some names: inode and time of change; None where there is none."""


class ShardCache:
    """A folder that holds shards of a remote one, up to a number of bytes; the least recently used ones make room.

    Any number of processes of one machine may share it: whoever fetches or removes is alone, and a shard appears whole
    or not at all. Shards at the source must not change under their names.

    Args:
        source: Folder of the shards, as a path or as a URL that fsspec understands.
        folder: Of the cache; each source gets a folder of its own in it.
        budget_bytes: Never more than this, shards on the way included.

    Raises:
        MissingExtraError: If the source needs a package that is not installed.
        MissingDataError: If the source is of no known kind.
        RecipeError: If the folder cannot be made.
    """

    def __init__(self, source: str, folder: Path, budget_bytes: int) -> None:
        filesystem_of(source)
        digest = hashlib.blake2b(source.rstrip("/").encode(), digest_size=8).hexdigest()
        self.source, self.budget_bytes = source.rstrip("/"), budget_bytes
        self.folder = folder.absolute() / digest
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(f"{folder} cannot be a cache: {error.strerror}.") from error

    def entry(self, entry: Entry, root: Path) -> Entry:
        """Let an entry whose picture is in a shard below ``root`` name its place in the cache instead.

        Raises:
            MissingDataError: If a shard is not below ``root``, a twin is not in its photo's shard, or a mask is not in
                its picture's.
        """
        path = self._place(entry.path, root)
        generated, edited, host = (
            place and self._place(place, root)
            for place in (entry.generated_path, entry.edited_path, entry.host_path)
        )
        things = tuple(self._place(place, root) for place in entry.object_paths)
        for mask in (generated, edited, *things):
            if mask and self.shard_of(mask) not in {None, self.shard_of(path)}:
                raise MissingDataError(
                    f"{entry.path} and its mask {mask.name} are in two shards: both must be at hand at once, so pack "
                    "them into one."
                )
        # Of a manipulated picture the photo is not read.
        if host and entry.kind is None and self.shard_of(host) not in {None, self.shard_of(path)}:
            raise MissingDataError(
                f"{entry.path} and the photo it was made from, {entry.host_path}, are in two shards: both must be at "
                "hand at once, so pack pairs into one shard."
            )
        moved = replace(entry, path=path, host_path=host, object_paths=things)
        return replace(moved, generated_path=generated, edited_path=edited)

    def shard_of(self, path: Path) -> str | None:
        """Return the name of the shard in which a picture is, below the source; None for one that is elsewhere."""
        if not path.is_relative_to(self.folder):
            return None
        shard = next(storage.called_archives(path), None)
        return shard.relative_to(self.folder).as_posix() if shard else None

    def hold(self, names: Collection[str]) -> Stamp:
        """Fetch those of some shards that are not there, and mark all as used.

        Returns:
            What ``stamp`` returns from now on, until another process needs the room.

        Raises:
            MissingDataError: If a shard cannot be fetched.
            RecipeError: If these shards alone are more than the budget.
        """
        missing = [name for name in names if not self._used(name)]
        if missing:
            with self._alone():
                for name in missing:
                    if not self._used(name):  # another process may have been quicker
                        self._fetch(name, names)
        return self.stamp(names)

    def stamp(self, names: Collection[str]) -> Stamp:
        """Tell which files lie there: another stamp means that a shard was removed in between, or fetched anew."""
        return tuple(_identity(self.folder / name) for name in names)

    def _place(self, path: Path, root: Path) -> Path:
        if next(storage.called_archives(path), None) is None:
            return path
        try:
            return self.folder / path.relative_to(os.path.normpath(root))
        except ValueError as error:
            raise MissingDataError(
                f"{path} is in a shard that is not below {root}, so its place below {self.source} is not known."
            ) from error

    def _used(self, name: str) -> bool:
        path = self.folder / name
        try:
            status = path.stat()
            if time.time() - status.st_atime > _TOUCHED_S:
                # The time of change stays: it tells whether headers that were read still hold.
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return False
        return True

    def _fetch(self, name: str, needed: Collection[str]) -> None:
        url = f"{self.source}/{name}"
        filesystem, place = filesystem_of(url)
        try:
            size = again(lambda: _size(filesystem, place))
            self._make_room(size, needed)
            with complete_or_absent(self.folder / name) as unfinished:
                again(lambda: _download(filesystem, place, unfinished, size))
        except OSError as error:
            problem = "it is not there" if isinstance(error, FileNotFoundError) else error
            raise MissingDataError(f"Shard {url} cannot be fetched: {problem}.") from error

    def _make_room(self, size: int, needed: Collection[str]) -> None:
        kept = {self.folder / name for name in needed}
        held, idle = size, []
        for path in self.folder.rglob("*"):
            if path.name.endswith(".part"):
                path.unlink()  # of a process that was killed, for we are alone
            elif path.is_file() and path.name != _LOCK:
                status = path.stat()
                held += status.st_size
                if path not in kept:
                    idle.append((status.st_atime_ns, path, status.st_size))
        for _, path, freed in sorted(idle):
            if held <= self.budget_bytes:
                return
            path.unlink()
            held -= freed
        if held > self.budget_bytes:
            raise RecipeError(
                f"The shards that are open at once are more than the {self.budget_bytes / 1e9:g} GB of the cache (they "
                f"reach {held / 1e9:.3g} GB): raise data.streaming.cache_gb, or lower data.streaming.shards."
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / _LOCK).open("a") as lock:
            try:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            except (
                ImportError,
                OSError,
            ):  # Windows, or a file system without locks: one process at a time, please
                pass
            yield


def _size(filesystem: Any, place: str) -> int:
    size: int | None = filesystem.size(place)
    if size is None:
        raise OSError("its size, which the cache must know, is not told")
    return size


def _download(filesystem: Any, place: str, to: Path, size: int) -> None:
    filesystem.get_file(place, str(to))
    held = to.stat().st_size
    if held != size:
        raise OSError(f"it broke off after {held} of {size} bytes")
    # Some file systems keep the time of the original, and the system's own clock ticks in milliseconds: a shard
    # that was removed and fetched again within one would look the same.
    now = time.time_ns()
    os.utime(to, ns=(now, now))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


_TRIES = 8  # draws in place of broken pictures; fetches of shards that others pushed out
_PAUSE_S = 0.05  # more before each further fetch; no view depends on it
_AT_HAND = 2  # windows whose streams are kept: workers are never all in one


class Windows:
    """An endless, reproducible sequence of training views from shards that are fetched when they are drawn from.

    Shards are of one kind if they hold the same of photos, generated images, twins and manipulated pictures. Of each
    kind ``shards`` are open at a time, in an order that is drawn anew for each pass (where passes meet, one may count
    twice); so whatever can be drawn from all shards can be drawn in every window. A picture that is broken is replaced
    by another draw.

    Args:
        entries: As ``ShardCache.entry`` returns them; without those that the streams leave out.
        cache: Holds the shards.
        make: Makes a stream of the entries that are at hand, of the same seed.
        shards: Of each kind, open at a time.
        views: In a window.
        seed: Of all draws; the one of the streams.

    Raises:
        MissingDataError: If a class is missing.
        RecipeError: If less than one shard, or one view, is asked for.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        cache: ShardCache,
        make: Callable[[Sequence[Entry]], Stream],
        *,
        shards: int,
        views: int,
        seed: int,
    ) -> None:
        if shards < 1 or views < 1:
            raise RecipeError(
                f"data.streaming: shards = {shards}, views = {views}: expected 1 or more."
            )
        self.entries, self.cache, self.make = entries, cache, make
        self.shards, self.views, self.seed = shards, views, seed
        self._places: dict[str | None, list[int]] = defaultdict(list)  # of entries, by shard
        for place, entry in enumerate(entries):
            self._places[cache.shard_of(entry.path)].append(place)
        self._kinds = self._by_kind()
        self._part: Callable[[Stream], Stream] | None = None
        self._opened: OrderedDict[int, tuple[list[str], Stream]] = OrderedDict()
        self._open(0)

    def __getitem__(self, index: int) -> Drawn:
        """Draw view number ``index``, 0 and up.

        Raises:
            MissingDataError: If a shard cannot be fetched.
            RecipeError: If the cache is too small.
            MissingDataError, UndecodableImageError: If picture after picture, or its mask, is broken.
        """
        names, stream = self._open(index // self.views)
        for tried in range(_TRIES):
            if tried:  # processes that push out each other's shards would go on doing so in step
                time.sleep(np.random.default_rng().uniform(0, tried * _PAUSE_S))
            stamp = self.cache.hold(names)
            for attempt in range(_TRIES):
                try:
                    return stream.numbered(index, attempt)
                except (MissingDataError, UndecodableImageError) as error:  # the former: a mask
                    if None in stamp or self.cache.stamp(names) != stamp:
                        break  # not broken, but pushed out by another process, perhaps before it was stamped
                    broken = error
            else:
                raise broken
        raise RecipeError(
            "Shards are removed from the cache while they are drawn from: raise data.streaming.cache_gb to twice what "
            "is open at once."
        )

    def authentic(self, *, disturbed: bool = True) -> Windows:
        """Return views of nothing but the photos, as ``Stream.authentic`` does."""
        return self._narrowed(methodcaller("authentic", disturbed=disturbed))

    def wholes(self) -> Windows:
        """Return reduced whole pictures, photos and generated ones half each, under the same law."""
        return self._narrowed(methodcaller("wholes"))

    def _narrowed(self, part: Callable[[Stream], Stream]) -> Windows:
        narrowed = copy.copy(self)
        narrowed._part, narrowed._opened = part, OrderedDict()
        return narrowed

    def open_in(self, window: int) -> list[str]:
        """Name the shards that are open in a window, sorted."""
        chosen: set[str] = set()
        for number, names in enumerate(self._kinds):
            if self.shards >= len(names):
                chosen.update(names)
                continue
            for place in range(window, window + self.shards):
                turn, position = divmod(place, len(names))
                # Four numbers, of which the last is not 0: no view starts its generator from the same.
                rng = np.random.default_rng((self.seed, turn, number, 1))
                chosen.add(names[int(rng.permutation(len(names))[position])])
        return sorted(chosen)

    def _open(self, window: int) -> tuple[list[str], Stream]:
        if window not in self._opened:
            names = self.open_in(window)
            places = sorted(place for name in (None, *names) for place in self._places[name])
            stream = self.make([self.entries[place] for place in places])
            self._opened[window] = names, self._part(stream) if self._part else stream
            while len(self._opened) > _AT_HAND:
                self._opened.popitem(last=False)
        return self._opened[window]

    def _by_kind(self) -> list[list[str]]:
        """Return the names of the shards by what they hold."""
        kinds: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, places in self._places.items():
            held = {_role(self.entries[place]) for place in places}
            if name is not None:
                kinds[tuple(sorted(held))].append(name)
        return [sorted(kinds[kind]) for kind in sorted(kinds)]


def _role(entry: Entry) -> str:
    if entry.label is Label.REAL:
        return "photos"
    if entry.kind is not None:
        return "made"
    return "twins" if entry.host_path else "generated"
