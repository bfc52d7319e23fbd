"""AI-GenBench: 36 generators in the order of their release, as the authors' scripts build it.

The scripts leave a Hugging Face dataset on disk (Arrow tables); the generated half can also be had as Parquet. A row
names the generator, or nothing for a photo, and the collection that it comes from. Images that an inpainting model
completed are only partly generated.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Tables
from gammascope.sample import Entry, Label

INPAINTERS = frozenset({"LaMa", "MAT", "Palette", "SN-PatchGAN"})

LABELS = {"0": Label.REAL, "1": Label.FAKE, "real": Label.REAL, "fake": Label.FAKE}


def _completed(entry: Entry, row: Mapping[str, Any], _: Mapping[str, str]) -> Entry:
    generator = row["generator"] or None
    entry = replace(entry, source=row["origin_dataset"] or None)
    if entry.label is Label.REAL:
        return entry
    return replace(
        entry, generator=generator, kind="inpainting" if generator in INPAINTERS else None
    )


BENCHMARK = Benchmark(
    title="AI-GenBench",
    paper="arXiv:2504.20865",
    licence="those of the collections it is built from",
    url="https://github.com/MI-BioLab/AI-GenBench",
    splits=("validation", "train"),
    labels=LABELS,
    tree="""\
├── train/data-00000-of-000##.arrow           (columns image, label, generator, origin_dataset, ...)
└── validation/data-00000-of-000##.arrow      (or data/validation-00000-of-000##.parquet)""",
    read=Tables(
        tables={
            split: rf"(?:^|/){split}(?:/data-[^/]*\.arrow|[-/][^/]*\.parquet)$"
            for split in ("validation", "train")
        },
        labels=LABELS,
        columns=("generator", "origin_dataset"),
        entry=_completed,
    ),
    reading="which of its generators are inpainting models",
)
