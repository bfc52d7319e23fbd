"""A folder of made pictures: claimed by one plan, each file whole or absent, so that an interrupted run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import PIL.Image
from jaxtyping import Bool, UInt8

from gammascope import settings
from gammascope.data.ledger import difference
from gammascope.data.manifest import write_manifest
from gammascope.errors import GammascopeError, MissingDataError, MissingExtraError, RecipeError
from gammascope.files import complete_or_absent
from gammascope.imaging import codecs
from gammascope.sample import Entry, Image, Mask

MANIFEST: Final = "manifest.csv"
PLAN: Final = "plan.json"
SUFFIXES: Final = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}

_SHA256 = "sha256"
_SHOWN = 12  # digits of a hash, in messages

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edits:
    """What was made.

    Attributes:
        entries: One per picture written, as in the manifest.
        broken: Photos that gave nothing or not all, with the reason.
        kept: How many pictures were there already.
    """

    entries: tuple[Entry, ...]
    broken: tuple[tuple[Path, str], ...]
    kept: int


class Product(NamedTuple):
    """A picture of a run.

    Attributes:
        entry: As the manifest names it.
        kept: Whether it was there already.
    """

    entry: Entry
    kept: bool


def make_each(
    jobs: Sequence[tuple[Path, T]],
    make: Callable[[T], Iterable[Product]],
    folder: Path,
    nothing: str,
    progress: Callable[[int, int], None],
) -> Edits:
    """Do one job after the other and write the manifest of what was made; what fails is noted and ends its job.

    Args:
        jobs: Each with the photo to name if it fails.
        make: Writes a job's pictures, if they are not there yet.
        folder: Gets ``manifest.csv``.
        nothing: Said if no picture could be made.
        progress: Called with (done, all) after each job.

    Raises:
        MissingDataError: If there is no picture; with the first reason.
        MissingExtraError: If a job needs a package that is not installed.
    """
    entries: list[Entry] = []
    broken: list[tuple[Path, str]] = []
    kept = 0
    for done, (photo, job) in enumerate(jobs, start=1):
        try:
            for product in make(job):
                entries.append(product.entry)
                kept += product.kept
        except MissingExtraError:
            raise  # without it no job can be done
        except GammascopeError as error:
            broken.append((photo, str(error)))
        progress(done, len(jobs))
    if not entries:
        path, reason = broken[0]
        raise MissingDataError(f"{nothing}; the first, {path}: {reason}")
    write_manifest(entries, folder / MANIFEST)
    return Edits(tuple(entries), tuple(broken), kept)


def claim(folder: Path, plan: Any, defaults: Any = None, **sha256: str) -> None:
    """Write a plan into a folder; refuse a folder that holds another one's pictures.

    Args:
        folder: Made if it is not there.
        plan: A dataclass.
        defaults: What an earlier version, which knew fewer settings, would have said of the others.
        **sha256: Of what the pictures are made of, by name; "" is left out. See ``data.identity``.

    Raises:
        RecipeError: If the folder holds pictures of another plan, or of something else; it names the first difference.
    """
    wanted = settings.plain(plan)
    hashes = {name: value for name, value in sha256.items() if value}
    place = folder / PLAN
    if not place.is_file():
        with complete_or_absent(place) as unfinished:
            unfinished.write_text(json.dumps(wanted | {_SHA256: hashes}, indent=1) + "\n", "utf-8")
        return
    known = {} if defaults is None else settings.plain(defaults)
    known |= json.loads(place.read_text("utf-8"))
    before = known.pop(_SHA256, {})
    differs = difference(known, wanted)
    for name, value in hashes.items():
        if not differs and before.get(name) != value:
            there = before.get(name, "unknown")[:_SHOWN]
            differs = f"not the same {name.replace('_', ' ')} (sha256 {there} there, {value[:_SHOWN]} here)"
    if differs:
        raise RecipeError(
            f"{folder} holds pictures made in another way ({PLAN}): {differs}. Choose another folder."
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """How photos are cut to size before anything is made of them, so that both classes have the same sizes.

    Attributes:
        largest_side: Larger photos are reduced to this longer side, pixels; None: never.
        square: Photos are reduced and cut to a square of this side, for a generator that knows no other; None: never.
    """

    largest_side: int | None = None
    square: int | None = None

    def scale(self, height: int, width: int) -> float:
        """Return the factor that a photo is reduced by, at most 1."""
        if self.square:
            return min(1.0, self.square / min(height, width))
        return min(1.0, (self.largest_side or max(height, width)) / max(height, width))

    def image(self, photo: Image, name: str) -> UInt8[np.ndarray, "rows columns 3"]:
        """Return a photo in this frame.

        Raises:
            MissingDataError: If it is smaller than the square.
        """
        height, width = photo.shape[:2]
        if self.square and min(height, width) < self.square:
            raise MissingDataError(
                f"{name}: its shorter side is {min(height, width)} px, {self.square} px are needed."
            )
        scale = self.scale(height, width)
        if scale < 1:
            photo = codecs.rescale(photo, scale)
        return _middle(photo, self.square) if self.square else photo

    def mask(self, mask: Mask) -> Bool[np.ndarray, "rows columns"]:
        """Return a mask of a photo in this frame."""
        scale = self.scale(*mask.shape)
        if scale < 1:
            mask = codecs.rescale_mask(mask, scale)
        return _middle(mask, self.square) if self.square else mask


def _middle(array: np.ndarray, side: int) -> np.ndarray:
    top, left = ((extent - side) // 2 for extent in array.shape[:2])
    return array[top : top + side, left : left + side].copy()


def write_picture(path: Path, image: Image, encoding: codecs.Encoding) -> None:
    """Write a picture.

    Raises:
        MissingDataError: If a side is longer than the format can hold.
    """
    try:
        data = codecs.encode(image, encoding)
    except ValueError as error:
        raise MissingDataError(f"{path.name}: {error}") from error
    with complete_or_absent(path) as unfinished:
        unfinished.write_bytes(data)


def write_mask(path: Path, mask: Mask) -> None:
    """Write a mask as a black and white PNG."""
    with complete_or_absent(path) as unfinished:
        PIL.Image.fromarray(mask).save(unfinished, "PNG")
