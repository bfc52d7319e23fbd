"""AIGCDetectBenchmark: sixteen generators from ProGAN to DALL-E 2; SDXL came later and may be missing."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders, only

GENERATORS = (
    *("progan", "stylegan", "biggan", "cyclegan", "stargan", "gaugan", "stylegan2"),
    *("whichfaceisreal", "ADM", "Glide", "Midjourney", "stable_diffusion_v_1_4"),
    *("stable_diffusion_v_1_5", "VQDM", "wukong", "DALLE2"),
)

BENCHMARK = Benchmark(
    title="AIGCDetectBenchmark",
    paper="arXiv:2311.12397",
    licence="not stated",
    url="https://github.com/Ekko-zn/AIGCDetectBenchmark",
    splits=("test",),
    labels=NUMBERED,
    tree="""\
└── test/                                         (this folder may be missing)
    ├── progan/<class>/{0_real,1_fake}/*.png      (likewise cyclegan, stylegan, stylegan2)
    ├── ADM/{0_real,1_fake}/*.png                 (likewise the others)
    └── sd_xl/{0_real,1_fake}/*.png               (may be missing)""",
    read=Folders(
        labels=NUMBERED,
        splits={"test": (), "train": ()},
        unsplit="test",
        split_first=True,
        parts={**only(GENERATORS), "sd_xl": ("sdxl",)},
    ),
    parts={"test": GENERATORS},
    paired=True,
)
