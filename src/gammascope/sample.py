"""What an image is, with its ground truth: on disk (Entry) and decoded (Sample)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

Image: TypeAlias = UInt8[np.ndarray, "h w 3"]
"""sRGB, upright, 0..255."""

Mask: TypeAlias = Bool[np.ndarray, "h w"]
"""True where the statement of the mask's name holds."""


class Label(IntEnum):
    """Ground truth of a whole image; fake is the positive class everywhere."""

    REAL = 0
    FAKE = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """How a picture was made, beyond who made its pixels.

    Attributes:
        policy: What decided to make it; "": a person.
        prompt: What the generator was asked for.
        seed: Of the plan.
        twin: Pictures of one twin show the same photo and went through the same processing.
        strength: Of an edit, 0..1; None: not known, or no edit.
        guided: Whether it was made against a detector.
        style: What the photo went through before anything else.
    """

    policy: str = ""
    prompt: str = ""
    seed: int | None = None
    twin: str = ""
    strength: float | None = None
    guided: bool = False
    style: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a manifest: where an image is and what is known about it. Listing decodes nothing.

    Attributes:
        path: The image file.
        label: REAL for photographs up to ordinary processing; FAKE for generated and manipulated images.
        generator: The model that made pixels ("sd-1.4"); None if no pixel was generated.
        kind: The manipulation ("inpainting", "copy_move", "splicing"); None if nothing was edited.
        source: The collection or camera the image comes from; splits are made by source, never by image.
        split: "train", "val", "test" or a benchmark's own name.
        generated_path: Mask file of generated pixels, where only a part is generated.
        edited_path: Mask file of edited pixels.
        host_path: The photo it was made from, same size and aligned pixel by pixel; None if there is none.
        panels: Pictures along each side of a collage: 2 for four pictures in one; a view never crosses their seams.
        object_paths: Mask files of objects, to choose natural regions for manipulations.
        origin: How it was made; None: not known, or a photo.
    """

    path: Path
    label: Label
    generator: str | None = None
    kind: str | None = None
    source: str | None = None
    split: str = "test"
    generated_path: Path | None = None
    edited_path: Path | None = None
    host_path: Path | None = None
    panels: int = 1
    object_paths: tuple[Path, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class KeptApart:
    """What training leaves for validation and calibration.

    Attributes:
        sources: Whole collections: photos, what was made of them, and generated images.
        generators: All images of these generators, whatever collection they are in.
    """

    sources: frozenset[str] = frozenset()
    generators: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is kept apart."""
        return bool(self.sources or self.generators)

    def holds(self, entry: Entry) -> bool:
        """Whether an image is kept apart."""
        return entry.source in self.sources or entry.generator in self.generators

    def absent(self, entries: Sequence[Entry]) -> Iterator[tuple[str, list[str], set[str]]]:
        """Yield "source" or "generator", the names of it that no image has, and those that images have."""
        for what, names, given in (
            ("source", self.sources, (entry.source for entry in entries)),
            ("generator", self.generators, (entry.generator for entry in entries)),
        ):
            known = {name for name in given if name}
            if names - known:
                yield what, sorted(names - known), known

    def shared(self, other: KeptApart) -> KeptApart:
        """Return what both keep apart by the same name."""
        return KeptApart(self.sources & other.sources, self.generators & other.generators)

    def __str__(self) -> str:
        """Name sources and generators, for messages."""
        return ", ".join([*sorted(self.sources), *sorted(self.generators)]) or "nothing"


@dataclass(frozen=True, slots=True)
class Sample:
    """One decoded image in its own frame, with its ground truth as a two-bit code per pixel.

    Attributes:
        entry: The row it comes from.
        image: Decoded pixels.
        generated: True where a generator wrote the pixel; None = unknown.
        edited: True where the pixel was not here in the host photo; None = unknown.
    """

    entry: Entry
    image: Image
    generated: Mask | None
    edited: Mask | None
