"""Peak memory of ``gammascope scan --out`` by the number of images: it must not grow.

    python benchmarks/scan_memory.py [--images 200 2000 20000] [--side 64] [--weights default mobilenet] [--repeats 5]

Pictures of noise, each different, so that each is examined. One process for each number and detector; of every figure
the median of the repeats is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from scan_speed import middle

from gammascope import machine


def write_noise(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=90)


def scanned(folder: Path, out: Path, weights: str, profile: str) -> dict[str, float]:
    """Scan a folder into another; return the peak of memory, and seconds of the clock and of the processor."""
    command = [sys.executable, "-m", "gammascope", "scan", str(folder), "--out", str(out)]
    command += ["--weights", weights, "--profile", profile]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if not list(out.glob("*.parquet")):
        left = os.waitstatus_to_exitcode(status)
        sys.exit(f"The scan by {weights} left no rows (exit status {left}): {' '.join(command)}")
    cpu = used.ru_utime + used.ru_stime
    return {"peak_mib": used.ru_maxrss / 1024, "seconds": seconds, "cpu": cpu}


def measured(chosen: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Return figures by weights and number of images."""
    found: dict[str, dict[str, dict[str, float]]] = {weights: {} for weights in chosen.weights}
    for count in chosen.images:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            write_noise(folder, count, chosen.side)
            for number, weights in enumerate(chosen.weights):
                out = Path(place) / f"out-{number}"
                found[weights][str(count)] = scanned(folder, out, weights, chosen.profile)
                print(f"{weights}, {count}: {found[weights][str(count)]}", file=sys.stderr)
    return found


def ratios(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Return by how much memory grows with images (about 1: it does not), and how much each detector needs."""
    peaks = {
        weights: [(int(count), run["peak_mib"]) for count, run in runs.items()]
        for weights, runs in found.items()
    }
    told = {}
    for weights, held in peaks.items():
        (few, least), (many, most) = min(held), max(held)
        if many > few:
            told[f"{weights}: memory with {few:,} images / with {many:,}"] = least / most
    for other in list(peaks)[1:]:
        first, (many, least) = next(iter(peaks)), max(peaks[other])
        told[f"{many:,} images: memory of {other} / of {first}"] = least / max(peaks[first])[1]
    return told


def markdown(result: dict[str, Any]) -> str:
    lines = [
        f"{result['machine']}; noise of {result['side']} px, `--profile {result['profile']}`; medians of "
        f"{result['repeats']} runs.\n",
        "| weights | images | peak memory | CPU-ms an image | images/s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for weights, runs in result["found"].items():
        for name, run in runs.items():
            count = int(name)
            lines.append(
                f"| {weights} | {count:,} | {run['peak_mib']:.0f} MiB | {1e3 * run['cpu'] / count:.1f} | "
                f"{count / run['seconds']:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--weights", nargs="+", default=["default", "mobilenet"])
    parser.add_argument("--profile", default="default", choices=("fast", "default", "thorough"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = middle([measured(chosen) for _ in range(chosen.repeats)])
    result = {"machine": machine.name(), "found": found, "ratios": ratios(found)}
    result |= {name: getattr(chosen, name) for name in ("side", "profile", "repeats")}
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
