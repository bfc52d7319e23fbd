"""Fit the trees of ``forensics/parts.py`` to what stands out in edits and in photos that were not edited.

    python benchmarks/fit_parts.py FOLDER MANIFEST [MANIFEST ...] --half-of LISTED/manifest.csv [--out FILE]

Photos are cut to 0.15 to 0.7 megapixels, those listed by ``listed_pictures.py`` (``--half-of``: half of their owners)
to 0.3 to 2. Of each, by a seed that is its name, a copy, a splice, a smoothed region and a classical fill are made,
three fifths of them in the shape of something in the photo or of a cloud, a copy that was processed as a whole by one
of ``LEARNT``, and two in which all but one thing is another photo's, or smoothed. All are reduced in a third of cases
and saved without loss, as JPEG 70 to 97 or as AVIF; listed photos are judged as their files are, too. What is measured
of the parts that stand out is kept in FOLDER, that of the last two in files of its own; a second call goes on from
there. A part counts as put in where it covers an edit well, as not put in where there is none; others are left out. The
first ``--skip`` photos are those that ``consistency`` learnt its traces from.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import safetensors.numpy
from edits_bed import SMALLEST_PX, donor_for, drawn
from fit_consistency import in_some_form, is_learnt, smoothed
from ordinary_processing import PROCESSING
from sklearn.ensemble import HistGradientBoostingClassifier

from forensics import cut
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.files import complete_or_absent
from gammascope.forensics import Picture, consistency, parts, quantisation
from gammascope.forensics.base import CELL_PX, cell_sums
from gammascope.imaging.codecs import Encoding, encode, rescale
from gammascope.imaging.decode import decode
from gammascope.manipulation import CopyMove, Inpainting, Splicing, TwinPaste
from gammascope.manipulation.base import Manipulation
from gammascope.manipulation.inpainting import NavierStokes, Telea
from gammascope.manipulation.regions import Pieces, Regions
from gammascope.sample import Entry, Image, Mask

LEARNT = (
    "sharpened",
    "clarity",
    "noise removed",
    "local contrast",
    "vignette",
    "lens corrected",
    "reduced",
)
"""Kinds of processing that are learnt; the others are there to see whether that is enough."""
PIXELS, LISTED_PIXELS = (150_000, 700_000), (300_000, 2_000_000)
SHAPED, AVIF = 0.6, 0.15
"""Share of photos whose edits have the shape of something, and of pictures that become AVIF files."""
OVERLAP, PRECISION, RECALL = 0.3, 0.6, 0.15
"""Intersection over union, or else these two, from which a part covers an edit well."""
TREES, LEAVES, RATE, FEWEST = 250, 10, 0.05, 30
CLOUDS, COLOURS = 3, 6
METHODS = ("quantisation", "consistency")
KINDS = ("copy", "splice", "smoothed region", "fill")
AROUND = "all but a thing"
THING, THINGS = (0.1, 0.55), 2
"""Share of the photo that stays where all else is replaced, and how often that is done."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--half-of", type=Path, required=True, help="photos of half of its owners")
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--listed", type=int, default=550, help="photos of those owners")
    parser.add_argument("--skip", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=parts.WEIGHTS)
    chosen = parser.parse_args()
    photos = drawn([e for path in chosen.manifests for e in read_manifest(path, "train")], None)
    listed = drawn([e for e in read_manifest(chosen.half_of, "train") if is_learnt(e)], None)
    some = photos[chosen.skip :][: chosen.photos]
    chosen.folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for hard, asked, donors in ((False, some, photos), (True, listed[: chosen.listed], listed)):
            keep = partial(kept, donors=donors, folder=chosen.folder, hard=hard)
            for number, places in enumerate(pool.map(keep, asked, chunksize=4)):
                files += places
                if number % 50 == 0:
                    print(f"{number} of {len(asked)} photos", flush=True)
    stored: dict[str, np.ndarray] = {}
    for method in METHODS:
        stored |= {f"{method}.{name}": values for name, values in fit(method, files).items()}
    with complete_or_absent(chosen.out) as unfinished:
        safetensors.numpy.save_file(stored, unfinished)


def kept(entry: Entry, donors: list[Entry], folder: Path, *, hard: bool) -> list[Path]:
    """Keep what is measured of a photo, processed and edited; return where: nowhere if it cannot be read."""
    name, out = f"{zlib.crc32(str(entry.path).encode()):08x}", []
    for seed, suffix, pictures in ((9, "", into), (11, " around", around)):
        place = folder / f"{name}{suffix}.npz"
        if not place.is_file():
            rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()) + seed)
            measured: dict[str, list[tuple[np.ndarray, int]]] = {method: [] for method in METHODS}
            try:
                image = decode(entry.path).image
                if min(image.shape[:2]) >= SMALLEST_PX:
                    for picture, truth in pictures(entry, image, donors, rng, hard=hard):
                        measure(picture, truth, measured)
            except UndecodableImageError:
                continue
            store(measured, place)
        out.append(place)
    return out


def store(measured: dict[str, list[tuple[np.ndarray, int]]], place: Path) -> None:
    """Write inputs and labels by method."""
    arrays: dict[str, Any] = {}
    for method, found in measured.items():
        arrays[f"{method} inputs"] = np.array([inputs for inputs, _ in found], np.float32)
        arrays[f"{method} labels"] = np.array([label for _, label in found], np.uint8)
    with complete_or_absent(place) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


def into(
    entry: Entry, photo: Image, donors: list[Entry], rng: np.random.Generator, *, hard: bool
) -> Iterator[tuple[Picture, Mask | None]]:
    """Yield a photo, the same processed as a whole, and edits of it, in some form."""
    if hard:
        yield Picture(photo, entry.path.read_bytes()), None
    image = cut_to(photo, rng, hard=hard)
    edited = edits(entry, image, donors, rng, 2 if hard else len(KINDS))
    for made, truth in (*untouched(image, rng), *((made, truth) for _, made, truth in edited)):
        if min(made.shape[:2]) >= SMALLEST_PX:
            yield in_a_form(made, truth, rng)


def around(
    entry: Entry, photo: Image, donors: list[Entry], rng: np.random.Generator, *, hard: bool
) -> Iterator[tuple[Picture, Mask | None]]:
    """Yield a photo of which all but a thing is replaced, in some form."""
    image = cut_to(photo, rng, hard=hard)
    if min(image.shape[:2]) < SMALLEST_PX:
        return
    for _ in range(THINGS):
        yield in_a_form(*all_but_a_thing(entry, image, donors, rng), rng)


def cut_to(photo: Image, rng: np.random.Generator, *, hard: bool) -> Image:
    """Cut a photo to so many pixels as its set has."""
    return cut(photo, int(rng.uniform(*(LISTED_PIXELS if hard else PIXELS))))


def untouched(image: Image, rng: np.random.Generator) -> Iterator[tuple[Image, None]]:
    """Yield a photo, and the same processed as a whole."""
    yield image, None
    yield PROCESSING[LEARNT[int(rng.integers(len(LEARNT)))]](image, rng), None


def edits(
    entry: Entry, image: Image, donors: list[Entry], rng: np.random.Generator, most: int
) -> Iterator[tuple[str, Image, Mask]]:
    """Yield so many edits, each of another kind, and where they were made."""
    donor = donor_for(entry, donors, 4 * image[..., 0].size)
    objects = things(image, rng) if rng.random() < SHAPED else []
    pieces = Pieces(sides=(0.08, 0.5), object_share=0.9, object_area=(0.004, 0.5))
    shapes = ("object", "object", "polygon", "box", "strokes")
    fill = (Telea, NavierStokes)[int(rng.integers(2))]
    ways: tuple[Manipulation, ...] = (
        CopyMove(pieces),
        Splicing(donor, pieces=pieces, sides=(0.08, 0.5)),
        TwinPaste(smoothed(image, rng), Regions(shapes, (0.006, 0.6))),
        Inpainting(fill(), regions=Regions(shapes, (0.006, 0.25))),
    )
    for number in rng.permutation(len(ways))[:most]:
        made = ways[number](image, rng, objects)
        yield KINDS[number], made.image, made.edited


def all_but_a_thing(
    entry: Entry, image: Image, donors: list[Entry], rng: np.random.Generator
) -> tuple[Image, Mask]:
    """Return a photo of which only one thing is left, and where it was replaced: by another photo, or smoothed."""
    height, width = image.shape[:2]
    shapes = ("object", "object", "object", "polygon")
    thing = Regions(shapes, THING, (0, 0)).draw(height, width, rng, things(image, rng))
    if rng.random() < 0.5:
        other = smoothed(image, rng)
    else:
        donor = donor_for(entry, donors, 4 * image[..., 0].size)(rng).image
        share = 0.01 + max(height / donor.shape[0], width / donor.shape[1])
        donor = rescale(donor, max(share, rng.uniform(0.5, 1)))
        top, left = (
            int(rng.integers(n - m + 1)) for n, m in zip(donor.shape, (height, width), strict=False)
        )
        other = donor[top : top + height, left : left + width]
    made = TwinPaste(other, Regions(("object",), (0.2, 1), (0, 0)))(image, rng, [~thing])
    return made.image, made.edited


def things(image: Image, rng: np.random.Generator) -> list[Mask]:
    """Return parts of a photo that are of one colour, and clouds."""
    height, width = image.shape[:2]
    small = max(8, height // CELL_PX), max(8, width // CELL_PX)
    found = []
    for _ in range(CLOUDS):
        noise = rng.normal(size=small).astype(np.float32)
        cloud = cv2.GaussianBlur(noise, (0, 0), rng.uniform(2, min(small) / 6 + 2))
        found += connected(cloud > np.quantile(cloud, rng.uniform(0.6, 0.95)))[:1]
    reduced = cv2.resize(image, small[::-1], interpolation=cv2.INTER_AREA)
    colours = PIL.Image.fromarray(cv2.GaussianBlur(reduced, (0, 0), 1.5)).quantize(COLOURS)
    for colour in range(COLOURS):
        found += connected(np.asarray(colours) == colour)
    return [cv2.resize(thing, (width, height)) > 0 for thing in found]


def connected(inside: np.ndarray) -> list[np.ndarray]:
    """Return connected parts, the largest first."""
    count, parts_of, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    order = sorted(range(1, count), key=lambda part: -int(stats[part, cv2.CC_STAT_AREA]))
    return [(parts_of == part).astype(np.uint8) for part in order]


def in_a_form(
    image: Image, truth: Mask | None, rng: np.random.Generator
) -> tuple[Picture, Mask | None]:
    """Save a picture, reduced or not, as JPEG, AVIF or without loss."""
    if rng.random() >= AVIF:
        return in_some_form(image, truth, rng)
    content = encode(image, Encoding("avif", int(rng.integers(55, 92))))
    return Picture(decode(content).image, content), truth


def measure(
    picture: Picture, truth: Mask | None, measured: dict[str, list[tuple[np.ndarray, int]]]
) -> None:
    """Add what is measured of the parts that stand out, and whether they were put in."""
    if min(picture.size) < consistency.SMALLEST_PX:
        return
    for method, part, origin in suspects_of(picture):
        label = label_of(part.around.inside, origin, truth)
        if label is not None:
            measured[method].append((part.inputs, label))


def suspects_of(picture: Picture) -> Iterator[tuple[str, parts.Part, tuple[int, int]]]:
    """Yield what stands out by either method, and left and top of its grid."""
    measured = consistency.Measured.of(picture)
    history = quantisation.earliest(picture) if measured is None else measured.history
    if history.seen:
        lacking = history.lacking()
        for part in quantisation.suspects(history, lacking, picture.image):
            yield "quantisation", part, history.origin
    if measured is not None:
        for part in measured.suspects(measured.evidence()):
            yield "consistency", part, measured.origin


def label_of(part: np.ndarray, origin: tuple[int, int], truth: Mask | None) -> int | None:
    """Return 1 for a part that covers an edit well, 0 for one of a picture without, and None for any other."""
    if truth is None:
        return 0
    left, top = origin
    edited = np.zeros(part.shape, bool)
    shares = cell_sums(truth[top:, left:].astype(np.float32)) / CELL_PX**2
    rows, columns = (min(pair) for pair in zip(part.shape, shares.shape, strict=True))
    edited[:rows, :columns] = shares[:rows, :columns] > 0.5
    both = (part & edited).sum()
    if not both:
        return None
    precise = both / part.sum() > PRECISION and both / edited.sum() > RECALL
    return 1 if precise or both / (part | edited).sum() > OVERLAP else None


def fit(method: str, files: list[Path]) -> dict[str, np.ndarray]:
    """Learn to tell parts that were put in from others, both as heavy; return the weights by name."""
    stored = [np.load(file) for file in files]
    inputs, labels = (
        np.concatenate(
            [some[f"{method} {name}"] for some in stored if some[f"{method} labels"].size]
        )
        for name in ("inputs", "labels")
    )
    print(
        f"{method}: {len(labels):,} parts in {len(files)} files, {labels.mean():.2f} put in",
        flush=True,
    )
    fitted = HistGradientBoostingClassifier(
        learning_rate=RATE,
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=FEWEST,
        l2_regularization=1.0,
        early_stopping=False,
        class_weight="balanced",
        random_state=0,
    ).fit(inputs, labels)
    trees = arrays_of(fitted)
    own = [parts.Trees(**trees).odds(row) for row in inputs[:100]]
    np.testing.assert_allclose(own, fitted.decision_function(inputs[:100]), atol=1e-4)
    return trees


def arrays_of(fitted: HistGradientBoostingClassifier) -> dict[str, np.ndarray]:
    """Return the fields of ``parts.Trees``."""
    grown = [tree.nodes for (tree,) in fitted._predictors]
    shape = len(grown), max(map(len, grown))
    whole, real = np.int16, np.float64
    fields = {
        "feature": whole,
        "threshold": real,
        "left": whole,
        "right": whole,
        "value": np.float32,
    }
    out = {name: np.zeros(shape, kind) for name, kind in fields.items()}
    for number, tree in enumerate(grown):
        here, leaf = np.arange(len(tree)), tree["is_leaf"].astype(bool)
        for name, own in (("feature", "feature_idx"), ("threshold", "num_threshold")):
            out[name][number, here] = np.where(leaf, 0, tree[own])
        out["value"][number, here] = np.where(leaf, tree["value"], 0)
        for side in ("left", "right"):
            out[side][number, here] = np.where(leaf, here, tree[side])
    return out | {"baseline": fitted._baseline_prediction.ravel().astype(np.float32)}


if __name__ == "__main__":
    main()
