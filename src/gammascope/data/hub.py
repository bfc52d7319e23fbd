"""Datasets of Hugging Face, streamed: images are downloaded as they are read, and none is kept.

A name is ``hf:owner/name``, ``hf:owner/name:config`` or ``hf:owner/name:config:split``, with ``@revision`` behind
``owner/name`` to pin one; else the newest commit is looked up and becomes part of the name. Instead of ``owner/name`` a
local folder may stand, in any form that the package ``datasets`` reads. Code that comes with a dataset is never run.

Labels are listed first, then every image is read once, in the order of the dataset. An image's path in a score table is
its name here and its row, counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from gammascope.data.layouts import label_meant, plain
from gammascope.data.manifest import LABEL_WORDS, PARTLY_WORDS
from gammascope.errors import (
    MissingDataError,
    MissingExtraError,
    RecipeError,
    did_you_mean,
    said_by,
)
from gammascope.imaging.storage import bytes_held
from gammascope.sample import Entry, Label

PREFIX = "hf:"

WORDS: Mapping[str, Label] = {
    **LABEL_WORDS,
    **dict.fromkeys(
        ("ai-generated", "ai_images", "deepfake", "true", "gan", "diffusion"), Label.FAKE
    ),
    **dict.fromkeys(("human", "photo", "photograph", "real_images", "false"), Label.REAL),
}
"""What the values of a label column mean, compared by their letters and digits."""

_LABELS = ("label", "labels", "class", "target", "is_fake", "is_ai", "is_generated", "fake")
_GENERATORS = ("generator", "model", "model_name")
_SOURCES = ("source",)


@dataclass(frozen=True, slots=True)
class Name:
    """What a name says.

    Attributes:
        place: "owner/name", or a local folder.
        config: A part of the dataset that is loaded by itself; None: the only one.
        split: None: "test", or the only one.
        revision: Commit, tag or branch; None: the newest, whatever it is then.
    """

    place: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, split: str | None = None) -> Name:
        """Read ``hf:owner/name[@revision][:config[:split]]``; ``split`` is what was asked for besides.

        >>> Name.parse("hf:owner/name@v1:core:test")
        Name(place='owner/name', config='core', split='test', revision='v1')

        Raises:
            RecipeError: If it cannot be read, or two splits are named.
        """
        place, *parts = text.removeprefix(PREFIX).split(":")
        place, _, revision = place.partition("@")
        if not place or len(parts) > 2:
            raise RecipeError(f"{text}: expected {PREFIX}owner/name[@revision][:config[:split]].")
        config, named = (*parts, "", "")[:2]
        if named and split and named != split:
            raise RecipeError(f"{text} names the split {named!r}, and --split {split!r}: name one.")
        return cls(place, config or None, named or split, revision or None)

    def __str__(self) -> str:
        pinned = f"@{self.revision}" if self.revision else ""
        return PREFIX + ":".join(filter(None, (f"{self.place}{pinned}", self.config, self.split)))


class HubImages(Sequence[Entry]):
    """The images of a split, listed; their contents come one after the other.

    Attributes:
        name: With config, split and revision filled in as far as they are known.
        assumption: What its labels were taken to mean, for people.
    """

    def __init__(self, name: Name, entries: Sequence[Entry], rows: Any, assumption: str) -> None:
        self.name, self.assumption = name, assumption
        self._entries, self._rows = entries, rows

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[at]

    def __len__(self) -> int:
        return len(self._entries)

    def contents(self, stretch: range) -> Iterator[bytes]:
        """Yield the bytes of each image of a stretch, in order; empty where a row holds none.

        Raises:
            MissingDataError: If the dataset cannot be read on, or ends early.
        """
        rows = iter(self._rows.skip(stretch.start) if stretch.start else self._rows)
        for at in stretch:
            with _Read(self.name):
                row = next(rows, None)
            if row is None:
                raise MissingDataError(
                    f"{self.name} ends before row {at}: it changed since it was listed."
                )
            yield _content(row["image"])

    def reals(self, most: int) -> Iterator[bytes]:
        """Yield the contents of the first real images, at most so many; nothing behind them is downloaded."""
        real = [at for at, entry in enumerate(self._entries) if entry.label is Label.REAL][:most]
        if not real:
            return
        stretch, wanted = range(real[0], real[-1] + 1), set(real)
        for at, content in zip(stretch, self.contents(stretch), strict=True):
            if at in wanted:
                yield content


def stream(
    name: Name, *, image: str | None = None, label: str | None = None, limit: int | None = None
) -> HubImages:
    """List the images of a dataset and their labels, without keeping an image.

    Args:
        name: Which.
        image: Column of the images; None: the only one of the type Image, or "image".
        label: Column of the labels; None: the only ClassLabel, or a column called like one.
        limit: Only so many rows, from the first one on; None: all.

    Raises:
        MissingExtraError: If the package ``datasets`` is not installed.
        MissingDataError: If there is no such dataset, config, split or column, or a label's meaning is not known.
    """
    datasets = _datasets()
    with _Read(name):
        name = _with_split(datasets, _pinned(name))
        rows = datasets.load_dataset(
            name.place, name.config, split=name.split, revision=name.revision, streaming=True
        )
        features = (
            rows.features or rows._resolve_features().features
        )  # only some formats know them at once
    image = image or _image_column(datasets, name, features)
    label = label or _label_column(datasets, name, features)
    missing = [column for column in (image, label) if column not in features]
    if missing:
        raise MissingDataError(
            f"{name} has no column {missing[0]!r}.{did_you_mean(missing[0], list(features))} "
            f"It has {', '.join(features)}."
        )
    if limit is not None:
        rows = rows.take(limit)
    classes = getattr(features[label], "names", None)
    known = _meaning(name, classes)
    others = {
        what: next((column for column in names if column in features), None)
        for what, names in (("generator", _GENERATORS), ("source", _SOURCES))
    }
    columns = _Columns(label, known, classes, others)
    wanted = [label, *(column for column in others.values() if column and column != label)]
    with _Read(name):
        listed = [
            columns.entry(name, at, row) for at, row in enumerate(rows.select_columns(wanted))
        ]
    if not listed:
        raise MissingDataError(f"{name} has no row.")
    undecoded = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    if image != "image":
        undecoded = undecoded.rename_column(image, "image")
    return HubImages(name, listed, undecoded, _assumption(listed, label, known, features))


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError.of("Streaming a Hugging Face dataset", "datasets", "hub") from error
    datasets.disable_progress_bars()
    return datasets


class _Read:
    """Errors while a dataset is read become ours; they come in all kinds."""

    def __init__(self, name: Name) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (OSError, ValueError, RuntimeError, KeyError)):
            raise MissingDataError(f"{self._name} cannot be read: {said_by(error)}.") from error


def _pinned(name: Name) -> Name:
    """Name the commit that is read, so that a run which goes on later reads the same images."""
    if Path(name.place).is_dir() or name.place.count("/") != 1:
        return name
    from huggingface_hub import HfApi

    commit = HfApi().dataset_info(name.place, revision=name.revision).sha
    return replace(name, revision=commit or name.revision)


def _with_split(datasets: Any, name: Name) -> Name:
    known = datasets.get_dataset_split_names(name.place, name.config, revision=name.revision)
    split = name.split or ("test" if "test" in known else known[0] if len(known) == 1 else None)
    if split not in known:
        asked = (
            f"no split {split!r}.{did_you_mean(split, known)}"
            if split
            else "several splits: name one."
        )
        raise MissingDataError(f"{name} has {asked} Known: {', '.join(known)}.")
    return replace(name, split=split)


def _image_column(datasets: Any, name: Name, features: Mapping[str, Any]) -> str:
    found = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(found) == 1 or "image" in found:
        return "image" if "image" in found else found[0]
    if not found and "image" in features:
        return "image"  # bytes without the type
    raise MissingDataError(
        f"{name}: which column holds the images? {', '.join(found or features)}. Say so with --image-column."
    )


def _label_column(datasets: Any, name: Name, features: Mapping[str, Any]) -> str:
    classes = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    found = classes if len(classes) == 1 else [column for column in _LABELS if column in features]
    if found:
        return found[0]
    raise MissingDataError(
        f"{name}: which column says what is fake? {', '.join(features)}. Say so with --label-column."
    )


def _meaning(name: Name, classes: Sequence[str] | None) -> Mapping[str, Label]:
    """Return what values mean by their plain text; where classes have names, these count: 0 may well mean "AI"."""
    words = {plain(word): label for word, label in WORDS.items()}
    if classes is None:
        return words
    unknown = [each for each in classes if plain(each) not in words]
    if unknown:
        raise MissingDataError(
            f"{name}: it is not known whether the class {unknown[0]!r} is real or fake. Classes: {', '.join(classes)}."
        )
    return {str(at): words[plain(each)] for at, each in enumerate(classes)}


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns say what of a picture.

    Attributes:
        label: Name of the column.
        known: What its values mean.
        classes: Names of its numbers; None: its values are words.
        others: Columns of generator and source; None where there is none.
    """

    label: str
    known: Mapping[str, Label]
    classes: Sequence[str] | None
    others: Mapping[str, str | None]

    def entry(self, name: Name, at: int, row: Mapping[str, Any]) -> Entry:
        value = row[self.label]
        meant = label_meant(value, self.known)
        if meant is None:
            raise MissingDataError(
                f"{name}, row {at}: {self.label} {value!r} is not understood; expected one of {', '.join(self.known)}."
            )
        texts = {
            what: str(row[column] or "") if column else "" for what, column in self.others.items()
        }
        fake = meant is Label.FAKE
        word = str(value) if self.classes is None else self.classes[int(value)]
        return Entry(
            Path(f"{name}/{at:08d}"),
            meant,
            generator=texts["generator"] or None if fake else None,
            kind="manipulated" if fake and word.lower() in PARTLY_WORDS else None,
            source=texts["source"] or None,
            split=name.split or "test",
        )


def _content(value: Any) -> bytes:
    """Return the bytes of an image as a stream holds them: inside, or behind a path or an address."""
    data = bytes_held(value)
    path = value.get("path") if isinstance(value, Mapping) else None
    if data is not None or not path:
        return data or b""
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except (OSError, ValueError):
        return b""


def _assumption(
    entries: Sequence[Entry], label: str, known: Mapping[str, Label], features: Mapping[str, Any]
) -> str:
    fakes = sum(entry.label is Label.FAKE for entry in entries)
    classes = getattr(features[label], "names", None)
    named = (
        {each: known[str(at)] for at, each in enumerate(classes)}
        if classes
        else {"0": Label.REAL, "1": Label.FAKE}
    )
    meant = "; ".join(f"{each} = {of.name.lower()}" for each, of in named.items())
    return f"{len(entries) - fakes} real and {fakes} fake (column {label!r}: {meant})"
