"""How often photos are called edited after processing that changes all of them: filters, codecs, corrections.

    python benchmarks/ordinary_processing.py SCORES.csv LISTED/manifest.csv [--photos 100] [--methods quantisation]

Photos, cut to ``--pixels``, are processed as a whole by a seed that is the photo's name, then saved without loss and as
JPEG 95; AVIF files are judged as they are and saved as JPEG 95. None of this is an edit of a part. The manifest is that
of ``listed_pictures.py``: of its owners those are left out that networks learnt from. A second call goes on from the
table. Intervals: Wilson's, 95 %, over pictures.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from edits_bed import SILENT, SMALLEST_PX, drawn
from fit_consistency import is_learnt
from PIL import ImageFilter

from forensics import cut, lines_of, saved
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.intervals import wilson
from gammascope.forensics import METHODS, UNCERTAIN_FROM, Finding, Picture
from gammascope.imaging.codecs import Encoding, encode, rescale
from gammascope.imaging.decode import decode
from gammascope.sample import Image

COLUMNS = ("photo", "source", "processing", "form", "method", "clearness")
"""A row; clearness: above 1 it is called edited; -1: silent."""
AVIF = {f"AVIF {quality}": quality for quality in (60, 75, 85)}

Rng = np.random.Generator


def filtered(kind: ImageFilter.Filter) -> Callable[[Image, Rng], Image]:
    def process(image: Image, _: Rng) -> Image:
        return np.asarray(PIL.Image.fromarray(image).filter(kind))

    return process


def local_contrast(image: Image, rng: Rng) -> Image:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(rng.uniform(1.5, 3), (8, 8)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def without_noise(image: Image, _: Rng) -> Image:
    smooth: Image = cv2.fastNlMeansDenoisingColored(image, None, 5, 5, 5, 11)
    return smooth


def lit(image: Image, light: np.ndarray) -> Image:
    bright: Image = np.clip(np.rint(image * light[..., None]), 0, 255).astype(np.uint8)
    return bright


def _places(image: Image) -> tuple[np.ndarray, np.ndarray]:
    down, across = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
    return down, across


def vignette(image: Image, rng: Rng) -> Image:
    down, across = _places(image)
    return lit(image, 1.1 - rng.uniform(0.25, 0.6) * (down**2 + across**2))


def graduated(image: Image, rng: Rng) -> Image:
    return lit(image, 1 + rng.uniform(0.2, 0.5) * _places(image)[0])


def shadows_lifted(image: Image, rng: Rng) -> Image:
    around = cv2.GaussianBlur(image.mean(2) / 255, (0, 0), max(image.shape) / 40)
    return lit(image, 1 + rng.uniform(0.3, 0.6) * (0.5 - around))


def lens_corrected(image: Image, rng: Rng) -> Image:
    height, width = image.shape[:2]
    down, across = _places(image)
    scale = 1 - rng.uniform(0.01, 0.04) * (down**2 + across**2)
    columns, rows = (
        ((place * scale + 1) / 2 * (side - 1)).astype(np.float32)
        for place, side in ((across, width), (down, height))
    )
    return np.asarray(cv2.remap(image, columns, rows, cv2.INTER_CUBIC))


def straightened(image: Image, rng: Rng) -> Image:
    turned = PIL.Image.fromarray(image).rotate(rng.uniform(1, 4), PIL.Image.Resampling.BICUBIC)
    rim = max(image.shape) // 12
    return np.asarray(turned)[rim:-rim, rim:-rim].copy()


PROCESSING: Mapping[str, Callable[[Image, Rng], Image]] = {
    "none": lambda image, _: image,
    "sharpened": filtered(ImageFilter.UnsharpMask(2, 150, 3)),
    "clarity": filtered(ImageFilter.UnsharpMask(30, 40, 0)),
    "blurred": lambda i, rng: filtered(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.2)))(i, rng),
    "noise removed": without_noise,
    "local contrast": local_contrast,
    "shadows lifted": shadows_lifted,
    "vignette": vignette,
    "graduated filter": graduated,
    "lens corrected": lens_corrected,
    "straightened": straightened,
    "reduced": lambda image, rng: rescale(image, rng.uniform(0.5, 0.9)),
    "enlarged": lambda image, rng: rescale(image, rng.uniform(1.2, 1.7)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--pixels", type=int, default=600_000)
    parser.add_argument("--methods", nargs="+", default=["quantisation"], choices=METHODS)
    chosen = parser.parse_args()
    entries = [e for path in chosen.manifests for e in read_manifest(path, "train")]
    photos = drawn([e for e in entries if not is_learnt(e)], None)[: chosen.photos]
    if not chosen.scores.exists():
        chosen.scores.write_text(",".join(COLUMNS) + "\n")
    known = {tuple(row[:5]) for row in lines_of(chosen.scores, COLUMNS)}
    for entry in photos:
        try:
            image = cut(decode(entry.path).image, chosen.pixels)
        except UndecodableImageError:
            continue
        with chosen.scores.open("a", newline="") as file:
            for name, form, picture in processed(image, entry.path.name):
                for method in chosen.methods:
                    row = (entry.path.name, f"{entry.source}", name, form, method)
                    if row not in known:
                        csv.writer(file).writerow([*row, f"{clearness(method, picture):.4f}"])
    show(lines_of(chosen.scores, COLUMNS))


def processed(image: Image, name: str) -> Iterator[tuple[str, str, Picture]]:
    """Yield the photo by processing and form."""
    for processing, process in PROCESSING.items():
        made = process(image, np.random.default_rng(zlib.crc32(f"{processing} {name}".encode())))
        if min(made.shape[:2]) >= SMALLEST_PX:
            yield processing, "without loss", Picture(made)
            yield processing, "JPEG 95", saved(made, 95)
    for processing, quality in AVIF.items():
        coded = encode(image, Encoding("avif", quality))
        decoded = decode(coded).image
        yield processing, "as it is", Picture(decoded, coded)
        yield processing, "JPEG 95", saved(decoded, 95)


def clearness(method: str, picture: Picture) -> float:
    found = METHODS[method].examine(picture)
    return METHODS[method].clearness(found) if isinstance(found, Finding) else SILENT


def show(lines: list[list[str]]) -> None:
    """Print a row for each processing."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, _, processing, _, method, said in lines:
        found[method, processing].append(float(said))
    print("| method, processing | pictures | called edited | uncertain or more | silent |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for (method, processing), every in found.items():
        values = np.array(every)
        shares = (wilson(int((values > limit).sum()), len(values)) for limit in (1, UNCERTAIN_FROM))
        edited, uncertain = (f"{share}" for share in shares)
        silent = (values == SILENT).mean()
        print(
            f"| `{method}`, {processing} | {len(values)} | {edited} | {uncertain} | {silent:.2f} |"
        )


if __name__ == "__main__":
    main()
