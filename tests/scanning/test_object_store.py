"""Scans from and into an S3-compatible store, and training on shards that lie there: moto's server, over a socket."""

# ruff: noqa: F811 - fixtures of other files are imported, and named as arguments

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.scanning.test_bulk import (  # noqa: F401 - fixtures
    by_name,
    contents,
    pipeline,
    scanned,
    weights,
    write,
    write_tar,
)
from tests.training.test_streaming import packed, recipe, same_weights  # noqa: F401 - fixtures
from typer.testing import CliRunner

from gammascope.cli.app import app as command_line

moto = pytest.importorskip("moto.server", reason="moto is not installed")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(moto|botocore|aiobotocore|boto3|s3fs)"),
]


@pytest.fixture(scope="module")
def endpoint():
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint, monkeypatch, tmp_path):
    """A file system with an empty bucket; processes and threads of ours find it through the environment alone."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache of the user"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    filesystem = s3fs.S3FileSystem()
    filesystem.mkdir("bucket")
    yield filesystem
    filesystem.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def sent(store, contents, folder="bucket/in") -> None:
    for name, content in contents.items():
        store.pipe_file(f"{folder}/{name}", content)


def test_a_scan_of_a_store_finds_what_one_of_the_disk_finds(store, contents, pipeline, tmp_path):
    write(tmp_path / "in", contents)
    write_tar(tmp_path / "shard.tar", contents)
    (tmp_path / "list.csv").write_text("path\n" + "".join(f"in/{name}\n" for name in contents))
    sent(store, contents)
    for name in ("shard.tar", "list.csv"):
        store.put_file(str(tmp_path / name), f"bucket/{name}")
    expected = scanned(tmp_path / "near", pipeline, tmp_path / "in")
    for number, source in enumerate(("in", "in/*", "list.csv", "shard.tar")):
        assert scanned(tmp_path / f"far {number}", pipeline, f"s3://bucket/{source}") == expected


def scan(*arguments: str) -> Any:
    return CliRunner().invoke(command_line, ["scan", "--quiet", *map(str, arguments)])


def test_rows_go_into_the_store_once_all_are_there(store, contents, weights, tmp_path):
    sent(store, contents)
    command = ("s3://bucket/in", "--out", "s3://bucket/rows/of a day/", "--weights", weights)
    done = scan(*command)
    assert done.exit_code == 4, done.output  # two files are broken
    assert "Rows: s3://bucket/rows/of a day/" in done.output
    (part,) = store.ls("bucket/rows/of a day", refresh=True)
    (tmp_path / "copied").mkdir()
    store.get_file(part, str(tmp_path / "copied" / "rows.parquet"))
    near = scan("s3://bucket/in", "--out", tmp_path / "near", "--weights", weights)
    assert near.exit_code == 4
    assert by_name(tmp_path / "copied") == by_name(tmp_path / "near")
    store.rm_file(part)
    assert scan(*command).exit_code == 4, "the same command copies what was found"
    assert store.ls("bucket/rows/of a day", refresh=True) == [part]


def test_rows_of_another_machine_are_not_mixed_with_ours(store, contents, weights, monkeypatch):
    sent(store, contents)
    command = ("s3://bucket/in", "--out", "s3://bucket/rows", "--weights", weights)
    assert scan(*command).exit_code == 4
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["XDG_CACHE_HOME"] + " of another")
    refused = scan(*command)
    assert refused.exit_code == 2
    assert "s3://bucket/rows holds rows of another scan" in refused.output


def test_a_store_that_cannot_be_reached_is_told_in_one_line(store, weights, tmp_path, monkeypatch):
    picture = Path(__file__).parents[2] / "examples" / "pictures" / "coffee_untouched.jpg"
    missing = scan(picture, "--out", "s3://no-bucket/rows", "--weights", weights)
    assert missing.exit_code == 3
    assert "s3://no-bucket/rows cannot be written to" in missing.output
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    for command in (
        ("s3://bucket/in", "--out", tmp_path / "rows"),
        (picture, "--out", "s3://bucket/rows"),
    ):
        refused = scan(*command, "--weights", weights)
        assert refused.exit_code == 3, refused.output
        assert "NoCredentialsError" in refused.output
        assert "report it" not in refused.output


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_shards_of_a_store_is_training_on_a_disk(
    workers, store, recipe, packed, tmp_path
):
    from gammascope.training.loop import train
    from gammascope.training.recipe import Streaming

    for shard in packed.parent.glob("*.tar"):
        store.put_file(str(shard), f"bucket/set/{shard.name}")
    near = replace(recipe.data, manifests=(str(packed),), streaming=Streaming())
    expected = train(replace(recipe, data=near), tmp_path / "near")
    far = replace(recipe.data.streaming, source="s3://bucket/set", shards=5)
    data = replace(recipe.data, streaming=far, workers=workers)
    streamed = train(replace(recipe, data=data), tmp_path / "far")
    assert same_weights(streamed, expected)
