"""UniversalFakeDetect: eight sets of diffusion images and DALL-E.

Photos are shared by reference: those of ``imagenet`` belong to ``guided``, those of ``laion`` to all others. Copies in
circulation give each set photos of its own in ``0_real``; both are read.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders, labelled, only
from gammascope.sample import Label

GENERATORS = (
    *("dalle", "glide_100_10", "glide_100_27", "glide_50_27"),
    *("guided", "ldm_100", "ldm_200", "ldm_200_cfg"),
)
PHOTOS = ("imagenet", "laion")

LABELS = {
    **labelled(only(PHOTOS), Label.REAL),
    **labelled(only(GENERATORS), Label.FAKE),
    **NUMBERED,
}

BENCHMARK = Benchmark(
    title="UniversalFakeDetect diffusion sets",
    paper="arXiv:2302.10174",
    licence="not stated",
    url="https://github.com/WisconsinAIVision/UniversalFakeDetect",
    splits=("test",),
    labels=LABELS,
    tree="""\
├── imagenet/0_real/*        (photos for guided)
├── laion/0_real/*           (photos for all others)
├── dalle/1_fake/*           (in copies also dalle/0_real/*)
├── glide_50_27/, glide_100_10/, glide_100_27/
├── guided/
└── ldm_100/, ldm_200/, ldm_200_cfg/""",
    read=Folders(labels=LABELS, unsplit="test", parts=only((*GENERATORS, *PHOTOS))),
    parts={"test": GENERATORS},
)
