"""A data set's defects, each file read once: broken, misnamed, duplicated files, leaks and label conflicts.

``examine`` reads every file once; everything else is a pure function of what it returns, and gives the same whatever
the order of the files.

Look-alikes are found by a small fingerprint of each picture, and by a search that never compares all with all.
Two pictures look alike if one could be the other after re-encoding, resizing, a slight crop or a small retouch.
Mirrored, turned or strongly cropped copies are not found.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Float, Int, UInt8, UInt64

from gammascope.errors import GammascopeError, MissingDataError
from gammascope.imaging.codecs import jpeg_subsampling
from gammascope.imaging.decode import Limits, decode, named_format
from gammascope.imaging.headers import traits
from gammascope.sample import Entry, Image, Label

RADIUS = 7
"""Bits of the hash that may differ. Of photos re-encoded at quality 30 and up or resized by 0.3 to 1.5, 98 % stay
within it; of 3.8 million pairs of different pictures, two did."""

COPY_RADIUS = 2
"""The same where no thumbnail confirms it. Of 300 pictures 99.7 % stay within it at JPEG quality 30 and at half
their size, 97 % at 0.3 of it; of 947,376 pairs of 1,377 different pictures, none is."""

MAX_DIFFERENCE = 16.0
"""Root mean square of the thumbnails' difference, grey levels. Copies as above stay below 6, a crop of 2 % at 10 (half
of them); the pairs that only share a composition begin at 24."""

_SIDE = 32  # pixels of the square that the cosine transform sees
_LOW = 8  # its lowest frequencies along each axis
_ENOUGH = 512  # of its shorter side; half of them move a bit of the hash now and then
_ROUNDING = 1e-6
_THUMBNAIL = 16
_PARTS = 4  # of 16 bits each
_PART_BITS = 16
_PAIRS_AT_ONCE = 2_000_000

_Pairs = Int[np.ndarray, "p 2"]


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture looks, in 800 bytes.

    Attributes:
        hash: Signs of the 63 lowest frequencies of its lightness, a bit each.
        thumbnail: Its pixels at 16 x 16, 768 bytes.
    """

    hash: int
    thumbnail: bytes


def look_of(image: Image) -> Look:
    """Return the fingerprint of a picture, stretched to a square."""
    picture = PIL.Image.fromarray(image)
    thumbnail = picture.resize((_THUMBNAIL, _THUMBNAIL), PIL.Image.Resampling.BOX)
    return Look(hash_of(image), thumbnail.tobytes())


def hash_of(image: Image) -> int:
    """Return the signs of the 63 lowest frequencies of a picture's lightness, squared; even, below 2**64.

    Of large pictures it reads every second pixel, or fewer: 3 CPU-ms at twelve megapixels instead of 50.
    """
    step = max(1, min(image.shape[:2]) // _ENOUGH)
    grey = PIL.Image.fromarray(np.ascontiguousarray(image[::step, ::step])).convert("L")
    square = grey.resize((_SIDE, _SIDE), PIL.Image.Resampling.BOX)
    lightness = np.asarray(square, dtype=np.float64)
    waves = _COSINES @ lightness @ _COSINES.T
    # The first is the mean: brightness is no feature. What rounding leaves of a frequency that is not there is none.
    signs = waves.ravel()[1:] > _ROUNDING
    return int.from_bytes(np.packbits(signs).tobytes(), "big")


def look_alikes(looks: Sequence[Look]) -> _Pairs:
    """Return index pairs (i < j, sorted) that join all pictures that look alike.

    Of those that look the same, each is paired with the next, and the first with what else is alike: so many blank
    pictures, masks or frames of a fixed camera are as many pairs, not their square.
    """
    if not looks:
        return np.empty((0, 2), dtype=np.int64)
    places: dict[Look, list[int]] = defaultdict(list)
    for number, look in enumerate(looks):
        places[look].append(number)
    first = np.array([numbers[0] for numbers in places.values()])
    same = [pair for numbers in places.values() for pair in pairwise(numbers)]
    hashes = np.array([look.hash for look in places], dtype=np.uint64)
    pixels = np.frombuffer(b"".join(look.thumbnail for look in places), dtype=np.uint8)
    thumbnails = pixels.reshape(len(places), -1)
    pairs = near_hashes(hashes)
    alike = [
        first[block[_difference(thumbnails, block) < MAX_DIFFERENCE]]
        for block in np.array_split(pairs, len(pairs) // 10_000 + 1)
    ]
    return np.unique(np.concatenate([*alike, np.array(same, np.int64).reshape(-1, 2)]), axis=0)


def groups_of_copies(hashes: UInt64[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return for each hash the number of its group, from 0 on: members differ in at most COPY_RADIUS bits.

    They may be as near to each other only over others between them. What looks like nothing else is a group of its own.
    """
    different, place = np.unique(hashes, return_inverse=True)
    pairs = near_hashes(different, COPY_RADIUS)
    near, ends = np.unique(pairs, return_inverse=True)
    group = np.arange(len(different))
    for members in _components(len(near), ends.reshape(-1, 2)):
        group[near[members]] = near[members[0]]
    return np.unique(group[place], return_inverse=True)[1]


def near_hashes(hashes: UInt64[np.ndarray, " n"], radius: int = RADIUS) -> _Pairs:
    """Return all index pairs (i < j, sorted) whose hashes differ in at most ``radius`` bits, 0 to 7.

    Nothing is missed: of four parts of 16 bits, at least one then differs in at most one bit (in none up to a radius
    of three), so that it is enough to look up each part as it is and with each bit turned. Time and memory grow with
    the number of hashes and of pairs that agree on a part, not with all pairs.

    Source: arXiv:1307.2982 (multi-index hashing), section 2.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    bits = () if radius < _PARTS else tuple(1 << bit for bit in range(_PART_BITS))
    for part in range(_PARTS):
        keys = (hashes >> np.uint64(part * _PART_BITS)).astype(np.uint16)
        for turned in (0, *bits):
            for pairs in _with_keys(keys, np.uint16(turned)):
                apart = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
                found.append(pairs[apart <= radius])
    return np.unique(np.concatenate(found), axis=0)


def _with_keys(keys: Int[np.ndarray, " n"] | np.ndarray, turned: np.uint16) -> Iterator[_Pairs]:
    """Yield the pairs i < j with keys[i] ^ turned == keys[j], in blocks that fit into memory."""
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], np.arange(2**_PART_BITS + 1))
    wanted = (keys ^ turned).astype(np.int64)
    first, number = starts[wanted], starts[wanted + 1] - starts[wanted]
    block = np.cumsum(number) // _PAIRS_AT_ONCE
    for rows in np.split(np.arange(len(keys)), np.flatnonzero(np.diff(block)) + 1):
        left = np.repeat(rows, number[rows])
        within = np.arange(len(left)) - np.repeat(
            np.cumsum(number[rows]) - number[rows], number[rows]
        )
        right = order[np.repeat(first[rows], number[rows]) + within]
        once = left < right
        yield np.stack([left[once], right[once]], axis=1)


def _difference(thumbnails: UInt8[np.ndarray, "n k"], pairs: _Pairs) -> Float[np.ndarray, " p"]:
    left, right = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))
    return np.asarray(np.sqrt(((left - right) ** 2).mean(axis=1)), dtype=np.float64)


def _cosines() -> Float[np.ndarray, "low side"]:
    """Return the lowest rows of the cosine transform (DCT-II); their scale does not matter for signs."""
    frequency, place = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    return np.cos(np.pi * (2 * place + 1) * frequency / (2 * _SIDE))


_COSINES = _cosines()


WORKERS = min(4, os.cpu_count() or 1)
"""Threads that decode at once: decoders run beside each other, and each holds a whole picture."""


class Fault(StrEnum):
    """Why a file has no pixels."""

    MISSING = "missing"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    """Broken, no image, larger than allowed, or of a format that needs an extra: its reason says which."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A file without pixels.

    Attributes:
        entry: Its row.
        fault: What is wrong in a word.
        reason: What is wrong in a line.
    """

    entry: Entry
    fault: Fault
    reason: str


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that decodes, and what can be told of it: about 2 kB, whatever the picture's size.

    Attributes:
        entry: Its row.
        sha256: Of the whole file, hexadecimal.
        format: What the content is, as ``decode`` tells it.
        width: Upright, pixels.
        height: Upright, pixels.
        file_bytes: Size of the file.
        jpeg_quality: IJG quality 1..100; None if this is no JPEG.
        subsampling: Chroma subsampling of a JPEG; None if it has none.
        traits: Metadata and encoders' marks, of ``headers.TRAITS``.
        look: For finding look-alikes.
    """

    entry: Entry
    sha256: str
    format: str
    width: int
    height: int
    file_bytes: int
    jpeg_quality: int | None
    subsampling: str | None
    traits: frozenset[str]
    look: Look

    @property
    def misnamed(self) -> bool:
        """Whether the file's ending promises another format."""
        return named_format(self.entry.path) not in {None, self.format}

    @property
    def derived(self) -> bool:
        """Whether it was made from a photo, so that it may well look like one: a twin or a manipulated photo."""
        return self.entry.host_path is not None or self.entry.kind is not None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Files that show the same picture.

    Attributes:
        files: Two or more, sorted by path.
    """

    files: tuple[Examined, ...]

    @property
    def identical(self) -> bool:
        """Whether all are the same byte for byte."""
        return len({file.sha256 for file in self.files}) == 1

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits the picture is in, sorted."""
        return tuple(sorted({file.entry.split for file in self.files}))

    @property
    def leaks(self) -> bool:
        """Whether the picture is in several splits; a photo and an edit of it leak as well."""
        return len(self.splits) > 1

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels the picture has, sorted."""
        return tuple(sorted({file.entry.label for file in self.files}))

    @property
    def conflicts(self) -> bool:
        """Whether a label must be wrong.

        The same bytes under both labels always conflict. Look-alikes do unless the fakes among them were made from
        photos, which their rows say by naming a host or a kind.
        """
        labels_of = defaultdict(set)
        for file in self.files:
            labels_of[file.sha256].add(file.entry.label)
        unexplained = {file.entry.label for file in self.files if not file.derived}
        return len(unexplained) > 1 or any(len(labels) > 1 for labels in labels_of.values())


@dataclass(frozen=True, slots=True)
class Audit:
    """All that was found; every list is sorted by path.

    Attributes:
        examined: Files that decode.
        broken: Files that do not.
        duplicates: Groups of files that show the same picture; no file is in two of them.
    """

    examined: tuple[Examined, ...]
    broken: tuple[Broken, ...]
    duplicates: tuple[Duplicates, ...]

    @property
    def misnamed(self) -> tuple[Examined, ...]:
        """Files whose ending promises another format."""
        return tuple(file for file in self.examined if file.misnamed)

    @property
    def leaks(self) -> tuple[Duplicates, ...]:
        """Pictures that are in several splits."""
        return tuple(group for group in self.duplicates if group.leaks)

    @property
    def conflicts(self) -> tuple[Duplicates, ...]:
        """Pictures of which a label must be wrong."""
        return tuple(group for group in self.duplicates if group.conflicts)


def audit(files: Iterable[Examined | Broken]) -> Audit:
    """Gather everything that is wrong with a data set; the order of the files does not matter."""
    ordered = sorted(files, key=lambda file: (file.entry.path, file.entry.split, file.entry.label))
    examined = [file for file in ordered if isinstance(file, Examined)]
    broken = tuple(file for file in ordered if isinstance(file, Broken))
    return Audit(tuple(examined), broken, tuple(duplicates(examined)))


def duplicates(files: Sequence[Examined]) -> list[Duplicates]:
    """Group the files that show the same picture: equal bytes, and whatever looks like one of the group."""
    copies = defaultdict(list)
    for file in files:
        copies[file.sha256].append(file)
    distinct = sorted(copies)
    pairs = look_alikes([copies[sha256][0].look for sha256 in distinct])
    groups = []
    for members in _components(len(distinct), pairs):
        found = [file for at in members for file in copies[distinct[at]]]
        if len(found) > 1:
            found.sort(key=lambda file: (file.entry.path, file.entry.split, file.entry.label))
            groups.append(Duplicates(tuple(found)))
    return sorted(groups, key=lambda group: group.files[0].entry.path)


def examine(
    entries: Sequence[Entry],
    *,
    limits: Limits | None = None,
    workers: int = WORKERS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Examined | Broken]:
    """Look at every file once, several at a time, in the order of the rows; a broken file gives a row like any other.

    Memory: as many decoded pictures as workers, and 2 kB a file.

    Args:
        entries: What to examine.
        limits: What a file may cost; None: the decoder's own limits.
        workers: Threads, 1 and up.
        progress: Called with (done, all) after each file.

    Raises:
        MissingDataError: If there are no entries.
    """
    if not entries:
        raise MissingDataError("No image to examine: the list of entries is empty.")
    found = []
    for done, file in enumerate(_in_order(entries, limits or Limits(), workers), start=1):
        found.append(file)
        if progress is not None:
            progress(done, len(entries))
    return found


def examine_one(entry: Entry, limits: Limits) -> Examined | Broken:
    """Decode a file and keep what can be told of it; no broken file raises."""
    path = entry.path
    try:
        decoded = decode(path, limits)
    except GammascopeError as error:
        return Broken(entry, _fault(path, str(error)), str(error))
    except MemoryError:
        return Broken(entry, Fault.UNREADABLE, f"{path.name}: not enough memory to decode it.")
    except OSError as error:  # it was there a moment ago
        return Broken(entry, Fault.UNREADABLE, f"{path.name}: {error.strerror or error}.")
    height, width = decoded.image.shape[:2]
    data = decoded.content
    return Examined(
        entry=entry,
        sha256=hashlib.sha256(data).hexdigest(),
        format=decoded.format,
        width=width,
        height=height,
        file_bytes=len(data),
        jpeg_quality=decoded.jpeg_quality,
        subsampling=jpeg_subsampling(data),
        traits=traits(data),
        look=look_of(decoded.image),
    )


def _in_order(
    entries: Sequence[Entry], limits: Limits, workers: int
) -> Generator[Examined | Broken, None, None]:
    """Yield results in the order of the entries, with little work queued: leaving early ends quickly."""
    waiting: deque[Future[Examined | Broken]] = deque()
    left = iter(entries)
    with ThreadPoolExecutor(workers, thread_name_prefix="examine") as threads:
        try:
            while True:
                for entry in left:
                    waiting.append(threads.submit(examine_one, entry, limits))
                    if len(waiting) >= 8 * workers:
                        break
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for examining in waiting:
                examining.cancel()


def _fault(path: Path, reason: str) -> Fault:
    try:
        size = path.stat().st_size
    except OSError:
        return Fault.MISSING
    if size == 0:
        return Fault.EMPTY
    # The decoder's own words, which start all its remarks of this kind.
    return Fault.TRUNCATED if ": truncated after " in reason else Fault.UNREADABLE


def _components(number: int, pairs: Int[np.ndarray, "p 2"]) -> list[list[int]]:
    """Group 0..number-1 so that paired ones are together; groups and members ascend."""
    parent = list(range(number))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    for left, right in pairs.tolist():
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    groups = defaultdict(list)
    for at in range(number):
        groups[root(at)].append(at)
    return list(groups.values())
