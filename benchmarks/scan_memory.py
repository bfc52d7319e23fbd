"""Peak memory of ``gammascope scan --out`` by the number of images: it must not grow.

    python benchmarks/scan_memory.py [--images 200 2000 20000] [--side 64] [--weights mobilenet]

Pictures of noise, each different, so that each is examined. One process for each number.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--weights", default="default")
    chosen = parser.parse_args()
    print("| images | peak memory | CPU-ms an image | images/s |")
    print("| ---: | ---: | ---: | ---: |")
    for count in chosen.images:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "in"
            folder.mkdir()
            rng = np.random.default_rng(0)
            for number in range(count):
                pixels = rng.integers(0, 256, (chosen.side, chosen.side, 3), np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=90)
            command = [sys.executable, "-m", "gammascope", "scan", str(folder)]
            command += ["--weights", chosen.weights]
            begun = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--out", str(Path(place) / "out")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begun
            left = os.waitstatus_to_exitcode(status)
            rows = len(list((Path(place) / "out").glob("*.parquet")))
            if not rows:
                sys.exit(f"the scan left no rows (exit status {left})")
            cpu = 1e3 * (used.ru_utime + used.ru_stime) / count
            print(
                f"| {count} | {used.ru_maxrss / 1024:.0f} MiB | {cpu:.1f} | {count / seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
