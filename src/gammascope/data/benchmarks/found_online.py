"""Benchmarks of pictures as people met them: collected from social networks, or sent through them."""

from gammascope.data.benchmarks import Benchmark
from gammascope.data.layouts import NUMBERED, PLAIN, Folders, labelled, only
from gammascope.sample import Label

BFREE_ONLINE = Benchmark(
    title="BFree-Online",
    paper="arXiv:2412.17671",
    licence="non-commercial research; the images belong to those who posted them",
    url="https://github.com/grip-unina/B-Free",
    splits=("test",),
    labels=PLAIN,
    tree="""\
├── REAL/<source_id>/img#####.jpg
└── FAKE/<source_id>/img#####.jpg""",
    read=Folders(labels=PLAIN, unsplit="test", parts_are_generators=False),
    reading="all fakes count as generated",
)
"""BFree-Online: viral images, each in many copies found over the days after the first post.

``source`` is the identity of the image, so copies never count as different images in intervals over sources. The days
online are in the authors' table only. Generators are not recorded, and some fakes may be edited photos: that they count
as generated is our reading.
"""

_CHAMELEON_LABELS = {**NUMBERED, **PLAIN}

CHAMELEON = Benchmark(
    title="Chameleon",
    paper="arXiv:2406.19435",
    licence="academic use only, on request by e-mail",
    url="https://github.com/shilinyan99/AIDE",
    splits=("test",),
    labels=_CHAMELEON_LABELS,
    tree="""\
└── test/                 (this folder may be missing)
    ├── 0_real/*.jpg      (or real/)
    └── 1_fake/*.jpg      (or fake/)""",
    read=Folders(labels=_CHAMELEON_LABELS, splits={"test": ()}, unsplit="test", parts={}),
)
"""Chameleon: fakes that passed for photos among people, from art and model communities; generators not recorded."""

_RRDATASET_LABELS = {"real": Label.REAL, "ai": Label.FAKE}
_RRDATASET_SPLITS = ("original", "transfer", "redigital", "val", "train")

RRDATASET = Benchmark(
    title="RRDataset",
    paper="arXiv:2509.09172",
    licence="CC-BY-4.0",
    url="https://zenodo.org/records/14963880",
    splits=_RRDATASET_SPLITS,
    labels=_RRDATASET_LABELS,
    tree="""\
├── RRDataset_final/
│   ├── original/{ai,real}/<scenario>_######.*
│   ├── transfer/{ai,real}/transfer_*.jpg
│   └── redigital/{ai,real}/redigital_*.jpg
└── RRDataset_original_train_val/
    └── {train,val}/{ai,real}/*""",
    read=Folders(labels=_RRDATASET_LABELS, splits=only(_RRDATASET_SPLITS), parts={}),
)
"""RRDataset: images as made, after social networks ("transfer") and photographed or scanned again ("redigital").

Each condition is a split of its own. Training images lie in another archive beside the test's. Generators are not
recorded in the names.
"""

_SYNTHWILDX_GENERATORS = {"dalle3": ("dalle-3",), "firefly": (), "midjourney": ("midjourney-v5",)}
_SYNTHWILDX_PHOTOS = {"x.com": ("real", "0_real")}

_SYNTHWILDX_LABELS = {
    **labelled(_SYNTHWILDX_PHOTOS, Label.REAL),
    **labelled(_SYNTHWILDX_GENERATORS, Label.FAKE),
}

SYNTHWILDX = Benchmark(
    title="SynthWildX",
    paper="arXiv:2312.00195",
    licence="not stated; the images belong to those who posted them",
    url="https://github.com/grip-unina/ClipBased-SyntheticImageDetection",
    splits=("test",),
    labels=_SYNTHWILDX_LABELS,
    tree="""\
├── real/*
├── dalle3/*
├── firefly/*
└── midjourney/*""",
    read=Folders(
        labels=_SYNTHWILDX_LABELS,
        unsplit="test",
        parts={**_SYNTHWILDX_GENERATORS, **_SYNTHWILDX_PHOTOS},
    ),
    parts={"test": (*_SYNTHWILDX_GENERATORS, *_SYNTHWILDX_PHOTOS)},
)
"""SynthWildX: images of three generators and photos as they were shared on X.

The authors give a table of links; their script saves to these four folders. Many links no longer work, so numbers of
two downloads differ.
"""

_TRUEFAKE_SHARES = ("PreSocial", "Facebook", "Telegram", "Twitter")

TRUEFAKE = Benchmark(
    title="TrueFake",
    paper="arXiv:2504.20658",
    licence="CC0-1.0",
    url="https://github.com/MMLab-unitn/TrueFake-IJCNN25",
    splits=_TRUEFAKE_SHARES,
    labels=PLAIN,
    tree="""\
├── PreSocial/
│   ├── Fake/<generator>/<setting>/*      (StyleGAN2, StableDiffusion3, FLUX.1, ...)
│   └── Real/<collection>/*               (FFHQ, RAISE)
└── Facebook/, Telegram/, Twitter/        (likewise)""",
    read=Folders(labels=PLAIN, splits=only(_TRUEFAKE_SHARES)),
)
"""TrueFake: the same real and generated images before and after three social networks; each is a split."""

_WILDRF_NETWORKS = ("reddit", "twitter", "facebook")

WILDRF = Benchmark(
    title="WildRF",
    paper="arXiv:2406.09398",
    licence="not stated",
    url="https://github.com/barcavia/RealTime-DeepfakeDetection-in-the-RealWorld",
    splits=("test", "val", "train"),
    labels=NUMBERED,
    tree="""\
├── train/{0_real,1_fake}/*
├── val/{0_real,1_fake}/*
└── test/
    ├── reddit/{0_real,1_fake}/*
    ├── twitter/{0_real,1_fake}/*
    └── facebook/{0_real,1_fake}/*""",
    read=Folders(
        labels=NUMBERED,
        splits=only(("test", "val", "train")),
        parts=only(_WILDRF_NETWORKS),
        parts_are_generators=False,
    ),
    parts={"test": _WILDRF_NETWORKS},
    paired=True,
)
"""WildRF (LaDeDa): what people posted as real and as generated; train on Reddit, test on three networks."""
