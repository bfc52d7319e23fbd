"""How public datasets lie on disk, in four shapes of which each benchmark of ``data.benchmarks`` names one.

``Folders``: the folders on an image's path say its label, split and generator. ``Masked``: folders of edited photos and
of masks, paired by their names. ``Tables``: rows of Parquet or Arrow files with the images inside. ``Either``: several
layouts of one dataset. All of them are frozen descriptions; called with a folder and a split they list entries in a
fixed order and open no image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from gammascope.data.folder import files_below
from gammascope.data.manifest import mask_where
from gammascope.errors import MissingDataError
from gammascope.files import pyarrow_for
from gammascope.imaging.storage import TABLE_SUFFIXES, arrow_table, cell
from gammascope.sample import Entry, Label

Reader: TypeAlias = Callable[[Path, str], Iterable[Entry]]
"""Lists the entries of a split below a folder; none if the folder holds another layout."""

Completion: TypeAlias = Callable[[Entry, Mapping[str, Any], Mapping[str, str]], Entry]
"""Adds to an entry what its row of a table says; also given what the name of the table says."""

Names: TypeAlias = Mapping[str, Collection[str]]
"""A name of ours, and the folder names that stand for it besides itself; case and punctuation never count."""

NUMBERED: Mapping[str, Label] = {"0_real": Label.REAL, "1_fake": Label.FAKE}
"""The class folders of the CNNDetection lineage."""

PLAIN: Mapping[str, Label] = {"real": Label.REAL, "fake": Label.FAKE}


def only(names: Iterable[str]) -> Names:
    """Return names that stand for themselves alone."""
    return dict.fromkeys(names, ())


def labelled(names: Names, label: Label) -> dict[str, Label]:
    """Return one label for all names and those that stand for them."""
    return dict.fromkeys((word for name in names for word in (name, *names[name])), label)


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Reduce a folder's name to what counts: its letters and digits, in lower case.

    >>> plain("Stable Diffusion V1.4") == plain("stable_diffusion_v_1_4")
    True
    """
    return re.sub(r"[^0-9a-z]", "", name.lower())


def label_meant(word: object, known: Mapping[str, Label]) -> Label | None:
    """Return what a table's label means, by plain names; None: nothing. -1 stands for "no label" and is not 1."""
    text = str(word)
    return None if re.fullmatch(r"\s*-\s*\d+\s*", text) else known.get(plain(text))


@dataclass(frozen=True, slots=True)
class Either:
    """The first of several layouts that lists anything."""

    readers: tuple[Reader, ...]

    def __call__(self, root: Path, split: str) -> list[Entry]:
        """List the entries of a split."""
        listed = (list(reader(root, split)) for reader in self.readers)
        return next((entries for entries in listed if entries), [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Images whose folders say what they are, in whatever order and however deep the folders lie.

    An image has the label of the innermost class folder on its path; images without one are left out.

    Attributes:
        labels: Class folders; generators and collections of photos may be some.
        splits: Split folders; the outermost on a path counts. Folders of other splits are not looked into.
        unsplit: The split of images without a split folder; None: they are left out.
        split_first: Only folders above the part can be a split: some classes of objects are called "train".
        parts: Folders of generators, test sets or collections, of which the outermost counts; None: any folder
            that is nothing else, the first one below the class folder or else the last one above it.
        generator: Of all fakes; None: their part, if ``parts_are_generators``.
        parts_are_generators: Otherwise they are sources only (a social network, say).
        partly: Parts whose fakes are photos with something replaced (a face, say).
    """

    labels: Mapping[str, Label]
    splits: Names = field(default_factory=dict)
    unsplit: str | None = None
    split_first: bool = False
    parts: Names | None = None
    generator: str | None = None
    parts_are_generators: bool = True
    partly: Collection[str] = ()

    def __call__(self, root: Path, split: str) -> list[Entry]:
        """List the entries of a split."""
        words = _Words(self)
        # Thousands of images share a folder: what it says is found out once.
        places: dict[Path, Entry | None] = {}

        def enter(folder: Path) -> bool:
            return words.split(folder.relative_to(root).parts) in {None, split}

        listed = []
        for path in files_below(root, enter=enter):
            if path.parent not in places:
                places[path.parent] = self._entry(path.parent.relative_to(root).parts, words)
            place = places[path.parent]
            if place is not None and place.split == split:
                listed.append(replace(place, path=path))
        return listed

    def _entry(self, folders: Sequence[str], words: _Words) -> Entry | None:
        """Return what all images in a folder have in common."""
        place = words.class_place(folders)
        split = words.split(folders) or self.unsplit
        if place is None or split is None:
            return None
        label, part = words.labels[plain(folders[place])], words.part(folders, place)
        generator = self.generator or (part if self.parts_are_generators else None)
        fake = label is Label.FAKE
        return Entry(
            Path(*folders),
            label,
            generator=generator if fake else None,
            kind="manipulated" if fake and part in self.partly else None,
            source=part,
            split=split,
        )


class _Words:
    """The folder names of a layout, reduced to what counts."""

    def __init__(self, layout: Folders) -> None:
        self.split_first = layout.split_first
        self.labels = {plain(name): label for name, label in layout.labels.items()}
        self.splits = _lookup(layout.splits)
        self.parts = None if layout.parts is None else _lookup(layout.parts)

    def split(self, folders: Sequence[str]) -> str | None:
        if self.split_first and self.parts is not None:
            known = (at for at, name in enumerate(folders) if plain(name) in (self.parts or {}))
            folders = folders[: next(known, None)]
        return _first(self.splits, folders)

    def class_place(self, folders: Sequence[str]) -> int | None:
        places = [at for at, name in enumerate(folders) if plain(name) in self.labels]
        return places[-1] if places else None

    def part(self, folders: Sequence[str], class_place: int) -> str | None:
        if self.parts is not None:
            return _first(self.parts, folders)
        in_order = (*folders[class_place + 1 :], *reversed(folders[:class_place]))
        taken = {*self.labels, *self.splits}
        return next((name for name in in_order if plain(name) not in taken), None)


def _first(names: Mapping[str, str], folders: Sequence[str]) -> str | None:
    return next((names[plain(name)] for name in folders if plain(name) in names), None)


def _lookup(names: Names) -> dict[str, str]:
    return {plain(alias): name for name, aliases in names.items() for alias in (name, *aliases)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Edited photos, their masks, and untouched photos, each recognised by its path below the root.

    The patterns are searched in the path ("Tp/CM/Sp_S_1.jpg"), in any case. What the groups of the pattern for
    edited photos and of that for masks caught is what pairs them; without groups the name up to its ending does.

    Attributes:
        edited: Edited photos.
        masks: Masks; what this matches is nothing else.
        untouched: Untouched photos; None: there are none.
        kind: Of the edits, or a function of the edited photo's path below the root.
        generator: That filled the masks, if one did, or a function likewise.
        holds: Where masks are true: "light", "dark" or "green".
        pasted_back: Whether the generator's pixels are those in the mask and no others.
        in_order: Pair photos and masks by their order where their names do not pair any and there are as many of both.
        split: Of all entries.
    """

    edited: str
    masks: str
    untouched: str | None = None
    kind: str | Callable[[str], str] = "manipulated"
    generator: str | Callable[[str], str | None] | None = None
    holds: str = "light"
    pasted_back: bool = False
    in_order: bool = False
    split: str = "test"

    def __call__(self, root: Path, split: str) -> list[Entry]:
        """List the entries of a split."""
        if split != self.split:
            return []
        masks: dict[str, Path] = {}
        edited: list[tuple[str, Path]] = []
        real: list[Path] = []
        for path in files_below(root):
            name = path.relative_to(root).as_posix()
            if (found := _search(self.masks, name)) is not None:
                masks.setdefault(_key(found, path), path)
            elif (found := _search(self.edited, name)) is not None:
                edited.append((_key(found, path), path))
            elif self.untouched is not None and _search(self.untouched, name) is not None:
                real.append(path)
        pairs = self._paired(root, edited, masks)
        entries = [Entry(path, Label.REAL, source=None, split=split) for path in real]
        entries += [self._entry(root, path, mask) for path, mask in pairs]
        return sorted(entries, key=lambda entry: entry.path.parts)

    def _paired(
        self, root: Path, edited: Sequence[tuple[str, Path]], masks: Mapping[str, Path]
    ) -> list[tuple[Path, Path | None]]:
        pairs = [(path, masks.get(key)) for key, path in edited]
        unpaired = [path for path, mask in pairs if mask is None]
        if self.in_order and len(unpaired) == len(edited) == len(masks):
            return [(path, mask) for (_, path), mask in zip(edited, masks.values(), strict=True)]
        # Every large set lacks a few masks; a folder in the wrong place loses nearly all.
        if len(unpaired) * 2 > len(edited):
            raise MissingDataError(
                f"{len(unpaired)} of {len(edited)} edited photos below {root} have no mask "
                f"({len(masks)} masks found); the first is {unpaired[0].relative_to(root)}."
            )
        return pairs

    def _entry(self, root: Path, path: Path, mask: Path | None) -> Entry:
        name = path.relative_to(root).as_posix()
        if mask is not None and self.holds in {"dark", "green"}:
            mask = mask_where(mask, "dark" if self.holds == "dark" else "green")
        return Entry(
            path,
            Label.FAKE,
            generator=self.generator(name) if callable(self.generator) else self.generator,
            kind=self.kind(name) if callable(self.kind) else self.kind,
            split=self.split,
            generated_path=mask if self.pasted_back else None,
            edited_path=mask,
        )


def tampered(
    kind: str | Callable[[str], str] = "manipulated", *, generator: str | None = None
) -> Masked:
    """Return the layout that IMDL-BenCo gives to sets of edited photos: ``Tp``, their masks ``Gt``, photos ``Au``.

    Pairs are those of equal names ("_gt" and "_mask" aside), or of equal places in the sorted order.
    """
    return Masked(
        edited=r"(?:^|/)Tp/(?:.*/)?([^/]+)\.\w+$",
        masks=r"(?:^|/)Gt/(?:.*/)?([^/]+?)(?:_gt|_mask)?\.\w+$",
        untouched=r"(?:^|/)Au/",
        kind=kind,
        generator=generator,
        in_order=True,
    )


def _search(pattern: str, name: str) -> re.Match[str] | None:
    return re.search(pattern, name, re.IGNORECASE)


def _key(found: re.Match[str], path: Path) -> str:
    return "/".join(found.groups("")).lower() if found.re.groups else path.stem.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Rows of Parquet or Arrow tables that hold images; everything but the images is read.

    Attributes:
        tables: Pattern of the tables of each split, searched in their path below the root, in any case. Its groups
            are given to ``entry``.
        image: Column of the images.
        label: Column of the labels; where Hugging Face's metadata name its classes, the names count.
        labels: What the values of that column mean, compared as ``plain`` texts.
        columns: Further columns that ``entry`` reads; those a table lacks are None.
        mask: Column of the masks of edited pixels; all fakes get theirs, ``entry`` may take it away again.
        entry: Completes an entry from its row: (entry, row, what the pattern's named groups caught).
    """

    tables: Mapping[str, str]
    labels: Mapping[str, Label]
    image: str = "image"
    label: str = "label"
    columns: tuple[str, ...] = ()
    mask: str | None = None
    entry: Completion = lambda entry, *_: entry

    def __call__(self, root: Path, split: str) -> Iterator[Entry]:
        """List the entries of a split.

        Raises:
            MissingDataError: If a table is broken, lacks the image or label column, or has a label of unknown meaning.
            MissingExtraError: If pyarrow is not installed.
        """
        for path in files_below(root, suffixes=TABLE_SUFFIXES):
            pattern = self.tables.get(split)
            found = pattern and _search(pattern, path.relative_to(root).as_posix())
            if found:
                yield from self._entries(path, split, found.groupdict(""))

    def _entries(self, path: Path, split: str, caught: Mapping[str, str]) -> Iterator[Entry]:
        known = {plain(name): label for name, label in self.labels.items()}
        rows, names = _small_columns(path, (self.image, self.label), self.columns)
        for number, row in enumerate(rows):
            word = row[self.label]
            if names and isinstance(word, int) and 0 <= word < len(names):
                word = row[self.label] = names[word]
            label = label_meant(word, known)
            if label is None:
                raise MissingDataError(
                    f"{path}, row {number}: label {word!r} is not understood; expected one of "
                    f"{', '.join(self.labels)}."
                )
            masked = self.mask is not None and label is Label.FAKE
            entry = Entry(
                cell(path, number, self.image),
                label,
                split=split,
                edited_path=cell(path, number, str(self.mask)) if masked else None,
            )
            yield self.entry(entry, row, caught)


def _small_columns(
    path: Path, needed: Sequence[str], wanted: Sequence[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return all wanted columns of a table by row, and the names of its classes; images stay unread."""
    image, label = needed
    pyarrow, parquet = pyarrow_for(f"Reading {path.name}")
    try:
        if path.suffix.lower() == ".arrow":
            whole = arrow_table(path)
            schema, chosen = whole.schema, whole.select
        else:
            table = parquet.ParquetFile(path)
            schema, chosen = table.schema_arrow, table.read
        missing = [name for name in (image, label) if name not in schema.names]
        if missing:
            raise MissingDataError(
                f"{path} has no column {missing[0]!r}; it has {', '.join(schema.names)}."
            )
        small = [name for name in (label, *wanted) if name in schema.names]
        rows = chosen(small).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise MissingDataError(f"{path} cannot be read as a table: {error}.") from error
    absent = dict.fromkeys(wanted)
    return [{**absent, **row} for row in rows], _class_names(schema.metadata, label)


def _class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> list[str]:
    """Return what Hugging Face's metadata call the whole numbers of a label column: 0 may well mean "AI"."""
    try:
        described = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = described["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names]
