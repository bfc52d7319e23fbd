"""Images per second of an evaluation, for each column, next to a scan of the same images in the same process.

    python benchmarks/evaluation_speed.py FOLDER [--images 60] [--rounds 5] [--json FILE]

The files of FOLDER are taken for real and fake in turn, so that the column of aligned fakes has something to do. A
scan, an evaluation of images as they are, and one in the three columns that are always there run one after another, in
several rounds; medians count. Seconds of the processor are printed too:
they hardly depend on what else runs. What counts is the last column: 1 means that scoring an image in one column takes
as long as scanning it, so that the detector is the limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gammascope import machine
from gammascope.data.folder import find_images
from gammascope.detection.pipeline import Besides, Pipeline
from gammascope.evaluation import run
from gammascope.evaluation.scoring import Column, score_columns
from gammascope.sample import Entry, Label
from gammascope.scanning.ordered import scan


def timed(work: Callable[[], object]) -> tuple[float, float]:
    start, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - processor


def scanned(pipeline: Pipeline, paths: Sequence[Path]) -> None:
    for _ in scan(paths, pipeline):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    paths = find_images([str(chosen.folder)])[: chosen.images]
    entries = [Entry(path, Label(at % 2)) for at, path in enumerate(paths)]
    pipeline = Pipeline.load(besides=Besides(provenance=False))
    three = run.with_aligned(run.columns_of(()), entries)
    native = {run.NATIVE: three[run.NATIVE]}
    threads = run.threads_of(pipeline)

    def evaluated(columns: dict[str, Column]) -> None:
        score_columns(run.Predictor(pipeline), entries, columns, threads=threads)

    # Reals are the same in two of the three columns, and looked at once for both.
    shown = len(paths) * 2 + sum(entry.label is Label.FAKE for entry in entries)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "scan": (lambda: scanned(pipeline, paths), len(paths)),
        "evaluate, native": (lambda: evaluated(native), len(paths)),
        f"evaluate, {len(three)} columns": (lambda: evaluated(three), shown),
    }
    scanned(pipeline, paths[:2])  # compiles and warms up
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(chosen.rounds):
        for name, (work, _shown) in works.items():
            rounds[name].append(timed(work))
    print(f"{machine.name()}, {threads} threads, {pipeline.network.name}, {len(paths)} images")
    print(f"{'what':<24}{'looks/s':>10}{'cpu ms/look':>14}{'of scan, cpu':>14}")
    found = {}
    for name, (_, looks) in works.items():
        seconds, processor = map(statistics.median, zip(*rounds[name], strict=True))
        found[name] = each = processor / looks
        reference = found["scan"]
        print(f"{name:<24}{looks / seconds:>10.1f}{1000 * each:>14.1f}{each / reference:>14.2f}")
    if chosen.json:
        told = {
            f"scan / {name}": found["scan"] / each for name, each in found.items() if name != "scan"
        }
        chosen.json.write_text(
            json.dumps({"cpu_s": found, "ratios": told}, indent=1) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
