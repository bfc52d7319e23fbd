"""Stochastic context models: bounds of the tests, their false rejections, and which test feels which broken rule.

python benchmarks/contexts.py --calibrate [--pictures 4000]     # the numbers of CALIBRATED, by side
python benchmarks/contexts.py [--pictures 600]                  # rejections of rules kept, and of rules broken
python benchmarks/contexts.py --localise [--pictures 600]       # how well broken tiles of flags are found

Finding tiles: a map says of each tile how far its mean, its spread or its Moran's I, whichever is farthest, lies from
those of sound tiles, in standard deviations. It knows the pattern that is nearest, and not which rule is broken.
AUROC: of a picture's broken tiles against its others. IoU: of the mask and of the tiles beyond 255 of 256 sound ones.
Tiles have equal numbers of pixels, so both are those of pixels, too. Prevalence is the control: its masks are empty,
so its AUROC is of all tiles against those of sound flags. Intervals: 95 %; Wilson's of shares, normal over pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from gammascope.choices import ContextBounds
from gammascope.evaluation import context_tests as tests
from gammascope.evaluation.intervals import wilson
from gammascope.evaluation.metrics import auroc
from gammascope.generation import spatial_context as models
from gammascope.sample import Image

SIDES = (64, 256)
AMOUNTS = (1, 2, 4, 8, 16, 32, 64)
LOCAL = ("position", "intensity", "texture")
"""Rules of flags that are broken in some tiles, which masks tell."""

Tiles: TypeAlias = Float[np.ndarray, "t t"]


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


def accepted_sets(pictures: int) -> str:
    """Say how often the test of a picture's letters as a set takes independent letters for what they are."""
    rng = np.random.default_rng(1)
    drawn = (models.draw("alphabet", rng, breaks="independence") for _ in range(pictures))
    counts = [tests.examine("alphabet", each.image).values["counts"] for each in drawn]
    accepted = sum(count <= tests.ENSEMBLE[len(models.LETTERS) - 1] for count in counts)
    return f"alphabet, independence: the set's own test, at 95 %, accepts {wilson(accepted, pictures)} of {pictures}"


def statistics(image: Image) -> Float[np.ndarray, "3 t t"]:
    grey = image[..., 0]
    pixels = grey.shape[0] // models.TILES
    tiles = grey.reshape(models.TILES, pixels, models.TILES, pixels).astype(np.float64)
    spread = np.log(tiles.var((1, 3)) + 1)
    return np.stack([tests.tile_means(grey), spread, tests.moran(grey)])


class Map:
    """Says of each tile of a flag how unlike sound ones it is.

    Args:
        rng: Draws the sound flags.
        side: Of flags, pixels.
        pictures: So many sound flags say what is usual.
    """

    def __init__(self, rng: np.random.Generator, side: int, pictures: int = 200) -> None:
        drawn = [models.draw("flags", rng, side=side) for _ in range(pictures)]
        found = np.stack([statistics(each.image) for each in drawn], 1)
        light = models.flag_tiles()[[each.kind for each in drawn]]
        parts = [found[:, ~light], found[:, light]]
        self.usual = np.stack([part.mean(1) for part in parts])
        self.spread = np.stack([part.std(1) for part in parts])
        fresh = (models.draw("flags", rng, side=side).image for _ in range(pictures))
        self.sound = np.concatenate([self(image).ravel() for image in fresh])
        self.bound = float(np.quantile(self.sound, 255 / 256))

    def __call__(self, image: Image) -> Tiles:
        light = models.flag_tiles()[tests.examine("flags", image).kind].astype(int)
        usual, spread = (each[light].transpose(2, 0, 1) for each in (self.usual, self.spread))
        farthest: Tiles = np.abs((statistics(image) - usual) / spread).max(0)
        return farthest


def area(broken: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"]) -> float:
    label = np.repeat([1, 0], [len(broken), len(others)])
    return auroc(np.concatenate([broken, others]), label)


def overlap(marked: Bool[np.ndarray, "t t"], broken: Bool[np.ndarray, "t t"]) -> float:
    return float((marked & broken).sum() / (marked | broken).sum())


def told(values: list[float]) -> str:
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} +- {half:.3f}"


def localisation(side: int, pictures: int) -> Iterator[str]:
    rng = np.random.default_rng(side)
    doubt, pixels = Map(rng, side), side // models.TILES
    for rule in LOCAL:
        # Tiles change places in pairs.
        for amount in AMOUNTS[1:] if rule == "position" else AMOUNTS:
            areas, overlaps = [], []
            for _ in range(pictures):
                drawn = models.draw("flags", rng, side=side, breaks=rule, amount=amount)
                found, broken = doubt(drawn.image), drawn.broken[::pixels, ::pixels]
                areas.append(area(found[broken], found[~broken]))
                overlaps.append(overlap(found > doubt.bound, broken))
            yield (
                f"{side} px, {rule}, broken tiles {amount}: AUROC {told(areas)}, "
                f"IoU {told(overlaps)}, {pictures} pictures"
            )
    control = (models.draw("flags", rng, side=side, breaks="prevalence") for _ in range(pictures))
    maps = [doubt(each.image) for each in control]
    areas = [area(found.ravel(), doubt.sound) for found in maps]
    marked = [float((found > doubt.bound).mean()) for found in maps]
    yield (
        f"{side} px, prevalence, broken tiles 0: AUROC {told(areas)}, marked {told(marked)} of the tiles, "
        f"{pictures} pictures"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--localise", action="store_true")
    parser.add_argument("--pictures", type=int)
    asked = parser.parse_args()
    if asked.calibrate:
        for side in (64, 128, 256):
            print(f"    {side}: {bounds(side, asked.pictures or 4000)},")
        return
    if asked.localise:
        for side in SIDES:
            for line in localisation(side, asked.pictures or 600):
                print(line, flush=True)
        return
    for name, family in models.FAMILIES.items():
        for breaks in ("", *family.breaks):
            print(rejections(name, asked.pictures or 600, breaks, "calibrated"))
    print(rejections("flags", asked.pictures or 600, "", "paper"))
    print(accepted_sets(asked.pictures or 600))


if __name__ == "__main__":
    main()
