"""The audit of real files with every defect it knows, and of what is no defect."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gammascope.data.audit import Broken, Examined, Fault, audit, examine
from gammascope.errors import MissingDataError
from gammascope.imaging import codecs
from gammascope.imaging.decode import Limits
from gammascope.sample import Entry, Label

JPEG, PNG = codecs.Encoding("jpeg", 90), codecs.Encoding("png")


def encoded(image, encoding=JPEG) -> bytes:
    return codecs.encode(np.ascontiguousarray(image), encoding)


def entry(path: Path, data: bytes | None = None, label=Label.REAL, **known) -> Entry:
    if data is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Entry(path, label, **known)


def names(files) -> list[str]:
    return [file.entry.path.name for file in files]


@pytest.fixture
def small(photos) -> dict[str, np.ndarray]:
    return {name: photo[:200, :260] for name, photo in photos.items()}


def test_broken_files_are_listed_with_what_is_wrong(small, tmp_path):
    jpeg, png = encoded(small["cat"]), encoded(small["cat"], PNG)
    webp = encoded(small["cat"], codecs.Encoding("webp"))
    broken_png = png[:200] + bytes(400) + png[600:]
    entries = [
        entry(tmp_path / "whole.jpg", jpeg),
        entry(tmp_path / "empty.png", b""),
        entry(tmp_path / "cut.jpg", jpeg[: len(jpeg) // 2]),
        entry(tmp_path / "cut.png", png[: len(png) // 2]),
        entry(tmp_path / "cut.webp", webp[: len(webp) // 2]),
        entry(tmp_path / "page.jpg", b"<html>404</html>"),
        entry(tmp_path / "overwritten.png", broken_png),
        entry(tmp_path / "gone.jpg"),
    ]
    found = audit(examine(entries))
    assert names(found.examined) == ["whole.jpg"]
    assert {file.entry.path.name: file.fault for file in found.broken} == {
        "empty.png": Fault.EMPTY,
        "cut.jpg": Fault.TRUNCATED,
        "cut.png": Fault.TRUNCATED,
        "cut.webp": Fault.TRUNCATED,
        "page.jpg": Fault.UNREADABLE,
        "overwritten.png": Fault.UNREADABLE,
        "gone.jpg": Fault.MISSING,
    }
    assert all(file.reason.startswith(file.entry.path.name) for file in found.broken)


def test_a_file_over_the_limit_is_not_decoded(small, tmp_path):
    entries = [entry(tmp_path / "large.jpg", encoded(small["cat"]))]
    (file,) = examine(entries, limits=Limits(max_pixels=1000))
    assert isinstance(file, Broken)
    assert "more than the 0.001 million allowed" in file.reason


def test_what_headers_say_is_kept(small, tmp_path):
    jpeg = encoded(small["cat"], codecs.Encoding("jpeg", 83, "4:2:2"))
    entries = [
        entry(tmp_path / "a.jpg", jpeg),
        entry(tmp_path / "b.png", encoded(small["cat"], PNG)),
    ]
    a, b = examine(entries)
    assert isinstance(a, Examined)
    assert isinstance(b, Examined)
    assert (a.format, a.jpeg_quality, a.subsampling) == ("jpeg", 83, "4:2:2")
    assert a.traits == frozenset({"jfif"})
    assert (a.width, a.height, a.file_bytes) == (260, 200, len(jpeg))
    assert (b.format, b.jpeg_quality, b.subsampling) == ("png", None, None)
    assert b.traits == frozenset()


def test_a_file_named_like_another_format_is_found_and_only_that(small, tmp_path):
    entries = [
        entry(tmp_path / "png.jpg", encoded(small["cat"], PNG)),
        entry(tmp_path / "right.JPEG", encoded(small["coffee"])),
        entry(tmp_path / "nameless", encoded(small["rocket"])),
    ]
    found = audit(examine(entries))
    assert [(file.entry.path.name, file.format) for file in found.misnamed] == [("png.jpg", "png")]


def test_the_same_bytes_are_duplicates(small, tmp_path):
    data = encoded(small["cat"])
    entries = [entry(tmp_path / name, data) for name in ("b.jpg", "a.jpg", "c.jpg")]
    entries.append(entry(tmp_path / "other.jpg", encoded(small["coffee"])))
    (group,) = audit(examine(entries)).duplicates
    assert names(group.files) == ["a.jpg", "b.jpg", "c.jpg"]
    assert group.identical
    assert not group.leaks
    assert not group.conflicts


def test_a_path_that_is_listed_twice_is_a_duplicate(small, tmp_path):
    once = entry(tmp_path / "a.jpg", encoded(small["cat"]))
    (group,) = audit(examine([once, once])).duplicates
    assert names(group.files) == ["a.jpg", "a.jpg"]


def test_look_alikes_are_found_after_re_encoding_and_resizing_and_photos_kept_apart(
    small, tmp_path
):
    entries = [entry(tmp_path / f"{name}.jpg", encoded(photo)) for name, photo in small.items()]
    changed = codecs.rescale(small["cat"], 0.6)
    entries += [
        entry(tmp_path / "cat again.webp", encoded(small["cat"], codecs.Encoding("webp", 60))),
        entry(tmp_path / "cat small.jpg", encoded(changed, codecs.Encoding("jpeg", 50))),
        entry(tmp_path / "coffee copy.jpg", encoded(small["coffee"])),
    ]
    groups = audit(examine(entries)).duplicates
    assert [names(group.files) for group in groups] == [
        ["cat again.webp", "cat small.jpg", "cat.jpg"],
        ["coffee copy.jpg", "coffee.jpg"],
    ]
    assert [group.identical for group in groups] == [False, True]


def test_one_picture_in_two_splits_leaks(small, tmp_path):
    smaller = codecs.rescale(small["cat"], 0.7)
    entries = [
        entry(tmp_path / "train" / "cat.jpg", encoded(small["cat"]), split="train"),
        entry(tmp_path / "test" / "0001.jpg", encoded(smaller), split="test"),
        entry(tmp_path / "train" / "coffee.jpg", encoded(small["coffee"]), split="train"),
        entry(tmp_path / "test" / "rocket.jpg", encoded(small["rocket"]), split="test"),
    ]
    (leak,) = audit(examine(entries)).leaks
    assert names(leak.files) == ["0001.jpg", "cat.jpg"]
    assert leak.splits == ("test", "train")


def twin(photo: np.ndarray) -> bytes:
    return encoded(codecs.blur(photo, 0.8), PNG)


def test_a_twin_beside_its_photo_is_no_conflict_but_leaks_across_splits(small, tmp_path):
    host = entry(tmp_path / "cat.jpg", encoded(small["cat"]), split="train")
    made = entry(
        tmp_path / "twin.png",
        twin(small["cat"]),
        Label.FAKE,
        generator="blur",
        host_path=host.path,
        split="test",
    )
    found = audit(examine([host, made]))
    (group,) = found.duplicates
    assert group.labels == (Label.REAL, Label.FAKE)
    assert found.conflicts == ()
    assert found.leaks == (group,)


def test_a_manipulated_photo_is_no_conflict_even_if_it_names_no_host(small, tmp_path):
    edited = small["cat"].copy()
    edited[20:50, 20:60] = edited[100:130, 100:140]
    entries = [
        entry(tmp_path / "cat.jpg", encoded(small["cat"])),
        entry(tmp_path / "edit.jpg", encoded(edited), Label.FAKE, kind="copy_move"),
    ]
    found = audit(examine(entries))
    assert len(found.duplicates) == 1
    assert found.conflicts == ()


def test_look_alikes_of_both_labels_conflict_where_nothing_explains_them(small, tmp_path):
    entries = [
        entry(tmp_path / "real" / "cat.jpg", encoded(small["cat"])),
        entry(tmp_path / "fake" / "cat.png", twin(small["cat"]), Label.FAKE, generator="sd"),
    ]
    found = audit(examine(entries))
    assert found.conflicts == found.duplicates
    assert len(found.conflicts) == 1


def test_the_same_bytes_under_both_labels_conflict_whatever_explains_them(small, tmp_path):
    data = encoded(small["cat"])
    host = entry(tmp_path / "cat.jpg", data)
    unchanged = entry(tmp_path / "edit.jpg", data, Label.FAKE, host_path=host.path)
    assert len(audit(examine([host, unchanged])).conflicts) == 1


def test_the_order_of_the_files_and_the_number_of_threads_do_not_matter(small, tmp_path):
    data = {name: encoded(photo) for name, photo in small.items()}
    entries = [
        entry(
            tmp_path / split / f"{name}{number}.jpg", data[name][: -number * 300 or None], **known
        )
        for number, (split, known) in enumerate(
            [("train", {"split": "train"}), ("test", {"label": Label.FAKE})]
        )
        for name in small
    ]
    entries += [entry(tmp_path / "again.jpg", data["cat"], split="val")]
    expected = audit(examine(entries, workers=1))
    assert expected.leaks
    assert expected.broken
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(entries))
        assert audit(examine([entries[at] for at in order], workers=seed + 1)) == expected


def test_progress_counts_every_file(small, tmp_path):
    entries = [entry(tmp_path / "a.jpg", encoded(small["cat"])), entry(tmp_path / "gone.jpg")]
    told: list[tuple[int, int]] = []
    examine(entries * 30, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 60) for done in range(1, 61)]


def test_an_empty_list_is_refused():
    with pytest.raises(MissingDataError, match="list of entries is empty"):
        examine([])


def test_pictures_of_an_archive_are_examined_like_files(small, tmp_path):
    data = encoded(small["cat"])
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    outside = entry(tmp_path / "a.jpg", data)
    found = audit(examine([outside, Entry(tmp_path / "shard.tar" / "a.jpg", Label.REAL)]))
    assert not found.broken
    assert len(found.duplicates) == 1
