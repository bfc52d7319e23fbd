"""Checkpoints: files with weights and everything needed to use them rightly; made of other files, and of one another.

The package offers the names of its modules ``file`` and ``verdicts``; ``conversion`` reads published checkpoints,
``averaging`` makes one of several.
"""

from __future__ import annotations

from gammascope.checkpoints.file import (
    FORMAT,
    Checkpoint,
    Facts,
    default_path,
    elsewhere,
    load,
    parameters_of,
    parse_facts,
    read_facts,
    recalibrate,
    resolve,
    save,
    towers_of,
)
from gammascope.checkpoints.verdicts import RAW, Calibration, OperatingPoint, Settled, expit

__all__ = [
    "FORMAT",
    "RAW",
    "Calibration",
    "Checkpoint",
    "Facts",
    "OperatingPoint",
    "Settled",
    "default_path",
    "elsewhere",
    "expit",
    "load",
    "parameters_of",
    "parse_facts",
    "read_facts",
    "recalibrate",
    "resolve",
    "save",
    "towers_of",
]
