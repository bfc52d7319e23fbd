"""Training views from shards fetched through a small cache, beside the same pictures as files and as local shards.

    python benchmarks/streaming_speed.py [--shards 16] [--pictures 32] [--open 2] [--window 64] [--views 512]
                                         [--repeats 5] [--json FILE]

Pictures are crops of scikit-image's photos, so anyone gets the same; they are decoded for each view (nothing is kept in
memory), as with a set larger than it. The "store" is a folder read through fsspec: the price of the network is not in
it, that of copying, removing and opening shards is. All three take turns, in one process; of every figure the median of
the repeats is shown.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import skimage.data
from scan_speed import middle, repeated

from gammascope.data.batches import Draws
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.data.windows import ShardCache, Windows
from gammascope.sample import Entry, Label

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
TURNS = 8
CACHE_BYTES = 10**9


def write_pictures(root: Path, shards: int, pictures: int) -> None:
    """Write the same pictures as files and as shards: half of the shards hold photos, half stand for generated ones."""
    photos = [getattr(skimage.data, name)() for name in PHOTOS]
    rng = np.random.default_rng(0)
    for shard in range(shards):
        folder = root / "files" / f"{shard:03}"
        folder.mkdir(parents=True)
        (root / "store").mkdir(exist_ok=True)
        with tarfile.open(root / "store" / f"{shard:03}.tar", "w") as archive:
            for number in range(pictures):
                photo = photos[number % len(photos)]
                top, left = (int(rng.integers(extent - 280)) for extent in photo.shape[:2])
                file = io.BytesIO()
                crop = photo[top : top + 280, left : left + 280]
                PIL.Image.fromarray(crop).save(file, "jpeg", quality=92)
                (folder / f"{number}.jpg").write_bytes(file.getvalue())
                archive.add(folder / f"{number}.jpg", f"{number}.jpg")


def entries(root: Path, shards: int, pictures: int, suffix: str) -> list[Entry]:
    return [
        Entry(root / f"{shard:03}{suffix}" / f"{number}.jpg", Label(shard % 2), source="photos")
        for shard in range(shards)
        for number in range(pictures)
    ]


def drawn(views: Draws, numbers: Sequence[int]) -> tuple[float, float]:
    """Draw views; return the seconds of the processor and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    for number in numbers:
        views[number]
    return time.process_time() - cpu, time.perf_counter() - clock


def measured(chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_pictures(root, chosen.shards, chosen.pictures)
        make = partial(Stream, pictures=Pictures(0), size=160)
        size = chosen.shards, chosen.pictures
        cache = ShardCache(str(root / "store"), root / "cache", CACHE_BYTES)
        far = [cache.entry(entry, root) for entry in entries(root, *size, ".tar")]
        how = {"shards": chosen.open, "views": chosen.window, "seed": 0}
        held = max(path.stat().st_size for path in (root / "store").iterdir())
        cache.budget_bytes = 2 * (chosen.open + 1) * held
        ways: dict[str, Draws] = {
            "files": make(entries(root / "files", *size, "")),
            "shards": make(entries(root / "store", *size, ".tar")),
            "streamed": Windows(far, cache, make, **how),
        }
        spent = {name: [0.0, 0.0] for name in ways}
        for turn in range(TURNS):
            numbers = range(turn * chosen.views // TURNS, (turn + 1) * chosen.views // TURNS)
            for name, views in ways.items():
                spent[name] = [
                    a + b for a, b in zip(spent[name], drawn(views, numbers), strict=True)
                ]
    return {
        name: {"per_cpu_second": chosen.views / cpu, "per_second": chosen.views / clock}
        for name, (cpu, clock) in spent.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=32, help="in each")
    parser.add_argument("--open", type=int, default=2, help="of each kind, at a time")
    parser.add_argument(
        "--window", type=int, default=64, help="views, after which one of each kind is exchanged"
    )
    parser.add_argument("--views", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found: dict[str, dict[str, float]] = middle(repeated(measured, chosen))
    files = found["files"]["per_cpu_second"]
    for name, rate in found.items():
        print(
            f"{name:9} {rate['per_cpu_second']:7.1f} a CPU-second ({rate['per_cpu_second'] / files:.2f} of files), "
            f"{rate['per_second']:7.1f} a second"
        )
    print(f"medians of {chosen.repeats} runs")
    if chosen.json:
        settings = {name: value for name, value in vars(chosen).items() if name != "json"}
        told = {
            f"{name} / files": found[name]["per_cpu_second"] / files
            for name in ("shards", "streamed")
        }
        result = settings | {"found": found, "ratios": told}
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
