"""Collections left out of training: what fits to others say of their photos, and of generated pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from gammascope import settings
from gammascope.errors import MissingDataError
from gammascope.evaluation.intervals import Value, wilson
from gammascope.evaluation.metrics import auroc, tpr_at_fpr
from gammascope.evaluation.replay_file import Kept
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.tables import Grid, cell
from gammascope.sample import Label

KIND = "left_out"
OTHERS = "others"
"""Source of the pictures of collections too small to count as one; they are pooled."""

LARGE = 100
"""Photos from which a collection has a line of its own."""

WORST = 5
"""Lines for smaller collections: those of which the largest share is called fake."""

_BARE = ("auroc", "auroc_over_collections", "tpr_at_1_percent_fpr", "recall")
"""Shown 0..1; all other shares are small, and in per cent."""

_DRAWN, _SETTLED = "drawn", "settled"
_TITLES = {
    "photos": "photos",
    "fakes": "generated pictures",
    "auroc": "AUROC",
    "auroc_over_collections": "AUROC, interval over collections",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "called_fake": "photos called fake",
    "called_fake_in_the_mean": "photos called fake, mean over collections",
    "called_uncertain_or_fake": "photos called uncertain or fake",
    "recall": "generated pictures called fake",
    "drawings": "drawings by people",
    "drawings_called_fake": "drawings called fake",
    "drawings_called_uncertain_or_fake": "drawings called uncertain or fake",
    "settled_photos": "photos settled by the first views",
    "settled_fakes": "generated pictures settled by the first views",
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Logits from which pictures are called uncertain and fake."""

    uncertain_from: float
    fake_from: float


@dataclass(frozen=True, slots=True)
class _About:
    weights_sha256: str
    thresholds: Mapping[str, Thresholds]


def table(
    logits: Float[np.ndarray, " n"],
    fake: Bool[np.ndarray, " n"],
    collection: Shaped[np.ndarray, " n"],
    drawn: Bool[np.ndarray, " n"],
    settled: Bool[np.ndarray, " n"],
) -> ScoreTable:
    """Return the scores of one profile.

    Args:
        logits: What fits to other collections say; higher leans generated.
        fake: Whether a generator wrote it.
        collection: Name of what it is from; ``OTHERS`` for small ones.
        drawn: Whether people drew, rendered or typed it: no photo, and not generated.
        settled: Whether the first views were enough.
    """
    unknown = np.full(len(logits), "")
    return ScoreTable(
        {
            "path": unknown,
            "label": fake.astype(np.int64),
            "source": collection,
            "logit_generated": logits,
            _DRAWN: drawn.astype(np.float64),
            _SETTLED: settled.astype(np.float64),
            "error": unknown,
        }
    )


def kept(
    weights_sha256: str, thresholds: Mapping[str, Thresholds], tables: Mapping[str, ScoreTable]
) -> Kept:
    """Return what is kept: thresholds and scores (``table``) by profile."""
    return Kept(KIND, settings.plain(_About(weights_sha256, thresholds)), tables)


def summarised(scores: Kept) -> dict[str, Any]:
    """Return all numbers in plain types, by profile, with 95 % intervals.

    Shares have Wilson's interval, AUROC and TPR a bootstrap's over images; "auroc_over_collections" draws collections.
    "called_fake_in_the_mean" counts each collection once, pooled ones as one: it is what thresholds are set by.

    Raises:
        RecipeError: If what the file says besides scores cannot be read.
        MissingDataError: If it is of other profiles than the scores, or a profile has no photos of its own.
    """
    about = settings.parse(_About, scores.about, "thresholds")
    if about.thresholds.keys() != scores.tables.keys():
        raise MissingDataError(
            f"Thresholds of {', '.join(about.thresholds)}, scores of {', '.join(scores.tables)}."
        )
    made = {
        name: _summarised(scores.tables[name], known) for name, known in about.thresholds.items()
    }
    return {
        "weights_sha256": about.weights_sha256,
        "thresholds": settings.plain(about.thresholds),
        "profiles": made,
    }


def grids(plain: Mapping[str, Any]) -> list[Grid]:
    """Lay numbers out as tables: profiles side by side, large collections, the worst of the smaller ones."""
    profiles: Mapping[str, Any] = plain["profiles"]
    rows = [
        (title, *(_text(key, numbers[key]) for numbers in profiles.values()))
        for key, title in _TITLES.items()
    ]
    overall = Grid("collections left out", ("number", *profiles), tuple(rows))
    sizes: dict[str, int] = {}
    shares: dict[str, float] = {}
    for numbers in profiles.values():
        for name, of in numbers["collections"].items():
            sizes[name] = max(of["photos"], sizes.get(name, 0))
            shares.setdefault(name, of["called_fake"]["value"])
    worst_first = sorted(sizes, key=lambda name: (-shares[name], name))
    own = [name for name in worst_first if name != OTHERS]
    large = [name for name in own if sizes[name] >= LARGE]
    small = [name for name in own if sizes[name] < LARGE]
    pooled = [OTHERS] * (OTHERS in sizes)
    return [
        overall,
        _by_collection(f"collections of at least {LARGE} photos", [*large, *pooled], profiles),
        _by_collection(f"smaller collections, the {WORST} worst", small[:WORST], profiles),
    ]


def _summarised(scores: ScoreTable, known: Thresholds) -> dict[str, Any]:
    logits, collection = scores["logit_generated"], scores["source"]
    fake = scores["label"] == Label.FAKE
    own, settled = scores[_DRAWN] == 0, scores[_SETTLED] == 1
    photos, fakes, drawings = own & ~fake, own & fake, ~own & ~fake
    if not photos.any():
        raise MissingDataError("No photo was left out of training: no collection to judge.")
    if not np.isfinite(logits).all():
        raise MissingDataError("A picture has no score: expected one for each.")
    called, doubted = logits >= known.fake_from, logits >= known.uncertain_from
    every: dict[str, Any] = {
        str(name): {
            "photos": int(of.sum()),
            "called_fake": _share(called, of).to_json(),
            "called_uncertain_or_fake": _share(doubted, of).to_json(),
        }
        for name in np.unique(collection[photos])
        for of in [photos & (collection == name)]
    }
    mean = float(np.mean([of["called_fake"]["value"] for of in every.values()]))
    values = {
        "auroc": auroc.measure(logits[own], fake[own].astype(np.int64)),
        "auroc_over_collections": auroc.measure(
            logits[own], fake[own].astype(np.int64), collection[own]
        ),
        "tpr_at_1_percent_fpr": tpr_at_fpr(0.01).measure(logits[own], fake[own].astype(np.int64)),
        "called_fake": _share(called, photos),
        "called_fake_in_the_mean": Value(mean, np.nan, np.nan, len(every)),
        "called_uncertain_or_fake": _share(doubted, photos),
        "recall": _share(called, fakes),
        "drawings_called_fake": _share(called, drawings),
        "drawings_called_uncertain_or_fake": _share(doubted, drawings),
        "settled_photos": _share(settled, photos),
        "settled_fakes": _share(settled, fakes),
    }
    return {
        "photos": int(photos.sum()),
        "fakes": int(fakes.sum()),
        "drawings": int(drawings.sum()),
        **{name: value.to_json() for name, value in values.items()},
        "collections": every,
    }


def _share(hits: Bool[np.ndarray, " n"], of: Bool[np.ndarray, " n"]) -> Value:
    return wilson(int((hits & of).sum()), int(of.sum()))


def _by_collection(title: str, names: list[str], profiles: Mapping[str, Any]) -> Grid:
    header = tuple(
        f"{profile}: {word}"
        for profile in profiles
        for word in ("photos", "called fake", "uncertain or fake")
    )
    rows = []
    for name in names:
        row = [name]
        for numbers in profiles.values():
            of = numbers["collections"].get(name, {})
            row += [str(of.get("photos", 0))]
            row += [_text(key, of.get(key)) for key in ("called_fake", "called_uncertain_or_fake")]
        rows.append(tuple(row))
    return Grid(title, ("collection", *header), tuple(rows))


def _text(key: str, number: int | Mapping[str, Any] | None) -> str:
    if isinstance(number, int):
        return f"{number:,}"
    if key in _BARE or number is None or number["value"] is None:
        return cell(number)
    share = f"{100 * number['value']:.2f} %"
    if number["low"] is None:
        return share
    return f"{share} [{100 * number['low']:.2f}, {100 * number['high']:.2f}]"
