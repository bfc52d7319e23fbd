"""What a scan into a folder costs by the number of images, and how long going on takes: ``bulk_scale.py``.

    python benchmarks/bulk_scale.py [--ledger 1000 10000 100000 1000000] [--pictures 1000 10000] [--repeats 5]

Two parts. **Ledger alone**: the list of images, the memory of contents, rows, merging and the summary, with one real
report in every row and no detector; half of the rows are written by a process that is then killed, and going on is
timed. Processor time, which also holds on a machine that is shared. **Pictures**: that many different JPEGs through
``gammascope scan --out --profile fast``, and the same command again, which finds all of them done; seconds.
Of every figure the median of the repeats is shown; ten thousand pictures and more are scanned once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image
from scan_speed import middle

from gammascope.detection.pipeline import Pipeline
from gammascope.machine import name, peak_mib
from gammascope.scanning.results import LOOK, ResultsFolder, Row, Seen
from gammascope.scanning.sources import Item

T = TypeVar("T")
STAGES = ("list", "rows", "go on", "merge", "summary")
LEAST = {"ledger": 10_000, "pictures": 1000}
ONCE = 10_000
"""So many pictures take minutes: a chance delay of seconds hardly changes their figure."""


def ledger_alone(folder: Path, count: int, *, half: bool) -> dict[str, float]:
    """Fill a folder with rows of one report, half of them and then end by a kill, or go on to the end."""
    results, spent = ResultsFolder(folder), dict[str, float]()

    def timed(stage: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        found = work()
        spent[stage] = time.process_time() - begun
        return found

    plain = Pipeline.load("mobilenet").report(np.zeros((64, 64, 3), np.uint8)).to_json()
    del plain["image"]
    text = json.dumps(plain)[1:]
    with results.alone():
        items = (Item(f"bucket/{n:09}.jpg", f"bucket/{n:09}.jpg") for n in range(count))
        total = timed("list", lambda: results.list_once(items))
        if half:
            print(json.dumps(spent), flush=True)  # the last that is heard of it
        left = results.items(total)
        first = timed("go on", lambda: next(left))
        memory = Seen(results.seen_path)

        def write() -> None:
            with results.writer() as add:
                for number, item in ahead(first, left):
                    digest = hashlib.sha256(item.name.encode()).digest()
                    look = int.from_bytes(digest[:8], "big") >> 1
                    outcome = f'{{"{LOOK}": {look}, {text}'
                    memory.put(digest, outcome)
                    add(Row(number, item.name, digest.hex(), 300_000, outcome))
                    if half and number >= count // 2:
                        os.kill(os.getpid(), signal.SIGKILL)

        timed("rows", write)
        memory.close()
        timed("merge", results.merge)
        timed("summary", results.summary)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return spent | {"peak_mib": peak_mib() or 0.0, "bytes_a_row": size / count}


def ahead(first: tuple[int, Item], left: Iterator[tuple[int, Item]]) -> Iterator[tuple[int, Item]]:
    yield first
    yield from left


def of_ledger(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, __file__, "--into", f"{place}/out", "--ledger", str(count)]
        first = subprocess.run([*command, "--half"], check=False, stdout=subprocess.PIPE, text=True)
        if first.returncode != -signal.SIGKILL:
            sys.exit(f"the first half ended with {first.returncode} instead of being killed")
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout) | json.loads(first.stdout)
    return found


def of_pictures(count: int, side: int) -> dict[str, float]:
    """Scan different JPEGs of noise, and again, which finds all of them done."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=90)
        command = [sys.executable, "-m", "gammascope", "scan", str(folder), "--profile", "fast"]
        command += ["--quiet", "--out", f"{place}/out"]
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds[0], "again": seconds[1]}


def each_s(count: str, spent: dict[str, float]) -> float:
    """Return the seconds of the ledger for one image; who goes on has half of the rows to write."""
    rows = spent["list"] + 2 * spent["rows"] + spent["merge"] + spent["summary"]
    return rows / int(count)


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """Return what is compared with the last kept measurement: about 1, where cost grows linearly."""
    told = {}
    ledger, pictures = result["ledger"], result["pictures"]
    each = {
        "ledger": {int(count): each_s(count, spent) for count, spent in ledger.items()},
        "pictures": {int(n): found["seconds"] / int(n) for n, found in pictures.items()},
    }
    for what, costs in each.items():
        # A few thousand do not tell of growth: starting is most of their cost.
        if len(many := sorted(count for count in costs if count >= LEAST[what])) > 1:
            name = f"{what}, cost of an image: of {many[0]:,} / of {many[-1]:,}"
            told[name] = costs[many[0]] / costs[many[-1]]
    return told


def plot(ledger: dict[str, dict[str, float]], path: Path) -> None:
    """Draw seconds of the processor by the number of images, one line for each stage."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    counts = [int(count) for count in ledger]
    for stage in STAGES:
        axes.plot(counts, [max(spent[stage], 1e-3) for spent in ledger.values()], "o-", label=stage)
    whole = [each_s(count, spent) * int(count) for count, spent in ledger.items()]
    axes.plot(counts, whole, "ks-", label="all, both halves")
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds of the processor")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def markdown(result: dict[str, Any]) -> str:
    lines = [
        f"{result['machine']}; medians of {result['repeats']} runs.\n",
        "**The ledger alone**, seconds of the processor; half of the rows by a process that was killed\n",
        f"| images | {' | '.join(STAGES)} | µs an image | peak memory | bytes an image on disk |",
        f"| ---: |{' ---: |' * (len(STAGES) + 3)}",
    ]
    for count, spent in result["ledger"].items():
        each = 1e6 * each_s(count, spent)
        stages = " | ".join(f"{spent[stage]:.2f}" for stage in STAGES)
        lines.append(
            f"| {int(count):,} | {stages} | {each:.0f} | {spent['peak_mib']:.0f} MiB | {spent['bytes_a_row']:.0f} |"
        )
    if result["pictures"]:
        lines += [
            f"\n**Pictures**, {result['side']} px, `--profile fast`; from {ONCE:,} on, one run\n",
            "| images | seconds | images/s | the same command again, seconds |",
            "| ---: | ---: | ---: | ---: |",
        ]
    for count, found in result["pictures"].items():
        rate = int(count) / found["seconds"]
        lines.append(
            f"| {int(count):,} | {found['seconds']:.1f} | {rate:.1f} | {found['again']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--pictures", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=224, help="of the pictures, px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--half", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.into:
        print(json.dumps(ledger_alone(chosen.into, chosen.ledger[0], half=chosen.half)))
        return
    result: dict[str, Any] = {"machine": name(), "side": chosen.side, "repeats": chosen.repeats}
    result["ledger"] = {
        str(count): middle([of_ledger(count) for _ in range(chosen.repeats)])
        for count in chosen.ledger
    }
    result["pictures"] = {
        str(count): middle(
            [of_pictures(count, chosen.side) for _ in range(1 if count >= ONCE else chosen.repeats)]
        )
        for count in chosen.pictures
    }
    result["ratios"] = ratios(result)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if chosen.plot:
        plot(result["ledger"], chosen.plot)
    print(markdown(result))


if __name__ == "__main__":
    main()
