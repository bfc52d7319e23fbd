"""Does it matter which decoder wrote a region? Edits of one form and place, by many decoders, and how many are found.

    gammascope autoencoders photos/ --out DECODERS --design all
    python benchmarks/edits_by_decoder.py SCORES.csv MANIFEST [MANIFEST ...] --decoders DECODERS [FOLDER ...]

The first ``--skip`` photos of each source, which the networks may have learnt from, are passed over; the others are cut
to a size. Every decoder writes the same region of a photo, by a seed that is the photo's name: a round trip, seen
through a mask. Beside them stands the region without a decoder: moved by a fraction of a pixel, which takes its earlier
compression away and nothing else. All are judged without loss and as JPEG 90. A second call goes on from the table.
"""

from __future__ import annotations

import argparse
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from edits_bed import AREA, KINDS, SMALLEST_PX, Row, Table, drawn, rows_of
from scipy import ndimage

from forensics import FORMS, cut, in_form, truth_in
from gammascope.cli.making import autoencoder_at
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.metrics import auroc_against
from gammascope.generation.autoencoder import Autoencoder, round_trip
from gammascope.imaging.decode import decode
from gammascope.manipulation import TwinPaste
from gammascope.manipulation.regions import Regions
from gammascope.report import percent
from gammascope.sample import Entry, Image

METHODS = ("quantisation", "consistency")
WHO = ("only quantisation", "only consistency", "all")
CONTROL = "moved by 0.4 px"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scores", type=Path)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--decoders", type=Path, nargs="+", default=[], help="their folders")
    parser.add_argument("--skip", type=int, default=100, help="photos of each source, by hash")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--pixels", type=int, default=150_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    decoders = {name: found for folder in chosen.decoders for name, found in loaded(folder).items()}
    entries = [e for path in chosen.manifests for e in read_manifest(path, "train")]
    table, seen, rank = Table(chosen.scores, METHODS), 0, Counter[str | None]()
    for entry in drawn(entries, None):
        rank[entry.source] += 1
        if rank[entry.source] <= chosen.skip:
            continue
        if seen == chosen.photos:
            break
        seen += judged(entry, decoders, table, chosen.pixels)
        print(f"{seen} of {chosen.photos} photos", flush=True)
    show(rows_of(chosen.scores))


def loaded(folder: Path) -> dict[str, Autoencoder]:
    """Return the autoencoders of a folder, or of folders within it, by name."""
    within = sorted(place for place in folder.iterdir() if place.is_dir())
    if not within:
        return {folder.name: autoencoder_at(str(folder))}
    return {name: found for place in within for name, found in loaded(place).items()}


def judged(entry: Entry, decoders: Mapping[str, Autoencoder], table: Table, pixels: int) -> bool:
    """Judge a photo and its edits; return whether it could be used."""
    try:
        image = cut(decode(entry.path).image, pixels)
    except UndecodableImageError:
        return False
    if min(image.shape[:2]) < SMALLEST_PX:
        return False
    for form in FORMS[:2]:
        if not table.knows(entry, KINDS[0], form):
            table.add(entry, KINDS[0], form, in_form(image, form), None)
    for kind in (CONTROL, *decoders):
        missing = [form for form in FORMS[:2] if not table.knows(entry, kind, form)]
        if not missing:
            continue
        other = moved(image) if kind == CONTROL else round_trip(image, decoders[kind])
        chance = np.random.default_rng(zlib.crc32(entry.path.name.encode()))
        made = TwinPaste(other, Regions(area=AREA))(image, chance)
        for form in missing:
            truth = truth_in(made.edited, form)
            table.add(entry, kind, form, in_form(made.image, form), truth)
    return True


def moved(image: Image) -> Image:
    """Return a photo moved by a fraction of a pixel in both directions, by cubic splines."""
    shifted = ndimage.shift(image.astype(np.float32), (0.4, 0.4, 0), order=3, mode="mirror")
    moved_on: Image = shifted.round().clip(0, 255).astype(np.uint8)
    return moved_on


def show(rows: list[Row]) -> None:
    """Print what is found of each decoder's regions, in which form, by which methods."""
    for form in FORMS[:2]:
        print(f"\n{form}\n| written by | n | {' | '.join(WHO)} |")
        print("| --- | ---: |" + " --- |" * len(WHO))
        of: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            if row.form == form:
                of[row.kind, row.who].append(row)
        for kind in dict.fromkeys(kind for kind, _ in of):
            cells = []
            for who in WHO:
                scores = np.array([row.score for row in of[kind, who]])
                called = percent(float((scores > 1).mean()), 0)
                if kind == KINDS[0]:
                    cells.append(called)
                    continue
                photos = np.sort([row.score for row in of[KINDS[0], who]])[::-1]
                area = auroc_against(photos, scores)
                marked = np.mean([row.f1 for row in of[kind, who]])
                cells.append(
                    f"{called}, {area.value:.2f} [{area.low:.2f}, {area.high:.2f}], F1 {marked:.2f}"
                )
            print(f"| {kind} | {len(of[kind, WHO[-1]])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
