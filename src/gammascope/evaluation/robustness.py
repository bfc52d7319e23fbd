"""What ordinary processing does to a detector: perturbations of growing severity, and its numbers at each.

A perturbation keeps the label of an image; see the glossary. It is applied to the pixels of the file as
it is, so that the first step also takes away what a detector owed to the file formats: the column
"fakes_aligned" beside it says how much that is.
"""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from gammascope.errors import MissingDataError, RecipeError, did_you_mean
from gammascope.evaluation.intervals import Value, wilson
from gammascope.evaluation.metrics import auroc
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid, truth_of, usable
from gammascope.files import complete_or_absent
from gammascope.imaging import codecs
from gammascope.imaging.codecs import Encoding, Format, Kernel, Subsampling
from gammascope.sample import Entry, Image, Label, Sample

Changed: TypeAlias = UInt8[np.ndarray, "new_h new_w 3"]
"""An image that may have another size than the one it was made from."""

Apply: TypeAlias = Callable[[Image, np.random.Generator], Changed]

_QUALITIES = (95, 90, 80, 70, 60, 50, 40)
_CHROMAS: tuple[Subsampling, ...] = ("4:2:0", "4:2:2", "4:4:4")
_KERNELS: tuple[Kernel, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
_SCREEN_ZOOM = 1.1  # what a browser or a viewer adds to fit its window


@dataclass(frozen=True, slots=True)
class Perturbation:
    """Ordinary processing of one severity, as a column of scores.

    Attributes:
        family: What is done.
        severity: How strongly, in the unit of the family's title.
        apply: Does it; all randomness comes from the generator it is given.
    """

    family: str
    severity: str
    apply: Apply = field(compare=False)

    @property
    def name(self) -> str:
        """Family and severity: the name of its column."""
        return f"{self.family}-{self.severity}"

    @property
    def definition(self) -> Mapping[str, Any]:
        """Its name; raised with ``scoring.FORMAT`` whenever one comes to mean something else."""
        return {"change": "perturbed", "perturbation": self.name}

    def __call__(self, sample: Sample) -> Sample:
        """Return the image perturbed, without its masks, which would have to move with it.

        The same pixels give the same result, whatever else is in the list.

        Raises:
            MissingDataError: If it is too large for a format.
        """
        seeds = zlib.crc32(sample.image.tobytes()), zlib.crc32(self.name.encode())
        try:
            image = self.apply(sample.image, np.random.default_rng(seeds))
        except ValueError as error:
            raise MissingDataError(f"{sample.entry.path.name}: {error}") from error
        return replace(sample, image=image, generated=None, edited=None)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A column in which each image gets one perturbation of a suite: one figure for ordinary processing.

    Which one follows from the image's pixels alone.

    Attributes:
        suite: Its name.
    """

    suite: str = "full"

    @property
    def definition(self) -> Mapping[str, Any]:
        """The suite."""
        return {"change": "perturbed by any", "suite": self.suite}

    def drawn(self, image: Image) -> Perturbation:
        """Return the perturbation that an image with these pixels gets."""
        every = suite(self.suite)
        rng = np.random.default_rng((zlib.crc32(image.tobytes()), len(every)))
        return every[int(rng.integers(len(every)))]

    def __call__(self, sample: Sample) -> Sample:
        """Return the image perturbed, without its masks.

        Raises:
            MissingDataError: If it is too large for a format.
            RecipeError: If there is no such suite.
        """
        return self.drawn(sample.image)(sample)


TITLES: Mapping[str, str] = {
    **{f"jpeg_{chroma.replace(':', '')}": f"JPEG {chroma}, quality" for chroma in _CHROMAS},
    "webp": "WebP, quality",
    "avif": "AVIF, quality",
    **{f"shrink_{kernel}": f"reduced ({kernel}), factor" for kernel in _KERNELS},
    **{f"enlarge_{kernel}": f"enlarged ({kernel}), factor" for kernel in _KERNELS[1:]},
    "crop": "centre crop, share of each side",
    "blur": "Gaussian blur, sigma in pixels",
    "noise": "Gaussian noise, sigma in grey levels",
    "sharpen": "unsharp masking, amount",
    "brighten": "brightened, share of the range",
    "darken": "darkened, share of the range",
    "contrast_up": "contrast raised, slope",
    "contrast_down": "contrast lowered, slope",
    "gamma_up": "darkened by a gamma, exponent",
    "gamma_down": "brightened by a gamma, exponent",
    "screenshot": f"screenshot, longer side on the screen in pixels, then x {_SCREEN_ZOOM}",
    "halftone": "printed in dots and scanned, pitch in pixels",
    "social": "social media, longer side in pixels and JPEG quality",
    "double_jpeg": "JPEG twice on one grid, qualities",
    "double_jpeg_shifted": "JPEG twice, cropped in between, qualities",
}
"""What each family is, and what its severities count; in the order of a suite."""

_QUICK = {
    "jpeg_420": ("90", "70", "50"),
    "webp": ("80", "40"),
    "avif": ("60",),
    "shrink_bicubic": ("0.75", "0.5"),
    "enlarge_bicubic": ("1.5",),
    "crop": ("0.5",),
    "blur": ("1", "2"),
    "noise": ("5",),
    "sharpen": ("1",),
    "gamma_up": ("1.6",),
    "screenshot": ("960",),
    "halftone": ("3",),
    "social": ("1080_q80",),
    "double_jpeg": ("75_90",),
}


def suite(name: str) -> tuple[Perturbation, ...]:
    """Return the perturbations of a suite, "quick" or "full", each family from mild to severe.

    Raises:
        RecipeError: If there is no such suite.
    """
    if name not in {"quick", "full"}:
        raise RecipeError(
            f"No suite {name!r}.{did_you_mean(name, ('quick', 'full'))} Known: quick, full."
        )
    every = tuple(
        Perturbation(family, severity, apply)
        for family, severities in _families().items()
        for severity, apply in severities.items()
    )
    if name == "full":
        return every
    return tuple(each for each in every if each.severity in _QUICK.get(each.family, ()))


def _families() -> dict[str, dict[str, Apply]]:
    made: dict[str, dict[str, Apply]] = {}
    for chroma in _CHROMAS:
        family = f"jpeg_{chroma.replace(':', '')}"
        made[family] = {f"{q}": _encoded(Encoding("jpeg", q, chroma)) for q in _QUALITIES}
    lossy: tuple[tuple[Format, tuple[int, ...]], ...] = (
        ("webp", (95, 80, 60, 40)),
        ("avif", (80, 60, 40, 20)),
    )
    for kind, qualities in lossy:
        made[kind] = {f"{q}": _encoded(Encoding(kind, q)) for q in qualities}
    for kernel in _KERNELS:
        made[f"shrink_{kernel}"] = {f"{x}": _rescaled(x, kernel) for x in (0.9, 0.75, 0.5, 0.25)}
    for kernel in _KERNELS[1:]:
        made[f"enlarge_{kernel}"] = {f"{x}": _rescaled(x, kernel) for x in (1.25, 1.5, 2.0)}
    made["crop"] = {f"{share}": _cropped(share) for share in (0.9, 0.75, 0.5, 0.25)}
    made["blur"] = {f"{sigma:g}": _blurred(sigma) for sigma in (0.5, 1.0, 2.0, 3.0)}
    made["noise"] = {f"{sigma:g}": _noisy(sigma) for sigma in (2.0, 5.0, 10.0, 20.0)}
    made["sharpen"] = {f"{amount:g}": _sharpened(amount) for amount in (0.5, 1.0, 2.0)}
    made["brighten"] = {f"{step}": _toned(brightness=step) for step in (0.1, 0.2, 0.3)}
    made["darken"] = {f"{step}": _toned(brightness=-step) for step in (0.1, 0.2, 0.3)}
    made["contrast_up"] = {f"{slope}": _toned(contrast=slope) for slope in (1.25, 1.5, 2.0)}
    made["contrast_down"] = {f"{slope}": _toned(contrast=slope) for slope in (0.8, 0.6, 0.4)}
    made["gamma_up"] = {f"{power}": _toned(gamma=power) for power in (1.25, 1.6, 2.0)}
    made["gamma_down"] = {f"{power}": _toned(gamma=power) for power in (0.8, 0.6, 0.5)}
    made["screenshot"] = {f"{side}": _screenshot(side) for side in (1280, 960, 640)}
    made["halftone"] = {f"{pitch:g}": _printed(pitch) for pitch in (3.0, 4.0, 6.0, 8.0)}
    posts = ((2048, 85), (1080, 80), (1080, 70), (720, 60))
    made["social"] = {f"{side}_q{quality}": _posted(side, quality) for side, quality in posts}
    pairs = ((95, 90), (90, 75), (75, 90), (50, 75))
    made["double_jpeg"] = {f"{one}_{two}": _twice(one, two, 0, 0) for one, two in pairs}
    # 3 and 5: neither the 8-pixel grid nor the 16 of reduced colour falls on itself.
    made["double_jpeg_shifted"] = {f"{one}_{two}": _twice(one, two, 3, 5) for one, two in pairs}
    return made


def _encoded(encoding: Encoding) -> Apply:
    return lambda image, _: codecs.reencode(image, encoding)


def _rescaled(factor: float, kernel: Kernel) -> Apply:
    return lambda image, _: codecs.rescale(image, factor, kernel)


def _cropped(share: float) -> Apply:
    def apply(image: Image, _: np.random.Generator) -> Changed:
        height, width = (max(1, round(share * side)) for side in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return np.ascontiguousarray(image[top : top + height, left : left + width])

    return apply


def _blurred(sigma: float) -> Apply:
    return lambda image, _: codecs.blur(image, sigma)


def _noisy(sigma: float) -> Apply:
    return lambda image, rng: codecs.add_noise(image, sigma, rng)


def _sharpened(amount: float) -> Apply:
    return lambda image, _: codecs.sharpen(image, amount)


def _toned(brightness: float = 0.0, contrast: float = 1.0, gamma: float = 1.0) -> Apply:
    return lambda image, _: codecs.adjust(image, brightness, contrast, gamma)


def _screenshot(side: int) -> Apply:
    """Show an image on a screen and store what is seen without loss, as PNG files do."""

    def apply(image: Image, _: np.random.Generator) -> Changed:
        return codecs.rescale(_fitted(image, side, "bicubic"), _SCREEN_ZOOM, "bilinear")

    return apply


def _printed(pitch: float) -> Apply:
    return lambda image, _: codecs.halftone(image, pitch)


def _posted(side: int, quality: int) -> Apply:
    def apply(image: Image, _: np.random.Generator) -> Changed:
        return codecs.reencode(_fitted(image, side, "lanczos"), Encoding("jpeg", quality))

    return apply


def _twice(one: int, two: int, down: int, across: int) -> Apply:
    def apply(image: Image, _: np.random.Generator) -> Changed:
        once = codecs.reencode(image, Encoding("jpeg", one))
        if min(once.shape[:2]) > max(down, across):
            once = np.ascontiguousarray(once[down:, across:])
        return codecs.reencode(once, Encoding("jpeg", two))

    return apply


def _fitted(image: Image, side: int, kernel: Kernel) -> Changed:
    """Reduce an image to a longer side; smaller ones stay as they are."""
    longer = max(image.shape[:2])
    return image if longer <= side else codecs.rescale(image, side / longer, kernel)


def chosen(entries: Sequence[Entry], limit: int | None) -> list[Entry]:
    """Take at most so many images of each label, from all sources and generators in turn.

    Which ones depends on file names alone. The order of the list is kept.

    Raises:
        MissingDataError: If real or fake images are missing: there is no curve then.
    """
    picked: set[int] = set()
    for label in Label:
        groups: dict[str, list[int]] = {}
        for at, entry in enumerate(entries):
            if entry.label is label:
                name = f"{entry.generator or ''}/{entry.kind or ''}/{entry.source or ''}"
                groups.setdefault(name, []).append(at)
        if not groups:
            raise MissingDataError(f"No {label.name.lower()} image: robustness needs both kinds.")
        turns = [
            (turn, name, at)
            for name, members in groups.items()
            for turn, at in enumerate(sorted(members, key=lambda at: _draw(entries[at])))
        ]
        picked.update(at for _, _, at in sorted(turns)[:limit])
    return [entry for at, entry in enumerate(entries) if at in picked]


def _draw(entry: Entry) -> tuple[int, str]:
    return zlib.crc32(os.fsencode(entry.path.name)), str(entry.path)


@dataclass(frozen=True, slots=True)
class Point:
    """A detector's numbers on images that were changed in one way.

    Attributes:
        family: Of the perturbation; "" for images that are not perturbed.
        severity: Of the perturbation, or what was done instead.
        auroc: With its interval over images.
        real_accuracy: Share of real images not called fake, at the detector's own threshold.
        fake_accuracy: Share of fakes called fake.
        failed: Images without a score.
    """

    family: str
    severity: str
    auroc: Value
    real_accuracy: Value
    fake_accuracy: Value
    failed: int


def measured(
    table: ScoreTable, question: str, threshold: float, *, family: str, severity: str
) -> Point:
    """Make a point of the scores of one column.

    Raises:
        MissingDataError: If the table has no answers to the question.
    """
    logits, truth = table[f"logit_{question}"], truth_of(table, question)
    used = usable(table, question, truth)
    logits, truth = logits[used].astype(np.float64), truth[used]
    right = (logits >= threshold) == (truth == Label.FAKE)
    shares = (right[truth == label] for label in (Label.REAL, Label.FAKE))
    real, fake = (wilson(int(share.sum()), len(share)) for share in shares)
    failed = int((table["error"] != "").sum())
    return Point(family, severity, auroc.measure(logits, truth), real, fake, failed)


def grid(points: Sequence[Point]) -> Grid:
    """Lay points out as a table."""
    header = ("perturbation", "severity", "AUROC", "real accuracy", "fake accuracy", "n", "failed")
    rows = tuple(
        (
            TITLES.get(point.family, "not perturbed"),
            point.severity,
            *(str(value) for value in (point.auroc, point.real_accuracy, point.fake_accuracy)),
            f"{point.real_accuracy.n} + {point.fake_accuracy.n}",
            str(point.failed),
        )
        for point in points
    )
    return Grid("robustness: n is real + fake images", header, rows)


def write_csv(points: Iterable[Point], path: Path) -> None:
    """Write one row per point, with the ends of intervals; complete or not at all."""
    numbers = ("auroc", "real_accuracy", "fake_accuracy")
    ends = [f"{name}{end}" for name in numbers for end in ("", "_low", "_high")]
    with (
        complete_or_absent(path) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["family", "severity", *ends, "reals", "fakes", "failed"])
        for point in points:
            values: tuple[Value, ...] = tuple(getattr(point, name) for name in numbers)
            row = [number for each in values for number in (each.value, each.low, each.high)]
            counts = (point.real_accuracy.n, point.fake_accuracy.n, point.failed)
            texts = ("" if np.isnan(number) else f"{number:.6f}" for number in row)
            writer.writerow([point.family, point.severity, *texts, *counts])
