"""Benchmarks that are published as Parquet or Arrow tables with the images inside."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gammascope.data.benchmarks import Benchmark
from gammascope.data.layouts import PLAIN, Either, Folders, Tables
from gammascope.data.manifest import LABEL_WORDS, PARTLY_WORDS
from gammascope.sample import Entry, Label

_AI_GENBENCH_INPAINTERS = frozenset({"LaMa", "MAT", "Palette", "SN-PatchGAN"})

_AI_GENBENCH_LABELS = {"0": Label.REAL, "1": Label.FAKE, "real": Label.REAL, "fake": Label.FAKE}


def _ai_genbench_completed(entry: Entry, row: Mapping[str, Any], _: Mapping[str, str]) -> Entry:
    generator = row["generator"] or None
    entry = replace(entry, source=row["origin_dataset"] or None)
    if entry.label is Label.REAL:
        return entry
    return replace(
        entry,
        generator=generator,
        kind="inpainting" if generator in _AI_GENBENCH_INPAINTERS else None,
    )


AI_GENBENCH = Benchmark(
    title="AI-GenBench",
    paper="arXiv:2504.20865",
    licence="those of the collections it is built from",
    url="https://github.com/MI-BioLab/AI-GenBench",
    splits=("validation", "train"),
    labels=_AI_GENBENCH_LABELS,
    tree="""\
├── train/data-00000-of-000##.arrow           (columns image, label, generator, origin_dataset, ...)
└── validation/data-00000-of-000##.arrow      (or data/validation-00000-of-000##.parquet)""",
    read=Tables(
        tables={
            split: rf"(?:^|/){split}(?:/data-[^/]*\.arrow|[-/][^/]*\.parquet)$"
            for split in ("validation", "train")
        },
        labels=_AI_GENBENCH_LABELS,
        columns=("generator", "origin_dataset"),
        entry=_ai_genbench_completed,
    ),
    reading="which of its generators are inpainting models",
)
"""AI-GenBench: 36 generators in the order of their release, as the authors' scripts build it.

The scripts leave a Hugging Face dataset on disk (Arrow tables); the generated half can also be had as Parquet. A row
names the generator, or nothing for a photo, and the collection that it comes from. Images that an inpainting model
completed are only partly generated.
"""

_COMMUNITY_FORENSICS_SPLIT = "CompEval"


def _community_forensics_completed(
    entry: Entry, row: Mapping[str, Any], _: Mapping[str, str]
) -> Entry:
    if entry.label is Label.REAL:
        return replace(entry, source=row["real_source"] or None)
    return replace(entry, generator=row["model_name"] or None)


COMMUNITY_FORENSICS = Benchmark(
    title="Community Forensics",
    paper="arXiv:2411.04125",
    licence="CC-BY-NC-SA-4.0",
    url="https://huggingface.co/datasets/OwensLab/CommunityForensics-Eval",
    splits=(_COMMUNITY_FORENSICS_SPLIT,),
    labels={"0": Label.REAL, "1": Label.FAKE, **PLAIN},
    tree="""\
└── data/CompEval-*.parquet      (columns image_data, label, model_name, real_source, ...)
or, unpacked:
└── <generator>/{real,fake}/*""",
    read=Either(
        (
            Tables(
                tables={_COMMUNITY_FORENSICS_SPLIT: r"CompEval-[^/]*\.parquet$"},
                labels={"0": Label.REAL, "1": Label.FAKE},
                image="image_data",
                columns=("model_name", "real_source"),
                entry=_community_forensics_completed,
            ),
            Folders(labels=PLAIN, unsplit=_COMMUNITY_FORENSICS_SPLIT),
        )
    ),
)
"""Community Forensics: the comprehensive evaluation set, 21 generators against four collections of photos.

Tables with the bytes of each image in a row, read in place; or the same images unpacked into folders.
"""

_HUGGINGFACE_SPLITS = {"test": "test", "validation": "validation|valid|val|dev", "train": "train"}

_HUGGINGFACE_LABELS = {**LABEL_WORDS, "ai-generated": Label.FAKE, "human": Label.REAL}


def _huggingface_completed(entry: Entry, row: Mapping[str, Any], _: Mapping[str, str]) -> Entry:
    generator = row["generator"] or row["model"]
    partly = str(row["label"]).lower() in PARTLY_WORDS
    fake = entry.label is Label.FAKE
    return replace(
        entry,
        generator=str(generator) if fake and generator else None,
        kind="manipulated" if partly else None,
        source=str(row["source"]) if row["source"] else None,
    )


HUGGINGFACE = Benchmark(
    title="Any Hugging Face image dataset",
    paper="-",
    licence="see the card of the dataset",
    url="https://huggingface.co/datasets",
    splits=tuple(_HUGGINGFACE_SPLITS),
    labels=_HUGGINGFACE_LABELS,
    tree="""\
└── data/                                    (any folder, or none)
    └── test-00000-of-00001.parquet          (columns image, label; also generator or model, source)
or, as save_to_disk leaves it:
└── test/data-00000-of-00001.arrow""",
    read=Tables(
        tables={
            split: rf"(?:^|/)(?:{words})(?:[-./](?!cache-).*)?\.(?:parquet|arrow)$"
            for split, words in _HUGGINGFACE_SPLITS.items()
        },
        labels=_HUGGINGFACE_LABELS,
        columns=("generator", "model", "source"),
        entry=_huggingface_completed,
    ),
    reading="names of the columns; 0 is real where classes have no names",
)
"""Any dataset of real and fake images as Hugging Face stores them: Parquet or Arrow tables with the images inside.

For datasets without a description of their own. The folder is a local copy (``hf download NAME --repo-type
dataset``); nothing is streamed. Needed are the columns "image" and "label". Where the dataset names its classes, those
names count: in several sets 0 means "AI". Otherwise 0 is real and 1 fake.
"""


def _openfake_completed(entry: Entry, row: Mapping[str, Any], caught: Mapping[str, str]) -> Entry:
    if entry.label is Label.REAL:
        return replace(entry, source=row["model"] or None)
    inpainted = caught["config"].lower() == "inpainting"
    return replace(entry, generator=row["model"] or None, kind="inpainting" if inpainted else None)


OPENFAKE = Benchmark(
    title="OpenFake",
    paper="arXiv:2509.09495",
    licence="CC-BY-NC-4.0 (older versions: CC-BY-SA-4.0)",
    url="https://huggingface.co/datasets/ComplexDataLab/OpenFake",
    splits=("test", "validation", "train", "reddit", "inpainting"),
    labels=PLAIN,
    tree="""\
├── core/{train,validation,test}-*.parquet      (data/ in older versions; columns image, label, model, ...)
├── reddit/test-*.parquet
└── inpainting/test-*.parquet""",
    read=Tables(
        tables={
            **{
                split: rf"(?P<config>core|data|opensource)/{split}-[^/]*\.parquet$"
                for split in ("test", "validation", "train")
            },
            **{
                config: rf"(?P<config>{config})/[^/]*\.parquet$"
                for config in ("reddit", "inpainting")
            },
        },
        labels=PLAIN,
        columns=("model",),
        entry=_openfake_completed,
    ),
    reading="the inpainting configuration",
)
"""OpenFake: photos and images of many generators on political themes; a test set from Reddit; inpaintings.

Hugging Face tables, read in place. The folder "inpainting" and that all its fakes are inpaintings are our reading.
"""

_OPENSDID_GENERATORS = {
    "sd15": "sd-1.5",
    "sd2": "sd-2.1",
    "sdxl": "sdxl",
    "sd3": "sd-3",
    "flux": "flux.1",
}

_OPENSDID_LABELS = {"0": Label.REAL, "1": Label.FAKE}


def _opensdid_completed(entry: Entry, row: Mapping[str, Any], caught: Mapping[str, str]) -> Entry:
    generator = _OPENSDID_GENERATORS[caught["generator"].lower()]
    entry = replace(entry, source=generator)
    if entry.label is Label.REAL:
        return entry
    partial = str(row["key"] or "").lower().startswith("partial/")
    return replace(
        entry,
        generator=generator,
        kind="inpainting" if partial else None,
        edited_path=entry.edited_path if partial else None,
    )


OPENSDID = Benchmark(
    title="OpenSDID",
    paper="arXiv:2503.19653",
    licence="CC-BY-SA-4.0",
    url="https://huggingface.co/datasets/nebula/OpenSDI_test",
    splits=("test", "train"),
    labels=_OPENSDID_LABELS,
    tree="""\
├── OpenSDI_test/data/
│   ├── sd15-00000-of-00019.parquet, ...      (columns key, image, mask, label)
│   └── sd2-*, sdxl-*, sd3-*, flux-*
└── OpenSDI_train/data/sd15-*.parquet""",
    read=Tables(
        tables={
            split: rf"OpenSDI_{split}/.*?(?P<generator>sd15|sd2|sdxl|sd3|flux)-[^/]*\.parquet$"
            for split in ("test", "train")
        },
        labels=_OPENSDID_LABELS,
        columns=("key",),
        mask="mask",
        entry=_opensdid_completed,
    ),
    parts={"test": tuple(_OPENSDID_GENERATORS.values()), "train": ("sd-1.5",)},
    paired=True,
)
"""OpenSDID (OpenSDI): images of five diffusion models, made as a whole ("entire/") or in part ("partial/").

Hugging Face tables with images and masks in their rows, which are read in place. The name of a table says the
generator, the key of a row how much of the image is made. Masks say what was replaced; whether the rest went through
the generator as well is not documented, so which pixels are generated is unknown.
"""
