"""Train small autoencoders on photos, so that twins carry the traces of many decoders instead of one's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gammascope import settings
from gammascope.data.pictures import Pictures
from gammascope.errors import MissingDataError
from gammascope.files import complete_or_absent
from gammascope.generation.small_autoencoder import (
    FILE,
    METADATA,
    Bottleneck,
    Design,
    SmallAutoencoder,
    Upsampling,
)
from gammascope.imaging import codecs
from gammascope.imaging.views import crop_at
from gammascope.networks.frequency import BandEnergies
from gammascope.sample import Entry, Image

_LATENT_CHANNELS: Mapping[int, int] = {4: 4, 8: 16, 16: 32}
"""By stride: the further an autoencoder reduces, the more numbers a cell of its latent holds."""

DESIGNS: Mapping[str, Design] = {
    f"{bottleneck}-{stride}-{upsampling.removeprefix('pixel_')}": Design(
        stride, channels, upsampling, bottleneck
    )
    for bottleneck in get_args(Bottleneck)
    for stride, channels in _LATENT_CHANNELS.items()
    for upsampling in get_args(Upsampling)
}
"""Every bottleneck with every stride and every way up, by name ("kl-8-bilinear")."""

USUAL = ("plain-8-nearest", "kl-8-bilinear", "vq-4-transposed", "kl-4-shuffle")
"""Designs worth having beside each other: every bottleneck and every way up at least once."""

CROP_PX = 64
_MEMORY_BYTES = 4 * 10**9


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long an autoencoder is trained.

    Attributes:
        steps: Updates; the learning rate falls along a cosine.
        batch: Crops per update.
        learning_rate: Of AdamW, at the start.
        seed: Of weights and crops.
    """

    steps: int = 1200
    batch: int = 12
    learning_rate: float = 2e-3
    seed: int = 0


def fit(
    design: Design,
    photos: Sequence[Entry],
    schedule: Schedule | None = None,
    *,
    pictures: Pictures | None = None,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> SmallAutoencoder:
    """Train an autoencoder on crops of photos; half of the crops come from a reduced photo, so that detail is dense.

    The loss is the absolute error, plus a hundredth of the absolute error of local log spectra: the error alone would
    blur, and a decoder that blurs is told from a photo by sharpness, not by its traces.

    Args:
        design: What is built.
        photos: Real photos.
        schedule: How long.
        pictures: Where decoded photos come from.
        progress: Called with (done, all, loss) after each update.

    Raises:
        MissingDataError: If there is no photo.
        UndecodableImageError: If a photo is broken.

    Source: our choice throughout; adversarial and perceptual losses, as published autoencoders have, are left out.
    """
    if not photos:
        raise MissingDataError("No photo to train an autoencoder on.")
    plan = schedule or Schedule()
    rng = np.random.default_rng(plan.seed)
    pictures = pictures or Pictures(_MEMORY_BYTES)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        network = SmallAutoencoder(design).train()
        optimiser = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=1e-4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
        bands = BandEnergies(8, grey_levels=255.0)
        for step in range(plan.steps):
            crops = [
                _crop(pictures.image(photos[int(rng.integers(len(photos)))].path), rng)
                for _ in range(plan.batch)
            ]
            loss = _loss(network, torch.from_numpy(np.stack(crops)), bands)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            cosine.step()
            progress(step + 1, plan.steps, float(loss.detach()))
    return network.eval().requires_grad_(requires_grad=False)


def save(network: SmallAutoencoder, folder: Path) -> Path:
    """Write an autoencoder and its design to a folder; the file appears whole or not at all."""
    from safetensors.torch import save as to_bytes

    state = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    path = folder / FILE
    with complete_or_absent(path) as unfinished:
        unfinished.write_bytes(
            to_bytes(state, {METADATA: json.dumps(settings.plain(network.design))})
        )
    return path


def fidelity(network: SmallAutoencoder, images: Sequence[Image]) -> float:
    """Return the mean peak signal-to-noise ratio of round trips, decibels."""
    from gammascope.generation.autoencoder import round_trip

    errors = [
        np.square(round_trip(image, network).astype(np.float64) - image).mean() for image in images
    ]
    return float(np.mean([10 * np.log10(255**2 / max(error, 1e-9)) for error in errors]))


def _crop(image: Image, rng: np.random.Generator) -> Float[np.ndarray, "3 s s"]:
    if rng.random() < 0.5:
        smallest = CROP_PX / min(image.shape[:2])
        image = codecs.rescale(image, rng.uniform(min(1.0, max(0.4, smallest)), 1.0))
    height, width = image.shape[:2]
    left, top = (int(rng.integers(max(0, extent - CROP_PX) + 1)) for extent in (width, height))
    crop = crop_at(image, left, top, CROP_PX)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    return np.ascontiguousarray(crop.transpose(2, 0, 1), dtype=np.float32) / 255


def _loss(
    network: SmallAutoencoder, pixels: Float[Tensor, "b 3 h w"], bands: BandEnergies
) -> Float[Tensor, ""]:
    latent, penalty = network.coded(pixels)
    painted = network.painted(latent)
    spectral = functional.l1_loss(bands(painted), bands(pixels))
    return functional.l1_loss(painted, pixels) + 0.01 * spectral + penalty
