"""What scans find of edits made in photos of people's websites, and how often they call such photos edited untouched.

    python benchmarks/edits_found.py SCORES.csv LISTED/manifest.csv [--edited 90] [--methods quantisation consistency]

The manifest is that of ``listed_pictures.py``: photos chosen as hard, of whose owners only those count here that no
network learnt from; with ``--others``, all count. Each is judged as its file is. The first few, cut to 0.15 to 1.2
megapixels by a seed that is the name, are judged untouched and after an edit of each kind of ``fit_parts.py``, in five
forms. A second call goes on from the table. F1 is that of what the clearest method marks, 0 where it is not called
edited. A method that is silent counts as its lowest score. ``collage`` sees all of a picture, with ``--middle``, as by
default, its middle square first. Intervals: 95 %, Wilson's over photos; shares by owner weigh each owner the same.

Last come the curves by which an answer becomes a probability (``fit_curve``), fitted to all of this: clearness, chance.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from edits_bed import SMALLEST_PX, drawn
from fit_consistency import is_learnt, owner_of
from fit_parts import AROUND, KINDS, all_but_a_thing, edits

from forensics import cut, f1, in_form, lines_of, truth_in
from gammascope.data.manifest import read_manifest
from gammascope.detection.eyes import embedded
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.fitting import fit_curve
from gammascope.evaluation.intervals import wilson
from gammascope.evaluation.metrics import auroc
from gammascope.forensics import METHODS, UNCERTAIN_FROM, Finding, Picture, collage
from gammascope.imaging import views
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Mask

FILE, UNTOUCHED, TOGETHER = "file", "untouched", "together"
EDITS = (UNTOUCHED, *KINDS, AROUND)
FORMS = ("without loss", "JPEG 95", "JPEG 90", "JPEG 80", "halved, JPEG 90")
PIXELS = (150_000, 1_200_000)
COLUMNS = ("photo", "owner", "edit", "form", "method", "score", "f1")


@dataclass(frozen=True)
class Row:
    """What a method said of a picture; score NaN: it was silent; f1: of the part that it would mark."""

    photo: str
    owner: str
    edit: str
    form: str
    method: str
    score: float
    f1: float

    @property
    def clearness(self) -> float:
        """0 up; above 1 it is called edited."""
        if np.isnan(self.score):
            return 0.0
        return METHODS[self.method].clearness_of(self.score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("manifests", type=Path, nargs="*")
    parser.add_argument("--edited", type=int, default=90, help="photos that are edited")
    parser.add_argument("--methods", nargs="+", default=["quantisation", "consistency"])
    parser.add_argument(
        "--middle", action="store_true", help="collage sees the middle square first"
    )
    parser.add_argument(
        "--websites", type=int, help="only people's, at most so many photos of each"
    )
    parser.add_argument("--others", action="store_true", help="nothing was learnt from any of them")
    chosen = parser.parse_args()
    entries = [e for path in chosen.manifests for e in read_manifest(path, "train")]
    photos = drawn([e for e in entries if chosen.others or not is_learnt(e)], None)
    if chosen.websites:
        photos = of_websites(photos, chosen.websites)
    table = Table(chosen.scores, chosen.methods, middle=chosen.middle)
    for number, entry in enumerate(photos):
        judge(entry, photos, table, with_edits=number < chosen.edited)
    show(rows_of(chosen.scores))


def of_websites(photos: Sequence[Entry], most: int) -> list[Entry]:
    """Return the first photos of each owner of a website."""
    had: Counter[str] = Counter()
    kept = []
    for entry in photos:
        if f"{entry.source}".startswith("web-") and had[owner_of(entry)] < most:
            had[owner_of(entry)] += 1
            kept.append(entry)
    return kept


class Table:
    """Rows on disk, to which a picture's are added as soon as they are known."""

    def __init__(self, path: Path, methods: Sequence[str], *, middle: bool) -> None:
        self._path, self._methods, self._middle = path, methods, middle
        self._known = {(row.photo, row.edit, row.form, row.method) for row in rows_of(path)}
        if not path.exists():
            path.write_text(",".join(COLUMNS) + "\n")

    def lacks(self, name: str, edit: str, form: str) -> list[str]:
        """Return the methods that a picture has not been judged by."""
        return [m for m in self._methods if (name, edit, form, m) not in self._known]

    def add(self, entry: Entry, edit: str, form: str, picture: Picture, truth: Mask | None) -> None:
        """Judge a picture."""
        if "collage" in self._methods:
            picture = seen(picture, middle=self._middle)
        with self._path.open("a", newline="") as file:
            for method in self.lacks(entry.path.name, edit, form):
                found = METHODS[method].examine(picture)
                said = [np.nan, np.nan]
                if isinstance(found, Finding):
                    said = [found.score, np.nan if truth is None else f1(found.map(), truth)]
                told = (f"{value:.4f}" for value in said)
                csv.writer(file).writerow(
                    [entry.path.name, owner_of(entry), edit, form, method, *told]
                )


def seen(picture: Picture, *, middle: bool) -> Picture:
    """Add what the embedded tower sees of all of a picture, or of its middle square first, as by default."""
    eyes = embedded()
    if not middle or eyes is None:
        return replace(picture, eyes=eyes)
    if min(picture.size) <= collage.SIDE_PX:
        return picture  # The detector has no overview of it, and nobody looks again.
    square = views.reduced(picture.image, views.middle_square(picture.size), collage.SIDE_PX)
    return replace(picture, eyes=eyes, middle=eyes(square[None])[0])


def rows_of(path: Path) -> list[Row]:
    return [
        Row(photo, owner, edit, form, method, float(score), float(found))
        for photo, owner, edit, form, method, score, found in lines_of(path, COLUMNS)
    ]


def judge(entry: Entry, photos: list[Entry], table: Table, *, with_edits: bool) -> None:
    """Judge a photo as its file is, and after edits."""
    name = entry.path.name
    places = [(edit, form) for edit in EDITS for form in FORMS] if with_edits else []
    if not any(table.lacks(name, *place) for place in [(UNTOUCHED, FILE), *places]):
        return
    try:
        image = decode(entry.path).image
    except UndecodableImageError:
        return
    if min(image.shape[:2]) < SMALLEST_PX:
        return
    table.add(entry, UNTOUCHED, FILE, Picture(image, entry.path.read_bytes()), None)
    if not with_edits:
        return
    rng = np.random.default_rng(zlib.crc32(name.encode()) + 10)
    image = cut(image, int(rng.uniform(*PIXELS)))
    if min(image.shape[:2]) < SMALLEST_PX:
        return
    pictures = [(UNTOUCHED, image, None), *edits(entry, image, photos, rng, len(KINDS))]
    pictures.append((AROUND, *all_but_a_thing(entry, image, photos, rng)))
    for edit, made, truth in pictures:
        for form in FORMS:
            if table.lacks(name, edit, form):
                table.add(entry, edit, form, in_form(made, form), truth_in(truth, form))


def show(rows: list[Row]) -> None:
    """Print false alarms, what is found, and the curves."""
    methods = list(dict.fromkeys(row.method for row in rows))
    by_picture: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_picture[row.photo, row.owner, row.edit, row.form].append(row)
    clearest = [max(some, key=lambda row: row.clearness) for some in by_picture.values()]
    ways = {method: [row for row in rows if row.method == method] for method in methods}
    ways[TOGETHER] = clearest
    print("| photos as they are | called edited | by owner | uncertain or more | silent |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way, some in ways.items():
        photos = [row for row in some if row.form == FILE]
        clear = np.array([row.clearness for row in photos])
        owners = [row.owner for row in photos]
        each = [
            np.mean([c > 1 for c, o in zip(clear, owners, strict=True) if o == owner])
            for owner in set(owners)
        ]
        edited, doubt = (wilson(int((clear > t).sum()), len(clear)) for t in (1, UNCERTAIN_FROM))
        silent = np.mean([np.isnan(row.score) for row in photos])
        print(
            f"| {way}, {len(photos)} of {len(each)} owners | {int((clear > 1).sum())}, {edited} | "
            f"{np.mean(each):.4f} | {doubt} | {silent:.2f} |"
        )
    print(f"\n| found: called edited, AUROC, F1 | {' | '.join(FORMS)} |")
    print(f"| --- | {' | '.join('---' for _ in FORMS)} |")
    for way, some in ways.items():
        for edit in EDITS:
            told = (found_in([row for row in some if row.form == form], edit) for form in FORMS)
            print(f"| {way}, {edit} | {' | '.join(told)} |")
    for way in (methods[0], TOGETHER):
        spoken = [row for row in ways[way] if not np.isnan(row.score)]
        clear = np.array([row.clearness for row in spoken])
        labels = np.array([row.edit != UNTOUCHED for row in spoken])
        if not labels.any():
            continue
        knots = fit_curve(clear.astype(np.float32), labels.astype(np.int64))
        curve = ", ".join(f"{at:.2f}: {1 / (1 + np.exp(-odds)):.2f}" for at, odds in knots)
        print(f"\n{way}, clearness: chance: {curve}")


def found_in(rows: list[Row], edit: str) -> str:
    """Tell what is found of one kind of edit, in one form."""
    clear = {
        kind: [row.clearness for row in rows if row.edit == kind] for kind in (UNTOUCHED, edit)
    }
    found = np.array(clear[edit]) > 1
    if edit == UNTOUCHED or not found.size:
        return f"{found.mean():.3f} of {found.size}" if found.size else "-"
    scores = np.array(clear[edit] + clear[UNTOUCHED], np.float32)
    labels = np.array([1] * len(clear[edit]) + [0] * len(clear[UNTOUCHED]))
    marked = [row.f1 if row.clearness > 1 else 0.0 for row in rows if row.edit == edit]
    return f"{found.mean():.2f}, {auroc(scores, labels):.2f}, {np.nanmean(marked):.2f}"


if __name__ == "__main__":
    main()
