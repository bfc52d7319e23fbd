"""Train every method for real at a small size, evaluate it in all three columns, and write one table and its scores.

    python benchmarks/zoo.py MANIFEST.csv --out runs/zoo [--methods gamma effort ...] [--steps 300 | --minutes 5]
        [--set KEY=VALUE ...] [--evaluate-split train] [--evaluate-sources monstree sceaux ...] [--limit 100]

Each method follows its recipe in recipes/, on the embedded backbone where it has one. Without --evaluate-split the
images are those of the validation sources that the recipes keep apart; thresholds are fitted on the same ones, so that
their real and fake accuracy is in-sample there (AUROC is not). A test split gets thresholds that it never saw. A method
that is done is skipped, one that was interrupted goes on: start it again with the same options. One that cannot be
trained on these data (camera tables are missing, say) becomes a row that says so.

OUT/zoo.parquet holds the scores of all, without paths: ``gammascope evaluate --replay`` makes the table of OUT/zoo.md
anew from it. Milliseconds an image, memory and minutes are of this machine and beside whatever else ran: compare rows,
not machines.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gammascope.evaluation.replay_file import FILE, Kept
from gammascope.files import complete_or_absent

ROOT = Path(__file__).parents[1]

RECIPES: dict[str, tuple[str, ...]] = {
    "gamma": ("gamma_embedded",),
    "linear_probe": ("linear_probe_embedded",),
    "npr": ("npr",),
    "effort": ("effort_embedded",),
    "gapl": ("gapl_stage1_embedded", "gapl_embedded"),
    "ns_net": ("ns_net",),
    "mpft": ("mpft",),
    "mirage": ("mirage",),
    "align_gemini": ("align_gemini",),
    "sdaie": ("sdaie_one_class", "sdaie"),
    "blades": ("blades_one_class", "blades"),
}
"""Recipes by method; where there are two stages, the second starts from the first."""

STARTS = {"gapl": "start", "sdaie": "extractor", "blades": "encoder"}
"""The value of a second stage's config that names the first stage's checkpoint."""

EMBEDDED: dict[str, tuple[str, ...]] = {
    "gamma": ("method.backbone=embedded",),
    "ns_net": ("method.backbone=embedded",),
    "mpft": ("method.backbone=embedded", "method.architecture=", "method.fill=pixel"),
    "align_gemini": (
        "data.pairs.share=0.0",
        "data.mixture.generated=0.5",
        "data.mixture.twins=0.0",
    ),
}
"""What puts a method on the embedded backbone where its recipe has another; and fakes where there are no twins."""

GAMMA_MIXTURE = ("authentic=0.4", "generated=0.35", "twins=0.0", "inpainted=0.0")
COSTS = "costs.json"
"""Written when a method is done: what the table says of it besides scores, texts by their titles."""


def overrides_of(method: str, chosen: argparse.Namespace) -> list[str]:
    made = list(EMBEDDED.get(method, ()))
    if method == "gamma":
        made += [f"data.mixture.{part}" for part in GAMMA_MIXTURE]
    made += [f"data.pretext.tables={json.dumps([str(t) for t in chosen.camera_tables])}"] * (
        method in {"sdaie", "blades"} and bool(chosen.camera_tables)
    )
    return [*made, *chosen.set]


def trained(method: str, chosen: argparse.Namespace, folder: Path) -> tuple[Path, str]:
    """Train all stages; return the last checkpoint, and how many steps each took."""
    from gammascope.training.following import follow
    from gammascope.training.recipe import read_recipe

    checkpoint, taken = Path(), []
    recipes = RECIPES[method]
    for number, name in enumerate(recipes):
        wanted = overrides_of(method, chosen)
        wanted.append(f"data.manifests={json.dumps([str(chosen.manifest)])}")
        if number > 0:
            wanted.append(f"method.{STARTS[method]}={checkpoint}")
        if number == len(recipes) - 1 and method in {"sdaie", "blades"}:
            wanted = [item for item in wanted if not item.startswith("data.pretext")]
        recipe = read_recipe(ROOT / "recipes" / f"{name}.toml", wanted)
        stage = folder / name
        stage.mkdir(parents=True, exist_ok=True)
        steps = chosen.steps or recipe.optimisation.steps
        if chosen.minutes and recipe.probing is None:
            steps = steps_within(recipe, chosen.minutes, stage)
        taken.append(str(steps))
        recipe = dataclasses.replace(
            recipe,
            optimisation=dataclasses.replace(recipe.optimisation, steps=steps),
            probing=recipe.probing
            and dataclasses.replace(
                recipe.probing, views=max(64, min(recipe.probing.views, 16 * steps))
            ),
        )
        checkpoint = stage / "checkpoint.safetensors"
        if checkpoint.is_file():
            continue
        resume = (stage / "state").is_dir()
        follow(recipe, stage, resume=resume)
    return checkpoint, "+".join(taken)


class Clock:
    """Notes when each training step was reported."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def __call__(self, progress: Any) -> None:
        if progress.stage == "training":
            self.ticks.append(time.monotonic())


def steps_within(recipe: Any, minutes: float, folder: Path) -> int:
    """Return how many steps fit into a budget, by a short trial; what was found once stays, so that runs resume."""
    from gammascope.training.following import follow

    known = folder / "steps.txt"
    if not known.is_file():
        short = dataclasses.replace(recipe.optimisation, steps=6)
        quick = dataclasses.replace(recipe.rhythm, validation_views=recipe.optimisation.batch)
        trial, clock = dataclasses.replace(recipe, optimisation=short, rhythm=quick), Clock()
        place = folder / f"trial-{os.getpid()}"
        follow(trial, place, report=clock)
        shutil.rmtree(place)
        seconds = (clock.ticks[-1] - clock.ticks[1]) / (len(clock.ticks) - 2)
        known.write_text(f"{max(10, int(60 * minutes / seconds))}\n")
    return int(known.read_text())


def entries_of(chosen: argparse.Namespace) -> list[Any]:
    from gammascope.data.manifest import read_manifest

    entries = read_manifest(chosen.manifest, chosen.evaluate_split)
    if chosen.evaluate_sources:
        entries = [entry for entry in entries if entry.source in set(chosen.evaluate_sources)]
    if chosen.limit:
        by_label: dict[int, list[Any]] = {0: [], 1: []}
        for entry in entries:
            by_label[int(entry.label)].append(entry)
        # Evenly spread, so that every source and generator stays.
        entries = [
            row
            for rows in by_label.values()
            for row in rows[:: max(1, len(rows) // chosen.limit)][: chosen.limit]
        ]
    return entries


def evaluated(checkpoint: Path, chosen: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Calibrate if need be, score, and keep the scores; return what that has cost."""
    from gammascope import checkpoints
    from gammascope.checkpoints import parameters_of
    from gammascope.detection.pipeline import Pipeline
    from gammascope.evaluation import calibrating, replaying, run
    from gammascope.evaluation.fitting import lowest_rate
    from gammascope.sample import Label

    if not checkpoints.read_facts(checkpoint).calibration:
        kept = calibrating.entries_of([checkpoint], [chosen.manifest], [])
        half = kept[:: max(1, len(kept) // (2 * chosen.limit))] if chosen.limit else kept
        photos = sum(entry.label is Label.REAL for entry in half)
        calibrating.calibrate(
            checkpoint, half, calibrating.Plan(false_alarms=max(0.01, lowest_rate(photos)))
        )
    entries = entries_of(chosen)
    pipeline = Pipeline.load(checkpoint)
    columns = run.with_aligned(run.columns_of([]), entries)
    cpu = time.process_time()
    candidate = run.Candidate.of(pipeline)
    tables, _ = run.scored(candidate, entries, columns, folder / "scores", lambda *_: None)
    spent = 1000 * (time.process_time() - cpu) / (len(entries) * len(columns))
    about = {"data": str(chosen.evaluate_split), "labels": ""}
    made = run.summarised(candidate, tables, run.definitions_of(columns), about=about)
    replaying.kept(run.Told(made, tables)).save(folder / FILE)
    return {
        "parameters": f"{parameters_of(checkpoint) / 1e6:.2f} M",
        "CPU-ms an image": f"{spent:.0f}",
    }


def one(method: str, chosen: argparse.Namespace) -> None:
    """Train and evaluate one method in this process; keep its scores, and last what it has cost."""
    from gammascope.machine import peak_mib

    folder = chosen.out / method
    started = time.perf_counter()
    before = folder / "seconds.txt"
    spent = float(before.read_text()) if before.is_file() else 0.0
    try:
        checkpoint, steps = trained(method, chosen, folder)
    finally:
        spent += time.perf_counter() - started
        folder.mkdir(parents=True, exist_ok=True)
        before.write_text(f"{spent:.1f}\n")
    costs = evaluated(checkpoint, chosen, folder) | {
        "memory, GiB": f"{(peak_mib() or math.nan) / 1024:.1f}",
        "training, min": f"{spent / 60:.1f}",
        "steps": steps,
    }
    with complete_or_absent(folder / COSTS) as unfinished:
        unfinished.write_text(json.dumps(costs, indent=1) + "\n")


def write(chosen: argparse.Namespace) -> str:
    """Put the scores of all methods that are done into one file, and write and return the table that follows."""
    from gammascope.evaluation import replaying
    from gammascope.evaluation.tables import markdown

    done = [name for name in chosen.methods if (chosen.out / name / COSTS).is_file()]
    if not done:
        return "No method is done.\n"
    replaying.zoo(
        {name: Kept.read(chosen.out / name / FILE) for name in done},
        {name: json.loads((chosen.out / name / COSTS).read_text()) for name in done},
        [name for name in chosen.methods if name not in done],
    ).save(chosen.out / "zoo.parquet")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    table = markdown(replaying.replayed(chosen.out / "zoo.parquet").grids)
    (chosen.out / "zoo.md").write_text(f"{machine}\n\n{table}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--steps", type=int, help="Of each training; probes see 16 views a step.")
    parser.add_argument(
        "--minutes",
        type=float,
        help="As many steps in each stage as fit into this, by a short trial.",
    )
    parser.add_argument("--set", nargs="*", default=[], help="Further overrides for every recipe.")
    parser.add_argument("--camera-tables", nargs="*", type=Path, default=[])
    parser.add_argument("--evaluate-split", default="train")
    parser.add_argument(
        "--evaluate-sources",
        nargs="*",
        help="Default: those kept apart with split train, all with another.",
    )
    parser.add_argument("--limit", type=int, help="So many real and so many fake images at most.")
    parser.add_argument("--one", choices=RECIPES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.evaluate_sources is None and chosen.evaluate_split == "train":
        chosen.evaluate_sources = ["monstree", "sceaux", "grocery", "jamez", "extile1"]
    if chosen.one:
        one(chosen.one, chosen)
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    for method in chosen.methods:
        if (chosen.out / method / COSTS).is_file():
            print(f"{method}: done already")
            continue
        # A process each: memory is its own, and what goes wrong takes no other method along.
        command = [sys.executable, __file__, *sys.argv[1:], "--one", method]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        place = chosen.out / method
        place.mkdir(parents=True, exist_ok=True)
        (place / "log.txt").write_text(done.stdout + done.stderr)
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        (place / "failed.txt").write_text("" if done.returncode == 0 else f"{reason[:300]}\n")
        print(f"{method}: {'done' if done.returncode == 0 else reason}")
        write(chosen)
    print(write(chosen))


if __name__ == "__main__":
    main()
