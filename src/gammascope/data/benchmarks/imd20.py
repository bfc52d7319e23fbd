"""IMD2020: manipulations made by people and collected on the web, with the photos that they were made from."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Either, Masked, tampered
from gammascope.sample import Label

BENCHMARK = Benchmark(
    title="IMD2020",
    paper="doi:10.1109/WACVW50321.2020.9096940",
    licence="research only",
    url="http://staff.utia.cas.cz/novozada/db/",
    splits=("test",),
    labels={"*_orig.*": Label.REAL, "other": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
└── 1a1ogs/                        (one folder per photo)
    ├── 1a1ogs_orig.jpg            (the photo)
    ├── c8tf5mq_0.png              (manipulated; also .jpg)
    └── c8tf5mq_0_mask.png
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Either(
        (
            tampered(),
            Masked(
                edited=r"([^/]+/(?![^/]*_orig\.)[^/]+)\.\w+$",
                masks=r"([^/]+/[^/]+)_mask\.\w+$",
                untouched=r"_orig\.\w+$",
            ),
        )
    ),
)
