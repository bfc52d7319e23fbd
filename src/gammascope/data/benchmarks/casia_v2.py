"""CASIA v2: splices and copy-moves; masks come from others, in a corrected release.

Of a few tampered images the mask has another name or size: they keep their label and count as failed where the size
differs. The letter S (same image) or D (different images) in the name says the kind.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.benchmarks.casia_v1 import kind
from gammascope.data.layouts import Masked
from gammascope.sample import Label

BENCHMARK = Benchmark(
    title="CASIA v2",
    paper="doi:10.1109/ChinaSIP.2013.6625374",
    licence="research only",
    url="https://github.com/namtpham/casia2groundtruth (masks; photos from their authors)",
    splits=("test",),
    labels={"Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── Au/Au_*.jpg
├── Tp/Tp_{D,S}_*.{jpg,tif}
└── CASIA 2 Groundtruth/Tp_*_gt.png
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
