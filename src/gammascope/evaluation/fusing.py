"""Fit a fusion of detectors on sources that none of them saw, and say what it costs in false alarms."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from gammascope import checkpoints
from gammascope.checkpoints import Calibration
from gammascope.choices import Fusing
from gammascope.data.manifest import load_sample, read_manifest
from gammascope.detection import fusion
from gammascope.detection.judge import JudgeSettings
from gammascope.errors import MissingDataError, RecipeError, UndecodableImageError
from gammascope.evaluation.calibrating import UNCERTAIN_RATE, Plan
from gammascope.evaluation.fitting import fit_scale, fit_thresholds
from gammascope.evaluation.metrics import auroc
from gammascope.imaging.codecs import EncodingLaw
from gammascope.networks.fitted import fit_logistic
from gammascope.sample import Entry, Label

RATES = (UNCERTAIN_RATE, Plan().false_alarms)
"""Shares of held-out real photos that may be called uncertain or fake, and fake: those of a single detector."""

PENALTY = 0.01
"""On the squared weights of standardised log-odds, beside the mean cross-entropy. Our choice."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a detector, or a way to combine some, does at one operating point, on the images that were fitted to.

    Attributes:
        name: Which.
        false_alarms: Share of real photos that it calls fake, sources weighing the same.
        found: Share of fakes that it calls fake.
        auroc: Of its scores.
    """

    name: str
    false_alarms: float
    found: float
    auroc: float


@dataclass(frozen=True, slots=True)
class _Seen:
    log_odds: Float[np.ndarray, "n k"]
    truth: Int[np.ndarray, " n"]
    real: Bool[np.ndarray, " n"]
    sources: tuple[str, ...]

    @property
    def real_sources(self) -> list[str]:
        return [name for name, real in zip(self.sources, self.real, strict=True) if real]


def fuse(
    members: Sequence[Path],
    entries: Sequence[Entry],
    out: Path,
    *,
    kind: Fusing = "logistic",
    zone: tuple[float, float] = fusion.ZONE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[fusion.Plan, list[Cost]]:
    """Fit a fusion and write its file.

    Every image counts twice, as it is and re-encoded once, as in calibration. Thresholds of "any" are set so that the
    members together keep to the budget: each gets ``1 - (1 - budget)^(1/k)`` (exact if their alarms were independent).

    Args:
        members: Checkpoints, calibrated or not, judges, and fusion files; a cascade's fast one first.
        entries: Real and fake images of sources that no member was trained on.
        out: The fusion file; it names its members relative to itself.
        kind: How they are combined.
        zone: Of a cascade.
        progress: Called with (done, all) after each image.

    Returns:
        The plan, and what members and combinations cost on these images (in the sample they were fitted to).

    Raises:
        MissingDataError: If a class is missing, or a member was, or may have been, trained on one of the sources.
        RecipeError: If the number of members or the zone is impossible.
    """
    pipelines = [fusion.member_at(path) for path in members]
    for leaf in _leaves(members):
        _refuse_trained(_facts(leaf), entries)
    seen = _look(pipelines, entries, progress)
    if seen.real.all() or not seen.real.any():
        raise MissingDataError("A fusion is fitted to real and fake images: one class is missing.")
    plan = _plan(kind, members, pipelines, out, seen, zone)
    fused = plan.fused(seen.log_odds)
    plan = replace(plan, calibration={"generated": _calibration(fused, seen)})
    fusion.save(out, plan)
    return plan, costs(plan, seen)


def costs(plan: fusion.Plan, seen: _Seen) -> list[Cost]:
    """Compare members, their bare OR, and the plan at its threshold for "fake"."""
    made = [
        _cost(f"{Path(name).name} alone, at one half", seen.log_odds[:, number], 0.0, seen)
        for number, name in enumerate(plan.members)
    ]
    made.append(_cost("any of them, at one half each", seen.log_odds.max(1), 0.0, seen))
    fused = plan.fused(seen.log_odds)
    known = plan.calibration["generated"]
    made.append(_cost(f"{plan.kind}, at one half", fused, known.offset, seen))
    return [*made, _cost(f"{plan.kind}, at its threshold", fused, known.fake_from, seen)]


def _cost(name: str, scores: Float[np.ndarray, " n"], threshold: float, seen: _Seen) -> Cost:
    alarms = scores >= np.nextafter(threshold, np.inf) if threshold == 0 else scores >= threshold
    sources = np.array(seen.real_sources)
    rates = [alarms[seen.real][sources == source].mean() for source in sorted(set(sources))]
    found = float(alarms[seen.truth == 1].mean()) if (seen.truth == 1).any() else 0.0
    return Cost(name, float(np.mean(rates)), found, auroc(scores, seen.truth))


def _plan(
    kind: Fusing,
    members: Sequence[Path],
    pipelines: Sequence[fusion.Member],
    out: Path,
    seen: _Seen,
    zone: tuple[float, float],
) -> fusion.Plan:
    sources = ", ".join(sorted(set(seen.sources)))
    weights: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    bias = 0.0
    if kind == "logistic":
        found = fit_logistic(torch.from_numpy(seen.log_odds), torch.from_numpy(seen.truth), PENALTY)
        weights, bias = tuple(found.weight.tolist()), float(found.bias)
    elif kind == "any":
        share = 1 - (1 - RATES[1]) ** (1 / len(members))
        columns = seen.log_odds[seen.real].T
        thresholds = tuple(fit_thresholds(c, seen.real_sources, (share,))[0] for c in columns)
    try:
        return fusion.Plan(
            kind,
            tuple(_named(path, out) for path in members),
            tuple(pipeline.weights_sha256 for pipeline in pipelines),
            weights,
            bias,
            thresholds,
            zone,
            fitted_on=f"{len(seen.truth) // 2} images of {sources}, as they are and re-encoded",
        )
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _named(member: Path, out: Path) -> str:
    if member == checkpoints.default_path():
        return "default"
    return Path(os.path.relpath(member.absolute(), out.absolute().parent)).as_posix()


def _calibration(fused: Float[np.ndarray, " n"], seen: _Seen) -> Calibration:
    uncertain_from, fake_from = fit_thresholds(fused[seen.real], seen.real_sources, RATES)
    temperature, offset = fit_scale(fused, seen.truth)
    photos, sources = int(seen.real.sum()) // 2, tuple(sorted(set(seen.real_sources)))
    return Calibration(temperature, uncertain_from, fake_from, RATES, photos, sources, offset)


def _look(
    pipelines: Sequence[fusion.Member],
    entries: Sequence[Entry],
    progress: Callable[[int, int], None] | None,
) -> _Seen:
    rows: list[list[float]] = []
    about: list[tuple[int, bool, str]] = []
    for done, entry in enumerate(entries, start=1):
        for odds, truth in _answers(pipelines, entry):
            rows.append(odds)
            about.append((truth, entry.label is Label.REAL, entry.source or ""))
        if progress is not None:
            progress(done, len(entries))
    if not rows:
        raise MissingDataError("No image to fuse on could be read, or none says what is generated.")
    truths, reals, sources = zip(*about, strict=True)
    return _Seen(np.array(rows), np.array(truths), np.array(reals), sources)


def _answers(pipelines: Sequence[fusion.Member], entry: Entry) -> Iterator[tuple[list[float], int]]:
    """Yield the members' log-odds for an image as it is and re-encoded; nothing for a file that cannot be read."""
    rng = np.random.default_rng(zlib.crc32(os.fsencode(entry.path.name)))
    law = EncodingLaw(untouched=0.0, jpeg=0.7, double_jpeg=0.2, webp=0.1)
    try:
        sample = load_sample(entry)
    except UndecodableImageError:
        return
    if sample.generated is None:
        return
    truth = int(sample.generated.any())
    for image in (sample.image, law(sample.image, rng)):
        yield [fusion.log_odds(member, member.scores_of([image])[0]) for member in pipelines], truth


def _refuse_trained(facts: checkpoints.Facts, entries: Sequence[Entry]) -> None:
    seen = {entry.source or "(none)" for entry in entries if not facts.never_saw(entry)}
    if seen:
        raise MissingDataError(
            f"{facts.method} was, or may have been, trained on source {', '.join(sorted(seen))}: fuse on sources that "
            "no member was trained on."
        )


def _leaves(members: Sequence[Path]) -> list[Path]:
    return [leaf for path in members for leaf in fusion.leaves(path)]


def _facts(leaf: Path) -> checkpoints.Facts:
    return JudgeSettings.at(leaf).facts if leaf.is_dir() else checkpoints.read_facts(leaf)


def entries_of(
    members: Sequence[Path], manifests: Sequence[Path], sources: Sequence[str]
) -> list[Entry]:
    """List the images to fit to.

    Those of the given sources; else those that every checkpoint kept apart in training and no judge was tuned on.
    """
    leaves = _leaves(members)
    judges = [_facts(path) for path in leaves if path.is_dir()]
    kept = [_facts(path).kept_apart for path in leaves if not path.is_dir()]
    entries = [entry for path in manifests for entry in read_manifest(path)]
    if sources:
        found = [entry for entry in entries if entry.source in sources]
    else:
        apart = (entry for entry in entries if kept and all(k.holds(entry) for k in kept))
        found = [entry for entry in apart if all(judge.never_saw(entry) for judge in judges)]
    if not found:
        raise RecipeError(
            "No image is of a source that all members kept apart: give --source, with one that none was trained on."
        )
    return found
