"""How well the forensic methods tell edits of photos from the photos, what they mark, and what they cost.

    python benchmarks/forensics.py MANIFEST [MANIFEST ...] [--split train] [--per-source 4] [--pixels 600000]

Every photo is cut to the pixels from its first block on, edited in four ways (a copy as it is, a copy as our training
makes them, a splice from another source's photo, a classical fill), and judged untouched and edited, both without loss
and saved as JPEG 90. A photo about which a method is silent counts as its lowest score. Thresholds are the scores that
one photo in a hundred reaches. The cost is CPU time of the method alone.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gammascope.data.manifest import read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.localisation import pixel_auroc
from gammascope.evaluation.metrics import auroc_against
from gammascope.forensics import METHODS, Described, Finding, Picture
from gammascope.imaging.codecs import Encoding, encode
from gammascope.imaging.decode import decode
from gammascope.manipulation import CopyMove, Inpainting, Splicing
from gammascope.manipulation.base import Manipulation
from gammascope.manipulation.inpainting import NavierStokes, Telea
from gammascope.manipulation.placement import Poses
from gammascope.manipulation.regions import Pieces, Regions
from gammascope.manipulation.splicing import Donor
from gammascope.report import percent
from gammascope.sample import Entry, Image, Label, Mask

_SMALLEST_PX = 256
_SILENT = -1.0
_EVERY = 3  # of the pixels along each side, for pixel figures

FORMS = {"without loss": None, "JPEG 90": Encoding("jpeg", 90)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--split", default="train")
    parser.add_argument("--per-source", type=int, default=4)
    parser.add_argument("--pixels", type=int, default=600_000)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    entries = [e for path in chosen.manifests for e in read_manifest(path, chosen.split)]
    photos = drawn(entries, chosen.per_source, chosen.pixels, np.random.default_rng(chosen.seed))
    print(
        f"{len(photos)} photos of {len({entry.source for entry, _ in photos})} sources", flush=True
    )
    tallies = {(name, form): Tally() for name in chosen.methods for form in FORMS}
    for number in range(len(photos)):
        for edit, image, truth in edits(number, photos):
            for form, encoding in FORMS.items():
                data = encode(image, encoding) if encoding else b""
                picture = Picture(decode(data).image if data else image, data)
                for name in chosen.methods:
                    tallies[name, form].add(METHODS[name], edit, picture, truth)
    for (name, form), tally in tallies.items():
        tally.show(f"{name}, {form}")


@dataclass
class Tally:
    """What one method said about pictures of one form."""

    scores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    areas: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    seconds: float = 0.0
    megapixels: float = 0.0

    def add(self, method: Described, edit: str, picture: Picture, truth: Mask | None) -> None:
        started = time.process_time()
        found = method.examine(picture)
        self.seconds += time.process_time() - started
        self.megapixels += picture.size[0] * picture.size[1] / 1e6
        self.scores[edit].append(found.score if isinstance(found, Finding) else _SILENT)
        if isinstance(found, Finding) and truth is not None:
            shown, where = found.map()[::_EVERY, ::_EVERY], truth[::_EVERY, ::_EVERY]
            self.areas[edit].append((pixel_auroc(shown, where), f1(shown, where)))

    def show(self, title: str) -> None:
        reals = np.sort(np.array(self.scores["photo"]))[::-1]
        threshold = float(np.quantile(reals, 0.99, method="higher"))
        print(
            f"{title}: {1000 * self.seconds / self.megapixels:.0f} ms/MP,"
            f" silent about {percent(float(np.mean(reals == _SILENT)), 0)} of photos,"
            f" 1 % of photos reach {threshold:.3f}"
        )
        for edit, some in self.scores.items():
            if edit == "photo":
                continue
            fakes = np.array(some)
            value = auroc_against(reals, fakes)
            pixel, marked = np.nanmean(self.areas[edit] or [(np.nan, np.nan)], axis=0)
            print(
                f"    {edit:14} AUROC {value.value:.2f} [{value.low:.2f}, {value.high:.2f}],"
                f" found {np.mean(fakes > threshold):.2f};"
                f" where it speaks: pixel AUROC {pixel:.2f}, F1 {marked:.2f}"
            )


def drawn(
    entries: list[Entry], per_source: int, pixels: int, rng: np.random.Generator
) -> list[tuple[Entry, Image]]:
    """Draw photos of every source, and cut them."""
    by_source: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.label is Label.REAL and entry.kind is None:
            by_source[entry.source or ""].append(entry)
    photos = []
    for _, some in sorted(by_source.items()):
        kept = 0
        for number in rng.permutation(len(some)):
            if kept == per_source:
                break
            try:
                image = cut(decode(some[number].path).image, pixels)
            except UndecodableImageError:
                continue
            if min(image.shape[:2]) >= _SMALLEST_PX:
                photos.append((some[number], image))
                kept += 1
    return photos


def cut(image: Image, pixels: int) -> Image:
    """Keep a part from the first block on, in the shape of the whole."""
    share = min(1.0, (pixels / (image.shape[0] * image.shape[1])) ** 0.5)
    height, width = (int(side * share) for side in image.shape[:2])
    return image[:height, :width].copy()


def edits(
    number: int, photos: list[tuple[Entry, Image]]
) -> Iterator[tuple[str, Image, Mask | None]]:
    """Yield the photo and its edits, by name, with their masks."""
    entry, image = photos[number]
    yield "photo", image, None

    def donor(rng: np.random.Generator) -> Donor:
        others = [other for there, other in photos if there.source != entry.source]
        return Donor(others[int(rng.integers(len(others)))])

    pieces = Pieces(sides=(0.1, 0.45))
    ways: dict[str, Manipulation] = {
        "copy as it is": CopyMove(pieces, Poses(exact_share=1.0)),
        "copy, posed": CopyMove(pieces),
        "splice": Splicing(donor, pieces=pieces, sides=(0.1, 0.45)),
        "fill": Inpainting(
            Telea() if number % 2 else NavierStokes(), regions=Regions(area=(0.01, 0.2))
        ),
    }
    for name, edit in ways.items():
        made = edit(image, np.random.default_rng(number))
        yield name, made.image, made.edited


def f1(shown: np.ndarray, truth: Mask) -> float:
    marked = shown > 0.5  # NaN is not
    return float(2 * (marked & truth).sum() / max(1, marked.sum() + truth.sum()))


if __name__ == "__main__":
    main()
