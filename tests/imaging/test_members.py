"""Pictures in tar shards: found by path, read in any order, refused by name."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gammascope.data.laws import Mixture
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.errors import ImageTooLargeError, UndecodableImageError
from gammascope.imaging import codecs, storage
from gammascope.imaging.decode import Limits, decode
from gammascope.sample import Entry, Label

PNG = codecs.Encoding("png")


def write_shard(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path, photos) -> list[Path]:
    found = []
    for number, (name, photo) in enumerate(sorted(photos.items())[:2]):
        contents = {
            f"./a/{name}{part}.png": codecs.encode(photo[part:][:150, :150], PNG)
            for part in range(3)
        }
        found.append(write_shard(tmp_path / f"photos-{number:03}.tar", contents))
    return found


def test_members_are_read_in_any_order_as_files_are(shards, photos):
    listed = [path for shard in shards for path in storage.members_of(shard)]
    assert len(listed) == 6
    for path in reversed(listed):
        photo = photos[path.stem[:-1]]
        expected = photo[int(path.stem[-1]) :][:150, :150]
        np.testing.assert_array_equal(decode(path).image, expected)


def test_a_manifest_lists_members_and_a_stream_draws_from_them(shards, tmp_path):
    entries = [
        Entry(path, Label.REAL, split="train")
        for shard in shards
        for path in storage.members_of(shard)
    ]
    write_manifest(entries, tmp_path / "train.csv")
    found = read_manifest(tmp_path / "train.csv")
    assert [entry.path.resolve() for entry in found] == [e.path.resolve() for e in entries]
    pictures = Pictures(0)
    assert pictures.preload(entry.path for entry in found) == []
    assert Stream(found, pictures, 64, Mixture(copy_move=1.0))[3].pixels.shape == (64, 64, 3)


def test_a_folder_that_is_called_like_an_archive_stays_a_folder(tmp_path, photos):
    folder = tmp_path / "old.tar"
    folder.mkdir()
    (folder / "a.png").write_bytes(codecs.encode(photos["cat"][:20, :20], PNG))
    assert storage.archive_of(folder / "a.png") is None
    assert decode(folder / "a.png").image.shape == (20, 20, 3)


def test_what_cannot_be_read_is_named(shards, tmp_path):
    with pytest.raises(UndecodableImageError, match=r"has no member 'b\.png'"):
        decode(shards[0] / "b.png")
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"x" * 2000)
    with pytest.raises(UndecodableImageError, match="no plain tar archive"):
        decode(broken / "a.png")
    path = storage.members_of(shards[0])[-1]
    with pytest.raises(ImageTooLargeError):
        decode(path, Limits(max_bytes=1000))
    size = shards[0].stat().st_size
    with shards[0].open("r+b") as file:
        file.truncate(size // 3)
    with pytest.raises(UndecodableImageError):
        decode(path)


def test_a_rewritten_archive_is_read_anew(tmp_path, photos):
    first = write_shard(tmp_path / "a.tar", {"x.png": codecs.encode(photos["cat"][:9, :9], PNG)})
    assert decode(first / "x.png").image.shape == (9, 9, 3)
    write_shard(first, {"x.png": codecs.encode(photos["cat"][:12, :9], PNG), "y.png": b""})
    assert decode(first / "x.png").image.shape == (12, 9, 3)
