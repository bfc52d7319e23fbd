"""OpenFake: photos and images of many generators on political themes; a test set from Reddit; inpaintings.

Hugging Face tables, read in place. The folder "inpainting" and that all its fakes are inpaintings are our reading.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import PLAIN, Tables
from gammascope.sample import Entry, Label


def _completed(entry: Entry, row: Mapping[str, Any], caught: Mapping[str, str]) -> Entry:
    if entry.label is Label.REAL:
        return replace(entry, source=row["model"] or None)
    inpainted = caught["config"].lower() == "inpainting"
    return replace(entry, generator=row["model"] or None, kind="inpainting" if inpainted else None)


BENCHMARK = Benchmark(
    title="OpenFake",
    paper="arXiv:2509.09495",
    licence="CC-BY-NC-4.0 (older versions: CC-BY-SA-4.0)",
    url="https://huggingface.co/datasets/ComplexDataLab/OpenFake",
    splits=("test", "validation", "train", "reddit", "inpainting"),
    labels=PLAIN,
    tree="""\
├── core/{train,validation,test}-*.parquet      (data/ in older versions; columns image, label, model, ...)
├── reddit/test-*.parquet
└── inpainting/test-*.parquet""",
    read=Tables(
        tables={
            **{
                split: rf"(?P<config>core|data|opensource)/{split}-[^/]*\.parquet$"
                for split in ("test", "validation", "train")
            },
            **{
                config: rf"(?P<config>{config})/[^/]*\.parquet$"
                for config in ("reddit", "inpainting")
            },
        },
        labels=PLAIN,
        columns=("model",),
        entry=_completed,
    ),
    reading="the inpainting configuration",
)
