"""COCO-Inpaint: six inpainting models, four ways to draw masks, on MS COCO.

We found no published copy, so the layout is our reading throughout: photos, inpainted images and masks in a folder
each, the inpainted images below one folder per model, each mask named like its image.
"""

import re

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Masked
from gammascope.sample import Label


def _model(name: str) -> str | None:
    found = re.search(r"(?:^|/)(?:inpainted|fake)/([^/]+)/", name, re.IGNORECASE)
    return found[1] if found else None


BENCHMARK = Benchmark(
    title="COCO-Inpaint",
    paper="arXiv:2504.18361",
    licence="not stated",
    url="https://arxiv.org/abs/2504.18361 (no published copy found)",
    splits=("test",),
    labels={
        "authentic": Label.REAL,
        "real": Label.REAL,
        "inpainted": Label.FAKE,
        "fake": Label.FAKE,
    },
    tree="""\
├── authentic/*.jpg                 (or real/)
├── inpainted/<model>/*.png         (or fake/)
└── mask/<model>/*.png              (or masks/; named like the inpainted images)""",
    read=Masked(
        edited=r"(?:^|/)(?:inpainted|fake)/(.+)\.\w+$",
        masks=r"(?:^|/)masks?/(.+?)(?:_mask)?\.\w+$",
        untouched=r"(?:^|/)(?:authentic|real)/",
        kind="inpainting",
        generator=_model,
    ),
    reading="everything",
)
