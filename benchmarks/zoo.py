"""Train every method for real at a small size, evaluate it in all three columns, and write one table.

    python benchmarks/zoo.py MANIFEST.csv --out runs/zoo [--methods gamma effort ...] [--steps 300 | --minutes 5]
        [--set KEY=VALUE ...] [--evaluate-split train] [--evaluate-sources monstree sceaux ...] [--limit 100]

Each method follows its recipe in recipes/, on the embedded backbone where it has one. Without --evaluate-split the
images are those of the validation sources that the recipes keep apart; thresholds are fitted on the same ones, so that
their real and fake accuracy is in-sample there (AUROC is not). A test split gets thresholds that it never saw. A method
that is done is skipped, one that was interrupted goes on: start it again with the same options. One that cannot be
trained on these data (camera tables are missing, say) becomes a row that says so.

Milliseconds per image, memory and minutes are of this machine and beside whatever else ran: compare rows, not machines.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
COLUMNS = ("native", "fakes_aligned", "all_recoded")
NUMBERS = ("auroc", "balanced_accuracy", "real_accuracy", "fake_accuracy")


def overrides_of(method: str, chosen: argparse.Namespace) -> list[str]:
    made = list(EMBEDDED.get(method, ()))
    if method == "gamma":
        made += [f"data.mixture.{part}" for part in GAMMA_MIXTURE]
    made += [f"data.pretext.tables={json.dumps([str(t) for t in chosen.camera_tables])}"] * (
        method in {"sdaie", "blades"} and bool(chosen.camera_tables)
    )
    return [*made, *chosen.set]


def trained(method: str, chosen: argparse.Namespace, folder: Path) -> Path:
    """Train all stages; return the last checkpoint."""
    from gammascope.training.following import follow
    from gammascope.training.recipe import read_recipe

    checkpoint = Path()
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
    return checkpoint


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


def evaluated(checkpoint: Path, chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from gammascope import checkpoints
    from gammascope.checkpoints import parameters_of
    from gammascope.detection.pipeline import Pipeline
    from gammascope.evaluation import calibrating, run
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
    started, cpu = time.perf_counter(), time.process_time()
    candidate = run.Candidate.of(pipeline)
    tables, _ = run.scored(candidate, entries, columns, folder / "scores", lambda *_: None)
    about = {"data": str(chosen.evaluate_split), "labels": ""}
    made = run.summarised(candidate, tables, run.definitions_of(columns), about=about)
    count = len(entries) * len(columns)
    return {
        "parameters": parameters_of(checkpoint),
        "ms_per_image": 1000 * (time.perf_counter() - started) / count,
        "cpu_ms_per_image": 1000 * (time.process_time() - cpu) / count,
        "images": len(entries),
        "columns": {
            name: of["generated"] for name, of in made.columns.items() if "generated" in of
        },
    }


def one(method: str, chosen: argparse.Namespace) -> None:
    """Train and evaluate one method in this process; write its row."""
    from gammascope.machine import peak_mib

    folder = chosen.out / method
    started = time.perf_counter()
    row: dict[str, Any] = {"method": method, "steps": chosen.steps}
    before = folder / "seconds.txt"
    spent = float(before.read_text()) if before.is_file() else 0.0
    try:
        checkpoint = trained(method, chosen, folder)
    finally:
        spent += time.perf_counter() - started
        folder.mkdir(parents=True, exist_ok=True)
        before.write_text(f"{spent:.1f}\n")
    row["training_minutes"] = spent / 60
    row |= evaluated(checkpoint, chosen, folder)
    row["peak_memory_mb"] = peak_mib()
    (folder / "row.json.part").write_text(json.dumps(row, indent=1))
    (folder / "row.json.part").replace(folder / "row.json")


def cell(summary: dict[str, Any], number: str) -> str:
    value = summary["overall"].get(number)
    if value is None:
        return "-"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    heads = [
        "method",
        "parameters",
        "ms/image",
        "memory MB",
        "training min",
        "column",
        "images",
        "AUROC",
    ]
    heads += ["balanced accuracy", "real accuracy", "fake accuracy"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['method']} | {row['failed']} |" + " |" * (len(heads) - 2))
            continue
        facts = [row["method"], f"{row['parameters'] / 1e6:.2f} M", f"{row['ms_per_image']:.0f}"]
        facts += [f"{row['peak_memory_mb']:.0f}", f"{row['training_minutes']:.1f}"]
        for name in COLUMNS:
            if name in row["columns"]:
                numbers = [cell(row["columns"][name], number) for number in NUMBERS]
                lines.append(f"| {' | '.join([*facts, name, str(row['images']), *numbers])} |")
                facts = [""] * len(facts)
    return "\n".join(lines) + "\n"


def write(chosen: argparse.Namespace) -> None:
    rows = []
    for method in chosen.methods:
        path = chosen.out / method / "row.json"
        rows.append(
            json.loads(path.read_text())
            if path.is_file()
            else {"method": method, "failed": "not done"}
        )
        problem = chosen.out / method / "failed.txt"
        if "failed" in rows[-1] and problem.is_file():
            rows[-1]["failed"] = problem.read_text().strip()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    (chosen.out / "zoo.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    (chosen.out / "zoo.md").write_text(f"{machine}\n\n{markdown(rows)}")


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
        if (chosen.out / method / "row.json").is_file():
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
    write(chosen)
    print((chosen.out / "zoo.md").read_text())


if __name__ == "__main__":
    main()
