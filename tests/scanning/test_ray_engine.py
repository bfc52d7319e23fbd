"""The same scan on a cluster of two machines' stead, one of which dies: exactly the rows of the local engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import torch

from gammascope import checkpoints, settings
from gammascope.detection import export
from gammascope.detection.pipeline import Besides, Execution, Pipeline
from gammascope.detectors import gamma
from gammascope.errors import MissingExtraError
from gammascope.imaging.decode import Limits
from gammascope.scanning import ray_engine
from gammascope.scanning.ordered import Plan, scan_into
from gammascope.scanning.ray_engine import images_at_once

pytest.importorskip("ray")


def test_short_lists_are_cut_small_so_that_rows_come_steadily():
    assert [images_at_once(*case) for case in ((24, 2), (1, 8), (10**6, 64))] == [3, 1, 64]


def test_a_cluster_that_gives_no_rows_is_explained(monkeypatch):
    class Busy:
        def available_resources(self):
            return {}

        def cluster_resources(self):
            return {"CPU": 2.0}

    monkeypatch.setattr(ray_engine, "_PATIENCE_S", 0.05)
    said: list[tuple[str, int, int | None]] = []
    with ray_engine._explained(Busy(), (24, lambda *some: said.append(some))) as came:
        came(1)
        time.sleep(0.3)
    assert "0 of the cluster's 2 cores are free" in said[0][0]
    assert said[0][1:] == (1, 24)
    count = len(said)
    time.sleep(0.15)
    assert len(said) == count


@pytest.mark.parametrize(
    "there", [{"CPU": 1.0}, {"CPU": 3.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}, {}]
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_actors_leave_a_core_where_there_is_only_one(there, device):
    """Cutting the list needs a core, and would wait for ever for the one that an actor holds."""
    most, asked = ray_engine.actors_on(there, device)
    assert most == max(1, int(there.get("GPU" if device == "cuda" else "CPU", 1)))
    assert asked["num_cpus"] == (0 if there.get("CPU", 1) == 1 else 1)
    assert asked.get("num_gpus") == (1 if device == "cuda" else None)


class Sending:
    """As much of Ray as an actor needs that is sent files."""

    def get(self, sent):
        return sent


def actor(monkeypatch, weights: Path | None, began: Pipeline, **execution) -> ray_engine._Examiner:
    """Start an actor as on a machine that has nothing but what it is sent."""
    monkeypatch.setattr(ray_engine, "_ray", Sending)
    name, files = ray_engine.what_actors_load(weights, began.network.name)
    setup = ray_engine._Setup(
        weights=name,
        sent=files,
        weights_sha256=began.weights_sha256,
        network=began.network.name,
        device="cpu",
        execution=Execution(**execution),
        besides=Besides(),
        limits=Limits(),
        memory=None,
    )
    return ray_engine._Examiner(setup)


@pytest.mark.parametrize("name", ["default", "clip", "mobilenet"])
def test_embedded_detectors_go_by_their_names(name):
    sent, files = ray_engine.what_actors_load(checkpoints.resolve(name), "openvino auto")
    assert files is None
    assert checkpoints.resolve(sent) == checkpoints.resolve(name)
    assert ray_engine.what_actors_load(None, "openvino auto") == ("default", None)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a checkpoint and the graph beside it, and with what stands alone."""
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("files")
    detector, config = gamma.build(gamma.METHOD.tiny), settings.plain(gamma.METHOD.tiny)
    checkpoint = folder / "a tiny one.v2.safetensors"
    checkpoints.save(checkpoint, detector, checkpoints.Facts("gamma", config, detector.view))
    export.graph_beside(checkpoint)
    (folder / "alone").mkdir()
    export.to_onnx(checkpoint, folder / "alone" / "tiny.onnx")
    export.to_openvino(folder / "alone" / "tiny.onnx", folder / "alone" / "tiny.xml")
    shutil.copy(checkpoint, folder / "alone" / "plain.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("a tiny one.v2.safetensors", "openvino"),
        ("a tiny one.v2.onnx", "openvino"),
        ("alone/tiny.onnx", "openvino"),
        ("alone/tiny.xml", "openvino"),
        ("alone/plain.safetensors", "torch"),
    ],
)
def test_actors_run_a_file_as_the_machine_that_began_does(
    monkeypatch, photos, files, name, network
):
    began = Pipeline.load(files / name)
    assert began.network.name.startswith(network)
    picture = np.ascontiguousarray(photos["cat"][:90, :90])
    found = actor(monkeypatch, files / name, began)._pipeline
    assert found.network.name == began.network.name
    assert found.report(picture).probability == began.report(picture).probability


def test_a_tower_that_a_graph_reads_is_sent_with_it(tmp_path):
    embedded = checkpoints.resolve("clip")
    for file in (embedded, embedded.with_suffix(".onnx"), *checkpoints.towers_of(embedded)):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "of another.safetensors").touch()
    own = tmp_path / embedded.name
    _, files = ray_engine.what_actors_load(own, "openvino auto")
    assert files is not None
    assert files.keys() == {path.name for path in tmp_path.iterdir()} - {"of another.safetensors"}
    _, files = ray_engine.what_actors_load(own, "torch cpu")
    assert files is not None
    assert files.keys() == {own.name}


def test_a_machine_that_would_run_it_by_something_else_is_told(monkeypatch, files):
    """Its rows would not be what run.json says."""
    checkpoint = files / "a tiny one.v2.safetensors"
    began = Pipeline.load(checkpoint)
    with pytest.raises(MissingExtraError, match=r"by torch cpu, .* by openvino auto: install"):
        actor(monkeypatch, checkpoint, began, engine="torch")


# A process of its own: tests may not open sockets, and a cluster lives on them.
PROGRAM = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from gammascope import checkpoints
from gammascope.detection.pipeline import Pipeline
from gammascope.scanning.ordered import Plan
from gammascope.scanning.ray_engine import Cluster as Place, scan_on

small = {"object_store_memory": 100 * 2**20}
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **small})
workers = [machines.add_node(num_cpus=1, **small) for _ in range(int(sys.argv[3]))]
machines.wait_for_nodes()
killed, told = [], set()
def progress(what, done, total):
    told.add(what)
    if what == "Scanning" and done >= 64 and workers and not killed:
        killed.append(done)
        machines.remove_node(workers[0], allow_graceful=False)
weights = checkpoints.resolve(sys.argv[4])
place = Place(machines.address, weights)
scan_on(place, Path(sys.argv[1]), Plan((sys.argv[2],)), Pipeline.load(weights), progress)
print("killed after", killed, sorted(told))
machines.shutdown()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("machines", "images"), [(3, 256), (1, 24)])
def test_a_cluster_that_loses_a_machine_or_has_one_core_gives_exactly_the_rows_of_the_local_engine(
    photos, tmp_path, machines, images
):
    weights = "mobilenet"
    if machines == 1:  # A file of the user's, which is sent, with the graph beside it.
        embedded = checkpoints.resolve(weights)
        shutil.copy(embedded.with_suffix(".onnx"), tmp_path)
        weights = str(shutil.copy(embedded, tmp_path))
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(images):
        photo = photos[("cat", "coffee", "rocket")[number % 3]]
        pixels = np.ascontiguousarray(photo[number % 90 : number % 90 + 200, :200])
        PIL.Image.fromarray(pixels).save(folder / f"{number:03}.jpg", quality=60 + number % 35)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    environment = os.environ | {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", PROGRAM, tmp_path / "cluster", folder, str(machines - 1)]
    done = subprocess.run(
        [*command, weights],
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "killed after [" in done.stdout
    assert ("[]" in done.stdout) == (machines == 1)
    for stage in ("Starting Ray", "Listing", "Scanning"):
        assert f"'{stage}'" in done.stdout
    scan_into(tmp_path / "local", Plan((str(folder),)), Pipeline.load(weights))
    local, cluster = (rows_of(tmp_path / name) for name in ("local", "cluster"))
    assert len(local) == len(cluster) == images + 1
    for mine, theirs in zip(local, cluster, strict=True):
        # Other batches and fewer cores on a machine round otherwise: by 6e-6 of a probability, here.
        assert theirs == {
            name: pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
            for name, value in mine.items()
        }


def rows_of(folder: Path) -> list[dict[str, object]]:
    table = pq.read_table(folder).drop_columns(
        ["report"]
    )  # It says the same, probabilities as text.
    rows: list[dict[str, object]] = table.to_pylist()
    return sorted(rows, key=lambda row: int(str(row["number"])))
