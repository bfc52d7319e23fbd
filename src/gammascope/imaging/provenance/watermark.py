"""The invisible watermark that the published programs of Stable Diffusion and FLUX write into their pictures.

Its writer is the open package invisible-watermark (its method "dwtDct"): of the colour difference U it takes the Haar
wavelet's mean band, cuts that into blocks of 4 x 4, and moves one coefficient of each block, the greatest but for the
first, to a quarter or three quarters of a step of 36: one bit. A message is written over and over, block by block along
the rows. Which messages there are: the public source of the programs that write them.

Only whole pictures in their first size are read: scaling, cropping and strong compression destroy it, and half of all
programs never write it. That nothing is decoded says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float

from gammascope.report import Evidence, Strength
from gammascope.sample import Image

_STEP = 36
_BLOCK = 4  # Coefficients a side, of which each is of 2 x 2 pixels.
_LEAST_PIXELS = 256 * 256  # The writer refuses less.
_NO_COLOUR = 128
# U = 0.492 (blue - Y), with the weights of ITU-R BT.601 for the brightness Y.
_TO_U = (-0.492 * 0.299, -0.492 * 0.587, 0.492 * (1 - 0.114))


@dataclass(frozen=True, slots=True)
class _Message:
    """What some program writes.

    Attributes:
        writer: For a person.
        bits: In their order.
        least: Correlation from which it counts as read: chance gets there once in 10^9 pictures.
        zero: The value of U that stands for no colour: 128 in bytes, 0.5 where the writer was given floats of 0..255.
        swapped: Whether the writer took red for blue, as early versions of one did.
    """

    writer: str
    bits: tuple[int, ...]
    least: float
    zero: float = 128.0
    swapped: bool = False


def _bits(message: bytes | int) -> tuple[int, ...]:
    if isinstance(message, int):  # Written without leading zeros.
        return tuple(map(int, f"{message:b}"))
    return tuple(np.unpackbits(np.frombuffer(message, np.uint8)).tolist())


_SDXL = _bits(0b101100111110110010010000011110111011000110011110)
_FLUX = _bits(0b001010101111111010000111100111001111010100101110)
_MESSAGES = (
    _Message("Stable Diffusion XL", _SDXL, 0.76, zero=0.5),
    _Message("Stable Diffusion XL", _SDXL, 0.76, zero=0.5, swapped=True),
    _Message("FLUX", _FLUX, 0.77, zero=0.5),
    _Message("Stable Diffusion 1", _bits(b"StableDiffusionV1"), 0.5),
    _Message("Stable Diffusion 2", _bits(b"SDV2"), 0.86),
    _Message("InvokeAI", _bits(b"InvokeAI"), 0.68),
)


def findings(image: Image) -> Iterator[Evidence]:
    """State whose watermark can be read; nothing is said where none can, for that is no sign of its absence.

    Args:
        image: Pixels as the file holds them, neither turned nor resized.
    """
    large = image.shape[0] * image.shape[1] >= _LEAST_PIXELS
    if not large or min(image.shape[:2]) < 2 * _BLOCK:
        return
    height, width = (side // (2 * _BLOCK) * 2 * _BLOCK for side in image.shape[:2])
    picture = PIL.Image.fromarray(image[:height, :width])
    bands = {swapped: _band(picture, swapped=swapped) for swapped in (False, True)}
    ways = {(message.swapped, message.zero) for message in _MESSAGES}
    read = {way: _read(bands[way[0]], way[1]) for way in ways}
    for message in _MESSAGES:
        fit = _fit(read[message.swapped, message.zero], message)
        if fit >= message.least:
            yield Evidence(
                "provenance:watermark",
                f"The pixels carry the invisible watermark that programs of {message.writer} write "
                f"(its {len(message.bits)} bits agree by {fit:.2f}, where 1 is all and 0 is chance).",
                strength=Strength.MODERATE,
                limits="The program that writes it is public: it can be written into any picture, photographs too. "
                "Many generators write none, and resizing removes it.",
            )
            return


def _band(picture: PIL.Image.Image, *, swapped: bool) -> Float[np.ndarray, "rows columns"]:
    """Return the mean band of U of a picture of whole blocks, without the value for no colour."""
    matrix = _TO_U[::-1] if swapped else _TO_U
    # Pillow's roundings are a tenth of what would turn a bit around, and it is ten times as fast as NumPy.
    colour = picture.convert("L", (*matrix, _NO_COLOUR))
    band: np.ndarray = 2 * (np.asarray(colour.reduce(2), np.float32) - _NO_COLOUR)
    return band


def _read(band: Float[np.ndarray, "rows columns"], zero: float) -> Bool[np.ndarray, " n"]:
    """Return the bit of each block, along the rows."""
    rows, columns = (side // _BLOCK for side in band.shape)
    blocks = band.reshape(rows, _BLOCK, columns, _BLOCK).transpose(1, 3, 0, 2)
    # Places of a block along the first axis: the largest of many short rows takes ten times as long.
    sizes = np.abs(blocks.reshape(_BLOCK**2, -1)[1:] + np.float32(2 * zero))
    bits: np.ndarray = sizes.max(0) % _STEP > _STEP / 2
    return bits


def _fit(read: Bool[np.ndarray, " n"], message: _Message) -> float:
    """Correlate the bits of a message with the share of their blocks that say one.

    Not their majority: where a picture is dark or without colours, most blocks say the same whatever was written.
    """
    length = len(message.bits)
    whole = len(read) // length * length
    if not whole:
        return 0.0
    shares = read[:whole].reshape(-1, length).mean(0)
    if not shares.std():
        return 0.0
    return float(np.corrcoef(shares, message.bits)[0, 1])
