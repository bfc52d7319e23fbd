"""Columbia Uncompressed: 180 splices of photos by four cameras, and 183 photos.

The masks are drawings of both regions, spliced in green and the rest in red. That green means spliced in all of them is
our reading, which others share.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Either, Masked, tampered
from gammascope.sample import Label

BENCHMARK = Benchmark(
    title="Columbia Uncompressed",
    paper="doi:10.1109/ICME.2006.262447",
    licence="research only",
    url="https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
    splits=("test",),
    labels={"4cam_auth": Label.REAL, "4cam_splc": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── 4cam_auth/*.tif
└── 4cam_splc/
    ├── *.tif
    └── edgemask/*_edgemask.jpg
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Either(
        (
            Masked(
                edited=r"4cam_splc/(?:.*/)?([^/]+)\.\w+$",
                masks=r"4cam_splc/(?:.*/)?edgemask/([^/]+?)(?:_edgemask)?\.\w+$",
                untouched=r"4cam_auth/(?!.*edgemask)",
                kind="splicing",
                holds="green",
            ),
            tampered("splicing"),
        )
    ),
    reading="green in the masks",
)
