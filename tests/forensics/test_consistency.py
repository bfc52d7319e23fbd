"""The small network that weighs many traces."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from gammascope.forensics import METHODS, Finding, Picture, Silence, consistency
from gammascope.imaging.codecs import Encoding, encode, reencode
from gammascope.imaging.decode import decode

METHOD = METHODS["consistency"]


def saved(image: np.ndarray, quality: int, exif: PIL.Image.Exif | None = None) -> Picture:
    if exif is None:
        data = encode(image, Encoding("jpeg", quality))
    else:
        file = io.BytesIO()
        PIL.Image.fromarray(image).save(file, "JPEG", quality=quality, exif=exif)
        data = file.getvalue()
    return Picture(decode(data).image, data)


def pasted(photos, first: int = 75) -> tuple[np.ndarray, np.ndarray]:
    """Paste a piece of another photo into one that was a JPEG file."""
    host = reencode(photos["coffee"], Encoding("jpeg", first))
    truth = np.zeros(host.shape[:2], bool)
    truth[120:260, 200:360] = True
    edited = host.copy()
    edited[truth] = photos["astronaut"][100:240, 150:310].reshape(-1, 3)
    return edited, truth


def inside(found: Finding, truth: np.ndarray) -> tuple[float, float]:
    """Return which share of the marked pixels was edited, and which share of the edited ones is marked."""
    marked = found.map() > 0.5
    return float(truth[marked].mean()), float(marked[truth].mean())


@pytest.mark.parametrize("last", [0, 95, 90])
def test_a_piece_of_another_photo_is_marked(photos, last):
    edited, truth = pasted(photos)
    found = METHOD.examine(saved(edited, last) if last else Picture(edited))
    assert METHOD.clearness(found) > 1
    right, covered = inside(found, truth)
    assert right > 0.6
    assert covered > 0.6


def test_a_part_of_a_turned_file_is_marked_where_it_is_seen(photos):
    edited, truth = pasted(photos)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    picture = saved(edited[:399], 95, exif)
    right, covered = inside(METHOD.examine(picture), np.rot90(truth[:399], -1))
    assert right > 0.6
    assert covered > 0.6


def test_untouched_photos_show_no_part(photos):
    for name in ("coffee", "astronaut", "cat"):
        once = reencode(photos[name], Encoding("jpeg", 80))
        for picture in (Picture(photos[name]), saved(photos[name], 90), saved(once, 92)):
            assert METHOD.clearness(METHOD.examine(picture)) < 1


def test_what_it_measures_does_not_depend_on_how_much_is_in_memory_at_once(photos, monkeypatch):
    picture = saved(photos["astronaut"][:331, :302], 88)
    whole = consistency.Measured.of(picture)
    monkeypatch.setattr(consistency, "_STRIP", 5)
    strips = consistency.Measured.of(picture)
    assert whole.inputs.shape[:2] == (331 // 8, 302 // 8)
    assert np.allclose(whole.inputs, strips.inputs, atol=2e-3)


def test_a_part_beyond_the_blocks_of_the_earlier_grid_has_not_their_comb(photos):
    """Cells begin at the first pixel, blocks of a cropped picture later: the last column may have none."""
    cropped = reencode(photos["coffee"], Encoding("jpeg", 75))[3:, 5:]
    measured = consistency.Measured.of(Picture(np.ascontiguousarray(cropped)))
    assert measured.history.seen
    assert measured.history.kept_in(np.ones(measured.history.ratio.shape, bool)) > 0.5
    evidence = np.full(measured.scene.texture.shape, -1.0, np.float32)
    evidence[5:40, -1] = 3
    found = list(measured.suspects(evidence))
    assert found
    assert all(np.isfinite(part.inputs).all() for part in found)


def test_it_says_nothing_about_small_and_black_pictures(photos):
    small = METHOD.examine(Picture(photos["coffee"][:159]))
    assert isinstance(small, Silence)
    assert "smaller than 160 px" in small.reason
    black = METHOD.examine(Picture(np.zeros((300, 300, 3), np.uint8)))
    assert isinstance(black, Silence)
    assert "black or white" in black.reason
