"""CocoGlide (TruFor): 512 COCO photos, cropped to 256 pixels, and GLIDE's inpaintings of an object in each.

A mask is named after its photo; the number of the COCO image joins it to the inpainting. Others found every pixel
outside the masks equal to the photo's: what was edited is what was generated.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Either, Masked, tampered
from gammascope.sample import Label

BENCHMARK = Benchmark(
    title="CocoGlide",
    paper="arXiv:2212.10957",
    licence="research only; photos under the licences of COCO",
    url="https://www.grip.unina.it/download/prog/TruFor/CocoGlide.zip",
    splits=("test",),
    labels={"real": Label.REAL, "fake": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── real/airplane_44652.png
├── fake/glide_inpainting_val2017_44652_up.png
└── mask/airplane_44652_mask.png
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)""",
    read=Either(
        (
            Masked(
                edited=r"(?:^|/)fake/(?:[^/]*_)?(\d+)(?:_up)?\.\w+$",
                masks=r"(?:^|/)mask/(?:[^/]*_)?(\d+)(?:_mask)?\.\w+$",
                untouched=r"(?:^|/)real/",
                kind="inpainting",
                generator="glide",
                pasted_back=True,
            ),
            tampered("inpainting", generator="glide"),
        )
    ),
)
