"""A folder of made pictures: claimed by one plan, each file whole or absent, so that an interrupted run can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from gammascope import settings
from gammascope.errors import MissingDataError, RecipeError
from gammascope.files import complete_or_absent
from gammascope.imaging import codecs
from gammascope.sample import Image, Mask

MANIFEST: Final = "manifest.csv"
PLAN: Final = "plan.json"
SUFFIXES: Final = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}


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
