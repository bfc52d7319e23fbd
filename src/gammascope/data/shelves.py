"""Entries of one class, from which views are drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from gammascope.sample import Entry


class Shelf:
    """Entries of one class, drawn by collection so that a large narrow one does not drown the others.

    A collection has one source, one generator and, where pictures were manipulated, one kind.
    """

    def __init__(self, entries: Iterable[Entry], cap: int | None = None) -> None:
        self.entries = list(entries)
        groups: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            kind = f"/{entry.kind}" if entry.kind else ""
            groups[f"{entry.source}/{entry.generator}{kind}"].append(entry)
        self._groups = [groups[name] for name in sorted(groups)]
        sizes = np.sqrt([min(len(group), cap or len(group)) for group in self._groups])
        self._shares = sizes / sizes.sum() if len(sizes) else sizes

    def draw(self, rng: np.random.Generator) -> Entry:
        """Draw a collection by the root of its size, then one of its entries."""
        group = self._groups[int(rng.choice(len(self._groups), p=self._shares))]
        return group[int(rng.integers(len(group)))]
