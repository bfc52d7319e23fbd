"""The embedded recipe, whole, trained anew without each family of generators, and asked about that family.

    python benchmarks/leave_one_out.py MANIFEST.csv --data TWINS.csv ... --pretrained MOBILENETV2.safetensors \
        --out runs/leave_one_out [--folds sd1.x gpt-4o] [--most 120] [--set K=V ...]

What ``ablations.py`` does with small networks on frozen views, done with the network that ships: same data law, same
number of steps, nothing chosen on what is left out (no validation, no calibration). A fold leaves out whole sources of
photos too, with their twins. The small decoders and TAEF2 are not trained anew: they may have seen photos of the fold,
no image of its generators.
Resumable: start it again with the same options.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from folds import FOLDS, JPEG90, Fold, options, whole_images
from rich.progress import Progress, track

from gammascope.data.manifest import read_manifest
from gammascope.detection import export
from gammascope.detection.pipeline import Pipeline
from gammascope.evaluation.metrics import auroc_against
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Label
from gammascope.training import loop, run_folder
from gammascope.training.recipe import read_recipe

ROOT = Path(__file__).parents[1]


def trained(fold: Fold, chosen: argparse.Namespace) -> Path:
    """Follow the recipe but for what the fold keeps apart; return the checkpoint, with its graph beside it."""
    folder: Path = chosen.out / fold.name
    checkpoint = folder / loop.CHECKPOINT
    if not checkpoint.is_file():
        names = {"sources": fold.apart.sources, "generators": fold.apart.generators}
        changes = [
            f"method.pretrained={chosen.pretrained}",
            f"data.manifests={json.dumps([str(path) for path in (chosen.manifest, *chosen.data)])}",
            *(f"data.validation_{kind}={json.dumps(sorted(some))}" for kind, some in names.items()),
            *chosen.set,
        ]
        recipe = read_recipe(ROOT / "recipes" / "gamma_embedded.toml", changes)
        # Nothing is chosen on it, so it is looked at once, at the end.
        rhythm = replace(recipe.rhythm, validate=recipe.optimisation.steps)
        with Progress() as bars:
            bar = bars.add_task(fold.name)

            def report(now: run_folder.Progress) -> None:
                bars.update(
                    bar, description=f"{fold.name} {now.stage}", completed=now.done, total=now.total
                )

            resume = (folder / loop.STATE).is_dir()
            loop.train(replace(recipe, rhythm=rhythm), folder, resume=resume, report=report)
    export.graph_beside(checkpoint)
    return checkpoint


def answered(fold: Fold, checkpoint: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Score the held-out images as they are and at JPEG 90."""
    pipeline = Pipeline.load(checkpoint)
    rows: list[dict[str, Any]] = []
    for entry in track(entries, f"{fold.name} held out"):
        image = decode(entry.path).image
        versions = {"native": image, "recoded": codecs.reencode(image, JPEG90)}
        scores = {n: pipeline.scores(v).answers["generated"] for n, v in versions.items()}
        name = entry.generator or entry.source
        rows.append({"name": name, "fake": entry.label is Label.FAKE} | scores)
    truth = np.array([row["fake"] for row in rows])
    result: dict[str, Any] = {
        "fold": fold.name,
        "photos": int((~truth).sum()),
        "fakes": int(truth.sum()),
    }
    for column in ("native", "recoded"):
        logits = np.array([row[column] for row in rows])
        value = auroc_against(np.sort(logits[~truth])[::-1], logits[truth])
        result[column] = [value.value, value.low, value.high]
    return result | {"rows": rows}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return one line for each fold and their mean."""
    lines = [
        "| left out | photos | generated | native [95 %] | JPEG 90 [95 %] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results:
        cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*row[c]) for c in ("native", "recoded")]
        lines.append(
            f"| {row['fold']} | {row['photos']} | {row['fakes']} | {cells[0]} | {cells[1]} |"
        )
    means = [f"{np.mean([row[c][0] for row in results]):.3f}" for c in ("native", "recoded")]
    lines.append(f"| mean of {len(results)} | | | {means[0]} | {means[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--most", type=int, default=120)
    chosen = parser.parse_args()
    entries = [e for m in (chosen.manifest, *chosen.data) for e in read_manifest(m, "train")]
    results = []
    for fold in FOLDS:
        if chosen.folds and fold.name not in chosen.folds:
            continue
        scores = chosen.out / fold.name / "scores.json"
        if not scores.is_file():
            checkpoint = trained(fold, chosen)
            held = [e for e in entries if fold.apart.holds(e)]
            asked = [e for label in Label for e in whole_images(held, label, chosen.most)]
            scores.write_text(json.dumps(answered(fold, checkpoint, asked)))
        results.append(json.loads(scores.read_text()))
    (chosen.out / "table.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
