"""What ``gammascope calibrate`` is fed with, and its outcome as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from gammascope import checkpoints
from gammascope.apps import terminal
from gammascope.data.manifest import read_manifest
from gammascope.errors import MissingDataError, did_you_mean
from gammascope.sample import Entry


def entries_of(checkpoint: Path, manifests: Sequence[Path], sources: Sequence[str]) -> list[Entry]:
    """List the images to calibrate on.

    Args:
        checkpoint: Says which sources were kept apart in its training.
        manifests: Where images are.
        sources: Which of them; none: those kept apart, and all where the checkpoint names none.

    Raises:
        MissingDataError: If a source has no image.
    """
    recipe = checkpoints.read_facts(checkpoint).recipe
    wanted = list(sources) or list(recipe.get("data", {}).get("validation_sources", ()))
    entries = [entry for path in manifests for entry in read_manifest(path)]
    known = {entry.source for entry in entries if entry.source}
    for name in wanted:
        if name not in known:
            raise MissingDataError(
                f"No image of source {name!r}.{did_you_mean(name, known)} "
                f"Known: {', '.join(sorted(known)) or 'none'}."
            )
    return [entry for entry in entries if not wanted or entry.source in wanted]


def table(fitted: Mapping[str, checkpoints.Calibration]) -> Table:
    """Draw what was fitted, a row for each question."""
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in (
        "question",
        "temperature",
        "offset",
        "uncertain from",
        "fake from",
        "photos",
        "sources",
    ):
        drawn.add_column(title, justify="left" if title in {"question", "sources"} else "right")
    for question, values in fitted.items():
        drawn.add_row(
            question,
            f"{values.temperature:.3f}",
            f"{values.offset:.3f}",
            f"logit {values.uncertain_from:.3f} ({values.rates[0]:.0%} of photos)",
            f"logit {values.fake_from:.3f} ({values.rates[1]:.0%})",
            str(values.photos),
            terminal.literal(", ".join(values.sources)),
        )
    return drawn
