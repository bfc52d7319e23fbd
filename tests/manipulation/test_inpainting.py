from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from jaxtyping import TypeCheckError

from gammascope.manipulation import Inpainting, TwinPaste
from gammascope.manipulation.inpainting import NavierStokes, Telea, Twin
from gammascope.manipulation.regions import Regions

PHOTO = skimage.data.astronaut()[:200, 60:300]


@pytest.mark.parametrize("fill", [Telea(), NavierStokes()])
def test_a_classical_fill_is_edited_but_not_generated(fill):
    made = Inpainting(fill)(PHOTO, np.random.default_rng(0))
    assert made.kind == "inpainting_classical"
    assert made.edited.any()
    assert not made.generated.any()


@pytest.mark.parametrize("fill", [Telea(), NavierStokes(radius_px=5.0)])
def test_a_classical_fill_removes_what_was_there(fill):
    scene = np.full((80, 80, 3), 90, dtype=np.uint8)
    scene[30:50, 30:50] = [255, 0, 0]
    mask = np.zeros((80, 80), dtype=bool)
    mask[28:52, 28:52] = True
    filled = fill(scene, mask, np.random.default_rng(0))
    assert np.abs(filled.astype(int) - 90).max() <= 5


def test_a_fill_needs_surroundings():
    with pytest.raises(ValueError, match="covers everything"):
        Telea()(PHOTO, np.ones(PHOTO.shape[:2], dtype=bool), np.random.default_rng(0))


def test_a_twin_shows_inside_the_mask_only():
    twin = 255 - PHOTO
    made = TwinPaste(twin, feather_px=0)(PHOTO, np.random.default_rng(0))
    assert np.array_equal(made.image[made.edited], twin[made.edited])
    assert np.array_equal(made.image[~made.edited], PHOTO[~made.edited])
    assert np.array_equal(made.generated, made.edited)
    assert made.kind == "inpainting"


def test_a_twin_of_another_size_is_refused():
    with pytest.raises((ValueError, TypeCheckError)):
        TwinPaste(PHOTO[:-1])(PHOTO, np.random.default_rng(0))


class Shrinking:
    generative = True
    replaces_content = True

    def __call__(self, image, mask, rng):  # noqa: ARG002 - the Inpainter protocol
        return image[::2, ::2]


def test_an_inpainter_that_changes_the_size_is_refused():
    with pytest.raises(ValueError, match=r"Shrinking turned \(200, 240, 3\) into \(100, 120, 3\)"):
        Inpainting(Shrinking())(PHOTO, np.random.default_rng(0))


@pytest.mark.parametrize("inpainter", [Telea(), Twin(PHOTO)])
def test_a_whole_frame_without_truthful_masks_is_refused(inpainter):
    with pytest.raises(ValueError, match="paste_back=False has no truthful masks"):
        Inpainting(inpainter, paste_back=False)


def test_regions_are_passed_on_to_the_inpainter():
    thing = np.zeros(PHOTO.shape[:2], dtype=bool)
    thing[60:140, 70:170] = True
    regions = Regions(shapes=("object",), dilation_px=(0, 0))
    made = Inpainting(Telea(), regions=regions)(PHOTO, np.random.default_rng(0), [thing])
    assert np.array_equal(made.edited, thing)
