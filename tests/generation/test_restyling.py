"""Restyled photos: style of another picture or a drawn one, size and place of the photo; bad files are told of."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from tests.generation.made_networks import numbered_styles, styles_of_pictures

from gammascope.detection.runtime import openvino_core
from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.generation.restyling import load

PHOTO = np.ascontiguousarray(skimage.data.astronaut()[:37, 60:113])


def no_other():
    raise AssertionError("no other picture is needed")


def test_a_photo_of_any_size_takes_the_style_of_another_pictures_centre(tmp_path):
    restyle = load(styles_of_pictures(tmp_path / "pair"), openvino_core())
    other = np.full((20, 60, 3), 255, np.uint8)
    other[:, 15:45] = (200, 100, 0)  # its centre square, and what resampling sees beside it
    made = restyle(PHOTO, lambda: other, np.random.default_rng(0))
    expected = (PHOTO.astype(float) + np.array([200, 100, 0])) / 2
    assert np.abs(made - expected).max() <= 1


def test_a_numbered_style_is_drawn_for_each_photo_and_a_seed_draws_the_same(tmp_path):
    restyle = load(numbered_styles(tmp_path / "three.onnx"), openvino_core())
    factors = []
    for seed in range(20):
        made = restyle(PHOTO, no_other, np.random.default_rng(seed))
        assert np.array_equal(made, restyle(PHOTO, no_other, np.random.default_rng(seed)))
        factors += [f for f in (1, 0.75, 0.5) if np.abs(made - f * PHOTO.astype(float)).max() <= 1]
    assert len(factors) == 20
    assert set(factors) == {1, 0.75, 0.5}


def test_files_that_are_no_such_networks_are_refused(tmp_path):
    core = openvino_core()
    with pytest.raises(MissingDataError, match=r"none\.onnx"):
        load(tmp_path / "none.onnx", core)
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(IncompatibleCheckpointError, match=r"OpenVINO cannot use .*broken\.onnx"):
        load(tmp_path / "broken.onnx", core)
    whole = numbered_styles(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "short.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IncompatibleCheckpointError, match=r"short\.onnx"):
        load(tmp_path / "short.onnx", core)
    pair = styles_of_pictures(tmp_path / "pair")
    with pytest.raises(IncompatibleCheckpointError, match="takes no weights of styles"):
        load(pair / "tiny_predict.onnx", core)


def test_a_folder_without_a_pair_that_fits_is_refused(tmp_path):
    core = openvino_core()
    with pytest.raises(IncompatibleCheckpointError, match=r"by \(1, 1, 1, 9\).*no pair"):
        load(styles_of_pictures(tmp_path / "unfit", repeated=3), core)
    pair = styles_of_pictures(tmp_path / "pair")
    (pair / "tiny_transform.onnx").unlink()
    with pytest.raises(MissingDataError, match=r"one file \*transform.onnx .* found 0"):
        load(pair, core)


def test_a_network_whose_answer_has_another_size_is_told_of(tmp_path):
    restyle = load(numbered_styles(tmp_path / "half.onnx", halved=True), openvino_core())
    with pytest.raises(IncompatibleCheckpointError, match=r"makes \(20, 28, 3\) of \(40, 56, 3\)"):
        restyle(PHOTO, no_other, np.random.default_rng(0))
