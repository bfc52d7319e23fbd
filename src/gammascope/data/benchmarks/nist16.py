"""NIST Nimble Challenge 2016: splices, copy-moves and removals by hand, many of several thousand pixels.

As distributed, tables say which probes are manipulated and where the masks lie; those masks are dark where manipulated.
Probes that are not manipulated are photos. IMDL-BenCo's copy has the 564 manipulated ones alone, with light masks. The
sets that papers train and test on share scenes: numbers on all of it are not theirs.
"""

from collections.abc import Iterator
from pathlib import Path

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.folder import files_below
from gammascope.data.layouts import Either, tampered
from gammascope.data.manifest import mask_where
from gammascope.data.text_tables import dictionaries
from gammascope.sample import Entry, Label


def _probes(root: Path, split: str) -> Iterator[Entry]:
    """List the probes that the table of the manipulation task names."""
    for table in files_below(root, suffixes=(".csv",)):
        if table.parts[-3:-1] != ("reference", "manipulation"):
            continue
        _, rows = dictionaries(table, delimiter="|")
        for row in rows:
            if not {"ProbeFileName", "IsTarget"} <= row.keys():
                break
            path = table.parents[2] / row["ProbeFileName"]
            if row["IsTarget"].strip().lower() not in {"y", "yes", "true", "1"}:
                yield Entry(path, Label.REAL, split=split)
                continue
            mask = (row.get("ProbeMaskFileName") or "").strip()
            edited = mask_where(table.parents[2] / mask, "dark") if mask else None
            yield Entry(path, Label.FAKE, kind="manipulated", split=split, edited_path=edited)


BENCHMARK = Benchmark(
    title="NIST16",
    paper="doi:10.1109/WACVW.2019.00018",
    licence="on registration with NIST",
    url="https://mfc.nist.gov",
    splits=("test",),
    labels={"IsTarget Y": Label.FAKE, "IsTarget N": Label.REAL, "Tp": Label.FAKE},
    tree="""\
└── NC2016_Test0613/
    ├── probe/*.jpg
    └── reference/manipulation/
        ├── NC2016-manipulation-ref.csv      (ProbeFileName|ProbeMaskFileName|IsTarget|...)
        └── mask/*.png
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Either((_probes, tampered())),
    classes=frozenset({Label.FAKE}),
)
