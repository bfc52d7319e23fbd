"""Camera settings of photos, from tables of EXIF tags, as numbers; and views of photos for pretext tasks.

A pretext task predicts what a photo's camera wrote, or what a method changed in a view.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gammascope.data.drawn import Drawn, crop_start, squeezed
from gammascope.data.pictures import Pictures
from gammascope.data.text_tables import dictionaries
from gammascope.errors import MissingDataError
from gammascope.imaging.views import Fit, crop_at
from gammascope.sample import Entry, Image, Label

MAKES = (
    "nikon",
    "apple",
    "fujifilm",
    "canon",
    "samsung",
    "sony",
    "panasonic",
    "nokia",
    "pentax",
)
"""Makers by number; any other is ``len(MAKES)``. Named at the start of the tag in many spellings."""

_BESIDE_TAGS = {"path", "split"}


def read_camera_tables(paths: Iterable[Path]) -> dict[Path, dict[str, float]]:
    """Read what the cameras wrote, by image.

    A table is a CSV file with a column ``path``, relative to the table's folder, and one column for each EXIF tag by
    its standard name (``FNumber``, ``ISOSpeedRatings``, ...). Numbers are taken as they are. ``Make`` becomes a number
    of ``MAKES``, ``Model`` its rank by frequency in all tables together (0 the most frequent). What is empty or no
    number is left out: not known.

    Raises:
        MissingDataError: If a table is not there, cannot be read, has no column ``path``, or holds no setting at all.
    """
    texts: dict[Path, Mapping[str, str]] = {}
    for path in paths:
        texts |= _rows(path)
    models = Counter(row["Model"] for row in texts.values() if row.get("Model"))
    # Equally frequent ones by name, so that the order of rows does not matter.
    ranked = sorted(models, key=lambda model: (-models[model], model))
    rank = {model: index for index, model in enumerate(ranked)}
    known = {image: _numbers(row, rank) for image, row in texts.items()}
    return {image: tags for image, tags in known.items() if tags}


def _rows(path: Path) -> dict[Path, Mapping[str, str]]:
    names, found = dictionaries(path)
    columns, rows = set(names), [{k: v.strip() for k, v in row.items()} for row in found]
    if "path" not in columns or not columns - _BESIDE_TAGS:
        raise MissingDataError(
            f"{path} has the columns {', '.join(sorted(columns)) or 'none'}: expected path and EXIF tags."
        )
    if not rows:
        raise MissingDataError(f"{path} has a header and no rows: it describes no image.")
    return {
        (path.parent / row["path"]).resolve(): {
            tag: text for tag, text in row.items() if tag not in _BESIDE_TAGS
        }
        for row in rows
    }


def _numbers(row: Mapping[str, str], model_rank: Mapping[str, int]) -> dict[str, float]:
    values: dict[str, float] = {}
    for tag, text in row.items():
        if tag == "Make" and text:
            values[tag] = float(_make(text))
        elif tag == "Model" and text:
            values[tag] = float(model_rank[text])
        else:
            value = _number(text)
            if math.isfinite(value):
                values[tag] = value
    return values


def _make(text: str) -> int:
    starts = [index for index, make in enumerate(MAKES) if text.lower().startswith(make)]
    return starts[0] if starts else len(MAKES)


def _number(text: str) -> float:
    """Read "2.8" or "1/200"; anything else is not known."""
    above, _, below = text.partition("/")
    try:
        return float(above) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError):
        return math.nan


Change: TypeAlias = Callable[[Image, np.random.Generator], tuple[Image, Mapping[str, float]]]
"""Changes a view, and says by tags what it changed."""


class PretextStream:
    """An endless, reproducible sequence of views of photos with camera settings, in native pixels and as they are.

    Nothing is encoded anew, and nothing resized unless the detector's ``fit`` is "resize": the settings show in noise,
    demosaicing and compression. View number ``n`` depends on the seed and ``n`` alone.

    Args:
        entries: Photos and others; only photos with settings are drawn.
        pictures: Where decoded images come from.
        size: Side of a view, pixels.
        settings: By image, as ``camera.read_camera_tables`` returns them.
        change: What a method changes in a view before it is seen; None: nothing.
        fit: "resize" squeezes the whole photo; else a view lies at a random place, mirrored where the photo is smaller.
        seed: Of all draws.

    Raises:
        MissingDataError: If no photo has settings.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        entries: Sequence[Entry],
        pictures: Pictures,
        size: int,
        settings: Mapping[Path, Mapping[str, float]],
        *,
        change: Change | None = None,
        fit: Fit = "tiles",
        seed: int = 0,
    ) -> None:
        self.change, self.fit = change, fit
        self.pictures, self.size, self.settings, self.seed = pictures, size, settings, seed
        self.photos = [
            entry
            for entry in entries
            if entry.label is Label.REAL and entry.path.resolve() in settings
        ]
        if not self.photos:
            raise MissingDataError(
                f"None of {len(entries)} images is a photo with camera settings: do the tables and the manifest name "
                "the same files?"
            )

    def __getitem__(self, index: int) -> Drawn:
        """Draw view number ``index``, 0 and up."""
        rng = np.random.default_rng((self.seed, index))
        entry = self.photos[int(rng.integers(len(self.photos)))]
        image = self.pictures.image(entry.path)
        if self.fit == "resize":
            view = squeezed(image, self.size)
        else:
            top, left = (crop_start(extent, self.size, rng) for extent in image.shape[:2])
            view = crop_at(image, left, top, self.size)
        nowhere = np.zeros((self.size, self.size), np.bool_)
        tags = dict(self.settings[entry.path.resolve()])
        if self.change is not None:
            view, changed = self.change(view, rng)
            tags |= changed
        return Drawn(view, nowhere, nowhere.copy(), "authentic", entry.source or "", tags)
