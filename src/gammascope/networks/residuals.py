"""High-pass residuals: what is left of a picture when its smooth content is predicted away."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_COMPASS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""North-west, north, ... clockwise: steps down and right."""

_SQUARE_3 = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))
_SQUARE_5 = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)


def srm_kernels() -> Float[Tensor, "30 5 5"]:
    """Return the 30 linear kernels of the spatial rich model, each scaled by its usual quantisation step.

    In this order: 8 of first order, 4 of second, 8 of third, 4 edges of 3 x 3, 4 edges of 5 x 5 (top, right, bottom,
    left), the square of 3 x 3 and that of 5 x 5. Each sums to zero: a flat picture leaves nothing.

    Source: Fridrich and Kodovsky, IEEE TIFS 7(3), 2012 (doi:10.1109/TIFS.2012.2190402).
    """
    raster = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
    first = [_sparse({(0, 0): -1, step: 1}, 1) for step in raster]
    second = [
        _sparse({(0, 0): -2, (y, x): 1, (-y, -x): 1}, 2)
        for y, x in ((-1, -1), (-1, 0), (-1, 1), (0, -1))
    ]
    third = [
        _sparse({(0, 0): -3, (y, x): 3, (2 * y, 2 * x): -1, (-y, -x): 1}, 3) for y, x in _COMPASS
    ]
    small, large = (_centred(square) for square in (_SQUARE_3, _SQUARE_5))
    edges = [half / step for square, step in ((small, 4), (large, 12)) for half in _halves(square)]
    return torch.stack([*first, *second, *third, *edges, small / 4, large / 12])


class HighPass(nn.Module):
    """Filter red, green and blue with the 30 kernels each: 90 residual maps, red's first. Nothing is learnt."""

    kernels: Tensor

    channels = 90

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernels", srm_kernels()[:, None])

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 90 h w"]:
        """Return the residuals, at the border as if black surrounded the picture."""
        batch, _, height, width = pixels.shape
        planes = pixels.reshape(3 * batch, 1, height, width)
        residuals = functional.conv2d(planes, self.kernels.to(pixels.dtype), padding=2)
        return residuals.reshape(batch, self.channels, height, width)


def _sparse(values: dict[tuple[int, int], int], step: int) -> Tensor:
    kernel = torch.zeros(5, 5)
    for (down, right), value in values.items():
        kernel[2 + down, 2 + right] = value / step
    return kernel


def _centred(square: tuple[tuple[int, ...], ...]) -> Tensor:
    margin = (5 - len(square)) // 2
    return functional.pad(torch.tensor(square, dtype=torch.float32), (margin,) * 4)


def _halves(square: Tensor) -> list[Tensor]:
    """Return the top, right, bottom and left half of a kernel, the line through its centre included."""
    top, left = square.clone(), square.clone()
    top[3:] = 0
    left[:, 3:] = 0
    return [top, left.flip(1), top.flip(0), left]
