"""What a detector is shown in each column of an evaluation, and how to make fakes' files like reals'.

Real photographs are nearly always JPEG files and most fakes are not, so that a detector may reach any
number by the traces of JPEG alone. Three columns say how much of a number that is: images as they
are (``AsIs``); fakes re-encoded as the reals of the same set are (``FakesAligned``); and everything
re-encoded once (``Recoded``).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gammascope.errors import MissingDataError, UndecodableImageError
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding, Subsampling
from gammascope.imaging.decode import content_of
from gammascope.sample import Entry, Image, Label, Sample

_HEADER_BYTES = 2**18  # enough for nearly any header; the whole file is read where it is not

# What we can write for what files may hold: the nearest loss of colour. None is a grey photo.
_WRITABLE: Mapping[str | None, Subsampling] = {
    "4:4:4": "4:4:4",
    "4:2:2": "4:2:2",
    "4:4:0": "4:2:2",
    "4:2:0": "4:2:0",
    "4:1:1": "4:2:0",
    "4:1:0": "4:2:0",
    None: "4:2:0",
}


@dataclass(frozen=True, slots=True)
class Recoded:
    """All images, real and fake, re-encoded once.

    Attributes:
        encoding: The last encoder of every image.
    """

    encoding: Encoding

    @property
    def definition(self) -> Mapping[str, Any]:
        """The encoding."""
        return {"change": "all_recoded", "encoding": _spelt(self.encoding)}

    def __call__(self, sample: Sample) -> Sample:
        """Return the image after the encoder.

        Raises:
            MissingDataError: If it is too large for the format.
        """
        return replace(sample, image=_reencoded(sample, self.encoding))


@dataclass(frozen=True, slots=True)
class FakesAligned:
    """Fakes re-encoded as the real images of the same set are; reals are not touched.

    Each fake gets one JPEG encoding, whose quality and chroma subsampling are those of one of the
    reals, drawn at random; where that real is no JPEG file, the fake stays as it is. The draw
    depends on the fake's pixels alone: not on its name, its place in the list or other images.

    That a fake was never a JPEG file then gives nothing away. What it does not remove: an earlier
    compression of the fake under the new one; quantisation tables of cameras, whose quality is the
    nearest of libjpeg's; traces of lossy WebP in reals; sizes, resampling and content.

    Attributes:
        encodings: How many reals have each encoding; None: no JPEG.
    """

    encodings: tuple[tuple[Encoding | None, int], ...]

    @classmethod
    def to_reals_of(cls, entries: Iterable[Entry]) -> FakesAligned:
        """Count the encodings of the real files among some; only their headers are read.

        Raises:
            MissingDataError: If no real file can be read.
        """
        paths = (entry.path for entry in entries if entry.label is Label.REAL)
        return cls.to_files(head for path in paths for head in _heads_of(path))

    @classmethod
    def to_files(cls, contents: Iterable[bytes]) -> FakesAligned:
        """Count the encodings of the contents of real files.

        Raises:
            MissingDataError: If there is none.
        """
        counts = Counter(_encoding_of(data) for data in contents if data)
        if not counts:
            raise MissingDataError("No real image to align the fakes to.")
        return cls(tuple(sorted(counts.items(), key=lambda item: _spelt(item[0]))))

    @property
    def definition(self) -> Mapping[str, Any]:
        """The reals' encodings, with how many have each."""
        known = {_spelt(encoding): count for encoding, count in self.encodings}
        return {"change": "fakes_aligned", "encodings_of_reals": known}

    def drawn(self, image: Image) -> Encoding | None:
        """Return the encoding that a fake with these pixels gets."""
        rng = np.random.default_rng(zlib.crc32(image.tobytes()))
        steps = np.cumsum([count for _, count in self.encodings])
        return self.encodings[int(np.searchsorted(steps, rng.integers(steps[-1]), "right"))][0]

    def __call__(self, sample: Sample) -> Sample:
        """Return a fake re-encoded, and a real as it is.

        Raises:
            MissingDataError: If a fake is too large for JPEG.
        """
        if sample.entry.label is Label.REAL:
            return sample
        encoding = self.drawn(sample.image)
        if encoding is None:
            return sample
        return replace(sample, image=_reencoded(sample, encoding))


def _heads_of(path: Path) -> Iterator[bytes]:
    """Yield what says a file's encoding; nothing if it cannot be read."""
    try:
        if not path.is_file():  # in an archive or a table
            yield content_of(path)
            return
        with path.open("rb") as file:
            data = file.read(_HEADER_BYTES)
            if data[:2] == b"\xff\xd8" and codecs.jpeg_quality(data) is None:
                data += file.read()
    except (OSError, UndecodableImageError):
        return
    yield data


def _encoding_of(data: bytes) -> Encoding | None:
    """Return a file's JPEG encoding; None if it is no JPEG."""
    quality = codecs.jpeg_quality(data)
    if quality is None:
        return None
    return Encoding("jpeg", quality, _WRITABLE[codecs.jpeg_subsampling(data)])


def _reencoded(sample: Sample, encoding: Encoding) -> Image:
    try:
        return codecs.reencode(sample.image, encoding)
    except ValueError as error:  # larger than the format can hold
        raise MissingDataError(f"{sample.entry.path.name}: {error}") from error


def _spelt(encoding: Encoding | None) -> str:
    if encoding is None:
        return "none"
    chroma = f":{encoding.subsampling}" if encoding.format == "jpeg" else ""
    return f"{encoding.format}:{encoding.quality:03d}{chroma}"
