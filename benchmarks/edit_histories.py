"""Which pasted parts a default scan finds, by how a photo was saved before it was edited, and how after.

    python benchmarks/edit_histories.py SCORES.csv MANIFEST [MANIFEST ...] [--photos 40] [--plot FILE.png]

Photos of at least four times ``--pixels`` are halved, which removes what compressions left, cut to so many pixels, and
saved as JPEG of one quality. A piece of another source's photo is pasted in, by a seed that is the photo's name; then
the picture is saved without loss or as JPEG, whole or cropped by a few pixels before that. It and the same photo
without the piece are judged by ``quantisation``, which answers by default. A second call goes on from the table.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from edits_bed import SILENT, SMALLEST_PX, donor_for, drawn

from forensics import cut, lines_of, saved
from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.forensics import METHODS, Finding, Picture
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding, reencode
from gammascope.imaging.decode import decode
from gammascope.manipulation import Splicing
from gammascope.manipulation.regions import Pieces
from gammascope.report import percent
from gammascope.sample import Entry, Image

METHOD = METHODS["quantisation"]
_SIDES = (0.15, 0.45)
FIRST = (60, 70, 75, 80, 85, 90, 95)
LASTS = (*((last, 0) for last in (0, 98, 95, 90, 85, 80, 70)), (0, 1), (98, 1), (95, 1), (90, 1))
"""Qualities, 0 without loss, and whether a few pixels were cut off at the top and the left before."""
KINDS = ("photo", "splice")
COLUMNS = ("photo", "first", "last", "cropped", "edited", "score")
"""A row; score: clearness, above 1 it is called edited, -1: silent."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--split", default="train")
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--pixels", type=int, default=600_000)
    parser.add_argument("--plot", type=Path, help="where to draw the share that is found")
    chosen = parser.parse_args()
    entries = [e for path in chosen.manifests for e in read_manifest(path, chosen.split)]
    photos, known = drawn(entries, None), set(rows_of(chosen.scores))
    if not chosen.scores.exists():
        chosen.scores.write_text(",".join(COLUMNS) + "\n")
    through = 0
    for entry in photos:
        if through == chosen.photos:
            break
        image = reduced(entry, chosen.pixels)
        if image is not None:
            through += 1
            with chosen.scores.open("a", newline="") as file:
                for row in judged(entry, image, photos, known):
                    csv.writer(file).writerow(row)
    table = table_of(chosen.scores)
    show(table)
    if chosen.plot:
        draw(table, chosen.plot)


def reduced(entry: Entry, pixels: int) -> Image | None:
    """Return a photo at half its size, cut; None if it is too small for that."""
    try:
        image = decode(entry.path).image
    except UndecodableImageError:
        return None
    if image[..., 0].size < 4 * pixels:
        return None
    image = cut(codecs.rescale(image, 0.5), pixels)
    return image if min(image.shape[:2]) >= SMALLEST_PX else None


def judged(
    entry: Entry, image: Image, photos: list[Entry], known: set[tuple[str, ...]]
) -> Iterator[tuple[object, ...]]:
    """Yield a row for the photo and one for the edit in all histories that are not known."""
    seed = zlib.crc32(entry.path.name.encode())
    donor = donor_for(entry, photos, 4 * image[..., 0].size)
    down, right = (int(cut_off) for cut_off in np.random.default_rng(seed).integers(1, 8, 2))
    for first in FIRST:
        missing = [
            (last, cropped, kind)
            for (last, cropped), kind in product(LASTS, KINDS)
            if (str(entry.path), str(first), str(last), str(cropped), kind) not in known
        ]
        if not missing:
            continue
        photo = reencode(image, Encoding("jpeg", first))
        splice = Splicing(donor, pieces=Pieces(sides=_SIDES), sides=_SIDES)
        made = splice(photo, np.random.default_rng(seed))
        for last, cropped, kind in missing:
            top, left = (down, right) if cropped else (0, 0)
            pixels = photo if kind == KINDS[0] else made.image
            pixels = np.ascontiguousarray(pixels[top:, left:])
            found = METHOD.examine(saved(pixels, last) if last else Picture(pixels))
            score = METHOD.clearness(found) if isinstance(found, Finding) else SILENT
            yield entry.path, first, last, cropped, kind, round(score, 4)


def rows_of(path: Path) -> list[tuple[str, ...]]:
    """Return which photos were judged in which history, without and with the edit."""
    return [tuple(line[:5]) for line in lines_of(path, COLUMNS)]


Table = dict[tuple[int, int, int, str], list[float]]


def table_of(path: Path) -> Table:
    """Return clearness by first and last quality, whether it was cropped, and whether it was edited."""
    table: Table = defaultdict(list)
    for _, first, last, cropped, kind, score in lines_of(path, COLUMNS):
        table[int(first), int(last), int(cropped), kind].append(float(score))
    return table


def show(table: Table) -> None:
    """Print which share of the edits and of the photos is called edited."""
    for kind in reversed(KINDS):
        heads = [name_of(*last) for last in LASTS]
        print(f"\n{kind}\n| saved before at | {' | '.join(heads)} |")
        print(f"| ---: {'| ---: ' * len(LASTS)}|")
        for first in FIRST:
            some = [np.array(table[first, *last, kind]) > 1 for last in LASTS]
            print(f"| {first} | {' | '.join(percent(float(s.mean()), 0) for s in some)} |")
    print(f"\n{len(table[FIRST[0], *LASTS[0], 'photo'])} photos")


def name_of(last: int, cropped: int) -> str:
    """Name the last save."""
    return ("cropped, " if cropped else "") + (f"JPEG {last}" if last else "no loss")


def draw(table: Table, path: Path) -> None:
    """Draw the share of edits that is found."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    found = [[np.mean(np.array(table[f, *last, "splice"]) > 1) for last in LASTS] for f in FIRST]
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    axes.imshow(found, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for row, values in enumerate(found):
        for column, value in enumerate(values):
            colour = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{100 * value:.0f} %", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(LASTS)), [name_of(*last).replace(", ", ",\n") for last in LASTS])
    axes.set_yticks(range(len(FIRST)), [f"JPEG {first}" for first in FIRST])
    axes.set_xlabel("saved after the edit")
    axes.set_ylabel("saved before the edit")
    axes.set_title("Pasted parts that a default scan finds")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
