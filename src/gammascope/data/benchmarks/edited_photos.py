"""Benchmarks of edited photos, with masks of what was edited."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from gammascope.data.benchmarks import Benchmark
from gammascope.data.folder import files_below
from gammascope.data.layouts import Either, Masked, tampered
from gammascope.data.manifest import mask_where
from gammascope.data.text_tables import dictionaries
from gammascope.errors import MissingDataError
from gammascope.sample import Entry, Label

_IMDL_TREE = """
or, as IMDL-BenCo keeps it:
├── Au/*
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)"""


def _casia_kind(name: str) -> str:
    """Return the kind of a tampered image from its path below the root."""
    folder = re.search(r"(?:^|/)(CM|Sp)/", name, re.IGNORECASE)
    same = folder[1].lower() == "cm" if folder else re.search(r"[ST]p_S_", name, re.IGNORECASE)
    return "copy_move" if same else "splicing"


_CASIA = Masked(
    edited=r"(?:^|/)Tp/(?:.*/)?([^/]+)\.\w+$",
    masks=r"(?:groundtruth|(?:^|/)Gt)/(?:.*/)?([^/]+?)(?:_gt)?\.\w+$",
    untouched=r"(?:^|/)Au/",
    kind=_casia_kind,
    in_order=True,
)

CASIA_V1 = Benchmark(
    title="CASIA v1",
    paper="doi:10.1109/ChinaSIP.2013.6625374",
    licence="research only",
    url="https://github.com/namtpham/casia1groundtruth (masks; photos from their authors)",
    splits=("test",),
    labels={"Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── Au/*.jpg
├── Tp/
│   ├── CM/*.jpg
│   └── Sp/*.jpg
└── CASIA 1.0 groundtruth/
    ├── CM/*_gt.png
    └── Sp/*_gt.png"""
    + _IMDL_TREE,
    read=_CASIA,
)
"""CASIA v1: splices and copy-moves of small photos; masks come from others, who also correct some file names.

The masks' list of corrections changes the kind of 29 images; without it, the kind is that of the folder, else of the
letter S (same image) or D (different images) in the name. One splice has no mask.
"""

CASIA_V2 = Benchmark(
    title="CASIA v2",
    paper="doi:10.1109/ChinaSIP.2013.6625374",
    licence="research only",
    url="https://github.com/namtpham/casia2groundtruth (masks; photos from their authors)",
    splits=("test",),
    labels={"Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── Au/Au_*.jpg
├── Tp/Tp_{D,S}_*.{jpg,tif}
└── CASIA 2 Groundtruth/Tp_*_gt.png"""
    + _IMDL_TREE,
    read=_CASIA,
)
"""CASIA v2: splices and copy-moves; masks come from others, in a corrected release.

Of a few tampered images the mask has another name or size: they keep their label and count as failed where the size
differs. The letter S (same image) or D (different images) in the name says the kind.
"""


def _coco_inpaint_model(name: str) -> str | None:
    found = re.search(r"(?:^|/)(?:inpainted|fake)/([^/]+)/", name, re.IGNORECASE)
    return found[1] if found else None


COCO_INPAINT = Benchmark(
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
        generator=_coco_inpaint_model,
    ),
    reading="everything",
)
"""COCO-Inpaint: six inpainting models, four ways to draw masks, on MS COCO.

We found no published copy, so the layout is our reading throughout: photos, inpainted images and masks in a folder
each, the inpainted images below one folder per model, each mask named like its image.
"""

COCOGLIDE = Benchmark(
    title="CocoGlide",
    paper="arXiv:2212.10957",
    licence="research only; photos under the licences of COCO",
    url="https://www.grip.unina.it/download/prog/TruFor/CocoGlide.zip",
    splits=("test",),
    labels={"real": Label.REAL, "fake": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── real/airplane_44652.png
├── fake/glide_inpainting_val2017_44652_up.png
└── mask/airplane_44652_mask.png"""
    + _IMDL_TREE,
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
"""CocoGlide (TruFor): 512 COCO photos, cropped to 256 pixels, and GLIDE's inpaintings of an object in each.

A mask is named after its photo; the number of the COCO image joins it to the inpainting. Others found every pixel
outside the masks equal to the photo's: what was edited is what was generated.
"""

COLUMBIA = Benchmark(
    title="Columbia Uncompressed",
    paper="doi:10.1109/ICME.2006.262447",
    licence="research only",
    url="https://www.ee.columbia.edu/ln/dvmm/downloads/authsplcuncmp/",
    splits=("test",),
    labels={"4cam_auth": Label.REAL, "4cam_splc": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── 4cam_auth/*.tif
└── 4cam_splc/
    ├── *.tif
    └── edgemask/*_edgemask.jpg"""
    + _IMDL_TREE,
    read=Either(
        (
            Masked(
                edited=r"4cam_splc/(?:.*/)?([^/]+)\.\w+$",
                masks=r"4cam_splc/(?:.*/)?edgemask/([^/]+?)(?:_edgemask)?\.\w+$",
                untouched=r"4cam_auth/(?!.*edgemask)",
                kind="splicing",
                holds="green",
            ),
            tampered("splicing"),
        )
    ),
    reading="green in the masks",
)
"""Columbia Uncompressed: 180 splices of photos by four cameras, and 183 photos.

The masks are drawings of both regions, spliced in green and the rest in red. That green means spliced in all of them is
our reading, which others share.
"""

COVERAGE = Benchmark(
    title="COVERAGE",
    paper="doi:10.1109/ICIP.2016.7532339",
    licence="not stated",
    url="https://github.com/wenbihan/coverage",
    splits=("test",),
    labels={"<n>.tif": Label.REAL, "<n>t.tif": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── image/
│   ├── 1.tif         (untouched)
│   └── 1t.tif        (tampered)
└── mask/1forged.tif  (also 1copy.tif and 1paste.tif, which are not used)"""
    + _IMDL_TREE,
    read=Either(
        (
            Masked(
                edited=r"(?:^|/)image/(\d+)t\.\w+$",
                masks=r"(?:^|/)mask/(\d+)forged\.\w+$",
                untouched=r"(?:^|/)image/\d+\.\w+$",
                kind="copy_move",
            ),
            tampered("copy_move"),
        )
    ),
)
"""COVERAGE: a hundred copy-moves beside genuine objects that look like the copy, and their originals."""

DSO_1 = Benchmark(
    title="DSO-1",
    paper="doi:10.1109/TIFS.2013.2265677",
    licence="not stated",
    url="http://ic.unicamp.br/~rocha/pub/downloads/2014-tiago-carvalho-thesis/tifs-database.zip",
    splits=("test",),
    labels={"normal-*": Label.REAL, "splicing-*": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
├── DSO-1/
│   ├── normal-*.png
│   └── splicing-*.png
└── DSO-1-Fake-Images-Masks/splicing-*.png"""
    + _IMDL_TREE,
    read=Either(
        (
            Masked(
                edited=r"(?:^|/)DSO-1/(splicing-[^/]+)\.\w+$",
                masks=r"(?:^|/)DSO-1-Fake-Images-Masks/(splicing-[^/]+)\.\w+$",
                untouched=r"(?:^|/)DSO-1/normal-",
                kind="splicing",
                holds="dark",
            ),
            tampered("splicing"),
        )
    ),
)
"""DSO-1: a hundred photos with people added by splicing, and a hundred untouched ones. Masks are dark where spliced."""


def _image_mask_pairs_listed(root: Path, split: str) -> Iterator[Entry]:
    for path in files_below(root, recursive=False, suffixes=(".json",)):
        try:
            pairs = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise MissingDataError(f"{path} is no JSON file: {error}.") from error
        if not isinstance(pairs, list):
            continue
        for number, pair in enumerate(pairs):
            if not (
                isinstance(pair, list) and len(pair) == 2 and all(isinstance(n, str) for n in pair)
            ):
                raise MissingDataError(
                    f"{path}, entry {number}: expected a pair of paths, not {pair!r}."
                )
            image, mask = pair
            if mask.lower() == "negative":
                yield Entry(root / image, Label.REAL, split=split)
            else:
                yield Entry(
                    root / image,
                    Label.FAKE,
                    kind="manipulated",
                    split=split,
                    edited_path=root / mask,
                )


IMAGE_MASK_PAIRS = Benchmark(
    title="Any set of images and masks (IMDL-BenCo)",
    paper="arXiv:2406.10580",
    licence="that of the set",
    url="https://github.com/scu-zjz/IMDLBenCo",
    splits=("test",),
    labels={"Au": Label.REAL, "Negative": Label.REAL, "Tp": Label.FAKE, "a mask": Label.FAKE},
    tree="""\
├── Au/*      (may be missing)
├── Tp/*
└── Gt/*      (named like Tp, or in the same order)
or:
└── pairs.json      ([["Tp/1.jpg", "Gt/1.png"], ["Au/2.jpg", "Negative"], ...])""",
    read=Either((_image_mask_pairs_listed, tampered())),
    classes=frozenset({Label.FAKE}),
)
"""Any set of edited photos in IMDL-BenCo's layout, or in a list of pairs as its JSON files hold them.

A list has pairs of an image and its mask, with "Negative" for a photo; its paths are relative to its folder. Masks are
light where edited.
"""

IMD20 = Benchmark(
    title="IMD2020",
    paper="doi:10.1109/WACVW50321.2020.9096940",
    licence="research only",
    url="http://staff.utia.cas.cz/novozada/db/",
    splits=("test",),
    labels={"*_orig.*": Label.REAL, "other": Label.FAKE, "Au": Label.REAL, "Tp": Label.FAKE},
    tree="""\
└── 1a1ogs/                        (one folder per photo)
    ├── 1a1ogs_orig.jpg            (the photo)
    ├── c8tf5mq_0.png              (manipulated; also .jpg)
    └── c8tf5mq_0_mask.png"""
    + _IMDL_TREE,
    read=Either(
        (
            tampered(),
            Masked(
                edited=r"([^/]+/(?![^/]*_orig\.)[^/]+)\.\w+$",
                masks=r"([^/]+/[^/]+)_mask\.\w+$",
                untouched=r"_orig\.\w+$",
            ),
        )
    ),
)
"""IMD2020: manipulations made by people and collected on the web, with the photos that they were made from."""


def _nist16_probes(root: Path, split: str) -> Iterator[Entry]:
    """List the probes that the table of the manipulation task names."""
    for table in files_below(root, suffixes=(".csv",)):
        if table.parts[-3:-1] != ("reference", "manipulation"):
            continue
        _, rows = dictionaries(table, delimiter="|")
        for row in rows:
            if not {"ProbeFileName", "IsTarget"} <= row.keys():
                break
            path = table.parents[2] / row["ProbeFileName"]
            if row["IsTarget"].strip().lower() not in {"y", "yes", "true", "1"}:
                yield Entry(path, Label.REAL, split=split)
                continue
            mask = (row.get("ProbeMaskFileName") or "").strip()
            edited = mask_where(table.parents[2] / mask, "dark") if mask else None
            yield Entry(path, Label.FAKE, kind="manipulated", split=split, edited_path=edited)


NIST16 = Benchmark(
    title="NIST16",
    paper="doi:10.1109/WACVW.2019.00018",
    licence="on registration with NIST",
    url="https://mfc.nist.gov",
    splits=("test",),
    labels={"IsTarget Y": Label.FAKE, "IsTarget N": Label.REAL, "Tp": Label.FAKE},
    tree="""\
└── NC2016_Test0613/
    ├── probe/*.jpg
    └── reference/manipulation/
        ├── NC2016-manipulation-ref.csv      (ProbeFileName|ProbeMaskFileName|IsTarget|...)
        └── mask/*.png"""
    + _IMDL_TREE,
    read=Either((_nist16_probes, tampered())),
    classes=frozenset({Label.FAKE}),
)
"""NIST Nimble Challenge 2016: splices, copy-moves and removals by hand, many of several thousand pixels.

As distributed, tables say which probes are manipulated and where the masks lie; those masks are dark where manipulated.
Probes that are not manipulated are photos. IMDL-BenCo's copy has the 564 manipulated ones alone, with light masks. The
sets that papers train and test on share scenes: numbers on all of it are not theirs.
"""
