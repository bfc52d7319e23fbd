"""Sources that overlap, and patterns that match folders: every image is listed, and once."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gammascope.data.folder import SCANNED_SUFFIXES, find_images
from gammascope.errors import MissingDataError
from gammascope.scanning import sources
from gammascope.scanning.sources import listed


@pytest.fixture
def root(tmp_path) -> Path:
    """Two pictures deep and hidden, a file that is called otherwise, a shard, and lists inside and of elsewhere."""
    names = ("in/a.png", "in/b.dat", "in/sub/c.png", "in/sub/deep/d.png", "in/.hid/e.png", "f.png")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with tarfile.open(tmp_path / "in/shard.tar", "w") as archive:
        for name in ("1.jpg", "2.jpg"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    (tmp_path / "in/list.csv").write_text("path\na.png\n../f.png\n")
    pq.write_table(pa.table({"path": ["../f.png", "sub/c.png"]}), tmp_path / "in/list.parquet")
    return tmp_path


def names_of(root: Path, *places: str, recursive: bool = True) -> list[str]:
    found = [item.name for item in listed([f"{root}/{one}" for one in places], recursive=recursive)]
    assert max(Counter(found).values()) == 1, "listed twice"
    return [name.removeprefix(f"{root}/") for name in found]


@pytest.mark.parametrize(
    ("places", "recursive", "expected"),
    [
        ("in in/shard.tar", True, "a.png sub/c.png sub/deep/d.png shard.tar/1.jpg shard.tar/2.jpg"),
        ("in in/list.csv", True, "a.png sub/c.png sub/deep/d.png ../f.png"),
        ("in/sub/c.png in/list.parquet", True, "sub/c.png ../f.png"),
        ("in in/sub", False, "a.png sub/c.png"),
        ("in in/sub in/sub/deep", True, "a.png sub/c.png sub/deep/d.png"),
        ("in/sub in", True, "sub/c.png sub/deep/d.png a.png"),
        ("in in/b.dat", True, "a.png sub/c.png sub/deep/d.png b.dat"),
        ("in in/.hid", True, "a.png sub/c.png sub/deep/d.png .hid/e.png"),
        ("in/*.png in/*/*.png", False, "a.png sub/c.png"),
        ("in/*/* in/*/*/*", False, "sub/c.png sub/deep/d.png"),
        ("in/*.tar in/shard.tar", True, "shard.tar/1.jpg shard.tar/2.jpg"),
    ],
)
def test_a_source_within_another_adds_what_that_one_does_not_list(
    root, places, recursive, expected
):
    found = names_of(root, *places.split(), recursive=recursive)
    assert found == [f"in/{name}" for name in expected.split()]


def test_a_file_that_one_manifest_names_twice_keeps_both_rows(root):
    (root / "twice.csv").write_text("path\nf.png\nf.png\n")
    for others in ([], [f"{root}/in/a.png"]):
        found = [item.name for item in listed([f"{root}/twice.csv", *others])]
        assert found.count(f"{root}/f.png") == 2


def test_a_source_that_adds_nothing_is_no_mistake_and_an_empty_one_is(root):
    assert names_of(root, "in/sub", "in/sub/deep") == ["in/sub/c.png", "in/sub/deep/d.png"]
    (root / "in/empty").mkdir()
    with pytest.raises(MissingDataError, match=r"No image found in .*in/empty"):
        names_of(root, "in", "in/empty")


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize(
    "pattern", ["in/*", "in/s*", "*", "in/.h*", "in/.*/*", "**", "in/**", "*/*"]
)
def test_a_pattern_means_the_same_here_behind_a_url_and_without_out(root, pattern, recursive):
    for pack in ("shard.tar", "list.csv", "list.parquet"):  # Only a scan with --out opens them.
        (root / "in" / pack).unlink()
    plain = find_images([f"{root}/{pattern}"], recursive, suffixes=SCANNED_SUFFIXES)
    expected = sorted(str(path) for path in plain)
    assert (
        sorted(f"{root}/{name}" for name in names_of(root, pattern, recursive=recursive))
        == expected
    )
    far = listed([f"{root.as_uri()}/{pattern}"], recursive=recursive)
    assert sorted(item.name.removeprefix("file://") for item in far) == expected


def test_a_link_to_nowhere_has_a_row_and_does_not_stop_the_rest(root):
    (root / "in/gone.png").symlink_to("nowhere.png")
    assert names_of(root, "in/*.png") == names_of(root, "in", recursive=False)


def test_hidden_folders_are_skipped_behind_urls_too(root):
    far = [item.name for item in listed([(root / "in").as_uri()])]
    assert [name.removeprefix(f"{root.as_uri()}/in/") for name in far] == [
        "a.png",
        "sub/c.png",
        "sub/deep/d.png",
    ]


@pytest.fixture
def memory():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe({f"/over/{name}": b"" for name in ("a.png", "sub/b.png", "sub/deep/c.png")})
    yield filesystem
    filesystem.rm("/over", recursive=True)


@pytest.mark.parametrize("first", ["memory://over", "memory://over/*", "memory:///over/**"])
def test_urls_of_the_same_file_are_one_however_they_are_spelled(memory, first):
    spellings = ("memory://over/sub", "memory:///over/sub/b.png", "memory:///over/sub/*")
    found = list(listed([first, *spellings]))
    assert sorted(item.name for item in found) == [
        "memory:///over/a.png",
        "memory:///over/sub/b.png",
        "memory:///over/sub/deep/c.png",
    ]


def test_a_folder_behind_a_url_that_cannot_be_listed_is_told(memory, monkeypatch):
    ls = type(memory).ls

    def refusing(self, path, **options):
        if path.endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return ls(self, path, **options)

    monkeypatch.setattr(type(memory), "ls", refusing)
    with pytest.raises(MissingDataError, match="cannot be listed"):
        list(listed(["memory://over"]))


def test_many_names_of_several_sources_are_told_apart_in_little_memory(tmp_path, monkeypatch):
    """A set of them would hold over 100 bytes for each; the cache of SQLite, which is not seen here, stays at 2 MB."""
    count = 30_000
    items = [sources.Item(f"/{n:0100}.png", f"/{n:0100}.png") for n in range(count)]
    monkeypatch.setattr(sources, "_listed", lambda *_: iter(items))
    tracemalloc.start()
    found = sum(1 for _ in listed(["a", "b"]))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == count
    assert held < 2**20
