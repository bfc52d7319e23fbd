"""GenImage: a million images of eight generators, each beside as many ImageNet photos.

Three layouts are in use: as distributed, with an archive's name between generator and split; the same without it, as
its README draws it; and the numbered class folders of later papers, whose "test" is GenImage's "val".
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders
from gammascope.sample import Label

GENERATORS = {
    "adm": ("imagenet_ai_0508_adm",),
    "biggan": ("imagenet_ai_0419_biggan", "biggan2"),
    "glide": ("imagenet_glide",),
    "midjourney": ("imagenet_midjourney",),
    "sd-1.4": ("stable_diffusion_v_1_4", "imagenet_ai_0419_sdv4", "sdv4", "sdv1.4"),
    "sd-1.5": ("stable_diffusion_v_1_5", "imagenet_ai_0424_sdv5", "sdv5", "sdv1.5"),
    "vqdm": ("imagenet_ai_0419_vqdm",),
    "wukong": ("imagenet_ai_0424_wukong",),
}

LABELS = {"nature": Label.REAL, "ai": Label.FAKE, **NUMBERED}

BENCHMARK = Benchmark(
    title="GenImage",
    paper="arXiv:2306.08571",
    licence="CC-BY-NC-SA-4.0",
    url="https://github.com/GenImage-Dataset/GenImage",
    splits=("val", "train"),
    labels=LABELS,
    tree="""\
├── ADM/
│   └── imagenet_ai_0508_adm/         (this folder may be missing)
│       ├── train/{ai,nature}/
│       └── val/                      (or test/)
│           ├── ai/*.png              (or 1_fake/)
│           └── nature/*.jpeg         (or 0_real/)
├── BigGAN/, glide/, Midjourney/, stable_diffusion_v_1_4/, stable_diffusion_v_1_5/, VQDM/
└── wukong/""",
    read=Folders(
        labels=LABELS,
        splits={"val": ("test",), "train": ()},
        unsplit="val",
        parts=GENERATORS,
    ),
    parts={"val": GENERATORS, "train": GENERATORS},
    paired=True,
)
