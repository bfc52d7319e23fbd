"""Images per second of a scan, next to decoding alone, in the same run; peak memory; seconds to the first verdict.

    python benchmarks/scan_speed.py FOLDER [--images 100] [--threads 2]

Decoding in one thread, scans on torch and by profile, and the cold start run one after another in processes of their
own, three times each; the best
counts, because the others were disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gammascope.pipeline import Profile
    from gammascope.runtime import Engine


def decode_only(paths: list[Path]) -> dict[str, float]:
    from gammascope.imaging.decode import decode

    start = time.perf_counter()
    pixels = sum(decode(path).image.size // 3 for path in paths)
    return {"seconds": time.perf_counter() - start, "megapixels": pixels / 1e6}


def scanned(paths: list[Path], engine: Engine, profile: Profile) -> dict[str, float]:
    from gammascope.pipeline import Execution, Pipeline
    from gammascope.scanning.scan import scan

    pipeline = Pipeline.load(execution=Execution(engine=engine, profile=profile))
    start = time.perf_counter()
    failed = sum(row.error is not None for row in scan(paths, pipeline))
    return {"seconds": time.perf_counter() - start, "failed": failed}


MEASURES: dict[str, Callable[[list[Path]], dict[str, float]]] = {
    "decode": decode_only,
    "torch": lambda paths: scanned(paths, "torch", "default"),
    "default": lambda paths: scanned(paths, "auto", "default"),
    "fast": lambda paths: scanned(paths, "auto", "fast"),
    "thorough": lambda paths: scanned(paths, "auto", "thorough"),
}


def measured(name: str, folder: Path, images: int, threads: int) -> dict[str, Any]:
    """Run one measurement in a process of its own, three times; return the quickest."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, str(folder), "--images", str(images), "--only", name]
    runs = [
        json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    best: dict[str, Any] = min(runs, key=lambda run: run["seconds"])
    return best


def cold_start(path: Path) -> float:
    """Return the seconds from `gammascope scan one.jpg` to its verdict, best of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        command = [str(Path(sys.executable).with_name("gammascope")), "scan", "--json", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=MEASURES)
    chosen = parser.parse_args()
    from gammascope.data.folder import find_images

    paths = find_images([str(chosen.folder)])[: chosen.images]
    if chosen.only:
        result = MEASURES[chosen.only](paths)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result | {"peak_mib": peak}))
        return
    runs = {name: measured(name, chosen.folder, chosen.images, chosen.threads) for name in MEASURES}
    count, decode, torch = len(paths), runs["decode"], runs["torch"]
    print(f"machine         {platform.processor() or platform.machine()}, {chosen.threads} threads")
    print(f"images          {count}, {decode['megapixels'] / count:.2f} megapixels on average")
    for name, run in runs.items():
        print(
            f"{name:15} {count / run['seconds']:7.1f} images/s, "
            f"{run['seconds'] / decode['seconds']:6.2f} x the time of decoding, "
            f"{torch['seconds'] / run['seconds']:6.2f} x the speed of torch, {run['peak_mib']:.0f} MiB"
        )
    print(f"cold start      {cold_start(paths[0]):.2f} s from command to verdict")


if __name__ == "__main__":
    main()
