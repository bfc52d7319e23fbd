"""Anybody's detector, measured like ours: a Python function that the user names, which runs as the user's own code."""

from __future__ import annotations

import importlib
import math
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image

from gammascope.detection.scores import Scores
from gammascope.errors import ForeignDetectorError, RecipeError
from gammascope.evaluation.run import Candidate
from gammascope.sample import Sample

QUESTION = "fake"
_NEAREST = 2.0**-53  # To 0 and 1: what a float can tell apart from 1.


class Foreign:
    """Asks a function for the probability that a picture is fake.

    The function gets the path of a PNG file that holds the pixels shown and nothing else: formats and metadata of the
    original, which often tell the label, are gone, as they are for our own detectors. It is never called twice at once.

    Attributes:
        answers: How many were given.
    """

    def __init__(self, name: str, function: Callable[[str], Any]) -> None:
        self._name, self._function, self._lock = name, function, threading.Lock()
        self.answers = 0

    def __call__(self, sample: Sample) -> Scores:
        """Answer for one sample.

        Raises:
            ForeignDetectorError: If the function fails, or its answer is no probability.
        """
        where = f"{self._name} on {sample.entry.path.name}"
        with self._lock, tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "picture.png"
            PIL.Image.fromarray(sample.image).save(picture, compress_level=1)
            try:
                chance = float(self._function(str(picture)))
            except (Exception, SystemExit) as error:  # Other people's code raises what it likes.
                reason = " ".join(str(error).split())
                raise ForeignDetectorError(f"{where}: {type(error).__name__}: {reason}") from error
            self.answers += 1
        if not 0 <= chance <= 1:
            raise ForeignDetectorError(
                f"{where}: answered {chance}, expected the probability of fake, 0 to 1."
            )
        inside = min(max(chance, _NEAREST), 1 - _NEAREST)
        logit = math.log(inside / (1 - inside))
        return Scores(logit, {QUESTION: logit}, maps={}, views=1)


def candidate(name: str) -> Candidate:
    """Import a function ("module:function", also from the working folder) and make it something to evaluate.

    Raises:
        RecipeError: If there is none.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise RecipeError(f"--predict {name}: expected module:function, as in my_detector:predict.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # As above.
        reason = " ".join(str(error).split())
        raise RecipeError(
            f"--predict {name} cannot be imported: {type(error).__name__}: {reason}"
        ) from error
    if not callable(found):
        raise RecipeError(f"--predict {name}: {function} is no function.")
    return Candidate(name, "", {}, Foreign(name, found), threads=1, device="as it chooses")
