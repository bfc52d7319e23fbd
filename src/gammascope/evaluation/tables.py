"""Score tables made into numbers with intervals, and numbers into tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import rich.table
from jaxtyping import Bool, Float, Int

from gammascope.checkpoints import RAW, Calibration
from gammascope.data.manifest import PHOTO_KINDS
from gammascope.errors import MissingDataError, did_you_mean
from gammascope.evaluation.intervals import Value, Weights, bootstrap, wilson
from gammascope.evaluation.metrics import (
    Metric,
    PixelCounts,
    auroc,
    average_precision,
    balanced_accuracy,
    brier,
    ece,
    eer,
    false_mark_share,
    pixel_f1,
    pixel_iou,
    tpr_at_fpr,
)
from gammascope.evaluation.scoring import MASKS, ScoreTable
from gammascope.sample import Label

Summary: TypeAlias = dict[str, Any]
"""Plain types for ``json.dumps``: what ``summarise`` returns and the tables are made from."""

UNKNOWN = -1
"""Truth of a question that the ground truth does not answer."""

_UNNAMED = "(unnamed)"
_TITLES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "mean_accuracy": "mAcc over generators",
    "real_accuracy": "real accuracy",
    "fake_accuracy": "fake accuracy",
    "eer": "EER",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "ece": "ECE",
    "brier": "Brier score",
}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table before it is drawn: a title, a header and rows of texts of its length."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def truth_of(table: ScoreTable, question: str) -> Int[np.ndarray, " n"]:
    """Return what a question's right answer is for each image: 1 yes, 0 no, UNKNOWN.

    "fake" is the label. "generated" is whether any pixel was generated: no for real photos and for
    copy-moves and splices of photos alone, yes where a generator is named or the whole image is
    fake. "edited" is whether a host photo was changed: no for real photos and for images that were
    generated as a whole.

    Raises:
        MissingDataError: If the question is none of these.
    """
    fake = table["label"] == int(Label.FAKE)
    partly = table["kind"] != ""
    if question == "fake":
        return np.asarray(fake, dtype=np.int64)
    if question == "edited":
        return np.asarray(fake & partly, dtype=np.int64)
    if question == "generated":
        named = table["generator"] != ""
        photos_only = partly & ~named & np.isin(table["kind"], sorted(PHOTO_KINDS))
        unknown = fake & partly & ~named & ~photos_only
        yes = (fake & ~photos_only).astype(np.int64)
        return np.where(unknown, UNKNOWN, yes)
    known = ("generated", "edited", "fake")
    raise MissingDataError(
        f"No ground truth for the question {question!r}.{did_you_mean(question, known)} "
        f"Known: {', '.join(known)}."
    )


def summarise(
    table: ScoreTable,
    question: str = "generated",
    *,
    calibration: Calibration = RAW,
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Return all numbers of one question, with 95 % intervals and counts.

    Images that failed, have no answer or have no known truth are counted and left out. Intervals
    of shares are Wilson's; the others are bootstrapped over images of each class, and AUROC also
    over generators and sources ("auroc_over_groups"): how far it may move for others.

    Args:
        table: One row per image.
        question: "generated", "edited" or "fake".
        calibration: Its ``fake_from`` is the threshold; its probabilities give ECE and the Brier score.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        MissingDataError: If the table has no logits for the question, or nothing remains.
    """
    name = f"logit_{question}"
    truth = truth_of(table, question)
    logits = table[name]
    answered = (table["error"] == "") & np.isfinite(logits)
    used = answered & (truth != UNKNOWN)
    if not used.any():
        raise MissingDataError(
            f"No image left to measure {question!r} on: {int((table['error'] != '').sum())} of "
            f"{len(table)} failed, {int((truth == UNKNOWN).sum())} have no known truth."
        )
    rows, truth = table.where(used), truth[used]
    draws, threshold = _Draws(resamples, seed), calibration.fake_from
    summary: Summary = {
        "question": question,
        "threshold": threshold,
        "temperature": calibration.temperature,
        "offset": calibration.offset,
        "images": len(table),
        "yes": int((truth == 1).sum()),
        "no": int((truth == 0).sum()),
        "failed": len(table.failures),
        "unanswered": int(((table["error"] == "") & ~np.isfinite(logits)).sum()),
        "truth_unknown": int((answered & ~used).sum()),
    }
    summary["overall"] = _overall(rows[name], truth, _groups(rows), calibration, draws)
    summary["sources"] = _per_source(rows, name, threshold)
    summary["generators"] = _per_generator(rows, name, truth, threshold, draws)
    summary["pixels"] = _per_mask(table, seed)
    return summary


def grids(summary: Summary) -> list[Grid]:
    """Lay a summary out as tables: overall, per source of photos, per generator, per mask."""
    left_out = "".join(
        f", {summary[key]} {words}"
        for key, words in (
            ("failed", "failed"),
            ("unanswered", "without an answer"),
            ("truth_unknown", "of unknown truth"),
        )
        if summary[key]
    )
    head = f"{summary['question']}: {summary['yes']} yes, {summary['no']} no{left_out}"
    made = [Grid(head, ("number", "value [95 %]"), tuple(_overall_rows(summary)))]
    for key, title, columns in (
        ("sources", "photos by source", ("false_alarms",)),
        ("generators", "by generator or manipulation", ("recall", "auroc")),
        ("pixels", "pixels by mask", ("f1", "iou", "f1_all_pixels", "false_marks_on_reals")),
    ):
        if summary[key]:
            rows = (
                (group, str(row["images"]), *(_shown(row[column]) for column in columns))
                for group, row in summary[key].items()
            )
            titles = tuple(column.replace("_", " ") for column in columns)
            made.append(Grid(title, (key.rstrip("s"), "images", *titles), tuple(rows)))
    return made


def comparison(summaries: Mapping[str, Summary]) -> Grid:
    """Lay the overall numbers of several evaluations of the same images side by side.

    A number that falls when both classes are re-encoded alike was owed to the files' formats.
    """
    keys = [key for key in _TITLES if any(key in s["overall"] for s in summaries.values())]
    rows = [
        (_TITLES[key], *(_shown(s["overall"].get(key)) for s in summaries.values())) for key in keys
    ]
    return Grid("side by side", ("number", *summaries), tuple(rows))


def markdown(made: Sequence[Grid]) -> str:
    """Draw tables in Markdown."""
    parts = []
    for grid in made:
        lines = [f"**{grid.title}**", "", _line(grid.header)]
        lines.append("|" + "|".join([" --- "] + [" ---: "] * (len(grid.header) - 1)) + "|")
        lines += [_line(row) for row in grid.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def rich_tables(made: Sequence[Grid]) -> list[rich.table.Table]:
    """Draw tables for a terminal."""
    drawn = []
    for grid in made:
        table = rich.table.Table(title=grid.title, title_justify="left")
        for at, title in enumerate(grid.header):
            table.add_column(title, justify="left" if at == 0 else "right")
        for row in grid.rows:
            # Names come from folders and manifests: square brackets in them are not markup.
            table.add_row(*(text.replace("[", r"\[") for text in row))
        drawn.append(table)
    return drawn


@dataclass(frozen=True, slots=True)
class _Draws:
    resamples: int
    seed: int


def _overall(
    logits: Float[np.ndarray, " n"],
    truth: Int[np.ndarray, " n"],
    groups: Sequence[str],
    calibration: Calibration,
    draws: _Draws,
) -> dict[str, Any]:
    probability, threshold = calibration.probability(logits), calibration.fake_from

    def measured(metric: Metric, score: Float[np.ndarray, " n"]) -> Value:
        return metric.measure(score, truth, resamples=draws.resamples, seed=draws.seed)

    values = {
        "auroc": measured(auroc, logits),
        "auroc_over_groups": auroc.measure(
            logits, truth, groups, resamples=draws.resamples, seed=draws.seed
        ),
        "average_precision": measured(average_precision, logits),
        "balanced_accuracy": measured(balanced_accuracy(threshold), logits),
        "mean_accuracy": _mean_accuracy(logits, truth, groups, threshold, draws),
        "real_accuracy": _rate(logits[truth == 0] < threshold, "no real image"),
        "fake_accuracy": _rate(logits[truth == 1] >= threshold, "no fake image"),
        "eer": measured(eer, logits),
        "tpr_at_1_percent_fpr": measured(tpr_at_fpr(0.01), logits),
        "ece": measured(ece(), probability),
        "brier": measured(brier, probability),
    }
    return {name: value.to_json() for name, value in values.items()}


def _mean_accuracy(
    logits: Float[np.ndarray, " n"],
    truth: Int[np.ndarray, " n"],
    groups: Sequence[str],
    threshold: float,
    draws: _Draws,
) -> Value:
    """Return the mean over generators of balanced accuracy, each against all reals."""
    right = np.where(truth == 1, logits >= threshold, logits < threshold).astype(np.float64)
    names, group = np.unique(groups, return_inverse=True)
    member = np.zeros((len(truth), len(names)))
    member[np.arange(len(truth)), group] = truth == 1
    member = member[:, member.any(axis=0)]
    real = (truth == 0).astype(np.float64)
    if not real.any() or not member.size:
        return Value.undefined(len(truth), "no real image" if not real.any() else "no fake image")

    def kernel(weight: Weights) -> Float[np.ndarray, " b"]:
        recall = np.mean((weight @ (member * right[:, None])) / (weight @ member), axis=1)
        return np.asarray((recall + (weight @ (real * right)) / (weight @ real)) / 2)

    # Each generator and the reals are drawn from by themselves, so that none is ever empty.
    strata = np.where(truth == 1, group + 1, 0)
    return bootstrap(kernel, strata, resamples=draws.resamples, seed=draws.seed)


def _per_source(table: ScoreTable, name: str, threshold: float) -> dict[str, Any]:
    real = table.where(table["label"] == int(Label.REAL))
    made: dict[str, Any] = {}
    for source in np.unique(real["source"]).tolist():
        logits = real[name][real["source"] == source]
        made[source or _UNNAMED] = {
            "images": len(logits),
            "false_alarms": _rate(logits >= threshold, "no real image").to_json(),
        }
    return made


def _per_generator(
    table: ScoreTable, name: str, truth: Int[np.ndarray, " n"], threshold: float, draws: _Draws
) -> dict[str, Any]:
    logits, groups = table[name], np.array(_groups(table))
    reals = table["label"] == int(Label.REAL)
    made: dict[str, Any] = {}
    for group in np.unique(groups[truth == 1]).tolist():
        fakes = (truth == 1) & (groups == group)
        both = fakes | reals
        # Fewer draws than overall: there may be hundreds of generators.
        area = auroc.measure(
            logits[both], truth[both], resamples=min(draws.resamples, 300), seed=draws.seed
        )
        made[group] = {
            "images": int(fakes.sum()),
            "recall": _rate(logits[fakes] >= threshold, "no fake image").to_json(),
            "auroc": area.to_json(),
        }
    return made


def _per_mask(table: ScoreTable, seed: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for mask in MASKS:
        if f"{mask}_tp" not in table.columns:
            continue
        counts = table.pixels(mask)
        known = np.isfinite(counts.tp)
        # Where all pixels or none are true there is nothing to locate: F1 would only repeat recall.
        partly = known & (counts.tp + counts.fn > 0) & (counts.fp + counts.tn > 0)
        real = known & (table["label"] == int(Label.REAL))
        located, photos = _rows_of(counts, partly), _rows_of(counts, real)
        made[mask] = {
            "images": int(partly.sum()),
            "f1": pixel_f1(located, seed=seed).to_json(),
            "iou": pixel_iou(located, seed=seed).to_json(),
            "f1_all_pixels": pixel_f1(located, "pixel", seed=seed).to_json(),
            "false_marks_on_reals": false_mark_share(photos, seed=seed).to_json(),
        }
    return made


def _rows_of(counts: PixelCounts, rows: Bool[np.ndarray, " n"]) -> PixelCounts:
    return PixelCounts(counts.tp[rows], counts.fp[rows], counts.fn[rows], counts.tn[rows])


def _groups(table: ScoreTable) -> list[str]:
    """Name what an image stands for: its generator, its manipulation, or a photo's source."""
    named = zip(
        table["label"].tolist(),
        table["generator"].tolist(),
        table["kind"].tolist(),
        table["source"].tolist(),
        strict=True,
    )
    return [
        (generator or kind or _UNNAMED) if label == int(Label.FAKE) else f"photos: {source}"
        for label, generator, kind, source in named
    ]


def _rate(hits: Bool[np.ndarray, " n"], none: str) -> Value:
    return wilson(int(hits.sum()), len(hits)) if len(hits) else Value.undefined(0, none)


def _overall_rows(summary: Summary) -> list[tuple[str, ...]]:
    values = summary["overall"]
    rows: list[tuple[str, ...]] = [(_TITLES[key], _shown(values[key])) for key in _TITLES]
    rows.insert(1, ("AUROC, interval over generators", _shown(values["auroc_over_groups"])))
    return rows


def _shown(value: Mapping[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "-" if value is None or not value.get("reason") else f"- ({value['reason']})"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
