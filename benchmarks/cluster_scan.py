"""A scan on Ray with one worker and with two, one of which is killed or slow: images a second, and exactly the rows.

    python benchmarks/cluster_scan.py [--images 300] [--weights default] [--repeats 5] [--json FILE] [--plot FILE]

Workers are Ray nodes of one core each, here on one machine, so that two of them are told from one by cores alone: no
network is between them, and the process that started the scan takes its share of the same cores. Each run is a process
of its own, in turn with the others; of every figure the median is shown. Beside them the local engine with one core
and with two. All rows are compared with the local engine's. ``killed``: one worker's process gets SIGKILL at a third of
the rows. ``slow``: one worker's process is stopped for four fifths of every second.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from scan_speed import middle, write_photos

WAYS = (
    *("local, 1 core", "local, 2 cores"),
    *("1 worker", "2 workers", "2 workers, one killed", "2 workers, one slow"),
)
RAN = 4  # of five parts of a second, a slow worker is stopped
TOGETHER = 0.02
"""Rows with fewer seconds between them came with the same task."""
IN_A_TASK = 8
"""Images, fewer than a long scan's 64, so that a short one has many tasks."""
FEWEST = 40
ROUNDING = 1e-4
"""Of a probability: other threads round otherwise."""


def examiners() -> list[int]:
    """Return the processes below this one that hold a detector for Ray, the oldest first."""
    found, mine = [], {os.getpid()}
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = place.joinpath("stat").read_text().rsplit(")", 1)[1].split()
            title = place.joinpath("cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        parents[int(place.name)] = int(status[1])
        if b"_Examiner" in title:
            found.append(int(place.name))

    def below(pid: int) -> bool:
        return pid in mine or (pid in parents and below(parents[pid]))

    return sorted(filter(below, found))


OVER = threading.Event()
"""Set when the scan is done: no process is left stopped."""


def slowed(pid: int) -> None:
    """Stop a process for most of each second, until it ends or all is over."""
    try:
        while not OVER.is_set():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(RAN / 5)
            os.kill(pid, signal.SIGCONT)
            time.sleep(1 - RAN / 5)
    except ProcessLookupError:
        pass


def disturbed(way: str, total: int) -> Callable[[int], None]:
    """Return what is told of each row, and kills or slows a worker at its time."""
    begun: list[int] = []

    def told(done: int) -> None:
        if begun or done < total // 3 or "one" not in way:
            return
        there = examiners()
        if len(there) < 2:
            return  # the second is still starting
        begun.append(there[0])
        if way.endswith("killed"):
            os.kill(there[0], signal.SIGKILL)
        else:
            threading.Thread(target=slowed, args=(there[0],), daemon=True).start()
        print(f"{way}: process {there[0]} at row {done}", file=sys.stderr)

    return told


def scanned(way: str, pictures: Path, out: Path, weights: str) -> list[tuple[float, int]]:
    """Scan, and return seconds since the start and rows that were there by then."""
    from gammascope import checkpoints
    from gammascope.detection.pipeline import Execution, Pipeline
    from gammascope.scanning.ordered import Plan, scan_into

    execution = Execution(profile="fast")
    pipeline = Pipeline.load(weights, execution=execution)
    total = len(list(pictures.iterdir()))
    begun, came, disturb = time.perf_counter(), [(0.0, 0)], disturbed(way, total)

    def progress(what: str, done: int, _: int | None) -> None:
        if what == "Scanning":
            came.append((time.perf_counter() - begun, done))
            disturb(done)
        elif what != "Listing":
            print(f"{way}: {what}, {done}", file=sys.stderr)

    plan = Plan((str(pictures),))
    if way.startswith("local"):
        scan_into(out, plan, pipeline, progress)
        return came
    from ray.cluster_utils import Cluster

    from gammascope.scanning import ray_engine

    ray_engine.IMAGES_AT_ONCE = IN_A_TASK
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    machines = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **small})
    for _ in range(int(way[0]) - 1):
        machines.add_node(**small)
    machines.wait_for_nodes()
    place = None if weights == "default" else checkpoints.resolve(weights)
    cluster = ray_engine.Cluster(machines.address, place, execution=execution)
    ray_engine.scan_on(cluster, out, plan, pipeline, progress)
    OVER.set()
    time.sleep(1)  # a worker that is stopped goes on, and can end
    machines.shutdown()
    return came


def figures(came: list[tuple[float, int]]) -> dict[str, float]:
    """Return the rate while all workers worked, and what waiting was like.

    Rows come by the task, so the rate is that between the ends of two tasks: the first after a third of the rows, and
    the last before nine tenths of them.
    """
    total = came[-1][1]
    rows = [(at, done) for at, done in came if done]
    ends = [one for one, after in pairwise(rows) if after[0] - one[0] > TOGETHER]
    inner = [one for one in ends if total / 3 <= one[1] <= 0.9 * total]
    (first, least), (last, most) = inner[0], inner[-1]
    waits = [after - before for (before, _), (after, _) in pairwise(rows)]
    return {
        "rate": (most - least) / (last - first),
        "to_first_row": rows[0][0],
        "from_first_row": rows[-1][0] - rows[0][0],
        "longest_wait": max(waits),
    }


def measured(way: str, pictures: Path, chosen: argparse.Namespace) -> tuple[Any, list[Any]]:
    """Run one way in a process of its own; return when its rows came, and the rows."""
    import pyarrow.parquet

    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        command = [sys.executable, __file__, "--one", way, "--pictures", str(pictures)]
        command += ["--into", str(out), "--weights", chosen.weights]
        cores = way.split()[1] if way.startswith("local") else ""
        environment = os.environ | ({"OMP_NUM_THREADS": cores} if cores else {})
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        columns = ["number", "image", "sha256", "verdict", "probability", "error"]
        rows = pyarrow.parquet.read_table(out, columns=columns).to_pylist()
    came = json.loads(done.stdout.splitlines()[-1])
    return came, sorted(rows, key=lambda row: int(row["number"]))


def differing(rows: list[Any], expected: list[Any]) -> int:
    """Count rows that are missing, too many or other ones; probabilities may differ by ``ROUNDING``."""
    if len(rows) != len(expected):
        return abs(len(rows) - len(expected))
    return sum(
        any(mine[name] != theirs[name] for name in mine if name != "probability")
        or abs((mine["probability"] or 0) - (theirs["probability"] or 0)) > ROUNDING
        for mine, theirs in zip(rows, expected, strict=True)
    )


def ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    one, two = found["1 worker"]["rate"], found["2 workers"]["rate"]
    local, cores = found["local, 1 core"]["rate"], found["local, 2 cores"]["rate"]
    whole = found["2 workers"]["from_first_row"]
    return {
        "2 workers / twice 1 worker": two / one / 2,
        "local, 2 cores / twice 1 core": cores / local / 2,
        "2 workers / local, 2 cores": two / cores,
        "seconds whole / with one killed": whole / found["2 workers, one killed"]["from_first_row"],
        "seconds whole / with one slow": whole / found["2 workers, one slow"]["from_first_row"],
    }


def markdown(result: dict[str, Any]) -> str:
    lines = [
        f"{result['machine']}; {result['images']} pictures of 0.26 megapixels, `fast`, weights {result['weights']}; "
        f"medians of {result['repeats']} runs.\n",
        "| what | images/s | first row after, s | from the first row to the last, s | longest wait for a row, s "
        "| rows that differ |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, one in result["found"].items():
        cells = [f"{one['rate']:.2f}", f"{one['to_first_row']:.1f}", f"{one['from_first_row']:.1f}"]
        cells += [f"{one['longest_wait']:.1f}", f"{one['differing']:.0f}"]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    lines += ["", *(f"{name}: {value:.2f}  " for name, value in result["ratios"].items())]
    return "\n".join(lines) + "\n"


def plot(came: dict[str, list[tuple[float, int]]], path: Path) -> None:
    """Draw how rows came, one line for each way."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for way, rows in came.items():
        axes.step([at for at, _ in rows], [done for _, done in rows], where="post", label=way)
    axes.set(xlabel="seconds since the scan was started", ylabel="rows")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.images < FEWEST:
        parser.error(f"--images {chosen.images}: at least {FEWEST}, else no rate can be told.")
    if chosen.one:
        print(json.dumps(scanned(chosen.one, chosen.pictures, chosen.into, chosen.weights)))
        return
    from gammascope import machine

    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    shown: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        write_photos(Path(place) / "in", (512, 512), chosen.images)
        expected: list[Any] = []
        for _ in range(chosen.repeats):
            for way in WAYS:
                shown[way], rows = measured(way, Path(place) / "in", chosen)
                expected = expected or rows
                found = figures(shown[way]) | {"differing": float(differing(rows, expected))}
                runs[way].append(found)
                print(f"{way}: {found}", file=sys.stderr)
    found_all = {way: middle(found) for way, found in runs.items()}
    for way, all_runs in runs.items():  # a row that is wrong once is wrong
        found_all[way]["differing"] = max(run["differing"] for run in all_runs)
    result = {
        "machine": machine.name(),
        "images": chosen.images,
        "weights": chosen.weights,
        "repeats": chosen.repeats,
        "found": found_all,
        "ratios": ratios(found_all),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if chosen.plot:
        plot(shown, chosen.plot)
    print(markdown(result))
    if any(found["differing"] for found in found_all.values()):
        sys.exit("Rows of the cluster are not those of the local engine.")


if __name__ == "__main__":
    main()
