"""AIGI-Now (AlignGemini): nine generators of 2025, with aligned formats ("pix") and strongly degraded ("sem").

The dataset comes as WebDataset archives to be unpacked; that the class folders lie below generator and condition, and
the names of the conditions, are our reading.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders

BENCHMARK = Benchmark(
    title="AIGI-Now",
    paper="arXiv:2512.06746",
    licence="not stated",
    url="https://huggingface.co/datasets/Gaffeyzz/AIGI-Now",
    splits=("pix", "sem"),
    labels=NUMBERED,
    tree="""\
└── <generator>/                      (FLUX dev, krea, kontext and pro, gpt4o, jimeng, keling, minimax, Nano)
    ├── pix/{0_real,1_fake}/*.jpg     (or pixel/)
    └── sem/{0_real,1_fake}/*.jpg     (or semantic/)""",
    read=Folders(labels=NUMBERED, splits={"pix": ("pixel",), "sem": ("semantic",)}),
    paired=True,
    reading="order of the folders, names of the conditions",
)
