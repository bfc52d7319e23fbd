"""Fit the network of ``forensics/consistency.py`` to edits made of training photos.

    python benchmarks/fit_consistency.py FOLDER MANIFEST [MANIFEST ...] [--photos 1000] [--out consistency.safetensors]

Of every photo, cut to 0.12 to 0.4 megapixels, a copy, a splice, a region that was smoothed or scaled and sharpened (as
decoders leave it), and a classical fill are made by a seed that is the photo's name. Photo and edits are reduced in a
third of cases and saved without loss or as JPEG 70 to 97. With ``--decoders`` one of these writes every other smoothed
region instead (docs/experiments/e48.md). Cells of each, edited and not, are kept in FOLDER with what the network is
given of them; a second call goes on from there. The network then learns for some passes over all.
Photos of sources that ``--apart N K`` names (a source's hash, modulo N, is K) are left out, to be judged on; of those
listed by ``listed_pictures.py`` (``--half-of``) only half of the owners are learnt from.
"""

from __future__ import annotations

import argparse
import hashlib
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import safetensors.numpy
import torch
from edits_bed import SMALLEST_PX, donor_for, drawn
from edits_by_decoder import loaded
from PIL import ImageFilter
from torch.nn.functional import binary_cross_entropy_with_logits

from forensics import cut, saved
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.files import complete_or_absent
from gammascope.forensics import Picture, consistency
from gammascope.forensics.base import CELL_PX, standardised
from gammascope.generation.autoencoder import Autoencoder, round_trip
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.manipulation import CopyMove, Inpainting, Splicing, TwinPaste
from gammascope.manipulation.base import Manipulation
from gammascope.manipulation.inpainting import NavierStokes, Telea
from gammascope.manipulation.regions import Pieces, Regions
from gammascope.sample import Entry, Image, Mask

PIXELS = (120_000, 400_000)
QUALITIES = (70, 75, 80, 85, 88, 90, 92, 95, 97)
HIDDEN = (96, 48)
CELLS, UNTOUCHED = 120, 100
"""Cells of either kind of an edited picture, and of a photo, that are kept."""
FORMS_OF_PHOTO, FORMS_OF_EDIT = 3, 2
"""Forms that each is saved in."""
_KERNELS = (PIL.Image.Resampling.BILINEAR, PIL.Image.Resampling.BICUBIC, PIL.Image.Resampling.LANCZOS)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--decoders", type=Path, nargs="+", default=[], help="folders")
    parser.add_argument("--half-of", type=Path, help="manifest: photos of half of its owners, too")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--apart", type=int, nargs=2, metavar=("N", "K"), default=(0, 0))
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=consistency.WEIGHTS)
    chosen = parser.parse_args()
    entries = [e for path in chosen.manifests for e in read_manifest(path, "train")]
    if chosen.half_of:
        entries += [e for e in read_manifest(chosen.half_of, "train") if is_learnt(e)]
    photos = [e for e in drawn(entries, None) if not is_apart(e, *chosen.apart)]
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(chosen.jobs) as pool:
        make = partial(
            cells_of, photos=photos, folder=chosen.folder, decoders=tuple(chosen.decoders)
        )
        files: list[Path] = []
        for number, file in enumerate(pool.map(make, photos[: 2 * chosen.photos], chunksize=4)):
            if file is not None:
                files.append(file)
            if number % 50 == 0:
                print(f"{len(files)} of {chosen.photos} photos", flush=True)
            if len(files) >= chosen.photos:
                pool.shutdown(cancel_futures=True)
                break
    fit(files[: chosen.photos], chosen.passes, chosen.out)


def part_of(name: str, parts: int) -> int:
    """Return which of so many parts a name's hash falls into."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % parts


def is_learnt(entry: Entry) -> bool:
    """Whether photos of a listed picture's owner are learnt from; the others are there to count false alarms on."""
    return part_of(owner_of(entry), 2) == 0


def owner_of(entry: Entry) -> str:
    """Return whose a listed picture is."""
    return f"{entry.source}".partition("-")[2]


def is_apart(entry: Entry, parts: int, part: int) -> bool:
    """Whether a source's photos are left out."""
    return bool(parts) and part_of(f"{entry.source}", parts) == part


def cells_of(
    entry: Entry, photos: list[Entry], folder: Path, decoders: tuple[Path, ...] = ()
) -> Path | None:
    """Keep cells of a photo and its edits; return where, or None if it is too small or unreadable."""
    place = folder / f"{zlib.crc32(str(entry.path).encode()):08x}.npz"
    if place.is_file():
        return place
    rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()) + 1)
    try:
        image = cut(decode(entry.path).image, int(rng.uniform(*PIXELS)))
        if min(image.shape[:2]) < SMALLEST_PX:
            return None
        kept = [
            cells
            for made, truth in edits(entry, image, photos, rng, decoders)
            for _ in range(FORMS_OF_PHOTO if truth is None else FORMS_OF_EDIT)
            for cells in kept_of(*in_some_form(made, truth, rng), rng)
        ]
    except UndecodableImageError:
        return None
    if not kept:
        return None
    inputs, labels = (np.concatenate(some) for some in zip(*kept, strict=True))
    with complete_or_absent(place) as unfinished, unfinished.open("wb") as file:
        np.savez(file, inputs=inputs, labels=labels)
    return place


def edits(
    entry: Entry,
    image: Image,
    photos: list[Entry],
    rng: np.random.Generator,
    decoders: tuple[Path, ...],
) -> Iterator[tuple[Image, Mask | None]]:
    """Yield the photo and its edits, and where each was edited."""
    donor = donor_for(entry, photos, 4 * image[..., 0].size)
    yield image, None
    pieces = Pieces(sides=(0.1, 0.5))
    fill = (Telea, NavierStokes)[int(rng.integers(2))]
    ways: tuple[Manipulation, ...] = (
        CopyMove(pieces),
        Splicing(donor, pieces=pieces, sides=(0.1, 0.5)),
        TwinPaste(rewritten(image, rng, decoders), Regions(area=(0.01, 0.3))),
        Inpainting(fill(), regions=Regions(area=(0.01, 0.2))),
    )
    for way in ways:
        made = way(image, rng)
        yield made.image, made.edited


def rewritten(image: Image, rng: np.random.Generator, decoders: tuple[Path, ...]) -> Image:
    """Write a photo anew: by one of the decoders, if there are any, in half of all cases; else smoothed."""
    if decoders and rng.random() < 0.5:
        known = autoencoders(decoders)
        return round_trip(image, known[int(rng.integers(len(known)))])
    return smoothed(image, rng)


@cache
def autoencoders(folders: tuple[Path, ...]) -> list[Autoencoder]:
    """Load the autoencoders of some folders, once in a process, which they run on one thread of."""
    torch.set_num_threads(1)
    return [found for folder in folders for found in loaded(folder).values()]


def smoothed(image: Image, rng: np.random.Generator) -> Image:
    """Scale a photo down and up, sharpened or not, or smooth it, with new noise or none: what decoders do to detail."""
    picture = PIL.Image.fromarray(image)
    way = int(rng.integers(4))
    if way < 2:
        share = rng.uniform(0.35, 0.85)
        there, back = (_KERNELS[int(rng.integers(3))] for _ in range(2))
        small = picture.resize([max(8, int(side * share)) for side in picture.size], there)
        picture = small.resize(picture.size, back)
    if way == 1:
        sharper = ImageFilter.UnsharpMask(rng.uniform(0.6, 2), int(rng.integers(60, 160)), 0)
        picture = picture.filter(sharper)
    elif way == 2:
        picture = picture.filter(ImageFilter.MedianFilter(3))
    elif way == 3:
        blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.2)))
        crisp = picture.filter(ImageFilter.UnsharpMask(1.5, 120, 2))
        picture = PIL.Image.blend(blurred, crisp, rng.uniform(0.3, 0.7))
    out = np.array(picture)
    if rng.random() < 0.4:
        noisy = out + rng.normal(0, rng.uniform(0.5, 2.5), out.shape)
        out = np.clip(noisy, 0, 255).astype(np.uint8)
    return out


def in_some_form(
    image: Image, truth: Mask | None, rng: np.random.Generator
) -> tuple[Picture, Mask | None]:
    """Reduce a picture in a third of cases, and save it."""
    if rng.random() < 0.35:
        image = codecs.rescale(image, rng.uniform(0.45, 0.95))
        if truth is not None:
            shown = PIL.Image.fromarray(truth.astype(np.uint8) * 255)
            size = image.shape[1], image.shape[0]
            truth = np.asarray(shown.resize(size, PIL.Image.Resampling.BILINEAR)) > 127
    if rng.random() < 0.25:
        return Picture(image), truth
    return saved(image, int(rng.choice(QUALITIES))), truth


def kept_of(
    picture: Picture, truth: Mask | None, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield inputs and labels of some cells."""
    if min(picture.size) < consistency.SMALLEST_PX:
        return
    measured = consistency.Measured.of(picture)
    if measured is None:
        return
    rows, columns, _ = measured.inputs.shape
    inputs = measured.inputs.reshape(rows * columns, -1)
    shares = np.zeros(rows * columns)
    if truth is not None:
        left, top = measured.origin
        inside = truth[top : top + rows * CELL_PX, left : left + columns * CELL_PX]
        shares = inside.reshape(rows, CELL_PX, columns, CELL_PX).mean((1, 3)).ravel()
    for label, fits in ((1, shares > 0.75), (0, shares < 0.02)):
        most = UNTOUCHED if truth is None else CELLS
        chosen = rng.permutation(np.flatnonzero(fits))[:most]
        yield inputs[chosen].astype(np.float16), np.full(len(chosen), label, np.uint8)


class Course(NamedTuple):
    """How a small network learns."""

    passes: int
    batch: int
    rate: float
    decay: float


def share_of(labels: torch.Tensor) -> float:
    """Return which share of cells was edited."""
    return float(labels.mean())


def learn(
    net: torch.nn.Module,
    given: Callable[[torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    course: Course,
) -> None:
    """Teach a network to tell edited cells, 1, from others, 0, both as heavy.

    Args:
        net: Says one number of each cell.
        given: Returns what it is given of the cells of these numbers.
        labels: Of all cells.
        course: How.
    """
    share = share_of(labels)
    weights = torch.where(labels > 0.5, 0.5 / share, 0.5 / (1 - share))
    optimiser = torch.optim.AdamW(net.parameters(), course.rate, weight_decay=course.decay)
    steps = course.passes * -(-len(labels) // course.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, course.rate, total_steps=steps)
    for number in range(course.passes):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(labels)), course.batch):
            said = net(given(chosen))[:, 0]
            loss = binary_cross_entropy_with_logits(said, labels[chosen], weights[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        print(f"pass {number + 1}: loss {total / len(labels):.4f}", flush=True)


def fit(files: list[Path], passes: int, out: Path) -> None:
    """Learn from the kept cells, edited and not as heavy, and write the weights."""
    torch.manual_seed(0)
    kept = [np.load(file) for file in files]
    inputs = np.concatenate([some["inputs"] for some in kept]).astype(np.float32)
    labels = torch.from_numpy(np.concatenate([some["labels"] for some in kept]).astype(np.float32))
    mean, spread = inputs.mean(0, dtype=np.float64), inputs.std(0) + 1e-3
    given = standardised(inputs, mean, spread).astype(np.float32)
    values = torch.from_numpy(given)
    print(
        f"{len(labels):,} cells of {len(files)} photos, {share_of(labels):.2f} edited", flush=True
    )
    sizes = (given.shape[1], *HIDDEN, 1)
    layers = [torch.nn.Linear(*pair) for pair in pairwise(sizes)]
    between = [torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(p)) for p in (0.2, 0.1)]
    net = torch.nn.Sequential(layers[0], between[0], layers[1], between[1], layers[2])
    learn(net, lambda some: values[some], labels, Course(passes, 2048, 2e-3, 1e-2))
    stored = {"mean": mean.astype(np.float32), "spread": spread}
    for name, layer in zip(("first", "second", "last"), layers, strict=True):
        stored[name] = layer.weight.detach().numpy().T.copy()
        stored[f"{name}_bias"] = layer.bias.detach().numpy()
    stored["last"], stored["last_bias"] = stored["last"][:, 0].copy(), stored["last_bias"][0:1]
    with complete_or_absent(out) as unfinished:
        safetensors.numpy.save_file(stored, unfinished)


if __name__ == "__main__":
    main()
