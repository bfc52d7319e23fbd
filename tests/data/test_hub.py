"""Datasets that are streamed: a local one, in the files that Hugging Face keeps them in."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from gammascope.data.hub import HubImages, Name, stream
from gammascope.errors import MissingDataError, MissingExtraError, RecipeError
from gammascope.sample import Label

datasets = pytest.importorskip("datasets")

ROWS = 9


def picture(number: int) -> bytes:
    made = io.BytesIO()
    PillowImage.fromarray(np.full((16, 20, 3), 20 * number, np.uint8)).save(made, "jpeg")
    return made.getvalue()


def written(folder, names=("ai", "human"), image="image", **more):
    """Write a dataset of two tables whose row 4 is broken and row 6 is empty; its first class is the fakes."""
    data: list[Any] = [{"bytes": picture(at), "path": f"{at}.jpg"} for at in range(ROWS)]
    data[4]["bytes"], data[6] = b"no picture", None
    features = {
        image: datasets.Image(decode=False),
        "label": datasets.ClassLabel(names=list(names)),
    }
    columns = {image: data, "label": [at % 2 for at in range(ROWS)], "model": ["sd-1.4"] * ROWS}
    features |= {"model": datasets.Value("string")} | {key: datasets.Value("int64") for key in more}
    made = datasets.Dataset.from_dict(columns | more, features=datasets.Features(features))
    made = made.cast_column(image, datasets.Image())
    (folder / "data").mkdir(parents=True)
    for at, rows in enumerate((range(5), range(5, ROWS))):
        made.select(rows).to_parquet(folder / "data" / f"test-{at:05d}-of-00002.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("hub") / "faces")


def test_names():
    assert Name.parse("hf:owner/name@abc:core:test") == Name("owner/name", "core", "test", "abc")
    assert Name.parse("hf:owner/name", "dev") == Name("owner/name", None, "dev", None)
    assert str(Name.parse("hf:owner/name@abc:core:test")) == "hf:owner/name@abc:core:test"
    for wrong in ("hf:", "hf:a:b:c:d"):
        with pytest.raises(RecipeError, match="expected hf:owner/name"):
            Name.parse(wrong)
    with pytest.raises(RecipeError, match="name one"):
        Name.parse("hf:owner/name::test", "train")


def test_images_are_listed_with_the_labels_that_the_classes_name(folder):
    images = stream(Name.parse(f"hf:{folder}"))
    assert isinstance(images, HubImages)
    assert [int(entry.label) for entry in images] == [1, 0] * 4 + [1]  # class 0 is "ai"
    assert images.assumption == "4 real and 5 fake (column 'label': ai = fake; human = real)"
    assert images[0].generator == "sd-1.4"
    assert images[1].generator is None
    assert images.name.split == "test"
    assert images[7].path.name == "00000007"


def test_contents_come_in_order_from_any_row_on_and_broken_ones_stay_in_their_place(folder):
    images = stream(Name.parse(f"hf:{folder}"))
    expected = [picture(at) for at in range(ROWS)]
    expected[4], expected[6] = b"no picture", b""
    assert list(images.contents(range(ROWS))) == expected
    assert list(images.contents(range(3, 8))) == expected[3:8]
    assert list(images.reals(2)) == [expected[1], expected[3]]
    assert all(entry.label is Label.REAL for entry in (images[1], images[3]))
    first = stream(Name.parse(f"hf:{folder}"), limit=3)
    assert list(first.contents(range(3))) == expected[:3]
    with pytest.raises(MissingDataError, match="ends before row 3"):
        list(first.contents(range(5)))


def test_what_cannot_be_told_is_asked_for(folder, tmp_path, monkeypatch):
    with pytest.raises(MissingDataError, match=r"no split 'tset'\. Did you mean 'test'"):
        stream(Name.parse(f"hf:{folder}", "tset"))
    with pytest.raises(MissingDataError, match=r"no column 'picture'.*It has image, label, model"):
        stream(Name.parse(f"hf:{folder}"), image="picture")
    with pytest.raises(MissingDataError, match="cannot be read"):
        stream(Name.parse(f"hf:{tmp_path / 'none'}"))
    unclear = written(tmp_path / "unclear", names=("cats", "dogs"))
    with pytest.raises(MissingDataError, match="class 'cats' is real or fake"):
        stream(Name.parse(f"hf:{unclear}"))
    hidden = written(tmp_path / "hidden", image="photo", is_fake=[-1] * ROWS)
    with pytest.raises(MissingDataError, match="row 0: is_fake -1 is not understood"):
        list(stream(Name.parse(f"hf:{hidden}"), label="is_fake"))
    other = written(tmp_path / "other", image="photo", is_fake=[1] * ROWS)
    images = stream(Name.parse(f"hf:{other}"), label="is_fake")
    assert {entry.label for entry in images} == {Label.FAKE}
    assert next(images.contents(range(1))) == picture(0)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MissingExtraError, match=r"needs datasets: in your clone, pip install '\.\[hub\]'"
    ):
        stream(Name.parse(f"hf:{folder}"))


def test_a_class_for_partly_edited_pictures_is_not_taken_for_wholly_generated(tmp_path):
    images = stream(
        Name.parse(f"hf:{written(tmp_path / 'edits', names=('authentic', 'tampered'))}")
    )
    assert {(entry.label, entry.kind) for entry in images} == {
        (Label.REAL, None),
        (Label.FAKE, "manipulated"),
    }
