"""DSO-1: a hundred photos with people added by splicing, and a hundred untouched ones. Masks are dark where spliced."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Either, Masked, tampered
from gammascope.sample import Label

BENCHMARK = Benchmark(
    title="DSO-1",
    paper="doi:10.1109/TIFS.2013.2265677",
    licence="not stated",
    url="http://ic.unicamp.br/~rocha/pub/downloads/2014-tiago-carvalho-thesis/tifs-database.zip",
    splits=("test",),
    labels={"normal-*": Label.REAL, "splicing-*": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── DSO-1/
│   ├── normal-*.png
│   └── splicing-*.png
└── DSO-1-Fake-Images-Masks/splicing-*.png
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Either(
        (
            Masked(
                edited=r"(?:^|/)DSO-1/(splicing-[^/]+)\.\w+$",
                masks=r"(?:^|/)DSO-1-Fake-Images-Masks/(splicing-[^/]+)\.\w+$",
                untouched=r"(?:^|/)DSO-1/normal-",
                kind="splicing",
                holds="dark",
            ),
            tampered("splicing"),
        )
    ),
)
