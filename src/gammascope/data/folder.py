"""Folders of images: labelled by the names of their folders, or not labelled at all."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gammascope.data.manifest import LABEL_WORDS, PARTLY_WORDS
from gammascope.errors import MissingDataError, did_you_mean
from gammascope.files import shown
from gammascope.imaging import unsupported
from gammascope.sample import Entry, Label

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif"),
    *(".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp", ".dib", ".gif"),
)
"""Endings of the files that are taken for images, in any case."""

SCANNED_SUFFIXES = (*IMAGE_SUFFIXES, *unsupported.SUFFIXES)
"""Endings of the files that a scan has a row for: also photographs that it can only refuse, with the reason."""

_FOLDER_WORDS: Mapping[str, Label] = {
    **LABEL_WORDS,
    **dict.fromkeys(("au", "original", "genuine", "camera"), Label.REAL),
    **dict.fromkeys(("tp", "spliced", "aigenerated", "deepfake", "manipulation"), Label.FAKE),
}
_PARTLY = PARTLY_WORDS | {"tp", "spliced", "manipulation"}
_WEAK_WORDS = frozenset({"0", "1", "nature", "natural", "camera", "original"})  # also name contents
_NOT_IMAGES = frozenset({"mask", "masks", "gt", "groundtruth"})
_SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "dev": "dev",
}
_AROUND_A_WORD = re.compile(r"^\d+[_\- ]+|[_\- ]+(images?|imgs?|photos?|pictures?)$")


@dataclass(frozen=True, slots=True)
class LabelledFolder:
    """What a folder was understood to hold.

    Attributes:
        entries: Its images, sorted by path.
        assumption: Which folder names were taken for which label and what was left out, in a
            sentence to show: a wrong direction turns every number around.
    """

    entries: tuple[Entry, ...]
    assumption: str


def read_folder(root: Path) -> LabelledFolder:
    """List the images below a folder whose label is the name of a folder on their path.

    Understood in any case and at any depth: ``0_real/1_fake``, ``real/fake``, ``nature/ai``,
    ``authentic/tampered``, ``Au/Tp`` and the other LABEL_WORDS, also with a number before
    ("1_fake") or "images" behind ("fake_images"). Words that may also name a content ("nature")
    count only where no other word stands on the path. A folder ``train``, ``val`` or ``test`` is
    the split ("test" if there is none); the outermost other folder is the source and, of a fake
    image, the generator. Hidden files, folders called masks or groundtruth, images outside
    labelled folders, and camera raws are left out. No image is opened.

    Raises:
        MissingDataError: If the folder is not there or cannot be read, if no image has a label, or
            if a path names both labels.
    """
    if not root.is_dir():
        raise MissingDataError(f"No folder at {root}: expected {_EXPECTED_TREE}.")
    entries: list[Entry] = []
    words: Counter[tuple[Label, str]] = Counter()
    unlabelled = unreadable = 0
    for path in files_below(root, suffixes=SCANNED_SUFFIXES):
        if path.suffix.lower() in unsupported.SUFFIXES:
            unreadable += 1
            continue
        parts = path.relative_to(root).parts
        # A folder that cannot be read stands for its images, which its own name may label.
        folders = parts[:-1] if path.suffix.lower() in IMAGE_SUFFIXES else parts
        if hold_masks(folders):
            continue
        place = _label_place(path, folders)
        if place is None:
            unlabelled += 1
            continue
        entry = _entry(path, folders, place)
        words[entry.label, folders[place]] += 1
        entries.append(entry)
    if not entries:
        raise MissingDataError(
            f"No labelled image below {root} ({unlabelled} images without a label): expected "
            f"{_EXPECTED_TREE}."
        )
    return LabelledFolder(tuple(entries), _assumption(words, unlabelled, unreadable))


def hold_masks(folders: Sequence[str]) -> bool:
    """Tell whether one of these folder names says that what lies in it is masks and no pictures.

    >>> hold_masks(["broken", "Masks"])
    True
    """
    return any(_word(name) in _NOT_IMAGES for name in folders)


def find_images(
    paths: Sequence[str], recursive: bool = True, *, suffixes: Collection[str] = IMAGE_SUFFIXES
) -> list[Path]:
    """List image files: those named, those in folders, and those that match patterns.

    A file that is named is taken whatever it is called; in folders and patterns the ending decides
    and hidden files are skipped. The order is that of ``paths``, sorted within
    each; nothing is listed twice. Links to folders are followed, once each. A folder on the way that cannot be read
    stands for what it holds, as in ``files_below``.

    Args:
        paths: Files, folders and patterns ("holiday/*.jpg", "**/*.png").
        recursive: Look into folders within folders.
        suffixes: Endings in lower case, with their dot.

    Raises:
        MissingDataError: If one of the paths does not exist, cannot be read, or holds no image.
    """
    found: dict[Path, None] = {}
    for name in paths:
        images = _images_at(name, recursive, suffixes)
        if not images:
            depth = "" if recursive else " itself (folders in it were not searched)"
            raise MissingDataError(
                f"No image found in {name}{depth}: looked for {', '.join(IMAGE_SUFFIXES)}."
            )
        found |= dict.fromkeys(images)
    if not found:
        raise MissingDataError("No image to look for: name a file, a folder or a pattern.")
    return list(found)


def _neither(name: str) -> str:
    """Say why there is no file and no folder of this name."""
    path = Path(name)
    if not name:
        return "An empty name is no file or folder: is a variable not set?"
    if path.exists():
        return f"{name} is neither a file nor a folder, but a pipe or a device."
    if path.is_symlink():
        return f"{name} is a link to {path.readlink()}, which is not there."
    near = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"No file or folder {name}.{did_you_mean(path.name, near)}"


def _images_at(name: str, recursive: bool, suffixes: Collection[str]) -> list[Path]:
    path = Path(name)
    if name and path.is_file():  # before patterns: "photo[1].jpg" is a common name
        return [path]
    if name and path.is_dir():
        return files_below(path, recursive=recursive, suffixes=suffixes)
    if not glob.has_magic(name) or path.exists() or path.is_symlink():
        raise MissingDataError(_neither(name))
    found = files_matching(name, recursive=recursive, suffixes=suffixes)
    return sorted(found, key=lambda path: path.parts)


def files_matching(
    pattern: str,
    *,
    recursive: bool = True,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    further: Collection[str] = (),
) -> Iterator[Path]:
    """Yield the files that a pattern means: those that it matches, and those in folders that it matches.

    A pattern with ``**`` matches folders besides what they hold, so there only the files are meant. Hidden files are
    skipped. A folder that cannot be read stands for what it holds, as in ``files_below``.

    Args:
        pattern: As ``matching`` takes it.
        recursive: Look into folders within the folders that it matches.
        suffixes: Endings in lower case, with their dot.
        further: More endings that count for files that it matches, and not in folders.
    """
    endings = (*suffixes, *further)
    for match in matching(pattern):
        if not is_folder(match):
            if match.name.lower().endswith(endings) and not match.name.startswith("."):
                yield match
        elif not may_be_listed(match):
            yield match
        elif "**" not in pattern:
            yield from walk_below(match, recursive=recursive, suffixes=suffixes)


def matching(pattern: str) -> Iterator[Path]:
    """Yield the files and folders that a pattern with ``*``, ``?``, ``[...]`` or ``**`` matches, each once.

    Unlike Python's ``glob``, which passes over them in silence, this also yields the folders on the way that cannot be
    read, in the place of what they hold. Hidden names match only a part of the pattern that begins with a dot.
    """
    path = Path(pattern)
    yield from _matching(Path(path.anchor), path.relative_to(path.anchor).parts, set())


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; what may not even be looked at is taken for a file, and opening it says why."""
    try:
        return path.is_dir()
    except OSError:
        return False


def may_be_listed(folder: Path) -> bool:
    """Tell whether the names in a folder can be read."""
    try:
        with os.scandir(folder):
            return True
    except OSError:
        return False


def _matching(folder: Path, parts: Sequence[str], seen: set[object]) -> Iterator[Path]:
    """Match the first part of a pattern in a folder, and the others below; links may lead back up."""
    part, left = parts[0], parts[1:]
    try:
        status = folder.stat()
        key = (status.st_dev, status.st_ino, len(parts))
        if key in seen:
            return
        seen.add(key)
        found = _fitting(folder, part)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        if folder not in seen:
            seen.add(folder)
            yield folder
        return
    if part == "**" and left:
        yield from _matching(folder, left, seen)
    for path, is_folder in found:
        if not left and path not in seen:
            yield path
        if not left and is_folder:
            seen.add(path)
        if is_folder and (left or part == "**"):
            yield from _matching(path, parts if part == "**" else left, seen)


def _fitting(folder: Path, part: str) -> list[tuple[Path, bool]]:
    """Return what a part of a pattern matches in a folder, and whether it may be a folder."""
    if part != "**" and not glob.has_magic(part):
        (folder / part).stat()  # Listing may be forbidden where passing through is not.
        return [(folder / part, True)]
    with os.scandir(folder) as items:
        return [(folder / item.name, _is_folder(item)) for item in items if _fits(item, part)]


def _fits(item: os.DirEntry[str], part: str) -> bool:
    if part == "**":
        return not item.name.startswith(".") and (_is_folder(item) or _is_file(item))
    if item.name.startswith(".") and not part.startswith("."):
        return False
    return fnmatch.fnmatchcase(item.name, part) and (_is_folder(item) or _is_file(item))


def files_below(
    root: Path,
    *,
    recursive: bool = True,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    enter: Callable[[Path], bool] = lambda _: True,
) -> list[Path]:
    """List the files below a folder that end so, sorted by path; hidden ones are skipped.

    A folder within it that cannot be read stands for what it holds: whoever opens it as an image is told why not, and
    the others are not lost.

    Args:
        root: The folder.
        recursive: Look into folders within folders, and through links to folders, once each.
        suffixes: Endings in lower case, with their dot.
        enter: Asked for each folder whether to look into it: large ones are worth leaving out.

    Raises:
        MissingDataError: If the folder itself cannot be read.
    """
    found = walk_below(root, recursive=recursive, suffixes=suffixes, enter=enter)
    return sorted(found, key=lambda path: path.parts)


def walk_below(
    root: Path,
    *,
    recursive: bool = True,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    enter: Callable[[Path], bool] = lambda _: True,
) -> Iterator[Path]:
    """Yield what ``files_below`` lists, folder by folder: no more than one folder's names are held at once."""
    return _walk(root, _Walk(recursive, suffixes, enter, set(), root))


@dataclass(frozen=True, slots=True)
class _Walk:
    """What ``files_below`` was asked for; ``seen`` holds device and inode of folders, for links may lead back up."""

    recursive: bool
    suffixes: Collection[str]
    enter: Callable[[Path], bool]
    seen: set[tuple[int, int]]
    root: Path


def _walk(folder: Path, walk: _Walk) -> Iterator[Path]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in walk.seen:
            return
        walk.seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as items:
            visible = sorted((i for i in items if not i.name.startswith(".")), key=lambda i: i.name)
    except OSError as error:
        if folder != walk.root:
            yield folder
            return
        raise MissingDataError(
            f"The folder {shown(folder)} cannot be read: {error.strerror}."
        ) from error
    for item in visible:
        path = folder / item.name
        if _is_folder(item):
            if walk.recursive and walk.enter(path):
                yield from _walk(path, walk)
        elif path.suffix.lower() in walk.suffixes and _is_file(item):
            yield path


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(item: os.DirEntry[str]) -> bool:
    """Tell whether something is a file, or a link that leads nowhere, which opening it will tell."""
    try:
        return item.is_file() or not Path(item.path).exists()
    except OSError:
        return True


def _word(folder: str) -> str:
    """Reduce a folder's name to what may be a word for a label: "2_AI-generated images" too."""
    return re.sub(r"[_\- ]", "", _AROUND_A_WORD.sub("", folder.lower()))


def _label_place(path: Path, folders: Sequence[str]) -> int | None:
    """Return which folder of the path says the label: the innermost, if several agree."""
    words = {place: _word(name) for place, name in enumerate(folders)}
    known = [place for place, word in words.items() if word in _FOLDER_WORDS]
    strong = [place for place in known if words[place] not in _WEAK_WORDS]
    places = strong or known
    if len({_FOLDER_WORDS[words[place]] for place in places}) > 1:
        raise MissingDataError(
            f"{path} lies in folders of both labels ({', '.join(folders[p] for p in places)}): "
            f"expected {_EXPECTED_TREE}."
        )
    return places[-1] if places else None


def _entry(path: Path, folders: Sequence[str], place: int) -> Entry:
    word = _word(folders[place])
    label = _FOLDER_WORDS[word]
    others = [name for at, name in enumerate(folders) if at != place]
    splits = [_SPLITS[name.lower()] for name in others if name.lower() in _SPLITS]
    names = [
        name for name in others if name.lower() not in _SPLITS and _word(name) not in _FOLDER_WORDS
    ]
    outermost = shown(names[0]) if names else None
    return Entry(
        path=path,
        label=label,
        generator=outermost if label is Label.FAKE and word not in _PARTLY else None,
        kind="manipulated" if word in _PARTLY else None,
        source=outermost,
        split=splits[-1] if splits else "test",
    )


def _assumption(words: Mapping[tuple[Label, str], int], unlabelled: int, unreadable: int) -> str:
    parts = []
    for label in Label:
        names = sorted({f"{shown(name)}/" for at, name in words if at is label}, key=str.lower)
        count = sum(number for (at, _), number in words.items() if at is label)
        some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        parts.append(f"{count} {label.name.lower()}" + (f" (from {some})" if names else ""))
    left_out = f"; {unlabelled} images outside labelled folders left out" if unlabelled else ""
    raws = f"; {unreadable} camera raws and other unsupported files left out" if unreadable else ""
    return " and ".join(parts) + left_out + raws


_EXPECTED_TREE = (
    "folders named real and fake (or 0_real and 1_fake, nature and ai, authentic and tampered) "
    "somewhere below it, as in <generator>/real/*.jpg and <generator>/fake/*.png"
)
