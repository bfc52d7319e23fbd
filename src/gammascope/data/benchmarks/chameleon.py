"""Chameleon: fakes that passed for photos among people, from art and model communities; generators not recorded."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, PLAIN, Folders

LABELS = {**NUMBERED, **PLAIN}

BENCHMARK = Benchmark(
    title="Chameleon",
    paper="arXiv:2406.19435",
    licence="academic use only, on request by e-mail",
    url="https://github.com/shilinyan99/AIDE",
    splits=("test",),
    labels=LABELS,
    tree="""\
└── test/                 (this folder may be missing)
    ├── 0_real/*.jpg      (or real/)
    └── 1_fake/*.jpg      (or fake/)""",
    read=Folders(labels=LABELS, splits={"test": ()}, unsplit="test", parts={}),
)
