"""Rows behind a URL: one scan at a time fills a place, and nothing of others is deleted there."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from gammascope.data import ledger
from gammascope.errors import RecipeError
from gammascope.scanning.destination import Destination

PLACE = "memory://rows/of a day"


@pytest.fixture
def store():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/rows/beside.txt", b"")
    yield filesystem
    filesystem.rm("/rows", recursive=True)


@pytest.fixture
def on(monkeypatch, tmp_path):
    """Return what goes to a machine, each with a cache folder of its own."""

    def go(machine: str) -> Destination:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return Destination(PLACE)

    return go


def written(place: Destination, first: int, rows: int) -> Path:
    return ledger.write_part(place.folder, first, pa.table({"number": range(first, first + rows)}))


def names_in(store) -> set[str]:
    return {name.rpartition("/")[2] for name in store.ls("/rows/of a day", detail=False)}


def test_two_machines_cannot_begin_at_the_same_place(store, on):
    one = on("one")
    one.check()
    written(one, 0, 3)
    with pytest.raises(
        RecipeError,
        match=r"_unfinished in memory://rows/of a day is another scan's \('Scan .* on .*'\): .*delete",
    ):
        on("two").check()
    on("one").check()  # It was interrupted, and goes on.
    one.copy()
    assert names_in(store) == {"0000000000-0000000003.parquet"}
    with pytest.raises(RecipeError, match="holds rows of another scan"):
        on("two").check()
    on("one").check()


def test_a_mark_that_names_no_scan_is_refused_until_it_is_deleted(store, on):
    for mark in (b"Rows are copied here.", b"", b"\xff"):
        store.pipe("/rows/of a day/_unfinished", mark)
        with pytest.raises(
            RecipeError, match="or, if that scan will never go on, delete _unfinished"
        ):
            on("one").check()
    store.rm("/rows/of a day/_unfinished")
    on("one").check()


def test_one_that_begins_at_the_same_moment_is_seen(store, on, monkeypatch):
    pipe_file = type(store).pipe_file

    def both(self, path, value, **options):
        pipe_file(self, path, value, **options)
        pipe_file(self, path, b"Scan 0 on another", **options)

    monkeypatch.setattr(type(store), "pipe_file", both)
    with pytest.raises(RecipeError, match="is another scan's"):
        on("one").check()


def test_a_place_that_was_taken_meanwhile_gets_no_rows(store, on):
    one = on("one")
    one.check()
    written(one, 0, 3)
    store.rm("/rows/of a day/_unfinished")
    two = on("two")
    two.check()
    with pytest.raises(RecipeError, match=r"The rows of this scan are in .*one"):
        on("one").copy()
    assert names_in(store) == {"_unfinished"}
    written(on("two"), 0, 2)
    two.copy()
    with pytest.raises(RecipeError, match="holds rows of another scan"):
        on("one").copy()
    assert names_in(store) == {"0000000000-0000000002.parquet"}


def test_only_parts_that_were_copied_before_are_removed(store, on):
    place = on("one")
    place.check()
    for first in (0, 3):
        written(place, first, 3)
    place.copy()
    store.pipe("/rows/of a day/ours.parquet", b"another table")
    store.pipe("/rows/of a day/_notes.parquet", b"hidden from readers")
    ledger.join_parts(place.folder, ledger.parts(place.folder))
    for part in ("0000000000-0000000003.parquet", "0000000003-0000000006.parquet"):
        (place.folder / part).unlink()
    place.check()
    place.copy()
    assert names_in(store) == {
        "0000000000-0000000006.parquet",
        "ours.parquet",
        "_notes.parquet",
    }
    store.pipe("/rows/of a day/0000000006-0000000009.parquet", b"rows of another machine")
    for step in (place.check, place.copy):
        with pytest.raises(RecipeError, match=r"another machine \(0000000006-0000000009.parquet\)"):
            step()
    assert store.exists("/rows/of a day/0000000006-0000000009.parquet")


def test_a_place_with_tables_of_others_is_refused_at_first(store, on):
    store.pipe("/rows/of a day/table.parquet", b"")
    with pytest.raises(RecipeError, match=r"rows of another scan.*table\.parquet"):
        on("one").check()
    assert names_in(store) == {"table.parquet"}


def test_rows_that_an_earlier_version_copied_are_known(store, on):
    place = on("one")
    part = written(place, 0, 3)
    (place.folder / "_ledger").mkdir()
    (place.folder / "_ledger" / "copied").touch()
    store.pipe(f"/rows/of a day/{part.name}", part.read_bytes())
    place.check()
    place.copy()
    assert names_in(store) == {part.name}
