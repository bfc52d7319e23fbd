"""DRCT-2M: sixteen diffusion models on the captions of MS COCO, whose photos are the real class.

The three inpainting models made reconstructions of whole photos: every pixel is theirs.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Folders, labelled, only
from gammascope.sample import Label

GENERATORS = only(
    (
        *("ldm-text2im-large-256", "stable-diffusion-v1-4", "stable-diffusion-v1-5"),
        *("stable-diffusion-2-1", "stable-diffusion-xl-base-1.0"),
        *("stable-diffusion-xl-refiner-1.0", "sd-turbo", "sdxl-turbo"),
        *("lcm-lora-sdv1-5", "lcm-lora-sdxl", "sd-controlnet-canny", "sd21-controlnet-canny"),
        *("controlnet-canny-sdxl-1.0", "stable-diffusion-inpainting"),
        *("stable-diffusion-2-inpainting", "stable-diffusion-xl-1.0-inpainting-0.1"),
    )
)
PHOTOS = {"mscoco": ("MSCOCO2017", "coco", "coco2017", "real")}

LABELS = {**labelled(PHOTOS, Label.REAL), **labelled(GENERATORS, Label.FAKE)}

BENCHMARK = Benchmark(
    title="DRCT-2M",
    paper="ICML 2024, openreview:oRLwyayrh1",
    licence="not stated",
    url="https://github.com/beibuwandeluori/DRCT",
    splits=("test", "train"),
    labels=LABELS,
    tree="""\
├── MSCOCO/{train2017,val2017}/*.jpg                     (or mscoco2017/, coco/)
├── ldm-text2im-large-256/{train2017,val2017}/*.png      (models may lie in a folder DRCT-2M/)
├── stable-diffusion-v1-4/{train2017,val2017}/*.png
└── ... the other fourteen, named like the models on Hugging Face""",
    read=Folders(
        labels=LABELS,
        splits={"test": ("val2017",), "train": ("train2017",)},
        parts={**GENERATORS, **PHOTOS},
    ),
    parts={"test": (*GENERATORS, *PHOTOS), "train": (*GENERATORS, *PHOTOS)},
)
