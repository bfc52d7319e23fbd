"""How well the forensic methods tell edits of photos from the photos, what they mark, and what they cost.

    python benchmarks/forensics.py SCORES.csv MANIFEST [MANIFEST ...] [--photos 40] [--edited 2] [--pixels 600000]

Photos of every source are judged untouched, so that false alarms are counted: as their files are (cut to 1.5 megapixels
from the first block on), and, cut further, without loss, saved as JPEG 90, and halved and saved as JPEG 90. The first
few of every source are judged in these three forms after an edit, too: a copy as it is, a copy as our training makes
them, a splice from another source's photo, a classical fill. Scores are appended to a table, which a second
call goes on from: rows that are there are not made again. A picture about which a method is silent counts as its lowest
score. The cost is CPU time of the method alone.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.localisation import pixel_auroc
from gammascope.evaluation.metrics import auroc_against
from gammascope.forensics import METHODS, Finding, Picture
from gammascope.forensics.base import StoredLuma
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding, encode
from gammascope.imaging.decode import Decoded, decode
from gammascope.manipulation import CopyMove, Inpainting, Splicing
from gammascope.manipulation.base import Manipulation
from gammascope.manipulation.inpainting import NavierStokes, Telea
from gammascope.manipulation.regions import Pieces, Poses, Regions
from gammascope.manipulation.splicing import Donor
from gammascope.report import percent
from gammascope.sample import Entry, Image, Label, Mask

_SMALLEST_PX = 256
_LARGEST_FILE = 1_500_000  # pixels of an untouched photo
_SILENT = -1.0
_EVERY = 3  # of the pixels along each side, for pixel figures

FORMS = ("without loss", "JPEG 90", "halved, JPEG 90")
EDITS = ("photo", "copy as it is", "copy, posed", "splice", "fill")
COLUMNS = ("source", "photo", "edit", "form", "method", "score", "auroc", "f1", "ms", "pixels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--split", default="train")
    parser.add_argument("--photos", type=int, default=40, help="files of a source")
    parser.add_argument("--edited", type=int, default=2, help="photos of a source that are edited")
    parser.add_argument("--pixels", type=int, default=600_000)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    chosen = parser.parse_args()
    if chosen.manifests:
        entries = [e for path in chosen.manifests for e in read_manifest(path, chosen.split)]
        photos = drawn(entries, np.random.default_rng(0))
        table = Table(chosen.scores, chosen.methods)
        for rank in range(chosen.photos):
            for some in photos.values():
                if rank < len(some):
                    judge(
                        some[rank], table, None if rank >= chosen.edited else photos, chosen.pixels
                    )
    show(rows_of(chosen.scores))


@dataclass(frozen=True)
class Row:
    """What a method said of one picture."""

    source: str
    photo: str
    edit: str
    form: str
    method: str
    score: float
    auroc: float
    f1: float
    ms: float
    pixels: int


class Table:
    """Scores on disk, to which a picture's are added as soon as they are known."""

    def __init__(self, path: Path, methods: Iterable[str]) -> None:
        self._path, self._methods = path, tuple(methods)
        self._known = {(r.photo, r.edit, r.form, r.method) for r in rows_of(path)}
        if not path.exists():
            path.write_text(",".join(COLUMNS) + "\n")

    def missing(self, photo: str, edit: str, form: str) -> list[str]:
        """Return the methods that have not judged a picture."""
        return [m for m in self._methods if (photo, edit, form, m) not in self._known]

    def add(
        self,
        entry: Entry,
        edit: str,
        form: str,
        picture: Callable[[], Picture | None],
        truth: Mask | None = None,
    ) -> None:
        """Judge a picture, which is made only if it is needed, with the methods that have not done so."""
        methods = self.missing(str(entry.path), edit, form)
        made = picture() if methods else None
        if made is None:
            return
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            for name in methods:
                said = _judged(name, made, truth)
                writer.writerow([entry.source, entry.path, edit, form, name, *said])


def _judged(
    name: str, picture: Picture, truth: Mask | None
) -> tuple[float, float, float, float, int]:
    started = time.process_time()
    found = METHODS[name].examine(picture)
    spent = 1000 * (time.process_time() - started)
    score, area, marked = _SILENT, np.nan, np.nan
    if isinstance(found, Finding):
        score = found.score
        if truth is not None:
            shown, where = found.map()[::_EVERY, ::_EVERY], truth[::_EVERY, ::_EVERY]
            area, marked = pixel_auroc(shown, where), f1(shown, where)
    return (
        round(score, 4),
        round(area, 4),
        round(marked, 4),
        round(spent, 1),
        picture.image[..., 0].size,
    )


def lines_of(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return the whole lines of a table on disk; one that was cut off is made again."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [line for line in list(csv.reader(file))[1:] if len(line) == len(columns)]


def rows_of(path: Path) -> list[Row]:
    return [
        Row(
            source,
            photo,
            edit,
            form,
            method,
            float(score),
            float(area),
            float(found),
            float(ms),
            int(px),
        )
        for source, photo, edit, form, method, score, area, found, ms, px in lines_of(path, COLUMNS)
    ]


def judge(entry: Entry, table: Table, others: dict[str, list[Entry]] | None, pixels: int) -> None:
    """Judge a photo's file and, if there are others to splice from, its edits."""
    try:
        table.add(entry, "photo", "file", lambda: as_filed(entry))
        asked = ("photo",) if others is None else EDITS
        if not any(table.missing(str(entry.path), edit, form) for edit in asked for form in FORMS):
            return
        image = cut(decode(entry.path).image, pixels)
        for edit, made, truth in edits(entry, image, others or {}):
            for form in FORMS:
                there = truth_in(truth, form)
                table.add(entry, edit, form, partial(in_form, made, form), there)
    except UndecodableImageError:
        return


def as_filed(entry: Entry) -> Picture | None:
    """Return a photo as its file is, cut if it is large; None for a large one that would have to be turned."""
    decoded = decode(entry.path)
    picture = Picture(decoded.image, decoded.content)
    if decoded.image[..., 0].size <= _LARGEST_FILE:
        return picture
    image, stored = cut(decoded.image, _LARGEST_FILE), picture.stored
    if stored is not None and stored.orientation != 1:
        return None
    small = Picture(image)
    if stored is not None:
        kept = stored.pixels[: image.shape[0], : image.shape[1]]
        small.__dict__["stored"] = StoredLuma(kept, stored.steps, 1)  # What is cached is not made.
    return small


def in_form(image: Image, form: str) -> Picture:
    """Save a picture without loss, or, halved or not, as JPEG of the quality that the form ends with."""
    if form == "without loss":
        return Picture(image)
    if form.startswith("halved"):
        image = codecs.rescale(image, 0.5)
    return saved(image, int(form.rsplit(maxsplit=1)[-1]))


def saved(image: Image, quality: int) -> Picture:
    """Save as JPEG."""
    data = encode(image, Encoding("jpeg", quality))
    return Picture(decode(data).image, data)


def truth_in(truth: Mask | None, form: str) -> Mask | None:
    """Return where a picture in some form was edited."""
    return truth if truth is None or not form.startswith("halved") else halved(truth)


def halved(truth: Mask) -> Mask:
    """Bring a mask to the frame that ``codecs.rescale`` makes of its picture."""
    shrunk = codecs.rescale(np.repeat(truth[..., None], 3, 2).astype(np.uint8) * 255, 0.5)
    return np.asarray(shrunk[..., 0] > 127)


def drawn(entries: list[Entry], rng: np.random.Generator) -> dict[str, list[Entry]]:
    """Return the photos of every source that are large enough to be edited, in random order."""
    by_source: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.label is Label.REAL and entry.kind is None:
            by_source[entry.source or ""].append(entry)
    return {
        source: [some[number] for number in rng.permutation(len(some))]
        for source, some in sorted(by_source.items())
    }


def cut(image: Image, pixels: int) -> Image:
    """Keep a part from the first block on, in the shape of the whole."""
    share = min(1.0, (pixels / (image.shape[0] * image.shape[1])) ** 0.5)
    height, width = (int(side * share) for side in image.shape[:2])
    return image[:height, :width].copy()


def edits(
    entry: Entry, image: Image, photos: dict[str, list[Entry]]
) -> Iterator[tuple[str, Image, Mask | None]]:
    """Yield the photo and its edits, by name, with their masks."""
    if min(image.shape[:2]) < _SMALLEST_PX:
        return
    yield EDITS[0], image, None
    if not photos:
        return
    number = sum(map(ord, entry.path.name))
    sources = [source for source in photos if source != entry.source]

    def donor(rng: np.random.Generator) -> Donor:
        while True:
            some = photos[sources[int(rng.integers(len(sources)))]]
            decoded: Decoded = decode(some[int(rng.integers(len(some)))].path)
            if min(decoded.image.shape[:2]) >= _SMALLEST_PX:
                return Donor(cut(decoded.image, _LARGEST_FILE))

    pieces = Pieces(sides=(0.1, 0.45))
    fill = Telea() if number % 2 else NavierStokes()
    ways: tuple[Manipulation, ...] = (
        CopyMove(pieces, Poses(exact_share=1.0)),
        CopyMove(pieces),
        Splicing(donor, pieces=pieces, sides=(0.1, 0.45)),
        Inpainting(fill, regions=Regions(area=(0.01, 0.2))),
    )
    for name, edit in zip(EDITS[1:], ways, strict=True):
        made = edit(image, np.random.default_rng(number))
        yield name, made.image, made.edited


def f1(shown: np.ndarray, truth: Mask) -> float:
    marked = shown > 0.5  # NaN is not
    return float(2 * (marked & truth).sum() / max(1, marked.sum() + truth.sum()))


def show(rows: list[Row]) -> None:
    """Print for every method its false alarms, and what it finds of each kind of edit."""
    for method in METHODS:
        mine = [row for row in rows if row.method == method]
        if not mine:
            continue
        cost = sum(row.ms for row in mine) / sum(row.pixels for row in mine) * 1e6
        print(f"{method}: {cost:.0f} ms/MP")
        for form in ("file", *FORMS):
            _show_form(METHODS[method].threshold, form, [row for row in mine if row.form == form])


def _show_form(threshold: float, form: str, rows: list[Row]) -> None:
    photos = [row for row in rows if row.edit == "photo"]
    if not photos:
        return
    reals = np.sort([row.score for row in photos])[::-1]
    top = ", ".join(f"{value:.2f}" for value in reals[:5])
    print(
        f"  {form}: {len(reals)} photos of {len({row.source for row in photos})} sources,"
        f" silent about {percent(float(np.mean(reals == _SILENT)), 0)}, above {threshold}:"
        f" {percent(float(np.mean(reals > threshold)), 2)}; highest {top}"
    )
    by_edit: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_edit[row.edit].append(row)
    for edit, some in by_edit.items():
        if edit == "photo":
            continue
        fakes = np.array([row.score for row in some])
        value = auroc_against(reals, fakes)
        spoken = [row for row in some if row.score != _SILENT] or some
        print(
            f"    {edit:14} AUROC {value.value:.2f} [{value.low:.2f}, {value.high:.2f}],"
            f" found {np.mean(fakes > threshold):.2f};"
            f" where it speaks: pixel AUROC {np.nanmean([r.auroc for r in spoken]):.2f},"
            f" F1 {np.nanmean([r.f1 for r in spoken]):.2f}"
        )


if __name__ == "__main__":
    main()
