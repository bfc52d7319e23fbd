"""What bf16 and int8 change, and what they save: verdicts on whole images, beside float32 in the same run.

    python benchmarks/precisions.py MANIFEST --split dev [--images 200] [--int8 DETECTOR.int8.xml]
    python benchmarks/precisions.py --synthetic

int8 files are made by ``gammascope export CHECKPOINT --out FOLDER --data MANIFEST``. Every image goes through all
precisions in turn, so what disturbs one disturbs all; times are the processor's. Leaves with 1 if more verdicts change
than ``--most`` allows: a gate for build machines.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gammascope.report import percent

if TYPE_CHECKING:
    from gammascope.choices import Profile
    from gammascope.detection.pipeline import Pipeline
    from gammascope.manipulation.splicing import Donor
    from gammascope.sample import Image

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field")


@dataclass
class Change:
    """What one precision changed so far; logits are uncalibrated."""

    seconds: float = 0.0
    views: int = 0
    images: int = 0
    logit: float = 0.0
    verdicts: int = 0
    flipped: int = 0
    by_question: dict[str, float] = field(default_factory=dict)


def _donor(image: Image, _: np.random.Generator) -> Donor:
    from gammascope.manipulation.splicing import Donor

    return Donor(image)


def synthetic() -> Iterator[Image]:
    """Yield scikit-image's photos as they are, with a part moved, spliced and filled."""
    import skimage.data

    from gammascope.manipulation.copy_move import CopyMove
    from gammascope.manipulation.inpainting import Inpainting, Telea
    from gammascope.manipulation.splicing import Splicing

    photos = [np.ascontiguousarray(getattr(skimage.data, name)()) for name in PHOTOS]
    for number, photo in enumerate(photos):
        rng = np.random.default_rng(number)
        donor = photos[number - 1]
        splice = Splicing(partial(_donor, donor))
        yield photo
        for edit in (CopyMove(), splice, Inpainting(Telea())):
            yield edit(photo[:512, :512], rng).image


def of_manifest(manifest: Path, split: str, most: int) -> Iterator[Image]:
    from gammascope.data.manifest import read_manifest
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging.decode import decode

    entries = read_manifest(manifest, split)
    for entry in entries[:: max(1, len(entries) // most)][:most]:
        try:
            yield decode(entry.path).image
        except UndecodableImageError as error:
            print(f"left out: {error}", file=sys.stderr)


def pipelines(int8: Path | None, profile: Profile) -> dict[str, Pipeline]:
    from gammascope.detection.pipeline import Execution, Pipeline

    found = {
        precision: Pipeline.load(
            execution=Execution(engine="openvino", precision=precision, profile=profile)
        )
        for precision in ("f32", "bf16")
    }
    if int8 is not None:
        found["int8"] = Pipeline.load(int8, execution=Execution(profile=profile))
    return found


def compared(images: Iterator[Image], looking: dict[str, Pipeline]) -> dict[str, Change]:
    changes = {name: Change() for name in looking}
    for image in images:
        said = {}
        for name, pipeline in looking.items():
            begun = time.process_time()
            scores = pipeline.scores(image)
            change = changes[name]
            change.seconds += time.process_time() - begun
            change.views += scores.views
            change.images += 1
            said[name] = scores, pipeline._answers(scores)
        exact, expected = said["f32"]
        for name, (scores, answers) in said.items():
            change = changes[name]
            pairs = [
                (answers[question].verdict, expected[question].verdict) for question in answers
            ]
            change.verdicts += any(one is not other for one, other in pairs)
            change.flipped += any(
                {str(one), str(other)} == {"fake", "real"} for one, other in pairs
            )
            for question, logit in (exact.answers or {"": exact.logit}).items():
                other = scores.answers[question] if question else scores.logit
                change.logit = max(change.logit, abs(other - logit))
                most = change.by_question.get(question, 0.0)
                change.by_question[question] = max(most, abs(other - logit))
    return changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, nargs="?")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--profile", default="fast", choices=("fast", "default", "thorough"))
    parser.add_argument("--int8", type=Path)
    parser.add_argument(
        "--most", type=float, default=1.0, help="share of images with other verdicts"
    )
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if (chosen.manifest is None) != chosen.synthetic:
        parser.error("name a MANIFEST, or --synthetic.")
    images = (
        synthetic()
        if chosen.synthetic
        else of_manifest(chosen.manifest, chosen.split, chosen.images)
    )
    changes = compared(images, pipelines(chosen.int8, chosen.profile))
    exact = changes["f32"]
    result: dict[str, dict[str, Any]] = {
        name: {
            "images": change.images,
            "cpu_ms_a_view": 1e3 * change.seconds / max(1, change.views),
            "speed_of_f32": exact.seconds / change.seconds if change.seconds else 0.0,
            "logit_difference": change.logit,
            "by_question": change.by_question,
            "changed_verdicts": change.verdicts / max(1, change.images),
            "real_to_fake_or_back": change.flipped / max(1, change.images),
        }
        for name, change in changes.items()
    }
    print(
        "| precision | images | CPU-ms a view | speed, of f32 | most logit difference | other verdict | real <-> fake |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, row in result.items():
        print(
            f"| {name} | {row['images']} | {row['cpu_ms_a_view']:.2f} | {row['speed_of_f32']:.2f} | "
            f"{row['logit_difference']:.2g} | {percent(row['changed_verdicts'], 1)} | "
            f"{percent(row['real_to_fake_or_back'], 1)} |"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    worst = max(change.verdicts / max(1, change.images) for change in changes.values())
    sys.exit(worst > chosen.most)


if __name__ == "__main__":
    main()
