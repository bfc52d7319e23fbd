"""Manifests: one row per image, with its ground truth and its masks; and a row made a Sample."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from gammascope.data.text_tables import TextTable, refuse_twins
from gammascope.errors import MissingDataError, UndecodableImageError, did_you_mean
from gammascope.files import complete_or_absent, path_of, pyarrow_for, shown
from gammascope.imaging import storage
from gammascope.imaging.decode import DEFAULT_LIMITS, decode, format_of
from gammascope.sample import Entry, Image, Label, Mask, Origin, Sample

MASK_TABLE = "masks.csv"
"""Name of the optional table of masks beside a manifest."""

LABEL_WORDS: Mapping[str, Label] = {
    **dict.fromkeys(("0", "real", "nature", "natural", "authentic", "pristine"), Label.REAL),
    **dict.fromkeys(("1", "fake", "ai", "generated", "synthetic"), Label.FAKE),
    **dict.fromkeys(("manipulated", "tampered", "edited", "forged", "inpainted"), Label.FAKE),
}
"""Words for a label, in lower case."""

_AS_NUMBERS = {"false": "0", "0.0": "0", "true": "1", "1.0": "1"}
"""How data frames write the numbers of labels: True is 1, which is fake."""

PARTLY_WORDS = frozenset({"manipulated", "tampered", "edited", "forged", "inpainted"})
"""Those of LABEL_WORDS that say that only a part of the photo was changed."""

PHOTO_KINDS = frozenset({"copy_move", "splicing", "inpainting_classical"})
"""Kinds whose pixels all come from photos, unless a generator is named."""

_COLUMNS = (
    "path",
    "label",
    "generator",
    "kind",
    "source",
    "split",
    "generated_mask",
    "edited_mask",
    "host",
    "panels",
    "object_masks",
    "policy",
    "prompt",
    "seed",
    "twin",
    "strength",
    "guided",
    "style",
)
_BETWEEN_PATHS = ";"


@dataclass(frozen=True, slots=True)
class _Masks:
    edited: Path | None = None
    objects: tuple[Path, ...] = ()


def read_manifest(path: Path, split: str | None = None) -> list[Entry]:
    """List the images of a manifest, in its order; no image is opened.

    A manifest is a CSV or Parquet file with the columns ``path`` and ``label`` and, where known,
    ``generator``, ``kind``, ``source``, ``split``, ``generated_mask``, ``edited_mask``, ``host``
    (the photo it was made from), ``object_masks`` (several, divided by ";"), and how it was made: ``policy``,
    ``prompt``, ``seed``, ``twin``, ``strength``, ``guided`` (1: it was), ``style``. Other columns are ignored. Paths
    are relative to the manifest's folder. A label is one of LABEL_WORDS in any case, or a truth value (True and 1.0
    are 1: fake).
    A manipulated image, or a fake with a mask, that has no ``kind`` is called "inpainting" if it
    names a generator, else "manipulated".

    A table ``masks.csv`` beside it (``mask_path``, ``image_path``, ``kind``) adds masks: "object"
    for regions worth editing, "manipulation" for what was edited (and, where the row names a
    generator, generated).

    Args:
        path: The manifest.
        split: Keep only rows of this split; None keeps all.

    Raises:
        MissingDataError: If the file is not there, lacks a column or has it twice, holds a label that is not
            understood (with the row number), or has no row in the split.
        MissingExtraError: If it is a Parquet file and pyarrow is not installed.
    """
    root = path.parent
    masks = _read_mask_table(root / MASK_TABLE, root)
    entries = [_entry(row, place, root, masks) for place, row in _rows(path, ("path", "label"))]
    if not entries:
        raise MissingDataError(f"{path} has a header and no rows: it lists no image.")
    if split is None:
        return entries
    chosen = [entry for entry in entries if entry.split == split]
    if not chosen:
        counts = Counter(entry.split for entry in entries)
        known = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise MissingDataError(
            f"{path} has no row in split {split!r}.{did_you_mean(split, counts)} Known: {known}. (Rows that name no "
            "split are of 'test': a column 'split' names others.)"
        )
    return chosen


def write_manifest(entries: Iterable[Entry], path: Path) -> None:
    """Write a manifest that ``read_manifest`` reads back as the same entries.

    The file appears complete or not at all (written beside its place, then renamed). Paths are
    stored relative to its folder. The suffix ".parquet" chooses Parquet, any other CSV. A
    "masks.csv" beside it still adds its masks.

    Raises:
        MissingDataError: If there are no entries, or the path of an object mask holds a ";".
        MissingExtraError: If Parquet is asked for and pyarrow is not installed.
    """
    rows = [_row(entry, path.parent) for entry in entries]
    if not rows:
        raise MissingDataError(f"Nothing to write to {path}: the list of entries is empty.")
    with complete_or_absent(path) as unfinished:
        if path.suffix.lower() == ".parquet":
            arrow, parquet = pyarrow_for("A Parquet manifest")
            parquet.write_table(arrow.Table.from_pylist(rows), unfinished)
        else:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def load_sample(entry: Entry, image: Image | None = None) -> Sample:
    """Decode one image and its masks.

    Where no mask file is named: a real photo has nothing generated and nothing edited; a wholly
    generated image (fake, no ``kind``) is generated everywhere and edited nowhere, for it has no
    host photo; in copy-moves and splices nothing is generated; all else is unknown (None).

    Args:
        entry: Where the image and its masks are.
        image: Its pixels, if they are decoded already.

    Raises:
        MissingDataError: If a mask is not there, is no mask, or is not of the image's size.
        UndecodableImageError: If the image is not there, broken or too large.
    """
    if image is None:
        image = decode(entry.path).image
    size = image.shape[:2]
    generated, edited = _known_without_files(entry, size)
    if entry.generated_path is not None:
        generated = load_mask(entry.generated_path, size)
    if entry.edited_path is not None:
        edited = load_mask(entry.edited_path, size)
    return Sample(entry=entry, image=image, generated=generated, edited=edited)


def mask_where(path: Path, holds: Literal["dark", "green"]) -> Path:
    """Name a mask that is true not where its image is light, but where it is dark or green.

    Some datasets store masks so. The answer is a path that goes on below the image
    ("mask.png/dark"), which ``load_mask`` understands; entries and manifests hold it like any other.
    """
    return path / holds


def load_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Read a mask image: True above half of its range (0..255, or 0..1 if nothing is above 1).

    Args:
        path: An image of any mode, a cell of a table (``imaging.cells``) or a member of an archive
            (``imaging.members``); colours count by their lightness, alpha is ignored. What ``mask_where``
            returns is read as it says.
        size: Height and width of the image it belongs to, pixels.

    Raises:
        MissingDataError: If the file is not there, is no image, has another size, or holds only
            dark values above 1 (class numbers, say), which would silently read as an empty mask.
    """
    holds = path.name if path.name in _WHERE and not path.is_file() else "light"
    path = path if holds == "light" else path.parent
    try:
        with PillowImage.open(_opened(path)) as file:
            values = _WHERE[holds](file)
    except FileNotFoundError as error:
        raise MissingDataError(f"No mask at {path}: the manifest names it.") from error
    except _UNREADABLE as error:
        raise MissingDataError(f"The mask {path} cannot be read as an image: {error}.") from error
    if values.shape != size:
        found, wanted = f"{values.shape[1]}x{values.shape[0]}", f"{size[1]}x{size[0]}"
        raise MissingDataError(
            f"The mask {path} is {found} pixels and its image {wanted}: expected the same, upright."
        )
    highest = float(values.max())
    mask = np.asarray(values > (0.5 if highest <= 1.0 else 127.5))
    if highest > 1.0 and not mask.any():
        raise MissingDataError(
            f"The mask {path} has values up to {highest:g}: expected 0 and 255, or 0 and 1."
        )
    return ~mask if holds == "dark" else mask


def _opened(path: Path) -> Path | io.BytesIO:
    if storage.is_cell(path):
        return io.BytesIO(storage.cell_content(path))
    archive = storage.archive_of(path)
    if archive is not None:
        return io.BytesIO(storage.member_content(archive, path, DEFAULT_LIMITS.max_bytes))
    return path


def _lightness(file: PillowImage.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return 0..255, or 0..1 for masks stored so, from any mode."""
    if (
        file.mode.startswith("I") or file.mode == "F"
    ):  # Pillow's own conversion would clip 16 bits at 255
        values = np.asarray(file, dtype=np.float32)
        return values / 257.0 if float(values.max()) > 255.0 else values
    return np.asarray(file.convert("L"), dtype=np.float32)


def _greenness(file: PillowImage.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(file.convert("RGB"), dtype=np.float32)[..., 1]


_WHERE: Mapping[str, Callable[[PillowImage.Image], np.ndarray[Any, np.dtype[np.float32]]]] = {
    "light": _lightness,
    "dark": _lightness,
    "green": _greenness,
}

_UNREADABLE = (UnidentifiedImageError, OSError, ValueError, PillowImage.DecompressionBombError)


def _known_without_files(entry: Entry, size: tuple[int, int]) -> tuple[Mask | None, Mask | None]:
    nowhere = np.zeros(size, dtype=np.bool_)
    if entry.label is Label.REAL:
        return nowhere, nowhere.copy()
    if entry.kind is None:
        return np.ones(size, dtype=np.bool_), nowhere
    photos_only = entry.kind in PHOTO_KINDS and entry.generator is None
    return (nowhere if photos_only else None), None


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place for messages, row) with all values stripped and missing ones empty."""
    if not path.is_file():
        raise MissingDataError(f"No table at {path}: expected a CSV or Parquet file.")
    if path.suffix.lower() == ".parquet":
        arrow, parquet = pyarrow_for("A Parquet manifest")
        try:
            # Before reading, which fails of columns with one name in words of its own.
            refuse_twins(shown(path), parquet.read_schema(path).names)
            table = parquet.read_table(path)
        except arrow.ArrowException as error:
            raise MissingDataError(f"{shown(path)} is no Parquet table ({error}).") from error
        _check_columns(path, list(table.column_names), needed)
        for number, values in enumerate(table.to_pylist(), start=1):
            yield (
                f"{path}, row {number}",
                {k: "" if v is None else str(v).strip() for k, v in values.items()},
            )
        return
    _refuse_picture(path)
    with path.open("rb") as file:
        table = TextTable(file, path)
        _check_columns(path, table.columns, needed)
        for number, texts in table.rows():
            yield f"{path}, row {number}", {name: text.strip() for name, text in texts.items()}


def picture_kind(path: Path) -> str:
    """Return the format of a picture, as its first bytes tell it; "": the file is none."""
    with path.open("rb") as file:
        start = file.read(4096)
    try:
        return format_of(start)
    except UndecodableImageError:
        return ""


def _refuse_picture(path: Path) -> None:
    """Refuse a picture where a table is wanted, before its bytes are called badly encoded letters."""
    kind = "" if path.suffix.lower() == ".csv" else picture_kind(path)
    if not kind:
        return
    raise MissingDataError(
        f"{shown(path)} is a picture ({kind}): expected a manifest (CSV or Parquet); doctor and evaluate also take a "
        "folder of pictures."
    )


def _check_columns(path: Path, found: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise MissingDataError(
            f"{path} has no column {missing[0]!r}.{did_you_mean(missing[0], found)} "
            f"Found: {', '.join(found) or 'nothing'}; expected at least {', '.join(needed)}."
        )


def _entry(row: Mapping[str, str], place: str, root: Path, masks: Mapping[Path, _Masks]) -> Entry:
    if not row["path"]:
        raise MissingDataError(f"{place}: the path is empty; expected one relative to {root}.")
    word = row["label"].lower()
    word = _AS_NUMBERS.get(word, word)
    if word not in LABEL_WORDS:
        # The nearest word may be the opposite ("unreal"), but seldom if it begins with the same letter.
        near = did_you_mean(word, [known for known in LABEL_WORDS if known[0] == word[:1]])
        raise MissingDataError(
            f"{place}: label {row['label']!r} is not understood.{near} "
            f"Expected one of {', '.join(LABEL_WORDS)}."
        )
    generator = row.get("generator") or None
    kind = row.get("kind") or None
    path = _inside(root, row["path"])
    objects = row.get("object_masks", "").split(_BETWEEN_PATHS)
    entry = Entry(
        path=path,
        label=LABEL_WORDS[word],
        generator=generator,
        kind=kind,
        source=row.get("source") or None,
        split=row.get("split") or "test",
        generated_path=_optional(root, row.get("generated_mask", "")),
        edited_path=_optional(root, row.get("edited_mask", "")),
        host_path=_optional(root, row.get("host", "")),
        panels=_panels(row, place),
        object_paths=tuple(_inside(root, name) for name in objects if name),
        origin=_origin(row),
    )
    if path in masks:
        entry = _with_masks(entry, masks[path])
    partly = word in PARTLY_WORDS or entry.edited_path or entry.generated_path
    if kind is None and entry.label is Label.FAKE and partly:
        guess = "inpainting" if generator or word == "inpainted" else "manipulated"
        return replace(entry, kind=guess)
    return entry


def _origin(row: Mapping[str, str]) -> Origin | None:
    seed = row.get("seed", "")
    found = Origin(
        row.get("policy", ""),
        row.get("prompt", ""),
        int(seed) if seed.isdecimal() else None,
        row.get("twin", ""),
        _number(row.get("strength", "")),
        row.get("guided", "") == "1",
        row.get("style", ""),
    )
    return None if found == Origin() else found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _panels(row: Mapping[str, str], place: str) -> int:
    text = row.get("panels") or ("2" if "grid2x2" in row.get("flags", "") else "1")
    if not text.isdigit() or int(text) < 1:
        raise MissingDataError(f"{place}: panels {text!r} is not understood; expected 1, 2, ...")
    return int(text)


def _with_masks(entry: Entry, masks: _Masks) -> Entry:
    edited = entry.edited_path or masks.edited
    generated = entry.generated_path or (masks.edited if entry.generator is not None else None)
    objects = entry.object_paths + tuple(p for p in masks.objects if p not in entry.object_paths)
    return replace(entry, edited_path=edited, generated_path=generated, object_paths=objects)


def _read_mask_table(path: Path, root: Path) -> dict[Path, _Masks]:
    if not path.is_file():
        return {}
    table: dict[Path, _Masks] = {}
    for place, row in _rows(path, ("mask_path", "image_path", "kind")):
        image, mask = _inside(root, row["image_path"]), _inside(root, row["mask_path"])
        known = table.get(image, _Masks())
        if row["kind"] == "object":
            table[image] = replace(known, objects=(*known.objects, mask))
        elif row["kind"] != "manipulation":
            raise MissingDataError(
                f"{place}: kind {row['kind']!r} is not understood; expected 'object' or "
                "'manipulation'."
            )
        elif known.edited is not None:
            raise MissingDataError(
                f"{place}: a second manipulation mask for {row['image_path']!r}; unite them in one "
                "file."
            )
        else:
            table[image] = replace(known, edited=mask)
    return table


def _row(entry: Entry, root: Path) -> dict[str, str]:
    objects = [_relative(path, root) for path in entry.object_paths]
    if any(_BETWEEN_PATHS in name for name in objects):
        raise MissingDataError(
            f"An object mask of {entry.path} has a {_BETWEEN_PATHS!r} in its path, which divides "
            "paths in a manifest: rename it."
        )
    made = entry.origin or Origin()
    return {
        "path": _relative(entry.path, root),
        "label": entry.label.name.lower(),
        "generator": entry.generator or "",
        "kind": entry.kind or "",
        "source": entry.source or "",
        "split": entry.split,
        "generated_mask": _relative(entry.generated_path, root),
        "edited_mask": _relative(entry.edited_path, root),
        "host": _relative(entry.host_path, root),
        "panels": str(entry.panels),
        "object_masks": _BETWEEN_PATHS.join(objects),
        "policy": made.policy,
        "prompt": made.prompt,
        "seed": "" if made.seed is None else str(made.seed),
        "twin": made.twin,
        "strength": "" if made.strength is None else str(made.strength),
        "guided": "1" if made.guided else "",
        "style": made.style,
    }


def _relative(path: Path | None, root: Path) -> str:
    return "" if path is None else shown(Path(os.path.relpath(path, root)).as_posix())


def _inside(root: Path, name: str) -> Path:
    # "a/../b" and "b" must meet in the mask table.
    return path_of(os.path.normpath(root / name))


def _optional(root: Path, name: str) -> Path | None:
    return _inside(root, name) if name else None
