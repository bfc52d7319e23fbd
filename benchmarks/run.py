"""All benchmarks of speed and scale that need no data of yours: one command, one folder, one page.

    python benchmarks/run.py --out runs/benchmarks [--quick] [--only scan_speed synthesis_speed]

Each runs in a process of its own, one after the other: leave the machine alone meanwhile. What they print lies in the
folder, with their figures as JSON and a plot; ``results.md`` puts it on one page. What is there already is not measured
again. Benchmarks that need a manifest (``zoo.py``, ``ablations.py``, ``leave_one_out.py``, ``provenance_rates.py``,
``stream_probe.py``, ``precisions.py MANIFEST``) are commands of their own.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scan_speed import write_photos

HERE = Path(__file__).parent
PHOTOS = "PHOTOS"
OUT = "OUT"


@dataclass(frozen=True)
class Job:
    """One script: what it is asked, and what else to see whether it works at all.

    ``PHOTOS`` stands for a folder of JPEGs, ``OUT`` for a name in the folder of results, without ending.
    """

    script: str
    title: str
    asked: str
    quick: str


JOBS = (
    Job(
        "scan_speed",
        "Speed of a scan",
        "--synthetic --images 60 --json OUT.json --plot OUT.png",
        "--synthetic --images 4 --repeats 1 --json OUT.json --plot OUT.png",
    ),
    Job("scan_memory", "Memory of a scan", "--images 200 2000 20000", "--images 20 60"),
    Job("precisions", "Precision", "--synthetic", "--synthetic"),
    Job("evaluation_speed", "Speed of an evaluation", "PHOTOS --images 40", "PHOTOS --images 4 --rounds 1"),
    Job(
        "synthesis_speed",
        "Speed of synthesis",
        "--samples 200 --json OUT.json",
        "--samples 8 --processes 1 --json OUT.json",
    ),
    Job(
        "streaming_speed",
        "Views from remote shards",
        "--views 3072 --json OUT.json",
        "--shards 4 --pictures 4 --views 64 --json OUT.json",
    ),
    Job(
        "server_load",
        "The server under load",
        "PHOTOS --json OUT.json --plot OUT.png",
        "PHOTOS --clients 1 4 --seconds 3 --burst 100 --compare-seconds 2 --cold 0 --warm 0 --images 4 "
        "--weights mobilenet --profile fast --json OUT.json --plot OUT.png",
    ),
    Job("queue_model", "How long people wait", "--seconds-an-image 0.1", "--seconds-an-image 0.1 --requests 2000"),
    Job("metrics_scale", "Metrics at scale", "--rows 10000000", "--rows 20000"),
)  # fmt: skip


def ran(job: Job, folder: Path, *, quick: bool) -> bool:
    """Run a benchmark and keep what it prints; whether it went well. What was measured before stays."""
    kept = folder / f"{job.script}.txt"
    if kept.is_file():
        print(f"{job.script}: measured before, in {kept}")
        return True
    words = (job.quick if quick else job.asked).split()
    places = {PHOTOS: str(folder / "photos"), OUT: str(folder / job.script)}
    for short, place in places.items():
        words = [
            place + word.removeprefix(short) if word.startswith(short) else word for word in words
        ]
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


def page(folder: Path) -> str:
    """Put what was printed on one page."""
    parts = [f"# Measured on {platform.processor() or platform.machine()}, {platform.platform()}\n"]
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
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="see that they work; measures nothing")
    parser.add_argument("--only", nargs="+", choices=[job.script for job in JOBS])
    chosen = parser.parse_args()
    folder: Path = chosen.out.resolve()
    if not (folder / "photos").is_dir():
        write_photos(folder / "photos", (512, 512), 4 if chosen.quick else 40)
    jobs = [job for job in JOBS if not chosen.only or job.script in chosen.only]
    failed = [job.script for job in jobs if not ran(job, folder, quick=chosen.quick)]
    (folder / "results.md").write_text(page(folder), encoding="utf-8")
    print(f"Page: {folder / 'results.md'}")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
