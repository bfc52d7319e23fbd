"""Fit the network of ``forensics/cloning.py`` to copies made in training photos.

    python benchmarks/fit_cloning.py FOLDER MANIFEST [MANIFEST ...] [--photos 450] [--out cloning.safetensors]

Every photo is cut or reduced to 0.12 to 0.7 megapixels; a piece of it is laid elsewhere by a seed that is the photo's
name, exactly in two fifths of cases, scaled, turned or mirrored in the others. Photo and edit are reduced in a third of
cases and saved without loss or as JPEG 70 to 97. What ``cloning.found`` measures of their repeated parts is kept in
FOLDER; a second call goes on from there. The network then learns to tell the true copy from whatever is alike in
untouched photos. Photos of sources that ``--apart N K`` names (a source's hash, modulo N, is K) are left out; those
listed by ``listed_pictures.py`` (``--half-of``) are searched whole, and only half of their owners are learnt from.
"""

from __future__ import annotations

import argparse
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from edits_bed import SMALLEST_PX, drawn
from fit_consistency import in_some_form, is_apart, is_learnt
from torch.nn.functional import binary_cross_entropy_with_logits

from forensics import cut
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.files import complete_or_absent
from gammascope.forensics import Picture, cloning
from gammascope.forensics.base import standardised
from gammascope.forensics.copies import Copy
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.manipulation.blending import Seam
from gammascope.manipulation.copy_move import intersection_over_union
from gammascope.manipulation.regions import Pieces, Poses, Rectangle, moved, placed
from gammascope.sample import Entry, Image

PIXELS = (120_000, 700_000)
EXACT, TURNED = 0.4, 0.5
"""Share of copies that are neither scaled nor turned; of the others, share that is turned to any side."""
HIDDEN = 6
RIGHT_PX = 3.0
"""Mean distance from where a part truly is again, up to which a map counts as right."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--half-of", type=Path, help="manifest: photos of half of its owners, too")
    parser.add_argument("--photos", type=int, default=450)
    parser.add_argument("--listed", type=int, default=250, help="photos of those owners")
    parser.add_argument("--apart", type=int, nargs=2, metavar=("N", "K"), default=(0, 0))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=cloning.WEIGHTS)
    chosen = parser.parse_args()
    entries = [e for path in chosen.manifests for e in read_manifest(path, "train")]
    photos = [e for e in drawn(entries, None) if not is_apart(e, *chosen.apart)][: chosen.photos]
    listed = read_manifest(chosen.half_of, "train") if chosen.half_of else []
    hard = [e for e in drawn(listed, None) if is_learnt(e)][: chosen.listed]
    chosen.folder.mkdir(parents=True, exist_ok=True)
    files = []
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for whole, some in ((False, photos), (True, hard)):
            measure = partial(measured, folder=chosen.folder, whole=whole)
            for number, file in enumerate(pool.map(measure, some, chunksize=4)):
                files += [file] if file else []
                if number % 50 == 0:
                    print(f"{number} of {len(some)} photos", flush=True)
    fit(files, chosen.out)


def measured(entry: Entry, folder: Path, *, whole: bool) -> Path | None:
    """Keep what is measured of a photo's repeated parts; return where, or None if it is too small or unreadable."""
    place = folder / f"{zlib.crc32(str(entry.path).encode()):08x}{'w' * whole}.npz"
    if place.is_file():
        return place
    rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()) + 2)
    try:
        image = decode(entry.path).image
    except UndecodableImageError:
        return None
    kept: list[tuple[np.ndarray, bool, bool]] = []
    if whole:
        kept += [(inputs, False, False) for inputs, _ in candidates(Picture(image))]
    else:
        pixels = rng.uniform(*PIXELS)
        share = min(1.0, float(pixels / image[..., 0].size) ** 0.5)
        image = cut(image, int(pixels)) if rng.random() < 0.5 else codecs.rescale(image, share)
        if min(image.shape[:2]) < SMALLEST_PX:
            return None
        made, truth = copied(image, rng)
        seed = int(rng.integers(2**32))
        for is_edited, picture in ((False, image), (True, made)):
            form, _ = in_some_form(picture, None, np.random.default_rng(seed))
            scale = np.array(form.size) / picture.shape[1::-1]
            for inputs, copy in candidates(form):
                found = is_edited and is_right(copy, scaled(truth, scale))
                kept.append((inputs, is_edited, found))
    with complete_or_absent(place) as unfinished, unfinished.open("wb") as file:
        inputs = np.array([some[0] for some in kept], np.float32)
        inputs = inputs.reshape(-1, len(fields(cloning.Likeness)))
        edited, right = ([some[number] for some in kept] for number in (1, 2))
        np.savez(file, inputs=inputs, edited=np.array(edited, bool), right=np.array(right, bool))
    return place


def candidates(picture: Picture) -> list[tuple[np.ndarray, Copy]]:
    """Return what the network is given of each part that may be a copy."""
    luma = cloning.examined(picture)
    if isinstance(luma, str):
        return []
    return [(likeness.inputs(), copy) for copy, likeness in cloning.found(luma)]


def copied(image: Image, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Lay a piece of a photo elsewhere; return the picture, and the map from (x, y, 1) to where places are again."""
    height, width = image.shape[:2]
    turned = 180.0 if rng.random() < TURNED else 20.0
    poses = Poses(scale=(0.6, 1.6), degrees=turned, exact_share=EXACT)
    while True:
        source = Pieces(sides=(0.1, 0.5)).draw(height, width, rng, ())
        around = Rectangle.around(source)
        pose = placed(poses.draw(rng), around, (height, width), rng)
        patch, target = moved(image, source, pose, (height, width))
        if target.any() and intersection_over_union(source, target) < 0.3:
            return Seam().paste(image, patch, target, rng), pose.matrix(around)


def scaled(matrix: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Bring a map to a reduced picture."""
    grid = np.diag([*scale, 1.0])
    grid[:2, 2] = (scale - 1) / 2  # Centres of pixels, not corners, are counted.
    return np.asarray((grid @ np.vstack([matrix, [0, 0, 1]]) @ np.linalg.inv(grid))[:2])


def is_right(copy: Copy, truth: np.ndarray) -> bool:
    """Whether a map, or its reverse, is the one that a copy was made by, as far as the part reaches."""
    rows, columns = np.nonzero(copy.inside)
    rows, columns = rows + copy.box[0].start, columns + copy.box[1].start
    places = np.stack([columns, rows, np.ones(len(rows))])
    back = np.linalg.inv(np.vstack([truth, [0, 0, 1]]))[:2]
    off = min(np.hypot(*((copy.matrix - way) @ places)).mean() for way in (truth, back))
    return bool(off < RIGHT_PX)


def fit(files: list[Path], out: Path) -> None:
    """Learn to tell right copies from what is alike in untouched photos, both as heavy, and write the weights."""
    torch.manual_seed(0)
    kept = [np.load(file) for file in files]
    inputs, edited, right = (
        np.concatenate([some[name] for some in kept]) for name in ("inputs", "edited", "right")
    )
    used = right | ~edited
    middle, spread = inputs[used].mean(0), inputs[used].std(0) + 1e-6
    values = torch.from_numpy(standardised(inputs[used], middle, spread).astype(np.float32))
    labels = torch.from_numpy(right[used].astype(np.float32))
    share = float(labels.mean())
    weights = torch.where(labels > 0.5, 0.5 / share, 0.5 / (1 - share))
    print(f"{len(labels):,} parts of {len(files)} photos, {share:.2f} copies", flush=True)
    first, last = torch.nn.Linear(values.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, 1)
    net = torch.nn.Sequential(first, torch.nn.Tanh(), last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.02)
    for step in range(1000):
        said = net(values)[:, 0]
        loss = binary_cross_entropy_with_logits(said, labels, weights)
        penalty = 1e-3 * sum((some**2).sum() for some in net.parameters())
        optimiser.zero_grad()
        torch.autograd.backward(loss + penalty)
        optimiser.step()
        if step % 200 == 199:
            print(f"step {step + 1}: loss {float(loss.detach()):.4f}", flush=True)
    stored = {
        "middle": middle.astype(np.float32),
        "spread": spread.astype(np.float32),
        "first": first.weight.detach().numpy().T.copy(),
        "first_bias": first.bias.detach().numpy(),
        "last": last.weight.detach().numpy()[0].copy(),
        "last_bias": last.bias.detach().numpy()[0:1],
    }
    with complete_or_absent(out) as unfinished:
        safetensors.numpy.save_file(stored, unfinished)


if __name__ == "__main__":
    main()
