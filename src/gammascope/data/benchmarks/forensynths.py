"""ForenSynths (CNNDetection): ProGAN images for training, thirteen other sets for testing.

ProGAN, StyleGAN, StyleGAN2 and CycleGAN have a level of object classes, one of which is called "train". "deepfake"
holds frames with swapped faces, so only a part of each is generated.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders, only

TESTED = (
    *("progan", "stylegan", "stylegan2", "biggan", "cyclegan", "stargan", "gaugan", "deepfake"),
    *("crn", "imle", "san", "seeingdark", "whichfaceisreal"),
)

BENCHMARK = Benchmark(
    title="ForenSynths (CNNDetection)",
    paper="arXiv:1912.11035",
    licence="CC-BY-NC-SA-4.0",
    url="https://github.com/PeterWang512/CNNDetection",
    splits=("test", "val", "train"),
    labels=NUMBERED,
    tree="""\
├── train/progan/<class>/{0_real,1_fake}/*.png
├── val/progan/<class>/{0_real,1_fake}/*.png
└── test/
    ├── progan/<class>/{0_real,1_fake}/*.png      (likewise cyclegan, stylegan, stylegan2)
    └── biggan/{0_real,1_fake}/*.png              (likewise the other nine)""",
    read=Folders(
        labels=NUMBERED,
        splits={"train": (), "val": (), "test": ("CNN_synth_testset",)},
        split_first=True,
        parts=only(TESTED),
        partly=("deepfake",),
    ),
    parts={"test": TESTED, "val": ("progan",), "train": ("progan",)},
    paired=True,
)
