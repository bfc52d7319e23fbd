"""Tell real photographs from AI-generated and edited ones, and show where.

>>> import gammascope
>>> report = gammascope.detect("examples/pictures/coffee.jpg")  # doctest: +SKIP
>>> report.verdict, report.probability  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Pipeline, detect
    from gammascope.detectors.base import Detector, Method
    from gammascope.errors import (
        ChecksumError,
        GammascopeError,
        IncompatibleCheckpointError,
        MissingDataError,
        MissingExtraError,
        RecipeError,
        UndecodableImageError,
        UnknownMethodError,
    )
    from gammascope.prediction import Batch, Prediction
    from gammascope.report import Answer, Evidence, Report, Verdict
    from gammascope.sample import Entry, Label, Sample

__version__ = "0.1.0"

_HOME = {
    "Answer": "report",
    "Batch": "prediction",
    "ChecksumError": "errors",
    "Detector": "detectors.base",
    "Entry": "sample",
    "Evidence": "report",
    "GammascopeError": "errors",
    "IncompatibleCheckpointError": "errors",
    "Label": "sample",
    "Method": "detectors.base",
    "MissingDataError": "errors",
    "MissingExtraError": "errors",
    "Pipeline": "detection.pipeline",
    "Prediction": "prediction",
    "RecipeError": "errors",
    "Report": "report",
    "Sample": "sample",
    "UndecodableImageError": "errors",
    "UnknownMethodError": "errors",
    "Verdict": "report",
    "detect": "detection.pipeline",
}

__all__ = [
    "Answer",
    "Batch",
    "ChecksumError",
    "Detector",
    "Entry",
    "Evidence",
    "GammascopeError",
    "IncompatibleCheckpointError",
    "Label",
    "Method",
    "MissingDataError",
    "MissingExtraError",
    "Pipeline",
    "Prediction",
    "RecipeError",
    "Report",
    "Sample",
    "UndecodableImageError",
    "UnknownMethodError",
    "Verdict",
    "detect",
]


def __getattr__(name: str) -> Any:
    # Imported at first use: torch is in the way of a quick `--help`.
    if name not in _HOME:
        raise AttributeError(f"module 'gammascope' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gammascope.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
