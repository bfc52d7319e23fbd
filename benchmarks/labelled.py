"""Labelled pictures, several ways of looking at each of them, and how many fakes and photos each way calls fake.

Every picture goes through all ways in turn, so what disturbs one disturbs all. Times are the processor's, of looking
alone: what a report says besides (origin, forensic methods) is the same for all of them, and so is decoding. What is
said of a picture does not change from run to run, so all pictures are looked at once, and some of them often.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scan_speed import middle, repeated

from gammascope.evaluation.intervals import wilson
from gammascope.evaluation.metrics import auroc, tpr_at_fpr
from gammascope.report import Answer, Verdict, percent
from gammascope.sample import Entry, Label

if TYPE_CHECKING:
    from gammascope.detection.pipeline import Pipeline
    from gammascope.sample import Image


@dataclass
class Way:
    """A way of looking, and what it said of each picture so far; logits are uncalibrated, by question."""

    pipeline: Pipeline
    seconds: float = 0.0
    views: int = 0
    answers: list[Mapping[str, Answer]] = field(default_factory=list)
    logits: list[Mapping[str, float]] = field(default_factory=list)

    def look(self, image: Image) -> None:
        begun = time.process_time()
        scores = self.pipeline.scores(image)
        self.seconds += time.process_time() - begun
        self.views += scores.views
        self.logits.append({scores.question: scores.logit} | dict(scores.answers))
        self.answers.append(self.pipeline._answers(scores))

    @property
    def each_ms(self) -> float:
        """Milliseconds of the processor for a picture."""
        return 1e3 * self.seconds / max(1, len(self.answers))

    def verdicts(self) -> list[Mapping[str, Verdict]]:
        return [{name: one.verdict for name, one in each.items()} for each in self.answers]


def look_at(images: Iterable[Image], ways: Mapping[str, Way]) -> None:
    """Let every way look at each picture, in turn."""
    for image in images:
        for way in ways.values():
            way.look(image)


def entries_of(manifest: Path, split: str, most: int | None) -> list[Entry]:
    """List the pictures of a split: all, or so many that are evenly spread over it."""
    from gammascope.data.manifest import read_manifest

    entries = read_manifest(manifest, split)
    return entries if most is None else entries[:: max(1, len(entries) // most)][:most]


def decoded(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Image]]:
    """Yield the pictures that can be read; name the others."""
    from gammascope.errors import UndecodableImageError
    from gammascope.imaging.decode import decode

    for entry in entries:
        try:
            yield entry, decode(entry.path).image
        except UndecodableImageError as error:
            print(f"left out: {error}", file=sys.stderr)


def judged_and_timed(
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    chosen: argparse.Namespace,
    times: Sequence[str],
) -> dict[str, Any]:
    """Measure all pictures once, for what is said of them, and some of them several times, for how long it takes.

    Args:
        measure: Returns figures by the name of a way of looking.
        chosen: ``images``: how many pictures there are (None: all of them); ``timed``: how many are looked at
            ``repeats`` times.
        times: Names of the figures that are medians over those.
    """

    def asked(**other: int) -> argparse.Namespace:
        return argparse.Namespace(**(vars(chosen) | other))

    (judged,) = repeated(measure, asked(repeats=1))
    often = middle(
        repeated(measure, asked(images=min(chosen.timed, chosen.images or chosen.timed)))
    )
    return {
        name: row | {time_: often[name][time_] for time_ in times} for name, row in judged.items()
    }


def share(count: int, of: int) -> dict[str, Any]:
    """Return a count with its share and Wilson's 95 % interval."""
    return {"count": count} | wilson(count, of).to_json()


def told(found: Mapping[str, Any]) -> str:
    """Write a share for people: "1 of 268, 0.4 % [0.1, 2.1]"."""
    if not found["n"]:
        return "-"
    ends = ", ".join(f"{100 * found[end]:.1f}" for end in ("low", "high"))
    return f"{found['count']:.0f} of {found['n']:.0f}, {percent(found['value'], 1)} [{ends}]"


def rates(
    labels: Sequence[Label], called: Sequence[bool], scores: Sequence[float]
) -> dict[str, Any]:
    """Return what was found and what alarmed at the tool's own threshold, and how it ranks the pictures.

    Args:
        labels: Of the pictures.
        called: Whether the tool calls each one fake.
        scores: Higher leans fake.
    """
    label, fake = np.array(labels, dtype=np.int64), np.array(called, dtype=bool)
    score = np.array(scores, dtype=np.float64)
    is_fake = label == Label.FAKE
    return {
        "found": share(int((fake & is_fake).sum()), int(is_fake.sum())),
        "false_alarms": share(int((fake & ~is_fake).sum()), int((~is_fake).sum())),
        "auroc": auroc.measure(score, label).to_json(),
        "tpr_at_1": tpr_at_fpr(0.01).measure(score, label).to_json(),
    }
