"""Camera settings from tables: numbers as they are, names as numbers, and nothing made up."""

from __future__ import annotations

import math

import pytest

from gammascope.data.camera import MAKES, read_camera_tables
from gammascope.errors import MissingDataError

TABLE = """path,split,Make,Model,FNumber,ExposureTime,Flash,DateTimeOriginal
a.jpg,train,NIKON CORPORATION,NIKON D90,2.8,1/200,24,2018:02:07 12:04:56
sub/b.jpg,train,Apple,iPhone 7,1.8,0.005,16,
c.jpg,dev,EASTMAN KODAK COMPANY,Z612,,0,"(5, 0, 2)",
d.jpg,train,Apple,iPhone 7,inf,1/0,,
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "exif.csv"
    path.write_text(TABLE, "utf-8")
    return path


def test_settings_are_numbers_by_image(table):
    known = read_camera_tables([table])
    root = table.parent.resolve()
    assert known[root / "a.jpg"] == {
        "Make": 0,
        "Model": 1,
        "FNumber": 2.8,
        "ExposureTime": 0.005,
        "Flash": 24,
    }
    assert known[root / "sub" / "b.jpg"]["Make"] == MAKES.index("apple")
    assert known[root / "sub" / "b.jpg"]["Model"] == 0, "the most frequent"


def test_what_is_empty_or_no_finite_number_is_not_known(table):
    known = read_camera_tables([table])
    root = table.parent.resolve()
    assert known[root / "c.jpg"] == {"Make": len(MAKES), "Model": 2, "ExposureTime": 0}
    assert known[root / "d.jpg"] == {"Make": 1, "Model": 0}


def test_several_tables_rank_models_together(table, tmp_path):
    more = tmp_path / "more.csv"
    more.write_text("path,Model\n" + "".join(f"m{i}.jpg,NIKON D90\n" for i in range(3)), "utf-8")
    known = read_camera_tables([table, more])
    assert known[(tmp_path / "a.jpg").resolve()]["Model"] == 0
    assert known == read_camera_tables([more, table])


def test_an_image_without_any_setting_is_left_out(tmp_path):
    path = tmp_path / "exif.csv"
    path.write_text("path,FNumber\na.jpg,\nb.jpg,4\n", "utf-8")
    assert [image.name for image in read_camera_tables([path])] == ["b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "not encoded in UTF-8"),
        (b"", "has the columns none"),
        (b"image,FNumber\na.jpg,2\n", "expected path and EXIF tags"),
        (b"path,split\na.jpg,train\n", "expected path and EXIF tags"),
        (b"path,FNumber\n", "no rows"),
    ],
)
def test_broken_tables_are_named(tmp_path, content, message):
    path = tmp_path / "exif.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingDataError, match=message) as caught:
        read_camera_tables([path])
    assert "exif.csv" in str(caught.value)


def test_numbers_are_finite(table):
    for tags in read_camera_tables([table]).values():
        assert all(math.isfinite(value) for value in tags.values())
