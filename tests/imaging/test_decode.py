from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms
from skimage import data

from gammascope.errors import (
    ImageTooLargeError,
    MissingExtraError,
    NotAnImageError,
    UndecodableImageError,
)
from gammascope.imaging.decode import Limits, decode

pillow_heif = pytest.importorskip("pillow_heif")

PHOTO = data.astronaut()[100:180, 150:246]
GREY = PHOTO[..., 1]
DEEP = np.arange(0, 65536, 7, dtype=np.uint16)[:9216].reshape(96, 96)
DEEP_RGB = np.stack([DEEP, DEEP.T, DEEP[::-1]], -1)


def saved(pixels: Any, name: str, mode: str | None = None, **settings: Any) -> bytes:
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, name, **settings)
    return file.getvalue()


def heic(pixels: np.ndarray, **settings: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(PIL.Image.fromarray(pixels)).save(file, quality=95, **settings)
    return file.getvalue()


def tiff(pixels: np.ndarray, **settings: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **settings)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_png(pixels: np.ndarray) -> bytes:
    colour = {2: 0, 3: 2}[pixels.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(pixels.shape[1], pixels.shape[0], 16, colour, rows)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second).mean())


REAL_FILES = {
    "jpeg": saved(PHOTO, "JPEG", quality=95),
    "png": saved(PHOTO, "PNG"),
    "webp": saved(PHOTO, "WEBP", quality=95),
    "tiff": saved(PHOTO, "TIFF"),
    "gif": saved(PHOTO, "GIF"),
    "bmp": saved(PHOTO, "BMP"),
    "avif": saved(PHOTO, "AVIF", quality=95),
    "heic": heic(PHOTO),
}


@pytest.mark.parametrize("name", REAL_FILES)
def test_every_format(name: str, tmp_path: Path) -> None:
    content = REAL_FILES[name]
    path = tmp_path / f"photo.{name}"
    path.write_bytes(content)
    decoded = decode(path)
    assert decoded.format == name
    assert decoded.notes == ()
    assert decoded.file_bytes == len(content)
    assert decoded.image.dtype == np.uint8
    assert decoded.image.flags.writeable
    assert difference(decoded.image, PHOTO) < 5
    if name in ("png", "tiff", "bmp"):
        np.testing.assert_array_equal(decoded.image, PHOTO)
    assert decoded.jpeg_quality == (95 if name == "jpeg" else None)
    np.testing.assert_array_equal(decode(content).image, decoded.image)


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from(["PNG", "TIFF", "BMP"]))
@settings(deadline=None, max_examples=30)
def test_lossless_formats_are_exact_at_any_size(width: int, height: int, name: str) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(saved(pixels, name)).image, pixels)


# orientation


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Store upright pixels as a camera held so would."""
    store: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda upright: upright,
        2: lambda upright: upright[:, ::-1],
        3: lambda upright: upright[::-1, ::-1],
        4: lambda upright: upright[::-1],
        5: lambda upright: upright.transpose(1, 0, 2),
        6: lambda upright: np.rot90(upright, 1),
        7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
        8: lambda upright: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(store[orientation](pixels))


def exif(orientation: int) -> bytes:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_is_applied_once(name: str, orientation: int) -> None:
    stored = turned(PHOTO, orientation)
    quality: dict[str, Any] = {} if name == "TIFF" else {"quality": 95}
    content = saved(stored, name, exif=exif(orientation), **quality)
    decoded = decode(content)
    assert difference(decoded.image, PHOTO) < 5
    if orientation > 1:
        assert decoded.notes == (f"turned upright (EXIF orientation {orientation})",)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_of_heic_is_applied_once(orientation: int) -> None:
    content = heic(turned(PHOTO, orientation), exif=exif(orientation))
    assert difference(decode(content).image, PHOTO) < 5


def test_impossible_orientation_is_ignored() -> None:
    decoded = decode(saved(PHOTO, "PNG", exif=exif(9)))
    np.testing.assert_array_equal(decoded.image, PHOTO)
    assert decoded.notes == ()


def test_broken_exif_keeps_the_pixels() -> None:
    for damage in (b"Exif\0\0garbage!", b"Exif\0\0II*\0\xff\xff\xff\x7f", exif(6)[:-9]):
        decoded = decode(saved(PHOTO, "PNG", exif=damage))
        assert decoded.image.size == PHOTO.size
    assert (
        "EXIF data is broken: orientation unknown"
        in decode(saved(PHOTO, "PNG", exif=b"Exif\0\0garbage!")).notes
    )


# colour


def test_srgb_profiles_leave_pixels_alone() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for pixels in (PHOTO, GREY):
        decoded = decode(saved(pixels, "PNG", icc_profile=srgb))
        expected = pixels if pixels.ndim == 3 else np.repeat(GREY[..., None], 3, 2)
        np.testing.assert_array_equal(decoded.image, expected)
        assert decoded.notes == ()


def swapped_profile() -> bytes:
    """An sRGB profile whose red and blue primaries are exchanged: visibly not sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_other_profiles_are_converted(mode: str) -> None:
    red = PIL.Image.new("RGB", (8, 8), (200, 30, 30))
    stored = red.quantize(2) if mode == "P" else red.convert(mode)
    decoded = decode(saved(stored, "PNG", icc_profile=swapped_profile()))
    assert np.abs(decoded.image[0, 0].astype(int) - (30, 30, 200)).max() <= 2
    (note,) = decoded.notes
    assert note.startswith("colours converted from ")
    assert note.endswith(" to sRGB")


@pytest.mark.parametrize("profile", [b"not a profile", swapped_profile()[:300]])
def test_broken_profiles_keep_the_pixels(profile: bytes) -> None:
    decoded = decode(saved(PHOTO, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(decoded.image, PHOTO)
    assert decoded.notes == ("colour profile is broken: colours are shown as stored",)


def test_profiles_of_other_channels_keep_the_pixels() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    decoded = decode(saved(PHOTO, "PNG", icc_profile=lab))
    np.testing.assert_array_equal(decoded.image, PHOTO)
    assert decoded.notes == ("colour profile is for other channels: colours are shown as stored",)


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk(name: str) -> None:
    """JPEG stores CMYK inverted, as Adobe does."""
    decoded = decode(saved(PHOTO, name, "CMYK"))
    assert difference(decoded.image, PHOTO) < 6
    assert decoded.notes == ("CMYK colours converted to RGB",)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "JPEG"), ("L", "PNG"), ("L", "TIFF"), ("L", "GIF"), ("L", "BMP"), ("L", "WEBP")],
)
def test_grey(mode: str, name: str) -> None:
    expected = np.repeat(GREY[..., None], 3, 2)
    assert difference(decode(saved(GREY, name, mode)).image, expected) < 3


@pytest.mark.parametrize("name", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit(name: str) -> None:
    bits = GREY > 127
    decoded = decode(saved(bits, name))
    np.testing.assert_array_equal(decoded.image, np.where(bits[..., None], 255, [0, 0, 0]))


def test_lab_tiff() -> None:
    lab = ImageCms.profileToProfile(
        PIL.Image.fromarray(PHOTO),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    assert difference(decode(saved(lab, "TIFF")).image, PHOTO) < 4


# transparency


def half_clear(mode: str) -> PIL.Image.Image:
    image = PIL.Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("PA", "TIFF"),
        ("RGBA", "GIF"),
        ("RGBA", "TIFF"),
        ("P", "PNG"),
    ],
)
def test_transparency_is_shown_on_white(mode: str, name: str) -> None:
    decoded = decode(saved(half_clear(mode), name))
    assert decoded.image[0, 1].tolist() == [255, 255, 255]
    assert decoded.image[0, 0].max() < 40
    assert decoded.notes == ("transparent parts are shown on white",)


@pytest.mark.parametrize(("pixel", "mode"), [((9, 8, 7), "RGB"), (9, "L")])
def test_a_transparent_colour_is_shown_on_white(pixel: Any, mode: str) -> None:
    image = PIL.Image.new(mode, (2, 1), pixel)
    image.putpixel((0, 0), 100 if mode == "L" else (100, 100, 100))
    decoded = decode(saved(image, "PNG", transparency=pixel))
    assert decoded.image[0].tolist() == [[100, 100, 100], [255, 255, 255]]


def test_partial_transparency_is_mixed() -> None:
    image = PIL.Image.new("RGBA", (1, 1), (0, 0, 0, 51))
    assert decode(saved(image, "PNG")).image[0, 0].tolist() == [204, 204, 204]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_changes_nothing(mode: str) -> None:
    decoded = decode(saved(PHOTO, "PNG", mode))
    np.testing.assert_array_equal(
        decoded.image, np.asarray(PIL.Image.fromarray(PHOTO).convert(mode).convert("RGB"))
    )
    assert decoded.notes == ()


# depth

DEEP_NOTE = ("16 bits a channel reduced to 8",)


@pytest.mark.parametrize("pixels", [DEEP, DEEP_RGB], ids=["grey", "rgb"])
def test_sixteen_bit_png_keeps_the_high_byte(pixels: np.ndarray) -> None:
    decoded = decode(deep_png(pixels))
    expected = pixels if pixels.ndim == 3 else pixels[..., None]
    np.testing.assert_array_equal(decoded.image, np.broadcast_to(expected >> 8, (96, 96, 3)))
    assert decoded.notes == DEEP_NOTE


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb"])
def test_sixteen_bit_tiff_keeps_the_high_byte(
    order: Any, compression: Any, photometric: str
) -> None:
    pixels = DEEP_RGB if photometric == "rgb" else DEEP[..., None]
    content = tiff(
        pixels.squeeze(), byteorder=order, compression=compression, photometric=photometric
    )
    if (order, photometric) == (">", "miniswhite"):
        with pytest.raises(UndecodableImageError, match="not supported"):
            decode(content)
        return
    decoded = decode(content)
    expected = 255 - (pixels >> 8) if photometric == "miniswhite" else pixels >> 8
    np.testing.assert_array_equal(decoded.image, np.broadcast_to(expected, (96, 96, 3)))
    assert decoded.notes == DEEP_NOTE


def test_planes_of_sixteen_bits() -> None:
    planes = np.moveaxis(DEEP_RGB, -1, 0)
    packed = tiff(planes, photometric="rgb", planarconfig="separate", compression="zlib")
    np.testing.assert_array_equal(decode(packed).image, DEEP_RGB >> 8)
    with pytest.raises(UndecodableImageError, match="planes of 16 bits are not supported"):
        decode(tiff(planes, photometric="rgb", planarconfig="separate"))


@pytest.mark.parametrize(
    ("pixels", "expected", "note"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255], "float32 values 0 to 1 scaled"),
        (np.array([[0.2, 0.4]], np.float32), [51, 102], "float32 values 0 to 1 scaled"),
        (np.array([[-5, 0, 5]], np.float32), [0, 128, 255], "float32 values -5 to 5 scaled"),
        (np.array([[np.nan, 1, np.inf, -np.inf]], np.float32), [0, 255, 255, 0], "0 to 1"),
        (np.array([[np.nan]], np.float32), [0], "0 to 1"),
        (np.array([[7, 7]], np.int32), [0, 0], "int32 values 7 to 7"),
        (np.array([[-100, 100]], np.int32), [0, 255], "int32 values -100 to 100"),
        (np.array([[0, 2**32 - 1]], np.uint32), [0, 255], "uint32 values 0 to 4.29497e+09"),
        (np.array([[-100, 100]], np.int16), [0, 255], "int32 values -100 to 100"),
    ],
)
def test_numbers_without_a_range_are_scaled(
    pixels: np.ndarray, expected: list[int], note: str
) -> None:
    decoded = decode(tiff(pixels, photometric="minisblack"))
    assert decoded.image[0, :, 0].tolist() == expected
    assert note in decoded.notes[0]


def test_ten_bit_heic_is_said() -> None:
    file = io.BytesIO()
    image = pillow_heif.from_bytes("RGB;16", (96, 96), DEEP_RGB.astype("<u2").tobytes())
    image.save(file, quality=100)
    assert any(
        note.endswith("bits a channel reduced to 8") for note in decode(file.getvalue()).notes
    )


# several pictures

SEVERAL = "holds several pictures: only the main one is examined"


@pytest.mark.parametrize("name", ["GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"])
def test_the_first_picture_is_taken(name: str) -> None:
    second = PIL.Image.fromarray(255 - PHOTO)
    decoded = decode(saved(PHOTO, name, save_all=True, append_images=[second]))
    assert difference(decoded.image, PHOTO) < 8
    assert SEVERAL in decoded.notes
    assert decoded.format == ("jpeg" if name == "MPO" else name.lower())


def test_the_main_picture_of_heic_is_taken() -> None:
    file = io.BytesIO()
    pictures = pillow_heif.from_pillow(PIL.Image.fromarray(255 - PHOTO))
    pictures.add_from_pillow(PIL.Image.fromarray(PHOTO))
    pictures.save(file, quality=95, primary_index=1)
    decoded = decode(file.getvalue())
    assert difference(decoded.image, PHOTO) < 5
    assert decoded.notes == (SEVERAL,)


# names


def test_a_wrong_name_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "photo.PNG"
    path.write_bytes(REAL_FILES["jpeg"])
    assert decode(path).notes == ("named .PNG but holds JPEG",)
    bare = tmp_path / "photo"
    bare.write_bytes(REAL_FILES["jpeg"])
    assert decode(bare).notes == ()


# what is refused


def refusal(source: Path | bytes, limits: Limits | None = None) -> str:
    with pytest.raises(UndecodableImageError) as caught:
        decode(source, *([limits] if limits else []))
    text = str(caught.value)
    assert text.isprintable()
    return text


def test_unreadable_paths(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.jpg") == "gone.jpg: cannot be read (no such file or directory)."
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    assert refusal(folder) == "folder.jpg: a folder, not an image."
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    assert refusal(pipe) == "pipe.jpg: not a regular file."
    assert "cannot be read" in refusal(tmp_path / "null\0.jpg")
    assert "file name too long" in refusal(tmp_path / ("x" * 5000))
    empty = tmp_path / "empty\n.jpg"
    empty.touch()
    assert refusal(empty) == "empty?.jpg: empty file."


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(REAL_FILES["jpeg"])
    path.chmod(0)
    assert refusal(path) == "secret.jpg: cannot be read (permission denied)."


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_read_errors() -> None:
    assert refusal(Path("/proc/self/mem")) == "mem: cannot be read (input/output error)."


@pytest.mark.parametrize(
    "content",
    [b"hello", b"%!PS-Adobe", b"<svg/>", b"\0\0\0\x10ftypisom\0\0\0\0", b"P6 1 1 255\nabc"],
)
def test_other_content_is_not_an_image(content: bytes) -> None:
    assert refusal(content).startswith("<memory>: not an image (known: JPEG, PNG, ")


def test_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50000, 50000, 1, 0, bytes(100)))
    assert refusal(path) == ("bomb.png: 50000 x 50000 pixels, more than the 200 million allowed.")
    huge = saved(PHOTO, "GIF")
    huge = huge[:6] + b"\xff\xff\xff\xff" + huge[10:]
    assert "65535 x 65535 pixels" in refusal(huge)
    tiled = tiff(np.zeros((16, 16), np.uint8), tile=(16, 16), photometric="minisblack")
    for tag in (322, 323):  # The tiles alone may be a bomb.
        place = tiled.index(struct.pack("<H", tag), 8)
        tiled = tiled[:place] + struct.pack("<HHII", tag, 4, 1, 60000) + tiled[place + 12 :]
    assert "60000 x 60000 pixels" in refusal(tiled)


def test_limits_are_the_callers() -> None:
    content = REAL_FILES["png"]
    assert refusal(content, Limits(max_pixels=7000)) == (
        "<memory>: 96 x 80 pixels, more than the 0.007 million allowed."
    )
    assert decode(content, Limits(max_pixels=96 * 80)).image.shape == (80, 96, 3)
    assert "more than the 100 bytes allowed" in refusal(content, Limits(max_bytes=100))
    assert decode(content, Limits(max_bytes=len(content))).file_bytes == len(content)


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_our_limit_counts_and_not_pillows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(saved(PHOTO, name)).image.shape == PHOTO.shape


@pytest.mark.parametrize("name", REAL_FILES)
def test_half_a_file_is_said_to_be_cut_short(name: str) -> None:
    content = REAL_FILES[name]
    reason = refusal(content[: len(content) // 2])
    assert reason.startswith("<memory>: truncated after "), reason


def test_the_message_counts_bytes() -> None:
    assert (
        refusal(REAL_FILES["bmp"][:12000]) == "<memory>: truncated after 12 kB of at least 23 kB."
    )
    assert refusal(REAL_FILES["jpeg"][:400]) == "<memory>: truncated after 400 bytes of JPEG data."
    big = saved(np.zeros((1000, 1000, 3), np.uint8), "BMP")
    assert "after 1.5 MB of at least 3.0 MB" in refusal(big[:1_500_000])


def test_the_boxes_of_avif_and_heic_say_how_long_it_should_be() -> None:
    head = b"\0\0\0\x10ftypavif\0\0\0\0"
    wide = head + struct.pack(">I4sQ", 1, b"mdat", 4984)
    assert refusal(wide) == "<memory>: truncated after 32 bytes of at least 5 kB."
    assert "of at least" not in refusal(head + bytes(16))


def test_a_second_picture_that_is_broken_does_not_matter() -> None:
    frames = saved(PHOTO, "GIF", save_all=True, append_images=[PIL.Image.fromarray(255 - PHOTO)])
    second = frames.rindex(b"," + struct.pack("<HHHH", 0, 0, 96, 80))
    decoded = decode(frames[: second + 5])
    assert decoded.notes == (SEVERAL,)
    assert difference(decoded.image, PHOTO) < 8


def test_no_memory_is_an_error_of_the_image() -> None:
    """A real one: more pixels than any address space holds, with the limit lifted."""
    content = png(2**31 - 1, 2**31 - 1, 8, 2, bytes(10))
    assert "not enough memory" in refusal(content, Limits(max_pixels=2**70))


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r"\.\[heif\]"):
        decode(REAL_FILES["heic"])
    assert decode(REAL_FILES["avif"]).format == "avif"


# fuzzing


def attempted(content: bytes, max_pixels: int) -> np.ndarray | str:
    try:
        return decode(content, Limits(max_pixels=max_pixels)).image
    except UndecodableImageError as error:
        return str(error)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(REAL_FILES)),
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, 255)), max_size=5),
    st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_an_image_or_one_line(
    name: str, damage: list[tuple[float, bool, int]], kept: float
) -> None:
    content = bytearray(REAL_FILES[name])
    for place, in_header, value in damage:
        span = min(len(content), 400) if in_header else len(content)
        content[int(place * (span - 1))] = value
    outcome = attempted(bytes(content[: int(kept * len(content))]), 10_000_000)
    if isinstance(outcome, str):
        assert outcome.startswith("<memory>: ")
        assert outcome.isprintable()


@settings(deadline=None, max_examples=100)
@given(st.sampled_from([file[:12] for file in REAL_FILES.values()]), st.binary(max_size=300))
def test_noise_behind_a_signature_never_escapes(head: bytes, tail: bytes) -> None:
    outcome = attempted(head + tail, 1_000_000)
    assert not isinstance(outcome, str) or outcome.isprintable()


# threads and warnings


def test_remarks_on_damaged_metadata_stay_inside() -> None:
    damaged = saved(PHOTO, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\x00\x12\x01\x03\0\x01\0\0\0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(damaged)
        decode(damaged)
    assert caught == []


def test_threads_do_not_disturb_each_other() -> None:
    strict, wide = Limits(max_pixels=10), Limits()

    def attempt(index: int) -> bool:
        name = sorted(REAL_FILES)[index % len(REAL_FILES)]
        try:
            return decode(REAL_FILES[name], strict if index % 2 else wide).image.size > 0
        except UndecodableImageError:
            return False

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(80)))
    assert outcomes == [index % 2 == 0 for index in range(80)]


def test_what_is_no_image_and_what_is_too_large_are_told_apart_from_what_is_broken():
    png = io.BytesIO()
    PIL.Image.new("RGB", (40, 30)).save(png, "PNG")
    cases = {
        NotAnImageError: (b"plain text", Limits()),
        ImageTooLargeError: (png.getvalue(), Limits(max_pixels=40 * 30 - 1)),
        UndecodableImageError: (png.getvalue()[:60], Limits()),
    }
    for kind, (content, limits) in cases.items():
        with pytest.raises(UndecodableImageError) as caught:
            decode(content, limits)
        assert type(caught.value) is kind
    with pytest.raises(ImageTooLargeError):
        decode(png.getvalue(), Limits(max_bytes=len(png.getvalue()) - 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"FUJIFILMCCD-RAW 0201FF383101", "camera raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"IIRO\x08\0\0\0", "camera raw"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a\x7a\x1f", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
def test_pictures_of_other_formats_are_named_and_never_called_no_image(
    content: bytes, reason: str
) -> None:
    with pytest.raises(NotAnImageError) as caught:
        decode(content)
    assert reason in str(caught.value)
    assert "not an image" not in str(caught.value)


def test_a_transparent_colour_of_sixteen_bits_is_shown_and_said_to_be() -> None:
    grey = saved(PIL.Image.fromarray(np.full((8, 8), 30_000, np.uint16)), "PNG")
    at = grey.index(b"IDAT") - 4
    content = grey[:at] + chunk(b"tRNS", struct.pack(">H", 30_000)) + grey[at:]
    decoded = decode(content)
    assert (decoded.image == 117).all()
    assert "one colour is declared transparent, and is shown" in decoded.notes
