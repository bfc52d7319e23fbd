"""TrueFake: the same real and generated images before and after three social networks; each is a split."""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import PLAIN, Folders, only

SHARES = ("PreSocial", "Facebook", "Telegram", "Twitter")

BENCHMARK = Benchmark(
    title="TrueFake",
    paper="arXiv:2504.20658",
    licence="CC0-1.0",
    url="https://github.com/MMLab-unitn/TrueFake-IJCNN25",
    splits=SHARES,
    labels=PLAIN,
    tree="""\
├── PreSocial/
│   ├── Fake/<generator>/<setting>/*      (StyleGAN2, StableDiffusion3, FLUX.1, ...)
│   └── Real/<collection>/*               (FFHQ, RAISE)
└── Facebook/, Telegram/, Twitter/        (likewise)""",
    read=Folders(labels=PLAIN, splits=only(SHARES)),
)
