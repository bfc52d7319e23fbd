"""Public datasets: one constant each, whose name in lower case is the benchmark's name.

A benchmark is a description of some twenty lines, so those of one kind share a module: ``by_generator`` and
``found_online`` (folders), ``edited_photos`` (photos and masks), ``table_rows`` (Parquet and Arrow). Here stand what a
benchmark is, and how one is found by name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from gammascope.data.layouts import Reader, plain
from gammascope.errors import MissingDataError, UnknownBenchmarkError, did_you_mean
from gammascope.files import of_package
from gammascope.sample import Entry, Label

_ENTRY_POINTS = "gammascope.benchmarks"

_SHOWN = 5
"""How many names a message gives at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A public dataset with its published protocol.

    Attributes:
        title: Name as its authors write it.
        paper: arXiv id or DOI.
        licence: Of the images; "not stated" where its authors say nothing.
        url: Where the data come from.
        splits: Names of its splits; the first one is evaluated unless another is named.
        labels: Which folder or value means which label: the direction to show before any number.
        tree: How it must lie on disk, drawn.
        read: Lists the entries of a split below a folder; a layout of ``data.layouts``.
        parts: Generators or test sets of which a complete split consists, by split; known by ``Entry.source``, or
            by ``Entry.generator`` where there is no source.
        paired: Whether each of those parts has real and fake images of its own.
        classes: Labels that occur; some benchmarks have no photos.
        reading: What of the layout is documented nowhere, so that it is our reading; "" if all of it is documented.
    """

    title: str
    paper: str
    licence: str
    url: str
    splits: tuple[str, ...]
    labels: Mapping[str, Label]
    tree: str
    read: Reader
    parts: Mapping[str, Collection[str]] = field(default_factory=dict)
    paired: bool = False
    classes: frozenset[Label] = frozenset(Label)
    reading: str = ""

    def entries(
        self, root: Path, split: str | None = None, *, partial: bool = False
    ) -> list[Entry]:
        """List the images of a split in a fixed order, without opening one.

        Args:
            root: The folder that holds what ``tree`` draws.
            split: One of ``splits``; None: the first.
            partial: Accept a download that lacks parts or a class; otherwise its numbers would pass for the
                benchmark's.

        Raises:
            MissingDataError: If there is no such folder or split, if it holds nothing, or is incomplete. The text
                says where the data come from and under which licence; a note draws the tree.
        """
        split = self.splits[0] if split is None else split
        if split not in self.splits:
            raise MissingDataError(
                f"{self.title} has no split {split!r}.{did_you_mean(split, self.splits)} "
                f"Known: {', '.join(self.splits)}."
            )
        if not root.is_dir():
            raise self._missing(f"no folder at {root}")
        try:
            entries = list(self.read(root, split))
        except MissingDataError as error:
            raise self._missing(str(error).removesuffix(".")) from error
        if not entries:
            raise self._missing(f"no image of split {split!r} is laid out as expected below {root}")
        if not partial:
            self._check(entries, split, root)
        return entries

    def direction(self) -> str:
        """Say which names were taken for which label: a wrong direction turns every number around.

        >>> get("wildrf").direction()
        '0_real = real; 1_fake = fake'
        """
        names = {label: [n for n, of in self.labels.items() if of is label] for label in Label}
        return "; ".join(
            f"{', '.join(held[:_SHOWN])}{', ...' if len(held) > _SHOWN else ''} = {label.name.lower()}"
            for label, held in names.items()
            if held
        )

    def _check(self, entries: Iterable[Entry], split: str, root: Path) -> None:
        found: defaultdict[str | None, set[Label]] = defaultdict(set)
        for entry in entries:
            found[entry.source or entry.generator].add(entry.label)
        known = self.parts.get(split, ())
        lacking = [f"nothing of {part}" for part in known if part not in found]
        if self.paired:
            lacking += [
                f"no {label.name.lower()} image of {part}"
                for part in (known or sorted(filter(None, found)))
                for label in Label
                if part in found and label not in found[part]
            ]
        present = set[Label]().union(*found.values())
        if not lacking:
            lacking = [f"no {label.name.lower()} image" for label in sorted(self.classes - present)]
        if lacking:
            more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            raise self._missing(
                f"split {split!r} below {root} is incomplete: {', '.join(lacking[:_SHOWN])}{more} "
                "(what is there can be evaluated as partial)"
            )

    def _missing(self, what: str) -> MissingDataError:
        error = MissingDataError(
            f"{self.title}: {what}. Data: {self.url} (licence: {self.licence})."
        )
        error.add_note(f"Expected below the root:\n{self.tree}")
        return error


def _own() -> dict[str, Benchmark]:
    """Import the modules of this package and return their benchmarks."""
    package = importlib.import_module("gammascope.data.benchmarks")
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return {
        name.lower(): found
        for module in modules
        for name, found in vars(module).items()
        if isinstance(found, Benchmark) and name.isupper()
    }


def names() -> list[str]:
    """List the benchmarks by name: ours, and those that other packages add.

    >>> "genimage" in names()
    True
    """
    return sorted({*_own(), *(point.name for point in entry_points(group=_ENTRY_POINTS))})


def named(name: str) -> str:
    """Return our name of a benchmark, whatever its case and punctuation.

    >>> named("DRCT-2M")
    'drct_2m'

    Raises:
        UnknownBenchmarkError: If no benchmark has this name; the message lists the known ones.
    """
    known = names()
    found = name if name in known else {plain(each): each for each in known}.get(plain(name))
    if found is None:
        raise UnknownBenchmarkError(
            f"Unknown benchmark {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
        )
    return found


def get(name: str) -> Benchmark:
    """Return a benchmark.

    Args:
        name: In any case and with any punctuation.

    Raises:
        UnknownBenchmarkError: If no benchmark has this name; the message lists the known ones.
        BrokenPackageError: If it is another package's, and cannot be loaded.
    """
    name = named(name)
    for point in entry_points(group=_ENTRY_POINTS):
        if point.name == name:
            return of_package(point, Benchmark)
    return _own()[name]
