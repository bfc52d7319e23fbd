"""What happens to images on their way: lossy encoders, and edits that keep the meaning.

Everything here keeps the label of an image. All but ``rescale`` keep its geometry, so that masks
stay valid.

``jpeg_pixels`` decodes JPEG files by libjpeg-turbo's own interface: Pillow's pixels to the bit, in half the time.
Pillow feeds the decoder 64 kB at a time, has each row unpacked to four bytes a pixel and copies the whole twice more.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int, UInt8

from gammascope.sample import Image, Mask

Format: TypeAlias = Literal["jpeg", "webp", "avif", "png"]
Subsampling: TypeAlias = Literal["4:4:4", "4:2:2", "4:2:0"]
Kernel: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

LARGEST_SIDE = {"jpeg": 65535, "webp": 16383, "avif": 65535, "png": 2**31 - 1}

_KERNELS: dict[str, PIL.Image.Resampling] = {
    "nearest": PIL.Image.Resampling.NEAREST,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
    "box": PIL.Image.Resampling.BOX,
    "hamming": PIL.Image.Resampling.HAMMING,
}

# Luminance quantisation at quality 50, in the zigzag order of the file. Source: ITU-T T.81, K.1.
# fmt: off
_LUMA = np.array([
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
    26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
    56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
    95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
])
# The same for chrominance. Source: ITU-T T.81, K.2.
_CHROMA = np.array([17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66] + 50 * [99])
# fmt: on

# Horizontal and vertical chroma reduction.
_SUBSAMPLINGS = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
    (4, 2): "4:1:0",
}

_SCREEN_ANGLES = (15.0, 75.0, 45.0)  # of the three inks, degrees: none in line with the pixels
_QUARTERS = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
"""What begins a segment: no stuffed byte, no restart mark, no fill byte."""
_QUANTISATION_TABLES = 0xDB
# Frame headers: C0..CF but for C4 (Huffman tables), C8 (reserved), CC (arithmetic conditioning).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_USUAL_FRAMES = frozenset(
    (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
)  # The last two are arithmetic, which libjpeg-turbo reads.
_FRAME_KINDS = {0xC3: "lossless coding", 0xC5: "hierarchical coding", 0xC6: "hierarchical coding"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """One pass through an encoder.

    Attributes:
        format: "png" is lossless.
        quality: 1..100 on the encoder's own scale; JPEG's is that of the IJG. Ignored by "png".
        subsampling: Chroma of "jpeg"; lossy WebP is always 4:2:0, as are our AVIF files.
    """

    format: Format
    quality: int = 90
    subsampling: Subsampling = "4:2:0"

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise ValueError(
                f"format={self.format!r}: expected one of {', '.join(get_args(Format))}."
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}: expected 1 to 100.")
        if self.subsampling not in get_args(Subsampling):
            known = ", ".join(get_args(Subsampling))
            raise ValueError(f"subsampling={self.subsampling!r}: expected one of {known}.")


def encode(image: Image, encoding: Encoding) -> bytes:
    """Compress an image; the file carries no metadata.

    Raises:
        ValueError: If a side is longer than the format can hold.
    """
    height, width = image.shape[:2]
    if max(height, width) > LARGEST_SIDE[encoding.format]:
        raise ValueError(
            f"{width} x {height} pixels: {encoding.format} holds at most "
            f"{LARGEST_SIDE[encoding.format]} a side. Choose another format or a smaller image."
        )
    settings: dict[str, Any] = {}
    if encoding.format != "png":
        settings["quality"] = encoding.quality
    if encoding.format == "jpeg":
        settings["subsampling"] = encoding.subsampling
    if encoding.format == "avif":
        settings["max_threads"] = 1  # tiles for more threads would change the file
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, encoding.format, **settings)
    return file.getvalue()


def reencode(image: Image, encoding: Encoding) -> Image:
    """Compress and decompress an image: same size, the encoder's loss."""
    with PIL.Image.open(io.BytesIO(encode(image, encoding))) as file:
        return np.array(file.convert("RGB"))


def jpeg_quality(data: bytes) -> int | None:
    """Estimate the IJG quality of a JPEG file from its luminance quantisation table.

    Exact for files of libjpeg and its kin; else the standard table that is nearest in the mean
    absolute log ratio (our choice: it weighs fine and coarse tables alike). Needs the header only.

    Returns:
        1..100; None if this is no JPEG file or its header has no such table.
    """
    tables = jpeg_tables(data)
    if not tables:
        return None
    distance = np.abs(np.log(tables[0] / standard_tables())).mean(1)
    return int(distance.argmin()) + 1


def jpeg_tables(data: bytes) -> tuple[Int[np.ndarray, " 64"], ...]:
    """Read the quantisation steps of each component of a JPEG file, luminance first.

    Returns:
        Steps 1 and up, in the zigzag order of the file; empty if this is no JPEG file or its header has no table for
        a component.
    """
    tables: dict[int, np.ndarray] = {}
    used = b"\0"
    for marker, body in jpeg_segments(data):
        if marker == _QUANTISATION_TABLES:
            tables |= _quantisation_tables(body)
        elif marker in _FRAMES and len(body) >= 9:
            used = body[8 : 6 + 3 * body[5] : 3]  # Which table each component uses.
    return tuple(tables[name] for name in used) if set(used) <= set(tables) else ()


def jpeg_subsampling(data: bytes) -> str | None:
    """Read how a JPEG file stores colour: "4:2:0" and so on.

    Returns:
        None if this is no JPEG file, holds no colour, or has an unusual layout.
    """
    for marker, body in jpeg_segments(data):
        if marker in _FRAMES and len(body) >= 12 and body[5] >= 3:
            luma, chroma = body[7], body[10]
            across, across_rest = divmod(luma >> 4, max(chroma >> 4, 1))
            down, down_rest = divmod(luma & 15, max(chroma & 15, 1))
            return None if across_rest or down_rest else _SUBSAMPLINGS.get((across, down))
    return None


def unusual_frame(data: bytes) -> str:
    """Describe how a JPEG file is coded, where that is none of the usual ways (8 bits, Huffman); else empty."""
    for marker, body in jpeg_segments(data):
        if marker in _FRAMES and len(body) >= 6:
            if marker not in _USUAL_FRAMES:
                return _FRAME_KINDS.get(marker, "arithmetic or hierarchical coding")
            if body[0] != 8:
                return f"{body[0]} bits a channel"
            if body[5] not in (1, 3, 4):
                return f"{body[5]} channels"
    return ""


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body) of a JPEG file's header, up to the first scan or the first nonsense.

    Stray bytes between segments are skipped, as decoders do.
    """
    if data[:2] != b"\xff\xd8":
        return
    found = JPEG_MARKER.search(data, 2)
    while found is not None:
        start = found.end()
        length = int.from_bytes(data[start : start + 2], "big")
        if found[0][1] in (_START_OF_SCAN, _END_OF_IMAGE) or length < 2:
            return
        yield found[0][1], data[start + 2 : start + length]
        found = JPEG_MARKER.search(data, start + length)


def blur(image: Image, sigma: float) -> Image:
    """Blur with a sampled Gaussian, mirrored at the borders; 0 changes nothing.

    Args:
        image: Any image.
        sigma: Standard deviation, pixels.
    """
    return _to_pixels(_blurred(image, sigma))


def sharpen(image: Image, amount: float, sigma: float = 1.0) -> Image:
    """Sharpen by unsharp masking: add ``amount`` times what a blur of ``sigma`` takes away."""
    pixels = image.astype(np.float32)
    return _to_pixels(pixels + amount * (pixels - _blurred(image, sigma)))


def add_noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Add independent Gaussian noise; ``sigma`` in grey levels of 0..255."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return _to_pixels(image + np.float32(sigma) * noise)


def adjust(
    image: Image, brightness: float = 0.0, contrast: float = 1.0, gamma: float = 1.0
) -> Image:
    """Change tones: gamma first, then contrast about mid-grey, then brightness.

    Args:
        image: Any image.
        brightness: Added, as a share of the full range; 0 changes nothing.
        contrast: Slope about mid-grey; 1 changes nothing.
        gamma: Exponent on 0..1; above 1 darkens.

    Raises:
        ValueError: If ``gamma`` is not positive.
    """
    if gamma <= 0:
        raise ValueError(f"gamma={gamma}: expected a positive exponent.")
    tones = (np.arange(256) / 255) ** gamma
    table = _to_pixels(255 * ((tones - 0.5) * contrast + 0.5 + brightness))
    toned: Image = table[image]
    return toned


def blend(image: Image, other: Image, share: float) -> Image:
    """Mix two images of one size pixel by pixel; ``share`` (0..1) is that of the other."""
    return _to_pixels((1 - share) * image.astype(np.float32) + share * other.astype(np.float32))


def halftone(image: Image, pitch: float) -> Image:
    """Print in three inks as rows of dots and scan it again: dots of ``pitch``, blurred by a third.

    Each ink has a grid of its own angle; a dot covers as much of its cell as the tone asks for, so
    that tones stay as they are on average.

    Args:
        image: Any image.
        pitch: Distance of dots, pixels, at least 2.5: finer ones would fall between the pixels.

    Raises:
        ValueError: If ``pitch`` is below 2.5.
    """
    if pitch < 2.5:
        raise ValueError(f"pitch={pitch}: expected a distance of 2.5 pixels or more.")
    inked = np.zeros(image.shape, dtype=np.float32)
    for channel, degrees in enumerate(_SCREEN_ANGLES):
        ink = 1 - image[..., channel].astype(np.float32) / 255
        for down, across in _QUARTERS:  # a dot's edge may cross a pixel
            inked[..., channel] += ink > _screen(ink.shape, pitch, degrees, down, across)
    return blur(_to_pixels(255 * (1 - inked / len(_QUARTERS))), pitch / 3)


def rescale(
    image: Image, factor: float, kernel: Kernel = "bicubic"
) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """Resize both sides by a factor, antialiased; the only step here that changes the geometry.

    Raises:
        ValueError: If ``factor`` is not positive.
    """
    return _resized(image, factor, _KERNELS[kernel])


def rescale_mask(mask: Mask, factor: float) -> Bool[np.ndarray, "new_h new_w"]:
    """Resize a mask as ``rescale`` does its image: true where at least half of the area was.

    Raises:
        ValueError: If ``factor`` is not positive.
    """
    area = _resized(mask.astype(np.uint8) * 255, factor, PIL.Image.Resampling.BOX)
    half: Mask = area >= 128
    return half


@dataclass(frozen=True, slots=True)
class RescaleLaw:
    """A random resizing, apart from ``EncodingLaw`` because masks must follow it.

    Attributes:
        probability: How often an image is resized at all.
        lowest: Smallest factor, uniform up to ``highest``.
        highest: Largest factor.
        kernels: Equally likely.
    """

    probability: float = 0.3
    lowest: float = 0.5
    highest: float = 1.0
    kernels: tuple[Kernel, ...] = ("bilinear", "bicubic", "lanczos")

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability}: expected 0 to 1.")
        if not 0 < self.lowest <= self.highest:
            raise ValueError(
                f"lowest={self.lowest}, highest={self.highest}: expected 0 < lowest <= highest."
            )
        if not self.kernels or not set(self.kernels) <= set(_KERNELS):
            raise ValueError(f"kernels={self.kernels}: expected some of {', '.join(_KERNELS)}.")

    def draw(self, rng: np.random.Generator) -> tuple[float, Kernel] | None:
        """Choose a factor and a kernel for ``rescale``; None: leave the image as it is."""
        if rng.random() >= self.probability:
            return None
        factor = float(rng.uniform(self.lowest, self.highest))
        return factor, self.kernels[int(rng.integers(len(self.kernels)))]


def _everyday_qualities() -> tuple[tuple[int, float], ...]:
    """Weigh 50..100: everything occurs, encoders' defaults (75, 85..95) most (our choice)."""
    extra = {75: 20.0} | dict.fromkeys(range(85, 96), 4.0)
    return tuple((quality, 1.0 + extra.get(quality, 0.0)) for quality in range(50, 101))


@dataclass(frozen=True, slots=True)
class EncodingLaw:
    """The random re-encoding that real and fake images both go through.

    A detector trained on camera JPEGs and generators' PNGs learns the format. Under one law for
    both classes the last encoder says nothing about the label.

    Attributes:
        untouched: Probability of no re-encoding; the four add up to 1.
        jpeg: Probability of one JPEG pass.
        double_jpeg: Probability of two JPEG passes of independent settings.
        webp: Probability of one lossy WebP pass.
        qualities: (quality, weight) pairs; weights need not add up to 1.
        subsamplings: (chroma subsampling, weight) pairs of JPEG.
    """

    untouched: float = 0.3
    jpeg: float = 0.4
    double_jpeg: float = 0.2
    webp: float = 0.1
    qualities: tuple[tuple[int, float], ...] = _everyday_qualities()
    subsamplings: tuple[tuple[Subsampling, float], ...] = (
        ("4:2:0", 0.6),
        ("4:4:4", 0.25),
        ("4:2:2", 0.15),
    )

    def __post_init__(self) -> None:
        shares = (self.untouched, self.jpeg, self.double_jpeg, self.webp)
        if min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError(
                f"untouched, jpeg, double_jpeg, webp = {shares}: expected shares of 1."
            )
        for name, pairs in (("qualities", self.qualities), ("subsamplings", self.subsamplings)):
            weights = [weight for _, weight in pairs]
            if not weights or min(weights) < 0 or sum(weights) <= 0:
                raise ValueError(f"{name}={pairs}: expected weights that are not all 0.")
        for quality, _ in self.qualities:
            for subsampling, _ in self.subsamplings:
                Encoding("jpeg", quality, subsampling)

    def draw(self, rng: np.random.Generator) -> tuple[Encoding, ...]:
        """Choose the passes an image goes through, first to last; empty: none."""
        passes: list[tuple[Format, ...]] = [(), ("jpeg",), ("jpeg", "jpeg"), ("webp",)]
        chances = [self.untouched, self.jpeg, self.double_jpeg, self.webp]
        return tuple(self._encoding(name, rng) for name in passes[_pick(chances, rng)])

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Re-encode an image by chance: same size, a new array; random only through ``rng``."""
        result = image.copy()
        for encoding in self.draw(rng):
            result = reencode(result, encoding)
        return result

    def _encoding(self, name: Format, rng: np.random.Generator) -> Encoding:
        quality = self.qualities[_pick([weight for _, weight in self.qualities], rng)][0]
        if name != "jpeg":
            return Encoding(name, quality)
        chosen = _pick([weight for _, weight in self.subsamplings], rng)
        return Encoding(name, quality, self.subsamplings[chosen][0])


def _pick(weights: list[float], rng: np.random.Generator) -> int:
    steps = np.cumsum(weights)
    # Clipped: rounding may leave the last step a hair below the total.
    return min(int(np.searchsorted(steps, rng.random() * steps[-1], "right")), len(weights) - 1)


def _blurred(image: Image, sigma: float) -> Float[np.ndarray, "h w 3"]:
    if sigma < 0:
        raise ValueError(f"sigma={sigma}: expected a standard deviation of 0 or more.")
    pixels = image.astype(np.float32)
    if sigma < 0.1:  # A neighbour would weigh e^-50.
        return pixels
    reach = math.ceil(4 * sigma)  # What lies beyond weighs less than 1e-4.
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        extent = pixels.shape[axis]
        edges = [(reach, reach) if axis == other else (0, 0) for other in range(3)]
        padded = np.pad(pixels, edges, mode="reflect")
        pixels = np.zeros_like(pixels)
        for shift, weight in enumerate(weights):
            window = slice(shift, shift + extent)
            pixels += weight * (padded[window] if axis == 0 else padded[:, window])
    return pixels


def _screen(
    size: tuple[int, int], pitch: float, degrees: float, down: float, across: float
) -> Float[np.ndarray, "h w"]:
    """Return the ink, 0..1, from which each point of a rotated grid of dots is covered."""
    turn = math.radians(degrees)
    y, x = np.arange(size[0])[:, None] + down, np.arange(size[1])[None] + across
    along, beside = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    hills = np.cos(2 * np.pi * along / pitch) + np.cos(2 * np.pi * beside / pitch)
    # Evened out, so that a share t of the points lies below t.
    phase = np.cos(2 * np.pi * (np.arange(64) + 0.5) / 64)
    levels = np.sort((phase[:, None] + phase[None]).ravel())
    share = np.linspace(1.0, 0.0, len(levels))
    return np.asarray(np.interp(hills, levels, share), dtype=np.float32)


def _to_pixels(values: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.rint(values).clip(0, 255).astype(np.uint8)
    return pixels


def _resized(array: np.ndarray, factor: float, kernel: PIL.Image.Resampling) -> np.ndarray:
    if not 0 < factor < math.inf:
        raise ValueError(f"factor={factor}: expected a positive number.")
    height, width = array.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(PIL.Image.fromarray(array).resize(size, kernel))


def _quantisation_tables(body: bytes) -> dict[int, np.ndarray]:
    tables = {}
    while body:
        wide, name = body[0] >> 4, body[0] & 15
        length = 128 if wide else 64
        if len(body) < 1 + length:
            break
        values = np.frombuffer(body[1 : 1 + length], ">u2" if wide else "u1")
        tables[name] = values.astype(np.int64).clip(1)  # A zero would be a broken file.
        body = body[1 + length :]
    return tables


def standard_tables(*, chroma: bool = False) -> Int[np.ndarray, "100 64"]:
    """Return the luminance (or chrominance) tables of qualities 1..100, in zigzag order.

    Source: IJG libjpeg, quality scaling.
    """
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: Int[np.ndarray, "100 64"] = (
        ((_CHROMA if chroma else _LUMA) * percent + 50) // 100
    ).clip(1, 255)
    return tables


_COLOURS = {"L": "GRAY", "RGB": "RGB"}

# Stray bytes before other markers stand between segments, and harm nothing.
_DAMAGED = re.compile(
    r"bad Huffman code|premature end of data|instead of RST|before marker 0x(d\d|da|c4)"
)


def jpeg_pixels(
    data: bytes, mode: str, size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w *c"] | None, str]:
    """Decode a JPEG file, if that is sure to give what Pillow gives, and say what Pillow does not: that it is damaged.

    Args:
        data: The file's content.
        mode: Pillow's for it; "L" or "RGB", others are left to Pillow.
        size: Width and height that were checked against the limits.

    Returns:
        Grey (``h w``) or colour (``h w 3``) as stored, not turned; None if simplejpeg is not installed, or has anything
        to complain about: what is wrong with a file, Pillow shall say. And what the decoder says of coded pixels that
        make no sense, which Pillow shows as they come; "" if it says nothing.
    """
    turbo = _turbo()
    if turbo is None or mode not in _COLOURS:
        return None, ""
    decode_header, decode = turbo
    try:
        height, width, *_ = decode_header(data)
        if (width, height) != size:  # Two headers in one file.
            return None, ""
        pixels: np.ndarray = decode(data, _COLOURS[mode], fastdct=False, fastupsample=False)
    except (ValueError, MemoryError) as error:
        return None, str(error) if _DAMAGED.search(str(error)) else ""
    return (pixels if mode == "RGB" else pixels[..., 0]), ""


@lru_cache(maxsize=1)
def _turbo() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg.decode_jpeg_header, simplejpeg.decode_jpeg
