from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from gammascope.imaging.codecs import (
    Encoding,
    EncodingLaw,
    RescaleLaw,
    add_noise,
    adjust,
    blur,
    encode,
    halftone,
    jpeg_quality,
    jpeg_subsampling,
    reencode,
    rescale,
    rescale_mask,
    sharpen,
)

PHOTO = data.astronaut()[100:180, 150:260]


def error(first: Any, second: Any) -> Any:
    return float(np.abs(first.astype(int) - second).mean())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (("gif",), "format='gif'"),
        (("jpeg", 0), "quality=0"),
        (("jpeg", 101), "quality=101"),
        (("jpeg", 90, "4:1:1"), "subsampling='4:1:1'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_encoding_is_refused_with_the_value(values: Any, named: Any) -> None:
    with pytest.raises(ValueError, match=named):
        Encoding(*values)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "png"])
def test_encoders_write_their_format(name: Any) -> None:
    with PIL.Image.open(io.BytesIO(encode(PHOTO, Encoding(name)))) as file:
        assert file.format == name.upper()
        assert file.size == (110, 80)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40))
def test_png_loses_nothing(width: Any, height: Any) -> None:
    image = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(reencode(image, Encoding("png")), image)


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_lower_quality_loses_more(name: Any) -> None:
    losses = [error(reencode(PHOTO, Encoding(name, quality)), PHOTO) for quality in (95, 60, 20)]
    assert losses == sorted(losses)
    assert 0 < losses[0] < 5


def test_formats_refuse_sides_they_cannot_hold() -> None:
    with pytest.raises(ValueError, match="16384 x 1 pixels: webp holds at most 16383"):
        encode(np.zeros((1, 16384, 3), np.uint8), Encoding("webp"))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 100), st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]))
def test_jpeg_settings_are_read_back(quality: Any, subsampling: Any) -> None:
    file = encode(PHOTO, Encoding("jpeg", quality, subsampling))
    assert jpeg_quality(file) == quality
    assert jpeg_subsampling(file) == subsampling


def test_tables_of_other_encoders_get_the_nearest_quality() -> None:
    tables = [np.full(64, 3).tolist(), np.full(64, 5).tolist()]
    file = io.BytesIO()
    PIL.Image.fromarray(PHOTO).save(file, "JPEG", qtables=tables)
    assert jpeg_quality(file.getvalue()) in range(95, 99)


def test_what_a_jpeg_does_not_say_is_none() -> None:
    grey = io.BytesIO()
    PIL.Image.fromarray(PHOTO).convert("L").save(grey, "JPEG", quality=70)
    assert jpeg_quality(grey.getvalue()) == 70
    assert jpeg_subsampling(grey.getvalue()) is None
    for nothing in (b"", b"\xff\xd8", b"\x89PNG", encode(PHOTO, Encoding("png"))):
        assert jpeg_quality(nothing) is None
        assert jpeg_subsampling(nothing) is None


def frame(*sampling: int) -> Any:
    components = b"".join(bytes((index, factor, 0)) for index, factor in enumerate(sampling, 1))
    body = b"\x08\x00\x01\x00\x01" + bytes((len(sampling),)) + components
    return b"\xff\xd8\xff\xff\xc0" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("luma", "chroma", "expected"),
    [
        (0x12, 0x11, "4:4:0"),
        (0x41, 0x11, "4:1:1"),
        (0x32, 0x21, None),
        (0x31, 0x11, None),
        (0x22, 0, "4:2:0"),
    ],
)
def test_odd_subsamplings(luma: Any, chroma: Any, expected: Any) -> None:
    file = frame(luma, chroma, chroma)
    assert jpeg_subsampling(file) == expected
    assert jpeg_quality(file) is None


def test_sixteen_bit_and_broken_tables() -> None:
    ones = b"\xff\xd8\xff\xdb\x00\x83\x10" + b"\x00\x01" * 64
    assert jpeg_quality(ones) == 100
    assert jpeg_quality(ones[:60]) is None
    assert jpeg_quality(b"\xff\xd8\xff\xdb\x00\x01\xff\xdb") is None


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.integers(0, 700), st.integers(0, 255))
def test_jpeg_headers_never_raise(tail: Any, position: Any, value: Any) -> None:
    whole = bytearray(encode(PHOTO, Encoding("jpeg")))
    whole[position] = value
    for file in (bytes(whole), b"\xff\xd8\xff" + tail):
        quality = jpeg_quality(file)
        assert quality is None or 1 <= quality <= 100
        jpeg_subsampling(file)


def test_blur_is_a_gaussian() -> None:
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 255
    blurred = blur(dot, 1.0)
    assert abs(int(blurred[10, 10, 0]) - 255 / (2 * np.pi)) <= 1
    assert int(blurred[10, 10, 0]) > int(blurred[10, 11, 0]) > int(blurred[11, 11, 0]) > 0
    np.testing.assert_array_equal(blurred[..., 0], blurred[..., 0].T)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 255), st.integers(1, 9), st.integers(1, 9), st.floats(0, 5))
def test_flat_images_stay_flat(grey: Any, width: Any, height: Any, sigma: Any) -> None:
    flat = np.full((height, width, 3), grey, np.uint8)
    np.testing.assert_array_equal(blur(flat, sigma), flat)
    np.testing.assert_array_equal(sharpen(flat, 1.5, sigma), flat)


def test_neutral_settings_change_nothing() -> None:
    rng = np.random.default_rng(0)
    for same in (
        blur(PHOTO, 0.0),
        sharpen(PHOTO, 0.0),
        add_noise(PHOTO, 0.0, rng),
        adjust(PHOTO),
        rescale(PHOTO, 1.0),
    ):
        np.testing.assert_array_equal(same, PHOTO)


def test_sharpening_undoes_some_blur() -> None:
    soft = blur(PHOTO, 1.0)
    assert error(sharpen(soft, 1.0), PHOTO) < error(soft, PHOTO)


def test_noise_has_the_deviation_asked_for() -> None:
    grey = np.full((100, 100, 3), 128, np.uint8)
    noisy = add_noise(grey, 6.0, np.random.default_rng(1))
    assert 5.8 < noisy.std() < 6.2
    assert abs(noisy.mean() - 128) < 0.2
    np.testing.assert_array_equal(noisy, add_noise(grey, 6.0, np.random.default_rng(1)))


def test_tones() -> None:
    grey = np.array([[[0, 128, 255]]], np.uint8)
    assert adjust(grey, brightness=0.1)[0, 0].tolist() == [26, 154, 255]
    assert adjust(grey, contrast=0.0)[0, 0].tolist() == [128, 128, 128]
    assert adjust(grey, gamma=2.0)[0, 0].tolist() == [0, 64, 255]


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_rescaling(kernel: Any) -> None:
    assert rescale(PHOTO, 0.5, kernel).shape == (40, 55, 3)
    assert rescale(PHOTO, 0.001, kernel).shape == (1, 1, 3)
    mask = np.zeros((80, 110), bool)
    mask[20:40, 30:60] = True
    small = rescale_mask(mask, 0.5)
    assert small.shape == (40, 55)
    assert small[10:20, 15:30].all()
    assert small.sum() == 150


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: blur(PHOTO, -1.0), "sigma=-1"),
        (lambda: adjust(PHOTO, gamma=0.0), "gamma=0"),
        (lambda: rescale(PHOTO, 0.0), "factor=0"),
        (lambda: EncodingLaw(untouched=0.9), r"\(0.9, 0.4, 0.2, 0.1\)"),
        (lambda: EncodingLaw(untouched=-0.3, jpeg=1.0), "-0.3"),
        (lambda: EncodingLaw(qualities=((80, 0.0),)), "qualities"),
        (lambda: EncodingLaw(qualities=((101, 1.0),)), "quality=101"),
        (lambda: EncodingLaw(subsamplings=()), "subsamplings"),
        (lambda: RescaleLaw(probability=2.0), "probability=2"),
        (lambda: RescaleLaw(lowest=0.0), "lowest=0"),
        (lambda: RescaleLaw(kernels=()), "kernels"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_settings_are_refused_with_the_value(change: Any, named: Any) -> None:
    with pytest.raises(ValueError, match=named):
        change()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32))
def test_the_law_is_deterministic_and_keeps_size_and_input(seed: Any) -> None:
    law, before = EncodingLaw(), PHOTO.copy()
    first = law(PHOTO, np.random.default_rng(seed))
    np.testing.assert_array_equal(first, law(PHOTO, np.random.default_rng(seed)))
    assert first.shape == PHOTO.shape
    assert first is not PHOTO
    np.testing.assert_array_equal(PHOTO, before)
    expected = PHOTO
    for encoding in law.draw(np.random.default_rng(seed)):
        expected = reencode(expected, encoding)
    np.testing.assert_array_equal(first, expected)


def test_the_law_draws_its_shares() -> None:
    rng, law = np.random.default_rng(0), EncodingLaw()
    draws = [law.draw(rng) for _ in range(4000)]
    formats: list[Any] = [tuple(encoding.format for encoding in draw) for draw in draws]
    for passes, share in (((), 0.3), (("jpeg",), 0.4), (("jpeg", "jpeg"), 0.2), (("webp",), 0.1)):
        assert abs(formats.count(passes) / len(draws) - share) < 0.03
    qualities = [encoding.quality for draw in draws for encoding in draw]
    assert (min(qualities), max(qualities)) == (50, 100)
    assert qualities.count(75) > 5 * qualities.count(74)
    assert {encoding.subsampling for draw in draws for encoding in draw} == {
        "4:4:4",
        "4:2:2",
        "4:2:0",
    }


def test_a_law_of_one_outcome_always_draws_it() -> None:
    law = EncodingLaw(0.0, 1.0, 0.0, 0.0, qualities=((80, 1.0),), subsamplings=(("4:4:4", 1.0),))
    rng = np.random.default_rng(0)
    assert {law.draw(rng) for _ in range(50)} == {(Encoding("jpeg", 80, "4:4:4"),)}


def test_rescale_law() -> None:
    rng, law = np.random.default_rng(0), RescaleLaw(0.5, 0.5, 1.0)
    draws = [law.draw(rng) for _ in range(1000)]
    drawn = [draw for draw in draws if draw is not None]
    assert 400 < len(drawn) < 600
    assert all(0.5 <= factor <= 1 for factor, _ in drawn)
    assert {kernel for _, kernel in drawn} == {"bilinear", "bicubic", "lanczos"}


@pytest.mark.parametrize("tone", [0, 60, 128, 200, 255])
@pytest.mark.parametrize("pitch", [2.5, 3.0, 4.0, 6.0])
def test_printed_dots_keep_the_tone_on_average(tone: Any, pitch: Any) -> None:
    printed = halftone(np.full((90, 90, 3), tone, np.uint8), pitch)
    assert printed[10:-10, 10:-10].mean() == pytest.approx(tone, abs=4)


def test_coarser_dots_change_a_photo_more_and_are_seen() -> None:
    losses = [error(halftone(PHOTO, pitch), PHOTO) for pitch in (4.0, 6.0, 8.0)]
    assert losses == sorted(losses)
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert halftone(grey, 6.0).std() > 10
    with pytest.raises(ValueError, match=r"pitch=2\.4"):
        halftone(PHOTO, 2.4)
