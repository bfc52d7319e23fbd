"""Twins: regenerated copies of photos, aligned pixel by pixel; made once (``edits``), reused by training.

A twin has its photo's content, size and composition, so nothing but a decoder's traces tells the two apart. Pasted
inside a mask, it is an inpainting without a visible seam; taken whole, a fake without a content bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gammascope.generation.autoencoder import Autoencoder, Precision, round_trip
from gammascope.sample import Image


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
