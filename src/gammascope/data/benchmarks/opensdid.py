"""OpenSDID (OpenSDI): images of five diffusion models, made as a whole ("entire/") or in part ("partial/").

Hugging Face tables with images and masks in their rows, which are read in place. The name of a table says the
generator, the key of a row how much of the image is made. Masks say what was replaced; whether the rest went through
the generator as well is not documented, so which pixels are generated is unknown.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Tables
from gammascope.sample import Entry, Label

GENERATORS = {"sd15": "sd-1.5", "sd2": "sd-2.1", "sdxl": "sdxl", "sd3": "sd-3", "flux": "flux.1"}

LABELS = {"0": Label.REAL, "1": Label.FAKE}


def _completed(entry: Entry, row: Mapping[str, Any], caught: Mapping[str, str]) -> Entry:
    generator = GENERATORS[caught["generator"].lower()]
    entry = replace(entry, source=generator)
    if entry.label is Label.REAL:
        return entry
    partial = str(row["key"] or "").lower().startswith("partial/")
    return replace(
        entry,
        generator=generator,
        kind="inpainting" if partial else None,
        edited_path=entry.edited_path if partial else None,
    )


BENCHMARK = Benchmark(
    title="OpenSDID",
    paper="arXiv:2503.19653",
    licence="CC-BY-SA-4.0",
    url="https://huggingface.co/datasets/nebula/OpenSDI_test",
    splits=("test", "train"),
    labels=LABELS,
    tree="""\
├── OpenSDI_test/data/
│   ├── sd15-00000-of-00019.parquet, ...      (columns key, image, mask, label)
│   └── sd2-*, sdxl-*, sd3-*, flux-*
└── OpenSDI_train/data/sd15-*.parquet""",
    read=Tables(
        tables={
            split: rf"OpenSDI_{split}/.*?(?P<generator>sd15|sd2|sdxl|sd3|flux)-[^/]*\.parquet$"
            for split in ("test", "train")
        },
        labels=LABELS,
        columns=("key",),
        mask="mask",
        entry=_completed,
    ),
    parts={"test": tuple(GENERATORS.values()), "train": ("sd-1.5",)},
    paired=True,
)
