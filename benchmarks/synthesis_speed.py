"""Training samples made on the fly, by kind: per second of a processor, and per second of the clock with N processes.

    python benchmarks/synthesis_speed.py [--size 160] [--samples 200] [--processes 2] [--repeats 5] [--json FILE]

Photos are scikit-image's, so anyone gets the same samples. "sample" is what training sees: a window is cut, aged,
manipulated, disturbed, re-encoded and cropped (``data.synthesis.Stream``). "inpainting" fills a region with a small
autoencoder (random weights: they cost what trained ones cost), and stands beside the autoencoder's own round trip. Of
every figure the median of the repeats is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import skimage.data
import torch
from scan_speed import middle, repeated

from gammascope.data.laws import Mixture
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.generation.autoencoder import AutoencoderFill, TinyAutoencoder, round_trip
from gammascope.manipulation.inpainting import Inpainting
from gammascope.sample import Entry, Label

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
KINDS = ("authentic", "copy_move", "spliced", "filled")
IN_MEMORY = 2**29


def write_photos(folder: Path) -> list[Entry]:
    entries = []
    for name in PHOTOS:
        path = folder / f"{name}.jpg"
        PIL.Image.fromarray(getattr(skimage.data, name)()).save(path, quality=92)
        entries.append(Entry(path, Label.REAL, split="train"))
    return entries


def stream_of(kind: str, folder: Path, size: int) -> Stream:
    """Return a stream of one kind; photos as they are come with as few others as it allows."""
    shares = dict.fromkeys((field.name for field in fields(Mixture)), 0.0) | {kind: 1.0}
    if kind == "authentic":
        shares["copy_move"] = 1e-9
    entries = [Entry(path, Label.REAL, split="train") for path in sorted(folder.glob("*.jpg"))]
    return Stream(entries, Pictures(IN_MEMORY), size, Mixture(**shares))


def drawn(kind: str, folder: Path, size: int, numbers: range) -> float:
    """Draw samples; return the processor's seconds, without those for reading the photos."""
    torch.set_num_threads(1)
    stream = stream_of(kind, folder, size)
    for entry in stream.photos.entries:
        stream.pictures.image(entry.path)
    begun = time.process_time()
    for number in numbers:
        stream[number]
    return time.process_time() - begun


def parallel(kind: str, folder: Path, size: int, samples: int, processes: int) -> float:
    """Draw samples in several processes; return the seconds of the clock from when all are running."""
    parts = [range(first, samples, processes) for first in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        work = partial(drawn, kind, folder, size)
        list(pool.map(work, [range(1)] * processes))
        begun = time.perf_counter()
        list(pool.map(work, parts))
        return time.perf_counter() - begun


def least(work: Callable[[], object], times: int) -> float:
    """Return the least seconds of the processor that some work took."""
    seconds = []
    for _ in range(times):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def inpainting_cost(size: int, times: int) -> dict[str, float]:
    """Return milliseconds of inpainting by an autoencoder, and of the autoencoder's round trip alone."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    autoencoder = TinyAutoencoder().eval()
    image = np.ascontiguousarray(skimage.data.astronaut()[:size, :size])
    inpaint = Inpainting(AutoencoderFill(autoencoder))
    round_trip(image, autoencoder)
    alone = least(lambda: round_trip(image, autoencoder), times)
    whole = least(lambda: inpaint(image, np.random.default_rng(0)), times)
    return {"round_trip_ms": 1e3 * alone, "inpainting_ms": 1e3 * whole, "ratio": whole / alone}


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_photos(folder)
        for kind in KINDS:
            alone = drawn(kind, folder, chosen.size, range(chosen.samples))
            together = parallel(kind, folder, chosen.size, chosen.samples, chosen.processes)
            found[kind] = {
                "per_cpu_second": chosen.samples / alone,
                "per_second": chosen.samples / together,
            }
    return {"samples": found, "inpainting": inpainting_cost(256, 10)}


def ratios(found: dict[str, Any], processes: int) -> dict[str, float]:
    """Return what each kind costs beside photos as they are, and what processes bring; more is better."""
    kinds, cost = found["samples"], found["inpainting"]
    plain = kinds["authentic"]["per_cpu_second"]
    return {
        **{f"{kind} / authentic": kinds[kind]["per_cpu_second"] / plain for kind in KINDS[1:]},
        **{
            f"{kind}: {processes} processes / as many times one": kinds[kind]["per_second"]
            / (processes * kinds[kind]["per_cpu_second"])
            for kind in KINDS
        },
        "inpainting: round trip / whole": cost["round_trip_ms"] / cost["inpainting_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = middle(repeated(measured, chosen))
    for kind, rate in found["samples"].items():
        print(
            f"{kind:10} {rate['per_cpu_second']:7.1f} a CPU-second, {rate['per_second']:7.1f} "
            f"a second with {chosen.processes} processes"
        )
    cost = found["inpainting"]
    print(
        f"inpainting {cost['inpainting_ms']:.1f} ms, the autoencoder's round trip alone {cost['round_trip_ms']:.1f} "
        f"ms: {cost['ratio']:.2f} times (256 px, one thread)\nmedians of {chosen.repeats} runs"
    )
    if chosen.json:
        whole = {"size": chosen.size} | found | {"ratios": ratios(found, chosen.processes)}
        chosen.json.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
