"""Does a view made of small native patches from all over a picture tell more than windows of it?

    python benchmarks/mosaics.py --data MANIFEST.csv --data MANIFEST.csv --graph runs/eyes/blank.onnx \
        --features runs/eyes/features --out runs/mosaics [--cap 12] [--perturbed]

A picture of any size becomes one view of 224 px: patches side by side, each at the picture's own resolution.
``jittered``: of every cell of a grid over the picture a patch at a random place, so that what was above lies above.
``even``: patches evenly spread, without chance, as detectors see them (``imaging.views.mosaic``).
``drawn``: cells of a grid of 32 px, drawn at random, in their order. ``entropy``: of these cells those of lowest and
highest spectral entropy (NS-Net's choice, arXiv:2508.01248), of the whole picture or of its middle 448 px.
``anywhere``: patches at random places in any order. All are read by the tower of ``eyes.py``, whose features of squares
and windows (``--features``) stand beside them; linear readings are fitted as there (384 components), collections left
out by sixths, in three divisions. Printed: AUROC and TPR on collections left out, and the step in AUROC from three
windows and the square (of what is perturbed: from one), with its 95 % interval over collections.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from eyes import CONFIG, NOT_PHOTOS, Readings, Space, listed
from eyes_reading import SIDE, Picture, Tower, chance_of, perturbed, read
from made_pictures import fold_of, shown, step, tokens_of

from gammascope.detectors import linear_probe
from gammascope.evaluation.metrics import auroc, tpr_at_fpr
from gammascope.imaging import views
from gammascope.imaging.decode import decode
from gammascope.networks import frequency
from gammascope.sample import Image

CELL, CELLS, MIDDLE = 32, 49, 448
COMPONENTS, DIVISIONS = 384, 3
WINDOWS = ("window", "window 2", "window 3")


def laid(patches: np.ndarray) -> Image:
    """Lay square patches side by side, row by row."""
    across, side = round(len(patches) ** 0.5), patches.shape[1]
    rows = patches.reshape(across, across, side, side, 3).transpose(0, 2, 1, 3, 4)
    return rows.reshape(across * side, across * side, 3)


def taken(image: Image, tops: np.ndarray, lefts: np.ndarray, side: int) -> Image:
    places = zip(tops.ravel(), lefts.ravel(), strict=True)
    return laid(np.stack([image[top : top + side, left : left + side] for top, left in places]))


def middle(image: Image, side: int) -> Image:
    height, width = image.shape[:2]
    return views.crop_at(image, (width - side) // 2, (height - side) // 2, side)


def large_enough(image: Image) -> Image:
    return image if min(image.shape[:2]) >= SIDE else middle(image, SIDE)


def jittered(image: Image, side: int, rng: np.random.Generator, *, aligned: bool = False) -> Image:
    """Return a patch of each cell of a grid over the picture; ``aligned``: at whole blocks of a JPEG file."""
    image = large_enough(image)
    across = SIDE // side
    steps = [max(0.0, (length - side) / across) for length in image.shape[:2]]
    down, right = (np.arange(across) * each for each in steps)
    tops = (down[:, None] + rng.random((across, across)) * steps[0]).astype(int)
    lefts = (right[None] + rng.random((across, across)) * steps[1]).astype(int)
    if aligned:
        tops, lefts = tops // 8 * 8, lefts // 8 * 8
    height, width = image.shape[:2]
    return taken(image, tops.clip(0, height - side), lefts.clip(0, width - side), side)


def anywhere(image: Image, side: int, rng: np.random.Generator) -> Image:
    image = large_enough(image)
    count = (SIDE // side) ** 2
    tops, lefts = (rng.integers(0, length - side + 1, count) for length in image.shape[:2])
    return taken(image, tops, lefts, side)


def cells(image: Image) -> np.ndarray:
    rows, columns = (length // CELL for length in image.shape[:2])
    cut = image[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL, 3)
    return cut.transpose(0, 2, 1, 3, 4).reshape(-1, CELL, CELL, 3)


def drawn(image: Image, rng: np.random.Generator) -> Image:
    patches = cells(image if min(image.shape[:2]) >= CELL else middle(image, MIDDLE))
    chosen = rng.permutation(len(patches))[:CELLS]
    return laid(patches[np.resize(np.sort(chosen), CELLS)])


def by_entropy(image: Image) -> Image:
    patches = cells(image if min(image.shape[:2]) >= CELL else middle(image, MIDDLE))
    grey = patches.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    entropy = frequency.spectral_entropy(torch.from_numpy(grey)[None])
    return laid(patches[frequency.extremes(entropy, CELLS)[0].numpy()])


Maker = Callable[[Image, np.random.Generator], Image]
MAKERS: Mapping[str, tuple[int, Maker]] = {
    "even 16": (0, lambda image, _: views.mosaic(image, SIDE)),
    "jittered 8": (7, lambda image, rng: jittered(image, 8, rng)),
    "jittered 16": (4, lambda image, rng: jittered(image, 16, rng)),
    "jittered 32": (1, lambda image, rng: jittered(image, 32, rng)),
    "jittered 56": (5, lambda image, rng: jittered(image, 56, rng)),
    "jittered 112": (6, lambda image, rng: jittered(image, 112, rng)),
    "aligned 32": (1, lambda image, rng: jittered(image, 32, rng, aligned=True)),
    "anywhere 32": (3, lambda image, rng: anywhere(image, 32, rng)),
    "drawn 32": (0, drawn),
    "entropy 32": (0, lambda image, _: by_entropy(image)),
    "middle by entropy 32": (0, lambda image, _: by_entropy(middle(image, MIDDLE))),
}
"""How each is made, and a number that its chance follows from besides the picture's bytes."""
PERTURBED = ("even 16", "jittered 8", "jittered 16", "jittered 32")


def made(image: Image, name: str, which: Sequence[str]) -> dict[str, Image]:
    """Return mosaics of a picture by name; chance is the picture's."""
    return {
        kind: maker(image, np.random.default_rng([int(name[:12], 16), number]))
        for kind, (number, maker) in MAKERS.items()
        if kind in which
    }


def mosaics_of(asked: argparse.Namespace, found: Sequence[Picture]) -> Iterator[Picture]:
    """Yield pictures with the features of their mosaics, which are kept in a folder."""
    folder: Path = asked.out / "features"
    folder.mkdir(parents=True, exist_ok=True)
    places = {hashlib.sha256(w.entry.path.read_bytes()).hexdigest(): w for w in listed(asked)}
    tower, spec = Tower(asked.graph), linear_probe.build(CONFIG).view
    for number, picture in enumerate(found):
        kept = folder / f"{picture.name}.npz"
        if not kept.is_file():
            image = decode(places[picture.name].entry.path).image
            shown_as = made(image, picture.name, list(MAKERS))
            if asked.perturbed:
                again = made(perturbed(image, chance_of(picture.name))[0], picture.name, PERTURBED)
                shown_as |= {f"{name}, perturbed": view for name, view in again.items()}
            told = tower([views.normalised(view, spec) for view in shown_as.values()])
            np.savez(kept, **dict(zip(shown_as, told, strict=True)))
        if number % 100 == 0:
            print(f"{number} of {len(found)} pictures", flush=True)
        with np.load(kept) as told:
            yield replace(
                picture, read={**picture.read, **{name: told[name] for name in told.files}}
            )


def said_by(readings: Iterable[Readings], division: int) -> dict[str, dict[str, float]]:
    """Return, for each view, the logits of pictures by fits that left their collections out."""
    said: dict[str, dict[str, float]] = defaultdict(dict)
    for of_kind in readings:
        for place, logit in of_kind.cross_fitted(partial(fold_of, seed=division)).items():
            name, _, view = place.partition("/")
            said[view][name] = logit
    return said


def ways_of(z: Mapping[str, np.ndarray], ending: str) -> dict[str, np.ndarray]:
    """Return logits by what is looked at: if nothing else is said, the square weighs as much as all native views."""
    square = z[f"square{ending}"]
    windows = [z[f"{name}{ending}"] for name in WINDOWS if f"{name}{ending}" in z]
    ways = {"window and square": (windows[0] + square) / 2}
    if len(windows) == len(WINDOWS):
        ways = {"three windows and square": (np.mean(windows, 0) + square) / 2} | ways
    for kind in MAKERS:
        mosaic = z.get(f"{kind}{ending}")
        if mosaic is not None:
            ways[kind] = mosaic
            ways[f"{kind} and square"] = (mosaic + square) / 2
            ways[f"{kind}, window and square"] = (mosaic / 2 + windows[0] / 2 + square) / 2
            ways[f"{kind}, twice as heavy as the square"] = (2 * mosaic + square) / 3
            ways[f"{kind}, window and square, a third each"] = (mosaic + windows[0] + square) / 3
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cap", type=int, default=12, help="pictures of a collection and class")
    parser.add_argument(
        "--perturbed", action="store_true", help="learn and judge also what is perturbed"
    )
    asked = parser.parse_args()
    asked = argparse.Namespace(**vars(asked), apart=[], twins=[], split="train", fully=asked.cap)
    found = read(listed(asked), asked.features, asked.graph, linear_probe.build(CONFIG).view)
    kinds = ("window", "square", *MAKERS)
    endings = ("", ", perturbed") if asked.perturbed else ("",)
    left_out = "poor light" if asked.perturbed else ("poor light", "perturbed")
    pictures = [
        replace(picture, read={v: x for v, x in picture.read.items() if not v.endswith(left_out)})
        for picture in mosaics_of(asked, found)
    ]
    readings = [Readings(pictures, k, Space.of(tokens_of(pictures, k), COMPONENTS)) for k in kinds]
    judged = [p for p in pictures if not p.source.startswith(NOT_PHOTOS)]
    label = np.array([int(p.fake) for p in judged])
    sources = np.array([p.source for p in judged])
    for division in range(DIVISIONS):
        said = said_by(readings, division)
        for ending in endings:
            z = {
                v: np.array([by[p.name] for p in judged])
                for v, by in said.items()
                if len(by) == len(pictures)
            }
            ways = ways_of(z, ending)
            first = next(iter(ways.values()))
            for name, logit in ways.items():
                gain = shown(step(auroc, first, logit, label, sources))
                low, high = (tpr_at_fpr(rate)(logit, label) for rate in (0.01, 0.05))
                print(
                    f"division {division}{ending}: {name}: AUROC {auroc(logit, label):.3f} (step {gain}), "
                    f"TPR at 1 % {low:.3f}, at 5 % {high:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
