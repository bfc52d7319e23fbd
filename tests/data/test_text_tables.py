"""One guarded reader for all tables: what is no UTF-8 is refused in one line, whoever reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest

from gammascope.data.camera import read_camera_tables
from gammascope.data.manifest import read_manifest
from gammascope.data.text_tables import TextTable, read_lists
from gammascope.errors import MissingDataError
from gammascope.evaluation.score_table import ScoreTable
from gammascope.sample import Label
from gammascope.scanning.sources import listed

TABLE = "path,label,error,Model\ncafé.png,real,,x\nb.png,fake,,y\n"
WRONG = {
    "cp1252": (TABLE.encode("cp1252"), r"not encoded in UTF-8 \(byte 0xe9.*Windows-1252"),
    "utf16": (TABLE.encode("utf-16"), "not encoded in UTF-8.*UTF-16"),
    "utf16 without mark": (TABLE.encode("utf-16-le"), "so it is no text in UTF-8|not encoded"),
    "semicolons": (
        b"path;label;error;Model\na.png;real;;x\n",
        "is separated by semicolons: save it",
    ),
    "tabs": (b"path\tlabel\na.png\treal\n", "is separated by tabs: save it with commas"),
    "twins": (
        b"path,label,error,path,Model\na.png,real,,b.png,x\n",
        r"has 2 columns 'path': rename",
    ),
    "NUL": (TABLE.replace("b.png", "b\0.png").encode(), "line 3: holds a NUL, as cameras .* tr -d"),
    "late": (
        ("path,label,error,Model\n" + "a.png,real,,x\n" * 20_000).encode() + b"\xe9\n",
        "0xe9",
    ),
    "field": (TABLE.encode() + b'"' + b"x" * 200_000 + b'",real,,\n', "no CSV table"),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "manifest": read_manifest,
    "scores": ScoreTable.read,
    "camera": lambda path: read_camera_tables([path]),
    "listing": lambda path: list(listed([str(path)])),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_table_is_refused_by_every_reader(
    wrong: str, reader: str, tmp_path: Path
) -> None:
    content, message = WRONG[wrong]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(MissingDataError, match=message) as raised:
        READERS[reader](path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_masks_beside_a_manifest_are_guarded_too(tmp_path: Path) -> None:
    (tmp_path / "masks.csv").write_bytes(b"mask_path,image_path,kind\ncaf\xe9.png,a.png,object\n")
    (tmp_path / "m.csv").write_text("path,label\na.png,real\n", "utf-8")
    with pytest.raises(MissingDataError, match=r"masks\.csv is not encoded in UTF-8"):
        read_manifest(tmp_path / "m.csv")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    path.write_bytes(b"path,label\na.png,real\n")
    with pytest.raises(MissingDataError, match="is no Parquet table"):
        read_manifest(path)


def test_a_parquet_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    columns = [pyarrow.array(texts) for texts in (["a.png"], ["real"], ["b.png"])]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(columns, names=["path", "label", "path"]), path
    )
    with pytest.raises(MissingDataError, match="has 2 columns 'path'"):
        read_manifest(path)


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,label,,\na.png,real,,\n", "utf-8")
    assert [entry.label for entry in read_manifest(path)] == [Label.REAL]


def test_a_picture_in_place_of_a_manifest_is_called_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    whole = io.BytesIO()
    PIL.Image.effect_noise((64, 64), 60).save(whole, "JPEG")
    path.write_bytes(whole.getvalue()[:700])
    with pytest.raises(
        MissingDataError, match=r"cut\.jpg is a picture \(jpeg\): expected a manifest"
    ):
        read_manifest(path)


def test_rows_are_numbered_as_editors_do(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("\ufeffpath,label\n\na.png,real\n\nb.png\n".encode())
    assert read_lists(path) == (("path", "label"), [["a.png", "real"], ["b.png"]])
    with path.open("rb") as file:
        assert [number for number, _ in TextTable(file, path).rows()] == [3, 5]


@pytest.mark.parametrize(
    "words", [("False", "True"), ("0.0", "1.0"), ("false", "TRUE"), ("0", "1")]
)
def test_truth_values_and_floats_are_understood(words: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"path,label\na.png,{words[0]}\nb.png,{words[1]}\n", "utf-8")
    assert [entry.label for entry in read_manifest(path)] == [Label.REAL, Label.FAKE]


@pytest.mark.parametrize("word", ["unreal", "nonfake", "2", "nan", "None", "2.0", "-1"])
def test_no_label_is_guessed_to_be_the_opposite(word: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"path,label\na.png,{word}\n", "utf-8")
    with pytest.raises(MissingDataError, match="is not understood") as raised:
        read_manifest(path)
    assert "Did you mean" not in str(raised.value)
