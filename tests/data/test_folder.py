"""Folders in the layouts that public datasets use, and folders of a user's photos."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import pytest

from gammascope.data.folder import (
    SCANNED_SUFFIXES,
    files_below,
    find_images,
    matching,
    read_folder,
)
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.errors import MissingDataError, UndecodableImageError
from gammascope.imaging.decode import content_of, decode
from gammascope.sample import Label
from gammascope.scanning.sources import listed


def tree(root: Path, *names: str) -> Path:
    """Listing opens no file: empty ones do."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("0_real", "1_fake"),
        ("real", "fake"),
        ("Real", "Fake"),
        ("nature", "ai"),
        ("real_images", "AI-Generated images"),
        ("0", "1"),
        ("authentic", "synthetic"),
    ],
)
def test_the_usual_folder_names_say_the_label(tmp_path: Any, real: Any, fake: Any) -> None:
    found = read_folder(tree(tmp_path, f"{real}/a.jpg", f"{fake}/b.png"))
    labels = {entry.path.name: entry.label for entry in found.entries}
    assert labels == {"a.jpg": Label.REAL, "b.png": Label.FAKE}
    assert found.assumption == f"1 real (from {real}/) and 1 fake (from {fake}/)"


@pytest.mark.parametrize(("real", "fake"), [("Au", "Tp"), ("authentic", "tampered")])
def test_tampered_photos_are_not_taken_for_generated_as_a_whole(
    tmp_path: Any, real: Any, fake: Any
) -> None:
    found = read_folder(tree(tmp_path, f"{real}/a.jpg", f"{fake}/b.png"))
    assert [(entry.label, entry.kind) for entry in found.entries] == [
        (Label.REAL, None),
        (Label.FAKE, "manipulated"),
    ]


@pytest.mark.parametrize(
    ("name", "label", "generator", "source", "split"),
    [
        ("sdv4/val/ai/a.png", Label.FAKE, "sdv4", "sdv4", "val"),
        ("sdv4/train/nature/a.jpg", Label.REAL, None, "sdv4", "train"),
        ("progan/car/1_fake/a.png", Label.FAKE, "progan", "progan", "test"),
        ("test/fake/stylegan/x/a.png", Label.FAKE, "stylegan", "stylegan", "test"),
        ("real/coco/a.jpg", Label.REAL, None, "coco", "test"),
        ("fake/midjourney/nature/a.png", Label.FAKE, "midjourney", "midjourney", "test"),
        ("real/train/a.jpg", Label.REAL, None, None, "train"),
    ],
)
def test_other_folders_are_generator_source_and_split(
    tmp_path: Any, name: Any, label: Any, generator: Any, source: Any, split: Any
) -> None:
    (entry,) = read_folder(tree(tmp_path, name)).entries
    found = (entry.label, entry.generator, entry.source, entry.split)
    assert found == (label, generator, source, split)


def test_masks_hidden_files_and_other_files_are_left_out_and_strays_counted(tmp_path: Any) -> None:
    tree(tmp_path, "real/a.JPG", "real/.b.jpg", "real/c.txt", "fake/masks/d.png", "stray.png")
    found = read_folder(tmp_path)
    assert [entry.path.name for entry in found.entries] == ["a.JPG"]
    assert "1 images outside labelled folders left out" in found.assumption


def test_the_order_is_that_of_the_paths(tmp_path: Any) -> None:
    tree(tmp_path, "b/real/2.jpg", "b/real/10.jpg", "a/fake/1.jpg", "a/real/z.jpg")
    names = [entry.path.relative_to(tmp_path).as_posix() for entry in read_folder(tmp_path).entries]
    assert names == ["a/fake/1.jpg", "a/real/z.jpg", "b/real/10.jpg", "b/real/2.jpg"]


def test_folders_without_labels_or_with_both_are_refused_with_the_expected_tree(
    tmp_path: Any,
) -> None:
    with pytest.raises(MissingDataError, match=r"No folder at .*none: expected folders named real"):
        read_folder(tmp_path / "none")
    with pytest.raises(MissingDataError, match=r"\(1 images without a label\): expected"):
        read_folder(tree(tmp_path, "holiday/a.jpg"))
    with pytest.raises(MissingDataError, match=r"both labels \(real, fake\)"):
        read_folder(tree(tmp_path, "real/fake/a.jpg"))


def names_of(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_files_folders_and_patterns_are_found_once_each_in_the_order_given(tmp_path: Any) -> None:
    tree(tmp_path, "x/b.png", "x/a.jpg", "x/y/c.webp", "x/notes.txt", "odd.dat", "p[1].jpg")
    found = find_images(
        [f"{tmp_path}/{name}" for name in ("odd.dat", "p[1].jpg", "x/*.png", "x", "x/**")]
    )
    assert names_of(found, tmp_path) == ["odd.dat", "p[1].jpg", "x/b.png", "x/a.jpg", "x/y/c.webp"]


def test_folders_in_folders_are_left_out_on_request(tmp_path: Any) -> None:
    tree(tmp_path, "a.jpg", "y/c.webp", ".hidden/d.jpg")
    assert names_of(find_images([str(tmp_path)], recursive=False), tmp_path) == ["a.jpg"]
    assert names_of(find_images([str(tmp_path)]), tmp_path) == ["a.jpg", "y/c.webp"]
    assert names_of(find_images([f"{tmp_path}/[y]"]), tmp_path) == ["y/c.webp"]


def test_what_is_neither_file_nor_folder_is_called_what_it_is(tmp_path: Any) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        (f"{tmp_path}/link.jpg", r"is a link to .*gone.jpg, which is not there"),
        (f"{tmp_path}/pipe", "neither a file nor a folder, but a pipe or a device"),
        ("", "is a variable not set"),
    ):
        with pytest.raises(MissingDataError, match=words):
            find_images([name])


def test_links_are_followed_once_and_loops_end(tmp_path: Any) -> None:
    tree(tmp_path, "x/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "x/up").symlink_to(tmp_path / "x")
    (tmp_path / "x/link").symlink_to(tmp_path / "elsewhere")
    found = find_images([str(tmp_path / "x")])
    assert names_of(found, tmp_path) == ["x/a.jpg", "x/link/b.jpg"]


def test_links_that_lead_nowhere_are_listed_so_that_who_opens_them_says_so(tmp_path: Any) -> None:
    tree(tmp_path, "x/a.jpg")
    (tmp_path / "x/gone.jpg").symlink_to("away.jpg")
    (tmp_path / "x/itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "x/text").symlink_to("away.txt")
    for asked in (tmp_path / "x", tmp_path / "**", tmp_path / "x/*.jpg"):
        found = find_images([str(asked)])
        assert names_of(found, tmp_path) == ["x/a.jpg", "x/gone.jpg", "x/itself.jpg"]
    with pytest.raises(UndecodableImageError, match="no such file"):
        content_of(tmp_path / "x/gone.jpg")
    with pytest.raises(UndecodableImageError, match="too many levels of symbolic links"):
        content_of(tmp_path / "x/itself.jpg")


def test_folders_may_be_left_out_and_other_files_looked_for(tmp_path: Any) -> None:
    tree(tmp_path, "a/b.jpg", "train/c.jpg", "a/train/d.jpg", "a/t.PARQUET", ".hidden/u.parquet")
    images = files_below(tmp_path, enter=lambda folder: folder.name != "train")
    assert names_of(images, tmp_path) == ["a/b.jpg"]
    tables = files_below(tmp_path, suffixes=(".parquet",))
    assert names_of(tables, tmp_path) == ["a/t.PARQUET"]


def test_finding_nothing_says_where_and_for_what_was_looked(tmp_path: Any) -> None:
    tree(tmp_path, "photos/y/a.jpg", "notes/b.txt")
    with pytest.raises(MissingDataError, match=r"No image found in .*notes: looked for \.jpg"):
        find_images([str(tmp_path / "notes")])
    with pytest.raises(MissingDataError, match="folders in it were not searched"):
        find_images([str(tmp_path / "photos")], recursive=False)
    with pytest.raises(MissingDataError, match=r"No file or folder .*Did you mean 'photos'"):
        find_images([str(tmp_path / "photo")])
    with pytest.raises(MissingDataError, match=r"No image found in .*\*\.png"):
        find_images([f"{tmp_path}/*.png"])
    with pytest.raises(MissingDataError, match="name a file, a folder or a pattern"):
        find_images([])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Any) -> None:
    tree(tmp_path, "shut/a.jpg")
    (tmp_path / "shut").chmod(0)
    with pytest.raises(MissingDataError, match=r"shut cannot be read: Permission denied"):
        find_images([str(tmp_path)])
    (tmp_path / "shut").chmod(0o700)


def test_a_folder_within_that_cannot_be_read_stands_for_its_images(
    tmp_path: Any, monkeypatch: Any
) -> None:
    for name in ("real/a.png", "fake/b.png", "real/closed/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def refusing(place: Any) -> Any:
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    closed = tmp_path / "real" / "closed"
    assert find_images([str(tmp_path)]) == [
        tmp_path / "fake" / "b.png",
        tmp_path / "real" / "a.png",
        closed,
    ]
    labels = {entry.path.name: entry.label for entry in read_folder(tmp_path).entries}
    assert labels == {"a.png": Label.REAL, "b.png": Label.FAKE, "closed": Label.REAL}
    with pytest.raises(UndecodableImageError, match=r"cannot be read \(permission denied\)"):
        decode(closed)
    with pytest.raises(MissingDataError, match="cannot be read"):
        find_images([str(closed)])
    for pattern in ("real/**/*.png", "*/closed/*.png", "**/closed", "real/clo*", "**"):
        assert closed in find_images([f"{tmp_path}/{pattern}"]), pattern
        rows = [item.file for item in listed([f"{tmp_path}/{pattern}"])]
        assert str(closed) in rows, pattern
        assert len(rows) == len(set(rows)), pattern


def test_patterns_match_as_in_pythons_glob(tmp_path: Any) -> None:
    names = ("a.png", "b/a.png", "b/c/d.jpg", "b/.hid/x.png", ".hid.png", "b/c/e/f.png", "[x].png")
    tree(tmp_path, *names)
    (tmp_path / "b" / "c" / "up").symlink_to(tmp_path / "b")
    patterns = ("*", "**", "**/*.png", "*/*", "b/**/*", "**/c/*", "?.png", "[[]*", "b/.*/*", ".*")
    for pattern in patterns:
        expected = {
            str(Path(name).resolve())
            for name in glob.glob(f"{tmp_path}/{pattern}", recursive=True)  # noqa: PTH207
        }
        found = {str(path.resolve()) for path in matching(f"{tmp_path}/{pattern}")}
        assert found - {str(tmp_path)} == expected - {str(tmp_path)}, pattern


def test_pictures_of_other_formats_are_listed_for_scans_and_named_as_left_out(
    tmp_path: Any,
) -> None:
    tree(tmp_path, "real/a.jpg", "real/b.DNG", "fake/c.png", "fake/d.jxl", "fake/e.txt")
    names = {path.name for path in find_images([str(tmp_path)], suffixes=SCANNED_SUFFIXES)}
    assert names == {"a.jpg", "b.DNG", "c.png", "d.jxl"}
    assert {Path(item.file).name for item in listed([str(tmp_path)])} == names
    assert {path.name for path in find_images([str(tmp_path)])} == {"a.jpg", "c.png"}
    labelled = read_folder(tmp_path)
    assert len(labelled.entries) == 2
    assert "2 camera raws and other unsupported files left out" in labelled.assumption


def test_names_that_are_no_text_are_found_and_told(tmp_path: Any) -> None:
    (tmp_path / "real").mkdir()
    folder = tmp_path / "fake" / os.fsdecode(b"g\xe9n")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"caf\xe9.png")).touch()
    (tmp_path / "real" / "a.png").touch()
    found = read_folder(tmp_path)
    assert [entry.generator for entry in found.entries] == [r"g\xe9n", None]
    manifest = tmp_path / "manifest.csv"
    write_manifest(found.entries, manifest)
    assert read_manifest(manifest) == list(found.entries)
