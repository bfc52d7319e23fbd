"""Any dataset of real and fake images as Hugging Face stores them: Parquet or Arrow tables with the images inside.

For datasets without a file of their own. The folder is a local copy (``hf download NAME --repo-type dataset``); nothing
is streamed. Needed are the columns "image" and "label". Where the dataset names its classes, those names count: in
several sets 0 means "AI". Otherwise 0 is real and 1 fake.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Tables
from gammascope.data.manifest import LABEL_WORDS, PARTLY_WORDS
from gammascope.sample import Entry, Label

SPLITS = {"test": "test", "validation": "validation|valid|val|dev", "train": "train"}

LABELS = {**LABEL_WORDS, "ai-generated": Label.FAKE, "human": Label.REAL}


def _completed(entry: Entry, row: Mapping[str, Any], _: Mapping[str, str]) -> Entry:
    generator = row["generator"] or row["model"]
    partly = str(row["label"]).lower() in PARTLY_WORDS
    fake = entry.label is Label.FAKE
    return replace(
        entry,
        generator=str(generator) if fake and generator else None,
        kind="manipulated" if partly else None,
        source=str(row["source"]) if row["source"] else None,
    )


BENCHMARK = Benchmark(
    title="Any Hugging Face image dataset",
    paper="-",
    licence="see the card of the dataset",
    url="https://huggingface.co/datasets",
    splits=tuple(SPLITS),
    labels=LABELS,
    tree="""\
└── data/                                    (any folder, or none)
    └── test-00000-of-00001.parquet          (columns image, label; also generator or model, source)
or, as save_to_disk leaves it:
└── test/data-00000-of-00001.arrow""",
    read=Tables(
        tables={
            split: rf"(?:^|/)(?:{words})(?:[-./](?!cache-).*)?\.(?:parquet|arrow)$"
            for split, words in SPLITS.items()
        },
        labels=LABELS,
        columns=("generator", "model", "source"),
        entry=_completed,
    ),
    reading="names of the columns; 0 is real where classes have no names",
)
