"""Where the embedded detector is wrong, on pictures anybody may look at: one sheet for the model card.

    python benchmarks/failure_pictures.py --out docs/pictures/failures.jpg [--autoencoder TAEF2]

scikit-image's photos (public domain or CC0), as they are and as other files would be (half size, JPEG 75), copy-moves
and splices of them, and, with an autoencoder, their round trips. Of the false alarms and of the misses the worst twelve
are drawn, each with the answer that is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from gammascope.detection.pipeline import Besides, Pipeline
from gammascope.imaging import codecs
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.sample import Image

PHOTOS = (
    *("astronaut", "cat", "coffee", "rocket", "retina"),
    *("hubble_deep_field", "immunohistochemistry", "skin", "lily"),
)
CELL, MOST = 176, 12


def photos() -> Iterator[tuple[str, Image]]:
    import skimage.data

    for name in PHOTOS:
        try:
            pixels = getattr(skimage.data, name)()
        except (OSError, AttributeError, ModuleNotFoundError):
            continue  # some are downloaded, which a machine without network cannot do
        if pixels.ndim == 3 and pixels.shape[2] >= 3 and pixels.dtype == np.uint8:
            yield name.split("_")[0][:10], np.ascontiguousarray(pixels[:1024, :1024, :3])


def versions(image: Image) -> Iterator[tuple[str, Image]]:
    yield "", image
    yield ", half size", codecs.rescale(image, 0.5)
    yield ", JPEG 75", codecs.reencode(image, codecs.Encoding("jpeg", 75))


def _donor(image: Image, _: np.random.Generator) -> Donor:
    return Donor(image)


def cases(autoencoder: Path | None) -> Iterator[tuple[str, Image, str]]:
    """Yield a caption, an image and what it is: "" (a photo), "edited" or "generated"."""
    some = list(photos())
    for number, (name, image) in enumerate(some):
        rng = np.random.default_rng(number)
        for how, version in versions(image):
            yield name + how, version, ""
        yield f"{name}, copy-move", CopyMove()(image, rng).image, "edited"
        splice = Splicing(partial(_donor, some[number - 1][1]))
        yield f"{name}, splice", splice(image, rng).image, "edited"
        if autoencoder is not None:
            from gammascope.cli.making import generators
            from gammascope.generation.autoencoder import round_trip

            network = generators(str(autoencoder), None, None, None).autoencoder
            if network is not None:
                yield f"{name}, round trip", round_trip(image[:512, :512], network), "generated"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path)
    chosen = parser.parse_args()
    pipeline = Pipeline.load(besides=Besides(provenance=False))
    alarms, misses, count = [], [], 0
    for caption, image, what in cases(chosen.autoencoder):
        answers = pipeline.report(image).answers
        count += 1
        if not what:
            name = max(answers, key=lambda n: answers[n].probability)
            if answers[name].verdict != "no sign":
                alarms.append((answers[name].probability, f"{caption}: {name}", image))
        elif answers[what].verdict != "fake":
            misses.append((1 - answers[what].probability, f"{caption}: not {what}", image))
    rows = [sorted(found, key=lambda f: -f[0])[:MOST] for found in (alarms, misses)]
    columns = 6
    lines = [-(-len(row) // columns) for row in rows]
    sheet = PIL.Image.new("RGB", (columns * CELL, sum(lines) * (CELL + 34) + 2 * 26), "white")
    pen, top = PIL.ImageDraw.Draw(sheet), 0
    titles = (f"{len(alarms)} photos not called real", f"{len(misses)} fakes not called fake")
    for title, row, high in zip(titles, rows, lines, strict=True):
        pen.text((6, top + 6), f"{title} (of {count} pictures)", "black")
        top += 26
        for at, (wrong, caption, image) in enumerate(row):
            left, down = at % columns * CELL, top + at // columns * (CELL + 34)
            small = PIL.Image.fromarray(image)
            small.thumbnail((CELL - 10, CELL - 10))
            sheet.paste(small, (left + 5, down))
            text = f"{caption}\nprobability {wrong if 'not' not in caption else 1 - wrong:.2f}"
            pen.text((left + 5, down + CELL - 8), text, "black")
        top += high * (CELL + 34)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(chosen.out, quality=82)
    print(f"{len(alarms)} of the photos not called real, {len(misses)} fakes not called fake")


if __name__ == "__main__":
    main()
