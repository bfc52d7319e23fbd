from __future__ import annotations

import builtins

import numpy as np
import pytest
import skimage.data

from gammascope.errors import MissingExtraError
from gammascope.manipulation import CopyMove
from gammascope.manipulation.base import check

PHOTO = skimage.data.astronaut()[:200, 60:300]


def test_object_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(10, 10\), the photo \(200, 240\)"):
        check(PHOTO, [np.zeros((10, 10), dtype=bool)])


def test_without_opencv_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without_cv2(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cv2)
    with pytest.raises(MissingExtraError, match=r"\.\[train\]"):
        CopyMove()(PHOTO, np.random.default_rng(0))
