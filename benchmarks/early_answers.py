"""What answering early finds, misses and saves: the first views alone, few views, and a cascade, side by side.

    python benchmarks/early_answers.py MANIFEST --split dev [--images 100] [--timed 48] [--repeats 5] [--json FILE]

On labelled pictures, at the thresholds that ship, for the profiles ``fast`` and default: the embedded detector with all
views of the profile, the same where the first views may settle the matter (as it ships), the small detector, and a
cascade of both (``scan --weights mobilenet --then default``), by default also with few views of the small one (from
Python: ``fusion.cascade``). Counted are pictures called generated: fakes found, and photos as false alarms. Every
picture goes through all of them in turn; CPU-ms are of looking alone (``labelled.py``), and medians of ``--repeats``
runs on ``--timed`` of the pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from labelled import Way, decoded, entries_of, judged_and_timed, rates, share, told

from gammascope import machine
from gammascope.report import Verdict

if TYPE_CHECKING:
    from gammascope.choices import Profile
    from gammascope.sample import Label

T = TypeVar("T")

PROFILES: tuple[Profile, ...] = ("fast", "default")
ALL, EARLY, SMALL = "all views", "early exits", "mobilenet"
CASCADE, QUICK = "mobilenet, then default", "mobilenet under fast, then default"
QUESTION = "generated"


def ways_of() -> dict[str, Way]:
    """Return the ways of looking, by profile and name."""
    from gammascope.detection import fusion
    from gammascope.detection.pipeline import Execution, Pipeline

    found, small = dict[str, Way](), dict[str, Pipeline]()
    for profile in PROFILES:
        execution = Execution(profile=profile)
        early = Pipeline.load("default", execution=execution)
        small[profile] = Pipeline.load("mobilenet", execution=execution)
        patient = copy(early)
        patient.facts = replace(early.facts, settled={})
        ways = {ALL: patient, EARLY: early, SMALL: small[profile]}
        ways[CASCADE] = fusion.cascade(small[profile], early)
        if profile != "fast":
            ways[QUICK] = fusion.cascade(small["fast"], early)
        found |= {f"{profile}, {name}": Way(pipeline) for name, pipeline in ways.items()}
    return found


def beside(name: str, all_of_them: Mapping[str, T]) -> T:
    """Return the same profile with all of its views."""
    return all_of_them[f"{name.partition(', ')[0]}, {ALL}"]


def figures(way: Way, labels: list[Label], patient: Way) -> dict[str, Any]:
    """Return what a way finds and takes, beside the same profile with all of its views."""
    said = [each[QUESTION] for each in way.answers]
    whole = [each[QUESTION].verdict for each in patient.answers]
    fake = [answer.verdict is Verdict.FAKE for answer in said]
    other = sum(one.verdict is not two for one, two in zip(said, whole, strict=True))
    found = rates(labels, fake, [answer.probability for answer in said])
    saving = getattr(way.pipeline, "saving", None)  # of a cascade
    return found | {
        "other_verdict": share(other, len(said)),
        "cpu_ms": way.each_ms,
        "views": way.views / len(said),
        "passed_on": saving and saving.passed_on / saving.pictures,
    }


def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    ways, labels = ways_of(), []
    for entry, image in decoded(entries_of(chosen.manifest, chosen.split, chosen.images)):
        labels.append(entry.label)
        for way in ways.values():
            way.look(image)
    if not labels:
        sys.exit(f"No picture of {chosen.manifest} can be read.")
    return {name: figures(way, labels, beside(name, ways)) for name, way in ways.items()}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Return what each saves and keeps, of the same profile with all views; more is better."""
    kept = {}
    for name, row in found.items():
        whole = beside(name, found)
        if name.endswith((ALL, SMALL)):
            continue
        kept[f"{name}: CPU of all views / of it"] = whole["cpu_ms"] / row["cpu_ms"]
        kept[f"{name}: verdicts of all views that stay"] = 1 - row["other_verdict"]["value"]
        if whole["found"]["count"]:
            share_found = row["found"]["count"] / whole["found"]["count"]
            kept[f"{name}: fakes found, of those by all views"] = share_found
    return kept


def markdown(result: dict[str, Any]) -> str:
    found = result["found"]
    lines = [
        f"{result['machine']}; CPU-ms are medians of {result['repeats']} runs on {result['timed']} pictures.\n",
        "| way | fakes found | photos called fake | AUROC | CPU-ms a picture | speed, of all views | views "
        "| other verdict than all views | passed on |",
        f"| --- |{' ---: |' * 8}",
    ]
    for name, row in found.items():
        area = row["auroc"]["value"]
        on = row["passed_on"]
        cells = [
            name,
            told(row["found"]),
            told(row["false_alarms"]),
            "-" if area is None else f"{area:.3f}",
            f"{row['cpu_ms']:.0f}",
            f"{beside(name, found)['cpu_ms'] / row['cpu_ms']:.2f}",
            f"{row['views']:.1f}" if on is None else f"{row['views']:.1f} and the other's",
            told(row["other_verdict"]),
            "" if on is None else f"{100 * on:.0f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--images", type=int, help="so many, evenly spread; default: all of it")
    parser.add_argument("--timed", type=int, default=48, help="pictures that are timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = judged_and_timed(measured, chosen, ("cpu_ms",))
    result = {"machine": machine.name(), "found": found}
    result |= {name: getattr(chosen, name) for name in ("timed", "repeats")}
    result["ratios"] = ratios(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
