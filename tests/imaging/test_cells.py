"""Images inside tables: addressed by paths, read in any order, and refused in one line."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gammascope.errors import MissingExtraError, UndecodableImageError
from gammascope.imaging import storage
from gammascope.imaging.decode import Limits, decode

ROWS = 11


def png(value: int) -> bytes:
    sink = io.BytesIO()
    PIL.Image.new("RGB", (3, 2), (value, value, value)).save(sink, "PNG")
    return sink.getvalue()


def write(path: Path, held: list[Any], *, group: int = 4) -> Path:
    table = pyarrow.Table.from_pylist([{"image": value, "label": 0} for value in held])
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=group)
        return path
    new = pyarrow.ipc.new_file if path.stem == "footer" else pyarrow.ipc.new_stream
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=group)
    return path


@pytest.fixture(
    scope="module", params=["rows.parquet", "one_group.parquet", "stream.arrow", "footer.arrow"]
)
def table(request, tmp_path_factory) -> Path:
    held = [{"bytes": png(10 * row), "path": f"{row}.png"} for row in range(ROWS)]
    path = tmp_path_factory.mktemp("tables") / request.param
    return write(path, held, group=ROWS if "one" in path.stem else 4)


@settings(max_examples=25)
@given(rows=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=30))
def test_rows_are_read_in_any_order(table, rows):
    for row in rows:
        decoded = decode(storage.cell(table, row, "image"))
        assert decoded.format == "png"
        assert decoded.image.shape == (2, 3, 3)
        assert (decoded.image == 10 * row).all()


def test_threads_read_the_same(table):
    order = np.random.default_rng(0).permutation(ROWS * 10) % ROWS
    with ThreadPoolExecutor(4) as pool:
        images = pool.map(lambda row: decode(storage.cell(table, int(row), "image")).image, order)
        assert [int(image[0, 0, 0]) for image in images] == [10 * row for row in order]


def test_reading_forwards_decodes_each_row_once(tmp_path, monkeypatch):
    path = write(tmp_path / "t.parquet", [png(row) for row in range(40)], group=40)
    opened = []
    batches = pyarrow.parquet.ParquetFile.iter_batches

    def counted(self, *args: Any, **more: Any) -> Any:
        opened.append(more)
        return batches(self, *args, **more)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", counted)
    for row in range(0, 40, 3):
        decode(storage.cell(path, row, "image"))
    assert len(opened) == 1
    decode(storage.cell(path, 0, "image"))
    assert len(opened) == 2


def test_bare_bytes_are_read_too(tmp_path):
    path = write(tmp_path / "t.parquet", [png(7)])
    assert (decode(storage.cell(path, 0, "image")).image == 7).all()


def test_a_table_that_was_rewritten_is_read_anew(tmp_path):
    path = write(tmp_path / "t.parquet", [png(7)])
    assert (decode(storage.cell(path, 0, "image")).image == 7).all()
    write(path, [png(8), png(9)])
    assert (decode(storage.cell(path, 1, "image")).image == 9).all()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("t.parquet/3.image", True),
        ("T.PARQUET/3.image_data", True),
        ("t.arrow/0.image", True),
        ("t.parquet", False),
        ("t.parquet/image", False),
        ("t.parquet/x.image", False),
        ("t.parquet/3", False),
        ("folder/3.image", False),
    ],
)
def test_only_paths_below_tables_are_cells(name, is_one):
    assert storage.is_cell(Path(name)) is is_one


def test_a_file_in_a_folder_called_like_a_table_is_a_file(tmp_path):
    (tmp_path / "t.parquet").mkdir()
    path = tmp_path / "t.parquet" / "3.png"
    path.write_bytes(png(5))
    assert not storage.is_cell(path)
    assert (decode(path).image == 5).all()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.parquet/0.image", "No such file|no such file"),
        ("t.parquet/9.image", "has 3 rows, so no row 9"),
        ("t.arrow/9.image", "has 3 rows, so no row 9"),
        ("t.parquet/0.picture", "has no column 'picture'"),
        ("t.arrow/0.picture", "has no column 'picture'"),
        ("t.parquet/1.image", "row 1 of t.parquet holds no image in 'image'"),
        ("t.parquet/0.label", "row 0 of t.parquet holds no image in 'label'"),
        ("t.parquet/2.image", "not an image"),
        ("broken.parquet/0.image", "broken.parquet is broken"),
        ("broken.arrow/0.image", "broken.arrow is broken"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, reason):
    held = [{"bytes": png(1), "path": None}, None, {"bytes": b"no image", "path": None}]
    write(tmp_path / "t.parquet", held)
    write(tmp_path / "t.arrow", held)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "broken.arrow").write_bytes(b"nothing at all")
    with pytest.raises(UndecodableImageError, match=f"(?i){reason}") as caught:
        decode(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_limits_hold_for_cells(tmp_path):
    path = write(tmp_path / "t.parquet", [png(1)])
    with pytest.raises(UndecodableImageError, match="more than the"):
        decode(storage.cell(path, 0, "image"), Limits(max_bytes=10))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"\.\[evaluate\]"):
        decode(tmp_path / "t.parquet" / "0.image")
