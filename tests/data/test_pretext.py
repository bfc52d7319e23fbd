"""Pretext views: photos with settings only, untouched pixels, the same ones every time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gammascope.data.batches import Collate
from gammascope.data.camera import PretextStream
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.detectors import blades
from gammascope.errors import MissingDataError
from gammascope.imaging import codecs
from gammascope.imaging.views import ViewSpec
from gammascope.sample import Entry, Label


@pytest.fixture
def entries(collection):
    return read_manifest(collection)


def stream_of(entries, size: int = 32, **options) -> PretextStream:
    photos = [entry for entry in entries if entry.label is Label.REAL]
    settings = {photos[0].path.resolve(): {"FNumber": 2.8}, photos[1].path.resolve(): {"Make": 1.0}}
    fakes = {entry.path.resolve(): {"FNumber": 9.0} for entry in entries if entry not in photos}
    return PretextStream(entries, Pictures(10**9), size, settings | fakes, **options)


def test_only_photos_with_settings_are_drawn(entries):
    stream = stream_of(entries)
    assert len(stream.photos) == 2
    drawn = [stream[index] for index in range(40)]
    assert {tuple(view.tags.items()) for view in drawn} == {(("FNumber", 2.8),), (("Make", 1.0),)}
    assert not any(view.contains_generated or view.was_edited for view in drawn)


def test_pixels_are_those_of_the_photo(entries):
    stream = stream_of(entries)
    view = stream[3]
    source = next(p for p in stream.photos if p.source == view.source)
    windows = np.lib.stride_tricks.sliding_window_view(
        stream.pictures.image(source.path), (32, 32, 3)
    )[:, :, 0]
    assert (windows == view.pixels).all((2, 3, 4)).any()


def test_a_view_depends_on_seed_and_number_alone(entries):
    one, other = stream_of(entries, seed=1), stream_of(entries, seed=1)
    other[5]
    assert np.array_equal(one[9].pixels, other[9].pixels)
    assert not np.array_equal(one[9].pixels, stream_of(entries, seed=2)[9].pixels)


def test_photos_smaller_than_a_view_are_mirrored(entries):
    assert stream_of(entries, size=700)[0].pixels.shape == (700, 700, 3)


def test_a_detector_that_squeezes_sees_whole_photos(entries):
    stream = stream_of(entries, fit="resize")
    for index in range(8):
        view = stream[index].pixels
        source = next(p for p in stream.photos if p.source == stream[index].source)
        photo = stream.pictures.image(source.path)
        corners = [photo[0, 0], photo[0, -1], photo[-1, 0], photo[-1, -1]]
        shown = [view[0, 0], view[0, -1], view[-1, 0], view[-1, -1]]
        assert np.abs(np.subtract(shown, corners, dtype=int)).mean() < 30


def test_faces_are_resized_and_never_cropped(tmp_path):
    """A face of 128 pixels fills a view of 224, where regions lie at fixed shares; its rim is not mirrored."""
    columns = np.linspace(0, 255, 128).astype(np.uint8)
    face = np.ascontiguousarray(np.repeat(np.repeat(columns[None, :, None], 128, 0), 3, 2))
    path = tmp_path / "face.png"
    path.write_bytes(codecs.encode(face, codecs.Encoding("png")))
    photo = Entry(path, Label.REAL, source="faces")
    known = {path.resolve(): {"FNumber": 2.8}}
    how = {"change": blades.perhaps_edited, "fit": "resize"}
    stream = PretextStream([photo], Pictures(10**9), 224, known, **how)
    untouched = [v for n in range(40) if not (v := stream[n]).tags["manipulated"]]
    assert 10 < len(untouched) < 30
    for view in untouched:
        row = view.pixels[112, :, 0].astype(int)
        assert (np.diff(row) >= -1).all(), "from left to right, once"
        assert row[0] < 3
        assert row[-1] > 252
    edited = next(v for n in range(40) if (v := stream[n]).tags["manipulated"])
    assert any(edited.tags[region] for region in blades.FINE)


def test_a_batch_knows_what_is_not_known(entries):
    stream = stream_of(entries)
    batch = Collate(ViewSpec(32, "tiles"))([stream[index] for index in range(16)])
    assert set(batch.tags) == {"FNumber", "Make"}
    assert batch.tags["FNumber"].dtype == torch.float32
    for aperture, make in zip(
        batch.tags["FNumber"].tolist(), batch.tags["Make"].tolist(), strict=True
    ):
        assert math.isnan(aperture) != math.isnan(make)
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.tags["Make"].isnan(), batch.tags["Make"].isnan())


def test_no_photo_with_settings_is_missing_data(entries):
    with pytest.raises(MissingDataError, match="do the tables and the manifest name the same"):
        PretextStream(entries, Pictures(10**9), 32, {})
