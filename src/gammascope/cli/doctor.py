"""What ``gammascope doctor`` finds in a data set: as tables, as JSON, and as a page with plots."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

import gammascope
from gammascope.cli.failures import DONE, FOUND, IMPOSSIBLE, PARTLY_DONE
from gammascope.cli.terminal import printable
from gammascope.data.audit import Audit, Duplicates, Fault, audit, examine
from gammascope.errors import MissingDataError, MissingExtraError
from gammascope.evaluation import tables as laid_out
from gammascope.evaluation.header_bias import (
    TREE_DEPTH,
    Carried,
    FeatureBias,
    HeaderBias,
    Headers,
    carried,
    header_bias,
    headers_of,
)
from gammascope.files import complete_or_absent, shown
from gammascope.imaging.decode import Limits
from gammascope.report import percent
from gammascope.sample import Entry

PAGE = "audit.md"
FINDINGS = "audit.json"
PLOT = "header_bias.png"

ALL = "all"
"""Name under which the headers of all splits together are examined."""

TRAIN = "train"
"""The split whose headers detectors learn."""

_ROWS_SHOWN = 10
_ROWS_ON_PAGE = 1000
_FEATURES_SHOWN = 8
_FEATURES_DRAWN = 6


@dataclass(frozen=True, slots=True)
class Checkup:
    """A data set and what was found in it.

    Attributes:
        data: Folder or manifest, as it was named.
        assumption: What its labels were taken to be.
        audit: Broken, misnamed and duplicated files.
        headers: Header properties of all readable files.
        bias: What headers tell of the labels: of ALL and, if there are several, of each split.
        carried: What rules about the headers of TRAIN tell of each other split's labels.
    """

    data: Path
    assumption: str
    audit: Audit
    headers: Headers
    bias: Mapping[str, HeaderBias]
    carried: tuple[Carried, ...]

    def exit_code(self, strict: bool) -> int:
        """Return how the command ends; ``strict`` turns leaks, conflicts and biased headers into FOUND."""
        if not self.audit.examined:
            return IMPOSSIBLE
        biased = any(bias.above_chance for bias in self.bias.values())
        if strict and (self.audit.leaks or self.audit.conflicts or biased):
            return FOUND
        return PARTLY_DONE if self.audit.broken else DONE


def checked(
    data: Path,
    entries: Sequence[Entry],
    assumption: str,
    limits: Limits,
    progress: Callable[[int, int], None],
) -> Checkup:
    """Look at all files of a data set."""
    found = audit(examine(entries, limits=limits, progress=progress))
    headers = headers_of(found.examined)
    splits = sorted({file.entry.split for file in found.examined})
    bias = {ALL: header_bias(headers)}
    if len(splits) > 1:
        bias |= {split: header_bias(headers.of(split)) for split in splits}
    others = [split for split in splits if split != TRAIN] if TRAIN in splits else []
    over = tuple(carried(headers, TRAIN, split) for split in others)
    return Checkup(data, assumption, found, headers, bias, over)


def plain(checkup: Checkup) -> dict[str, Any]:
    """Return all findings in plain types for JSON; nothing is cut short."""
    found = checkup.audit
    return {
        "gammascope": gammascope.__version__,
        "data": shown(checkup.data),
        "labels": checkup.assumption,
        "files": len(found.examined) + len(found.broken),
        "readable": len(found.examined),
        "broken": [
            {"path": shown(file.entry.path), "fault": str(file.fault), "reason": shown(file.reason)}
            for file in found.broken
        ],
        "misnamed": [
            {"path": shown(file.entry.path), "format": file.format} for file in found.misnamed
        ],
        "duplicates": [
            {
                "paths": [shown(file.entry.path) for file in group.files],
                "identical": group.identical,
                "splits": list(group.splits),
                "labels": [label.name.lower() for label in group.labels],
                "leaks": group.leaks,
                "conflicts": group.conflicts,
            }
            for group in found.duplicates
        ],
        "header_bias": {name: _plain_bias(bias) for name, bias in checkup.bias.items()},
        "header_bias_carried": [
            {
                "learned_on": over.learned_on,
                "asked_on": over.asked_on,
                "stump": over.stump.to_json(),
                "tree": over.tree.to_json(),
                "statement": over.statement,
            }
            for over in checkup.carried
        ],
    }


def drawn(checkup: Checkup) -> list[Table]:
    """Draw the tables for a terminal; long lists are cut short."""
    return laid_out.rich_tables(_grids(checkup, _ROWS_SHOWN))


def statements(checkup: Checkup) -> list[str]:
    """Return what headers tell of the labels, a line for each part of the data."""
    lines = [f"{name}: {bias.statement}" for name, bias in checkup.bias.items()]
    return lines + [over.statement for over in checkup.carried]


def write(checkup: Checkup, folder: Path) -> Iterator[str]:
    """Write FINDINGS, PAGE and, with matplotlib, PLOT into a folder; yield lines for people."""
    text = json.dumps(plain(checkup), indent=1, allow_nan=False) + "\n"
    with complete_or_absent(folder / FINDINGS) as unfinished:
        unfinished.write_text(text, "utf-8")
    values = {feature.name: feature.values for feature in checkup.headers.features}
    telling = [bias.name for bias in checkup.bias[ALL].features[:_FEATURES_DRAWN]]
    picture = ""
    try:
        from gammascope.evaluation.plots import plot_by_label

        plot_by_label(
            {name: values[name] for name in telling}, checkup.headers.label, folder / PLOT
        )
        picture = f"\n![The most telling header properties by label]({PLOT})\n"
    except MissingExtraError as error:
        yield str(error)
    except MissingDataError:  # headers that are all the same have nothing to draw
        (folder / PLOT).unlink(missing_ok=True)
    page = f"# Audit of {printable(shown(checkup.data))}\n\n{printable(checkup.assumption)}\n\n"
    page += "".join(f"- {printable(line)}\n" for line in statements(checkup)) + picture
    page += "\n" + laid_out.markdown(_grids(checkup, _ROWS_ON_PAGE))
    with complete_or_absent(folder / PAGE) as unfinished:
        unfinished.write_text(page, "utf-8")
    yield f"Page and findings: {folder}"


def _grids(checkup: Checkup, most: int) -> list[laid_out.Grid]:
    """Lay everything out as tables of at most so many rows; what is empty is left out."""
    found, root = checkup.audit, checkup.data if checkup.data.is_dir() else checkup.data.parent
    # Each with all its rows: a group that leaks and conflicts is worth being in both.
    lists = (
        (
            "broken files",
            ("file", "fault", "reason"),
            [(_shown(f.entry.path, root), str(f.fault), printable(f.reason)) for f in found.broken],
        ),
        (
            "files named like another format",
            ("file", "holds"),
            [(_shown(file.entry.path, root), file.format) for file in found.misnamed],
        ),
        ("pictures in several splits", _GROUP, _group_rows(found.leaks, root)),
        ("pictures of which a label must be wrong", _GROUP, _group_rows(found.conflicts, root)),
        ("pictures that occur more than once", _GROUP, _group_rows(found.duplicates, root)),
    )
    grids = [laid_out.Grid("findings", ("what", "number"), _counts(checkup))]
    grids += [
        laid_out.Grid(title, header, _cut(rows, most)) for title, header, rows in lists if rows
    ]
    if checkup.bias[ALL].features:
        rows = tuple(_feature_row(bias) for bias in checkup.bias[ALL].features[:_FEATURES_SHOWN])
        title = "what single header properties tell of the labels (0.5: nothing)"
        header = ("property", "balanced accuracy", "real", "fake")
        grids.append(laid_out.Grid(title, header, rows))
    return grids


_GROUP = ("files", "identical", "splits", "labels")


def _counts(checkup: Checkup) -> tuple[tuple[str, str], ...]:
    found = checkup.audit
    faults = Counter(file.fault for file in found.broken)
    identical = len(found.examined) - len({file.sha256 for file in found.examined})
    repeated = sum(len(group.files) for group in found.duplicates)
    counts = {
        "files": len(found.examined) + len(found.broken),
        **{f"{fault} files": faults[fault] for fault in Fault},
        "files named like another format": len(found.misnamed),
        "byte-identical copies": identical,
        "pictures that occur more than once": len(found.duplicates),
        "files that show one of these": repeated,
        "pictures in several splits": len(found.leaks),
        "pictures of which a label must be wrong": len(found.conflicts),
    }
    return tuple((name, str(count)) for name, count in counts.items())


def _group_rows(groups: Sequence[Duplicates], root: Path) -> list[tuple[str, ...]]:
    return [
        (
            ", ".join(_shown(file.entry.path, root) for file in group.files),
            "yes" if group.identical else "no",
            printable(", ".join(group.splits)),
            ", ".join(label.name.lower() for label in group.labels),
        )
        for group in groups
    ]


def _feature_row(bias: FeatureBias) -> tuple[str, ...]:
    sides = (percent(side, 0) if bias.is_flag else f"{side:.4g}" for side in (bias.real, bias.fake))
    return (bias.name, str(bias.balanced_accuracy), *sides)


def _cut(rows: Sequence[tuple[str, ...]], most: int) -> tuple[tuple[str, ...], ...]:
    if len(rows) <= most:
        return tuple(rows)
    rest = f"... and {len(rows) - most} more (--out lists all in {FINDINGS})"
    return (*rows[:most], (rest, *([""] * (len(rows[0]) - 1))))


def _shown(path: Path, root: Path) -> str:
    return printable(shown(os.path.relpath(path, root)))


def _plain_bias(bias: HeaderBias) -> dict[str, Any]:
    return {
        "above_chance": bias.above_chance,
        "statement": bias.statement,
        "stump": bias.stump.to_json(),
        "tree": bias.tree.to_json(),
        "tree_depth": TREE_DEPTH,
        "rule": bias.rule,
        "features": [
            {
                "name": feature.name,
                "is_flag": feature.is_flag,
                "balanced_accuracy": feature.balanced_accuracy.to_json(),
                "real": feature.real,
                "fake": feature.fake,
            }
            for feature in bias.features
        ],
    }
