"""A piece of another photo is found by what is seen, also after halving; untouched photos show nothing."""

from __future__ import annotations

import numpy as np
import pytest

from gammascope.detection import eyes
from gammascope.detection.pipeline import Execution, Pipeline
from gammascope.forensics import METHODS, Finding, Picture, Silence, collage
from gammascope.imaging import codecs, views
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


def test_without_a_tower_it_is_silent():
    said = collage.examine(Picture(np.full((300, 300, 3), 90, np.uint8)))
    assert said == Silence("no vision tower looked at it as a whole")


def test_a_map_covers_pictures_of_any_size(sight):
    image = np.random.default_rng(0).integers(0, 255, (131, 203, 3), np.uint8)
    shown = collage.examine(Picture(image, eyes=sight)).map()
    assert shown.shape == (131, 203)
    assert np.isfinite(shown).all()


def test_by_default_the_middle_square_that_the_detector_has_read_decides_whether_to_look_on(
    photos,
):
    image, mask = pasted(photos)
    pipeline = Pipeline.load()
    report = pipeline.report(image)
    (found,) = (item for item in report.evidence if item.name == "forensics:collage")
    assert "looks as if it came from elsewhere" in found.statement
    assert report.words == "edited"
    assert found.map is not None
    assert (found.map > 0.5)[mask].mean() > 0.6
    assert np.isfinite(found.map).all()
    report = pipeline.report(photos["rocket"])
    (found,) = (item for item in report.evidence if item.name == "forensics:collage")
    assert found.map is None
    assert found.statement.endswith("Only its middle square was looked at.")
    assert "edited" not in report.answers


def test_what_the_middle_says_is_drawn_in_the_middle_and_a_promise_without_eyes_is_silence(
    photos, sight
):
    def middle(image: np.ndarray) -> Picture:
        size = (image.shape[1], image.shape[0])
        square = views.reduced(image, views.middle_square(size), collage.SIDE_PX)
        return Picture(image, middle=sight(square[None])[0])

    tall = np.pad(photos["rocket"], ((200, 200), (0, 0), (0, 0)), mode="reflect")
    quiet = collage.examine(middle(tall))
    assert isinstance(quiet, Finding)
    height, width = tall.shape[:2]
    above = (height - width) // 2
    shown = quiet.map()
    assert np.isnan(shown[: above - 8]).all()
    assert np.isnan(shown[-(above - 8) :]).all()
    assert np.isfinite(shown[above + 8 : -above - 8]).all()
    image, _ = pasted(photos)
    assert isinstance(collage.examine(middle(image)), Silence)
    square = image[:, 100:527]
    assert METHOD.clearness(collage.examine(middle(square))) > 1


def test_the_detector_hands_over_what_the_tower_saw_of_the_middle(photos, sight):
    image = photos["coffee"]
    pipeline = Pipeline.load()
    middle = pipeline.scores(image).middle
    square = views.reduced(image, views.middle_square((image.shape[1], image.shape[0])), 224)
    assert middle is not None
    np.testing.assert_array_equal(middle, sight(square[None])[0])
    assert (
        pipeline.scores(image[:224, :300]).middle is None
    )  # No overview, so nothing to hand over.
    assert Pipeline.load(execution=Execution(profile="fast")).scores(image).middle is None


def test_a_thorough_scan_asks_it_and_needs_no_second_tower(photos, sight):
    thorough = Pipeline.load(execution=Execution(profile="thorough"))
    own = eyes.of(thorough.network)
    squares = np.stack([photos["coffee"][:224, :224], photos["rocket"][:224, :224]])
    assert own is not None
    assert own is not sight
    np.testing.assert_array_equal(own(squares), sight(squares))
    assert eyes.of(Pipeline.load("mobilenet").network) == sight
    image, _ = pasted(photos)
    report = thorough.report(image)
    (found,) = (item for item in report.evidence if item.name == "forensics:collage")
    assert "looks as if it came from elsewhere" in found.statement
    assert report.words == "edited"
