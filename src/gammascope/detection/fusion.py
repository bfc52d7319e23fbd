"""Several detectors as one: a cascade that asks the strong one only where it matters, and fusions of their answers.

What is combined are log-odds: every member's logit on the scale of its own calibration, so that members with logits of
any size count alike. A fused detector is a ``Pipeline``: scanning, evaluation and the server take it as any other.
Maps, views and the answer "edited" are those of the first member.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8

from gammascope import checkpoints, settings
from gammascope.checkpoints import RAW, Calibration
from gammascope.choices import Fusing
from gammascope.detection.pipeline import Besides, Execution, Pipeline
from gammascope.detection.scores import Scores
from gammascope.errors import (
    ChecksumError,
    IncompatibleCheckpointError,
    MissingDataError,
    RecipeError,
)
from gammascope.files import complete_or_absent
from gammascope.report import percent

if TYPE_CHECKING:
    from gammascope.detection.judge import Judge

Member: TypeAlias = "Pipeline | Judge"
"""What can be fused."""

ZONE = (0.1, 0.9)
"""Probabilities of the fast member between which the strong one runs. Our choice."""

SUFFIX = ".json"
"""How names of fusion files end: elsewhere a file is a checkpoint."""

FORMAT = 1

USUAL = Besides()

AS_FITTED = Execution()


@dataclass(frozen=True, slots=True)
class Plan:
    """How members become one; a small JSON file.

    Attributes:
        kind: "logistic": weighted sum of log-odds; "any": fake where any member says so (OR), the largest excess over
            the members' thresholds; "cascade": the first member's log-odds, or the second's where the first is unsure.
        members: Checkpoints, folders of judges, and other fusion files; relative paths count from the file.
        sha256: Their hashes.
        weights: Of a logistic fusion.
        bias: Of a logistic fusion.
        thresholds: Log-odds of each member from which "any" calls an image fake; none: 0, the bare one half.
        zone: Probabilities of the first member between which a cascade asks the second.
        calibration: Of the fused answer; empty: a cascade derives thresholds from its members'.
        fitted_on: One line about the images it was fitted on.
        format: Of the file.
    """

    kind: Fusing
    members: tuple[str, ...]
    sha256: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    bias: float = 0.0
    thresholds: tuple[float, ...] = ()
    zone: tuple[float, float] = ZONE
    calibration: dict[str, Calibration] = field(default_factory=dict)
    fitted_on: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        count = len(self.members)
        if count < 2 or (self.kind == "cascade" and count != 2):
            wanted = "2" if self.kind == "cascade" else "at least 2"
            raise ValueError(f"{count} members for kind={self.kind!r}: expected {wanted}.")
        if self.kind == "logistic" and len(self.weights) != count:
            raise ValueError(f"{len(self.weights)} weights for {count} members.")
        if self.kind == "any" and self.thresholds and len(self.thresholds) != count:
            raise ValueError(f"{len(self.thresholds)} thresholds for {count} members.")
        if not 0 <= self.zone[0] < self.zone[1] <= 1:
            raise ValueError(f"zone={self.zone}: expected two probabilities, the lower one first.")

    def fused(self, log_odds: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
        """Combine the members' log-odds, where all of them are known."""
        if self.kind == "logistic":
            return np.asarray(log_odds @ np.array(self.weights) + self.bias)
        if self.kind == "any":
            excess: Float[np.ndarray, " n"] = (
                log_odds - np.array(self.thresholds or (0.0,) * len(self.members))
            ).max(1)
            return excess
        return np.where(self.unsure(log_odds[:, 0]), log_odds[:, 1], log_odds[:, 0])

    def unsure(self, log_odds: Float[np.ndarray, " n"]) -> Any:
        """Whether the fast member's answers lie in the zone."""
        chance = checkpoints.expit(log_odds)
        return (chance >= self.zone[0]) & (chance <= self.zone[1])


@dataclass(slots=True)
class Saving:
    """What a cascade has saved so far.

    Attributes:
        pictures: Looked at in all.
        passed_on: Of these, passed on to the strong member.
        fast_s: Seconds that the fast member took.
        strong_s: Seconds that the strong one took.
    """

    pictures: int = 0
    passed_on: int = 0
    fast_s: float = 0.0
    strong_s: float = 0.0

    def __str__(self) -> str:
        """One line for people."""
        if not self.pictures:
            return "Cascade: nothing looked at."
        share = percent(self.passed_on / self.pictures, 0)
        line = (
            f"Cascade: {self.passed_on} of {self.pictures} pictures ({share}) went on to "
            f"the strong detector; {self.fast_s:.1f} s and {self.strong_s:.1f} s"
        )
        if not self.passed_on:
            return f"{line}."
        alone = self.strong_s / self.passed_on * self.pictures
        return f"{line}, against about {alone:.1f} s for the strong one on all."


class Fused(Pipeline):
    """Several detectors that answer as one."""

    def __init__(self, members: Sequence[Member], plan: Plan, besides: Besides = USUAL) -> None:
        """Combine loaded members as a plan says.

        Raises:
            RecipeError: If the first is a judge.
        """
        lead = members[0]
        if not isinstance(lead, Pipeline):
            raise RecipeError("A judge has no views to show: name a checkpoint first.")
        self.members, self.plan, self.saving = tuple(members), plan, Saving()
        self._counting = threading.Lock()  # Several threads score pictures.
        fitted = dict(plan.calibration)
        if not fitted and plan.kind == "cascade":
            fitted = _bounded(self.members)
        known = {name: value for name, value in lead.facts.calibration.items() if name == "edited"}
        names = ", ".join(member.facts.method for member in members)
        facts = replace(
            lead.facts,
            method=f"{plan.kind}({names})",
            calibration=known | fitted,
            profiles={},  # the first member's own, for what it says alone
            trained_on="; ".join(member.facts.trained_on for member in members),
        )
        digest = hashlib.sha256(
            json.dumps(
                [
                    settings.plain(replace(plan, members=("",) * len(members))),
                    *(m.weights_sha256 for m in members),
                ],
                sort_keys=True,
            ).encode()
        ).hexdigest()
        super().__init__(lead.detector, facts, digest, besides, lead.profile)

    def scores_of(
        self,
        images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
        stop: threading.Event | None = None,
    ) -> list[Scores]:
        """Look at several images with the first member, and with the others where the plan asks for them.

        Raises:
            InterruptedScanError: If it was told to stop.
        """
        started = time.perf_counter()
        lead = self.members[0]
        seen = [super().scores_of(images, stop)]
        odds = np.full((len(images), len(self.members)), np.nan)
        odds[:, 0] = [log_odds(lead, scores) for scores in seen[0]]
        between = time.perf_counter()
        asked = np.ones(len(images), bool)
        if self.plan.kind == "cascade":
            asked = self.plan.unsure(odds[:, 0])
        some = [image for image, wanted in zip(images, asked, strict=True) if wanted]
        for number, member in enumerate(self.members[1:], start=1):
            if some:
                odds[asked, number] = [log_odds(member, s) for s in member.scores_of(some, stop)]
        with self._counting:
            self.saving.pictures += len(images)
            self.saving.passed_on += len(some)
            self.saving.fast_s += between - started
            self.saving.strong_s += time.perf_counter() - between
        return [
            self._said(scores, float(logit))
            for scores, logit in zip(seen[0], self.plan.fused(odds), strict=True)
        ]

    def _said(self, scores: Scores, logit: float) -> Scores:
        """Put the fused answer in the place of the first member's; views keep the first member's opinion."""
        scale = _scale(self.members[0], scores)
        question = scores.question
        own = self._calibration(question)
        # A view's probability stays the first member's: the fusion's own scale, which it will go through, is undone.
        views = {
            name: (own.offset + own.temperature * scale.log_odds(values.astype(np.float64))).astype(
                np.float32
            )
            for name, values in scores.by_view.items()
            if name in {"", question}
        }
        answers = dict(scores.answers) | ({question: logit} if question in scores.answers else {})
        return replace(scores, logit=logit, answers=answers, by_view=dict(scores.by_view) | views)


def cascade(
    fast: Pipeline,
    strong: Member,
    zone: tuple[float, float] = ZONE,
    *,
    besides: Besides = USUAL,
) -> Fused:
    """Ask a strong detector only where a fast one is unsure.

    Without a fitted calibration the thresholds are the higher of the two members', and the stated rates of false alarms
    their sums: a false alarm of the cascade is one of a member (union bound).

    Args:
        fast: Looks at every image.
        strong: Looks where the fast one's probability lies in the zone.
        zone: Two probabilities.
        besides: What reports say besides the verdict.
    """
    try:
        plan = Plan("cascade", ("fast", "strong"), zone=zone)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return Fused([fast, strong], plan, besides)


def load(
    path: Path,
    *,
    device: str = "cpu",
    besides: Besides = USUAL,
    execution: Execution = AS_FITTED,
) -> Fused:
    """Load a fusion file and its members.

    Args:
        path: The file.
        device: Where the networks run, as torch names it.
        besides: What reports say besides the verdict.
        execution: What runs each member, and how many views it gets.

    Raises:
        RecipeError: If a member cannot be run so.
        MissingDataError: If the file or a member is not there.
        IncompatibleCheckpointError: If it is no fusion file, it is a member of itself, or a member is no checkpoint.
        ChecksumError: If a member is not the one that was fused.
    """
    tuple(leaves(path))  # A file that is a member of itself would be loaded without end.
    plan = read_plan(path)
    members: list[Member] = []
    for number, name in enumerate(plan.members):
        place = _place(path, name)
        member = member_at(place, device=device, execution=execution)
        if plan.sha256 and member.weights_sha256 != plan.sha256[number]:
            raise ChecksumError(
                f"{place} has sha256 {member.weights_sha256}, {path} was fitted to {plan.sha256[number]}: fuse again."
            )
        members.append(member)
    return Fused(members, plan, besides)


def member_at(path: Path, *, device: str = "cpu", execution: Execution = AS_FITTED) -> Member:
    """Load a checkpoint, a judge where the path is a folder, or another fusion where it is a fusion file.

    A judge always sees the whole picture, whatever the profile.

    Raises:
        RecipeError: If a judge is to run on anything but torch, or in another precision than its own.
    """
    if path.suffix == SUFFIX:
        return load(path, device=device, execution=execution)
    if not path.is_dir():
        return Pipeline.load(path, device=device, execution=execution)
    if execution.engine not in ("auto", "torch") or execution.precision != AS_FITTED.precision:
        raise RecipeError(
            f"The judge {path} runs on torch in its own precision: leave out --runtime {execution.engine} and "
            f"--precision {execution.precision}."
        )
    from gammascope.detection.judge import Judge  # needs torch, which checkpoints may do without

    return Judge.load(path, device=device)


def leaves(path: Path, within: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the checkpoints and judges of a member, however deep they lie; errors are those of ``load``.

    Args:
        path: Of a checkpoint, a judge or a fusion file.
        within: Fusion files that it is a member of.
    """
    if path.suffix != SUFFIX:
        yield path
        return
    if path.resolve() in within:
        raise IncompatibleCheckpointError(f"{path} is a member of itself: name other members.")
    for name in read_plan(path).members:
        yield from leaves(_place(path, name), (*within, path.resolve()))


def _place(path: Path, name: str) -> Path:
    return checkpoints.default_path() if name == "default" else path.parent / name


def read_plan(path: Path) -> Plan:
    """Read a fusion file; errors are those of ``load``."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MissingDataError(f"No fusion file at {path}: {error.strerror}.") from error
    except ValueError as error:
        raise IncompatibleCheckpointError(f"{path} is no JSON: {error}.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise IncompatibleCheckpointError(f"{path} is no fusion file of format {FORMAT}.")
    try:
        return settings.parse(Plan, values, f"fusion {path.name}")
    except RecipeError as error:
        raise IncompatibleCheckpointError(str(error)) from None


def save(path: Path, plan: Plan) -> None:
    """Write a fusion file, complete or not at all."""
    with complete_or_absent(path) as unfinished:
        unfinished.write_text(json.dumps(settings.plain(plan), indent=1) + "\n", "utf-8")


def log_odds(member: Member, scores: Scores) -> float:
    """Return a member's answer on the scale of its calibration; the bare logit where it has none."""
    scale = _scale(member, scores)
    question = scores.question
    return float(scale.log_odds(np.array([scores.answers.get(question, scores.logit)]))[0])


def _scale(member: Member, scores: Scores) -> Calibration:
    return member.facts.calibration.get(scores.question, RAW)


def _bounded(members: Sequence[Member]) -> dict[str, Calibration]:
    """Bound the false alarms of a cascade by those of its members; nothing where one of them is not calibrated."""
    known = [member.facts.calibration.get("generated") for member in members]
    first, second = known
    if first is None or second is None:
        return {}

    def on_scale(value: float, scale: Calibration) -> float:
        return float(scale.log_odds(np.array([value]))[0])

    def highest(name: str) -> float:
        return max(on_scale(getattr(scale, name), scale) for scale in (first, second))

    rates = (
        min(1.0, math.fsum((first.rates[0], second.rates[0]))),
        min(1.0, math.fsum((first.rates[1], second.rates[1]))),
    )
    return {
        "generated": Calibration(
            temperature=1.0,
            uncertain_from=highest("uncertain_from"),
            fake_from=highest("fake_from"),
            rates=rates,
            photos=min(first.photos, second.photos),
            sources=tuple(sorted({*first.sources, *second.sources})),
        )
    }
