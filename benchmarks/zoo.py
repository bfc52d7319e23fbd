"""Train every method as its paper does, on the same pictures and as many views, and lay all out in one table.

    python benchmarks/zoo.py --data MANIFEST.csv [--data MANIFEST.csv] --dev MANIFEST.csv --out runs/zoo
        --camera-tables EXIF.csv --autoencoder TAEF2 [--apart SOURCE] [--without HASHES.txt] [--seeds 3]

All rows see views of one law: windows of native pixels at random places, drawn from at most ``--cap`` training pictures
of a collection and class; a third of the collections is left out of all training. A picture is judged by its central
window. With one seed view number n is the same picture, window and chain for all whose views are of one size, and what
the frozen first blocks of the tower say of it is kept once in OUT/states. Each row's own part is in
``zoo_rows.py``: its stages, the recipe of each and what differs from it. Then the ``--best`` methods on the
collections left out, and both plain rows, are trained with further seeds.

Row ``embedded`` trains nothing: it is the detector that scans use, as it ships, on the same pictures in the same
columns. The three best rows together, as a fusion and as a cascade, are compared with it.

Start it again with the same options and it goes on, from the last twenty steps; on another machine, with the same
pictures, ``--begin zoo.parquet`` takes over what is through. OUT/zoo.parquet, written anew after
each run, holds all scores without paths; ``gammascope evaluate --replay`` prints the tables from it, as this script
does at its end. Several calls may share OUT, each with some of ``--rows``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from zoo_rows import CONTROLS, EMBEDDED, GOES_ON, PLAIN, ROWS, TOWER, TWINS, Stage

from gammascope import checkpoints, weights
from gammascope.data.camera import read_camera_tables
from gammascope.data.laws import Nuisance
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.detection.pipeline import Pipeline
from gammascope.detection.scores import Scores
from gammascope.detectors import base
from gammascope.detectors.base import Detector
from gammascope.evaluation import replaying, robustness, run
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.replay_file import FILE, Kept
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import AsIs, Column
from gammascope.evaluation.tables import markdown
from gammascope.files import complete_or_absent
from gammascope.imaging.views import views_of
from gammascope.machine import peak_mib
from gammascope.networks.backbones import TransformerBackbone
from gammascope.sample import Entry, Label, Sample
from gammascope.training.following import follow
from gammascope.training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[1]
FOLDS, LEFT_OUT = 6, (0, 2)
"""Collections fall into so many parts by the hash of their names; these parts are left out of all training."""
FACES = ("cdiaconu-faces", "chmoe-faces", "seegma-faces")
MOST_FACES, MOST_TWINS, LARGEST_TWIN = 200, 160, 1024
"""Faces of a collection and class; photos that get a twin, and the longer side of the largest of them, pixels."""
BATCH, KEPT_BLOCKS = 16, 8
CENTRE = 960
"""Side of the middle of a picture that is perturbed, pixels: a quarter of it still fills a window."""


def ranked(entries: Sequence[Entry], most: int, refused: set[str]) -> Iterator[Entry]:
    """Yield at most so many pictures of a collection and class, chosen by the hash of their names."""

    def place(entry: Entry) -> str:
        return hashlib.sha256(f"{entry.source}/{entry.path.name}".encode()).hexdigest()

    had: Counter[tuple[str | None, Label]] = Counter()
    for entry in sorted(entries, key=place):
        if had[entry.source, entry.label] == most:
            continue
        if refused and hashlib.sha256(entry.path.read_bytes()).hexdigest() in refused:
            continue
        had[entry.source, entry.label] += 1
        yield entry


def is_left_out(entry: Entry) -> bool:
    """Whether a picture's collection is left out of all training."""
    part = int(hashlib.sha256(f"{entry.source}".encode()).hexdigest(), 16) % FOLDS
    return part in LEFT_OUT


def listed(chosen: argparse.Namespace) -> None:
    """Write the lists of pictures that all rows share; what is there stays."""
    out: Path = chosen.out
    if not (out / "hosts.csv").is_file():
        refused = set(chosen.without.read_text().split()) if chosen.without else set()
        whole = [
            entry
            for data in chosen.data
            for entry in read_manifest(data, "train")
            if entry.kind is None and entry.host_path is None and entry.source not in chosen.apart
        ]
        learnt = [entry for entry in whole if not is_left_out(entry)]
        train = list(ranked(learnt, chosen.cap, refused))
        kept = [entry for entry in whole if is_left_out(entry)]
        known = read_camera_tables(chosen.camera_tables) if chosen.camera_tables else {}
        real = [entry for entry in learnt if entry.label is Label.REAL]
        faces = [entry for entry in learnt if entry.source in FACES]
        small = [e for e in train if e.label is Label.REAL and _longer(e.path) <= LARGEST_TWIN]
        lists = {
            "train.csv": train,
            "validation.csv": list(ranked(kept, chosen.cap_left_out, refused)),
            "cameras.csv": [entry for entry in real if entry.path.resolve() in known],
            "faces.csv": list(ranked(faces, MOST_FACES, refused)),
            "hosts.csv": list(ranked(small, MOST_TWINS, set()))[:MOST_TWINS],
        }
        for name, entries in lists.items():
            if entries:
                write_manifest(entries, out / name)


def twins(chosen: argparse.Namespace) -> None:
    """Make autoencoder round trips of some photos; what is there stays."""
    out: Path = chosen.out
    if chosen.autoencoder and not (out / "twins" / "manifest.csv").is_file():
        told = ("--kind", "twin", "--quality", "png", "--controls", "0", "--split", "train")
        where = ("--autoencoder", chosen.autoencoder, "--out", out / "twins", "--quiet")
        command = [sys.executable, "-m", "gammascope", "synthesize", out / "hosts.csv"]
        subprocess.run([*map(str, (*command, *told, *where))], check=True)


def _longer(path: Path) -> int:
    with PIL.Image.open(path) as picture:
        return max(picture.size)


def recipe_of(stage: Stage, chosen: argparse.Namespace, seed: int, start: Path) -> Recipe:
    """Return the recipe of a stage with all that differs from it."""
    out: Path = chosen.out
    steps = chosen.views // BATCH
    manifests = [str(out / name) for name in stage.pictures]
    values = [
        *(f"seed={seed}", f"data.manifests={json.dumps(manifests)}", "data.workers=0"),
        *("data.memory_gb=2.0", f"optimisation.batch={BATCH}", f"optimisation.steps={steps}"),
        *("rhythm.log=10", "rhythm.save=20", f"rhythm.validate={steps}"),
        *stage.values,
    ]
    if stage.rate is None:
        values.append(f"probing.views={chosen.views}")
    else:
        values += [f"optimisation.learning_rate={stage.rate}", "optimisation.warmup_share=0.1"]
        values += ["optimisation.final_learning_rate=1e-6", "optimisation.ema=0.0"]
        values.append("optimisation.cosine_steps=0")
    if stage.kept:
        values += [f"keeping.folder={out / 'states'}", f"keeping.blocks={KEPT_BLOCKS}"]
    if any(value in TOWER for value in stage.values):
        values += ["optimisation.precision=bf16", "optimisation.channels_last=false"]
    if stage.cameras:
        tables = json.dumps([str(table) for table in chosen.camera_tables])
        values.append(f"data.pretext.tables={tables}")
    if stage.start:
        values.append(f"method.{stage.start}={start}")
    recipe = read_recipe(ROOT / "recipes" / f"{stage.recipe}.toml", [*values, *chosen.set])
    return replace(recipe, data=replace(recipe.data, nuisance=Nuisance()))


def trained(row: str, seed: int, chosen: argparse.Namespace) -> tuple[Path, Recipe | None]:
    """Train all stages of a row, or go on; return the last checkpoint, and by which recipe it was trained."""
    start, recipe = checkpoint_of(GOES_ON.get(row, row), seed, chosen), None
    for number, stage in enumerate(ROWS[row]):
        recipe = recipe_of(stage, chosen, seed, start)
        folder = chosen.out / "runs" / f"{row}-{seed}" / str(number)
        start = folder / "checkpoint.safetensors"
        if not start.is_file():
            begun = "recipe.json" if recipe.probing else "state"
            # Around the loop, which has its own, autocast would keep the first weights that it rounded.
            half = torch.autocast("cpu", torch.bfloat16) if recipe.probing else nullcontext()
            with half:
                follow(recipe, folder, resume=(folder / begun).exists())
    return start, recipe


def checkpoint_of(row: str, seed: int, chosen: argparse.Namespace) -> Path:
    """Return where the last checkpoint of a row lies."""
    if not ROWS[row]:
        return weights.default_path()
    last = len(ROWS[row]) - 1
    place: Path = chosen.out / "runs" / f"{row}-{seed}" / str(last) / "checkpoint.safetensors"
    return place


@dataclass(frozen=True)
class Centre:
    """A column in which the middle of each picture alone is changed: nothing else is looked at.

    Attributes:
        column: What happens to it.
    """

    column: Column

    @property
    def definition(self) -> Mapping[str, Any]:
        """The change, and the side of the middle in pixels."""
        return {**self.column.definition, "centre": CENTRE}

    def __call__(self, sample: Sample) -> Sample:
        """Return the middle, changed; it begins at whole blocks of a JPEG file."""
        starts = [max(0, side - CENTRE) // 2 // 16 * 16 for side in sample.image.shape[:2]]
        rows, columns = (slice(start, start + CENTRE) for start in starts)
        middle = np.ascontiguousarray(sample.image[rows, columns])
        return self.column(replace(sample, image=middle, generated=None, edited=None))


COLUMNS: Mapping[str, Column] = {
    "native": Centre(AsIs()),
    "JPEG 90": Centre(run.columns_of(())[run.ALL_RECODED]),
    "perturbed": Centre(robustness.AnyOf("full")),
}


class Looking:
    """Answers by the central window of a picture, in the arithmetic of training."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.answers = detector, 0
        self.half = isinstance(getattr(detector, "backbone", None), TransformerBackbone)

    def __call__(self, sample: Sample) -> Scores:
        """Answer for one picture."""
        return self.of_all([sample])[0]

    @torch.inference_mode()
    def of_all(self, samples: Sequence[Sample]) -> list[Scores]:
        """Answer for several pictures: one picture in all of its columns."""
        views = [views_of(sample.image, self.detector.view)[0].pixels for sample in samples]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            said = self.detector(torch.from_numpy(np.stack(views)))
        logits = said.answers.get("generated", said.logit).float().tolist()
        self.answers += len(samples)
        return [Scores(logit, {"generated": logit}, {}, views=1) for logit in logits]


def candidate_of(row: str, checkpoint: Path, chosen: argparse.Namespace) -> run.Candidate:
    """Return what answers for a row: the last checkpoint by central windows, or what ships as it ships."""
    if not ROWS[row]:
        return replace(run.Candidate.of(Pipeline.load(checkpoint)), method=row, threads=1)
    loaded = checkpoints.load(checkpoint)
    backbone = getattr(loaded.detector, "backbone", None)
    if ROWS[row][-1].kept and isinstance(backbone, TransformerBackbone):
        backbone.keep(chosen.out / "states", KEPT_BLOCKS)
    looking = Looking(loaded.detector.eval())
    return run.Candidate(row, loaded.sha256, {}, looking, 1, "torch, bf16")


def scored(checkpoint: Path, row: str, folder: Path, chosen: argparse.Namespace) -> dict[str, str]:
    """Score the left-out collections and ``dev`` in all columns, and keep it; return what it has cost."""
    candidate = candidate_of(row, checkpoint, chosen)
    sets = {"validation": (chosen.out / "validation.csv", None), "dev": (chosen.dev, "dev")}
    tables: dict[str, ScoreTable] = {}
    definitions: dict[str, Mapping[str, Any]] = {}
    cpu = time.process_time()
    for name, (manifest, split) in sets.items():
        entries = [e for e in read_manifest(manifest, split) if e.kind is None]
        found, _ = run.scored(candidate, entries, COLUMNS, folder / name, lambda *_: None)
        tables |= {f"{name}, {column}": found[column] for column in COLUMNS}
        definitions |= {f"{name}, {n}": column.definition for n, column in COLUMNS.items()}
    answers, cpu = candidate.predict.answers, time.process_time() - cpu
    made = run.summarised(candidate, tables, definitions, about={"data": "", "labels": ""})
    replaying.kept(run.Told(made, tables)).save(folder / FILE)
    return {"CPU-ms a picture": f"{1000 * cpu / max(1, answers):.0f}"}


def learnt(recipe: Recipe | None) -> int:
    """Return how many parameters a recipe trains."""
    if recipe is None:
        return 0
    detector = base.get(recipe.method).build(recipe.config)
    return sum(p.numel() for p in detector.parameters() if p.requires_grad)


def one(row: str, seed: int, chosen: argparse.Namespace) -> None:
    """Train and score a row in this process; keep its scores, and last what it has cost."""
    folder = chosen.out / "runs" / f"{row}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    kept, start = folder / "seconds.json", (time.perf_counter(), time.process_time())
    before = json.loads(kept.read_text()) if kept.is_file() else [0.0, 0.0]
    # Whoever ends a training from outside shall not lose what it has cost so far.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        checkpoint, recipe = trained(row, seed, chosen)
    finally:
        now = (time.perf_counter(), time.process_time())
        spent = [old + n - s for old, n, s in zip(before, now, start, strict=True)]
        kept.write_text(json.dumps(spent) + "\n")
    costs = {
        "steps": "+".join(
            "fit" if s.rate is None else f"{chosen.views // BATCH}" for s in ROWS[row]
        )
        or "as shipped",
        "training, min": f"{spent[0] / 60:.1f}",
        "training, CPU-min": f"{spent[1] / 60:.1f}",
        "memory, GiB": f"{(peak_mib() or math.nan) / 1024:.1f}",
        "trained parameters": f"{learnt(recipe):,}",
    }
    costs |= scored(checkpoint, row, folder, chosen)
    with complete_or_absent(folder / "costs.json") as unfinished:
        unfinished.write_text(json.dumps(costs, indent=1) + "\n")


def done(chosen: argparse.Namespace) -> list[tuple[str, int]]:
    """Return rows and seeds that are through."""
    runs = [(row, seed) for row in ROWS for seed in range(chosen.seeds)]
    return [r for r in runs if (chosen.out / "runs" / f"{r[0]}-{r[1]}" / "costs.json").is_file()]


def best(chosen: argparse.Namespace) -> list[str]:
    """Return the methods with the highest AUROC on the native pictures of the collections left out."""
    found = {}
    for row, seed in done(chosen):
        if seed == 0 and row not in (EMBEDDED, *PLAIN, *CONTROLS):
            table = Kept.read(chosen.out / "runs" / f"{row}-0" / FILE).tables["validation, native"]
            usable = np.isfinite(table["logit_generated"])
            found[row] = auroc(table["logit_generated"][usable], table["label"][usable])
    return sorted(found, key=lambda row: -found[row])[: chosen.best]


def begin(chosen: argparse.Namespace) -> None:
    """Take over rows and seeds that another machine was through with."""
    for name, (kept, costs) in replaying.runs_of_zoo(Kept.read(chosen.begin)).items():
        row, _, seed = name.partition(", seed ")
        folder = chosen.out / "runs" / f"{row}-{seed or 0}"
        if not (folder / "costs.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            kept.save(folder / FILE)
            (folder / "costs.json").write_text(json.dumps(costs, indent=1) + "\n")


def write(chosen: argparse.Namespace) -> None:
    """Put the scores of all that are through into one file."""
    names = {(r, s): r if s == 0 else f"{r}, seed {s}" for r, s in done(chosen)}
    if not names:
        return
    folders = {name: chosen.out / "runs" / f"{r}-{s}" for (r, s), name in names.items()}
    replaying.zoo(
        {name: Kept.read(folder / FILE) for name, folder in folders.items()},
        {name: json.loads((folder / "costs.json").read_text()) for name, folder in folders.items()},
        [row for row in chosen.rows if (row, 0) not in names],
        runs_of={name: row for (row, _), name in names.items()},
        plain=[row for row in PLAIN if (row, 0) in names],
        against=EMBEDDED if (EMBEDDED, 0) in names else "",
    ).save(chosen.out / "zoo.parquet")


def follow_all(runs: Sequence[tuple[str, int]], chosen: argparse.Namespace) -> None:
    """Do what is not done yet, each in a process of its own: what goes wrong takes no other row along."""
    for row, seed in runs:
        if (row, seed) in done(chosen):
            continue
        if any(TWINS in stage.pictures for stage in ROWS[row]):
            twins(chosen)
        command = [sys.executable, __file__, *sys.argv[1:], "--one", row, str(seed)]
        place = chosen.out / "runs" / f"{row}-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        with (place / "log.txt").open("a") as log:
            code = subprocess.run(command, check=False, stdout=log, stderr=log).returncode
        last = ((place / "log.txt").read_text().strip().splitlines() or ["no message"])[-1]
        print(
            f"{time.strftime('%H:%M')} {row}, seed {seed}: {last[:200] if code else 'done'}",
            flush=True,
        )
        write(chosen)


def main() -> None:
    """List pictures, train and score all rows, then the best with further seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument(
        "--dev", type=Path, required=True, help="manifest whose split dev is scored"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--camera-tables", nargs="*", type=Path, default=[])
    parser.add_argument(
        "--autoencoder", default="", help="makes the twins of align_gemini and gamma"
    )
    parser.add_argument("--apart", action="append", default=[], help="sources to leave out")
    parser.add_argument("--without", type=Path, help="text file of hashes of pictures to leave out")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--cap", type=int, default=16, help="pictures to learn, of a collection and class"
    )
    parser.add_argument("--cap-left-out", type=int, default=10, help="pictures to judge, likewise")
    parser.add_argument("--views", type=int, default=6400, help="of every training")
    parser.add_argument("--begin", type=Path, help="zoo.parquet of rows that are through")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--best", type=int, default=5, help="methods that get further seeds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="further values for every recipe")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.one:
        one(chosen.one[0], int(chosen.one[1]), chosen)
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    listed(chosen)
    if chosen.begin:
        begin(chosen)
    follow_all([(row, 0) for row in chosen.rows], chosen)
    further = dict.fromkeys([*best(chosen), *PLAIN])
    follow_all([(row, seed) for row in further for seed in range(1, chosen.seeds)], chosen)
    write(chosen)
    tables = markdown(replaying.replayed(chosen.out / "zoo.parquet").grids)
    (chosen.out / "zoo.md").write_text(tables, "utf-8")
    print(tables)


if __name__ == "__main__":
    main()
