"""Time and peak memory of all numbers over a score table of millions of rows.

    python benchmarks/metrics_scale.py [--rows 10000000] [--folder FOLDER] [--repeats 5] [--json FILE]

Writes a synthetic table as the parts of an evaluation (40 generators, 25 sources, sizes, JPEG qualities, masks on one
image in twenty), then opens it, summarises it and compares it with a second detector, as `evaluate` and
`compare` do. Of each stage: its seconds, those of the processor (others may share it), and the peak memory so far; the
medians of the repeats, each in a process of its own. The measure of time is sorting as many numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from scan_speed import middle, repeated

from gammascope import machine
from gammascope.data.ledger import RUN
from gammascope.evaluation.comparing import compare, pair
from gammascope.evaluation.localisation import GRID
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import ScoreStore
from gammascope.evaluation.tables import summarise
from gammascope.machine import peak_mib

T = TypeVar("T")
Stages: TypeAlias = dict[str, dict[str, float]]

SORTING = "sort as many numbers"

PART = 500_000
GENERATORS, SOURCES = 40, 25


def timed(spent: Stages, what: str, stage: Callable[[], T]) -> T:
    start, processor = time.perf_counter(), time.process_time()
    result = stage()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = (peak_mib() or 0.0) / 1024
    spent[what] = {"seconds": seconds, "cpu": processor, "peak_gib": peak}
    print(f"{what}: {spent[what]}", file=sys.stderr, flush=True)
    return result


def part_of(first: int, end: int) -> ScoreTable:
    """Make rows that follow from their numbers alone; half of them are fakes."""
    rng = np.random.default_rng(first)
    n = end - first
    text = np.dtypes.StringDType()
    label = np.arange(first, end) % 2
    generator = rng.integers(0, GENERATORS, n)
    names = np.array([f"generator-{at}" for at in range(GENERATORS)], dtype=text)
    sources = np.array([f"source-{at}" for at in range(SOURCES)], dtype=text)
    partly = (label == 1) & (rng.random(n) < 0.1)
    logit = rng.normal(2.0 * label - 1.0 + 0.05 * generator * label, 1.5)
    side = rng.choice([384, 512, 768, 1024, 2048], n)
    empty = np.full(n, "", dtype=text)
    path = [f"collection/{at // 1000:05d}/image-{at:09d}.jpg" for at in range(first, end)]
    columns: dict[str, Any] = {
        "path": np.array(path, dtype=text),
        "label": label,
        "generator": np.where(label == 1, names[generator], ""),
        "kind": np.where(partly, np.array("inpainting", dtype=text), ""),
        "source": np.where(label == 0, sources[rng.integers(0, SOURCES, n)], ""),
        "split": empty,
        "format": np.full(n, "jpeg", dtype=text),
        "width": side,
        "height": rng.choice([384, 512, 768, 1024, 2048], n),
        "jpeg_quality": rng.integers(60, 100, n).astype(np.float64),
        "mask_error": empty,
        "logit_generated": logit,
        "logit_edited": rng.normal(2.0 * partly - 1.0, 1.5),
    }
    pixels = 1e6
    true = np.where(partly, np.round(pixels * rng.uniform(0.02, 0.5, n)), np.nan)
    found = rng.uniform(0.2, 0.9, n)
    columns["edited_tp"] = np.round(true * found)
    columns["edited_fp"] = np.round((pixels - true) * 0.1 * found)
    columns["edited_fn"] = true - columns["edited_tp"]
    columns["edited_tn"] = pixels - true - columns["edited_fp"]
    for threshold in GRID:
        columns[f"edited_tp@{threshold}"] = np.round(columns["edited_tp"] * (1.3 - threshold))
        columns[f"edited_fp@{threshold}"] = np.round(columns["edited_fp"] * (1.3 - threshold))
    columns["edited_auroc"] = np.where(partly, found, np.nan)
    columns["edited_best_threshold"] = np.where(partly, 0.5, np.nan)
    columns["edited_best_tp"], columns["edited_best_fp"] = (
        columns["edited_tp"],
        columns["edited_fp"],
    )
    columns["error"] = empty
    return ScoreTable(columns)


def write(folder: Path, rows: int) -> None:
    column = folder / "native"
    column.mkdir(parents=True)
    for first in range(0, rows, PART):
        end = min(first + PART, rows)
        part_of(first, end).to_parquet(column / f"{first:010d}-{end:010d}.parquet")
    (column / RUN).write_text(json.dumps({"images": rows}))


def other(table: ScoreTable) -> ScoreTable:
    """Return what a slightly worse detector says about the same images."""
    noise = np.random.default_rng(1).normal(0.0, 0.7, len(table))
    needed = ("path", "label", "generator", "kind", "error")
    columns = {name: table[name] for name in needed}
    return ScoreTable({**columns, "logit_generated": table["logit_generated"] + noise})


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    if chosen.folder is not None:
        chosen.folder.mkdir(parents=True, exist_ok=True)
    spent: Stages = {}
    stage = partial(timed, spent)
    scores = np.random.default_rng(0).normal(size=chosen.rows)
    stage(SORTING, lambda: np.sort(scores))
    del scores
    with tempfile.TemporaryDirectory(dir=chosen.folder) as made:
        folder = Path(made)
        stage("write parts", lambda: write(folder, chosen.rows))
        # A table on disk is read column by column as numbers are made, so it must stay there.
        table = stage("open", lambda: ScoreStore(folder).read("native"))
        summary = stage("summarise 'generated'", lambda: summarise(table))
        stage("summarise 'edited'", lambda: summarise(table, "edited"))
        pairs = stage("pair by path", lambda: pair(table, other(table), "generated"))
    difference = stage("compare", lambda: compare(pairs)).auroc[2]
    overall = summary["overall"]["auroc"]
    said = [
        f"AUROC {overall['value']:.5f} [{overall['low']:.5f}, {overall['high']:.5f}]",
        f"difference {difference.value:.5f} [{difference.low:.5f}, {difference.high:.5f}]",
        f"matched sizes: {2 * summary['size_matched']['yes']:,} images",
    ]
    return {"stages": spent, "said": said}


def ratios(stages: Stages) -> dict[str, float]:
    """Return the time of sorting as many numbers, of each stage's; more is better."""
    return {
        f"{SORTING} / {what}": stages[SORTING]["cpu"] / found["cpu"]
        for what, found in stages.items()
        if what != SORTING
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = middle(repeated(measured, chosen))
    print(f"{chosen.rows:,} rows, {machine.name()}, NumPy {np.__version__}")
    print(f"{'stage':<24}{'time':>10} {'processor':>10} {'peak memory':>14}")
    for what, spent in found["stages"].items():
        print(
            f"{what:<24}{spent['seconds']:8.1f} s {spent['cpu']:8.1f} s {spent['peak_gib']:10.2f} GiB"
        )
    print("\n".join([*found["said"], f"medians of {chosen.repeats} runs"]))
    if chosen.json:
        result = {"rows": chosen.rows} | found | {"ratios": ratios(found["stages"])}
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
