"""Stochastic context models: bounds of the tests, their false rejections, and which test feels which broken rule.

python benchmarks/contexts.py --calibrate [--pictures 4000]     # the numbers of CALIBRATED, by side
python benchmarks/contexts.py [--pictures 600]                  # rejections of rules kept, and of rules broken
"""

from __future__ import annotations

import argparse

import numpy as np

from gammascope.choices import ContextBounds
from gammascope.evaluation import context_tests as tests
from gammascope.generation import spatial_context as models


def bounds(side: int, pictures: int) -> tests.FlagBounds:
    rng = np.random.default_rng(side)
    patterns = models.flag_tiles()
    squares: dict[str, list[float]] = {"fore": [], "back": []}
    means: dict[str, list[float]] = {"fore": [], "back": []}
    correlations: list[float] = []
    for _ in range(pictures):
        drawn = models.draw("flags", rng, side=side)
        grey = drawn.image[..., 0]
        correlations += np.abs(tests.moran(grey)).ravel().tolist()
        for part, tiles in (("fore", patterns[drawn.kind]), ("back", ~patterns[drawn.kind])):
            pixels = grey[models.enlarged(tiles, side)]
            squares[part].append(tests.chi_square(pixels, part))
            means[part] += tests.tile_means(grey)[tiles].tolist()

    def between(part: str) -> tuple[float, float]:
        low, high = np.quantile(means[part], [1 / 512, 1 - 1 / 512])
        return round(float(low), 2), round(float(high), 2)

    return tests.FlagBounds(
        round(float(np.quantile(squares["fore"], 0.99)), 1),
        round(float(np.quantile(squares["back"], 0.99)), 1),
        round(float(np.quantile(correlations, 1 - 1 / 256)), 4),
        between("fore"),
        between("back"),
    )


def rejections(name: str, pictures: int, breaks: str, thresholds: ContextBounds) -> str:
    rng = np.random.default_rng(1)
    drawn = (models.draw(name, rng, breaks=breaks, amount=999) for _ in range(pictures))
    found = tests.report(name, [tests.examine(name, each.image, thresholds) for each in drawn])
    shares = (f"{test} {100 * found.rejected[test] / pictures:.2f} %" for test in tests.TESTS[name])
    prevalence = "" if found.prevalence is None else f", prevalence {found.prevalence:.1f}"
    perfect = f"perfect {100 * found.perfect / pictures:.2f} %"
    return f"{name}, {breaks or 'rules kept'}, {thresholds}: {', '.join(shares)}, {perfect}{prevalence}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--pictures", type=int)
    asked = parser.parse_args()
    if asked.calibrate:
        for side in (64, 128, 256):
            print(f"    {side}: {bounds(side, asked.pictures or 4000)},")
        return
    for name, family in models.FAMILIES.items():
        for breaks in ("", *family.breaks):
            print(rejections(name, asked.pictures or 600, breaks, "calibrated"))
    print(rejections("flags", asked.pictures or 600, "", "paper"))


if __name__ == "__main__":
    main()
