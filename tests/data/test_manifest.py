"""Manifests: what they say, what they refuse, and how rows become samples."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import skimage.data
from PIL import Image as PillowImage

from gammascope.data.manifest import (
    load_mask,
    load_sample,
    mask_where,
    read_manifest,
    write_manifest,
)
from gammascope.errors import MissingDataError, UndecodableImageError
from gammascope.imaging.storage import cell
from gammascope.sample import Entry, Label, Origin


def written(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("word", "label", "kind"),
    [
        ("real", Label.REAL, None),
        ("Nature", Label.REAL, None),
        ("0", Label.REAL, None),
        ("FAKE", Label.FAKE, None),
        ("ai", Label.FAKE, None),
        ("1", Label.FAKE, None),
        ("manipulated", Label.FAKE, "manipulated"),
    ],
)
def test_the_usual_words_for_labels_are_understood(
    tmp_path: Any, word: Any, label: Any, kind: Any
) -> None:
    (entry,) = read_manifest(written(tmp_path, f"path,label\na.jpg,{word}\n"))
    assert (entry.path, entry.label, entry.kind) == (tmp_path / "a.jpg", label, kind)
    assert (entry.generator, entry.source, entry.split) == (None, None, "test")


def test_all_columns_are_read_and_others_ignored(tmp_path: Any) -> None:
    path = written(
        tmp_path,
        "\ufeffpath,label,generator,kind,source,split,generated_mask,edited_mask,host,"
        "object_masks,licence\n"
        '"a, b.png",fake,sd-1.4,splicing,coco,val,g.png,e.png,h.jpg,o/1.png;o/2.png,CC0\n',
    )
    assert read_manifest(path) == [
        Entry(
            path=tmp_path / "a, b.png",
            label=Label.FAKE,
            generator="sd-1.4",
            kind="splicing",
            source="coco",
            split="val",
            generated_path=tmp_path / "g.png",
            edited_path=tmp_path / "e.png",
            host_path=tmp_path / "h.jpg",
            object_paths=(tmp_path / "o/1.png", tmp_path / "o/2.png"),
        )
    ]


def test_a_manipulated_image_with_a_generator_is_inpainted(tmp_path: Any) -> None:
    text = "path,label,generator,edited_mask\na.png,manipulated,lama,\nb.png,fake,,m.png\n"
    inpainted, masked = read_manifest(written(tmp_path, text))
    assert inpainted.kind == "inpainting"
    assert masked.kind == "manipulated"  # a mask of a part: it was not generated as a whole


def test_masks_beside_the_manifest_are_attached(tmp_path: Any) -> None:
    path = written(
        tmp_path, "path,label,generator\nx/a.jpg,real,\nx/b.jpg,manipulated,sd\nc.jpg,tampered,\n"
    )
    written(
        tmp_path,
        "mask_path,image_path,kind\nm/1.png,x/a.jpg,object\nm/2.png,./x/a.jpg,object\n"
        "m/3.png,x/b.jpg,manipulation\nm/4.png,c.jpg,manipulation\nm/5.png,elsewhere.jpg,object\n",
        "masks.csv",
    )
    photo, inpainted, tampered = read_manifest(path)
    assert photo.object_paths == (tmp_path / "m/1.png", tmp_path / "m/2.png")
    assert inpainted.edited_path == inpainted.generated_path == tmp_path / "m/3.png"
    assert (tampered.edited_path, tampered.generated_path) == (tmp_path / "m/4.png", None)


def test_a_split_is_selected_and_a_wrong_one_answered_with_those_there(tmp_path: Any) -> None:
    path = written(tmp_path, "path,label,split\na,real,train\nb,real,dev\nc,fake,dev\n")
    assert [entry.path.name for entry in read_manifest(path, "dev")] == ["b", "c"]
    with pytest.raises(MissingDataError, match=r"Did you mean 'train'\? Known: dev \(2\), train"):
        read_manifest(path, "trian")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,real\nb,rael\n", r"row 3: label 'rael' .*Did you mean 'real'"),
        ("path,label\n,real\n", "row 2: the path is empty"),
        ("path,lable\na,real\n", "no column 'label'.*Did you mean 'lable'"),
        ("", "no column 'path'.*Found: nothing"),
        ("path,label\n", "lists no image"),
        ("path,label\na,b,real\n", "row 2: more values"),
    ],
)
def test_a_faulty_manifest_is_refused_with_the_place_and_the_value(
    tmp_path: Any, text: Any, message: Any
) -> None:
    with pytest.raises(MissingDataError, match=message):
        read_manifest(written(tmp_path, text))


def test_a_missing_manifest_and_faulty_masks_are_refused(tmp_path: Any) -> None:
    with pytest.raises(MissingDataError, match=r"No table at .*none\.csv"):
        read_manifest(tmp_path / "none.csv")
    path = written(tmp_path, "path,label\na,manipulated\n")
    for rows, message in [
        ("m,a,objekt", "row 2: kind 'objekt'"),
        ("m,a,manipulation\nn,a,manipulation", "row 3: a second manipulation mask"),
    ]:
        written(tmp_path, f"mask_path,image_path,kind\n{rows}\n", "masks.csv")
        with pytest.raises(MissingDataError, match=message):
            read_manifest(path)


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_manifest_survives_being_written_and_read(tmp_path: Any, name: Any) -> None:
    entries = [
        Entry(tmp_path / "photos" / 'odd, "name".jpg', Label.REAL, source="\u00e9t\u00e9"),
        Entry(tmp_path.parent / "up.png", Label.FAKE, generator="g", split="val"),
        Entry(
            tmp_path / "c.png",
            Label.FAKE,
            kind="copy_move",
            edited_path=tmp_path / "m.png",
            host_path=tmp_path / "h.png",
            object_paths=(tmp_path / "o.png", tmp_path / "p.png"),
        ),
    ]
    path = tmp_path / "lists" / name
    write_manifest(entries, path)
    assert read_manifest(path) == entries
    write_manifest(entries[:1], path)
    assert read_manifest(path) == entries[:1]
    assert [item.name for item in path.parent.iterdir()] == [name]


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path: Any) -> None:
    path = tmp_path / "list.csv"
    write_manifest([Entry(tmp_path / "a.png", Label.REAL)], path)
    before = path.read_bytes()
    odd = Entry(tmp_path / "b.png", Label.REAL, object_paths=(tmp_path / "o;1.png",))
    with pytest.raises(MissingDataError, match="rename it"):
        write_manifest([odd], path)
    with pytest.raises(MissingDataError, match="empty"):
        write_manifest([], path)
    assert path.read_bytes() == before


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    PillowImage.fromarray(skimage.data.chelsea()[:60, :90]).save(path)
    return path


@pytest.mark.parametrize(
    ("entry", "generated", "edited"),
    [
        ({"label": Label.REAL}, 0.0, 0.0),
        ({"label": Label.FAKE, "generator": "sd"}, 1.0, 0.0),
        ({"label": Label.FAKE, "kind": "copy_move"}, 0.0, None),
        ({"label": Label.FAKE, "kind": "splicing", "generator": "sd"}, None, None),
        ({"label": Label.FAKE, "kind": "inpainting", "generator": "sd"}, None, None),
    ],
)
def test_ground_truth_that_follows_from_the_label_needs_no_file(
    photo: Any, entry: Any, generated: Any, edited: Any
) -> None:
    sample = load_sample(Entry(photo, **entry))
    assert sample.image.shape == (60, 90, 3)
    for mask, share in ((sample.generated, generated), (sample.edited, edited)):
        assert (None if mask is None else mask.mean()) == share


def test_masks_are_loaded_from_their_files(photo: Any, tmp_path: Any) -> None:
    mask = np.zeros((60, 90), dtype=np.bool_)
    mask[5:20, 7:30] = True
    PillowImage.fromarray(mask).save(tmp_path / "mask.png")
    path = tmp_path / "mask.png"
    sample = load_sample(
        Entry(photo, Label.FAKE, kind="inpainting", generated_path=path, edited_path=path)
    )
    np.testing.assert_array_equal(sample.generated, mask)
    np.testing.assert_array_equal(sample.edited, mask)


@pytest.mark.parametrize("form", ["bits", "zero_one", "grey", "colour", "sixteen", "palette"])
def test_a_mask_means_the_same_however_it_is_stored(tmp_path: Any, form: Any) -> None:
    mask = np.zeros((8, 9), dtype=np.bool_)
    mask[2:5, 3:6] = True
    grey = PillowImage.fromarray(mask.astype(np.uint8) * 255)
    made = {
        "bits": PillowImage.fromarray(mask),
        "zero_one": PillowImage.fromarray(mask.astype(np.uint8)),
        "grey": grey,
        "colour": grey.convert("RGBA"),
        "sixteen": PillowImage.fromarray(mask.astype(np.uint16) * 65535),
        "palette": grey.convert("P"),
    }[form]
    made.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png", (8, 9)), mask)


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1)])
def test_a_mask_may_be_true_where_it_is_dark(tmp_path: Any, low: int, high: int) -> None:
    mask = np.zeros((8, 9), dtype=bool)
    mask[2:5, 3:] = True
    PillowImage.fromarray(np.where(mask, low, high).astype(np.uint8)).save(tmp_path / "m.png")
    loaded = load_mask(mask_where(tmp_path / "m.png", "dark"), (8, 9))
    np.testing.assert_array_equal(loaded, mask)


def test_a_mask_may_be_true_where_it_is_green(tmp_path: Any) -> None:
    mask = np.zeros((8, 16), dtype=bool)
    mask[:, 8:] = True
    colours = np.zeros((8, 16, 3), dtype=np.uint8)
    colours[mask, 1] = colours[~mask, 0] = 255
    PillowImage.fromarray(colours).save(tmp_path / "m.jpg", quality=95, subsampling=0)
    loaded = load_mask(mask_where(tmp_path / "m.jpg", "green"), (8, 16))
    np.testing.assert_array_equal(loaded, mask)


def test_a_file_called_dark_is_a_mask_like_any_other(tmp_path: Any) -> None:
    PillowImage.new("L", (9, 8), 255).save(tmp_path / "dark", format="PNG")
    assert load_mask(tmp_path / "dark", (8, 9)).all()


def test_a_dark_mask_that_is_not_there_or_is_none_is_named(tmp_path: Any) -> None:
    with pytest.raises(MissingDataError, match=r"No mask at .*m\.png:"):
        load_mask(mask_where(tmp_path / "m.png", "dark"), (8, 9))
    PillowImage.new("L", (9, 8), 21).save(tmp_path / "m.png")
    with pytest.raises(MissingDataError, match="values up to 21"):
        load_mask(mask_where(tmp_path / "m.png", "dark"), (8, 9))


def test_a_mask_may_lie_in_a_table(tmp_path: Any) -> None:
    sink = io.BytesIO()
    PillowImage.new("L", (9, 8), 255).save(sink, "PNG")
    rows = [{"mask": {"bytes": sink.getvalue(), "path": None}}, {"mask": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert load_mask(cell(tmp_path / "t.parquet", 0, "mask"), (8, 9)).all()
    assert not load_mask(mask_where(cell(tmp_path / "t.parquet", 0, "mask"), "dark"), (8, 9)).any()
    with pytest.raises(MissingDataError, match=r"row 1 of t\.parquet holds no image"):
        load_mask(cell(tmp_path / "t.parquet", 1, "mask"), (8, 9))


def test_a_mask_that_would_falsify_the_ground_truth_is_refused(photo: Any, tmp_path: Any) -> None:
    small, dark, broken = (tmp_path / name for name in ("small.png", "dark.png", "broken.png"))
    PillowImage.new("L", (90, 61)).save(small)
    PillowImage.new("L", (90, 60), 21).save(dark)
    broken.write_text("no image")
    for path, message in [
        (small, "90x61 pixels and its image 90x60"),
        (dark, "values up to 21: expected 0 and 255"),
        (broken, "cannot be read as an image"),
        (tmp_path / "gone.png", "No mask at"),
    ]:
        with pytest.raises(MissingDataError, match=message):
            load_sample(Entry(photo, Label.FAKE, kind="manipulated", edited_path=path))
    PillowImage.new("L", (90, 60)).save(small)
    assert not load_mask(small, (60, 90)).any()  # nothing marked is a statement too


def test_an_image_that_is_not_there_is_named(tmp_path: Any) -> None:
    with pytest.raises(UndecodableImageError, match=r"gone\.jpg"):
        load_sample(Entry(tmp_path / "gone.jpg", Label.REAL))


def test_how_a_picture_was_made_is_read_as_it_was_written(tmp_path: Any) -> None:
    origins = [
        Origin("actgen", "dog", 3, "7", strength=0.375),
        Origin("actgen", "", 3, "8", guided=True),
        Origin("interventions", style="dusk"),
        None,
    ]
    entries = [
        Entry(tmp_path / f"{number}.png", Label.FAKE, origin=origin)
        for number, origin in enumerate(origins)
    ]
    for name in ("m.csv", "m.parquet"):
        write_manifest(entries, tmp_path / name)
        assert [entry.origin for entry in read_manifest(tmp_path / name)] == origins
    (odd,) = read_manifest(written(tmp_path, "path,label,strength\na.png,fake,strong\n"))
    assert odd.origin is None
