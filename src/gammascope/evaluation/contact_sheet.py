"""Where a detector errs: its worst cases as one picture, and the photos it flags by what kind of files they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
from jaxtyping import Float, Int, Shaped
from PIL import ImageDraw, ImageFont, ImageOps

from gammascope.errors import GammascopeError, MissingDataError
from gammascope.evaluation.intervals import wilson
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid, truth_of, usable
from gammascope.files import complete_or_absent, path_of
from gammascope.imaging.decode import decode
from gammascope.sample import Label

_COLUMNS = 6
_TILE = 200  # pixels: a picture fits into a square of this side
_GAP = 12
_LINE = 16  # height of a line of text
_LETTERS = 30  # of a caption's line
_JPEG_QUALITY = 88

_SIDES = (256, 512, 1024)
_QUALITIES = (70, 80, 90, 95)


@dataclass(frozen=True, slots=True)
class WorstCase:
    """An image that got a confident wrong answer.

    Attributes:
        path: The file.
        origin: Its generator or manipulation; of a photo, its source.
        probability: Of yes, as the detector said.
        false_alarm: Whether the right answer was no; else it is a miss.
    """

    path: Path
    origin: str
    probability: float
    false_alarm: bool


def worst_cases(
    table: ScoreTable,
    question: str,
    probability: Float[np.ndarray, " n"],
    *,
    threshold: float = 0.0,
    most: int = 12,
) -> list[WorstCase]:
    """Return the most confident false alarms, the most confident first, and then as many misses.

    Args:
        table: One row per image.
        question: "generated", "edited" or "fake".
        probability: Of yes, 0..1, for each row.
        threshold: Logit from which the answer is yes.
        most: Of each kind.
    """
    logits, truth = table[f"logit_{question}"], truth_of(table, question)
    used = usable(table, question, truth)
    cases = []
    for false_alarm in (True, False):
        confidence = logits if false_alarm else -logits
        side = logits >= threshold if false_alarm else logits < threshold
        wrong = np.flatnonzero(used & (truth == int(not false_alarm)) & side)
        if len(wrong) > most:  # of millions, only the worst and what equals them need be sorted
            least = np.partition(confidence[wrong], -most)[-most]
            wrong = wrong[confidence[wrong] >= least]
        # By path where logits are equal, so that the order of the table does not matter.
        paths = table["path"][wrong].astype(np.dtypes.StringDType())
        order = np.lexsort((paths, -confidence[wrong]))[:most]
        cases += [
            WorstCase(
                path=path_of(str(paths[at])),
                origin=_origin(table, int(wrong[at])),
                probability=float(probability[wrong[at]]),
                false_alarm=false_alarm,
            )
            for at in order
        ]
    return cases


def draw_contact_sheet(sections: Mapping[str, Sequence[WorstCase]], path: Path) -> None:
    """Draw cases as small pictures, each with its file's name, its origin and the probability, under their titles.

    A file that can no longer be read is a grey field that says so. The ending of the name chooses PNG or JPEG.

    Args:
        sections: Cases by title; a title without cases says that there are none.
        path: Where to write; complete or not at all.

    Raises:
        MissingDataError: If there is no section.
    """
    if not sections:
        raise MissingDataError(f"Nothing to draw on {path}: there is no section.")
    rows = [-(-len(cases) // _COLUMNS) for cases in sections.values()]
    cell = _TILE + 3 * _LINE + _GAP
    height = sum(2 * _LINE + _GAP + (number * cell or _LINE) for number in rows) + _GAP
    sheet = PIL.Image.new("RGB", (_COLUMNS * (_TILE + _GAP) + _GAP, height), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for title, cases in sections.items():
        draw.text((_GAP, top), _readable(title), fill="black", font=_font(15))
        top += 2 * _LINE
        if not cases:
            draw.text((_GAP, top), "none", fill="grey", font=_font(12))
        for number, case in enumerate(cases):
            row, column = divmod(number, _COLUMNS)
            _place(sheet, case, (_GAP + column * (_TILE + _GAP), top + row * cell))
        top += -(-len(cases) // _COLUMNS) * cell or _LINE
        top += _GAP
    with complete_or_absent(path) as unfinished:
        if path.suffix.lower() == ".png":
            sheet.save(unfinished, "png")
        else:
            sheet.save(unfinished, "jpeg", quality=_JPEG_QUALITY)


def false_alarm_slices(table: ScoreTable, question: str, *, threshold: float = 0.0) -> Grid:
    """Lay out which share of the real photos is flagged, by source, size, JPEG quality and format.

    A slice far above the row of all photos names what the detector mistakes for a trace. Intervals are Wilson's; photos
    that failed or have no answer are left out.

    Args:
        table: One row per image.
        question: "generated", "edited" or "fake".
        threshold: Logit from which a photo is flagged.
    """
    logits = table[f"logit_{question}"]
    real = (table["label"] == int(Label.REAL)) & (table["error"] == "") & np.isfinite(logits)
    needed = ("source", "width", "height", "jpeg_quality", "format")
    photos = ScoreTable({name: table[name][real] for name in needed})
    flagged = logits[real] >= threshold
    sources = np.array([name or "unnamed" for name in photos["source"].tolist()], dtype=np.str_)
    shorter = np.minimum(photos["width"], photos["height"]).astype(np.float64)
    slices = {
        "all": (np.zeros(len(photos), np.int64), ["photos"]),
        "source": _groups(sources),
        "shorter side, px": _ranges(shorter, _SIDES),
        "JPEG quality": _ranges(photos["jpeg_quality"], _QUALITIES),
        "format": _groups(photos["format"]),
    }
    rows = []
    for name, (number, values) in slices.items():
        counts = np.bincount(number, minlength=len(values))
        hits = np.bincount(number[flagged], minlength=len(values))
        for value, count, hit in zip(values, counts.tolist(), hits.tolist(), strict=True):
            if count:
                rows.append((name, value, str(count), str(hit), str(wilson(hit, count))))
    title = f"{question}: real photos flagged, by kind of file"
    return Grid(title, ("property", "value", "photos", "flagged", "share [95 %]"), tuple(rows))


_Slices: TypeAlias = tuple[Int[np.ndarray, " n"], list[str]]
"""The number of each photo's slice, and what the slices are called."""


def _groups(values: Shaped[np.ndarray, " n"]) -> _Slices:
    names, number = np.unique(values, return_inverse=True)
    return number, [str(name) for name in names]


def _ranges(values: Float[np.ndarray, " n"], borders: Sequence[int]) -> _Slices:
    """Say in which range between borders each value is, from the lowest up; NaN is "none"."""
    names = [f"below {borders[0]}", *(f"{low} to {high - 1}" for low, high in pairwise(borders))]
    names += [f"{borders[-1]} and above", "none"]
    number = np.searchsorted(borders, values, side="right")
    return np.where(np.isnan(values), len(borders) + 1, number), names


def _origin(table: ScoreTable, row: int) -> str:
    fake = int(table["label"][row]) == Label.FAKE
    names = ("generator", "kind", "source") if fake else ("source",)
    return next((str(table[name][row]) for name in names if table[name][row]), "unnamed")


def _place(sheet: PIL.Image.Image, case: WorstCase, corner: tuple[int, int]) -> None:
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    try:
        picture = PIL.Image.fromarray(decode(case.path).image)
        picture = ImageOps.contain(picture, (_TILE, _TILE))
        sheet.paste(picture, (left, top + _TILE - picture.height))
    except GammascopeError:
        draw.rectangle((left, top, left + _TILE, top + _TILE), fill="lightgrey")
        draw.text((left + 8, top + 8), "can no longer be read", fill="black", font=_font(12))
    lines = (case.path.name, case.origin, f"P {case.probability:.3f}")
    for number, line in enumerate(lines):
        text = _readable(line)
        if len(text) > _LETTERS:  # the end of a name tells more files apart than its middle
            text = f"{text[: _LETTERS - 13]}...{text[-10:]}"
        where = (left, top + _TILE + 2 + number * _LINE)
        draw.text(where, text, fill="black" if number < 2 else "firebrick", font=_font(12))


def _readable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
