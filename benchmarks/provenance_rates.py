"""How often the finding "saved as JPEG before" is right, and what reading provenance costs.

    python benchmarks/provenance_rates.py MANIFEST --split dev

The truth is made here: each real photo is reduced by half, which wipes out what it was before, and saved once or twice.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from gammascope.data.manifest import read_manifest
from gammascope.imaging.codecs import Encoding, Subsampling, encode, reencode, rescale
from gammascope.imaging.decode import decode
from gammascope.imaging.provenance import provenance_of
from gammascope.imaging.provenance.jpeg_saves import GAIN_FROM, EarlierSave, earlier_save
from gammascope.report import percent
from gammascope.sample import Image, Label

QUALITIES = (60, 70, 75, 80, 85, 90, 92, 95, 98)
LARGEST_PX = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--most", type=int, default=60, help="photos of one source")
    arguments = parser.parse_args()
    by_source = defaultdict(list)
    for entry in read_manifest(arguments.manifest, arguments.split):
        if entry.label is Label.REAL:
            by_source[entry.source].append(entry.path)
    rng = np.random.default_rng(0)
    found: dict[str, list[bool]] = defaultdict(list)
    right, seconds, megapixels = [], [], []
    for source, paths in by_source.items():
        for index in rng.permutation(len(paths))[: arguments.most]:
            path = paths[index]
            start = time.process_time()
            items = provenance_of(path)
            seconds.append(time.process_time() - start)
            megapixels.append(np.prod(PIL.Image.open(path).size) / 1e6)
            again = any(item.name == "provenance:double_jpeg" for item in items)
            found[f"as it is, {source}"].append(again)
            photo = rescale(decode(path).image, 0.5, "lanczos")[:LARGEST_PX, :LARGEST_PX]
            for kind, first, second, file in _made(np.ascontiguousarray(photo), rng):
                earlier = earlier_save(file)
                hit = earlier is not None and earlier.gain >= GAIN_FROM
                found[kind].append(hit)
                if hit and first and earlier is not None:
                    right.append(abs(earlier.quality - first) <= 2)
                if not first and hit:
                    print(f"false alarm: {path.name} at {second}: {_said(earlier)}")
    for kind, hits in found.items():
        print(f"{kind}: {sum(hits)} of {len(hits)} ({percent(float(np.mean(hits)), 1)})")
    print(
        f"earlier quality within 2 where found: {percent(float(np.mean(right)), 1)} of {len(right)}"
    )
    print(
        f"CPU ms per file: median {1000 * np.median(seconds):.0f}, p95 {1000 * np.quantile(seconds, 0.95):.0f}"
    )
    print(f"megapixels: median {np.median(megapixels):.2f}, largest {max(megapixels):.1f}")


def _made(photo: Image, rng: np.random.Generator) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield kind, first and second quality (0: none), and the file."""
    for _ in range(4):
        second = int(rng.choice(QUALITIES))
        subsampling: Subsampling = "4:2:0" if rng.random() < 0.5 else "4:4:4"
        yield "saved once", 0, second, encode(photo, Encoding("jpeg", second, subsampling))
        first = int(
            rng.choice([quality for quality in (50, *QUALITIES) if abs(quality - second) > 2])
        )
        once = reencode(photo, Encoding("jpeg", first, subsampling))
        kind = "saved again finer" if first < second else "saved again coarser"
        yield kind, first, second, encode(once, Encoding("jpeg", second, subsampling))
    second = int(rng.choice(QUALITIES))
    once = reencode(photo, Encoding("jpeg", second))
    yield "saved again at the same quality", second, second, encode(once, Encoding("jpeg", second))


def _said(earlier: EarlierSave | None) -> str:
    return f"quality {earlier.quality}, gain {earlier.gain:.4f}" if earlier else ""


if __name__ == "__main__":
    main()
