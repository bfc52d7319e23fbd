"""AIGIBench: 25 test sets of GANs, diffusion models, face swaps, personalised models and social media.

Between set and class there may be one more folder. In face swaps only the face is generated. Training images lie in
folders of object classes: they are ProGAN's.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import NUMBERED, Folders, only

SWAPS = ("BlendFace", "E4S", "FaceSwap", "InSwap", "SimSwap")

TESTED = {
    **only(SWAPS),
    **only(("BLIP", "CommunityAI", "DALLE-3", "FLUX1-dev", "GLIDE", "Imagen3", "InstantID")),
    **only(("IP_Adapter", "PhotoMaker", "R3GAN", "SD3", "SDXL", "SocialRF", "StyleGAN3")),
    "Infinite-ID": (),
    "Midjourney-V6": ("Midjourney",),
    "ProGAN": ("car", "cat", "chair", "horse"),
    "StyleGAN-XL": (),
    "StyleSwim": ("StyleSwin",),
    "WFIR": ("whichfaceisreal",),
}

BENCHMARK = Benchmark(
    title="AIGIBench",
    paper="arXiv:2505.12335",
    licence="CC-BY-NC-SA-4.0",
    url="https://huggingface.co/datasets/HorizonTEL/AIGIBench",
    splits=("test", "train"),
    labels=NUMBERED,
    tree="""\
├── train/{car,cat,chair,horse,sdv1.4}/{0_real,1_fake}/*
└── test/
    ├── BlendFace/{0_real,1_fake}/*      (or BlendFace/<variant>/{0_real,1_fake}/*)
    └── ... the other 24 sets""",
    read=Folders(
        labels=NUMBERED,
        splits=only(("test", "train", "val")),
        unsplit="test",
        split_first=True,
        parts={**TESTED, "sdv1.4": ()},
        partly=SWAPS,
    ),
    parts={"test": TESTED, "train": ("ProGAN", "sdv1.4")},
    paired=True,
    reading="spelling of the StyleGAN-XL, StyleSwim and WFIR folders",
)
