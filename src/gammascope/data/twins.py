"""Twins: regenerated copies of photos, aligned pixel by pixel, made once and reused by training.

A twin has its photo's content, size and composition, so nothing but a decoder's traces tells the two apart. Pasted
inside a mask, it is an inpainting without a visible seam; taken whole, a fake without a content bias.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from gammascope.errors import UndecodableImageError
from gammascope.generation.autoencoder import Autoencoder, Precision, round_trip
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Image, Label


@dataclass(frozen=True, slots=True)
class TwinLaw:
    """How a photo is regenerated; drawn anew for each, so that no single setting is learnt.

    Attributes:
        rescaled: Share of twins made at another resolution and brought back.
        scale: Range of that resolution's factor.
        noised: Share of twins with noise in the latent.
        latent_noise: Range of its standard deviation, in latent standard deviations.
        half_precision: Share of twins computed in bfloat16.
    """

    rescaled: float = 0.4
    scale: tuple[float, float] = (0.75, 1.5)
    noised: float = 0.4
    latent_noise: tuple[float, float] = (0.02, 0.25)
    half_precision: float = 0.5

    def __call__(self, photo: Image, autoencoder: Autoencoder, rng: np.random.Generator) -> Image:
        """Return a twin of the photo, of its size."""
        scale = rng.uniform(*self.scale) if rng.random() < self.rescaled else 1.0
        noise = rng.uniform(*self.latent_noise) if rng.random() < self.noised else 0.0
        dtype: Precision = "bfloat16" if rng.random() < self.half_precision else "float32"
        return round_trip(photo, autoencoder, scale=scale, latent_noise=noise, dtype=dtype, rng=rng)


def make_twins(
    photos: Sequence[Entry],
    autoencoder: Autoencoder,
    folder: Path,
    *,
    generator: str,
    law: TwinLaw | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[Entry]:
    """Write a twin of every photo as PNG; those already there are kept, so an interrupted run goes on.

    Args:
        photos: Authentic entries; a broken file is left out.
        autoencoder: What regenerates.
        folder: Where twins go, as ``<source>/<name of the photo>.png``.
        generator: Name written into the entries.
        law: How; each photo's draw depends on its file name alone.
        progress: Called after each photo.

    Returns:
        One entry per twin, with ``host_path`` naming its photo.
    """
    law = law or TwinLaw()
    twins, owner = [], dict[Path, Path]()
    for photo in photos:
        path = folder / (photo.source or "unknown") / f"{photo.path.stem}.png"
        if owner.setdefault(path, photo.path) != photo.path:  # two folders, one file name
            path = path.with_stem(f"{path.stem}-{zlib.crc32(str(photo.path).encode()):08x}")
        try:
            if not path.exists():
                rng = np.random.default_rng(zlib.crc32(photo.path.name.encode()))
                _write(law(decode(photo.path).image, autoencoder, rng), path)
        except UndecodableImageError:
            continue
        finally:
            progress()
        twins.append(
            Entry(
                path=path,
                label=Label.FAKE,
                generator=generator,
                source=photo.source,
                split=photo.split,
                host_path=photo.path,
                panels=photo.panels,
            )
        )
    return twins


def _write(image: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    PIL.Image.fromarray(image).save(part, "PNG", compress_level=2)
    part.replace(path)
