"""Generators that learn flags: the share of pictures that break no rule, against steps of training.

    python benchmarks/flags.py RECIPE --out RUN [--every 500] [--pictures 100] [KEY=VALUE ...]

Goes on where an interrupted run stopped. Shares are of pictures: perfect ones; ones with light tiles where no kind has
one; ones whose tiles are of no one kind. The other tests can be asked of a whole flag alone. The last line is of as
many pictures that were drawn by the rules. Intervals: Wilson's, 95 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from gammascope.evaluation import context_tests
from gammascope.evaluation.intervals import wilson
from gammascope.generation import base
from gammascope.generation import spatial_context as rules
from gammascope.sample import Image
from gammascope.training import generators
from gammascope.training.recipe import read_values

FAMILY = "flags"


def told(name: str, images: list[Image]) -> None:
    found = [context_tests.examine(FAMILY, image) for image in images]
    report = context_tests.report(FAMILY, found)
    forbidden, torn = (
        wilson(report.rejected[test], report.asked[test]) for test in ("forbidden", "position")
    )
    others = ", ".join(
        f"{test} {report.rejected[test]} of {report.asked[test]}"
        for test in context_tests.TESTS[FAMILY]
        if test not in {"forbidden", "position"}
    )
    print(
        f"{name}: {report.pictures} pictures, perfect {wilson(report.perfect, report.pictures)}, "
        f"light tiles where no kind has one {forbidden}, tiles of no one kind {torn}; breaks {others}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--pictures", type=int, default=100)
    asked = parser.parse_intermixed_args()
    values = read_values(asked.recipe, asked.overrides)
    values.setdefault("data", {})["context"] = FAMILY
    recipe = generators.recipe_of(values, asked.recipe.name)
    steps = recipe.optimisation.steps
    log = asked.out / "log.jsonl"
    for step in range(asked.every, steps + asked.every, asked.every):
        begun = (asked.out / generators.STATE).is_file()
        if begun and json.loads(log.read_text("utf-8").splitlines()[-1])["step"] > step:
            continue
        generators.train(recipe, asked.out, resume=begun, stop_after=min(step, steps))
        network = base.load(asked.out)
        size = (network.native_px, network.native_px)
        draws = (np.random.default_rng((step, index)) for index in range(asked.pictures))
        told(f"step {min(step, steps)}", [network.sample(None, size, rng) for rng in draws])
        print(f"  losses {log.read_text('utf-8').splitlines()[-1]}", flush=True)
    rng, side = np.random.default_rng(0), base.build(recipe.generator, recipe.config).native_px
    sound = [rules.draw(FAMILY, rng, side=side).image for _ in range(asked.pictures)]
    told("drawn by the rules", sound)


if __name__ == "__main__":
    main()
