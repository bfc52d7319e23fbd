from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from gammascope.detection.pipeline import Besides, Execution, Pipeline
from gammascope.forensics import (
    METHODS,
    Finding,
    Picture,
    Silence,
    answered,
    cloning,
    evidence_of,
    examine,
    reasons_of,
)
from gammascope.imaging.codecs import Encoding, encode
from gammascope.imaging.decode import decode
from gammascope.report import Report, Strength, Verdict, without_numbers


def seen(data: bytes) -> dict[str, Finding | Silence]:
    return examine(Picture(decode(data).image, data))


def test_a_part_that_stands_out_is_shown_as_a_weak_hint_with_its_limits(composite):
    found = {e.name: e for e in evidence_of(seen(composite))}
    shown = found["forensics:quantisation"]
    assert "lacks a JPEG compression that the rest of the picture went through" in shown.statement
    assert shown.map is not None
    assert shown.map[180, 260] > 0.5
    assert shown.map[20, 20] < 0.5
    assert shown.strength is Strength.WEAK
    assert shown.limits


def test_a_method_that_cannot_speak_says_why_and_shows_nothing(photos):
    found = {e.name: e for e in evidence_of(examine(Picture(photos["coffee"])))}
    silent = found["forensics:quantisation"]
    assert silent.statement.startswith("Earlier compression: cannot speak (no trace of an earlier")
    assert silent.map is None
    assert silent.strength is Strength.NEUTRAL


def test_an_untouched_photo_shows_no_map(photos):
    for name in ("coffee", "astronaut"):
        data = encode(photos[name], Encoding("jpeg", 90))
        assert [e for e in evidence_of(seen(data)) if e.map is not None] == []


def test_a_clear_part_answers_edited_and_is_shown_with_its_place_and_reason(composite):
    outcomes = seen(composite)
    answer = answered(outcomes)
    assert answer.verdict is Verdict.FAKE
    assert answer.probability > answer.thresholds[1]
    (whole,) = reasons_of(outcomes)
    assert whole.name == "mask:edited"
    assert "a part in the middle lacks a JPEG compression" in whole.statement
    assert whole.map is not None
    assert whole.map[180, 260] > 0.5
    assert not np.isnan(whole.map).any()


def test_an_untouched_photo_shows_no_sign_and_no_region(photos):
    data = encode(photos["coffee"], Encoding("jpeg", 90))
    outcomes = examine(Picture(decode(data).image, data), thorough=True)
    assert answered(outcomes).verdict is Verdict.NO_SIGN
    assert list(reasons_of(outcomes)) == []


def made(score: float) -> Finding:
    return Finding(score, np.zeros((2, 2), np.float32), (0, 0), 8, (16, 16))


def test_the_clearest_method_decides_and_clearer_is_never_less_likely():
    threshold = METHODS["quantisation"].threshold
    answers = [
        answered({"variance": made(0.0), "quantisation": made(float(share * threshold))})
        for share in (0, 0.5, 0.8, 0.99, 1.01, 3)
    ]
    assert [answer.probability for answer in answers] == sorted(a.probability for a in answers)
    assert answers[0].verdict is Verdict.NO_SIGN
    assert [answer.verdict for answer in answers[-4:]] == [Verdict.UNCERTAIN] * 2 + [
        Verdict.FAKE
    ] * 2
    assert all(0 < answer.probability < 1 for answer in answers)


def test_there_is_no_answer_where_no_method_that_may_give_one_can_speak():
    assert answered(examine(Picture(np.zeros((40, 40, 3), np.uint8)), thorough=True)) is None
    assert (
        answered({"noise": made(1000.0), "grids": made(1000.0), "variance": Silence("too small")})
        is None
    )


def test_a_copy_says_nothing_up_to_a_likeness_that_photos_have():
    chances = [answered({"cloning": made(score)}).probability for score in (-6.0, -4.0, -2.0, 2.0)]
    assert chances[0] == chances[1] == chances[2] < chances[3]
    verdicts = [answered({"cloning": made(score)}).verdict for score in (2.0, 3.0, 6.0)]
    assert verdicts == [Verdict.NO_SIGN, Verdict.UNCERTAIN, Verdict.FAKE]


@pytest.fixture(scope="module")
def repeated(photos) -> bytes:
    """A photo with a part of it once more."""
    image = photos["astronaut"].copy()
    image[350:480, 20:140] = image[150:280, 180:300]
    return encode(image, Encoding("jpeg", 95, "4:4:4"))


def test_a_copy_answers_edited_with_both_its_places(repeated):
    outcomes = {"cloning": cloning.examine(Picture(decode(repeated).image, repeated))}
    assert answered(outcomes).verdict is Verdict.FAKE
    (whole,) = reasons_of(outcomes)
    places = ("in the middle", "at the bottom left")
    assert any(
        f"a part {one} is the same as one {other}" in whole.statement
        for one, other in (places, places[::-1])
    )
    assert whole.map is not None
    assert whole.map[150:280, 180:300].mean() > 0.6
    assert whole.map[350:480, 20:140].mean() > 0.6
    assert whole.map.mean() < 0.15


def names(source: bytes, profile: str, besides: Besides | None = None) -> list[str]:
    pipeline = Pipeline.load(
        "mobilenet", besides=besides or Besides(), execution=Execution(profile=profile)
    )
    found = pipeline.report(source).evidence
    return [e.name.removeprefix("forensics:") for e in found if e.name.startswith("forensics:")]


def test_thorough_reports_hold_every_method_default_ones_the_quick_ones(photos):
    file = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(photos["cat"][:256, :256])).save(file, "PNG")
    data = file.getvalue()
    assert names(data, "thorough") == list(METHODS)
    assert names(data, "default") == ["quantisation", "collage"]
    assert names(data, "fast") == []
    assert names(data, "default", Besides(forensics=False)) == []
    assert names(data, "thorough", Besides(forensics=False)) == []


def thorough(source: bytes, weights: str, *, on: bool) -> Report:
    besides, execution = Besides(forensics=on), Execution(profile="thorough")
    return Pipeline.load(weights, besides=besides, execution=execution).report(source)


def test_a_detector_that_answers_edited_itself_is_not_overruled(composite):
    with_it, without = (thorough(composite, "mobilenet", on=on) for on in (True, False))
    assert with_it.answers == without.answers
    assert any(e.map is not None for e in with_it.evidence if e.name.startswith("forensics:"))


def test_by_default_edited_is_answered_where_a_part_stands_out_and_nowhere_else(composite, photos):
    report = Pipeline.load().report(composite)
    (shown,) = (e for e in report.evidence if e.name == "forensics:quantisation")
    assert shown.strength is None, "the answer rests on it: it is no hint"
    assert shown.map is not None
    assert report.answers["edited"].verdict is report.verdict is Verdict.FAKE
    assert [e.name for e in report.evidence if e.name.startswith("mask:edited")] == ["mask:edited"]
    untouched = encode(photos["coffee"], Encoding("jpeg", 90))
    twice = encode(decode(untouched).image, Encoding("jpeg", 95))
    for file in (untouched, twice):
        assert set(Pipeline.load().report(file).answers) == {"generated"}


def test_forensics_answers_what_the_embedded_detector_leaves_open(composite):
    with_it, without = (thorough(composite, "default", on=on) for on in (True, False))
    assert "edited" not in without.answers
    said, alone = (found.answers["generated"] for found in (with_it, without))
    # Patch tokens are one more output of the network, which rounds otherwise then.
    assert said.verdict is alone.verdict
    assert said.probability == pytest.approx(alone.probability, abs=1e-5)
    assert with_it.answers["edited"].verdict is Verdict.FAKE
    assert with_it.calibrated == without.calibrated
    assert [e.name for e in with_it.evidence if e.name.startswith("mask:edited")] == ["mask:edited"]


def test_without_numbers_the_reason_stays():
    cells = np.zeros((100, 100), np.float32)
    cells[2:8, 2:8] = 1  # 0.36 % of it
    outcome = Finding(9.0, cells, (0, 0), 8, (800, 800), repeats=(((0.1, 0.1), (0.9, 0.9)),))
    found = {"cloning": outcome}
    shown = [*evidence_of(found), *reasons_of(found)]
    assert (
        "a part, less than 1 % of the picture, is the same as one elsewhere" in shown[0].statement
    )
    assert shown[1].statement.startswith("About less than 1 % of the picture looks edited: a part")
    rows = [{"name": e.name, "statement": e.statement, "marked_share": 0.0036} for e in shown]
    part, whole = (row["statement"] for row in without_numbers({"evidence": rows})["evidence"])
    assert "%" not in part + whole
    assert "a part is the same as one elsewhere" in part
    assert whole.startswith("Some of the picture looks edited: a part at the top left is the same")


def test_a_coarse_map_gives_way_to_finer_ones_and_its_reason_stays():
    cells = np.zeros((50, 50), np.float32)
    fine, coarse = cells.copy(), cells.copy()
    fine[10:16, 10:16], coarse[5:25, 5:25] = 1, 1
    found = {
        "quantisation": Finding(9.0, fine, (0, 0), 8, (400, 400)),
        "collage": Finding(9.0, coarse, (0, 0), 8, (400, 400)),
    }
    (both,) = reasons_of(found)
    assert both.map is not None
    assert (both.map > 0.5).sum() == 36 * 64
    assert "lacks a JPEG compression" in both.statement
    assert "looks as if it came from elsewhere" in both.statement
    (alone,) = reasons_of({"collage": found["collage"]})
    assert alone.map is not None
    assert (alone.map > 0.5).sum() == 400 * 64
