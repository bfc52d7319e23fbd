"""Every method on made cases whose truth is known, and on pictures it has to be silent about."""

from __future__ import annotations

import io

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from tests.forensics.made_pictures import overlap, saved, somewhere

from gammascope.forensics import (
    METHODS,
    Finding,
    Picture,
    Silence,
    evidence_of,
    examine,
    grids,
    noise,
    quantisation,
    shifted,
    variance,
)
from gammascope.imaging.codecs import Encoding, blur, reencode
from gammascope.imaging.decode import decode

RNG = np.random.default_rng


def grainy(shape: tuple[int, int], seed: int = 0, grain: float = 4) -> np.ndarray:
    """Make a scene of soft shapes with a camera's noise on it."""
    rng = RNG(seed)
    soft = PIL.Image.fromarray((rng.random((12, 16)) * 160 + 45).astype(np.uint8))
    scene = np.asarray(soft.resize(shape[::-1], PIL.Image.Resampling.BICUBIC), float)[..., None]
    return np.clip(np.rint(scene + rng.normal(0, grain, (*shape, 3))), 0, 255).astype(np.uint8)


def reason(outcome: object) -> str:
    assert isinstance(outcome, Silence)
    return outcome.reason


# Earlier compression


def pasted(photos, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Paste a piece of a JPEG file, off its own grid, into a photo that was saved with the same quality."""
    host = reencode(photos["coffee"], Encoding("jpeg", first, "4:4:4"))
    truth = somewhere(host.shape, 120, 200, 120)
    other = reencode(photos["astronaut"][3:, 5:], Encoding("jpeg", first, "4:4:4"))
    edited = host.copy()
    edited[truth] = other[100:220, 150:270].reshape(-1, 3)
    return edited, truth


def inside(found: Finding, truth: np.ndarray) -> tuple[float, float]:
    """Return which share of the marked pixels was edited, and which share of the edited ones is marked."""
    marked = found.map() > 0.5
    return float(truth[marked].mean()), float(marked[truth].mean())


@pytest.mark.parametrize(("first", "last"), [(60, 90), (75, 95), (85, 95)])
def test_a_part_compressed_once_is_found_in_a_picture_compressed_twice(photos, first, last):
    edited, truth = pasted(photos, first)
    found = quantisation.examine(saved(edited, last))
    assert METHODS["quantisation"].clearness(found) > 1
    right, covered = inside(found, truth)
    assert right > 0.9
    assert covered > 0.5, "smooth places in it cannot be told"


@pytest.mark.parametrize("quality", [60, 85, 95])
@pytest.mark.parametrize("cut", [(0, 0), (3, 5)])
def test_a_part_is_found_in_a_photo_that_was_saved_without_loss(photos, quality, cut):
    edited, truth = (some[cut[0] :, cut[1] :] for some in pasted(photos, quality))
    found = quantisation.examine(Picture(np.ascontiguousarray(edited)))
    assert METHODS["quantisation"].clearness(found) > 1
    right, covered = inside(found, truth)
    assert right > 0.8
    assert covered > 0.4


def test_the_grid_of_a_photo_without_a_file_is_found(photos):
    cropped = reencode(photos["coffee"], Encoding("jpeg", 85))[3:, 6:].astype(np.float32)
    assert quantisation.Grids.of(cropped.mean(2)).clearest() == (5, 2)


@pytest.mark.parametrize("first", [60, 75, 90])
def test_a_picture_that_was_compressed_before_as_a_whole_shows_no_part(photos, first):
    once = reencode(photos["coffee"], Encoding("jpeg", first, "4:4:4"))
    for picture in (saved(once, 95), Picture(once), Picture(once[3:, 5:].copy())):
        found = quantisation.examine(picture)
        assert METHODS["quantisation"].clearness(found) < 0.5


@pytest.mark.parametrize(("first", "last"), [(60, 90), (75, 95), (85, 98)])
@pytest.mark.parametrize("cut", [(3, 5), (0, 6), (2, 4)])
def test_a_part_is_found_in_a_file_that_was_cropped_before_it_was_saved(photos, first, last, cut):
    edited, truth = (some[cut[0] :, cut[1] :] for some in pasted(photos, first))
    found = quantisation.examine(saved(np.ascontiguousarray(edited), last))
    assert METHODS["quantisation"].clearness(found) > 1
    right, covered = inside(found, truth)
    assert right > 0.8
    assert covered > 0.4


def test_a_report_says_that_a_file_was_cropped_and_by_how_much(photos):
    once = reencode(photos["coffee"], Encoding("jpeg", 80))
    for cut, blocks in (((3, 5), "3 px further right and 5 px further down"), ((0, 0), "")):
        cropped = saved(np.ascontiguousarray(once[cut[0] :, cut[1] :]), 95)
        told = {e.name: e for e in evidence_of(examine(cropped))}["forensics:quantisation"]
        assert "no part stands out" in told.statement
        assert ("cropped since" in told.statement) == bool(blocks)
        assert blocks in told.statement


@pytest.mark.parametrize("cut", [(3, 5), (0, 6), (4, 2), (4, 4), (0, 4), (4, 0)])
def test_a_photo_cropped_before_it_was_saved_again_shows_no_part(photos, cut):
    """Half a block away the comb of the first compression must not be taken for the law of no grid."""
    most = 1 if set(cut) <= {0, 4} else 0.5  # A grid half a block away is no mirror image's own.
    scene = np.concatenate([photos["coffee"][:200, :512], photos["astronaut"][:200]])
    once = reencode(scene, Encoding("jpeg", 80))[cut[0] :, cut[1] :]
    for last in (90, 98):
        found = quantisation.examine(saved(np.ascontiguousarray(once), last))
        assert isinstance(found, Silence) or METHODS["quantisation"].clearness(found) < most


def test_a_part_with_a_comb_of_its_own_is_not_taken_for_one_without(photos):
    """Texture below a sky has another law than the sky, but it was compressed on the same grid."""
    scene = np.full((512, 640, 3), 150, np.uint8)
    scene[:400] = np.rint(np.linspace(200, 150, 400))[:, None, None] + RNG(0).integers(
        0, 2, (400, 640, 1)
    )
    scene[400:, 200:500] = photos["astronaut"][:112, :300]
    once = reencode(scene, Encoding("jpeg", 80, "4:4:4"))
    for picture in (saved(once, 95), Picture(once)):
        assert METHODS["quantisation"].clearness(quantisation.examine(picture)) < 0.5


@pytest.mark.parametrize("quality", [60, 75])
def test_another_codec_that_takes_the_comb_away_here_and_there_is_no_edit(photos, quality):
    """AV1's filters smooth some blocks and leave others, so that parts of an untouched photo lack the comb."""
    once = reencode(photos["cat"], Encoding("jpeg", 85))
    recoded = reencode(once, Encoding("avif", quality))
    for picture in (Picture(recoded), saved(recoded, 95)):
        found = quantisation.examine(picture)
        assert METHODS["quantisation"].clearness(found) < 0.5
        assert "faded in places all over" in found.note
        assert not (np.nan_to_num(found.cells) > 0.5).any()


def test_a_comb_that_fades_towards_the_corners_is_no_edit(photos):
    """A lens correction moves pixels by more and more; a pasted part ends within a cell or two."""
    once = reencode(photos["cat"], Encoding("jpeg", 60))
    height, width = once.shape[:2]
    down, across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    scale = 1 - np.float32(0.025) * (down**2 + across**2)
    columns, rows = (across * scale + 1) / 2 * (width - 1), (down * scale + 1) / 2 * (height - 1)
    corrected = cv2.remap(once, columns, rows, cv2.INTER_CUBIC)
    found = quantisation.examine(Picture(corrected))
    assert METHODS["quantisation"].clearness(found) < 0.5
    assert "faded" in found.note


def test_a_screenshot_of_a_page_and_letters_over_a_photo_are_no_edit(photos):
    photo = reencode(photos["coffee"], Encoding("jpeg", 85))
    height, width = photo.shape[:2]
    font = PIL.ImageFont.load_default(18)
    page = PIL.Image.new("RGB", (width + 400, height + 300), (255, 255, 255))
    page.paste(PIL.Image.fromarray(photo), (37, 121))
    meme = PIL.Image.fromarray(photo)
    for row in range(12):
        at = (width + 60, 100 + 26 * row)
        PIL.ImageDraw.Draw(page).text(at, "The quick brown fox jumps over", (20, 20, 20), font)
    PIL.ImageDraw.Draw(meme).text((30, 20), "SCAN A PICTURE", (255, 255, 255), font, stroke_width=2)
    for made in (page, meme):
        for picture in (Picture(np.asarray(made)), saved(np.asarray(made), 95)):
            found = quantisation.examine(picture)
            assert isinstance(found, Silence) or METHODS["quantisation"].clearness(found) < 0.5


def test_what_the_two_laws_say_is_told_apart_by_block():
    rng = RNG(0)
    luma = rng.normal(128, 20, (256, 256))
    blocks = quantisation.Blocks(luma.astype(np.float32), np.ones((8, 8)))
    assert abs(blocks.ratios().mean()) < 1, "no grid"
    part = somewhere(blocks.ratios().shape, 4, 4, 12)
    assert blocks.own_gain(part) < 0
    compressed = reencode(
        np.repeat(np.clip(luma, 0, 255)[..., None], 3, 2).astype(np.uint8), Encoding("jpeg", 60)
    )
    blocks = quantisation.Blocks(compressed[..., 0].astype(np.float32), np.ones((8, 8)))
    assert blocks.ratios().mean() > 5
    assert blocks.own_gain(part) > 1


def test_a_part_of_a_turned_file_is_marked_where_it_is_seen(photos):
    host = reencode(photos["coffee"][:390], Encoding("jpeg", 70, "4:4:4"))
    host[40:140, 60:160] = photos["astronaut"][100:200, 150:250]
    file, exif = io.BytesIO(), PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(host).save(file, "JPEG", quality=95, exif=exif)
    seen = decode(file.getvalue()).image
    assert seen.shape[0] > seen.shape[1]
    truth = np.rot90(somewhere(host.shape, 40, 60, 100), -1)
    right, covered = inside(quantisation.examine(Picture(seen, file.getvalue())), truth)
    assert right > 0.9
    assert covered > 0.5


def test_an_earlier_compression_is_not_seen_where_there_is_none(photos):
    photo = photos["coffee"]
    assert "no trace of an earlier" in reason(quantisation.examine(saved(photo, 90)))
    assert "no trace of an earlier" in reason(quantisation.examine(Picture(photo)))
    assert "smaller than 128 px" in reason(quantisation.examine(saved(photo[:100], 90)))


# Shifted double quantisation


def spliced(photos, first: int, at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Paste a piece of a JPEG file of a quality into a photo, so many pixels off the grid of its own."""
    other = reencode(photos["astronaut"], Encoding("jpeg", first))
    edited = photos["coffee"].copy()
    truth = somewhere(edited.shape, 104 + at[0], 200 + at[1], 96)
    edited[truth] = other[104:200, 152:248].reshape(-1, 3)
    return edited, truth


@pytest.mark.parametrize(
    ("first", "at", "last"),
    [(60, (3, 5), 90), (75, (1, 7), 90), (75, (4, 4), 95), (85, (6, 2), 95)],
)
def test_a_piece_of_a_jpeg_file_is_found_off_its_grid(photos, first, at, last):
    edited, truth = spliced(photos, first, at)
    found = shifted.examine(saved(edited, last))
    assert found.score > METHODS["shifted"].threshold
    assert overlap(found, truth) > 0.65


@pytest.mark.parametrize("at", [(0, 0), (0, 5)])
def test_a_piece_on_a_line_with_the_last_grid_is_not_looked_for(photos, at):
    edited, _ = spliced(photos, 75, at)
    assert shifted.examine(saved(edited, 95)).score < METHODS["shifted"].threshold


def test_what_was_never_compressed_before_has_no_other_grid(photos):
    assert shifted.examine(saved(photos["coffee"], 95)).score < METHODS["shifted"].threshold
    twice = saved(reencode(photos["coffee"], Encoding("jpeg", 70)), 95)
    assert shifted.examine(twice).score < METHODS["shifted"].threshold


def test_the_noise_of_the_last_compression_is_known_by_frequency(photos):
    photo = photos["coffee"]
    picture = saved(photo, 90)
    grey = np.asarray(PIL.Image.fromarray(photo).convert("L"), np.float32)
    stored = picture.stored
    off = stored.pixels - grey
    errors = quantisation.coefficients(off, (3, 5)).std((1, 2))
    told = shifted.noise_of(stored.pixels, stored.steps)
    told = np.array([told[at] for at in quantisation.FREQUENCIES])
    assert np.abs(told / errors - 1).max() < 0.2


def test_a_ramp_of_few_levels_has_no_other_grid(photos):
    photo = photos["coffee"].copy()
    down, right = np.mgrid[:400, :300]
    sky = 120 + down / 40 + right / 60 + RNG(0).normal(0, 0.4, (400, 300))
    photo[:400, :300] = np.rint(sky)[..., None]
    assert shifted.examine(saved(photo, 95)).score < METHODS["shifted"].threshold / 2


def test_shifted_compression_is_silent_where_it_cannot_be_seen(photos):
    photo = photos["coffee"]
    cropped = reencode(photo, Encoding("jpeg", 70))[3:, 5:]
    assert "as a whole" in reason(shifted.examine(saved(cropped, 95)))
    assert "not a JPEG file" in reason(shifted.examine(Picture(photo)))
    assert "too much noise" in reason(shifted.examine(saved(photo, 15)))
    assert "smaller than 128 px" in reason(shifted.examine(saved(photo[:100], 90)))


# Grids


def test_the_grid_of_a_cropped_jpeg_is_measured(photos):
    cropped = reencode(photos["coffee"], Encoding("jpeg", 75))[3:, 6:]
    assert grids.main_grid(grids.votes_of(cropped)) == 8 * 5 + 2
    assert grids.main_grid(grids.votes_of(photos["coffee"][:200, :200])) is None


def test_a_part_on_another_grid_is_found(photos):
    host = reencode(photos["coffee"], Encoding("jpeg", 85))
    other = reencode(photos["astronaut"], Encoding("jpeg", 80))
    truth = somewhere(host.shape, 101, 203, 140)
    host = host.copy()
    host[truth] = other[104:244, 154:294].reshape(-1, 3)
    found = grids.examine(Picture(host))
    assert found.score > 10
    assert overlap(found, truth) > 0.6


def test_a_part_without_the_grid_of_the_rest_is_found(photos):
    host = reencode(photos["coffee"], Encoding("jpeg", 80))[4:, 4:].copy()
    truth = somewhere(host.shape, 96, 200, 160)
    host[truth] = grainy((160, 160), grain=1).reshape(-1, 3)
    found = grids.examine(Picture(host))
    assert found.score > 1
    assert overlap(found, truth) > 0.5


def test_an_untouched_jpeg_has_one_grid(photos):
    found = grids.examine(Picture(reencode(photos["coffee"], Encoding("jpeg", 85))))
    assert (found.score, found.map().max()) == (0, 0)


def test_grids_are_silent_where_none_can_be_seen(photos):
    assert "no trace of a JPEG grid" in reason(grids.examine(Picture(grainy((200, 240)))))
    assert "saved again" in reason(grids.examine(saved(photos["coffee"], 75)))
    assert "smaller than 64 px" in reason(grids.examine(Picture(photos["coffee"][:60])))


# Fine detail


def test_a_smoothed_part_is_found_in_noise():
    scene = grainy((400, 520))
    truth = somewhere(scene.shape, 120, 200, 120)
    edited = np.where(truth[..., None], blur(scene, 1.5), scene)
    found = variance.examine(Picture(edited))
    assert found.score > METHODS["variance"].threshold
    assert overlap(found, truth) > 0.8


def test_noise_that_follows_brightness_is_no_finding():
    scene = grainy((400, 520), grain=0)
    noise_of = np.sqrt(scene.astype(float)) / 3
    camera = np.clip(scene + RNG(3).normal(0, 1, scene.shape) * noise_of, 0, 255).astype(np.uint8)
    assert variance.examine(Picture(camera)).score < 1


def test_fine_detail_is_silent_where_there_is_none(photos):
    black = np.zeros((300, 300, 3), np.uint8)
    assert "black or white" in reason(variance.examine(Picture(black)))
    assert "smaller than 160 px" in reason(variance.examine(Picture(photos["coffee"][:120])))
    assert "removed the noise" in reason(variance.examine(saved(photos["coffee"], 50)))


# Noise


def test_a_part_with_noise_of_another_kind_is_found():
    scene = grainy((480, 640), grain=0)
    white = RNG(1).normal(0, 5, scene.shape)
    demosaiced = (white + np.roll(white, 1, 0) + np.roll(white, 1, 1)) / np.sqrt(3)
    truth = somewhere(scene.shape, 160, 240, 200)
    edited = scene + np.where(truth[..., None], white, demosaiced)
    found = noise.examine(Picture(np.clip(edited, 0, 255).astype(np.uint8)))
    assert found.score > 5
    assert overlap(found, truth) > 0.7


def test_the_same_noise_everywhere_is_no_finding():
    assert noise.examine(Picture(grainy((480, 640)))).score < 5


def test_noise_is_silent_where_there_is_none(photos):
    assert "smaller than 300 px" in reason(noise.examine(Picture(photos["coffee"][:250])))
    grey = np.full((320, 320, 3), 128, np.uint8)
    assert "no noise" in reason(noise.examine(Picture(grey)))
    assert "black or white" in reason(noise.examine(Picture(grey // 128 * 255)))


# All of them


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (97, 131), (301, 309)])
@pytest.mark.parametrize("kind", ["noise", "black", "stripes"])
def test_no_picture_makes_a_method_fail(name, size, kind):
    image = {
        "noise": RNG(0).integers(0, 256, (*size, 3)),
        "black": np.zeros((*size, 3)),
        "stripes": np.broadcast_to(np.arange(size[1])[None, :, None] % 2 * 255, (*size, 3)),
    }[kind].astype(np.uint8)
    before = image.copy()
    found = METHODS[name].examine(Picture(image))
    assert np.array_equal(image, before)
    if isinstance(found, Silence):
        assert found.reason
    else:
        shown = found.map()
        assert shown.shape == size
        assert np.isfinite(found.score)
        assert np.nanmin(shown) >= 0
        assert np.nanmax(shown) <= 1


def test_all_but_the_quick_methods_run_only_when_asked_for(photos):
    picture = Picture(photos["cat"])
    quick = examine(picture)
    assert set(quick) == {"quantisation", "collage"}
    everything = examine(picture, thorough=True)
    assert list(everything) == list(METHODS)
    assert all(repr(everything[name]) == repr(outcome) for name, outcome in quick.items())
