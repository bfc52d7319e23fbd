"""Pictures that keep the rules pass, and each broken rule is felt by its own test."""

from __future__ import annotations

import numpy as np
import pytest

from gammascope.errors import MissingDataError, RecipeError
from gammascope.evaluation import context_tests as tests
from gammascope.generation import spatial_context as models

FAMILIES = list(models.FAMILIES)


def examined(name, breaks="", *, count=20, amount=999, side=256):
    rng = np.random.default_rng(5)
    drawn = [models.draw(name, rng, side=side, breaks=breaks, amount=amount) for _ in range(count)]
    return drawn, [tests.examine(name, each.image) for each in drawn]


def test_flags_are_as_published():
    tiles = models.flag_tiles()
    assert tiles.sum((1, 2)).tolist() == [80] * 8
    assert (~tiles.any(0)).sum() == 24
    apart = [(a != b).sum() for i, a in enumerate(tiles) for b in tiles[:i]]
    assert (min(apart), max(apart)) == (56, 160)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_rng_draws_the_same_picture(name):
    first, again, other = (models.draw(name, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != other.image).any()
    assert not first.broken.any()
    assert first.image.shape == (256, 256, 3)


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("name", FAMILIES)
def test_rules_that_are_kept_are_found_to_be_kept(name, side):
    drawn, found = examined(name, side=side)
    report = tests.report(name, found)
    # The bounds reject one of a hundred in each test.
    assert max(report.rejected.values()) <= 2
    assert report.perfect >= 16
    if name != "voronoi" or side > 64:
        assert [each.kind for each in drawn] == [each.kind for each in found]


@pytest.mark.parametrize(
    ("name", "breaks", "felt"),
    [
        ("flags", "position", "position"),
        ("flags", "intensity", "fore"),
        ("flags", "texture", "texture"),
        ("voronoi", "order", "order"),
        ("voronoi", "flatness", "flatness"),
        ("alphabet", "count", "counts"),
        ("alphabet", "order", "pairs"),
        ("alphabet", "blend", "readable"),
    ],
)
def test_a_broken_rule_is_felt_by_its_own_test_and_no_other(name, breaks, felt):
    # Variances differ between cells only where some are left flat.
    drawn, found = examined(name, breaks, amount=4 if breaks == "flatness" else 40)
    report = tests.report(name, found)
    if breaks == "blend":  # half another letter may be read as that one
        assert report.rejected[felt] == 20
        return
    assert report.rejected[felt] == 20
    others = {test: report.rejected[test] for test in report.rejected if test != felt}
    assert max(others.values()) <= 2, others
    assert all(each.broken.any() and not each.broken.all() for each in drawn)


@pytest.mark.parametrize(
    ("name", "breaks"), [(n, b) for n in FAMILIES for b in models.FAMILIES[n].breaks]
)
def test_outside_the_mask_nothing_is_broken(name, breaks):
    """What the mask leaves out is what the same rng draws without a broken rule, where the draws are the same."""
    drawn = models.draw(name, np.random.default_rng(3), breaks=breaks, amount=3)
    if breaks == "prevalence":
        assert not drawn.broken.any()
    elif breaks == "independence":
        assert drawn.broken.all()
    else:
        assert 0 < drawn.broken.mean() < 0.5
    if breaks in {"flatness", "order"} and name == "voronoi":
        kept = models.draw(name, np.random.default_rng(3))
        np.testing.assert_array_equal(drawn.image[~drawn.broken], kept.image[~drawn.broken])
        assert (drawn.image[drawn.broken] != kept.image[drawn.broken]).any()


def test_smooth_tiles_keep_their_grey_levels():
    for tile in (np.random.default_rng(0).normal(size=(16, 16)),):
        smooth = models._smooth(tile, np.random.default_rng(1))
        np.testing.assert_array_equal(np.sort(smooth.ravel()), np.sort(tile.ravel()))


def test_a_law_of_kinds_is_seen_in_the_ensemble_alone():
    _, found = examined("flags", "prevalence", count=40)
    report = tests.report("flags", found)
    assert max(report.rejected.values()) <= 3
    assert report.prevalence is not None
    assert report.prevalence > report.bound


def test_independent_letters_pass_as_an_ensemble_and_fail_in_each_picture():
    """The point of such models in two numbers: 95 % and none."""
    drawn, found = examined("alphabet", "independence", count=300)
    ensemble = np.mean([each.values["counts"] <= tests.ENSEMBLE[7] for each in found])
    assert 0.89 < ensemble < 0.98
    assert sum(each.passed["counts"] and each.passed["pairs"] for each in found) == 0
    assert all(each.passed["readable"] for each in found)
    assert len(drawn) == 300


def test_letters_are_counted_and_paired_in_every_drawn_picture():
    for seed in range(100):
        letters = models._arranged(np.random.default_rng(seed))
        counts = np.bincount(letters.ravel(), minlength=8)
        assert dict(zip(models.LETTERS, counts.tolist(), strict=True)) == models.COUNTS
        found = {letter: letters == i for i, letter in enumerate(models.LETTERS)}
        assert tests._lonely(found) == 0


def test_expected_grey_levels_add_up_to_all_pixels():
    rng = np.random.default_rng(0)
    pixels = np.rint(96 + 152 * rng.beta(4, 2, 20480)).astype(np.uint8)
    assert 90 < tests.chi_square(pixels, "fore") < 200
    assert tests.chi_square(pixels // 2, "fore") > 10_000


def test_flat_and_empty_pictures_are_answered_not_crashed_on():
    for name in FAMILIES:
        for level in (0, 128, 255):
            found = tests.examine(name, np.full((256, 256, 3), level, np.uint8))
            assert not found.perfect


def test_wrong_sizes_families_rules_and_amounts_are_one_line():
    rng = np.random.default_rng(0)
    with pytest.raises(MissingDataError, match="expected a square"):
        tests.examine("flags", np.zeros((256, 128, 3), np.uint8))
    with pytest.raises(MissingDataError, match="multiple of 64"):
        tests.examine("alphabet", np.zeros((96, 96, 3), np.uint8))
    with pytest.raises(MissingDataError, match="no paper thresholds"):
        tests.examine("flags", np.zeros((128, 128, 3), np.uint8), "paper")
    with pytest.raises(RecipeError, match="Did you mean 'flags'"):
        models.draw("flag", rng)
    with pytest.raises(RecipeError, match="no rule 'colour' to break"):
        models.draw("flags", rng, breaks="colour")
    with pytest.raises(RecipeError, match="multiple of 16 from 64"):
        models.draw("flags", rng, side=100)
    with pytest.raises(RecipeError, match="amount=0"):
        models.draw("flags", rng, amount=0)
