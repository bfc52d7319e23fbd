"""Co-Spy-Bench: 22 generators on the captions of five collections; each collection is a split.

The archives hold examples of the photos only. The authors take theirs from the collections themselves; that photos lie
in one folder per collection is our reading. Their images in the wild are no part of this.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Folders
from gammascope.sample import Label

COLLECTIONS = {
    "mscoco": ("mscoco2017", "coco"),
    "cc3m": (),
    "flickr": ("flickr30k",),
    "textcaps": (),
    "sbu": (),
}

LABELS = {"real_image_examples": Label.REAL, "real": Label.REAL, "synthetic": Label.FAKE}

BENCHMARK = Benchmark(
    title="Co-Spy-Bench",
    paper="arXiv:2503.18286",
    licence="not stated for the images; code MIT",
    url="https://huggingface.co/datasets/ruojiruoli/Co-Spy-Bench",
    splits=tuple(COLLECTIONS),
    labels=LABELS,
    tree="""\
├── real_image_examples/                 (or real/)
│   └── mscoco/*, cc3m/*, flickr/*, textcaps/*, sbu/*
└── synthetic/
    ├── mscoco/<generator>/*.png         (FLUX.1-dev, sdxl-turbo, ...)
    └── cc3m/, flickr/, textcaps/, sbu/  (likewise)""",
    read=Folders(labels=LABELS, splits=COLLECTIONS),
    reading="photos in one folder per collection",
)
