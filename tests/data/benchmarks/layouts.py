"""Copies of the benchmarks' layouts, a few kilobyte each, with what must be read from them.

``Layout.build`` writes the files; the image and the mask of every entry can be decoded. Masks mark the left half.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet

from gammascope.sample import Label

SIDE = 8
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".tif": "TIFF"}


@dataclass(frozen=True, slots=True)
class Row:
    """What an entry must say; ``mask`` is its mask's path below the root."""

    label: Label
    generator: str | None = None
    source: str | None = None
    kind: str | None = None
    mask: str | None = None


def real(source: str | None = None) -> Row:
    return Row(Label.REAL, source=source)


def fake(generator: str | None = None, source: str | None = None, **more: str) -> Row:
    return Row(Label.FAKE, generator, source, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way in which one split of a benchmark lies on disk.

    Attributes:
        benchmark: Its name.
        split: The split that ``rows`` are the entries of.
        rows: Expected entries by path below the root.
        others: Images that belong to another split or to nothing.
        masks: Where masks are true: "light", "dark", "green".
        tables: Parquet and Arrow tables by path: rows without images, which are added; and names of the classes.
        texts: Further files.
        any_case: Whether folders may be written in another case.
        variant: Tells layouts of one benchmark apart.
    """

    benchmark: str
    split: str
    rows: Mapping[str, Row]
    others: Sequence[str] = ()
    masks: str = "light"
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    image_column: str = "image"
    plain_bytes: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    any_case: bool = True
    variant: str = ""

    def __str__(self) -> str:
        return "-".join(part for part in (self.benchmark, self.split, self.variant) if part)

    def files(self) -> dict[str, bytes]:
        """Return the content of every file by path below the root."""
        made: dict[str, bytes] = {}
        for number, (path, row) in enumerate(self.rows.items()):
            if not self.tables:
                made[path] = picture(path, number)
            if row.mask is not None and not self.tables:
                made[row.mask.removesuffix("/dark").removesuffix("/green")] = mask(row.mask)
        made |= {path: picture(path, 99) for path in self.others}
        made |= {path: text.encode() for path, text in self.texts.items()}
        for path, rows in self.tables.items():
            made[path] = self._table(path, rows)
        return made

    def build(self, root: Path) -> Path:
        for path, content in self.files().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    def _table(self, path: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
        full = []
        for number, row in enumerate(rows):
            image, marked = picture("a.png", number), mask("light")
            held: Any = image if self.plain_bytes else {"bytes": image, "path": f"{number}.png"}
            full.append({**row, self.image_column: held})
            if "mask" in row:
                full[-1]["mask"] = {"bytes": marked, "path": None} if row["mask"] else None
        table = pyarrow.Table.from_pylist(full)
        if self.class_names:
            features = {"label": {"names": list(self.class_names), "_type": "ClassLabel"}}
            described = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": described})
        sink = io.BytesIO()
        if path.endswith(".arrow"):
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        else:
            pyarrow.parquet.write_table(table, sink, row_group_size=2)
        return sink.getvalue()


def picture(path: str, number: int) -> bytes:
    return _picture(FORMATS[Path(path).suffix.lower()], number)


@cache
def _picture(kind: str, number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return encoded(pixels, kind)


@cache
def mask(path: str) -> bytes:
    """Mark the left half as the layout does; ``path`` ends in the word for where the mask is true."""
    left = np.zeros((SIDE, SIDE), dtype=bool)
    left[:, : SIDE // 2] = True
    if path.endswith("/green"):
        pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
        pixels[left, 1] = pixels[~left, 0] = 200
        return encoded(pixels, "PNG")
    return encoded(((left != path.endswith("/dark")) * 255).astype(np.uint8), "PNG")


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    sink = io.BytesIO()
    PIL.Image.fromarray(pixels).save(sink, kind)
    return sink.getvalue()


def paired(
    folder: str, part: str | None, names: tuple[str, str], generated: bool = True
) -> dict[str, Row]:
    """Return a photo and a fake in class folders of their own."""
    photos, fakes = names
    return {
        f"{folder}/{photos}/a.jpg": real(part),
        f"{folder}/{fakes}/b.png": fake(part if generated else None, part),
    }


def united(*parts: Mapping[str, Row]) -> dict[str, Row]:
    return {path: row for part in parts for path, row in part.items()}


NUMBERED = ("0_real", "1_fake")

GENIMAGE = {
    "adm": ("ADM/imagenet_ai_0508_adm", "ADM"),
    "biggan": ("BigGAN/imagenet_ai_0419_biggan", "biggan"),
    "glide": ("glide/imagenet_glide", "GLIDE"),
    "midjourney": ("Midjourney/imagenet_midjourney", "Midjourney"),
    "sd-1.4": ("stable_diffusion_v_1_4/imagenet_ai_0419_sdv4", "Stable Diffusion V1.4"),
    "sd-1.5": ("stable_diffusion_v_1_5/imagenet_ai_0424_sdv5", "sdv5"),
    "vqdm": ("VQDM/imagenet_ai_0419_vqdm", "VQDM"),
    "wukong": ("wukong/imagenet_ai_0424_wukong", "Wukong"),
}

FORENSYNTHS = ("biggan", "stargan", "gaugan", "crn", "imle", "san", "seeingdark", "whichfaceisreal")

AIGC = (
    *("stylegan", "biggan", "cyclegan", "stargan", "gaugan", "stylegan2", "whichfaceisreal", "ADM"),
    *("Glide", "Midjourney", "stable_diffusion_v_1_4", "stable_diffusion_v_1_5", "VQDM", "wukong"),
    *("DALLE2", "sd_xl"),
)

AIGIBENCH = (
    *("BLIP", "CommunityAI", "DALLE-3", "FLUX1-dev", "GLIDE", "Imagen3", "InstantID", "IP_Adapter"),
    *("PhotoMaker", "R3GAN", "SD3", "SDXL", "SocialRF", "StyleGAN3", "StyleGAN-XL", "StyleSwim"),
    *("WFIR", "Infinite-ID", "Midjourney-V6"),
)

SYNTHBUSTER = (
    *("dalle2", "dalle3", "firefly", "glide", "midjourney-v5", "stable-diffusion-1-3"),
    *("stable-diffusion-1-4", "stable-diffusion-2", "stable-diffusion-xl"),
)

DRCT = (
    *("ldm-text2im-large-256", "stable-diffusion-v1-4", "stable-diffusion-v1-5"),
    *("stable-diffusion-2-1", "stable-diffusion-xl-base-1.0", "stable-diffusion-xl-refiner-1.0"),
    *("sd-turbo", "sdxl-turbo", "lcm-lora-sdv1-5", "lcm-lora-sdxl", "sd-controlnet-canny"),
    *("sd21-controlnet-canny", "controlnet-canny-sdxl-1.0", "stable-diffusion-inpainting"),
    *("stable-diffusion-2-inpainting", "stable-diffusion-xl-1.0-inpainting-0.1"),
)

UNIVERSAL = (
    *("dalle", "glide_100_10", "glide_100_27", "glide_50_27", "guided"),
    *("ldm_100", "ldm_200", "ldm_200_cfg"),
)


def tampered(kind: str, *, photos: bool = True, generator: str | None = None) -> dict[str, Row]:
    """Return IMDL-BenCo's folders, in which masks have names of their own and only the order pairs them."""
    made = {"Au/x.jpg": real()} if photos else {}
    for image, truth in (("one", "m1"), ("two", "m2")):
        made[f"Tp/{image}.png"] = Row(Label.FAKE, generator, None, kind, f"Gt/{truth}.png")
    return made


def opensdid(generators: Mapping[str, str], split: str) -> Layout:
    tables: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, Row] = {}
    for short, generator in generators.items():
        path = f"OpenSDI_{split}/data/{short}-00000-of-00002.parquet"
        tables[path] = [
            {"key": "entire/0.png", "mask": False, "label": 0},
            {"key": "entire/1.png", "mask": True, "label": 1},
            {"key": "partial/2.png", "mask": True, "label": 1},
        ]
        rows[f"{path}/0.image"] = real(generator)
        rows[f"{path}/1.image"] = fake(generator, generator)
        rows[f"{path}/2.image"] = fake(
            generator, generator, kind="inpainting", mask=f"{path}/2.mask"
        )
    return Layout(benchmark="opensdid", split=split, rows=rows, tables=tables)


def nist(target: str, not_target: str) -> str:
    header = "TaskID|ProbeFileID|ProbeFileName|ProbeMaskFileName|IsTarget\n"
    manipulated = f"manipulation|a|probe/a.jpg|reference/manipulation/mask/m.png|{target}\n"
    return f"{header}{manipulated}manipulation|b|probe/b.jpg||{not_target}\n"


LAYOUTS = (
    Layout(
        benchmark="genimage",
        split="val",
        rows=united(*(paired(f"{f[0]}/val", n, ("nature", "ai")) for n, f in GENIMAGE.items())),
        others=("ADM/imagenet_ai_0508_adm/train/ai/t.png", "ADM/sample.png"),
        variant="as-distributed",
    ),
    Layout(
        benchmark="genimage",
        split="train",
        rows=united(*(paired(f"{f[1]}/train", n, ("nature", "ai")) for n, f in GENIMAGE.items())),
        others=("ADM/val/ai/v.png",),
        variant="flat",
    ),
    Layout(
        benchmark="genimage",
        split="val",
        rows=united(*(paired(f"g/test/{f[1]}", n, NUMBERED) for n, f in GENIMAGE.items())),
        variant="numbered",
    ),
    Layout(
        benchmark="forensynths",
        split="test",
        rows=united(
            paired("test/progan/train", "progan", NUMBERED),  # LSUN has a class of trains
            paired("test/stylegan/car", "stylegan", NUMBERED),
            paired("test/stylegan2/car", "stylegan2", NUMBERED),
            paired("test/cyclegan/horse", "cyclegan", NUMBERED),
            {
                "test/deepfake/0_real/a.png": real("deepfake"),
                "test/deepfake/1_fake/b.png": fake("deepfake", "deepfake", kind="manipulated"),
            },
            *(paired(f"test/{name}", name, NUMBERED) for name in FORENSYNTHS),
        ),
        others=("train/progan/train/1_fake/t.png", "val/progan/car/0_real/t.png"),
    ),
    Layout(
        benchmark="forensynths",
        split="train",
        rows=paired("train/progan/train", "progan", NUMBERED),
        others=("test/progan/train/1_fake/t.png",),
    ),
    Layout(
        benchmark="universal_fake_detect",
        split="test",
        rows={
            "imagenet/0_real/a.jpg": real("imagenet"),
            "laion/0_real/a.jpg": real("laion"),
            **{f"{name}/1_fake/b.png": fake(name, name) for name in UNIVERSAL},
        },
        variant="shared-photos",
    ),
    Layout(
        benchmark="universal_fake_detect",
        split="test",
        rows=united(*(paired(f"d/{name}", name, NUMBERED) for name in UNIVERSAL)),
        variant="own-photos",
    ),
    Layout(
        benchmark="aigc_detect_benchmark",
        split="test",
        rows=united(
            paired("test/progan/train", "progan", NUMBERED),
            *(paired(f"test/{name}", name, NUMBERED) for name in AIGC),
        ),
    ),
    Layout(
        benchmark="aigc_detect_benchmark",
        split="test",
        rows=united(
            paired("progan/train", "progan", NUMBERED),  # a class of objects, not a split
            *(paired(name, name, NUMBERED) for name in AIGC),
        ),
        variant="no-test-folder",
    ),
    Layout(benchmark="chameleon", split="test", rows=paired("test", None, NUMBERED)),
    Layout(
        benchmark="wildrf",
        split="test",
        rows=united(
            *(
                paired(f"test/{name}", name, NUMBERED, generated=False)
                for name in ("reddit", "twitter", "facebook")
            )
        ),
        others=("train/0_real/t.jpg", "val/1_fake/t.jpg"),
    ),
    Layout(benchmark="wildrf", split="train", rows=paired("train", None, NUMBERED)),
    Layout(
        benchmark="synthbuster",
        split="test",
        rows={
            "real_RAISE_1k/r1t.png": real("raise"),
            **{f"synthbuster/{name}/r1t.png": fake(name, name) for name in SYNTHBUSTER},
        },
    ),
    Layout(
        benchmark="drct_2m",
        split="test",
        rows={
            "MSCOCO/val2017/1.jpg": real("mscoco"),
            **{f"DRCT-2M/{name}/val2017/1.png": fake(name, name) for name in DRCT},
        },
        others=("MSCOCO/train2017/2.jpg", "DRCT-2M/sd-turbo/train2017/2.png"),
    ),
    Layout(
        benchmark="synthwildx",
        split="test",
        rows={
            "real/a.jpg": real("x.com"),
            **{f"{name}/b.jpg": fake(name, name) for name in ("dalle3", "firefly", "midjourney")},
        },
    ),
    Layout(
        benchmark="bfree_online",
        split="test",
        rows={
            "REAL/tower/img00001.jpg": real("tower"),
            "REAL/tower/img00002.jpg": real("tower"),
            "FAKE/pope/img00001.jpg": fake(None, "pope"),
        },
    ),
    Layout(
        benchmark="aigibench",
        split="test",
        rows=united(
            paired("test/ProGAN/train", "ProGAN", NUMBERED),
            *(
                {
                    f"test/{name}/{name}/0_real/a.png": real(name),
                    f"test/{name}/{name}/1_fake/b.png": fake(name, name, kind="manipulated"),
                }
                for name in ("BlendFace", "E4S", "FaceSwap", "InSwap", "SimSwap")
            ),
            *(paired(f"test/{name}", name, NUMBERED) for name in AIGIBENCH),
        ),
        others=("train/car/1_fake/t.png", "val/car/t.png"),
    ),
    Layout(
        benchmark="aigibench",
        split="train",
        rows=united(
            *(
                paired(f"train/{name}", "ProGAN", NUMBERED)
                for name in ("car", "cat", "chair", "horse")
            ),
            paired("train/sdv1.4", "sdv1.4", NUMBERED),
        ),
    ),
    Layout(
        benchmark="truefake",
        split="Facebook",
        rows={
            "Facebook/Real/FFHQ/a.jpg": real("FFHQ"),
            "Facebook/Fake/StyleGAN2/psi-0.5/b.jpg": fake("StyleGAN2", "StyleGAN2"),
            "Facebook/Fake/FLUX.1/c.jpg": fake("FLUX.1", "FLUX.1"),
        },
        others=("PreSocial/Fake/FLUX.1/d.png",),
    ),
    Layout(
        benchmark="aigi_now",
        split="pix",
        rows=united(*(paired(f"{name}/pix", name, NUMBERED) for name in ("flux-dev", "gpt4o"))),
        others=("gpt4o/sem/1_fake/s.jpg",),
    ),
    Layout(
        benchmark="aigi_now",
        split="sem",
        rows=paired("gpt4o/semantic", "gpt4o", NUMBERED),
        others=("gpt4o/pixel/1_fake/s.jpg",),
    ),
    Layout(
        benchmark="rrdataset",
        split="transfer",
        rows={
            "RRDataset_final/transfer/real/transfer_real_1.jpg": real(),
            "RRDataset_final/transfer/ai/transfer_War_1.jpg": fake(),
        },
        others=(
            "RRDataset_final/original/ai/War_1.png",
            "RRDataset_original_train_val/val/ai/x.png",
        ),
    ),
    Layout(
        benchmark="rrdataset",
        split="val",
        rows={
            "RRDataset_original_train_val/val/real/1.jpg": real(),
            "RRDataset_original_train_val/val/ai/1.jpg": fake(),
        },
        others=("RRDataset_final/original/ai/War_1.png",),
    ),
    Layout(
        benchmark="gpt_imgeval",
        split="geneval",
        rows={"GenEval/00001.png": fake("gpt-4o"), "GenEval/x/00002.png": fake("gpt-4o")},
        others=("ReasoningEdit/1.png",),
    ),
    Layout(
        benchmark="co_spy",
        split="mscoco",
        rows={
            "real_image_examples/mscoco/1.jpg": real(),
            "synthetic/mscoco/FLUX.1-dev/1.png": fake("FLUX.1-dev", "FLUX.1-dev"),
            "synthetic/mscoco/sdxl-turbo/1.png": fake("sdxl-turbo", "sdxl-turbo"),
        },
        others=("synthetic/cc3m/sdxl-turbo/1.png", "real_image_examples/sbu/1.jpg"),
    ),
    opensdid(
        {"sd15": "sd-1.5", "sd2": "sd-2.1", "sdxl": "sdxl", "sd3": "sd-3", "flux": "flux.1"},
        "test",
    ),
    opensdid({"sd15": "sd-1.5"}, "train"),
    Layout(
        benchmark="community_forensics",
        split="CompEval",
        rows={
            "data/CompEval-00000-of-00002.parquet/0.image_data": real("RAISE"),
            "data/CompEval-00000-of-00002.parquet/1.image_data": fake("FLUX dev"),
            "data/CompEval-00001-of-00002.parquet/0.image_data": fake("ProGAN"),
        },
        tables={
            "data/CompEval-00000-of-00002.parquet": [
                {"label": 0, "model_name": "real", "real_source": "RAISE"},
                {"label": 1, "model_name": "FLUX dev", "real_source": ""},
            ],
            "data/CompEval-00001-of-00002.parquet": [{"label": 1, "model_name": "ProGAN"}],
        },
        image_column="image_data",
        plain_bytes=True,
    ),
    Layout(
        benchmark="community_forensics",
        split="CompEval",
        rows=united(*(paired(name, name, ("real", "fake")) for name in ("flux", "progan"))),
        variant="unpacked",
    ),
    Layout(
        benchmark="ai_genbench",
        split="validation",
        rows={
            "validation/data-00000-of-00001.arrow/0.image": real("COCO"),
            "validation/data-00000-of-00001.arrow/1.image": fake("FLUX 1 Dev", "DRCT"),
            "validation/data-00000-of-00001.arrow/2.image": fake(
                "LaMa", "ArtiFact", kind="inpainting"
            ),
        },
        tables={
            "validation/data-00000-of-00001.arrow": [
                {"label": 0, "generator": "", "origin_dataset": "COCO"},
                {"label": 1, "generator": "FLUX 1 Dev", "origin_dataset": "DRCT"},
                {"label": 1, "generator": "LaMa", "origin_dataset": "ArtiFact"},
            ],
            "train/data-00000-of-00001.arrow": [
                {"label": 1, "generator": "LaMa", "origin_dataset": "ArtiFact"}
            ],
        },
        class_names=("real", "fake"),
    ),
    Layout(
        benchmark="openfake",
        split="test",
        rows={
            "core/test-00000-of-00001.parquet/0.image": real("real"),
            "core/test-00000-of-00001.parquet/1.image": fake("gpt-image-1"),
        },
        tables={
            "core/test-00000-of-00001.parquet": [
                {"label": "real", "model": "real", "type": "base"},
                {"label": "fake", "model": "gpt-image-1", "type": "base"},
            ],
            "reddit/test-00000-of-00005.parquet": [{"label": "fake", "model": "unknown"}],
        },
    ),
    Layout(
        benchmark="openfake",
        split="inpainting",
        rows={
            "inpainting/test-00000-of-00001.parquet/0.image": fake("sdxl", kind="inpainting"),
            "inpainting/test-00000-of-00001.parquet/1.image": real("real"),
        },
        tables={
            "inpainting/test-00000-of-00001.parquet": [
                {"label": "fake", "model": "sdxl"},
                {"label": "real", "model": "real"},
            ]
        },
    ),
    Layout(
        benchmark="huggingface",
        split="test",
        rows={
            "data/test-00000-of-00001.parquet/0.image": fake("flux"),
            "data/test-00000-of-00001.parquet/1.image": real(),
            "data/test-00000-of-00001.parquet/2.image": real(),
        },
        tables={
            "data/test-00000-of-00001.parquet": [
                {"label": 0, "model": "flux"},
                {"label": 1, "model": "flux"},
                {"label": 1, "model": None},
            ],
            "data/train-00000-of-00001.parquet": [{"label": 0}],
        },
        class_names=("AI", "Real"),
        variant="named-classes",
    ),
    Layout(
        benchmark="huggingface",
        split="validation",
        rows={
            "val/data-00000-of-00001.arrow/0.image": real("phone"),
            "val/data-00000-of-00001.arrow/1.image": fake(None, "phone", kind="manipulated"),
        },
        tables={
            "val/data-00000-of-00001.arrow": [
                {"label": "real", "source": "phone"},
                {"label": "Tampered", "source": "phone"},
            ]
        },
    ),
    Layout(
        benchmark="casia_v1",
        split="test",
        rows={
            "Au/Au_ani_0001.jpg": real(),
            "Tp/CM/Sp_S_CND_A_1.jpg": fake(
                kind="copy_move", mask="CASIA 1.0 groundtruth/CM/Sp_S_CND_A_1_gt.png"
            ),
            "Tp/Sp/Sp_D_CNN_A_2.jpg": fake(
                kind="splicing", mask="CASIA 1.0 groundtruth/Sp/Sp_D_CNN_A_2_gt.png"
            ),
            "Tp/Sp/Sp_D_NRN_A_cha0011_sec0011_0542.jpg": fake(kind="splicing"),
        },
    ),
    Layout(benchmark="casia_v1", split="test", rows=tampered("splicing"), variant="imdl"),
    Layout(
        benchmark="casia_v2",
        split="test",
        rows={
            "Au/Au_ani_00001.jpg": real(),
            "Tp/Tp_D_CND_M_N_1.tif": fake(
                kind="splicing", mask="CASIA 2 Groundtruth/Tp_D_CND_M_N_1_gt.png"
            ),
            "Tp/Tp_S_NRN_S_O_2.jpg": fake(
                kind="copy_move", mask="CASIA 2 Groundtruth/Tp_S_NRN_S_O_2_gt.png"
            ),
        },
    ),
    Layout(
        benchmark="columbia",
        split="test",
        rows={
            "4cam_auth/canong3_02.tif": real(),
            "4cam_splc/canong3_canonxt_sub_01.tif": fake(
                kind="splicing",
                mask="4cam_splc/edgemask/canong3_canonxt_sub_01_edgemask.jpg/green",
            ),
        },
        others=("4cam_auth/edgemask/canong3_02_edgemask.jpg",),
    ),
    Layout(benchmark="columbia", split="test", rows=tampered("splicing"), variant="imdl"),
    Layout(
        benchmark="coverage",
        split="test",
        rows={
            "image/1.tif": real(),
            "image/1t.tif": fake(kind="copy_move", mask="mask/1forged.tif"),
        },
        others=("mask/1copy.tif", "mask/1paste.tif"),
    ),
    Layout(benchmark="coverage", split="test", rows=tampered("copy_move"), variant="imdl"),
    Layout(
        benchmark="imd20",
        split="test",
        rows={
            "1a1ogs/1a1ogs_orig.jpg": real(),
            "1a1ogs/c8tf5mq_0.png": fake(kind="manipulated", mask="1a1ogs/c8tf5mq_0_mask.png"),
            "1a3oag/1a3oag_orig.jpg": real(),
            "1a3oag/c8tt_0.jpg": fake(kind="manipulated", mask="1a3oag/c8tt_0_mask.png"),
        },
    ),
    Layout(benchmark="imd20", split="test", rows=tampered("manipulated"), variant="imdl"),
    Layout(
        benchmark="dso_1",
        split="test",
        rows={
            "DSO-1/normal-01.png": real(),
            "DSO-1/splicing-01.png": fake(
                kind="splicing", mask="DSO-1-Fake-Images-Masks/splicing-01.png/dark"
            ),
        },
    ),
    Layout(benchmark="dso_1", split="test", rows=tampered("splicing"), variant="imdl"),
    Layout(
        benchmark="cocoglide",
        split="test",
        rows={
            "real/dining table_114871.png": real(),
            "fake/glide_inpainting_val2017_114871_up.png": fake(
                "glide", kind="inpainting", mask="mask/dining table_114871_mask.png"
            ),
        },
        texts={"table.csv": "real,fake,mask,prompt\n"},
    ),
    Layout(
        benchmark="cocoglide",
        split="test",
        rows=tampered("inpainting", generator="glide"),
        variant="imdl",
    ),
    Layout(
        benchmark="coco_inpaint",
        split="test",
        rows={
            "authentic/1.jpg": real(),
            "inpainted/sdxl/1.png": fake("sdxl", kind="inpainting", mask="mask/sdxl/1.png"),
            "inpainted/powerpaint/1.png": fake(
                "powerpaint", kind="inpainting", mask="mask/powerpaint/1.png"
            ),
        },
        any_case=False,  # a model's name is its folder's
    ),
    Layout(
        benchmark="nist16",
        split="test",
        rows={
            "NC2016_Test0613/probe/a.jpg": fake(
                kind="manipulated",
                mask="NC2016_Test0613/reference/manipulation/mask/m.png/dark",
            ),
            "NC2016_Test0613/probe/b.jpg": real(),
        },
        others=("NC2016_Test0613/world/c.jpg",),
        texts={
            "NC2016_Test0613/reference/manipulation/NC2016-manipulation-ref.csv": nist("Y", "N"),
            "NC2016_Test0613/reference/removal/NC2016-removal-ref.csv": nist("N", "Y"),
        },
        any_case=False,  # the table names the files
    ),
    Layout(
        benchmark="nist16",
        split="test",
        rows=tampered("manipulated", photos=False),
        variant="imdl",
    ),
    Layout(
        benchmark="image_mask_pairs",
        split="test",
        rows={
            "Au/1.jpg": real(),
            "Tp/2.jpg": fake(kind="manipulated", mask="Gt/2.png"),
        },
        texts={"pairs.json": '[["Au/1.jpg", "Negative"], ["Tp/2.jpg", "Gt/2.png"]]'},
        any_case=False,  # the list names the files
        variant="list",
    ),
    Layout(
        benchmark="image_mask_pairs", split="test", rows=tampered("manipulated"), variant="imdl"
    ),
)
