"""COVERAGE: a hundred copy-moves beside genuine objects that look like the copy, and their originals."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Either, Masked, tampered
from gammascope.sample import Label

BENCHMARK = Benchmark(
    title="COVERAGE",
    paper="doi:10.1109/ICIP.2016.7532339",
    licence="not stated",
    url="https://github.com/wenbihan/coverage",
    splits=("test",),
    labels={"<n>.tif": Label.REAL, "<n>t.tif": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── image/
│   ├── 1.tif         (untouched)
│   └── 1t.tif        (tampered)
└── mask/1forged.tif  (also 1copy.tif and 1paste.tif, which are not used)
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Either(
        (
            Masked(
                edited=r"(?:^|/)image/(\d+)t\.\w+$",
                masks=r"(?:^|/)mask/(\d+)forged\.\w+$",
                untouched=r"(?:^|/)image/\d+\.\w+$",
                kind="copy_move",
            ),
            tampered("copy_move"),
        )
    ),
)
