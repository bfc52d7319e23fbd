"""Views of shards that lie elsewhere: reproducible, bounded on disk, and honest about what cannot be fetched."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from torch.utils.data import DataLoader

from gammascope.data.batches import StreamSlice
from gammascope.data.drawn import Drawn
from gammascope.data.laws import Mixture
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.data.windows import ShardCache, Windows
from gammascope.errors import MissingDataError, RecipeError, UndecodableImageError
from gammascope.imaging import codecs
from gammascope.sample import Entry, Label

PHOTO_SHARDS, FAKE_SHARDS, IN_ONE = 4, 3, 3
JPEG = codecs.Encoding("jpeg", 92)


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory) -> Path:
    """A folder of shards: photos with their twins in some, generated images in others."""
    root = tmp_path_factory.mktemp("store")
    crops = [
        np.ascontiguousarray(photo[60 * part :][:90, :90])
        for photo in photos.values()
        for part in range(3)
    ]
    for shard in range(PHOTO_SHARDS):
        with tarfile.open(root / f"photos-{shard}.tar", "w") as archive:
            for number in range(IN_ONE):
                crop = crops[(IN_ONE * shard + number) % len(crops)]
                pack(archive, root, f"{number}.jpg", codecs.encode(crop, JPEG))
                pack(archive, root, f"{number}-t.jpg", codecs.encode(codecs.blur(crop, 1.0), JPEG))
    for shard in range(FAKE_SHARDS):
        with tarfile.open(root / f"fakes-{shard}.tar", "w") as archive:
            for number in range(IN_ONE):
                crop = codecs.blur(crops[IN_ONE * shard + number], 2.0)
                pack(archive, root, f"{number}.jpg", codecs.encode(crop, JPEG))
    return root


def pack(archive: tarfile.TarFile, root: Path, name: str, content: bytes) -> None:
    loose = root / "loose"
    loose.write_bytes(content)
    archive.add(loose, name)
    loose.unlink()


def entries_below(root: Path) -> list[Entry]:
    found = []
    for shard in range(PHOTO_SHARDS):
        for number in range(IN_ONE):
            photo = root / f"photos-{shard}.tar" / f"{number}.jpg"
            source = f"camera {shard}"
            found.append(Entry(photo, Label.REAL, source=source))
            twin = photo.with_name(f"{number}-t.jpg")
            found.append(Entry(twin, Label.FAKE, generator="g", source=source, host_path=photo))
    for shard in range(FAKE_SHARDS):
        for number in range(IN_ONE):
            path = root / f"fakes-{shard}.tar" / f"{number}.jpg"
            found.append(Entry(path, Label.FAKE, generator="g", source=f"generator {shard}"))
    return found


def windows_of(source: str | Path, folder: Path, *, budget: float = 1e9, **how) -> Windows:
    cache = ShardCache(str(source), folder, int(budget))
    here = Path("nowhere")
    entries = [cache.entry(entry, here) for entry in entries_below(here)]
    make = partial(Stream, pictures=Pictures(0), size=32, seed=how.get("seed", 3))
    return Windows(entries, cache, make, **({"shards": 1, "views": 5, "seed": 3} | how))


def same(one: Drawn, other: Drawn) -> bool:
    return (one.kind, one.source) == (other.kind, other.source) and np.array_equal(
        one.pixels, other.pixels
    )


def assert_same(views: list[Drawn], others: list[Drawn]) -> None:
    assert len(views) == len(others)
    assert [
        index for index, pair in enumerate(zip(views, others, strict=True)) if not same(*pair)
    ] == []


def bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a worker was quicker, and removed or renamed it
            total += path.stat().st_size if path.is_file() else 0
    return total


def test_views_depend_on_seed_and_number_alone(store, tmp_path):
    windows = windows_of(store, tmp_path / "a")
    views = [windows[index] for index in range(22)]
    assert len({view.pixels.tobytes() for view in views}) == 22
    resumed = windows_of(store, tmp_path / "b")  # in the middle of a window, with an empty cache
    assert_same([resumed[index] for index in range(13, 22)], views[13:])
    assert_same([resumed[index] for index in reversed(range(13))], views[12::-1])
    other = windows_of(store, tmp_path / "b", seed=4)
    assert not same(other[0], views[0])


def test_workers_draw_the_same_views_from_a_cache_that_never_exceeds_its_bound(store, tmp_path):
    sizes = {path.name: path.stat().st_size for path in store.glob("*.tar")}
    alone = windows_of(store, tmp_path / "alone")
    expected = [alone[index] for index in range(40)]
    # Barely more than one window: two workers push out each other's shards.
    budget = max(sum(sizes[name] for name in alone.open_in(w)) for w in range(9))
    assert budget < sum(sizes.values()) / 2
    shared = windows_of(store, tmp_path / "shared", budget=budget)
    loader = DataLoader(StreamSlice(shared, 0, 40), batch_size=None, num_workers=2)
    views = []
    for view in loader:
        views.append(view)
        assert bytes_in(tmp_path / "shared") <= budget
    assert_same(views, expected)


def test_with_all_shards_open_views_are_those_of_the_folder(store, tmp_path):
    windows = windows_of(store, tmp_path, shards=4)
    stream = Stream(entries_below(store), Pictures(0), 32, seed=3)
    assert_same([windows[index] for index in range(12)], [stream[index] for index in range(12)])


def test_a_window_opens_shards_of_each_kind_and_the_next_exchanges_one(store, tmp_path):
    windows = windows_of(store, tmp_path, shards=2)
    opened = [windows.open_in(window) for window in range(60)]
    for before, after in pairwise(opened):
        assert len(set(after) - set(before)) <= 2, "one of each of two kinds"
    for names in opened:
        kinds = Counter(name.partition("-")[0] for name in names)
        assert kinds.keys() == {"photos", "fakes"}
        assert max(kinds.values()) <= 2
    counts = Counter(name for names in opened for name in names)
    assert len(counts) == PHOTO_SHARDS + FAKE_SHARDS
    assert max(counts.values()) < 2 * min(counts.values())
    for index in range(30):
        shards = set(windows.open_in(index // 5))
        view = windows[index]
        group, number = view.source.split()
        assert {"camera": "photos", "generator": "fakes"}[group] + f"-{number}.tar" in shards


def test_photos_alone_come_from_the_same_shards(store, tmp_path):
    photos = windows_of(store, tmp_path).authentic()
    assert {photos[index].kind for index in range(12)} == {"authentic"}


def test_whole_pictures_of_both_classes_come_from_the_same_shards(store, tmp_path):
    wholes = windows_of(store, tmp_path).wholes()
    drawn = [wholes[index] for index in range(24)]
    assert {view.kind for view in drawn} == {"authentic", "generated"}


def test_pictures_outside_of_shards_are_always_there(store, tmp_path, photos):
    loose = tmp_path / "loose.jpg"
    loose.write_bytes(codecs.encode(photos["cat"][:90, :90], JPEG))
    windows = windows_of(store, tmp_path / "cache")
    entries = [*windows.entries, Entry(loose, Label.REAL, source="loose")]
    both = Windows(entries, windows.cache, windows.make, shards=1, views=5, seed=3)
    assert {both[index].source for index in range(40)} > {"loose"}


def test_manipulated_pictures_come_with_their_masks(store, tmp_path):
    root = tmp_path / "store"
    shutil.copytree(store, root)
    white = np.full((90, 90, 3), 255, np.uint8)
    with tarfile.open(root / "edits.tar", "w") as archive:
        pack(archive, tmp_path, "0.jpg", codecs.encode(white, JPEG))
        pack(archive, tmp_path, "0.png", codecs.encode(white, codecs.Encoding("png")))
    shard = root / "edits.tar"
    edit = Entry(shard / "0.jpg", Label.FAKE, kind="splicing", source="edits")
    edit = replace(edit, edited_path=shard / "0.png", host_path=root / "photos-0.tar" / "0.jpg")
    cache = ShardCache(str(root), tmp_path / "cache", 10**9)
    placed = [cache.entry(entry, root) for entry in [*entries_below(root), edit]]
    mixture = Mixture(0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, made=0.5)
    make = partial(Stream, pictures=Pictures(0), size=32, mixture=mixture, seed=3)
    windows = Windows(placed, cache, make, shards=1, views=4, seed=3)
    drawn = [windows[number] for number in range(24)]
    assert {view.kind for view in drawn} == {"authentic", "made"}
    assert all(view.edited.all() == (view.kind == "made") for view in drawn)
    lost = replace(edit, edited_path=root / "photos-0.tar" / "0.png")
    with pytest.raises(MissingDataError, match=r"its mask 0\.png are in two shards"):
        cache.entry(lost, root)
    marked = replace(edit, object_paths=(shard / "0.png",))
    (thing,) = cache.entry(marked, root).object_paths
    assert cache.shard_of(thing) == "edits.tar"
    with pytest.raises(MissingDataError, match=r"its mask 0\.png are in two shards"):
        cache.entry(replace(edit, object_paths=lost.edited_path and (lost.edited_path,)), root)


def test_broken_pictures_are_replaced_by_other_draws(store, tmp_path):
    broken = tmp_path / "store"
    broken.mkdir()
    for shard in store.glob("*.tar"):
        data = shard.read_bytes()
        # The first picture of each shard loses what tells that it is a JPEG.
        (broken / shard.name).write_bytes(data[:512] + b"\0" * 64 + data[576:])
    windows, again = (windows_of(broken, tmp_path / name, shards=4) for name in "ab")
    views = [windows[index] for index in range(15)]
    assert_same([again[index] for index in range(15)], views)
    for shard in store.glob("*.tar"):
        data = shard.read_bytes()
        (broken / shard.name).write_bytes(data.replace(b"\xff\xd8\xff", b"\0\0\0"))
    with pytest.raises(UndecodableImageError):
        windows_of(broken, tmp_path / "c")[0]


class Unsteady(MemoryFileSystem):  # type: ignore[misc]
    """Breaks off as often as asked for."""

    protocol = "unsteady"
    left = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("unsteady:/"))

    def get_file(self, rpath, lpath, **kwargs):
        if Unsteady.left > 0:
            Unsteady.left -= 1
            raise OSError("connection reset")
        super().get_file(rpath, lpath, **kwargs)


@pytest.fixture
def remote(store) -> str:
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    for shard in store.glob("*.tar"):
        fsspec.filesystem("memory").pipe(f"/bucket/set/{shard.name}", shard.read_bytes())
    return "unsteady://bucket/set"


def test_a_fetch_is_tried_again_and_then_given_up_with_the_address(store, remote, tmp_path):
    expected = windows_of(store, tmp_path / "near")[0]
    Unsteady.left = 2
    assert same(windows_of(remote, tmp_path / "far")[0], expected)
    Unsteady.left = 100
    with pytest.raises(
        MissingDataError, match=r"unsteady://bucket/set/\S+ cannot be fetched: conn"
    ):
        windows_of(remote, tmp_path / "never")[0]
    Unsteady.left = 0
    assert not list((tmp_path / "never").rglob("*.tar"))


def test_a_shard_that_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match=r"-\d.tar cannot be fetched: it is not there"):
        windows_of(tmp_path / "empty", tmp_path / "cache")[0]


def test_what_a_killed_process_left_is_removed(store, tmp_path):
    windows = windows_of(store, tmp_path)
    left = windows.cache.folder / ".photos-0.tar.1.part"
    left.write_bytes(b"half")
    windows[0]
    assert not left.exists()


def test_what_cannot_work_is_refused(store, tmp_path):
    with pytest.raises(RecipeError, match=r"shards = 0, views = 5: expected 1 or more"):
        windows_of(store, tmp_path, shards=0)
    with pytest.raises(
        RecipeError, match=r"more than the 1e-06 GB .* raise data.streaming.cache_gb"
    ):
        windows_of(store, tmp_path / "small", budget=1000)[0]
    assert bytes_in(tmp_path / "small") == 0
    with pytest.raises(MissingDataError, match="of no known kind"):
        ShardCache("nosuchthing://bucket", tmp_path, 1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecipeError, match="cannot be a cache"):
        ShardCache(str(store), tmp_path / "file", 1)
    cache = ShardCache(str(store), tmp_path, 1)
    outside = Entry(Path("elsewhere/a.tar/1.jpg"), Label.REAL)
    with pytest.raises(MissingDataError, match="not below here, so its place below"):
        cache.entry(outside, Path("here"))
    twin = Entry(Path("a.tar/1.jpg"), Label.FAKE, host_path=Path("b.tar/1.jpg"))
    with pytest.raises(MissingDataError, match="are in two shards"):
        cache.entry(twin, Path())
    loose = replace(twin, host_path=Path("b/1.jpg"))
    assert cache.entry(loose, Path()).host_path == Path("b/1.jpg")
    windows = windows_of(store, tmp_path)
    fakes = [entry for entry in windows.entries if entry.label is Label.FAKE]
    with pytest.raises(MissingDataError, match="No real photo"):
        Windows(fakes, windows.cache, windows.make, shards=1, views=5, seed=3)
