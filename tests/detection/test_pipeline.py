"""One picture from end to end: pooling, maps, verdicts, evidence, caveats."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

import gammascope
from gammascope import checkpoints, settings
from gammascope.checkpoints import Calibration, Facts
from gammascope.detection.pipeline import ORDINARY_PROCESSING, Besides, Pipeline
from gammascope.detection.runtime import TORCH_AT_ONCE
from gammascope.detectors import base
from gammascope.detectors.base import Detector
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    UndecodableImageError,
)
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import Decoded
from gammascope.imaging.views import ViewSpec
from gammascope.prediction import Prediction
from gammascope.report import Answer, Evidence, Report, Strength, Verdict

SIDE = 8


class Thermometer(Detector):
    """Its logit is a view's mean grey level above 100, its masks the levels themselves: easy to foretell."""

    def __init__(
        self, view: ViewSpec, questions: tuple[str, ...] = ("generated", "edited")
    ) -> None:
        super().__init__()
        self.view = view
        self.config = {}
        self.questions = questions
        self.anywhere = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def forward(self, pixels: jaxtyping.Float[Tensor, "b 3 h w"]) -> Prediction:
        """Read the temperature."""
        self.batches.append(len(pixels))
        level = 255 * pixels.mean(1) - 100
        logit = level.mean((1, 2))
        answers = {name: logit + 1000 * i for i, name in enumerate(self.questions)}
        return Prediction(logit, answers, dict.fromkeys(self.questions, level))


def thermometer(
    fit="tiles",
    pool="mean",
    max_tiles: int | None = None,
    calibration: Mapping[str, Calibration] | None = None,
    questions: tuple[str, ...] = ("generated", "edited"),
) -> Pipeline:
    view = ViewSpec(SIDE, fit, pool, max_tiles, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    facts = Facts("thermometer", {}, view, calibration=calibration or {})
    return Pipeline(Thermometer(view, questions), facts, "abc")


def grey(level: int, width: int = SIDE, height: int = SIDE) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def beside(*levels: int) -> np.ndarray:
    """Tiles side by side, each of one level."""
    return np.concatenate([grey(level) for level in levels], 1)


# Between 0.5 and 2.5: uncertain. The temperature makes the thresholds' probabilities 0.62 and 0.92.
BANDS = Calibration(1.0, 0.5, 2.5, (0.1, 0.01), 100, ("some",))


@pytest.fixture(autouse=True)
def _plain_pictures_count(monkeypatch) -> None:
    """Let pictures of one level have verdicts: a thermometer's are easy to foretell."""
    monkeypatch.setattr("gammascope.detection.pipeline.PLAIN_LEVELS", -1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the annotation checks off, as in production."""
    jaxtyping.config.update("jaxtyping_disable", value=True)
    yield
    jaxtyping.config.update("jaxtyping_disable", value=False)


@pytest.mark.parametrize(("pool", "generated"), [("mean", 25), ("max", 80), ("top", 80)])
def test_logits_of_tiles_are_pooled_as_the_view_says(pool, generated):
    scores = thermometer(pool=pool).scores(beside(100, 120, 180, 100))
    assert scores.logit == pytest.approx(generated, abs=1e-3)
    assert scores.answers["generated"] == pytest.approx(generated, abs=1e-3)
    assert scores.views == 4


def test_one_edited_tile_makes_an_edited_image():
    scores = thermometer(pool="mean").scores(beside(100, 120, 180, 100))
    assert scores.answers["edited"] == pytest.approx(1080, abs=1e-3)


def test_many_tiles_go_through_in_batches_and_come_back_in_order():
    pipeline = thermometer()
    levels = list(range(100, 100 + 2 * TORCH_AT_ONCE + 3))
    scores = pipeline.scores(beside(*levels))
    assert isinstance(pipeline.detector, Thermometer)
    assert pipeline.detector.batches == [TORCH_AT_ONCE, TORCH_AT_ONCE, 3]
    middle = scores.maps["generated"][4, SIDE // 2 :: SIDE]
    expected = 1 / (1 + np.exp(-(np.array(levels) - 100.0)))
    np.testing.assert_allclose(middle, expected, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (7, 8), (9, 8), (40, 17)])
@pytest.mark.parametrize("fit", ["tiles", "resize", "center_crop"])
def test_maps_lie_in_the_frame_of_the_image(fit, size):
    width, height = size
    image = np.random.default_rng(0).integers(60, 140, (height, width, 3), dtype=np.uint8)
    for levels in thermometer(fit=fit).scores(image).maps.values():
        assert levels.shape == (height, width)
        seen = np.isfinite(levels)
        assert (levels[seen] >= 0).all()
        assert (levels[seen] <= 1).all()
        assert seen.all() == (fit != "center_crop" or max(size) <= SIDE)
        if fit != "resize":  # At native resolution every pixel tells of itself.
            expected = 1 / (1 + np.exp(100 - image.mean(2)))
            np.testing.assert_allclose(levels[seen], expected[seen], atol=2e-3)


def test_maps_are_nan_where_no_tile_looked():
    pipeline = thermometer(max_tiles=3)
    report = pipeline.report(grey(200, 10 * SIDE, SIDE))
    shown = report.evidence[0].map
    assert shown is not None
    assert np.isfinite(shown).sum() == 3 * SIDE * SIDE
    assert "3 of 10 tiles were examined at full resolution, evenly spread." in report.caveats
    assert report.to_json()["evidence"][0]["examined_share"] == 0.3


@pytest.mark.parametrize(
    ("logit", "verdict"),
    [
        (-50.0, Verdict.NO_SIGN),
        (0.5 - 1e-9, Verdict.NO_SIGN),
        (0.5, Verdict.UNCERTAIN),
        (2.5 - 1e-9, Verdict.UNCERTAIN),
        (2.5, Verdict.FAKE),
        (900.0, Verdict.FAKE),
    ],
)
def test_verdicts_change_exactly_at_the_thresholds(logit, verdict):
    answer = thermometer(calibration={"generated": BANDS})._answer("generated", logit)
    assert answer.verdict is verdict
    # What people compare are probabilities: they must fall on the same side.
    uncertain_from, fake_from = answer.thresholds
    assert (answer.probability >= fake_from) == (verdict is Verdict.FAKE)
    assert (answer.probability >= uncertain_from) == (verdict is not Verdict.NO_SIGN)


def test_the_temperature_flattens_the_probability_and_moves_no_verdict():
    hot = replace(BANDS, temperature=4.0)
    for logit in (-3.0, 0.4, 0.5, 2.4, 2.5, 8.0):
        plain, flat = (
            thermometer(calibration={"generated": c})._answer("generated", logit)
            for c in (BANDS, hot)
        )
        assert plain.verdict == flat.verdict
        assert flat.probability == pytest.approx(1 / (1 + math.exp(-logit / 4)))


@pytest.mark.parametrize(("logit", "verdict"), [(0.0, Verdict.NO_SIGN), (1e-6, Verdict.FAKE)])
def test_without_calibration_one_half_divides(logit, verdict):
    answer = thermometer()._answer("generated", logit)
    assert (answer.verdict, answer.thresholds) == (verdict, (0.5, 0.5))


@pytest.mark.parametrize("logit", [-1e6, -745.0, 745.0, 1e6])
def test_extreme_logits_have_a_probability(logit):
    assert thermometer()._answer("generated", logit).probability == pytest.approx(
        float(logit > 0), abs=1e-12
    )


@pytest.mark.parametrize(("level", "shown"), [(100, False), (101, True), (250, True)])
def test_a_map_is_shown_only_beside_a_verdict_it_supports(level, shown):
    report = thermometer(calibration={"generated": BANDS}).report(grey(level))
    evidence = {item.name: item for item in report.evidence}["mask:generated"]
    assert (report.answers["generated"].verdict is not Verdict.NO_SIGN) == shown
    assert (evidence.map is not None) == shown
    assert ("No region" in evidence.statement) != shown


@pytest.mark.parametrize(("width", "reduced"), [(SIDE, SIDE), (40 * SIDE, 64)])
def test_a_map_beside_no_is_there_on_request_only(monkeypatch, width, reduced):
    monkeypatch.setattr("gammascope.detection.pipeline.QUIET_SIDE_PX", 64)
    pipeline = thermometer(calibration={"generated": BANDS})
    pipeline.besides = Besides(quiet_maps=True)
    report = pipeline.report(grey(100, width=width))
    assert report.answers["generated"].verdict is Verdict.NO_SIGN
    found = {item.name: item for item in report.evidence}
    quiet, loud = found["mask:generated"], found["mask:edited"]
    assert (quiet.on_request, loud.on_request) == (True, False)
    assert quiet.map is not None
    assert quiet.map.shape == (max(1, round(SIDE * reduced / width)), reduced)
    assert np.nanmean(quiet.map) == pytest.approx(0.5, abs=1e-3)
    assert "No region" in quiet.statement
    plain = {item["name"]: item for item in report.to_json()["evidence"]}
    assert "marked_share" not in plain["mask:generated"], "no number tells of what is not shown"
    assert "marked_share" in plain["mask:edited"]


def test_no_map_is_made_to_know_whether_there_is_one(monkeypatch):
    maps = thermometer().scores(grey(250)).maps
    made = []
    real = views.paste

    def noted(*given):
        made.append(1)
        return real(*given)

    monkeypatch.setattr(views, "paste", noted)
    assert "generated" in maps
    assert "painted" not in maps
    assert list(maps) == ["generated", "edited"]
    assert not made
    assert maps["generated"].shape == (SIDE, SIDE)
    assert made == [1]


def test_the_statement_counts_the_marked_pixels():
    report = thermometer().report(beside(180, 0, 0, 0))
    statements = {item.name: item.statement for item in report.evidence}
    assert statements["mask:edited"] == "About 25 % of the examined pixels look edited."
    marked = {item["name"]: item.get("marked_share") for item in report.to_json()["evidence"]}
    assert marked["mask:edited"] == 0.25


@pytest.mark.parametrize("questions", [(), ("edited",), ("generated",), ("edited", "generated")])
def test_the_main_question_is_answered_whatever_else_a_method_can_tell(questions):
    report = thermometer(questions=questions).report(grey(103))
    main = "generated" if "generated" in questions else "fake"
    assert set(report.answers) == {main, *questions}


def test_a_picture_has_the_gravest_verdict_of_its_questions():
    no_sign, unsure, found = (
        Answer(chance, verdict, (0.4, 0.9))
        for chance, verdict in (
            (0.05, Verdict.NO_SIGN),
            (0.5, Verdict.UNCERTAIN),
            (0.95, Verdict.FAKE),
        )
    )
    low_but_found = Answer(0.3, Verdict.FAKE, (0.1, 0.2))

    def told(**answers):
        report = Report("a.png", (64, 64), "thermometer", "0" * 64, True, answers)
        row = report.to_json()
        assert row["verdict"] == report.verdict
        assert row["question"] == report.question
        return report.question, str(report.verdict), row["probability"]

    assert told(generated=no_sign, edited=found) == ("edited", "fake", 0.95)
    assert told(generated=unsure, edited=no_sign) == ("generated", "uncertain", 0.5)
    assert told(generated=unsure, edited=low_but_found) == ("edited", "fake", 0.3)
    assert told(fake=no_sign) == ("fake", "no sign", 0.05)


@pytest.mark.parametrize(
    ("generated", "edited", "words"),
    [
        (Verdict.FAKE, Verdict.FAKE, "fake"),
        (Verdict.UNCERTAIN, Verdict.FAKE, "edited"),
        (Verdict.NO_SIGN, Verdict.UNCERTAIN, "uncertain: edited?"),
        (Verdict.UNCERTAIN, Verdict.UNCERTAIN, "uncertain"),
        (Verdict.NO_SIGN, Verdict.NO_SIGN, "no sign"),
    ],
)
def test_people_read_of_an_edit_by_its_own_word(generated, edited, words):
    answers = {
        "generated": Answer(0.5, generated, (0.4, 0.9)),
        "edited": Answer(0.9, edited, (0.4, 0.9)),
    }
    report = Report("a.png", (64, 64), "thermometer", "0" * 64, True, answers)
    assert report.words == words
    assert report.to_json()["verdict"] in list(Verdict)


@pytest.mark.parametrize(
    "changes",
    [
        {"seg_targets": targets, "seg_heads": heads, "manip_label": label}
        for targets in ("source", "family", "authenticity", "softmax")
        for heads in ("both", "none")
        for label in ("fake", "by_pixels")
    ],
)
def test_every_ablation_of_gamma_reports(changes, photos):
    config = replace(base.get("gamma").tiny, **changes)
    detector = base.get("gamma").build(config).eval()
    facts = Facts("gamma", settings.plain(config), detector.view)
    report = Pipeline(detector, facts, "").report(photos["cat"][:50, :70])
    json.dumps(report.to_json(), allow_nan=False)
    assert 0 < report.probability < 1


def caveats(pipeline: Pipeline, source: Path | bytes | np.ndarray) -> str:
    return " | ".join(pipeline.report(source).caveats)


def test_caveats_say_what_weakens_the_verdict():
    both = {"generated": BANDS, "edited": BANDS}
    calibrated = thermometer(calibration=both)
    assert caveats(calibrated, grey(0)) == ""
    assert caveats(thermometer(calibration={"generated": BANDS}), grey(0)) == (
        "Not calibrated for edited: probabilities and thresholds are raw."
    )
    assert caveats(thermometer(), grey(0)) == (
        "Not calibrated: probabilities and thresholds are raw."
    )
    assert caveats(calibrated, grey(0, 5, 20)) == (
        "5 x 20 px: smaller than the 8 px views seen in training."
    )
    assert caveats(thermometer("resize", calibration=both), grey(0, 5, 20)) == ""
    assert caveats(calibrated, grey(0, 8, 800)) == ""


@pytest.mark.parametrize("level", [0, 128, 255])
def test_of_a_picture_of_one_colour_nothing_is_said(monkeypatch, level):
    monkeypatch.setattr("gammascope.detection.pipeline.PLAIN_LEVELS", 2)
    both = {"generated": BANDS, "edited": BANDS}
    nearly = np.clip(grey(level, 40, 40).astype(int) + np.eye(40, dtype=int)[..., None], 0, 255)
    plain = thermometer(calibration=both).report(nearly.astype(np.uint8))
    assert {answer.verdict for answer in plain.answers.values()} == {Verdict.UNCERTAIN}
    assert plain.caveats == ("One plain colour: there is nothing to judge.",)
    assert not plain.calibrated
    assert not [item for item in plain.evidence if item.map is not None]
    nearly[20, 20] = 128 - level // 2  # one dot that the sample does not meet
    assert "One plain" not in caveats(thermometer(calibration=both), nearly.astype(np.uint8))


@pytest.mark.parametrize(("quality", "heavy"), [(30, True), (59, True), (60, False), (95, False)])
def test_heavy_compression_is_a_caveat(quality, heavy):
    data = codecs.encode(grey(90, 64, 64), codecs.Encoding("jpeg", quality))
    assert ("traces may be gone" in caveats(thermometer(), data)) == heavy


def test_notes_of_decoding_are_caveats():
    file = io.BytesIO()
    PIL.Image.new("RGBA", (20, 20), (9, 9, 9, 128)).save(file, "PNG")
    both = {"generated": BANDS, "edited": BANDS}
    notes = thermometer(calibration=both).report(file.getvalue()).caveats
    assert len(notes) == 1
    assert notes[0][0].isupper()
    assert notes[0].endswith(".")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    method = base.get("gamma")
    torch.manual_seed(0)
    detector = method.build(method.tiny)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    facts = Facts(
        "gamma", settings.plain(method.tiny), detector.view, calibration={"edited": BANDS}
    )
    checkpoints.save(path, detector, facts)
    return path


def same(first: Report, second: Report) -> None:
    assert first.to_json() | {"image": ""} == second.to_json() | {"image": ""}
    for one, other in zip(first.evidence, second.evidence, strict=True):
        assert isinstance(one, Evidence)
        if one.map is None or other.map is None:
            assert one.map is other.map
        else:
            np.testing.assert_array_equal(one.map, other.map)


def test_path_text_bytes_and_pixels_give_the_same_report(weights, photos, tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(codecs.encode(photos["cat"], codecs.Encoding("png")))
    reports = [
        gammascope.detect(source, weights=weights, provenance=False)
        for source in (path, str(path), path.read_bytes(), photos["cat"])
    ]
    assert [report.image for report in reports] == ["cat.png", "cat.png", "<memory>", "<memory>"]
    for report in reports[1:]:
        same(reports[0], report)
    pipeline = Pipeline.load(weights, method="gamma", besides=Besides(provenance=False))
    same(pipeline.report(path), reports[0])
    same(pipeline.report(path), reports[0])


def test_what_a_file_says_stands_beside_the_verdict_and_never_changes_it(photos):
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 1")
    file = io.BytesIO()
    PIL.Image.fromarray(photos["cat"]).save(file, "PNG", pnginfo=said)
    pipeline = thermometer(calibration={"generated": BANDS})
    quiet = thermometer(calibration={"generated": BANDS})
    quiet.besides = Besides(provenance=False)
    full, bare = pipeline.report(file.getvalue()), quiet.report(file.getvalue())
    *masks, found = full.evidence
    assert [item.name for item in masks] == [item.name for item in bare.evidence]
    assert found.name == "provenance:generator"
    assert found.strength is Strength.MODERATE
    row = full.to_json()
    assert row["evidence"][-1] == {
        "name": found.name,
        "statement": found.statement,
        "strength": "moderate",
        "limits": found.limits,
    }
    assert {**row, "evidence": []} == {**bare.to_json(), "evidence": []}
    pixels = pipeline.report(photos["cat"])
    assert not any(item.name.startswith("provenance") for item in pixels.evidence)


def test_tiles_carry_their_place_and_probabilities():
    pipeline = thermometer(calibration={"generated": BANDS})
    report = pipeline.report(beside(100, 102, 180))
    assert [tile.box for tile in report.tiles] == [
        (float(SIDE * i), 0.0, float(SIDE), float(SIDE)) for i in range(3)
    ]
    chances = [tile.probabilities["generated"] for tile in report.tiles]
    assert chances == pytest.approx([0.5, 1 / (1 + math.exp(-2)), 1.0], abs=1e-3)
    assert all(set(tile.probabilities) == {"generated", "edited"} for tile in report.tiles)
    assert pipeline.report(grey(100)).tiles == (), "one view has nothing to compare"


@pytest.mark.parametrize(("level", "dark", "holds"), [(200, 200, True), (103, 0, False)])
def test_stability_asks_again_after_ordinary_processing(level, dark, holds):
    """A bright spot that outvotes the rest only at full size does not survive halving."""
    image = grey(dark, 2 * SIDE, 2 * SIDE)
    image[:SIDE, :SIDE] = level
    pipeline = thermometer(pool="max", calibration={"generated": BANDS, "edited": BANDS})
    assert pipeline.report(image).stability == ()
    pipeline.besides = Besides(stability=True)
    report = pipeline.report(image)
    assert [check.change for check in report.stability] == list(ORDINARY_PROCESSING)
    half = report.stability[1]
    assert half.holds == holds
    assert (half.answers["generated"].verdict is report.verdict) == holds
    plain = report.to_json()["stability"][1]
    assert plain["holds"] == holds
    assert plain["answers"]["generated"]["verdict"] == str(half.answers["generated"].verdict)


@pytest.mark.parametrize(
    ("image", "tried", "said"),
    [
        (grey(100, SIDE // 2 - 1, SIDE), [], []),
        (grey(100, SIDE // 2 + 1, SIDE), ["saved as JPEG at quality 80"], ["reduced to half"]),
        (grey(100, 66_000, SIDE), ["reduced to half its size"], ["saved as JPEG"]),
    ],
    ids=["too small", "too small once halved", "too wide for JPEG"],
)
def test_what_cannot_be_asked_again_is_said_and_no_change(image, tried, said):
    image[:, : image.shape[1] // 2] += 40
    pipeline = thermometer(calibration={"generated": BANDS, "edited": BANDS}, max_tiles=2)
    pipeline.besides = Besides(stability=True)
    report = pipeline.report(image)
    assert [check.change for check in report.stability] == tried
    untried = [caveat for caveat in report.caveats if caveat.startswith("Not asked again")]
    assert len(untried) == len(said)
    assert all(words in caveat for words, caveat in zip(said, untried, strict=True))
    assert not any("verdict changes" in caveat for caveat in report.caveats)


def test_a_report_is_json_and_names_its_weights(weights, photos):
    report = gammascope.detect(photos["rocket"], weights=weights)
    row = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (row["width"], row["height"]) == (640, 427)
    assert row["method"] == "gamma"
    assert row["weights_sha256"] == checkpoints.load(weights).sha256
    assert row["calibrated"] is False, "only the other question is calibrated"
    assert set(row["answers"]) == {"generated", "edited"}
    assert row["verdict"] in {"no sign", "fake", "uncertain"}


def test_the_image_is_not_written_to(weights, photos):
    before = photos["cat"].copy()
    gammascope.detect(photos["cat"], weights=weights)
    assert np.array_equal(before, photos["cat"])


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}{list(pixels.shape)}",
)
@pytest.mark.usefixtures("unchecked")
def test_arrays_that_are_no_image_are_refused(pixels):
    with pytest.raises(UndecodableImageError, match="expected height x width x 3, uint8"):
        thermometer().report(pixels)


def test_what_is_neither_path_nor_content_nor_array_is_refused(weights):
    # In a process of its own, where annotations are not checked.
    code = f"import gammascope; gammascope.detect(None, weights={str(weights)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UndecodableImageError: A NoneType is no image: expected a path" in done.stderr


def test_files_that_are_no_image_are_refused(weights, tmp_path):
    with pytest.raises(UndecodableImageError):
        gammascope.detect(b"no image", weights=weights)
    with pytest.raises(UndecodableImageError):
        gammascope.detect(tmp_path / "nothing.png", weights=weights)


def test_a_loop_over_pictures_loads_the_detector_once_and_a_changed_file_anew(
    weights, photos, tmp_path, monkeypatch
):
    mine, loads = tmp_path / "mine.safetensors", []
    load = Pipeline.load

    def counted(*args: Any, **wishes: Any) -> Pipeline:
        loads.append(1)
        return load(*args, **wishes)

    monkeypatch.setattr(Pipeline, "load", counted)
    shutil.copyfile(weights, mine)
    for name in ("cat", "rocket", "cat"):
        gammascope.detect(photos[name], weights=mine)
    assert len(loads) == 1
    os.utime(mine, (0, 0))
    gammascope.detect(photos["cat"], weights=mine)
    assert len(loads) == 2


def test_no_weights_and_other_weights_are_refused(weights, tmp_path, photos):
    with pytest.raises(MissingDataError, match="No checkpoint at"):
        gammascope.detect(photos["cat"], weights=tmp_path / "nothing.safetensors")
    with pytest.raises(IncompatibleCheckpointError, match="not of 'effort'"):
        gammascope.detect(photos["cat"], weights=weights, method="effort")


def test_several_images_share_batches_and_each_gets_its_own_answer(photos):
    pipeline = thermometer()
    images = [beside(*range(100, 100 + count)) for count in (3, TORCH_AT_ONCE + 2, 1)]
    images.append(photos["cat"][:9, :30])
    single = [pipeline.scores(image) for image in images]
    pipeline.detector.batches.clear()
    for alone, together in zip(single, pipeline.scores_of(images), strict=True):
        assert (together.logit, together.views) == (alone.logit, alone.views)
        assert together.answers == alone.answers
        for name, expected in alone.maps.items():
            np.testing.assert_array_equal(together.maps[name], expected)
    views = sum(scores.views for scores in single)
    assert pipeline.detector.batches == [TORCH_AT_ONCE] * (views // TORCH_AT_ONCE) + [
        views % TORCH_AT_ONCE
    ]
    assert pipeline.scores_of([]) == []


def test_the_embedded_detector_answers_alike_alone_and_in_company(photos):
    pipeline = Pipeline.load()
    pictures = [
        (Decoded(np.ascontiguousarray(photos[name][:height, :width]), "png", (), None, 0), name)
        for name, height, width in (("cat", 96, 96), ("rocket", 60, 300), ("coffee", 200, 110))
    ]
    for (decoded, name), together in zip(pictures, pipeline.reports_of(pictures), strict=True):
        alone = pipeline.report_of(decoded, name)
        assert (together.image, together.size) == (name, alone.size)
        assert together.caveats == alone.caveats
        for question, answer in alone.answers.items():
            assert together.answers[question].verdict == answer.verdict
            # The network rounds differently for other batch sizes.
            assert together.answers[question].probability == pytest.approx(
                answer.probability, abs=1e-5
            )


class WithWhole(Thermometer):
    """Besides, answers for the whole: the level of the view's first pixel."""

    def forward(self, pixels: jaxtyping.Float[Tensor, "b 3 h w"]) -> Prediction:
        """Read the temperature, and the corner."""
        found = super().forward(pixels)
        return replace(
            found, answers={**found.answers, views.WHOLE: 255 * pixels[:, :, 0, 0].mean(1)}
        )


@pytest.mark.parametrize(
    ("image", "added"),
    [
        # The overview of 16 x 16 px, reduced by two; tiles' own corners (50, 90) do not count.
        pytest.param(np.concatenate([beside(50, 90), beside(10, 30)]), "overview", id="overview"),
        pytest.param(grey(60), 60.0, id="one tile"),
        pytest.param(beside(50, 70), 60.0, id="a strip, which no view shows all of"),
    ],
)
def test_an_answer_for_the_whole_is_added_once_and_not_to_edits(image, added):
    pipeline = thermometer()
    view = replace(pipeline.view, overview=0.25)
    plain = Pipeline(Thermometer(view), replace(pipeline.facts, view=view), "abc").scores(image)
    scores = Pipeline(WithWhole(view), replace(pipeline.facts, view=view), "abc").scores(image)
    if added == "overview":
        added = 255 * float(
            views.pixels_at(image, views.Place(scores.boxes[-1], "overview"), view)[:, 0, 0].mean()
        )
        assert added not in (50.0, 90.0) or image[0, 0, 0] == added
    assert scores.logit == pytest.approx(plain.logit + added, abs=1e-3)
    assert scores.answers == {
        "generated": pytest.approx(plain.answers["generated"] + added, abs=1e-3),
        "edited": pytest.approx(plain.answers["edited"]),
    }
    assert views.WHOLE not in scores.by_view


def test_the_overview_weighs_as_much_as_its_spec_says_and_is_no_tile():
    pipeline = thermometer()
    view = replace(pipeline.view, overview=0.25)
    pipeline.view = view
    image = np.concatenate([beside(100, 140), beside(120, 120)])  # its square is all of it: 120
    image[4:12, 4:12] = 200
    scores = pipeline.scores(image)
    tiles, overview = scores.by_view[""][:-1], scores.by_view[""][-1]
    assert scores.overview
    assert scores.views == 5
    expected = 0.75 * tiles.mean() + 0.25 * overview
    assert scores.logit == pytest.approx(float(expected), abs=1e-3)
    assert scores.answers["edited"] == pytest.approx(float(tiles.max()) + 1000, abs=1e-2)
    report = pipeline.report(image)
    assert len(report.tiles) == 4
    assert not [caveat for caveat in report.caveats if "tiles were examined" in caveat]
    # Maps are made of tiles alone: they are the same without an overview.
    pipeline.view = replace(view, overview=0.0)
    plain = pipeline.scores(image)
    assert np.array_equal(plain.maps["edited"], scores.maps["edited"])
    assert not plain.overview


def test_a_picture_too_small_for_a_verdict_gets_none():
    hot = Calibration(1.0, -50.0, 0.0, (0.05, 0.01), 100, ("s",))
    pipeline = thermometer(calibration={"generated": hot, "edited": hot})
    small = pipeline.report(grey(200, width=SIDE // 2 - 1, height=40))
    assert small.verdict is Verdict.UNCERTAIN
    assert {answer.verdict for answer in small.answers.values()} == {Verdict.UNCERTAIN}
    assert not small.calibrated
    assert any("too small for a verdict" in caveat for caveat in small.caveats)
    assert not any(evidence.map is not None for evidence in small.evidence)
    large = pipeline.report(grey(200, width=SIDE // 2, height=40))
    assert large.verdict is Verdict.FAKE
    assert large.calibrated


def test_a_score_is_told_by_how_many_photos_and_fakes_have_one_as_high():
    ranks = ((-100.0, 1.0, 1.0), (0.0, 0.5, 0.9), (100.0, 0.002, 0.4), (155.0, 0.0, 0.0))
    known = Calibration(1.0, 0.0, 0.0, (0.05, 0.01), 100, ("s",), ranks=ranks)
    pipeline = thermometer(calibration={"generated": known})

    def said(level: int) -> str:
        (found,) = [e for e in pipeline.report(grey(level)).evidence if e.name == "rank:generated"]
        return found.statement

    assert said(100) == (
        "A score this high: 50 in 100 held-out photos, 90 in 100 held-out generated pictures."
    )
    assert "1 in 500 held-out photos" in said(200)
    assert "fewer than 1 in 1,000 held-out photos" in said(255)
    silent = thermometer(calibration={"generated": replace(known, ranks=())})
    assert not any(e.name.startswith("rank") for e in silent.report(grey(100)).evidence)


def test_each_profile_goes_by_thresholds_of_its_own():
    default = Calibration(1.0, 10.0, 20.0, (0.05, 0.01), 100, ("s",))
    fast = replace(default, uncertain_from=60.0, fake_from=80.0)
    view = ViewSpec(SIDE, "tiles", "mean", 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    facts = Facts(
        "thermometer",
        {},
        view,
        calibration={"generated": default},
        profiles={"fast": {"generated": fast}},
    )
    detector = Thermometer(view, ("generated",))
    assert Pipeline(detector, facts, "abc").report(grey(150)).verdict is Verdict.FAKE
    quick = Pipeline(detector, facts, "abc", profile="fast")
    assert quick.report(grey(150)).verdict is Verdict.NO_SIGN
    assert quick.facts.calibration["generated"] == fast
    thorough = Pipeline(detector, facts, "abc", profile="thorough")
    assert thorough.facts.calibration["generated"] == default


def test_what_was_not_looked_at_is_not_said_to_show_nothing():
    known = Calibration(1.0, 500.0, 500.0, (0.05, 0.01), 100, ("s",))
    part = thermometer(max_tiles=2, calibration={"generated": known})
    statements = [e.statement for e in part.report(beside(1, 2, 3, 4)).evidence]
    assert "No region stands out as generated in the 2 of 4 tiles examined." in statements
    every = thermometer(calibration={"generated": known})
    statements = [e.statement for e in every.report(beside(1, 2, 3, 4)).evidence]
    assert "No region stands out as generated." in statements
