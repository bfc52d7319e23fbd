"""How well edits of unseen photos are told from the photos, and what each forensic method adds.

    python benchmarks/edits_bed.py SCORES.csv MANIFEST [MANIFEST ...] --decoder FOLDER [--split train] [--photos 60]

Of every photo, cut to a size, an edit of each kind is made by a seed that is the photo's name: a copy within it
(scaled, turned, mirrored, with soft edges or none), a piece of another source's photo, and a region written by a
decoder (a round trip, seen through a mask). Photo and edits are judged without loss, as JPEG 90, and halved and saved
as JPEG 90. For all methods together, each alone and all without it, the table holds the greatest clearness,
and F1 of what is marked. A second call goes on from the table. Photos are drawn by a hash of their names.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from forensics import FORMS, cut, f1, in_form, lines_of, truth_in
from gammascope.data.manifest import read_manifest
from gammascope.detection.eyes import embedded
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.localisation import mean
from gammascope.evaluation.metrics import auroc_against
from gammascope.forensics import METHODS, Finding, Outcome, Picture, marks_of
from gammascope.generation.autoencoder import TinyAutoencoder, round_trip
from gammascope.imaging.decode import decode
from gammascope.manipulation import CopyMove, Splicing, TwinPaste
from gammascope.manipulation.base import Manipulation
from gammascope.manipulation.regions import Pieces, Regions
from gammascope.manipulation.splicing import Donor
from gammascope.report import percent
from gammascope.sample import Entry, Image, Label, Mask

KINDS = ("photo", "copy-move", "splice", "composite inpainting")
COLUMNS = ("source", "photo", "kind", "form", "who", "score", "f1")
SMALLEST_PX = 256
SILENT = -1.0
_SIDES = (0.15, 0.45)
AREA = (0.02, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--decoder", type=Path, help="folder of a tiny autoencoder")
    parser.add_argument("--split", default="train")
    parser.add_argument("--sources", nargs="+", help="only these")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--pixels", type=int, default=250_000)
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=[name for name, method in METHODS.items() if method.answers],
        help="judged together; those that answer unless named",
    )
    chosen = parser.parse_args()
    if chosen.manifests:
        if chosen.decoder is None:
            parser.error("--decoder is needed to make edits")
        entries = [e for path in chosen.manifests for e in read_manifest(path, chosen.split)]
        photos = drawn(entries, chosen.sources)
        table = Table(chosen.scores, chosen.methods)
        decoder = TinyAutoencoder.from_folder(chosen.decoder)
        for entry in photos[: chosen.photos]:
            judge(entry, photos, table, decoder, chosen.pixels)
    show(rows_of(chosen.scores))


def drawn(entries: list[Entry], sources: list[str] | None) -> list[Entry]:
    """Return photos in the order of a hash, one of every source before the second of any."""
    kept = [
        entry
        for entry in entries
        if entry.label is Label.REAL
        and entry.kind is None
        and (sources is None or entry.source in sources)
    ]
    kept.sort(key=lambda entry: hashlib.sha256(entry.path.name.encode()).digest())
    rank: dict[str, int] = defaultdict(int)
    order = []
    for number, entry in enumerate(kept):
        order.append((rank[entry.source or ""], number, entry))
        rank[entry.source or ""] += 1
    return [entry for _, _, entry in sorted(order, key=lambda place: place[:2])]


@dataclass(frozen=True)
class Row:
    """What some of the methods said of one picture together.

    Attributes:
        who: "all", "only" or "without" and a method.
        score: Clearness of the clearest of them; -1: all are silent.
        f1: Of what those above their thresholds mark; NaN for untouched photos.
    """

    source: str
    photo: str
    kind: str
    form: str
    who: str
    score: float
    f1: float


class Table:
    """Rows on disk, to which a picture's are added as soon as they are known."""

    def __init__(self, path: Path, methods: Sequence[str]) -> None:
        self._path, self._methods = path, tuple(methods)
        self._known = {(row.photo, row.kind, row.form) for row in rows_of(path)}
        if not path.exists():
            path.write_text(",".join(COLUMNS) + "\n")

    def knows(self, entry: Entry, kind: str, form: str) -> bool:
        return (str(entry.path), kind, form) in self._known

    def add(self, entry: Entry, kind: str, form: str, picture: Picture, truth: Mask | None) -> None:
        if "collage" in self._methods:
            picture = replace(picture, eyes=embedded())
        told = {name: METHODS[name].examine(picture) for name in self._methods}
        groups = {"all": list(told)}
        for name in told:
            groups[f"only {name}"] = [name]
            groups[f"without {name}"] = [other for other in told if other != name]
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            for who, names in groups.items():
                score, found = together({name: told[name] for name in names}, truth)
                place = (entry.source, entry.path, kind, form, who)
                writer.writerow([*place, round(score, 4), round(found, 4)])


def together(told: Mapping[str, Outcome], truth: Mask | None) -> tuple[float, float]:
    """Return the greatest clearness, and F1 of what is above one."""
    clear = {
        name: METHODS[name].clearness(said)
        for name, said in told.items()
        if isinstance(said, Finding)
    }
    if truth is None:
        return max(clear.values(), default=SILENT), np.nan
    shown = {n: said for n, said in told.items() if isinstance(said, Finding) and clear[n] > 1}
    marked = marks_of(shown)
    marked = np.zeros(truth.shape) if marked is None else marked
    return max(clear.values(), default=SILENT), f1(marked, truth)


def rows_of(path: Path) -> list[Row]:
    return [
        Row(source, photo, kind, form, who, float(score), float(found))
        for source, photo, kind, form, who, score, found in lines_of(path, COLUMNS)
    ]


def judge(
    entry: Entry, photos: list[Entry], table: Table, decoder: TinyAutoencoder, pixels: int
) -> None:
    """Judge a photo and its edits in every form."""
    if all(table.knows(entry, kind, form) for kind in KINDS for form in FORMS):
        return
    try:
        image = cut(decode(entry.path).image, pixels)
    except UndecodableImageError:
        return
    if min(image.shape[:2]) < SMALLEST_PX:
        return
    for kind, made, truth in edits(entry, image, photos, decoder, pixels):
        for form in FORMS:
            if not table.knows(entry, kind, form):
                table.add(entry, kind, form, in_form(made, form), truth_in(truth, form))


def edits(
    entry: Entry, image: Image, photos: list[Entry], decoder: TinyAutoencoder, pixels: int
) -> Iterator[tuple[str, Image, Mask | None]]:
    """Yield the photo and its edits, by kind, with what was edited."""
    seed = zlib.crc32(entry.path.name.encode())
    donor = donor_for(entry, photos, 4 * pixels)
    pieces = Pieces(sides=_SIDES)
    yield KINDS[0], image, None
    ways: tuple[Manipulation, ...] = (
        CopyMove(pieces),
        Splicing(donor, pieces=pieces, sides=_SIDES),
        TwinPaste(round_trip(image, decoder), Regions(area=AREA)),
    )
    for kind, edit in zip(KINDS[1:], ways, strict=True):
        made = edit(image, np.random.default_rng(seed))
        yield kind, made.image, made.edited


def donor_for(
    entry: Entry, photos: list[Entry], pixels: int
) -> Callable[[np.random.Generator], Donor]:
    """Return what draws a photo of another source to take pieces from, cut to so many pixels."""
    others = [other for other in photos if other.source != entry.source]

    def donor(rng: np.random.Generator) -> Donor:
        while True:
            other = decode(others[int(rng.integers(len(others)))].path).image
            if min(other.shape[:2]) >= SMALLEST_PX:
                return Donor(cut(other, pixels))

    return donor


def show(rows: list[Row]) -> None:
    """Print a table for all methods together, and what each is worth."""
    by_who: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_who[row.who].append(row)
    for who, some in by_who.items():
        print(f"\n{who}\n| kind | form | n | AUROC | called edited | F1 | F1 of what is found |")
        print("| --- | --- | ---: | --- | ---: | --- | ---: |")
        for form in FORMS:
            _show_form(form, [row for row in some if row.form == form])


def _show_form(form: str, rows: list[Row]) -> None:
    reals = np.sort([row.score for row in rows if row.kind == KINDS[0]])[::-1]
    if not len(reals):
        return
    silent = percent(float((reals == SILENT).mean()), 0)
    called = percent(float((reals > 1).mean()), 1)
    print(f"| untouched, silent about {silent} | {form} | {len(reals)} | | {called} | | |")
    for kind in KINDS[1:]:
        some = [row for row in rows if row.kind == kind]
        if not some:
            continue
        scores = np.array([row.score for row in some])
        area, marked = auroc_against(reals, scores), mean(np.array([row.f1 for row in some]))
        found = [row.f1 for row in some if row.score > 1]
        print(
            f"| {kind} | {form} | {len(some)} | {area.value:.2f} [{area.low:.2f}, {area.high:.2f}]"
            f" | {percent(float((scores > 1).mean()), 0)}"
            f" | {marked.value:.2f} [{marked.low:.2f}, {marked.high:.2f}]"
            f" | {np.mean(found) if found else np.nan:.2f} |"
        )


if __name__ == "__main__":
    main()
