"""A folder of made pictures: claimed by one plan, each file whole or absent, so that an interrupted run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from gammascope import settings
from gammascope.data.manifest import write_manifest
from gammascope.errors import GammascopeError, MissingDataError, RecipeError
from gammascope.files import complete_or_absent
from gammascope.imaging import codecs
from gammascope.sample import Entry, Image, Mask

MANIFEST: Final = "manifest.csv"
PLAN: Final = "plan.json"
SUFFIXES: Final = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}

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
    """
    entries: list[Entry] = []
    broken: list[tuple[Path, str]] = []
    kept = 0
    for done, (photo, job) in enumerate(jobs, start=1):
        try:
            for product in make(job):
                entries.append(product.entry)
                kept += product.kept
        except GammascopeError as error:
            broken.append((photo, str(error)))
        progress(done, len(jobs))
    if not entries:
        path, reason = broken[0]
        raise MissingDataError(f"{nothing}; the first, {path}: {reason}")
    write_manifest(entries, folder / MANIFEST)
    return Edits(tuple(entries), tuple(broken), kept)


def claim(folder: Path, plan: Any, defaults: Any = None) -> None:
    """Write a plan into a folder; refuse a folder that holds another one's pictures.

    Args:
        folder: Made if it is not there.
        plan: A dataclass.
        defaults: What an earlier version, which knew fewer settings, would have said of the others.

    Raises:
        RecipeError: If the folder holds pictures of another plan.
    """
    wanted = settings.plain(plan)
    place = folder / PLAN
    if place.is_file():
        known = {} if defaults is None else settings.plain(defaults)
        if known | json.loads(place.read_text("utf-8")) != wanted:
            raise RecipeError(
                f"{folder} holds pictures made in another way ({PLAN}): choose another folder."
            )
        return
    with complete_or_absent(place) as unfinished:
        unfinished.write_text(json.dumps(wanted, indent=1) + "\n", "utf-8")


def cut_square(
    image: UInt8[np.ndarray, "h w 3"], side: int, name: str
) -> UInt8[np.ndarray, "side side 3"]:
    """Reduce a photo and cut the square in its middle.

    Raises:
        MissingDataError: If it is smaller.
    """
    shorter = min(image.shape[:2])
    if shorter < side:
        raise MissingDataError(f"{name}: its shorter side is {shorter} px, {side} px are needed.")
    return middle(codecs.rescale(image, side / shorter), side)


def middle(array: np.ndarray, side: int) -> np.ndarray:
    """Cut the square in the middle of an image or a mask that is no smaller."""
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
