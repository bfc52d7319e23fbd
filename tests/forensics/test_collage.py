"""A piece of another photo is found by what is seen, also after halving; untouched photos show nothing."""

from __future__ import annotations

import numpy as np
import pytest

from gammascope.detection import eyes
from gammascope.detection.pipeline import Execution, Pipeline
from gammascope.forensics import METHODS, Finding, Picture, Silence, collage
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding

METHOD = METHODS["collage"]


@pytest.fixture(scope="module")
def sight():
    pytest.importorskip("openvino")
    return eyes.embedded()


def pasted(photos) -> tuple[np.ndarray, np.ndarray]:
    """Put a piece of the cat into the launch pad, as a hard-edged oval."""
    image, mask = photos["rocket"].copy(), np.zeros(photos["rocket"].shape[:2], bool)
    rows, columns = np.mgrid[-70:70, -55:55]
    oval = (rows / 70) ** 2 + (columns / 55) ** 2 < 1
    mask[60:200, 260:370] = oval
    image[mask] = photos["cat"][40:180, 170:280][oval]
    return image, mask


@pytest.mark.parametrize("halved", [False, True])
def test_a_piece_of_another_photo_is_found_where_it_lies_and_a_photo_shows_nothing(
    halved, photos, sight
):
    image, mask = pasted(photos)
    factor = 0.5 if halved else 1.0
    small = codecs.reencode(codecs.rescale(image, factor), Encoding("jpeg", 90))
    found = collage.examine(Picture(small, eyes=sight))
    assert isinstance(found, Finding)
    assert METHOD.clearness(found) > 1
    inside = codecs.rescale_mask(mask, factor) if halved else mask
    shown = found.map() > 0.5
    assert shown[inside].mean() > 0.6
    assert shown[~inside].mean() < 0.1
    untouched = codecs.reencode(codecs.rescale(photos["rocket"], factor), Encoding("jpeg", 90))
    assert METHOD.clearness(collage.examine(Picture(untouched, eyes=sight))) < 0.5


def test_squares_cover_a_picture_and_lie_evenly():
    for size in ((300, 200), (200, 300), (256, 256), (900, 256)):
        boxes = collage.squares(size)
        seen = np.zeros(size[::-1], bool)
        for left, top, side, _ in boxes:
            seen[round(top) : round(top + side), round(left) : round(left + side)] = True
        assert seen.all()
        assert len(boxes) == -(-max(size) // min(size))
        assert all(box[2] == min(size) for box in boxes)


@pytest.mark.parametrize(
    ("shape", "reason"), [((111, 300), "smaller than 112 px"), ((150, 700), "too narrow")]
)
def test_it_says_why_it_cannot_speak(shape, reason, sight):
    image = np.full((*shape, 3), 90, np.uint8)
    said = collage.examine(Picture(image, eyes=sight))
    assert isinstance(said, Silence)
    assert reason in said.reason
    assert collage.examine(Picture(image)) == Silence("no vision tower at hand")


def test_a_map_covers_pictures_of_any_size(sight):
    image = np.random.default_rng(0).integers(0, 255, (131, 203, 3), np.uint8)
    shown = collage.examine(Picture(image, eyes=sight)).map()
    assert shown.shape == (131, 203)
    assert np.isfinite(shown).all()


def test_a_thorough_scan_asks_it_and_needs_no_second_tower(photos, sight):
    thorough = Pipeline.load(execution=Execution(profile="thorough"))
    own = eyes.of(thorough.network)
    squares = np.stack([photos["coffee"][:224, :224], photos["rocket"][:224, :224]])
    assert own is not None
    assert own is not sight
    np.testing.assert_array_equal(own(squares), sight(squares))
    assert eyes.of(Pipeline.load().network) == sight
    image, _ = pasted(photos)
    report = thorough.report(image)
    (found,) = (item for item in report.evidence if item.name == "forensics:collage")
    assert "looks as if it came from elsewhere" in found.statement
    assert report.words == "edited"
