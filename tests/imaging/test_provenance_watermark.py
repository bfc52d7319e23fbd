"""The invisible watermark of Stable Diffusion and FLUX, written here by the published method, read and not imagined."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from skimage import data

from gammascope.imaging.decode import decode
from gammascope.imaging.provenance import provenance_of, watermark
from gammascope.report import Evidence, Strength

SDXL = 0b101100111110110010010000011110111011000110011110
FLUX = 0b001010101111111010000111100111001111010100101110
PHOTOS = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}
WRITERS = {  # Bits, the value of no colour, and whether red and blue are swapped.
    "Stable Diffusion XL": (f"{SDXL:b}", 0.5, False),
    "Stable Diffusion XL, early": (f"{SDXL:b}", 0.5, True),
    "FLUX": (f"{FLUX:b}", 0.5, False),
    "Stable Diffusion 1": ("".join(f"{byte:08b}" for byte in b"StableDiffusionV1"), 128.0, False),
    "Stable Diffusion 2": ("".join(f"{byte:08b}" for byte in b"SDV2"), 128.0, False),
    "InvokeAI": ("".join(f"{byte:08b}" for byte in b"InvokeAI"), 128.0, False),
}


def marked(pixels: np.ndarray, bits: str, zero: float, swapped: bool) -> np.ndarray:
    """Write a message as the programs do: in bytes with a zero of 128, in floats with one of 0.5."""
    colours = pixels[..., ::-1] if swapped else pixels
    red, green, blue = np.moveaxis(colours.astype(float), -1, 0)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = 0.492 * (blue - light) + zero, 0.877 * (red - light) + zero
    in_bytes = zero > 1
    if in_bytes:
        light, u, v = (np.rint(one).clip(0, 255) for one in (light, u, v))
    height, width = (side // 8 * 8 for side in u.shape)
    part = u[:height, :width]
    band = part.reshape(height // 2, 2, width // 2, 2).sum((1, 3)) / 2
    blocks = band.reshape(height // 8, 4, width // 8, 4).swapaxes(1, 2).reshape(-1, 16)
    number = np.arange(len(blocks))
    place = np.abs(blocks[:, 1:]).argmax(1) + 1
    value = blocks[number, place]
    bit = np.array(list(bits), int)[number % len(bits)]
    moved = np.zeros_like(blocks)
    size = (np.abs(value) // 36 + 0.25 + 0.5 * bit) * 36
    moved[number, place] = np.where(value >= 0, size, -size) - value
    change = moved.reshape(height // 8, width // 8, 4, 4).swapaxes(1, 2)
    change = change.reshape(height // 2, width // 2)
    part += change.repeat(2, 0).repeat(2, 1) / 2
    if in_bytes:
        u = u.astype(int).clip(0, 255)
    u, v = u - zero, v - zero
    colours = np.stack([light + 1.14 * v, light - 0.395 * u - 0.581 * v, light + 2.032 * u], -1)
    colours = (np.rint(colours) if in_bytes else colours).clip(0, 255).astype(np.uint8)
    return colours[..., ::-1] if swapped else colours


def saved(pixels: np.ndarray, kind: str = "PNG", **how: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **how)
    return file.getvalue()


def found(content: bytes, *, quick: bool = False) -> Evidence | None:
    pixels = decode(content).image
    items = {item.name: item for item in provenance_of(content, quick=quick, pixels=pixels)}
    return items.get("provenance:watermark")


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("writer", WRITERS)
def test_every_message_is_read_from_every_picture_and_ascribed(writer: str, photo: str) -> None:
    (item,) = watermark.findings(marked(PHOTOS[photo], *WRITERS[writer]))
    assert f"programs of {writer.split(',', maxsplit=1)[0]} write" in item.statement
    assert item.strength is Strength.MODERATE, "anyone can write it"
    assert "any picture" in item.limits


@pytest.mark.parametrize("photo", PHOTOS)
def test_nothing_is_imagined_and_nothing_is_said_where_nothing_is_read(photo: str) -> None:
    pixels = PHOTOS[photo]
    for other in (pixels, pixels[::-1], np.full_like(pixels, 128), np.zeros_like(pixels)):
        assert not list(watermark.findings(other))
    for bits in (f"{0xACE0F1D2B3A4:b}", "0" * 48, "1" * 46, "01" * 32):
        assert not list(watermark.findings(marked(pixels, bits, 0.5, False)))


def test_what_destroys_it_leaves_no_statement_at_all() -> None:
    pixels = marked(PHOTOS["astronaut"], *WRITERS["Stable Diffusion XL"])
    smaller = np.asarray(PIL.Image.fromarray(pixels).resize((400, 400)))
    for content in (saved(smaller), saved(pixels[3:, 5:]), saved(pixels, "JPEG", quality=70)):
        items = provenance_of(content, pixels=decode(content).image)
        assert not [item for item in items if "watermark" in item.statement]


def test_small_pictures_and_the_fast_profile_are_not_looked_at() -> None:
    writer, photo = WRITERS["Stable Diffusion XL"], PHOTOS["astronaut"]
    assert found(saved(marked(photo, *writer)), quick=True) is None
    assert found(saved(marked(photo[:248, :256], *writer))) is None, "the writer refuses such"
    assert found(saved(marked(photo[:400, :400], *writer))) is not None


def test_a_scan_looks_for_it(tmp_path) -> None:
    from gammascope.detection.pipeline import Pipeline

    path = tmp_path / "marked.png"
    path.write_bytes(saved(marked(PHOTOS["coffee"], *WRITERS["FLUX"])))
    report = Pipeline.load("mobilenet").report(path)
    assert "provenance:watermark" in [item.name for item in report.evidence]


@pytest.mark.parametrize("size", [(7, 9400), (9400, 7), (15, 4400), (4400, 15), (16, 4096)])
def test_thin_pictures_have_no_block_to_read(size):
    assert list(watermark.findings(np.full((*size, 3), 90, np.uint8))) == []
