"""Whether anything in a folder of odd files makes gammascope fail in a way that it should not.

    python benchmarks/odd_files.py FOLDER [FOLDER ...]

Meant for the test pictures of decoders and metadata readers (Pillow, libvips, sharp, libavif, exif-samples, C2PA's
public test files, ...), which are not ours to ship. Every file, whatever it is called, is scanned as ``gammascope scan
--json`` does it, by the small detector and its quickest profile. A row with an answer, or one line that says why there
is none, is right. Anything else is a fault: another exception, a reason of several lines, a row that is no JSON, a
process that dies, a file that takes longer than ``--hang``. Prints a table, a row for each folder; the exit code is 1
if there was a fault.

With ``--against-opencv`` pixels are compared with those of OpenCV, where both read a file: what differs is listed, to
be looked at by a person (colour profiles, transparency and deep pixels are rightly treated otherwise).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from gammascope.cli.scan_results import json_row
from gammascope.detection.pipeline import Execution, Pipeline
from gammascope.files import shown
from gammascope.imaging.decode import Limits
from gammascope.sample import Image
from gammascope.scanning.ordered import scan

REASONS = {
    "not an image": ("not an image",),
    "broken or cut off": ("broken", "truncated"),
    "unsupported": ("not supported", "camera raw", "reduced copy"),
    "too large": ("allowed",),
}
"""Columns of the table, and the words by which a refusal belongs to one."""

LIMITS = Limits(max_pixels=50_000_000)
DIFFERENT = 8.0
"""Mean difference of pixels, in levels of 0 to 255, from which a picture is listed; decoders' roundings are below 2."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", default="mobilenet")
    parser.add_argument("--slow", type=float, default=10.0, help="seconds that are worth a line")
    parser.add_argument("--hang", type=float, default=120.0, help="seconds that are a fault")
    parser.add_argument("--against-opencv", action="store_true")
    arguments = parser.parse_args()
    columns = ("files", "examined", *REASONS, "else refused", "faults")
    print(f"| folder | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}", flush=True)
    faults = 0
    for folder in arguments.folders:
        counts = Counter(counted(folder, arguments))
        counts["files"] = counts.total()
        faults += counts["faults"]
        print(
            f"| {folder.name} | {' | '.join(f'{counts[name]:,}' for name in columns)} |", flush=True
        )
    sys.exit(bool(faults))


def counted(folder: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the column that each file belongs to; say on stderr what a person should know of it."""
    files = sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)
    os.environ["OPENCV_LOG_LEVEL"] = "OFF"
    child = Child(arguments.weights, against_opencv=arguments.against_opencv)
    for file in files:
        started = time.perf_counter()
        column, remark = child.outcome(file, arguments.hang)
        if (took := time.perf_counter() - started) > arguments.slow:
            remark += f" slow: {took:.1f} s"
        if remark:
            print(f"{shown(file.relative_to(folder))}: {remark}", file=sys.stderr, flush=True)
        yield column
    child.stop()


class Child:
    """A process that scans files one after the other, and is replaced when it dies or hangs."""

    def __init__(self, weights: str, *, against_opencv: bool) -> None:
        self.weights, self.against_opencv = weights, against_opencv
        self.start()

    def start(self) -> None:
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=answer, args=(there, self.weights, self.against_opencv), daemon=True
        )
        self.process.start()
        there.close()
        self.line = here

    def stop(self) -> None:
        self.process.kill()
        self.process.join()

    def outcome(self, file: Path, patience: float) -> tuple[str, str]:
        end = f"nothing after {patience:g} s"
        try:
            self.line.send(file)
            if self.line.poll(patience):
                found: tuple[str, str] = self.line.recv()
                return found
        except (EOFError, ConnectionError):
            self.process.join(5)
            end = f"died with code {self.process.exitcode}"
        self.stop()
        self.start()
        return "faults", f"fault: {end}"


def answer(line: Connection, weights: str, against_opencv: bool) -> None:
    pipeline = Pipeline.load(weights, execution=Execution(profile="fast"))
    while True:
        file = line.recv()
        try:
            (row,) = scan([file], pipeline, limits=LIMITS)
            json.dumps(json_row(row)).encode()
        except Exception:  # what this looks for
            line.send(("faults", f"fault: {traceback.format_exc()}"))
            continue
        if row.image is not None:
            line.send(("examined", compared(file, row.image) if against_opencv else ""))
            continue
        reason = row.error or ""
        if not reason or "\n" in reason:
            line.send(("faults", f"fault: a reason of several lines, or none: {reason!r}"))
            continue
        column = next((n for n, words in REASONS.items() if any(w in reason for w in words)), None)
        line.send((column or "else refused", "" if column else reason))


def compared(file: Path, image: Image) -> str:
    import cv2

    other = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    if other is None:
        return ""
    if other.shape != image.shape:
        return f"OpenCV reads {other.shape[1]} x {other.shape[0]} px, we {image.shape[1]} x {image.shape[0]}"
    difference = float(np.abs(other[..., ::-1].astype(int) - image).mean())
    return f"differs from OpenCV by {difference:.1f} levels" if difference > DIFFERENT else ""


if __name__ == "__main__":
    main()
