"""Community Forensics: the comprehensive evaluation set, 21 generators against four collections of photos.

Tables with the bytes of each image in a row, read in place; or the same images unpacked into folders.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import PLAIN, Either, Folders, Tables
from gammascope.sample import Entry, Label

SPLIT = "CompEval"


def _completed(entry: Entry, row: Mapping[str, Any], _: Mapping[str, str]) -> Entry:
    if entry.label is Label.REAL:
        return replace(entry, source=row["real_source"] or None)
    return replace(entry, generator=row["model_name"] or None)


BENCHMARK = Benchmark(
    title="Community Forensics",
    paper="arXiv:2411.04125",
    licence="CC-BY-NC-SA-4.0",
    url="https://huggingface.co/datasets/OwensLab/CommunityForensics-Eval",
    splits=(SPLIT,),
    labels={"0": Label.REAL, "1": Label.FAKE, **PLAIN},
    tree="""\
└── data/CompEval-*.parquet      (columns image_data, label, model_name, real_source, ...)
or, unpacked:
└── <generator>/{real,fake}/*""",
    read=Either(
        (
            Tables(
                tables={SPLIT: r"CompEval-[^/]*\.parquet$"},
                labels={"0": Label.REAL, "1": Label.FAKE},
                image="image_data",
                columns=("model_name", "real_source"),
                entry=_completed,
            ),
            Folders(labels=PLAIN, unsplit=SPLIT),
        )
    ),
)
