"""What bf16, int8 and "auto" change, and what they save: verdicts on whole images, beside float32 in the same run.

    python benchmarks/precisions.py MANIFEST --split dev [--images 200] [--timed 48] [--int8 DETECTOR.int8.xml]
    python benchmarks/precisions.py --synthetic

"auto" is what ships: of weights that are int8, activations are, too. int8 files of other checkpoints are made by
``gammascope export CHECKPOINT --out FOLDER --data MANIFEST``. Every image goes through all precisions in turn, so what
disturbs one disturbs all; times are the processor's, and medians of ``--repeats`` runs on ``--timed`` of the pictures.
Leaves with 1 if more verdicts change than ``--most`` allows: a gate for build machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from labelled import Way, decoded, entries_of, judged_and_timed, look_at, share, told
from scan_speed import PHOTOS

from gammascope.report import Verdict

if TYPE_CHECKING:
    from gammascope.manipulation.splicing import Donor
    from gammascope.sample import Image

EXACT: Final = "f32"
PRECISIONS: Final = (EXACT, "bf16", "auto")


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


def images_of(chosen: argparse.Namespace) -> Iterator[Image]:
    if chosen.synthetic:
        yield from synthetic()
        return
    for _, image in decoded(entries_of(chosen.manifest, chosen.split, chosen.images)):
        yield image


def ways_of(chosen: argparse.Namespace) -> dict[str, Way]:
    from gammascope.detection.pipeline import Execution, Pipeline

    found = {
        precision: Pipeline.load(
            execution=Execution(engine="openvino", precision=precision, profile=chosen.profile)
        )
        for precision in PRECISIONS
    }
    if chosen.int8 is not None:
        found["int8"] = Pipeline.load(chosen.int8, execution=Execution(profile=chosen.profile))
    return {name: Way(pipeline) for name, pipeline in found.items()}


def changes(way: Way, exact: Way) -> dict[str, Any]:
    """Return what a way of computing changes and saves, beside the exact one."""
    pairs = list(zip(way.verdicts(), exact.verdicts(), strict=True))
    flipped = [
        any({one[name], other[name]} == {Verdict.FAKE, Verdict.NO_SIGN} for name in one)
        for one, other in pairs
    ]
    apart = [
        {name: abs(one[name] - other[name]) for name in one}
        for one, other in zip(way.logits, exact.logits, strict=True)
    ]
    questions = {name: max(each[name] for each in apart) for name in apart[0]}
    return {
        "images": len(pairs),
        "cpu_ms_a_view": 1e3 * way.seconds / way.views,
        "speed_of_f32": exact.seconds / way.seconds,
        "logit_difference": max(questions.values()),
        "by_question": questions,
        "other_verdict": share(sum(one != other for one, other in pairs), len(pairs)),
        "no_sign_to_fake_or_back": share(sum(flipped), len(pairs)),
    }


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    ways = ways_of(chosen)
    look_at(images_of(chosen), ways)
    if not ways[EXACT].answers:
        sys.exit(f"No picture of {chosen.manifest} can be read.")
    return {name: changes(way, ways[EXACT]) for name, way in ways.items()}


def ratios(found: dict[str, Any], pictures: str) -> dict[str, float]:
    """Return how much quicker than float32 each is, and how many verdicts stay; more is better."""
    kept = {}
    for name, row in found.items():
        if name != EXACT:
            kept[f"{pictures}, {name}: CPU of f32 / of it"] = row["speed_of_f32"]
            kept[f"{pictures}, {name}: verdicts of f32 that stay"] = (
                1 - row["other_verdict"]["value"]
            )
    return kept


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "| precision | images | CPU-ms a view | speed, of f32 | most logit difference | other verdict "
        "| no sign to fake or back |",
        f"| --- |{' ---: |' * 6}",
    ]
    lines += [
        f"| {name} | {row['images']:.0f} | {row['cpu_ms_a_view']:.2f} | {row['speed_of_f32']:.2f} | "
        f"{row['logit_difference']:.2g} | {told(row['other_verdict'])} | {told(row['no_sign_to_fake_or_back'])} |"
        for name, row in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, nargs="?")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--images", type=int, help="so many, evenly spread; default: all of it")
    parser.add_argument("--profile", default="fast", choices=("fast", "default", "thorough"))
    parser.add_argument("--int8", type=Path)
    parser.add_argument(
        "--most", type=float, default=1.0, help="share of images with other verdicts"
    )
    parser.add_argument("--timed", type=int, default=48, help="pictures that are timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if (chosen.manifest is None) != chosen.synthetic:
        parser.error("name a MANIFEST, or --synthetic.")
    found = judged_and_timed(measured, chosen, ("cpu_ms_a_view", "speed_of_f32"))
    print(markdown(found))
    if chosen.json:
        pictures = "synthetic" if chosen.synthetic else chosen.split
        result = {"found": found, "ratios": ratios(found, pictures)}
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.exit(max(row["other_verdict"]["value"] for row in found.values()) > chosen.most)


if __name__ == "__main__":
    main()
