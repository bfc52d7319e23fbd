"""Decoded pictures, kept in memory up to a budget: training reads each of them many times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast, get_args

from gammascope.data.manifest import load_mask, load_sample
from gammascope.errors import MissingDataError, UndecodableImageError
from gammascope.imaging.codecs import Encoding, Subsampling, jpeg_subsampling
from gammascope.imaging.decode import Decoded, decode
from gammascope.sample import Entry, Image, Mask, Sample


class Pictures:
    """Decode on first use and remember, until the budget is spent; then decode each time.

    Nothing is evicted: draws are uniform, so whatever is kept is as useful as anything else, and worker processes
    forked after ``preload`` share the memory.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._images: dict[Path, Image] = {}
        self._samples: dict[Path, Sample] = {}
        self._saved_as: dict[Path, Encoding | None] = {}

    def image(self, path: Path) -> Image:
        """Return a decoded image; do not write to it.

        Raises:
            UndecodableImageError: If the file is broken.
        """
        held = self._images.get(path)
        if held is not None:
            return held
        decoded = decode(path)
        image = decoded.image
        self._saved_as[path] = _saved_as(decoded)
        if self.held_bytes + image.nbytes <= self.budget_bytes:
            self._images[path] = image
            self.held_bytes += image.nbytes
        return image

    def saved_as(self, path: Path) -> Encoding | None:
        """Return how a JPEG file was saved, its quality as ``codecs.jpeg_quality`` tells it; None: it is no JPEG.

        Raises:
            UndecodableImageError: If the file is broken.
        """
        if path not in self._saved_as:
            self.image(path)
        return self._saved_as[path]

    def sample(self, entry: Entry) -> Sample:
        """Return a decoded image with its masks; do not write to them.

        Raises:
            MissingDataError: If a mask is not there, is no mask, or has another size than the image.
            UndecodableImageError: If the image is broken.
        """
        held = self._samples.get(entry.path)
        if held is not None:
            return held
        sample = load_sample(entry, self.image(entry.path))
        masks = [mask for mask in (sample.generated, sample.edited) if mask is not None]
        size = sum(mask.nbytes for mask in masks)
        if entry.path in self._images and self.held_bytes + size <= self.budget_bytes:
            self._samples[entry.path] = sample
            self.held_bytes += size
        return sample

    def objects(self, entry: Entry) -> list[Mask]:
        """Read the masks of things in a picture, in its frame.

        Raises:
            MissingDataError: If a mask is not there, is no mask, or has another size than the image.
            UndecodableImageError: If the image is broken.
        """
        size = self.image(entry.path).shape[:2] if entry.object_paths else (0, 0)
        return [load_mask(path, (size[0], size[1])) for path in entry.object_paths]

    def keep_no_more(self) -> None:
        """Keep what is held, and decode all else each time."""
        self.budget_bytes = self.held_bytes

    def preload(
        self, paths: Iterable[Path], progress: Callable[[], None] = lambda: None
    ) -> list[tuple[Path, str]]:
        """Decode what fits; return broken files with the reason, so that they are left out and counted."""
        broken = []
        for path in paths:
            try:
                self.image(path)
            except UndecodableImageError as error:
                broken.append((path, str(error)))
            progress()
        return broken

    def preload_masks(self, entries: Iterable[Entry]) -> list[tuple[Path, str]]:
        """Read the masks of pictures; return those whose masks cannot be used, with the reason."""
        broken = []
        for entry in entries:
            try:
                if entry.kind is not None:
                    self.sample(entry)
                self.objects(entry)
            except (MissingDataError, UndecodableImageError) as error:
                broken.append((entry.path, str(error)))
        return broken


def _saved_as(decoded: Decoded) -> Encoding | None:
    if decoded.jpeg_quality is None:
        return None
    subsampling = jpeg_subsampling(decoded.content)
    if subsampling not in get_args(Subsampling):
        return Encoding("jpeg", decoded.jpeg_quality)
    return Encoding("jpeg", decoded.jpeg_quality, cast(Subsampling, subsampling))
