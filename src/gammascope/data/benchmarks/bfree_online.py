"""BFree-Online: viral images, each in many copies found over the days after the first post.

``source`` is the identity of the image, so copies never count as different images in intervals over sources. The days
online are in the authors' table only. Generators are not recorded, and some fakes may be edited photos: that they count
as generated is our reading.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import PLAIN, Folders

BENCHMARK = Benchmark(
    title="BFree-Online",
    paper="arXiv:2412.17671",
    licence="non-commercial research; the images belong to those who posted them",
    url="https://github.com/grip-unina/B-Free",
    splits=("test",),
    labels=PLAIN,
    tree="""\
├── REAL/<source_id>/img#####.jpg
└── FAKE/<source_id>/img#####.jpg""",
    read=Folders(labels=PLAIN, unsplit="test", parts_are_generators=False),
    reading="all fakes count as generated",
)
