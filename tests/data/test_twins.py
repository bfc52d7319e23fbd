"""Twins: one per photo, aligned with it, reproducible, and never another photo's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.data.twins import TwinLaw, make_twins
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.sample import Entry, Label


class Pooling:
    """The cheapest autoencoder: means of 4 x 4 pixels, and back."""

    stride = 4
    device = torch.device("cpu")

    def encode(self, pixels: Tensor) -> Tensor:
        return functional.avg_pool2d(pixels, 4)

    def decode(self, latent: Tensor) -> Tensor:
        return functional.interpolate(latent.float(), scale_factor=4, mode="bilinear").clamp(0, 1)


def photo_at(path: Path, image: np.ndarray, **facts) -> Entry:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(codecs.encode(np.ascontiguousarray(image), codecs.Encoding("jpeg", 95)))
    return Entry(path, Label.REAL, split="train", **facts)


@pytest.fixture
def pair(photos, tmp_path) -> list[Entry]:
    return [
        photo_at(tmp_path / "in" / "cat.jpg", photos["cat"][:70, :90], source="home"),
        photo_at(tmp_path / "in" / "cup.jpg", photos["coffee"][:64, :64], source="bar", panels=2),
    ]


def test_a_twin_shows_its_photo_pixel_by_pixel(pair, tmp_path):
    twins = make_twins(pair, Pooling(), tmp_path / "out", generator="pooling")
    assert [twin.path for twin in twins] == [
        tmp_path / "out" / "home" / "cat.png",
        tmp_path / "out" / "bar" / "cup.png",
    ]
    for photo, twin in zip(pair, twins, strict=True):
        one, other = (decode(entry.path).image.astype(float) for entry in (photo, twin))
        assert one.shape == other.shape
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9
        shifted = np.corrcoef(one[:, 8:].ravel(), other[:, :-8].ravel())[0, 1]
        assert shifted < np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert not np.array_equal(one, other)


def test_a_twin_names_its_photo_and_shares_its_source(pair, tmp_path):
    twins = make_twins(pair, Pooling(), tmp_path / "out", generator="pooling")
    for photo, twin in zip(pair, twins, strict=True):
        assert twin.label is Label.FAKE
        assert twin.kind is None
        assert twin.generator == "pooling"
        assert twin.host_path == photo.path
        assert (twin.source, twin.split, twin.panels) == (photo.source, photo.split, photo.panels)
    manifest = tmp_path / "out" / "twins.csv"
    write_manifest(twins, manifest)
    assert read_manifest(manifest) == twins


def test_twins_do_not_depend_on_order_or_company(pair, tmp_path):
    there = make_twins(pair, Pooling(), tmp_path / "a", generator="g")
    back = make_twins(pair[::-1], Pooling(), tmp_path / "b", generator="g")
    for one, other in zip(there, reversed(back), strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


def test_an_interrupted_run_goes_on(pair, tmp_path):
    first = make_twins(pair[:1], Pooling(), tmp_path / "out", generator="g")[0]
    first.path.write_bytes(b"kept")
    counted: list[int] = []
    twins = make_twins(
        pair, Pooling(), tmp_path / "out", generator="g", progress=lambda: counted.append(1)
    )
    assert [twin.path.name for twin in twins] == ["cat.png", "cup.png"]
    assert first.path.read_bytes() == b"kept"
    assert len(counted) == 2
    assert not list((tmp_path / "out").rglob("*.part"))


def test_two_photos_of_one_name_have_two_twins(photos, tmp_path):
    """Cameras call everything IMG_0001: a twin of another photo would teach nonsense."""
    same_name = [
        photo_at(tmp_path / place / "IMG_0001.jpg", photos[place][:64, :64], source="camera")
        for place in ("cat", "coffee", "rocket")
    ]
    twins = make_twins(same_name, Pooling(), tmp_path / "out", generator="g")
    assert len({twin.path for twin in twins}) == 3
    for photo, twin in zip(same_name, twins, strict=True):
        one, other = (decode(entry.path).image.astype(float) for entry in (photo, twin))
        assert np.abs(one - other).mean() < 25
    again = make_twins(same_name, Pooling(), tmp_path / "out", generator="g")
    assert again == twins


def test_a_broken_photo_is_left_out(pair, tmp_path):
    pair[0].path.write_bytes(b"no image")
    counted: list[int] = []
    twins = make_twins(
        pair, Pooling(), tmp_path / "out", generator="g", progress=lambda: counted.append(1)
    )
    assert [twin.path.name for twin in twins] == ["cup.png"]
    assert len(counted) == 2


def test_the_law_varies_what_is_learnt(photos):
    law = TwinLaw()
    photo = np.ascontiguousarray(photos["cat"][:64, :64])
    made = [law(photo, Pooling(), np.random.default_rng(seed)) for seed in range(12)]
    assert all(twin.shape == photo.shape and twin.dtype == np.uint8 for twin in made)
    assert len({twin.tobytes() for twin in made}) > 4
    plain = TwinLaw(rescaled=0.0, noised=0.0, half_precision=0.0)
    same = [plain(photo, Pooling(), np.random.default_rng(seed)) for seed in range(3)]
    assert len({twin.tobytes() for twin in same}) == 1
