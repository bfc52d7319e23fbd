"""Upscaled photos: a fake whose fine detail a super-resolution network invented.

A photo is reduced by the network's factor and enlarged again by the network to its own size: same scene, same
composition, aligned pixel by pixel, with all that is fine written by a generator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import torch

from gammascope.errors import IncompatibleCheckpointError
from gammascope.generation.ncnn import Network
from gammascope.sample import Image

_PROBE_PX = 8
"""Side of the black square that measures a network's factor."""


class Upscaler:
    """A network that enlarges sRGB pictures (0..1) by a whole factor, such as those of Real-ESRGAN.

    Args:
        param: Its ``.param`` file, the ``.bin`` file beside it.
        device: Where to run.

    Raises:
        MissingDataError: If one of the files is not there.
        IncompatibleCheckpointError: If they are broken, not known here, or do not enlarge pictures.
    """

    def __init__(self, param: Path, device: str = "cpu") -> None:
        self.network, self.device = Network(param).to(device), device
        with torch.inference_mode():
            probe = self.network(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, device=device))
        self.factor = probe.shape[-1] // _PROBE_PX
        if self.factor < 2 or probe.shape != (1, 3, *2 * [self.factor * _PROBE_PX]):
            raise IncompatibleCheckpointError(
                f"{param} makes {tuple(probe.shape[1:])} (channels, rows, columns) of "
                f"(3, {_PROBE_PX}, {_PROBE_PX}): an upscaler keeps 3 channels and enlarges 2-fold or more."
            )

    def __call__(self, photo: Image) -> Image:
        """Reduce a photo (bicubic, antialiased) and enlarge it again to its own size."""
        height, width = photo.shape[:2]
        # Whole cells, so that reducing and enlarging are exact and nothing is shifted.
        rim = ((0, -height % self.factor), (0, -width % self.factor), (0, 0))
        padded = np.pad(photo, rim, mode="reflect")
        rows, columns = padded.shape[0] // self.factor, padded.shape[1] // self.factor
        small = PIL.Image.fromarray(padded).resize((columns, rows), PIL.Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            large = self.network(pixels.to(self.device))[0].clamp(0, 1)
        array = large.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        return np.ascontiguousarray(array[:height, :width])
