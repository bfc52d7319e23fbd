"""WildRF (LaDeDa): what people posted as real and as generated; train on Reddit, test on three networks."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders, only

NETWORKS = ("reddit", "twitter", "facebook")

BENCHMARK = Benchmark(
    title="WildRF",
    paper="arXiv:2406.09398",
    licence="not stated",
    url="https://github.com/barcavia/RealTime-DeepfakeDetection-in-the-RealWorld",
    splits=("test", "val", "train"),
    labels=NUMBERED,
    tree="""\
├── train/{0_real,1_fake}/*
├── val/{0_real,1_fake}/*
└── test/
    ├── reddit/{0_real,1_fake}/*
    ├── twitter/{0_real,1_fake}/*
    └── facebook/{0_real,1_fake}/*""",
    read=Folders(
        labels=NUMBERED,
        splits=only(("test", "val", "train")),
        parts=only(NETWORKS),
        parts_are_generators=False,
    ),
    parts={"test": NETWORKS},
    paired=True,
)
