"""CASIA v1: splices and copy-moves of small photos; masks come from others, who also correct some file names.

The masks' list of corrections changes the kind of 29 images; without it, the kind is that of the folder, else of the
letter S (same image) or D (different images) in the name. One splice has no mask.
"""

import re

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Masked
from gammascope.sample import Label


def kind(name: str) -> str:
    """Return the kind of a tampered image from its path below the root."""
    folder = re.search(r"(?:^|/)(CM|Sp)/", name, re.IGNORECASE)
    same = folder[1].lower() == "cm" if folder else re.search(r"[ST]p_S_", name, re.IGNORECASE)
    return "copy_move" if same else "splicing"


BENCHMARK = Benchmark(
    title="CASIA v1",
    paper="doi:10.1109/ChinaSIP.2013.6625374",
    licence="research only",
    url="https://github.com/namtpham/casia1groundtruth (masks; photos from their authors)",
    splits=("test",),
    labels={"Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── Au/*.jpg
├── Tp/
│   ├── CM/*.jpg
│   └── Sp/*.jpg
└── CASIA 1.0 groundtruth/
    ├── CM/*_gt.png
    └── Sp/*_gt.png
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Masked(
        edited=r"(?:^|/)Tp/(?:.*/)?([^/]+)\.\w+$",
        masks=r"(?:groundtruth|(?:^|/)Gt)/(?:.*/)?([^/]+?)(?:_gt)?\.\w+$",
        untouched=r"(?:^|/)Au/",
        kind=kind,
        in_order=True,
    ),
)
