"""Score tables made into numbers with intervals, and numbers into tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import rich.table
from jaxtyping import Bool, Float, Int, Shaped

from gammascope.checkpoints import RAW, Calibration
from gammascope.choices import Black
from gammascope.data.manifest import PHOTO_KINDS
from gammascope.errors import MissingDataError, did_you_mean
from gammascope.evaluation.intervals import (
    MOST_DRAWN,
    Rows,
    Value,
    Weights,
    bootstrap,
    sums_by_group,
    wilson,
)
from gammascope.evaluation.localisation import locate, mean
from gammascope.evaluation.metrics import (
    Metric,
    PixelCounts,
    auroc,
    auroc_against,
    average_precision,
    balanced_accuracy,
    brier,
    ece,
    eer,
    false_mark_share,
    pixel_f1,
    tpr_at_fpr,
)
from gammascope.evaluation.score_table import MASKS, ScoreTable, draws_of, same_sizes
from gammascope.sample import Label

Summary: TypeAlias = dict[str, Any]
"""Plain types for ``json.dumps``: what ``summarise`` returns and the tables are made from."""

UNKNOWN = -1
"""Truth of a question that the ground truth does not answer."""

_UNNAMED = "(unnamed)"
_PHOTOS = "photos: "
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


_MARKED = ("f1", "iou", "f1_all_pixels", "false_marks_on_reals")
_ANY_THRESHOLD = ("auroc", "f1_best_over_dataset", "iou_best_over_dataset", "f1_best_per_image")


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
    if question == "fake":
        return np.asarray(fake, dtype=np.int64)
    kinds, kind = table.coded("kind")
    partly = (kinds != "")[kind]
    if question == "edited":
        return np.asarray(fake & partly, dtype=np.int64)
    if question == "generated":
        generators, generator = table.coded("generator")
        named = (generators != "")[generator]
        photos_only = partly & ~named & np.isin(kinds, sorted(PHOTO_KINDS))[kind]
        unknown = fake & partly & ~named & ~photos_only
        yes = (fake & ~photos_only).astype(np.int64)
        return np.where(unknown, UNKNOWN, yes)
    known = ("generated", "edited", "fake")
    raise MissingDataError(
        f"No ground truth for the question {question!r}.{did_you_mean(question, known)} "
        f"Known: {', '.join(known)}."
    )


def usable(
    table: ScoreTable, question: str, truth: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Say which images a question can be measured on: scored, answered, and of known truth (see ``truth_of``)."""
    answered = scored(table) & np.isfinite(table[f"logit_{question}"])
    result: Bool[np.ndarray, " n"] = answered & (truth != UNKNOWN)
    return result


def scored(table: ScoreTable) -> Bool[np.ndarray, " n"]:
    """Say which images could be scored."""
    errors, error = table.coded("error")
    result: Bool[np.ndarray, " n"] = (errors == "")[error]
    return result


def summarise(
    table: ScoreTable,
    question: str = "generated",
    *,
    calibration: Calibration = RAW,
    black: Black = "skip",
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Return all numbers of one question, with 95 % intervals and counts.

    Images that failed, have no answer or have no known truth are counted and left out. Intervals
    of shares are Wilson's; the others are bootstrapped over images of each class, and AUROC also
    over generators and sources ("auroc_over_groups"): how far it may move for others. The same
    overall numbers follow for the images of matched sizes ("size_matched", see ``same_sizes``).

    Args:
        table: One row per image.
        question: "generated", "edited" or "fake".
        calibration: Its ``fake_from`` is the threshold; its probabilities give ECE and the Brier score.
        black: What images without a true pixel count in F1 and IoU.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        MissingDataError: If the table has no logits for the question, or nothing remains.
    """
    name = f"logit_{question}"
    truth = truth_of(table, question)
    logits = table[name]
    well, answers = scored(table), np.isfinite(logits)
    used = well & answers & (truth != UNKNOWN)
    if not used.any():
        raise MissingDataError(
            f"No image left to measure {question!r} on: {int((~well).sum())} of "
            f"{len(table)} failed, {int((truth == UNKNOWN).sum())} have no known truth."
        )
    matched = _of_same_sizes(table, truth, used)
    rows, order = _Answered.of(table, question, truth).where(used).in_order()
    measures = _Measures(calibration, resamples, seed)
    summary: Summary = {
        "question": question,
        "threshold": calibration.fake_from,
        "temperature": calibration.temperature,
        "offset": calibration.offset,
        "images": len(table),
        "yes": int((rows.truth == 1).sum()),
        "no": int((rows.truth == 0).sum()),
        "failed": int((~well).sum()),
        "unanswered": int((well & ~answers).sum()),
        "truth_unknown": int((well & answers & ~used).sum()),
        "masks_unusable": _masks_unusable(table),
    }
    summary["overall"] = _overall(rows, measures)
    if matched is not None:
        pairs = int(matched.sum()) // 2
        summary["size_matched"] = {"yes": pairs, "no": pairs}
        if pairs:
            summary["size_matched"]["overall"] = _overall(rows.where(matched[order]), measures)
    summary["sources"] = _per_source(rows, calibration.fake_from)
    summary["generators"] = _per_generator(rows, measures)
    summary["pixels"] = _per_mask(table, black, seed)
    return summary


def overall(
    table: ScoreTable,
    question: str,
    chosen: Bool[np.ndarray, " n"],
    *,
    calibration: Calibration = RAW,
    resamples: int = 1000,
    seed: int = 0,
) -> Summary:
    """Return the overall numbers of one question on some images only; see ``summarise``.

    Args:
        table: One row per image.
        question: "generated", "edited" or "fake".
        chosen: Which rows to measure; those that are not ``usable`` are left out.
        calibration: Its ``fake_from`` is the threshold.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    truth = truth_of(table, question)
    rows = _Answered.of(table, question, truth).where(usable(table, question, truth) & chosen)
    return _overall(rows, _Measures(calibration, resamples, seed))


def grids(summary: Summary) -> list[Grid]:
    """Lay a summary out as tables: overall, per source of photos, per generator, per mask."""
    left_out = "".join(
        f", {summary[key]} {words}"
        for key, words in (
            ("failed", "failed"),
            ("unanswered", "without an answer"),
            ("truth_unknown", "of unknown truth"),
            ("masks_unusable", "scored without masks, which could not be used"),
        )
        if summary[key]
    )
    head = f"{summary['question']}: {summary['yes']} yes, {summary['no']} no{left_out}"
    made = [Grid(head, ("number", "value [95 %]"), tuple(_overall_rows(summary)))]
    for key, title, columns in (
        ("sources", "photos by source", ("false_alarms",)),
        ("generators", "by generator or manipulation", ("recall", "auroc")),
        ("pixels", "pixels by mask, marked above 0.5", _MARKED),
        ("pixels", "pixels by mask, at any threshold", _ANY_THRESHOLD),
    ):
        if summary[key]:
            rows = (
                (group, str(row["images"]), *(cell(row[column]) for column in columns))
                for group, row in summary[key].items()
            )
            titles = tuple(column.replace("_", " ") for column in columns)
            made.append(Grid(title, (key.rstrip("s"), "images", *titles), tuple(rows)))
    return made


def comparison(summaries: Mapping[str, Summary]) -> list[Grid]:
    """Lay the overall numbers of several evaluations of the same images side by side.

    A number that falls when files are made alike was owed to the files' formats; one that falls
    among images of matched sizes, to their sizes.
    """
    overall = {name: summary["overall"] for name, summary in summaries.items()}
    made = [_side_by_side("side by side", overall)]
    matched = {
        f"{name} ({2 * summary['size_matched']['yes']} images)": summary["size_matched"]["overall"]
        for name, summary in summaries.items()
        if "overall" in summary.get("size_matched", {})
    }
    if matched:
        made.append(_side_by_side("side by side, real and fake of matched sizes", matched))
    return made


def _side_by_side(title: str, columns: Mapping[str, Mapping[str, Any]]) -> Grid:
    keys = [key for key in _TITLES if any(key in overall for overall in columns.values())]
    rows = [
        (_TITLES[key], *(cell(overall.get(key)) for overall in columns.values())) for key in keys
    ]
    return Grid(title, ("number", *columns), tuple(rows))


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
class _Measures:
    calibration: Calibration
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Answered:
    """What the numbers of one question are made from.

    Attributes:
        logits: Answers.
        truth: 1 yes, 0 no.
        group: Number of what an image stands for.
        names: Of these: a generator, a manipulation, or a photo's source.
        photo: Whether the label is real.
    """

    logits: Float[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]
    names: tuple[str, ...]
    photo: Bool[np.ndarray, " n"]

    @classmethod
    def of(cls, table: ScoreTable, question: str, truth: Int[np.ndarray, " n"]) -> _Answered:
        photo = table["label"] == int(Label.REAL)
        names, group = _groups(table)
        return cls(table[f"logit_{question}"], truth, group, names, photo)

    def where(self, rows: Shaped[np.ndarray, " _m"]) -> _Answered:
        return _Answered(
            self.logits[rows], self.truth[rows], self.group[rows], self.names, self.photo[rows]
        )

    def in_order(self) -> tuple[_Answered, Int[np.ndarray, " n"]]:
        """Return the rows with the highest logit first where there are many, and where each was.

        Every rank metric sorts them; of what is sorted already that takes no time.
        """
        if len(self.logits) <= MOST_DRAWN:
            return self, np.arange(len(self.logits))
        order = np.argsort(-self.logits, kind="stable")
        return self.where(order), order


def _overall(rows: _Answered, measures: _Measures) -> dict[str, Any]:
    logits, truth, threshold = rows.logits, rows.truth, measures.calibration.fake_from
    probability = measures.calibration.probability(logits)

    def measured(
        metric: Metric,
        score: Float[np.ndarray, " n"],
        clusters: Int[np.ndarray, " n"] | None = None,
    ) -> Value:
        resamples, seed = measures.resamples, measures.seed
        return metric.measure(score, truth, clusters, resamples=resamples, seed=seed)

    values = {
        "auroc": measured(auroc, logits),
        "auroc_over_groups": measured(auroc, logits, rows.group),
        "average_precision": measured(average_precision, logits),
        "balanced_accuracy": measured(balanced_accuracy(threshold), logits),
        "mean_accuracy": _mean_accuracy(rows, measures),
        "real_accuracy": _rate(logits[truth == 0] < threshold, "no real image"),
        "fake_accuracy": _rate(logits[truth == 1] >= threshold, "no fake image"),
        "eer": measured(eer, logits),
        "tpr_at_1_percent_fpr": measured(tpr_at_fpr(0.01), logits),
        "ece": measured(ece(), probability),
        "brier": measured(brier, probability),
    }
    return {name: value.to_json() for name, value in values.items()}


def _mean_accuracy(rows: _Answered, measures: _Measures) -> Value:
    """Return the mean over generators of balanced accuracy, each against all reals."""
    fake = rows.truth == 1
    right = (rows.logits >= measures.calibration.fake_from) == fake
    if not fake.any() or fake.all():
        return Value.undefined(len(fake), "no real image" if fake.any() else "no fake image")
    # 0 stands for the reals, 1 and up for the generators that made a fake.
    of_fakes, generator = np.unique(rows.group[fake], return_inverse=True)
    group = np.zeros(len(fake), dtype=np.int64)
    group[fake] = generator + 1
    number = len(of_fakes) + 1

    def kernel(some: Rows, weight: Weights) -> Float[np.ndarray, " b"]:
        found = sums_by_group(weight * right[some], group[some], number)
        share = found / sums_by_group(weight, group[some], number)
        return np.asarray((share[:, 0] + share[:, 1:].mean(axis=1)) / 2)

    # Each generator and the reals are drawn from by themselves, so that none is ever empty.
    return bootstrap(kernel, group, resamples=measures.resamples, seed=measures.seed)


def _of_same_sizes(
    table: ScoreTable, truth: Int[np.ndarray, " n"], used: Bool[np.ndarray, " n"]
) -> Bool[np.ndarray, " _m"] | None:
    """Mark those of the used rows that are matched; None if the table knows no sizes."""
    if not {"width", "height"} <= set(table.columns):
        return None
    width, height = (table[side][used].astype(np.int64) for side in ("width", "height"))
    # A table that is replayed has no paths, but the draws that were made of them.
    draw = table["draw"][used] if "draw" in table.columns else draws_of(table["path"][used])
    return same_sizes(width, height, truth[used], draw)


def _masks_unusable(table: ScoreTable) -> int:
    return int((table["mask_error"] != "").sum()) if "mask_error" in table.columns else 0


def _per_source(rows: _Answered, threshold: float) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for group in np.unique(rows.group[rows.photo]).tolist():
        logits = rows.logits[rows.photo & (rows.group == group)]
        made[rows.names[group].removeprefix(_PHOTOS) or _UNNAMED] = {
            "images": len(logits),
            "false_alarms": _rate(logits >= threshold, "no real image").to_json(),
        }
    return made


def _per_generator(rows: _Answered, measures: _Measures) -> dict[str, Any]:
    made: dict[str, Any] = {}
    photos, yes = rows.logits[rows.photo], rows.truth == 1
    # Fewer draws than overall: there may be hundreds of generators.
    resamples, seed = min(measures.resamples, 300), measures.seed
    for group in np.unique(rows.group[yes]).tolist():
        fakes = rows.logits[yes & (rows.group == group)]
        if len(photos) > MOST_DRAWN:
            area = auroc_against(photos, fakes, resamples=resamples, seed=seed)
        else:
            both = np.concatenate([fakes, photos])
            truth = np.repeat([1, 0], [len(fakes), len(photos)])
            area = auroc.measure(both, truth, resamples=resamples, seed=seed)
        made[rows.names[group]] = {
            "images": len(fakes),
            "recall": _rate(fakes >= measures.calibration.fake_from, "no fake image").to_json(),
            "auroc": area.to_json(),
        }
    return made


def _per_mask(table: ScoreTable, black: Black, seed: int) -> dict[str, Any]:
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
        fixed, dataset, image = (
            locate(table.columns, mask, threshold=threshold, black=black, seed=seed)
            for threshold in ("fixed", "best_over_dataset", "best_per_image")
        )
        areas = table.columns.get(f"{mask}_auroc", np.zeros(0))
        made[mask] = {
            "images": int(partly.sum()),
            "black": black,
            "f1": fixed.f1.to_json(),
            "iou": fixed.iou.to_json(),
            "f1_all_pixels": pixel_f1(located, "pixel", seed=seed).to_json(),
            "false_marks_on_reals": false_mark_share(photos, seed=seed).to_json(),
            "auroc": mean(areas, seed=seed).to_json(),
            "threshold_over_dataset": _number(dataset.threshold),
            "f1_best_over_dataset": dataset.f1.to_json(),
            "iou_best_over_dataset": dataset.iou.to_json(),
            "f1_best_per_image": image.f1.to_json(),
            "iou_best_per_image": image.iou.to_json(),
        }
    return made


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _rows_of(counts: PixelCounts, rows: Bool[np.ndarray, " n"]) -> PixelCounts:
    return PixelCounts(counts.tp[rows], counts.fp[rows], counts.fn[rows], counts.tn[rows])


def _groups(table: ScoreTable) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    """Name what images stand for, and number it: a generator, a manipulation, or a photo's source."""
    (generators, generator), (kinds, kind), (sources, source) = (
        table.coded(name) for name in ("generator", "kind", "source")
    )
    photos = [f"{_PHOTOS}{name}" for name in sources.tolist()]
    names = [*generators.tolist(), *kinds.tolist(), _UNNAMED, *photos]
    of_kinds, unnamed = len(generators), len(generators) + len(kinds)
    by_kind = np.where((kinds != "")[kind], of_kinds + kind, unnamed)
    fake = np.where((generators != "")[generator], generator, by_kind)
    group = np.where(table["label"] == int(Label.FAKE), fake, unnamed + 1 + source)
    # A manipulation may be called like a generator; one that no row has is no name.
    present = np.flatnonzero(np.bincount(group, minlength=len(names)))
    own = {name: at for at, name in enumerate(sorted({names[at] for at in present}))}
    number = np.zeros(len(names), dtype=np.int32)
    number[present] = [own[names[at]] for at in present]
    return tuple(own), number[group]


def _rate(hits: Bool[np.ndarray, " n"], none: str) -> Value:
    return wilson(int(hits.sum()), len(hits)) if len(hits) else Value.undefined(0, none)


def _overall_rows(summary: Summary) -> list[tuple[str, ...]]:
    values = summary["overall"]
    rows: list[tuple[str, ...]] = [(_TITLES[key], cell(values[key])) for key in _TITLES]
    rows.insert(1, ("AUROC, interval over generators", cell(values["auroc_over_groups"])))
    return rows


def cell(value: Mapping[str, Any] | None) -> str:
    """Return a number with its interval, as ``Value.to_json`` gives them, as the text of a table's cell."""
    if value is None or value["value"] is None:
        return "-" if value is None or not value.get("reason") else f"- ({value['reason']})"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
