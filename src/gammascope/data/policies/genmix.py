"""GenMix: a photo and an edit of it, mixed by a soft mask, with a faint fractal over both.

The same content stands on both sides of the seam, so nothing but traces tells them apart. A control is mixed with the
same mask and fractal from the photo and a classically filtered copy, in which nothing is generated.

**A reconstruction**, off unless a person accepts the notice. Source: arXiv:2412.02366. That masks are soft, and that
one of the five is round, is shown by the figure and scripts of its repository alone; the paper's prompts and the choice
of its filter are not known. Guesses of ours: round masks as wide and as high as the photo lets them be, with an even
ramp, and in half of them the edit around the disc; Julia sets as fractals; the controls.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import PIL.Image
from jaxtyping import Float
from PIL import ImageFilter, ImageOps

from gammascope.data.policies.base import Answer, Job, Policy, beside_itself, checked
from gammascope.manipulation.base import Manipulated
from gammascope.sample import Image

MASKS: Final = ("left", "right", "top", "bottom", "round")
FRACTAL_SHARE = 0.2
FRACTAL_CHANCE = 0.5

_STRENGTHS = (0.4, 0.6)
_RAMP = 0.04  # of the shorter side: 20 pixels of 512
_RADII = (0.35, 0.45)  # of the sides: such discs cover 38 to 64 % of any photo, on average a half
_ITERATIONS = 40


def finish(job: Job, made: Answer, host: Image, rng: np.random.Generator) -> Manipulated:
    """Mix; the masks cover every pixel that holds anything of the edit, as it was before the fractal."""
    height, width = host.shape[:2]
    mask = soft_mask(height, width, MASKS[int(rng.integers(len(MASKS)))], rng)
    laid_over = rng.random() < FRACTAL_CHANCE
    pattern = fractal(height, width, rng)
    other = filtered(host, rng)
    if job.arm == "generated":
        other = checked(made, host)
    mixed = mix(host, other, mask)
    if laid_over:
        mixed = mix(mixed, pattern, np.full(mask.shape, FRACTAL_SHARE, np.float32))
    region, nothing = mask > 0, np.zeros(mask.shape, bool)
    if job.arm == "control":
        return Manipulated(mixed, nothing, nothing.copy(), None)
    return Manipulated(mixed, region, region.copy(), "inpainting")


def mix(photo: Image, other: Image, mask: Float[np.ndarray, "h w"]) -> Image:
    """Return the other picture where the mask is 1, the photo where it is 0."""
    weight = mask[..., None].astype(np.float64)
    mixed: Image = np.rint(photo + weight * (other.astype(np.float64) - photo)).astype(np.uint8)
    return mixed


def soft_mask(
    height: int, width: int, name: str, rng: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """Return one of the five masks, 0..1: a half with a ramp at its edge, or a disc or all around it, about as much.

    The disc is as much wider than high as the photo is.
    """
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    ramp = max(1.0, _RAMP * min(height, width))
    if name == "round":
        radius, down, across = rng.uniform(*_RADII), rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6)
        away = np.hypot(rows / height - down, columns / width - across)
        inside = (radius - away) * min(height, width)
        if rng.random() < 0.5:
            inside = -inside
    else:
        inside = {
            "left": (width - 1) / 2 - columns,
            "right": columns - (width - 1) / 2,
            "top": (height - 1) / 2 - rows,
            "bottom": rows - (height - 1) / 2,
        }[name]
    mask: Float[np.ndarray, "h w"] = np.clip(inside / ramp + 0.5, 0, 1).astype(np.float32)
    return mask


def fractal(height: int, width: int, rng: np.random.Generator) -> Image:
    """Return a Julia set, coloured after how fast its points escape."""
    angle = rng.uniform(0, 2 * np.pi)
    constant = 0.7885 * np.exp(1j * angle)
    across = np.linspace(-1.5, 1.5, width) * rng.uniform(0.5, 1)
    down = np.linspace(-1.5, 1.5, height) * rng.uniform(0.5, 1)
    points = across[None, :] + 1j * down[:, None]
    escaped = np.full(points.shape, float(_ITERATIONS))
    for count in range(_ITERATIONS):
        points = np.where(np.abs(points) <= 2, points**2 + constant, points)
        escaped = np.where((np.abs(points) > 2) & (escaped == _ITERATIONS), count, escaped)
    phases = rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(escaped[..., None] / _ITERATIONS * 4 * np.pi + phases)
    colours: Image = np.rint(127.5 * (1 + waves)).astype(np.uint8)
    return colours


def filtered(photo: Image, rng: np.random.Generator) -> Image:
    """Return the photo after a classical filter: fewer tones, a blur, a median, or another curve of one colour."""
    picture = PIL.Image.fromarray(photo)
    choice = int(rng.integers(4))
    if choice == 0:
        return np.array(ImageOps.posterize(picture, 3))
    if choice == 1:
        return np.array(picture.filter(ImageFilter.GaussianBlur(2)))
    if choice == 2:
        return np.array(picture.filter(ImageFilter.MedianFilter(5)))
    curve = np.rint(255 * (np.arange(256) / 255) ** rng.uniform(0.5, 2)).astype(np.uint8)
    changed = photo.copy()
    changed[..., 0] = curve[photo[..., 0]]
    return changed


POLICY = Policy(
    title="GenMix",
    paper="arXiv:2412.02366",
    needs="edit",
    plan=beside_itself(_STRENGTHS),
    finish=finish,
    notice=(
        "US patent 12657783 B1 describes in its abstract what its parent does (an edit by diffusion, joined to the "
        "photo by a mask, a fractal over it); whether this falls under its claims is for you to find out."
    ),
)
