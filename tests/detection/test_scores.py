"""Views in rounds: where the first ones settle the matter, no others are looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import Float
from torch import Tensor, nn, zeros

from gammascope.checkpoints import Calibration, Facts, Settled
from gammascope.choices import Profile
from gammascope.detection.pipeline import Pipeline
from gammascope.detectors.base import Detector
from gammascope.imaging import views
from gammascope.imaging.views import ViewSpec
from gammascope.prediction import Prediction

SIDE = 8
VIEW = ViewSpec(SIDE, "tiles", "mean", 3, mean=(0.0,) * 3, std=(1.0,) * 3, overview=0.5)


class Thermometer(Detector):
    """Its logit is a view's mean grey level above 100; a view that shows all of a picture counts 10 more, by half."""

    def __init__(self) -> None:
        super().__init__()
        self.view, self.config, self.shown = VIEW, {}, 0
        self.anywhere = nn.Parameter(zeros(1))
        self.local: dict[str, tuple[str, ...]] = {}

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Read the temperature."""
        self.shown += len(pixels)
        logit = 255 * pixels.mean((1, 2, 3)) - 100
        answers = {"generated": logit, views.WHOLE: 0.0 * logit + 5}
        answers |= dict.fromkeys(self.local.get("answers", ()), logit)
        cells = logit[:, None, None].expand(-1, 2, 2)
        return Prediction(logit, answers, dict.fromkeys(self.local.get("masks", ()), cells))


def pipeline(settled: Settled | None, profile: Profile = "default") -> Pipeline:
    known = Calibration(1.0, 0.0, 50.0, (0.05, 0.01), 100, ("s",))
    given = {"default": settled, "fast": settled} if settled else {}
    facts = Facts("thermometer", {}, VIEW, calibration={"generated": known}, settled=given)
    return Pipeline(Thermometer(), facts, "abc", profile=profile)


def local(looked: Pipeline, **said: tuple[str, ...]) -> Pipeline:
    """Let the detector say something of places: by masks, or by an answer about edits."""
    assert isinstance(looked.detector, Thermometer)
    looked.detector.local = said or {"masks": ("generated",)}
    return looked


def grey(level: int, height: int = 3 * SIDE, width: int = 5 * SIDE) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def shown(looked: Pipeline) -> int:
    assert isinstance(looked.detector, Thermometer)
    return looked.detector.shown


def lit(level: int) -> np.ndarray:
    """Dark, but for the middle tile."""
    image = grey(50)
    image[SIDE : 2 * SIDE, 2 * SIDE : 3 * SIDE] = level
    return image


@pytest.mark.parametrize("level", [60, 200])
def test_clear_pictures_are_looked_at_through_the_first_views_alone(level):
    looked = pipeline(Settled(2, -20.0, 60.0))
    scores = looked.scores(grey(level))
    assert shown(looked) == scores.views == 2
    assert scores.settled
    assert scores.overview
    assert scores.logit == pytest.approx(level - 100 + 5, abs=0.1)
    # The tile nearest to the middle, and the largest square.
    assert scores.boxes == ((16.0, 8.0, 8.0, 8.0), (8.0, 0.0, 24.0, 24.0))


def test_open_ones_are_looked_at_as_if_nothing_settled_anything():
    looked, plain = pipeline(Settled(2, -20.0, 60.0)), pipeline(None)
    for image in (grey(100), lit(200)):
        scores, all_of_it = looked.scores(image), plain.scores(image)
        assert scores.views == 4
        assert not scores.settled
        assert scores.boxes == all_of_it.boxes
        assert scores.logit == all_of_it.logit
        assert np.array_equal(scores.by_view[""], all_of_it.by_view[""])


def test_the_middle_tile_is_where_its_pixels_are():
    scores = pipeline(Settled(2, -20.0, 60.0)).scores(lit(255))
    # Tile 155, square -50 + 205 / 9, whole +5: the matter is settled by one bright tile.
    assert scores.settled
    assert scores.by_view[""][0] == pytest.approx(155, abs=0.1)
    assert scores.logit == pytest.approx((155 - 50 + 205 / 9) / 2 + 5, abs=1.5)


def test_alone_the_reduced_whole_counts_all():
    looked = pipeline(Settled(1, -20.0, 60.0), "fast")
    scores = looked.scores(grey(60))
    assert (shown(looked), scores.views, scores.overview) == (1, 1, True)
    assert scores.logit == pytest.approx(60 - 100 + 5 / 0.5, abs=0.1)
    assert not scores.maps
    again = looked.scores(grey(100))
    assert again.views == 2
    assert again.logit == pytest.approx(5, abs=0.1)


def test_pictures_that_share_batches_are_settled_one_by_one():
    looked = pipeline(Settled(2, -20.0, 60.0))
    images = [grey(60), grey(100), grey(220), grey(110)]
    together = looked.scores_of(images)
    assert [scores.views for scores in together] == [2, 4, 2, 4]
    assert [s.logit for s in together] == [pipeline(None).scores(i).logit for i in images]


@pytest.mark.parametrize(
    ("profile", "image"),
    [
        pytest.param("thorough", grey(60), id="thorough looks at all"),
        pytest.param("default", grey(60, height=SIDE), id="no view shows all of a strip"),
        pytest.param("default", grey(60, SIDE, SIDE), id="one view"),
    ],
)
def test_what_cannot_be_settled_is_looked_at_whole(profile, image):
    looked, plain = pipeline(Settled(2, -20.0, 60.0), profile), pipeline(None, profile)
    assert looked.scores(image).boxes == plain.scores(image).boxes
    assert not looked.scores(image).settled


def test_a_report_says_how_much_was_looked_at_and_why(monkeypatch):
    # These pictures are of one level.
    monkeypatch.setattr("gammascope.detection.pipeline.PLAIN_LEVELS", -1)
    two = pipeline(Settled(2, -20.0, 60.0)).report(grey(60))
    one = pipeline(Settled(1, -20.0, 60.0), "fast").report(grey(60))
    said = (
        (
            two,
            "1 of 15 tiles was examined at full resolution, and the whole picture reduced: they settled the matter.",
        ),
        (
            one,
            "None of 15 tiles was examined at full resolution: the reduced whole settled the matter.",
        ),
    )
    for report, words in said:
        (item,) = (item for item in report.evidence if item.name == "coverage:generated")
        assert item.statement == f"Whether it contains AI-generated pixels: {words}"
        assert not report.caveats, "what was enough weakens nothing"
    (open_one,) = pipeline(Settled(2, -20.0, 60.0)).report(grey(100)).caveats
    assert "3 of 15 tiles were examined at full resolution, evenly spread" in open_one


@pytest.mark.parametrize(("views_first", "low", "high"), [(0, 0.0, 1.0), (2, 1.0, 0.0)])
def test_ranges_that_make_no_sense_are_refused(views_first, low, high):
    with pytest.raises(ValueError, match="expected a view at least and low <= high"):
        Settled(views_first, low, high)


def test_a_score_on_the_edge_is_open():
    edge = Settled(2, -1.0, 1.0)
    assert [edge.by(logit) for logit in (-1.1, -1.0, 0.0, 1.0, 1.1)] == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert replace(edge, low=1.0).by(1.0) is False


@pytest.mark.parametrize("said", [{"masks": ("generated",)}, {"answers": ("edited",)}])
def test_thorough_looks_at_all_tiles_for_places_and_answers_by_those_of_the_default(said):
    thorough, default = local(pipeline(None, "thorough"), **said), pipeline(None)
    image = lit(200)
    seen, answer = thorough.scores(image), default.scores(image)
    assert shown(thorough) == seen.views == 16
    assert not seen.settled
    assert seen.logit == pytest.approx(answer.logit, abs=1e-4)
    tiles = seen.by_view[""][:-1]
    assert np.mean(tiles) != pytest.approx(np.mean(answer.by_view[""][:-1]), abs=1)


def test_thorough_looks_at_no_tile_that_would_tell_nothing():
    thorough, default = pipeline(None, "thorough"), pipeline(None)
    seen, answer = thorough.scores(lit(200)), default.scores(lit(200))
    assert shown(thorough) == seen.views == answer.views
    assert (seen.boxes, seen.logit, seen.settled) == (answer.boxes, answer.logit, False)


LAID = replace(VIEW, size=16, max_tiles=1, overview=0.25, mosaic=0.5)


class WithMosaic(Thermometer):
    """Of a mosaic it says 1000 more, of what shows all of a picture 40."""

    def __init__(self) -> None:
        super().__init__()
        self.view = LAID

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Read the temperature."""
        found = super().forward(pixels)
        more = {views.WHOLE: 0.0 * found.logit + 40, views.MOSAIC: 0.0 * found.logit + 1000}
        return replace(found, answers={**found.answers, **more})


def with_mosaic(settled: Settled | None = None, profile: Profile = "default") -> Pipeline:
    known = Calibration(1.0, 0.0, 50.0, (0.05, 0.01), 100, ("s",))
    given = {"default": settled, "fast": settled} if settled else {}
    facts = Facts("thermometer", {}, LAID, calibration={"generated": known}, settled=given)
    return Pipeline(WithMosaic(), facts, "abc", profile=profile)


@pytest.mark.parametrize(
    ("profile", "settled", "kinds", "logit"),
    [
        # A tile says -40, a mosaic 960, the reduced whole -40 and 40 more when its weight is taken off.
        ("default", None, (1, True, True), 0.75 * (0.5 * -40 + 0.5 * 960) + 0.25 * -40 + 40),
        ("fast", None, (0, True, True), 0.75 * 960 + 0.25 * -40 + 40),
        ("default", Settled(2, 0.0, 1.0), (0, True, True), 0.75 * 960 + 0.25 * -40 + 40),
        ("fast", Settled(1, 0.0, 1.0), (0, True, False), 960),
        ("fast", Settled(1, 959.0, 961.0), (0, True, True), 0.75 * 960 + 0.25 * -40 + 40),
    ],
)
def test_a_mosaic_is_looked_at_first_and_weighs_as_its_spec_says(profile, settled, kinds, logit):
    looked = with_mosaic(settled, profile)
    scores = looked.scores(grey(60, 200, 200))
    assert (scores.tiles, scores.mosaic, scores.overview) == kinds
    assert scores.views == shown(looked) == sum(kinds)
    assert scores.logit == pytest.approx(logit, abs=0.5)
    assert views.MOSAIC not in scores.by_view


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 100)])
def test_what_no_view_shows_all_of_is_judged_by_tile_and_mosaic(height, width):
    scores = with_mosaic().scores(grey(60, height, width))
    assert (scores.tiles, scores.mosaic, scores.overview) == (1, width > 16, False)
    near = 0.5 * (-40 + 960) if width > 16 else -40
    assert scores.logit == pytest.approx(near + 40, abs=0.5)


def test_thorough_looks_at_all_tiles_beside_the_mosaic_and_answers_as_the_default():
    image = lit(200).repeat(9, 0).repeat(9, 1)
    thorough, default = local(with_mosaic(profile="thorough")), with_mosaic()
    assert thorough.scores(image).tiles > 20
    assert thorough.scores(image).logit == pytest.approx(default.scores(image).logit, abs=1e-3)


def test_where_the_default_reads_no_tiles_thorough_answers_without_them():
    looked = local(with_mosaic(profile="thorough"))
    looked.facts = replace(looked.facts, view=replace(LAID, max_tiles=0))
    image = lit(200).repeat(9, 0).repeat(9, 1)
    scores = looked.scores(image)
    assert scores.tiles > 20
    assert scores.logit == pytest.approx(with_mosaic(profile="fast").scores(image).logit, abs=1e-3)


@pytest.mark.parametrize(
    ("profile", "settled", "words", "brief"),
    [
        (
            "default",
            None,
            "1 of 169 tiles was examined at full resolution, and small patches from all over the picture and the "
            "whole picture reduced.",
            "whole + patches + 1 of 169 tiles",
        ),
        (
            "fast",
            None,
            "None of 169 tiles was examined at full resolution, but small patches from all over the picture and the "
            "whole picture reduced.",
            "whole + patches + 0 of 169 tiles",
        ),
        (
            "fast",
            Settled(1, 0.0, 1.0),
            "None of 169 tiles was examined at full resolution: small patches from all over the picture settled the "
            "matter.",
            "patches + 0 of 169 tiles",
        ),
    ],
)
def test_a_report_says_that_patches_were_looked_at(monkeypatch, profile, settled, words, brief):
    monkeypatch.setattr("gammascope.detection.pipeline.PLAIN_LEVELS", -1)
    report = with_mosaic(settled, profile).report(grey(60, 200, 200))
    assert report.coverage is not None
    assert (str(report.coverage), report.coverage.brief) == (words, brief)
    assert not report.tiles
