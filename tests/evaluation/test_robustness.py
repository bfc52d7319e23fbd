"""Perturbations keep what they promise, and their numbers are those of the scores."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gammascope.errors import MissingDataError, RecipeError
from gammascope.evaluation.intervals import Value
from gammascope.evaluation.plots import plot_robustness
from gammascope.evaluation.robustness import (
    TITLES,
    AnyOf,
    Perturbation,
    Point,
    chosen,
    grid,
    measured,
    suite,
    write_csv,
)
from gammascope.evaluation.score_table import ScoreTable
from gammascope.sample import Entry, Label, Sample

FULL = suite("full")
KEEP_SIZE = {"jpeg", "webp", "avif", "blur", "noise", "sharpen", "brighten", "darken", "contrast"}
KEEP_SIZE |= {"gamma", "halftone"}


def sample_of(image: np.ndarray) -> Sample:
    nowhere = np.zeros(image.shape[:2], np.bool_)
    return Sample(Entry(path=Path("a.png"), label=Label.REAL), image, nowhere, nowhere)


@pytest.fixture(scope="module")
def photo(photos) -> np.ndarray:
    return np.ascontiguousarray(photos["cat"][:120, :160])


def test_suites_are_named_once_and_in_order():
    names = [each.name for each in FULL]
    assert len(set(names)) == len(names) > 100
    assert list(dict.fromkeys(each.family for each in FULL)) == list(TITLES)
    assert all(name.replace("-", "").replace("_", "").replace(".", "").isalnum() for name in names)
    quick = suite("quick")
    assert 15 <= len(quick) <= 25
    assert set(quick) < set(FULL)
    for chroma in ("420", "422", "444"):
        qualities = [each.severity for each in FULL if each.family == f"jpeg_{chroma}"]
        assert (qualities[0], qualities[-1]) == ("95", "40")
    with pytest.raises(RecipeError, match="Did you mean 'quick'"):
        suite("quik")


def test_any_of_a_suite_is_one_of_its_perturbations_by_the_pixels_alone(photo):
    column = AnyOf("quick")
    images = [np.roll(photo, shift, 1) for shift in range(16)]
    drawn = [column.drawn(image) for image in images]
    assert drawn == [column.drawn(image) for image in images]
    assert len(set(drawn)) > 5
    np.testing.assert_array_equal(
        column(sample_of(images[0])).image, drawn[0](sample_of(images[0])).image
    )
    assert column.definition != AnyOf("full").definition
    with pytest.raises(RecipeError, match="No suite"):
        AnyOf("none")(sample_of(photo))


@pytest.mark.parametrize("each", FULL, ids=lambda each: each.name)
def test_every_perturbation_changes_pixels_and_repeats_itself(each: Perturbation, photo: Any):
    before = photo.copy()
    shown = each(sample_of(photo))
    np.testing.assert_array_equal(photo, before)  # the image is not written to
    again = each(sample_of(photo))
    np.testing.assert_array_equal(shown.image, again.image)
    assert shown.image.dtype == np.uint8
    assert shown.image.flags.c_contiguous
    assert (shown.generated, shown.edited) == (None, None)
    if each.family.split("_")[0] in KEEP_SIZE:
        assert shown.image.shape == photo.shape
    assert shown.image.shape != photo.shape or (shown.image != photo).any()
    # Ordinary processing: one still sees the same picture, neither black nor white.
    assert abs(float(shown.image.mean()) - float(photo.mean())) < 80
    assert shown.image.std() > 10


@pytest.mark.parametrize(
    "family", ["jpeg_420", "webp", "avif", "blur", "noise", "sharpen", "darken"]
)
def test_severities_grow(family, photo):
    errors = [
        np.abs(each(sample_of(photo)).image.astype(int) - photo).mean()
        for each in FULL
        if each.family == family
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


@pytest.mark.parametrize("each", suite("quick"), ids=lambda each: each.name)
@pytest.mark.parametrize("size", [(1, 1), (3, 50)])
def test_tiny_images_are_perturbed_too(each, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert min(each(sample_of(image)).image.shape[:2]) >= 1


def test_noise_differs_between_images_and_severities_but_not_between_runs(photo):
    noisy = [each for each in FULL if each.family == "noise"]
    other = np.ascontiguousarray(photo[::-1])
    one, two = (noisy[0](sample_of(image)).image.astype(int) - image for image in (photo, other))
    assert (one != two).mean() > 0.5
    weak, strong = (each(sample_of(photo)).image.astype(int) - photo for each in noisy[:2])
    assert abs(np.corrcoef(weak.ravel(), strong.ravel())[0, 1]) < 0.1


def test_an_image_too_large_for_a_format_is_an_error_of_its_row():
    webp = next(each for each in FULL if each.family == "webp")
    with pytest.raises(MissingDataError, match=r"a\.png: 16400 x 2 pixels: webp holds"):
        webp(sample_of(np.zeros((2, 16400, 3), np.uint8)))


def entries_of(groups: dict[tuple[Label, str], int], tmp_path: Any) -> list[Entry]:
    return [
        Entry(
            tmp_path / f"{label}-{name}-{at}.png",
            label,
            generator=name if label else None,
            source=name,
        )
        for (label, name), count in groups.items()
        for at in range(count)
    ]


def test_a_limit_takes_all_generators_and_sources_in_turn(tmp_path):
    real, fake = Label.REAL, Label.FAKE
    groups = {(real, "a"): 50, (real, "b"): 3, (fake, "x"): 40, (fake, "y"): 40, (fake, "z"): 1}
    entries = entries_of(groups, tmp_path)
    some = chosen(entries, 11)
    assert sum(entry.label is real for entry in some) == 11
    counts = {name: sum(entry.generator == name for entry in some) for name in "xyz"}
    assert counts == {"x": 5, "y": 5, "z": 1}
    assert [entry for entry in entries if entry in some] == some  # the order of the list
    assert set(chosen(entries[::-1], 11)) == set(some)
    assert set(chosen(entries, 5)) < set(some)  # growing a limit keeps what was chosen
    assert chosen(entries, None) == entries
    with pytest.raises(MissingDataError, match="No fake image"):
        chosen(entries[:53], 5)


@pytest.fixture
def points() -> list[Point]:
    rng = np.random.default_rng(0)
    made = []
    for family, severity, gap in (
        ("", "native", 3.0),
        ("blur", "1", 1.0),
        ("blur", "2", 0.2),
        ("noise", "5", 0.5),
    ):
        label = np.repeat([0, 1], 60)
        columns: dict[str, Any] = {
            name: np.full(120, "") for name in ("generator", "kind", "source")
        }
        columns |= {"path": np.arange(120).astype(str), "label": label}
        columns["logit_generated"] = np.where(np.arange(120) == 7, np.nan, rng.normal(gap * label))
        columns["error"] = np.where(np.arange(120) == 7, "broken", "")
        table = ScoreTable(columns)
        made.append(measured(table, "generated", 0.5, family=family, severity=severity))
        used = np.arange(120) != 7
        score, truth = columns["logit_generated"][used], label[used]
        assert made[-1].auroc.value == pytest.approx(roc_auc_score(truth, score))
        assert made[-1].real_accuracy.value == pytest.approx(np.mean(score[truth == 0] < 0.5))
        assert made[-1].fake_accuracy.value == pytest.approx(np.mean(score[truth == 1] >= 0.5))
        assert (made[-1].real_accuracy.n, made[-1].fake_accuracy.n, made[-1].failed) == (59, 60, 1)
    return made


def test_points_are_laid_out_and_written_with_their_numbers(points, tmp_path):
    laid_out = grid(points)
    assert laid_out.rows[0][:2] == ("not perturbed", "native")
    assert laid_out.rows[1][:3] == ("Gaussian blur, sigma in pixels", "1", str(points[1].auroc))
    assert laid_out.rows[1][5:] == ("59 + 60", "1")
    write_csv(points, tmp_path / "robustness.csv")
    with (tmp_path / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[2]["auroc_low"]) == pytest.approx(points[2].auroc.low, abs=1e-6)
    assert rows[3]["family"] == "noise"
    assert rows[0]["reals"] == "59"


def test_curves_are_drawn_for_one_family_and_for_all(points, tmp_path):
    import PIL.Image

    families = {"blur": points[1:3], "noise": points[3:]}
    plot_robustness(families, points[:1], tmp_path / "all.png")
    plot_robustness({"blur": points[1:3]}, points[:1], tmp_path / "one.png")
    with PIL.Image.open(tmp_path / "all.png") as wide, PIL.Image.open(tmp_path / "one.png") as one:
        assert wide.width == 2 * one.width
        pixels = np.asarray(one.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0, 0, 0), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # the three curves
        assert (np.abs(pixels - colour).max(axis=1) < 8).sum() > 200
    with pytest.raises(MissingDataError, match="no perturbation"):
        plot_robustness({}, points[:1], tmp_path / "none.png")
    undefined = Value.undefined(3, "no fake image")
    lone = Point("blur", "1", undefined, points[0].real_accuracy, undefined, 0)
    plot_robustness({"blur": [lone]}, points[:1], tmp_path / "gap.png")
