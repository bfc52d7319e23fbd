"""SynthWildX: images of three generators and photos as they were shared on X.

The authors give a table of links; their script saves to these four folders. Many links no longer work, so numbers of
two downloads differ.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Folders, labelled
from gammascope.sample import Label

GENERATORS = {"dalle3": ("dalle-3",), "firefly": (), "midjourney": ("midjourney-v5",)}
PHOTOS = {"x.com": ("real", "0_real")}

LABELS = {**labelled(PHOTOS, Label.REAL), **labelled(GENERATORS, Label.FAKE)}

BENCHMARK = Benchmark(
    title="SynthWildX",
    paper="arXiv:2312.00195",
    licence="not stated; the images belong to those who posted them",
    url="https://github.com/grip-unina/ClipBased-SyntheticImageDetection",
    splits=("test",),
    labels=LABELS,
    tree="""\
├── real/*
├── dalle3/*
├── firefly/*
└── midjourney/*""",
    read=Folders(labels=LABELS, unsplit="test", parts={**GENERATORS, **PHOTOS}),
    parts={"test": (*GENERATORS, *PHOTOS)},
)
