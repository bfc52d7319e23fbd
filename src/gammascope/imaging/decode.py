"""From a file to upright sRGB pixels, or to one line that says why not.

Formats are recognised by content, never by name. Nothing here changes Pillow's global settings, so that
threads with different limits do not disturb each other.
"""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ExifTags import Base as Tag
from PIL.ImageFile import ImageFile

from gammascope.errors import (
    ImageTooLargeError,
    MissingExtraError,
    NotAnImageError,
    UndecodableImageError,
    printable,
    said_by,
)
from gammascope.imaging import appearance, codecs, directories, mending, storage, unsupported
from gammascope.imaging.codecs import jpeg_quality, unusual_frame
from gammascope.imaging.colours import colour_and_alpha, to_srgb
from gammascope.sample import Image


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF file under the caller's pixel limit instead of Pillow's process-wide one."""

    def load_prepare(self) -> None:
        """Allocate the pixels, as the parent does after asking the process-wide limit."""
        self.im = PIL.Image.new(self.mode, self._tile_size, None).im
        super().load_prepare()


# Plugins are called directly: PIL.Image.open would try formats that run other programs (EPS), and
# applies a process-wide pixel limit instead of the caller's.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": _TiffFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}

_SIGNATURES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
}

_TITLES = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "tiff": "TIFF",
    "gif": "GIF",
    "bmp": "BMP",
    "avif": "AVIF",
    "heic": "HEIC",
}

_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))

_SUFFIXES = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".mpo": "jpeg",
    ".png": "png",
    ".apng": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".gif": "gif",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
}

_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

_WHITE_IS_ZERO = 0  # TIFF photometric interpretation.
_UNSIGNED = 1  # TIFF sample format.
_PLANES_APART = 2  # TIFF planar configuration.

_UNSUPPORTED = re.compile(
    r"(?i)unsupported|not supported|cannot handle|unknown (pixel mode|compression)"
)

# Action, message, category, module, line: as the warnings module keeps its filters.
_PLUGINS = r"PIL\.\w+Plugin$"
_QUIET_PLUGINS = ("ignore", None, UserWarning, re.compile(_PLUGINS), 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost; both are checked before any pixel is decoded.

    Attributes:
        max_bytes: Size of the file.
        max_pixels: Width times height, as the file's header declares them.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 200_000_000


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image and what was found on the way to its pixels.

    Attributes:
        image: Upright sRGB pixels; of an animation or a multi-page file, the main picture.
        format: What the content is: "jpeg", "png", "webp", "tiff", "gif", "bmp", "avif" or "heic".
        notes: Whatever made the pixels differ from those stored, one clause for a person each.
        jpeg_quality: IJG quality 1..100 estimated from the tables; None if this is no JPEG.
        file_bytes: Size of the file.
        content: The file itself, for what it says beside its pixels; empty if there is none.
    """

    image: Image
    format: str
    notes: tuple[str, ...]
    jpeg_quality: int | None
    file_bytes: int
    content: bytes = field(default=b"", repr=False)


DEFAULT_LIMITS = Limits()


def decode(source: Path | bytes, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """Decode a JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF or HEIC file into upright sRGB pixels.

    EXIF orientation is applied, colour profiles are converted to sRGB, transparency is shown on
    white, and more than 8 bits are reduced; each leaves a note. Safe to call from several threads.

    Args:
        source: A file, or its content, or a cell of a table (``imaging.cells``), or a member of a tar archive
            (``imaging.members``).
        limits: What the file may cost.

    Raises:
        UndecodableImageError: If it cannot be read, is no image (NotAnImageError), is broken or cut
            short, or is larger than allowed (ImageTooLargeError); one line with the file's name and
            the reason.
        MissingExtraError: If it is a HEIC file and pillow-heif is not installed, or a cell and
            pyarrow is not.
    """
    name = "<memory>" if isinstance(source, bytes) else printable(source.name)
    try:
        data = source if isinstance(source, bytes) else content_of(source, limits)
        kind = format_of(data, limits)
    except UndecodableImageError as error:
        raise type(error)(f"{name}: {error}.") from error.__cause__
    notes: list[str] = []
    if isinstance(source, Path) and named_format(source) not in {None, kind}:
        notes.append(f"named {printable(source.suffix)} but holds {_TITLES[kind]}")
    try:
        image = _decoded(data, kind, limits, notes)
    except UndecodableImageError as error:
        raise type(error)(f"{name}: {error}.") from error.__cause__
    return Decoded(image, kind, tuple(notes), jpeg_quality(data), len(data), data)


def _decoded(data: bytes, kind: str, limits: Limits, notes: list[str]) -> Image:
    """Decode; where that fails but the pixels are whole, leave out or add what was in the way.

    Raises:
        UndecodableImageError: Without the file's name.
        MissingExtraError: As ``opened``.
    """
    found: list[str] = []
    try:
        image = _pixels(opened(data, kind), data, limits, found)
    except (UndecodableImageError, MissingExtraError):
        raise
    except Exception as error:  # Decoders raise almost any type on hostile bytes.
        found.clear()
        mended = _mended_pixels(data, kind, limits, found)
        if mended is None:
            raise UndecodableImageError(_reason(error, kind, data)) from error
        image = mended
    notes += found
    return image


def _mended_pixels(data: bytes, kind: str, limits: Limits, notes: list[str]) -> Image | None:
    whole, done = mending.mended(data, kind)
    if not done:
        return None
    notes.append(done)
    try:
        return _pixels(opened(whole, kind), whole, limits, notes)
    except Exception:  # As above; what the file itself was refused for says more.
        return None


def named_format(path: Path) -> str | None:
    """Return the format that a file's ending promises; None if the ending is not known."""
    return _SUFFIXES.get(path.suffix.lower())


def content_of(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read a file of at most the bytes that are allowed, and one more.

    Raises:
        UndecodableImageError: If it is no regular file or cannot be read; the reason, without a name.
    """
    try:
        if storage.is_cell(path):
            return storage.cell_content(path)
        archive = storage.archive_of(path)
        if archive is not None:
            return storage.member_content(archive, path, limits.max_bytes)
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            with os.scandir(path):  # Raises where a listing met a folder that cannot be read.
                raise UndecodableImageError("a folder, not an image")
        if not stat.S_ISREG(mode):  # Reading a pipe or a device may never end.
            raise UndecodableImageError("not a regular file")
        with path.open("rb") as file:
            # One byte more than allowed is enough to know that there are too many.
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise UndecodableImageError(f"cannot be read ({problem.lower()})") from error


def format_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Tell the format of a file's content by its first bytes: "jpeg", "png" and so on.

    Raises:
        UndecodableImageError: If it is empty, too large or no known image; the reason, without a name.
    """
    if not data:
        raise UndecodableImageError("empty file")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(f"more than the {_amount(limits.max_bytes)} allowed")
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        length = min(int.from_bytes(data[:4], "big"), len(data))
        brands = {data[start : start + 4] for start in (8, *range(16, length, 4))}
        if brands & _AVIF_BRANDS:
            return "avif"
        if brands & _HEIC_BRANDS:
            return "heic"
    if reason := unsupported.reason(data):
        raise NotAnImageError(reason)
    raise NotAnImageError(f"not an image (known: {', '.join(_TITLES.values())})")


def opened(data: bytes, kind: str) -> ImageFile:
    """Read the header of a file of a known format; its pixels are left alone.

    Of a TIFF file that is the main picture, not a reduced copy that may come first. Broken content raises almost any
    type of exception.

    Raises:
        MissingExtraError: If it is a HEIC file and pillow-heif is not installed.
        UndecodableImageError: If it is a camera raw; the reason, without a name.
    """
    _quieten_plugins()
    if kind == "tiff":
        data, _ = directories.main_picture(data)
    opener = _heic_opener() if kind == "heic" else _OPENERS[kind]
    return opener(io.BytesIO(data))


def _heic_opener() -> Callable[[io.BytesIO], ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MissingExtraError.of("Reading HEIC photos", "pillow-heif", "heif") from None
    opener: Callable[[io.BytesIO], ImageFile] = HeifImageFile
    return opener


def _quieten_plugins() -> None:
    """Keep remarks on damaged metadata off the terminal; what matters becomes a note or an error.

    A filter that stays, because ``catch_warnings`` would restore other threads' filters at random
    moments. It is looked for on each call, because others reset filters.
    """
    if _QUIET_PLUGINS not in warnings.filters:
        warnings.filterwarnings("ignore", category=UserWarning, module=_PLUGINS)


def _pixels(file: ImageFile, data: bytes, limits: Limits, notes: list[str]) -> Image:
    _check_size(file, limits)
    main = directories.main_picture(data)[1] if isinstance(file, _TiffFile) else None
    if main is not None:
        notes.append(
            f"the file's first picture is a reduced copy: the full one of {file.width} x {file.height} px is examined"
        )
    elif _holds_several(file):
        notes.append("holds several pictures: only the main one is examined")
    profile = file.info.get("icc_profile")
    bits = _bits(file)
    stored = _jpeg_or_loaded(file, data, bits, notes)
    notes += appearance.unapplied(data, file)
    orientation = orientation_of(file)
    if orientation is None:
        notes.append("EXIF data is broken: orientation unknown")
    if main is not None and Tag.Orientation not in main.tags:
        orientation = directories.orientation(data)
    if stored is not None and stored.ndim == 3 and not profile and orientation not in _UPRIGHT:
        return stored
    loaded = _to_eight_bits(file, bits, notes) if stored is None else PIL.Image.fromarray(stored)
    colour, alpha = colour_and_alpha(loaded)
    upright = to_srgb(colour, profile, notes)
    if alpha is not None and alpha.getextrema() != (255, 255):
        notes.append("transparent parts are shown on white")
        white = PIL.Image.new("RGB", upright.size, "white")
        upright = PIL.Image.composite(upright, white, alpha)
    if orientation in _UPRIGHT:
        notes.append(f"turned upright (EXIF orientation {orientation})")
        upright = upright.transpose(_UPRIGHT[orientation])
    return np.array(upright)


def _jpeg_or_loaded(file: ImageFile, data: bytes, bits: int, notes: list[str]) -> np.ndarray | None:
    """Return the pixels of a JPEG file; None: the file, which may be one, has loaded its own."""
    if isinstance(file, JpegImagePlugin.JpegImageFile):
        stored, damage = codecs.jpeg_pixels(data, file.mode, file.size)
        if damage:
            notes.append(f"the pixels are damaged, so a part may show something else ({damage})")
        if stored is not None:
            return stored
    deep = bits > 8 and isinstance(file, PngImagePlugin.PngImageFile)
    transparent = file.info.pop("transparency", None) if deep else None
    turned = orientation_of(file) if isinstance(file, _TiffFile) else None
    file.load()
    if transparent is not None:
        notes.append("one colour is declared transparent, and is shown")
    if turned in _UPRIGHT:  # Loading a TIFF file turns it.
        notes.append(f"turned upright (EXIF orientation {turned})")
    return None


def _check_size(file: ImageFile, limits: Limits) -> None:
    sizes = [file.size]
    if isinstance(file, _TiffFile):  # A small image may declare huge tiles.
        sizes.append((file.tag_v2.get(Tag.TileWidth, 0), file.tag_v2.get(Tag.TileLength, 0)))
    for width, height in sizes:
        if width * height > limits.max_pixels:
            allowed = f"{limits.max_pixels / 1e6:g} million"
            raise ImageTooLargeError(f"{width} x {height} pixels, more than the {allowed} allowed")


def _holds_several(file: ImageFile) -> bool:
    if isinstance(file, JpegImagePlugin.JpegImageFile):
        return "mp" in file.info  # Index of further pictures; Pillow's MPO format.
    try:
        return bool(getattr(file, "is_animated", False))
    except Exception:  # The first picture may be whole where the second is broken.
        return True


def _bits(file: ImageFile) -> int:
    """Return the bits per channel as stored, where they can be more than 8."""
    if isinstance(file, _TiffFile):
        return int(max(file.tag_v2.get(Tag.BitsPerSample, (1,))))
    if isinstance(file, PngImagePlugin.PngImageFile):
        return 16 if ";16" in str(file.tile) else 8  # How Pillow unpacks it.
    return int(file.info.get("bit_depth", 8))  # Said by HEIC.


def orientation_of(file: ImageFile) -> int | None:
    """Return how a picture is turned, 1 to 8, as numbers or texts say; 1 where nothing does; None: EXIF is broken."""
    try:
        return int(file.getexif().get(Tag.Orientation, 1))
    except Exception:  # Parsers of damaged EXIF data raise almost any type.
        return None


def _to_eight_bits(file: ImageFile, bits: int, notes: list[str]) -> PIL.Image.Image:
    """Scale deep pixels to 0..255: Pillow's own conversion clips 16-bit grey and floats."""
    tags = file.tag_v2 if isinstance(file, _TiffFile) else {}
    if file.mode in ("I", "F"):
        values = np.asarray(file)
        if file.mode == "I" and tags.get(Tag.SampleFormat, (_UNSIGNED,))[0] == _UNSIGNED:
            values = values.view(np.uint32)
        return PIL.Image.fromarray(_stretched(values, notes))
    if bits > 8:
        if tags.get(Tag.PlanarConfiguration) == _PLANES_APART and tags.get(Tag.Compression) == 1:
            # Pillow takes the halves of each value for pixels of their own.
            raise UndecodableImageError("uncompressed planes of 16 bits are not supported")
        notes.append(f"{bits} bits a channel reduced to 8")
    if not file.mode.startswith("I;16"):
        return file  # Other deep modes keep their high bytes already.
    grey = (np.asarray(file).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    inverted = tags.get(Tag.PhotometricInterpretation) == _WHITE_IS_ZERO
    return PIL.Image.fromarray(255 - grey if inverted else grey)


def _stretched(values: np.ndarray, notes: list[str]) -> np.ndarray:
    """Bring numbers without a fixed range to 0..255.

    Floats that stay within 0..1 are taken as such; all else is stretched from its own lowest to its
    own highest value (our choice).
    """
    real = values.astype(np.float64)
    finite = np.isfinite(real)
    low, high = (real[finite].min(), real[finite].max()) if finite.any() else (0.0, 0.0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    notes.append(f"{values.dtype.name} values {low:g} to {high:g} scaled to 0 to 255")
    share = (real - low) / max(high - low, np.finfo(np.float64).tiny)
    tones = np.rint(255 * np.nan_to_num(share).clip(0, 1))
    grey: np.ndarray = tones.astype(np.uint8)
    return grey


def _reason(error: Exception, kind: str, data: bytes) -> str:
    text = printable(" ".join(str(error).split()))
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    least = _declared_bytes(kind, data)
    if least > len(data):
        return f"truncated after {_amount(len(data))} of at least {_amount(least)}"
    if isinstance(error, EOFError) or re.search("truncated|end of|requires a buffer", text.lower()):
        return f"truncated after {_amount(len(data))} of {_TITLES[kind]} data"
    if unsupported := _unsupported(error, text, kind, data):
        return f"this kind of {_TITLES[kind]} is not supported ({unsupported})"
    return f"broken {_TITLES[kind]} data ({printable(said_by(error))})"


def _unsupported(error: Exception, text: str, kind: str, data: bytes) -> str:
    """Say what the decoder does not know, where that, and no damage, is why it refused; else empty."""
    if kind == "tiff":
        # What is wrong with compressed pixels comes as an OSError, and says nothing about the kind.
        unknown = isinstance(error, SyntaxError | KeyError) or _UNSUPPORTED.search(text)
        return directories.unsupported(data) if unknown else ""
    if kind == "jpeg":
        return unusual_frame(data)
    return text if _UNSUPPORTED.search(text) else ""


def _declared_bytes(kind: str, data: bytes) -> int:
    """Return how long the header says the file is at least; 0 where it says nothing."""
    if kind == "webp":
        return int.from_bytes(data[4:8], "little") + 8
    if kind == "bmp":
        return int.from_bytes(data[2:6], "little")
    if kind == "tiff" and data[:4] in (b"II*\0", b"MM\0*"):
        # Where the directory starts, often behind the pixels.
        return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")
    return _end_of_boxes(data) if kind in ("avif", "heic") else 0


def _end_of_boxes(data: bytes) -> int:
    """Return where the last outer box that begins in an ISO media file says it ends."""
    end = 0
    while end + 16 <= len(data):
        length = int.from_bytes(data[end : end + 4], "big")
        if length == 1:
            length = int.from_bytes(data[end + 8 : end + 16], "big")
        if length < 8:  # 0: up to the end of the file; else nonsense.
            break
        end += length
    return end


def _amount(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
