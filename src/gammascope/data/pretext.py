"""Views of photos for pretext tasks: what their cameras wrote, and what a method changes in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gammascope.data.drawn import Drawn, crop_start, squeezed
from gammascope.data.pictures import Pictures
from gammascope.errors import MissingDataError
from gammascope.imaging.views import Fit, crop_at
from gammascope.sample import Entry, Image, Label

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
