"""Training in one process and in two under torchrun: the same losses, and how much sooner.

    python benchmarks/processes_training.py [--steps 40] [--repeats 5] [--json FILE] [--plot FILE]

``gammascope train recipes/effort_embedded.toml`` on pictures that the script makes, with the same batch over all
processes; one thread for each process, and one process with two threads beside them. Views a second are counted from
the first step that the log tells of to the last, by when its lines appear. Of every figure the median is shown.
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
from scan_speed import middle, write_photos

from gammascope import machine
from gammascope.data.manifest import write_manifest
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Label

RECIPE = Path(__file__).parents[1] / "recipes" / "effort_embedded.toml"
BATCH = 16
WAYS = {"1 process": (1, 1), "1 process, 2 threads": (1, 2), "2 processes": (2, 1)}
"""Processes, and threads of each."""


def write_collection(root: Path, photos: int = 12) -> Path:
    """Write photos, and blurred ones in place of generated pictures; a quarter is held out."""
    write_photos(root / "photos", (512, 512), photos)
    entries = []
    for number, path in enumerate(sorted((root / "photos").iterdir())):
        source = "held-out" if number % 4 == 0 else path.stem
        made = path.with_name(f"{path.stem}-made.png")
        blurred = np.ascontiguousarray(codecs.blur(decode(path).image, 1.2)[::-1])
        made.write_bytes(codecs.encode(blurred, codecs.Encoding("png")))
        entries += [
            Entry(path, Label.REAL, source=source, split="train"),
            Entry(made, Label.FAKE, generator="blur", source=source, split="train"),
        ]
    write_manifest(entries, root / "manifest.csv")
    return root / "manifest.csv"


def trained(way: str, manifest: Path, steps: int) -> tuple[float, list[float]]:
    """Train, and return views a second and the loss of each step."""
    processes, threads = WAYS[way]
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "run" / "log.jsonl"
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        launcher = [*torchrun, "--nproc-per-node", str(processes)] if processes > 1 else []
        command = [sys.executable, *launcher, "-m", "gammascope", "train", str(RECIPE)]
        command += ["--data", str(manifest), "--out", str(log.parent)]
        command += ['data.validation_sources=["held-out"]', f"optimisation.batch={BATCH}"]
        command += [f"optimisation.steps={steps}", "optimisation.precision=no", "rhythm.log=1"]
        command += [f"rhythm.{name}={steps}" for name in ("validate", "save")]
        command += ["rhythm.validation_views=8"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true"}
        with (Path(place) / "said").open("w+") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
            seen, losses = dict[int, float](), list[float]()
            while process.poll() is None:
                time.sleep(0.01)
                losses = losses_in(log)
                seen.setdefault(len(losses), time.perf_counter())
            if process.returncode:
                said.seek(0)
                sys.exit(f"{way}: exit status {process.returncode}\n{said.read()[:6000]}")
        losses = losses_in(log)
    told = sorted(count for count in seen if count)
    views = (told[-1] - told[0]) * BATCH
    return views / (seen[told[-1]] - seen[told[0]]), losses


def losses_in(log: Path) -> list[float]:
    """Return the losses of the lines that are complete."""
    lines = log.read_text("utf-8").split("\n")[:-1] if log.exists() else []
    rows = [json.loads(line) for line in lines]
    return [row["loss"] for row in rows if row["stage"] == "training"]


def markdown(result: dict[str, Any]) -> str:
    lines = [
        f"{result['machine']}; {RECIPE.name}, {BATCH} views a step over all processes, {result['steps']} steps; "
        f"medians of {result['repeats']} runs.\n",
        "| what | views/s | of one process | largest difference of a loss, relative |",
        "| --- | ---: | ---: | ---: |",
    ]
    one = result["found"]["1 process"]["rate"]
    for way, found in result["found"].items():
        lines.append(
            f"| {way} | {found['rate']:.1f} | {found['rate'] / one:.2f} | {found['apart']:.1e} |"
        )
    return "\n".join(lines) + "\n"


def plot(losses: dict[str, list[float]], path: Path) -> None:
    """Draw the losses by step, one line for each way."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for (way, values), style in zip(losses.items(), ("-", "--", ":"), strict=True):
        axes.plot(range(1, len(values) + 1), values, style, label=way)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        manifest = write_collection(Path(place))
        for _ in range(chosen.repeats):
            for way in WAYS:
                rate, losses[way] = trained(way, manifest, chosen.steps)
                pairs = zip(losses[way], losses["1 process"], strict=True)
                apart = max(abs(mine - theirs) / abs(theirs) for mine, theirs in pairs)
                runs[way].append({"rate": rate, "apart": apart})
                print(f"{way}: {runs[way][-1]}", file=sys.stderr)
    found = {way: middle(several) for way, several in runs.items()}
    one = found["1 process"]["rate"]
    result = {
        "machine": machine.name(),
        "steps": chosen.steps,
        "repeats": chosen.repeats,
        "found": found,
        "ratios": {
            "2 processes / twice 1 process": found["2 processes"]["rate"] / one / 2,
            "2 threads / twice 1 thread": found["1 process, 2 threads"]["rate"] / one / 2,
        },
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if chosen.plot:
        plot(losses, chosen.plot)
    print(markdown(result))


if __name__ == "__main__":
    main()
