"""Whether pictures keep the rules of a stochastic context model, each picture by itself and all together.

Each test is a number that is small where its rule is kept, and a bound. "calibrated" bounds reject about 1 % of
pictures that our sampler drew (``benchmarks/contexts.py`` measures them); "paper" bounds are the published ones,
of which one never rejects: the chi-square of dark pixels has a mean of 182 and a bound of 536.

Source: arXiv:2111.12577 and its published tests, written anew. Differences: dark edges between Voronoi cells are told
by a morphological closing in place of a local threshold and a skeleton; the form of cells' edges is not examined;
pixels that no law allows are a test of their own instead of being left out of a chi-square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gammascope.choices import ContextBounds
from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.generation import spatial_context as models
from gammascope.sample import Image

TESTS: Final[Mapping[str, Mapping[str, str]]] = {
    "flags": {
        "position": "tiles that differ from the nearest pattern",
        "forbidden": "light tiles where no pattern has one",
        "support": "share of grey levels that the laws cannot give",
        "fore": "chi-square of light pixels' grey levels",
        "back": "chi-square of dark pixels' grey levels",
        "texture": "tiles whose pixels resemble their neighbours, among light or dark ones",
        "mean": "tiles whose mean is off, among light or dark ones",
    },
    "voronoi": {
        "regions": "difference from the nearest possible number of cells",
        "order": "1 - rank correlation of cells' grey level and area",
        "flatness": "standard deviation of the variances within cells",
    },
    "alphabet": {
        "readable": "letters that are far from all eight",
        "counts": "chi-square of the letters' counts",
        "pairs": "letters that break a rule of pairs",
    },
}
"""What each test measures; those of flags from "support" on ask a picture whose pattern is perfect."""

ENSEMBLE: Final[Mapping[int, float]] = {7: 14.067, 3: 7.815}
"""95 % quantiles of chi-square by degrees of freedom."""

_CROSSING = 139.636  # where light and dark pixels are equally likely
_TOLERATED = 3  # the 95th percentile of Binomial(256, 1/256)
_UNREADABLE = 0.40625  # 13 of 32 levels
_SUPPORT = {"fore": models.FORE, "back": models.BACK}


@dataclass(frozen=True, slots=True)
class FlagBounds:
    """Bounds that depend on how many pixels a tile has.

    Attributes:
        fore: Of the chi-square of light pixels.
        back: Of dark ones.
        moran: Of the correlation of neighbours in a tile, 1 of 256 tiles lies outside.
        fore_mean: Of a light tile's mean, lowest and highest; 1 of 256 tiles lies outside.
        back_mean: Of a dark one's.
    """

    fore: float
    back: float
    moran: float
    fore_mean: tuple[float, float]
    back_mean: tuple[float, float]


PAPER: Final = FlagBounds(189.187, 536.307, 0.13323, (193.0, 202.0), (66.0, 78.0))
CALIBRATED: Final[Mapping[int, FlagBounds]] = {
    64: FlagBounds(
        fore=170.2, back=217.1, moran=0.5702, fore_mean=(176.94, 215.62), back_mean=(48.81, 97.56)
    ),
    128: FlagBounds(
        fore=179.8, back=225.5, moran=0.2702, fore_mean=(187.27, 206.8), back_mean=(60.03, 84.69)
    ),
    256: FlagBounds(
        fore=185.4, back=228.3, moran=0.1317, fore_mean=(192.38, 202.14), back_mean=(65.9, 78.24)
    ),
}
"""By side, pixels."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found in one picture.

    Attributes:
        kind: The nearest of the family's kinds.
        values: By test; absent: it could not be asked.
        passed: By test.
    """

    kind: int
    values: Mapping[str, float]
    passed: Mapping[str, bool]

    @property
    def perfect(self) -> bool:
        """Whether all tests were asked and passed."""
        return all(self.passed.values()) and not np.isnan(list(self.values.values())).any()


def examine(name: str, image: Image, thresholds: ContextBounds = "calibrated") -> Examined:
    """Test one picture.

    Args:
        name: Of the family.
        image: Square; its channels are averaged.
        thresholds: Whose bounds.

    Raises:
        RecipeError: If there is no such family.
        MissingDataError: If the picture is not square, of an impossible side, or of one without bounds.
        MissingExtraError: If OpenCV is needed and not installed.
    """
    side = image.shape[0]
    if image.shape[1] != side or side < 64 or side % models.family(name).multiple:
        raise MissingDataError(
            f"A picture of {image.shape[1]} x {side} px cannot be one of {name}: expected a square whose side is a "
            f"multiple of {models.family(name).multiple} from 64 on."
        )
    grey = np.rint(image.mean(2)).astype(np.uint8)
    if name == "flags":
        kind, values, bounds = _flag(grey, flag_bounds(side, thresholds))
    elif name == "voronoi":
        kind, values, bounds = _voronoi(grey)
    else:
        kind, values, bounds = _alphabet(grey)
    passed = {test: value <= bounds[test] for test, value in values.items()}
    return Examined(kind, values, passed)


def flag_bounds(side: int, thresholds: ContextBounds) -> FlagBounds:
    """Return the bounds for flags of a side.

    Raises:
        MissingDataError: If there are none.
    """
    known = {256: PAPER} if thresholds == "paper" else CALIBRATED
    if side not in known:
        raise MissingDataError(
            f"There are no {thresholds} thresholds for flags of {side} px: known are "
            f"{', '.join(map(str, known))} px."
        )
    return known[side]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in many pictures.

    Attributes:
        pictures: How many.
        asked: By test, how many could be asked.
        rejected: By test, how many of them failed.
        perfect: Pictures that passed all.
        kinds: How many of each kind, among those whose kind is certain.
        prevalence: Chi-square of these against equal frequency; None: there is one kind only, or no picture.
        bound: Of ``prevalence``, at 95 %.
    """

    pictures: int
    asked: Mapping[str, int]
    rejected: Mapping[str, int]
    perfect: int
    kinds: tuple[int, ...]
    prevalence: float | None
    bound: float | None


def report(name: str, examined: Sequence[Examined]) -> Report:
    """Put together what was found in many pictures."""
    tests = TESTS[name]
    certain = [each.kind for each in examined if each.passed[next(iter(tests))]]
    kinds = np.bincount(certain, minlength=models.family(name).kinds).astype(int)
    free = len(kinds) - 1
    measured = bool(free and certain)
    expected = len(certain) / len(kinds)
    return Report(
        pictures=len(examined),
        asked={test: sum(test in each.values for each in examined) for test in tests},
        rejected={
            test: sum(not each.passed.get(test, True) for each in examined) for test in tests
        },
        perfect=sum(each.perfect and len(each.values) == len(tests) for each in examined),
        kinds=tuple(kinds.tolist()),
        prevalence=float(((kinds - expected) ** 2 / expected).sum()) if measured else None,
        bound=ENSEMBLE[free] if measured else None,
    )


_Found: TypeAlias = tuple[int, dict[str, float], dict[str, float]]


def _flag(grey: UInt8[np.ndarray, "s s"], bounds: FlagBounds) -> _Found:
    patterns = models.flag_tiles()
    means = tile_means(grey)
    light = means > _CROSSING
    wrong = (patterns != light).sum((1, 2))
    kind = int(wrong.argmin())
    values = {
        "position": float(wrong[kind]),
        "forbidden": float((light & ~patterns.any(0)).sum()),
    }
    limits = {"position": 0.0, "forbidden": 0.0}
    if wrong[kind]:
        return kind, values, limits
    apart = {"fore": patterns[kind], "back": ~patterns[kind]}
    pixels = {
        part: grey[models.enlarged(tiles, grey.shape[0])].ravel() for part, tiles in apart.items()
    }
    outside = sum(_impossible(pixels[part], *_SUPPORT[part]) for part in apart)
    values["support"] = outside / grey.size
    values |= {part: chi_square(pixels[part], part) for part in apart}
    values["texture"] = _most(np.abs(moran(grey)) >= bounds.moran, apart)
    between = {"fore": bounds.fore_mean, "back": bounds.back_mean}
    off = np.zeros_like(light)
    for part, (low, high) in between.items():
        off |= apart[part] & ((means < low) | (means > high))
    values["mean"] = _most(off, apart)
    return (
        kind,
        values,
        limits
        | {"support": 0.0, "fore": bounds.fore, "back": bounds.back}
        | {"texture": float(_TOLERATED), "mean": float(_TOLERATED)},
    )


def _most(bad: np.ndarray, apart: Mapping[str, np.ndarray]) -> float:
    return float(max((bad & tiles).sum() for tiles in apart.values()))


def _impossible(pixels: np.ndarray, low: float, extent: float) -> int:
    return int(((pixels < low) | (pixels > low + extent)).sum())


def tile_means(grey: UInt8[np.ndarray, "s s"]) -> Float[np.ndarray, "t t"]:
    """Return the mean grey level of each tile of a flag."""
    means: Float[np.ndarray, "t t"] = _tiles(grey).mean((2, 3))
    return means


def _tiles(grey: np.ndarray) -> Float[np.ndarray, "t t p p"]:
    pixels = grey.shape[0] // models.TILES
    shape = (models.TILES, pixels, models.TILES, pixels)
    return grey.astype(np.float64).reshape(shape).transpose(0, 2, 1, 3)


def moran(grey: UInt8[np.ndarray, "s s"]) -> Float[np.ndarray, "t t"]:
    """Return Moran's I of each tile: the correlation of pixels with those beside, above and below them."""
    centred = _tiles(grey)
    centred = centred - centred.mean((2, 3), keepdims=True)
    beside = (centred[..., 1:] * centred[..., :-1]).mean((2, 3))
    above = (centred[..., 1:, :] * centred[..., :-1, :]).mean((2, 3))
    variance = np.maximum(centred.var((2, 3)), 1e-9)
    found: Float[np.ndarray, "t t"] = (beside + above) / 2 / variance
    return found


def chi_square(pixels: UInt8[np.ndarray, " n"], part: str) -> float:
    """Compare grey levels with the law of light ("fore") or dark ("back") pixels, over levels expected to occur."""
    low, extent = _SUPPORT[part]
    edges = np.clip((np.arange(257) - 0.5 - low) / extent, 0, 1)
    # Distribution functions of Beta(4, 2) and Beta(2, 4).
    below = (
        5 * edges**4 - 4 * edges**5 if part == "fore" else 1 - (1 - edges) ** 4 * (1 + 4 * edges)
    )
    expected = np.diff(below) * len(pixels)
    counted = np.rint(expected) > 0
    seen = np.bincount(pixels, minlength=256)
    return float(((seen - expected)[counted] ** 2 / expected[counted]).sum())


def _voronoi(grey: UInt8[np.ndarray, "s s"]) -> _Found:
    limits = {"regions": 0.0, "order": 0.2, "flatness": 10.0}
    cv2 = _opencv()
    closed = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    inside = (2 * grey.astype(int) >= closed) & (closed > 0)
    count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    areas = np.bincount(labels[inside], minlength=count)
    # Specks are corners of cells that their edges cut off.
    cells = np.flatnonzero(areas >= grey.size / 64 / 20)
    kind = int(np.abs(np.array(models.CELLS) - len(cells)).argmin())
    values = {"regions": float(abs(models.CELLS[kind] - len(cells)))}
    if len(cells) < 3:
        return kind, values, limits
    levels = grey.astype(np.float64)
    means = np.bincount(labels.ravel(), levels.ravel(), count)[cells] / areas[cells]
    squares = np.bincount(labels.ravel(), levels.ravel() ** 2, count)[cells] / areas[cells]
    values["order"] = 1 - _rank_correlation(means, areas[cells])
    values["flatness"] = float((squares - means**2).std())
    return kind, values, limits


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rho; equal values share a rank, and what is constant correlates with nothing."""
    ranks = []
    for values in (first, second):
        _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[where])
    if min(rank.std() for rank in ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError.of("Testing Voronoi pictures", "opencv", "train") from error
    return cv2


def _alphabet(grey: UInt8[np.ndarray, "s s"]) -> _Found:
    letters, doubt = read_letters(grey)
    found = {letter: letters == index for index, letter in enumerate(models.LETTERS)}
    counts = np.array([found[letter].sum() for letter in models.LETTERS])
    expected = np.array([models.COUNTS[letter] for letter in models.LETTERS])
    values = {
        "readable": float((doubt > _UNREADABLE).sum()),
        "counts": float(((counts - expected) ** 2 / expected).sum()),
        "pairs": float(_lonely(found)),
    }
    return 0, values, dict.fromkeys(values, 0.0)


def read_letters(
    grey: UInt8[np.ndarray, "s s"],
) -> tuple[np.ndarray, Float[np.ndarray, "p p"]]:
    """Read each letter as the nearest of the eight.

    Returns:
        Index among LETTERS, and the distance to it as a share of the largest distance between two letters.
    """
    looks = models.glyphs(grey.shape[0]).astype(np.float64)
    largest = np.abs(looks[:, None] - looks[None]).sum((2, 3)).max()
    pixels = looks.shape[1]
    shape = (models.PLACES, pixels, models.PLACES, pixels)
    tiles = grey.astype(np.float64).reshape(shape).transpose(0, 2, 1, 3)
    distance = np.stack([np.abs(tiles - look).sum((2, 3)) for look in looks])
    return distance.argmin(0), distance.min(0) / largest


def _lonely(found: Mapping[str, Bool[np.ndarray, "p p"]]) -> int:
    """Count letters that stand without their partner."""
    beside, below = (1, 0), (0, 1)
    under_z = found["V"] | found["W"] | found["K"]
    pairs = ((found["X"], found["Y"], beside), (found["Z"], under_z, below))
    lonely = 0
    for first, second, (right, down) in pairs:
        met = np.zeros_like(first)
        rows, columns = first.shape
        met[down:, right:] = first[: rows - down, : columns - right] & second[down:, right:]
        lonely += int(first.sum() + second.sum() - 2 * met.sum())
    return lonely
