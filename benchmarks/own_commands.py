"""Two tools by their own commands on the same labelled pictures, in one run: what they find, and how long they take.

    python benchmarks/own_commands.py MANIFEST --split dev --peer ENVIRONMENT [--timed 48] [--repeats 5] [--json FILE]

``gammascope scan --json`` takes all pictures in one command, by default and with ``--profile fast``; ``sahu65 detect
--json`` takes one, so there is a command for each picture, and for a like comparison ours is also called so. Every
picture is answered once by each command, which tells how well; then ``--timed`` of them, evenly spread, are read
``--repeats`` times by all in turn, which tells how fast, starting included. ENVIRONMENT: see ``peer.py``.

Judged are pictures that both could read. Ours is the answer "generated", its verdict "fake" and its probability, theirs
the verdicts "likely_ai" and "ai_generated_verified" and ``ai_probability``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labelled import entries_of, rates, told
from peer import PEER, installed, own_command
from scan_speed import middle

from gammascope import machine

CALLED_FAKE = {"likely_ai", "ai_generated_verified"}
SCAN = (sys.executable, "-m", "gammascope", "scan", "--json", "--quiet")
DEFAULT, FAST, EACH = "scan", "scan --profile fast", "scan, a command for each"

Answered = tuple[bool, float] | None
"""Whether a picture is called fake, and its score; None: not read."""


def ours(picture: dict[str, Any]) -> Answered:
    answer = picture.get("answers", {}).get("generated")
    return answer and (answer["verdict"] == "fake", answer["probability"])


def theirs(said: str) -> Answered:
    try:
        picture = json.loads(said)
    except ValueError:
        return None
    return picture["verdict"] in CALLED_FAKE, picture["ai_probability"]


def said_by(command: Sequence[str | Path]) -> str:
    # The exit status tells of verdicts and of unreadable pictures, too.
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    return done.stdout


def at_once(paths: Sequence[Path], *options: str) -> list[Answered]:
    rows = [json.loads(line) for line in said_by([*SCAN, *options, *paths]).splitlines()]
    if len(rows) != len(paths):
        sys.exit(f"gammascope scan printed {len(rows)} rows for {len(paths)} pictures: see above.")
    return [ours(row) for row in rows]


def ways_beside(environment: Path) -> dict[str, Callable[[Sequence[Path]], list[Answered]]]:
    """Return what reads pictures, by name."""
    return {
        DEFAULT: at_once,
        FAST: lambda paths: at_once(paths, "--profile", "fast"),
        EACH: lambda paths: [one for path in paths for one in at_once([path])],
        PEER: lambda paths: [theirs(said_by(own_command(environment, path))) for path in paths],
    }


def timed(read: Callable[[Sequence[Path]], object], paths: Sequence[Path]) -> dict[str, float]:
    """Return seconds for one picture, of the clock and of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    read(paths)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds / len(paths), "cpu": cpu / len(paths)}


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Return how much sooner ours answers, and how much better it ranks; more is better."""
    speed, quality = found["speed"], found["quality"]
    sooner = {
        f"{name}: seconds of {PEER} / of it": speed[PEER]["seconds"] / speed[name]["seconds"]
        for name in (DEFAULT, FAST, EACH)
    }
    area = {name: row["auroc"]["value"] for name, row in quality.items()}
    if area[PEER] is None:  # pictures of one class
        return sooner
    return sooner | {
        f"{name}: AUROC of it / of {PEER}": area[name] / area[PEER] for name in (DEFAULT, FAST)
    }


def markdown(found: dict[str, Any]) -> str:
    lines = [
        f"{found['machine']}; {found['judged']} of {found['pictures']} pictures, which both could read; seconds are "
        f"medians of {found['repeats']} runs on {found['timed']} of them, starting included.\n",
        f"| command | seconds a picture | CPU-seconds | time of {PEER} / of it | called fake: fakes | called fake: "
        "photos | AUROC | TPR at 1 % |",
        f"| --- |{' ---: |' * 7}",
    ]
    for name, spent in found["speed"].items():
        row = found["quality"].get(name)
        quality = ["as above", "", "", ""]
        if row is not None:
            quality = [told(row["found"]), told(row["false_alarms"])]
            quality += [span(row["auroc"]), span(row["tpr_at_1"])]
        sooner = found["speed"][PEER]["seconds"] / spent["seconds"]
        cells = [f"`{name}`", f"{spent['seconds']:.3f}", f"{spent['cpu']:.3f}", f"{sooner:.2f}"]
        lines.append(f"| {' | '.join(cells + quality)} |")
    return "\n".join(lines) + "\n"


def span(value: dict[str, Any]) -> str:
    if value["value"] is None:
        return "-"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--images", type=int, help="so many, evenly spread; default: all of it")
    parser.add_argument("--peer", type=Path, required=True, help="environment with sahu65")
    parser.add_argument("--timed", type=int, default=48, help="pictures that are timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if not installed(chosen.peer):
        parser.error(f"--peer {chosen.peer}: {PEER} is not installed there (see peer.py).")
    labels = {e.path: e.label for e in entries_of(chosen.manifest, chosen.split, chosen.images)}
    paths, ways = list(labels), ways_beside(chosen.peer)
    answers = {name: ways[name](paths) for name in (DEFAULT, FAST, PEER)}
    read = [at for at in range(len(paths)) if all(said[at] for said in answers.values())]
    if not read:
        sys.exit(f"None of the {len(paths)} pictures of {chosen.manifest} was read by both tools.")
    judged = {
        name: rates(
            [labels[paths[at]] for at in read], *zip(*(said[at] for at in read), strict=True)
        )
        for name, said in answers.items()
    }
    some = [paths[at] for at in read][:: max(1, len(read) // chosen.timed)][: chosen.timed]
    runs = [{name: timed(way, some) for name, way in ways.items()} for _ in range(chosen.repeats)]
    found: dict[str, Any] = {
        "machine": machine.name(),
        "pictures": len(paths),
        "judged": len(read),
        "timed": len(some),
        "repeats": chosen.repeats,
        "quality": judged,
        "speed": middle(runs),
    }
    found["ratios"] = ratios(found)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
