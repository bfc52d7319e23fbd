"""Scoring real files with a detector whose answers are known, and the table that comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image as PillowImage

from gammascope.errors import MissingDataError
from gammascope.evaluation.score_table import ScoreTable
from gammascope.evaluation.scoring import score
from gammascope.sample import Entry, Image, Label, Sample


@dataclass(frozen=True)
class Known:
    answers: Mapping[str, float]
    maps: Mapping[str, np.ndarray]


def brightness(sample: Sample) -> Known:
    """Bright images and pixels are called fake: enough to know every number beforehand."""
    light = sample.image.mean(axis=2) / 255.0
    return Known({"generated": float(light.mean()) - 0.5}, {"edited": light.astype(np.float32)})


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    photo = skimage.data.astronaut()[:64, :80]
    dark, patched = np.zeros_like(photo), np.zeros_like(photo)
    patched[10:20, 10:30] = 255
    mask = patched[..., 0]
    mask_path = tmp_path / "mask.png"
    PillowImage.fromarray(mask).save(mask_path)
    PillowImage.fromarray(dark).save(tmp_path / "real.png")
    PillowImage.fromarray(patched).save(tmp_path / "edited.webp", lossless=True)
    PillowImage.fromarray(photo).save(tmp_path / "photo.jpg", quality=90)
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:300])
    return [
        Entry(tmp_path / "real.png", Label.REAL, source="studio"),
        Entry(
            tmp_path / "edited.webp", Label.FAKE, kind="splicing", edited_path=mask_path, split="a"
        ),
        Entry(tmp_path / "photo.jpg", Label.FAKE, generator="sd-1.4"),
        Entry(tmp_path / "broken.jpg", Label.REAL),
        Entry(tmp_path / "gone.jpg", Label.REAL),
    ]


def test_one_row_per_image_in_order_with_numbers_that_can_be_counted_by_hand(entries: Any) -> None:
    seen: list[tuple[int, int]] = []
    table = score(brightness, entries, progress=lambda done, every: seen.append((done, every)))
    assert table["path"].tolist() == [str(entry.path) for entry in entries]
    assert seen == [(at, 5) for at in range(1, 6)]
    assert table["label"].tolist() == [0, 1, 1, 0, 0]
    assert table["format"][:3].tolist() == ["png", "webp", "jpeg"]
    assert (table["width"][0], table["height"][0]) == (80, 64)
    assert table["logit_generated"][0] == -0.5
    assert table.questions == ("generated",)
    pixels = table.pixels("edited")
    assert (pixels.tp[1], pixels.fp[1], pixels.fn[1]) == (200, 0, 0)
    assert pixels.tn[0] == 64 * 80  # a real photo is edited nowhere
    assert pixels.tp[2] == 0  # nothing of a generated image was in a host photo


def test_broken_and_missing_files_are_listed_and_do_not_stop_the_rest(entries: Any) -> None:
    table = score(brightness, entries)
    assert [Path(path).name for path, _ in table.failures] == ["broken.jpg", "gone.jpg"]
    assert all("jpg" in error for _, error in table.failures)
    assert np.isnan(table["logit_generated"][3:]).all()


def test_nothing_that_can_be_scored_is_an_error_with_its_cause(entries: Any) -> None:
    with pytest.raises(MissingDataError, match=r"None of 2 images.*broken"):
        score(brightness, entries[3:])
    with pytest.raises(MissingDataError, match="empty"):
        score(brightness, [])


def test_a_fault_of_the_detector_is_not_mistaken_for_a_broken_file(entries: Any) -> None:
    def faulty(sample: Sample) -> Known:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        score(faulty, entries)


def test_recoding_changes_what_the_detector_sees_and_not_the_ground_truth(entries: Any) -> None:
    def inverted(image: Image) -> Image:
        return 255 - image

    table = score(brightness, entries[:2], recode=inverted)
    assert table["logit_generated"][0] == 0.5
    assert table.pixels("edited").fn[1] == 200
    with pytest.raises(ValueError, match="keep the size"):
        score(brightness, entries[:2], recode=lambda image: image[:10])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_survives_being_written_and_read(entries: Any, tmp_path: Any, suffix: Any) -> None:
    odd = dataclasses.replace(entries[0], source='a "quoted", name\nof two lines')
    table = score(brightness, [odd, *entries])
    path = tmp_path / "new folder" / f"scores.{suffix}"
    (table.to_csv if suffix == "csv" else table.to_parquet)(path)
    back = ScoreTable.read(path)
    assert list(back.columns) == list(table.columns)
    for name, column in table.columns.items():
        assert back[name].dtype.kind == column.dtype.kind
        np.testing.assert_array_equal(back[name], column, err_msg=name)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_what_is_no_score_table_is_refused(tmp_path: Any) -> None:
    with pytest.raises(MissingDataError, match="No score table at"):
        ScoreTable.read(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    for text, message in [
        ("path,score\na,1\n", "no column 'label'"),
        ("", "no column 'path'"),
        ("path,label,error\na,b\n", "differ in length"),
        ("path,label,error\na,high,\n", "invalid literal"),
    ]:
        other.write_text(text)
        with pytest.raises(MissingDataError, match=message):
            ScoreTable.read(other)


def test_columns_are_checked() -> None:
    table = ScoreTable({"path": np.array(["a"]), "label": np.array([1])})
    assert len(table) == 1
    assert len(table.where(table["label"] == 0)) == 0
    with pytest.raises(MissingDataError, match=r"no column 'logit_edited'; it has path, label"):
        table["logit_edited"]
    with pytest.raises(ValueError, match="different lengths"):
        ScoreTable({"path": np.array(["a"]), "label": np.array([1, 0])})
