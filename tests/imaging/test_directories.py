"""Which picture of a TIFF file is examined, and which files are raws or of a kind that is not known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from skimage import data

from gammascope.errors import UndecodableImageError
from gammascope.imaging.decode import decode

FULL = data.astronaut()[:120, :160]
SMALL = np.ascontiguousarray(FULL[::4, ::4])
REDUCED = {"subfiletype": 1}
RGB = {"photometric": "rgb"}


def written(*pages: tuple[np.ndarray, dict[str, Any]], **settings: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **settings) as writer:
        for pixels, options in pages:
            writer.write(pixels, **options)
    return file.getvalue()


def below(first: dict[str, Any], full: dict[str, Any], **settings: Any) -> bytes:
    """Write a small first picture that names the full one below it."""
    return written((SMALL, {"subifds": 1, **RGB, **first}), (FULL, {**RGB, **full}), **settings)


LAYOUTS = {
    "below, marked": below(REDUCED, {}),
    "below, not marked": below({}, {}),
    "below, big": below(REDUCED, {}, bigtiff=True),
    "below, other byte order": below(REDUCED, {}, byteorder=">"),
    "behind": written((SMALL, RGB | REDUCED), (FULL, RGB)),
    "behind, packed": written((SMALL, RGB | REDUCED), (FULL, RGB | {"compression": "zlib"})),
    "behind two": written((SMALL, RGB | REDUCED), (SMALL[::2], RGB | REDUCED), (FULL, RGB)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reduced_copy_is_passed_over(layout: str) -> None:
    decoded = decode(LAYOUTS[layout])
    np.testing.assert_array_equal(decoded.image, FULL)
    assert any("reduced copy" in note and "160 x 120" in note for note in decoded.notes)


def test_a_full_first_picture_stays_the_one_examined() -> None:
    pyramid = written((FULL, {"subifds": 1, **RGB}), (SMALL, RGB | REDUCED))
    assert decode(pyramid).notes == ()
    np.testing.assert_array_equal(decode(pyramid).image, FULL)
    pages = written((SMALL, RGB), (FULL, RGB))
    assert decode(pages).image.shape == SMALL.shape
    assert any("several pictures" in note for note in decode(pages).notes)


@pytest.mark.parametrize(
    "raw",
    [
        below(REDUCED | {"extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}, {}),
        written((SMALL, {"subifds": 1, **RGB, **REDUCED}), (FULL[..., 0], {"photometric": "cfa"})),
        written((FULL, {"photometric": "linear_raw"})),
        (whole := written((FULL, RGB)))[:8] + b"CR\2\0" + whole[12:],
    ],
    ids=["DNG", "mosaic below", "linear", "CR2"],
)
def test_camera_raws_are_refused_as_such(raw: bytes) -> None:
    with pytest.raises(UndecodableImageError, match=r"<memory>: a camera raw.*develop it"):
        decode(raw)


def test_a_file_with_nothing_but_a_reduced_copy_is_refused() -> None:
    with pytest.raises(UndecodableImageError, match=r"only a reduced copy.*40 x 30"):
        decode(written((SMALL, RGB | REDUCED)))


def test_the_first_directory_turns_the_full_picture() -> None:
    turned = below(REDUCED | {"extratags": [(274, 3, 1, 6, True)]}, {})
    np.testing.assert_array_equal(decode(turned).image, np.rot90(FULL, -1))


@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "uint64", "int64"])
def test_sound_files_of_an_unknown_kind_are_not_called_broken(kind: str) -> None:
    content = written((FULL.astype(kind), RGB))
    with pytest.raises(UndecodableImageError, match=r"TIFF is not supported \(3 x \d+ bits"):
        decode(content)
    with pytest.raises(UndecodableImageError, match=r"broken|truncated"):
        decode(content[: len(content) // 2])


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw", "jpeg"])
def test_damaged_pixels_are_not_called_an_unknown_kind(compression: str) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(FULL).save(file, "TIFF", compression=compression)
    content = bytearray(file.getvalue())
    content[200:1200] = b"\x5a" * 1000
    try:
        decode(bytes(content))
    except UndecodableImageError as error:
        assert "not supported" not in str(error)  # noqa: PT017 - some codecs take any bytes


def test_big_endian_bigtiff_is_not_called_broken() -> None:
    with pytest.raises(UndecodableImageError, match=r"not supported.*BigTIFF"):
        decode(written((FULL, RGB), bigtiff=True, byteorder=">"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_never_raises_anything_else(layout: str, tmp_path: Path) -> None:
    content, rng = LAYOUTS[layout], np.random.default_rng(7)
    for _ in range(40):
        bad = bytearray(content)
        for at in (*rng.integers(0, len(bad), 3), *rng.integers(0, 400, 3)):
            bad[at] = rng.integers(256)
        for some in (bytes(bad), bytes(bad[: rng.integers(8, len(bad))])):
            try:
                decode(some)
            except UndecodableImageError as error:
                assert "\n" not in str(error)  # noqa: PT017 - most are refused, some are not
