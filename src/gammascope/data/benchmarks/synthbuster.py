"""Synthbuster: nine generators, a thousand uncompressed images each, against the photos of RAISE-1k.

B-Free's extension adds FLUX and Stable Diffusion 3.5; the names of their two folders are our reading.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Folders, labelled, only
from gammascope.sample import Label

GENERATORS = (
    *("dalle2", "dalle3", "firefly", "glide", "midjourney-v5"),
    *("stable-diffusion-1-3", "stable-diffusion-1-4", "stable-diffusion-2", "stable-diffusion-xl"),
)
ADDED = {"flux": ("flux-1", "flux.1-dev"), "stable-diffusion-3-5": ("sd3", "sd35")}
PHOTOS = {"raise": ("real_RAISE_1k", "RAISE-1k", "real")}

LABELS = {
    **labelled(PHOTOS, Label.REAL),
    **labelled({**only(GENERATORS), **ADDED}, Label.FAKE),
}

BENCHMARK = Benchmark(
    title="Synthbuster",
    paper="doi:10.1109/OJSP.2023.3337714",
    licence="non-commercial (RAISE); see the record for the generated images",
    url="https://zenodo.org/records/10066460 (photos: RAISE-1k)",
    splits=("test",),
    labels=LABELS,
    tree="""\
├── real_RAISE_1k/*.png               (or RAISE-1k/, real/)
├── dalle2/r*t.png                    (generators may lie in a folder synthbuster/)
├── dalle3/, firefly/, glide/, midjourney-v5/
├── stable-diffusion-1-3/, stable-diffusion-1-4/
├── stable-diffusion-2/, stable-diffusion-xl/
└── flux/, stable-diffusion-3-5/      (B-Free's extension; may be missing)""",
    read=Folders(
        labels=LABELS,
        unsplit="test",
        parts={**only(GENERATORS), **ADDED, **PHOTOS},
    ),
    parts={"test": GENERATORS},
    reading="folders of the extension",
)
