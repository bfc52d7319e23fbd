from __future__ import annotations

import numpy as np
import pytest
import skimage.color
import skimage.data

from gammascope.manipulation.blending import Seam, feathered, match_colour, opacity, poisson

HOST = skimage.data.astronaut()[:128, :160]
PATCH = skimage.data.coffee()[100:228, 100:260]


def rectangle(top: int, left: int, bottom: int, right: int):
    mask = np.zeros(HOST.shape[:2], dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


INSIDE = rectangle(30, 40, 90, 110)


@pytest.mark.parametrize(
    "mask",
    [INSIDE, rectangle(0, 0, 40, 160), rectangle(100, 130, 128, 160), rectangle(0, 0, 128, 160)],
    ids=["inside", "top", "corner", "everything"],
)
@pytest.mark.parametrize("blend", ["hard", "feathered", "poisson"])
def test_pixels_outside_the_mask_stay_identical(mask, blend):
    made = {
        "hard": lambda: feathered(HOST, PATCH, mask),
        "feathered": lambda: feathered(HOST, PATCH, mask, 3),
        "poisson": lambda: poisson(HOST, PATCH, mask),
    }[blend]()
    assert np.array_equal(made[~mask], HOST[~mask])
    assert (made != HOST)[mask].mean() > 0.7


def test_a_hard_paste_shows_the_patch():
    assert np.array_equal(feathered(HOST, PATCH, INSIDE)[INSIDE], PATCH[INSIDE])


def test_opacity_rises_linearly_inside_the_mask():
    alpha = opacity(INSIDE, 3)
    assert alpha[60, 39] == 0
    assert alpha[60, 40:45].tolist() == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert np.array_equal(alpha > 0, INSIDE)


def test_the_frame_is_no_edge_to_feather():
    alpha = opacity(rectangle(0, 0, 128, 80), 3)
    assert alpha[0, 0] == 1
    assert alpha[60, 79] < 1
    assert opacity(np.ones((9, 9), dtype=bool), 3).min() == 1


def test_feathering_mixes_in_proportion():
    black, white = np.zeros_like(HOST), np.full_like(HOST, 255)
    made = feathered(black, white, INSIDE, 1)
    assert made[60, 40].tolist() == [128, 128, 128]
    assert made[60, 41].tolist() == [255, 255, 255]


def test_poisson_continues_the_hosts_colours_and_keeps_the_patchs_detail():
    dark, bright = (HOST // 4), (PATCH // 2 + 120).astype(np.uint8)
    made = poisson(dark, bright, INSIDE).astype(float)
    rim_jump = np.abs(made[31:89, 40] - dark[31:89, 39]).mean()
    assert rim_jump < 0.3 * np.abs(bright[31:89, 40].astype(float) - dark[31:89, 39]).mean()
    inner = np.s_[45:75, 55:95]
    gradients = [np.diff(a[inner].astype(float).mean(-1), axis=1).ravel() for a in (made, bright)]
    assert np.corrcoef(gradients)[0, 1] > 0.9


def test_poisson_is_aligned_with_the_patch():
    # Cloning a picture into itself changes nothing, wherever the region lies.
    for mask in (INSIDE, rectangle(31, 41, 90, 110), rectangle(0, 100, 33, 160)):
        made = poisson(HOST, HOST, mask).astype(int)
        assert np.abs(made - HOST).max() <= 2


def test_thin_regions_are_pasted_hard():
    thin = rectangle(30, 40, 32, 100)
    assert np.array_equal(poisson(HOST, PATCH, thin), feathered(HOST, PATCH, thin))


def test_matched_colours_have_the_hosts_mean_and_spread():
    made = match_colour(PATCH, HOST, INSIDE)
    lab, want = skimage.color.rgb2lab(made)[INSIDE], skimage.color.rgb2lab(HOST).reshape(-1, 3)
    before = skimage.color.rgb2lab(PATCH)[INSIDE]
    # Colours out of gamut are clipped, which keeps it from being exact.
    assert np.abs(lab.mean(0) - want.mean(0)).max() < 6
    assert np.abs(lab.mean(0) - want.mean(0)).sum() < np.abs(before.mean(0) - want.mean(0)).sum()


def test_matching_a_flat_patch_does_not_blow_up_noise():
    rng = np.random.default_rng(0)
    flat = (120 + rng.integers(0, 3, HOST.shape)).astype(np.uint8)
    made = match_colour(flat, HOST, INSIDE)
    assert made[INSIDE].astype(float).std(0).max() < 8


def test_seams_are_drawn_as_often_as_asked():
    rng = np.random.default_rng(1)
    seam = Seam(feather_px=3, feather_share=0.5, poisson_share=0.0)
    hard = feathered(HOST, PATCH, INSIDE)
    share = np.mean([np.array_equal(seam.paste(HOST, PATCH, INSIDE, rng), hard) for _ in range(80)])
    assert 0.3 < share < 0.7


def test_a_seam_without_feather_is_hard():
    made = Seam(feather_px=0, feather_share=1.0, poisson_share=0.0).paste(
        HOST, PATCH, INSIDE, np.random.default_rng(0)
    )
    assert np.array_equal(made, feathered(HOST, PATCH, INSIDE))


def test_a_seam_can_match_colours():
    seam = Seam(feather_share=0.0, poisson_share=0.0, colour_share=1.0)
    made = seam.paste(HOST, PATCH, INSIDE, np.random.default_rng(0))
    assert np.array_equal(made, feathered(HOST, match_colour(PATCH, HOST, INSIDE), INSIDE))
