"""Benchmarks whose folders name the generators: test beds made by researchers, from ProGAN to the models of 2025."""

from gammascope.data.benchmarks import Benchmark
from gammascope.data.layouts import NUMBERED, Folders, labelled, only
from gammascope.sample import Label

_AIGC_DETECT_BENCHMARK_GENERATORS = (
    *("progan", "stylegan", "biggan", "cyclegan", "stargan", "gaugan", "stylegan2"),
    *("whichfaceisreal", "ADM", "Glide", "Midjourney", "stable_diffusion_v_1_4"),
    *("stable_diffusion_v_1_5", "VQDM", "wukong", "DALLE2"),
)

AIGC_DETECT_BENCHMARK = Benchmark(
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
        parts={**only(_AIGC_DETECT_BENCHMARK_GENERATORS), "sd_xl": ("sdxl",)},
    ),
    parts={"test": _AIGC_DETECT_BENCHMARK_GENERATORS},
    paired=True,
)
"""AIGCDetectBenchmark: sixteen generators from ProGAN to DALL-E 2; SDXL came later and may be missing."""

AIGI_NOW = Benchmark(
    title="AIGI-Now",
    paper="arXiv:2512.06746",
    licence="not stated",
    url="https://huggingface.co/datasets/Gaffeyzz/AIGI-Now",
    splits=("pix", "sem"),
    labels=NUMBERED,
    tree="""\
└── <generator>/                      (FLUX dev, krea, kontext and pro, gpt4o, jimeng, keling, minimax, Nano)
    ├── pix/{0_real,1_fake}/*.jpg     (or pixel/)
    └── sem/{0_real,1_fake}/*.jpg     (or semantic/)""",
    read=Folders(labels=NUMBERED, splits={"pix": ("pixel",), "sem": ("semantic",)}),
    paired=True,
    reading="order of the folders, names of the conditions",
)
"""AIGI-Now (AlignGemini): nine generators of 2025, with aligned formats ("pix") and strongly degraded ("sem").

The dataset comes as WebDataset archives to be unpacked; that the class folders lie below generator and condition, and
the names of the conditions, are our reading.
"""

_AIGIBENCH_SWAPS = ("BlendFace", "E4S", "FaceSwap", "InSwap", "SimSwap")

_AIGIBENCH_TESTED = {
    **only(_AIGIBENCH_SWAPS),
    **only(("BLIP", "CommunityAI", "DALLE-3", "FLUX1-dev", "GLIDE", "Imagen3", "InstantID")),
    **only(("IP_Adapter", "PhotoMaker", "R3GAN", "SD3", "SDXL", "SocialRF", "StyleGAN3")),
    "Infinite-ID": (),
    "Midjourney-V6": ("Midjourney",),
    "ProGAN": ("car", "cat", "chair", "horse"),
    "StyleGAN-XL": (),
    "StyleSwim": ("StyleSwin",),
    "WFIR": ("whichfaceisreal",),
}

AIGIBENCH = Benchmark(
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
        parts={**_AIGIBENCH_TESTED, "sdv1.4": ()},
        partly=_AIGIBENCH_SWAPS,
    ),
    parts={"test": _AIGIBENCH_TESTED, "train": ("ProGAN", "sdv1.4")},
    paired=True,
    reading="spelling of the StyleGAN-XL, StyleSwim and WFIR folders",
)
"""AIGIBench: 25 test sets of GANs, diffusion models, face swaps, personalised models and social media.

Between set and class there may be one more folder. In face swaps only the face is generated. Training images lie in
folders of object classes: they are ProGAN's.
"""

_CO_SPY_COLLECTIONS = {
    "mscoco": ("mscoco2017", "coco"),
    "cc3m": (),
    "flickr": ("flickr30k",),
    "textcaps": (),
    "sbu": (),
}

_CO_SPY_LABELS = {"real_image_examples": Label.REAL, "real": Label.REAL, "synthetic": Label.FAKE}

CO_SPY = Benchmark(
    title="Co-Spy-Bench",
    paper="arXiv:2503.18286",
    licence="not stated for the images; code MIT",
    url="https://huggingface.co/datasets/ruojiruoli/Co-Spy-Bench",
    splits=tuple(_CO_SPY_COLLECTIONS),
    labels=_CO_SPY_LABELS,
    tree="""\
├── real_image_examples/                 (or real/)
│   └── mscoco/*, cc3m/*, flickr/*, textcaps/*, sbu/*
└── synthetic/
    ├── mscoco/<generator>/*.png         (FLUX.1-dev, sdxl-turbo, ...)
    └── cc3m/, flickr/, textcaps/, sbu/  (likewise)""",
    read=Folders(labels=_CO_SPY_LABELS, splits=_CO_SPY_COLLECTIONS),
    reading="photos in one folder per collection",
)
"""Co-Spy-Bench: 22 generators on the captions of five collections; each collection is a split.

The archives hold examples of the photos only. The authors take theirs from the collections themselves; that photos lie
in one folder per collection is our reading. Their images in the wild are no part of this.
"""

_DRCT_2M_GENERATORS = only(
    (
        *("ldm-text2im-large-256", "stable-diffusion-v1-4", "stable-diffusion-v1-5"),
        *("stable-diffusion-2-1", "stable-diffusion-xl-base-1.0"),
        *("stable-diffusion-xl-refiner-1.0", "sd-turbo", "sdxl-turbo"),
        *("lcm-lora-sdv1-5", "lcm-lora-sdxl", "sd-controlnet-canny", "sd21-controlnet-canny"),
        *("controlnet-canny-sdxl-1.0", "stable-diffusion-inpainting"),
        *("stable-diffusion-2-inpainting", "stable-diffusion-xl-1.0-inpainting-0.1"),
    )
)
_DRCT_2M_PHOTOS = {"mscoco": ("MSCOCO2017", "coco", "coco2017", "real")}

_DRCT_2M_LABELS = {
    **labelled(_DRCT_2M_PHOTOS, Label.REAL),
    **labelled(_DRCT_2M_GENERATORS, Label.FAKE),
}

DRCT_2M = Benchmark(
    title="DRCT-2M",
    paper="ICML 2024, openreview:oRLwyayrh1",
    licence="not stated",
    url="https://github.com/beibuwandeluori/DRCT",
    splits=("test", "train"),
    labels=_DRCT_2M_LABELS,
    tree="""\
├── MSCOCO/{train2017,val2017}/*.jpg                     (or mscoco2017/, coco/)
├── ldm-text2im-large-256/{train2017,val2017}/*.png      (models may lie in a folder DRCT-2M/)
├── stable-diffusion-v1-4/{train2017,val2017}/*.png
└── ... the other fourteen, named like the models on Hugging Face""",
    read=Folders(
        labels=_DRCT_2M_LABELS,
        splits={"test": ("val2017",), "train": ("train2017",)},
        parts={**_DRCT_2M_GENERATORS, **_DRCT_2M_PHOTOS},
    ),
    parts={
        "test": (*_DRCT_2M_GENERATORS, *_DRCT_2M_PHOTOS),
        "train": (*_DRCT_2M_GENERATORS, *_DRCT_2M_PHOTOS),
    },
)
"""DRCT-2M: sixteen diffusion models on the captions of MS COCO, whose photos are the real class.

The three inpainting models made reconstructions of whole photos: every pixel is theirs.
"""

_FORENSYNTHS_TESTED = (
    *("progan", "stylegan", "stylegan2", "biggan", "cyclegan", "stargan", "gaugan", "deepfake"),
    *("crn", "imle", "san", "seeingdark", "whichfaceisreal"),
)

FORENSYNTHS = Benchmark(
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
        parts=only(_FORENSYNTHS_TESTED),
        partly=("deepfake",),
    ),
    parts={"test": _FORENSYNTHS_TESTED, "val": ("progan",), "train": ("progan",)},
    paired=True,
)
"""ForenSynths (CNNDetection): ProGAN images for training, thirteen other sets for testing.

ProGAN, StyleGAN, StyleGAN2 and CycleGAN have a level of object classes, one of which is called "train". "deepfake"
holds frames with swapped faces, so only a part of each is generated.
"""

_GENIMAGE_GENERATORS = {
    "adm": ("imagenet_ai_0508_adm",),
    "biggan": ("imagenet_ai_0419_biggan", "biggan2"),
    "glide": ("imagenet_glide",),
    "midjourney": ("imagenet_midjourney",),
    "sd-1.4": ("stable_diffusion_v_1_4", "imagenet_ai_0419_sdv4", "sdv4", "sdv1.4"),
    "sd-1.5": ("stable_diffusion_v_1_5", "imagenet_ai_0424_sdv5", "sdv5", "sdv1.5"),
    "vqdm": ("imagenet_ai_0419_vqdm",),
    "wukong": ("imagenet_ai_0424_wukong",),
}

_GENIMAGE_LABELS = {"nature": Label.REAL, "ai": Label.FAKE, **NUMBERED}

GENIMAGE = Benchmark(
    title="GenImage",
    paper="arXiv:2306.08571",
    licence="CC-BY-NC-SA-4.0",
    url="https://github.com/GenImage-Dataset/GenImage",
    splits=("val", "train"),
    labels=_GENIMAGE_LABELS,
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
        labels=_GENIMAGE_LABELS,
        splits={"val": ("test",), "train": ()},
        unsplit="val",
        parts=_GENIMAGE_GENERATORS,
    ),
    parts={"val": _GENIMAGE_GENERATORS, "train": _GENIMAGE_GENERATORS},
    paired=True,
)
"""GenImage: a million images of eight generators, each beside as many ImageNet photos.

Three layouts are in use: as distributed, with an archive's name between generator and split; the same without it, as
its README draws it; and the numbered class folders of later papers, whose "test" is GenImage's "val".
"""

_GPT_IMGEVAL_SPLITS = {"geneval": (), "reasoning_edit": ("Reason_Edit",)}
_GPT_IMGEVAL_LABELS = labelled(_GPT_IMGEVAL_SPLITS, Label.FAKE)

GPT_IMGEVAL = Benchmark(
    title="GPT-ImgEval",
    paper="arXiv:2504.02782",
    licence="MIT",
    url="https://huggingface.co/datasets/Yejy53/GPT-ImgEval",
    splits=tuple(_GPT_IMGEVAL_SPLITS),
    labels=_GPT_IMGEVAL_LABELS,
    tree="""\
├── GenEval/*.png            (unpacked from GenEval.zip)
└── ReasoningEdit/*.png""",
    read=Folders(
        labels=_GPT_IMGEVAL_LABELS, splits=_GPT_IMGEVAL_SPLITS, parts={}, generator="gpt-4o"
    ),
    classes=frozenset({Label.FAKE}),
    reading="folder of ReasoningEdit",
)
"""GPT-ImgEval: images by GPT-4o, made from prompts (GenEval) and from pictures (ReasoningEdit). There are no photos.

GPT-4o paints every pixel anew when it edits, so both splits count as generated as a whole. The folder that
ReasoningEdit's archive unpacks to is our reading.
"""

_SYNTHBUSTER_GENERATORS = (
    *("dalle2", "dalle3", "firefly", "glide", "midjourney-v5"),
    *("stable-diffusion-1-3", "stable-diffusion-1-4", "stable-diffusion-2", "stable-diffusion-xl"),
)
_SYNTHBUSTER_ADDED = {"flux": ("flux-1", "flux.1-dev"), "stable-diffusion-3-5": ("sd3", "sd35")}
_SYNTHBUSTER_PHOTOS = {"raise": ("real_RAISE_1k", "RAISE-1k", "real")}

_SYNTHBUSTER_LABELS = {
    **labelled(_SYNTHBUSTER_PHOTOS, Label.REAL),
    **labelled({**only(_SYNTHBUSTER_GENERATORS), **_SYNTHBUSTER_ADDED}, Label.FAKE),
}

SYNTHBUSTER = Benchmark(
    title="Synthbuster",
    paper="doi:10.1109/OJSP.2023.3337714",
    licence="non-commercial (RAISE); see the record for the generated images",
    url="https://zenodo.org/records/10066460 (photos: RAISE-1k)",
    splits=("test",),
    labels=_SYNTHBUSTER_LABELS,
    tree="""\
├── real_RAISE_1k/*.png               (or RAISE-1k/, real/)
├── dalle2/r*t.png                    (generators may lie in a folder synthbuster/)
├── dalle3/, firefly/, glide/, midjourney-v5/
├── stable-diffusion-1-3/, stable-diffusion-1-4/
├── stable-diffusion-2/, stable-diffusion-xl/
└── flux/, stable-diffusion-3-5/      (B-Free's extension; may be missing)""",
    read=Folders(
        labels=_SYNTHBUSTER_LABELS,
        unsplit="test",
        parts={**only(_SYNTHBUSTER_GENERATORS), **_SYNTHBUSTER_ADDED, **_SYNTHBUSTER_PHOTOS},
    ),
    parts={"test": _SYNTHBUSTER_GENERATORS},
    reading="folders of the extension",
)
"""Synthbuster: nine generators, a thousand uncompressed images each, against the photos of RAISE-1k.

B-Free's extension adds FLUX and Stable Diffusion 3.5; the names of their two folders are our reading.
"""

_UNIVERSAL_FAKE_DETECT_GENERATORS = (
    *("dalle", "glide_100_10", "glide_100_27", "glide_50_27"),
    *("guided", "ldm_100", "ldm_200", "ldm_200_cfg"),
)
_UNIVERSAL_FAKE_DETECT_PHOTOS = ("imagenet", "laion")

_UNIVERSAL_FAKE_DETECT_LABELS = {
    **labelled(only(_UNIVERSAL_FAKE_DETECT_PHOTOS), Label.REAL),
    **labelled(only(_UNIVERSAL_FAKE_DETECT_GENERATORS), Label.FAKE),
    **NUMBERED,
}

UNIVERSAL_FAKE_DETECT = Benchmark(
    title="UniversalFakeDetect diffusion sets",
    paper="arXiv:2302.10174",
    licence="not stated",
    url="https://github.com/WisconsinAIVision/UniversalFakeDetect",
    splits=("test",),
    labels=_UNIVERSAL_FAKE_DETECT_LABELS,
    tree="""\
├── imagenet/0_real/*        (photos for guided)
├── laion/0_real/*           (photos for all others)
├── dalle/1_fake/*           (in copies also dalle/0_real/*)
├── glide_50_27/, glide_100_10/, glide_100_27/
├── guided/
└── ldm_100/, ldm_200/, ldm_200_cfg/""",
    read=Folders(
        labels=_UNIVERSAL_FAKE_DETECT_LABELS,
        unsplit="test",
        parts=only((*_UNIVERSAL_FAKE_DETECT_GENERATORS, *_UNIVERSAL_FAKE_DETECT_PHOTOS)),
    ),
    parts={"test": _UNIVERSAL_FAKE_DETECT_GENERATORS},
)
"""UniversalFakeDetect: eight sets of diffusion images and DALL-E.

Photos are shared by reference: those of ``imagenet`` belong to ``guided``, those of ``laion`` to all others. Copies in
circulation give each set photos of its own in ``0_real``; both are read.
"""
