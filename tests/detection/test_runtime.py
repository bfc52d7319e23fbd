"""Graphs that run without torch: the same answers, bound to their weights, and nothing else is imported."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gammascope import checkpoints, settings
from gammascope.detection import export, runtime
from gammascope.detection.pipeline import FAST_VIEWS, Execution, Pipeline
from gammascope.detectors import base, gamma
from gammascope.detectors.gamma import Readings
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    MissingExtraError,
    RecipeError,
)
from gammascope.imaging import codecs
from gammascope.imaging.decode import decode
from gammascope.imaging.views import views_of
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.inpainting import Inpainting, Telea
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.networks.mobilenet import MobileNetConfig

ROOT = Path(__file__).parents[2]
ENGINES = ("openvino", "onnxruntime")


def _donor(image, _):
    return Donor(image)


def checkpoint_of(folder, name="gamma", config=None):
    definition = base.get(name)
    torch.manual_seed(0)
    detector = definition.build(config or definition.tiny).eval()
    for module in detector.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)  # or folding them wrongly would go unnoticed
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, Readings):
            for weight in module.buffers():
                weight.normal_(0, 0.01)  # until they are fitted they are zero
    path = folder / f"{name}.safetensors"
    facts = checkpoints.Facts(name, settings.plain(detector.config), detector.view)
    checkpoints.save(path, detector, facts)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A checkpoint whose network sees DCT energies and reads the whole, with its graph beside it."""
    sizes = MobileNetConfig(
        8, (8, 8, 16, 16), (1, 1, 1, 1), (1, 2, 2, 2), fused=16, token=16, bands=16, last=24
    )
    # Of a width whose attention OpenVINO 2026.4 crashes on, where nobody tells it how not to.
    config = replace(
        gamma.METHOD.tiny,
        backbone="mobilenetv2",
        mobilenetv2=replace(sizes, last_in_token=False),
        size=64,
        width=64,
        overview=0.3,
        whole=gamma.WholeConfig(content=1.0, spectrum=0.5),
    )
    path = checkpoint_of(tmp_path_factory.mktemp("exported"), config=config)
    export.graph_beside(path)
    return path


def batches(spec, counts=(1, 4, 7)):
    rng = np.random.default_rng(1)
    return [rng.uniform(-1, 1, (n, 3, spec.size, spec.size)).astype(np.float32) for n in counts]


def compared(path, engine, counts=(1, 4, 7)):
    pytest.importorskip(engine)
    loaded = runtime.load(path, engine=engine, precision="f32")
    views = batches(loaded.facts.view, counts)
    return export.parity(export.reference(path), loaded.network, loaded.facts, views)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree_with_torch_for_any_number_of_views(exported, engine):
    found = compared(exported, engine)
    assert found.views == 12
    assert found.logit_error < 1e-4
    assert found.mask_error < 1e-4
    assert found.changed == 0


def test_answers_depend_neither_on_their_neighbours_nor_on_the_thread(exported):
    pytest.importorskip("openvino")
    network = runtime.load(exported, engine="openvino").network
    (views,) = batches(checkpoints.read_facts(exported).view, (11,))
    before = network.look(views)
    with ThreadPoolExecutor(3) as pool:
        for count, after in zip(
            (11, 3, 2, 7), pool.map(lambda n: network.look(views[:n]), (11, 3, 2, 7)), strict=True
        ):
            np.testing.assert_array_equal(after.logit, before.logit[:count])
            for name, mask in after.masks.items():
                np.testing.assert_array_equal(mask, before.masks[name][:count])


@pytest.mark.parametrize("engine", ENGINES)
def test_readings_of_the_whole_are_part_of_the_graph(exported, engine):
    pytest.importorskip(engine)
    network = runtime.load(exported, engine=engine).network
    (views,) = batches(checkpoints.read_facts(exported).view, (2,))
    assert network.look(views).answers["whole"].all()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_embedded_detector_agrees_with_torch(engine):
    found = compared(checkpoints.default_path(), engine, (3,))
    assert found.logit_error < 1e-4
    assert found.mask_error < 1e-3


def views_of_photos(photos, spec):
    """Views of photos as they are, with a part moved, spliced and filled, saved as people save them."""
    names = sorted(photos)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        photo, donor = (
            np.ascontiguousarray(photos[n][:320, :320]) for n in (name, names[number - 1])
        )
        edits = (
            CopyMove(),
            Splicing(partial(_donor, donor)),
            Inpainting(Telea()),
        )
        for quality, edit in zip((95, 85, 70), edits, strict=True):
            for image in (photo, edit(photo, rng).image):
                saved = codecs.reencode(image, codecs.Encoding("jpeg", quality))
                views = views_of(saved, replace(spec, max_tiles=2))
                yield np.stack([view.pixels for view in views])


@pytest.mark.parametrize(
    ("precision", "difference", "share"), [("f32", 1e-3, 0.0), ("bf16", 2.0, 0.1)]
)
def test_the_small_detector_on_real_views_by_precision(photos, precision, difference, share):
    """bf16 is never chosen unasked; what it may change at most is stated in docs/runtime.md."""
    pytest.importorskip("openvino")
    path = checkpoints.resolve("mobilenet")
    loaded = runtime.load(path, engine="openvino", precision=precision)
    seen = views_of_photos(photos, loaded.facts.view)
    found = export.parity(export.reference(path), loaded.network, loaded.facts, seen)
    assert found.views >= 36
    assert found.logit_error < difference
    assert found.changed <= share


def test_the_embedded_detector_on_real_views_in_int8(photos):
    """Thresholds were fitted to int8; what it changes against float32 is stated in docs/runtime.md."""
    pytest.importorskip("openvino")
    path = checkpoints.default_path()
    loaded = runtime.load(path, engine="openvino")
    seen = islice(views_of_photos(photos, loaded.facts.view), 0, None, 4)
    found = export.parity(export.reference(path), loaded.network, loaded.facts, seen)
    assert found.views >= 15
    assert found.logit_error < 0.5
    assert found.changed <= 0.1


def test_the_embedded_graph_belongs_to_the_embedded_weights_and_holds_none_itself():
    path = checkpoints.default_path()
    graph = path.with_suffix(".onnx")
    origin = runtime.Origin.parse(runtime.origin_text(graph), graph)
    assert origin.weights_sha256 == runtime.load(path, engine="torch").sha256
    assert path.stat().st_size + graph.stat().st_size < 10e6


class Otherwise(runtime.Network):
    """Says what another network says, changed."""

    name, at_once = "otherwise", 8

    def __init__(self, other: runtime.Network, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._other, self._change = other, change

    def look(self, pixels):
        said = self._other.look(pixels)
        return replace(
            said, answers={name: self._change(values) for name, values in said.answers.items()}
        )


def test_a_parity_that_is_broken_is_told(exported):
    loaded = runtime.load(exported, engine="torch")
    louder = Otherwise(loaded.network, lambda values: values + 100)
    found = export.parity(loaded.network, louder, loaded.facts, batches(loaded.facts.view))
    assert found.logit_error == pytest.approx(100, rel=1e-3)
    assert found.changed > 0.5


def test_a_parity_with_no_numbers_is_broken(exported):
    loaded = runtime.load(exported, engine="torch")
    overflowing = Otherwise(loaded.network, lambda values: values * np.nan)
    found = export.parity(loaded.network, overflowing, loaded.facts, batches(loaded.facts.view))
    assert (found.logit_error, found.changed) == (math.inf, 1.0)


def test_a_graph_of_other_weights_is_not_run(exported, tmp_path):
    path = tmp_path / exported.name
    shutil.copy(exported, path)
    shutil.copy(exported.with_suffix(".onnx"), path.with_suffix(".onnx"))
    assert runtime.load(path).network.name.split()[0] in ENGINES
    checkpoints.recalibrate(path, {"edited": checkpoints.RAW})
    assert runtime.load(path).network.name == "torch cpu"
    with pytest.raises(MissingDataError, match="gammascope export"):
        runtime.load(path, engine="openvino")


@pytest.fixture(scope="module")
def alone(exported, tmp_path_factory):
    """The graph of that checkpoint in a folder of its own."""
    return export.to_onnx(exported, tmp_path_factory.mktemp("alone") / "alone.onnx")


def test_exported_files_stand_alone_and_hold_all_facts(exported, alone, tmp_path):
    pytest.importorskip("openvino")
    model = export.to_openvino(alone, tmp_path / "alone.xml")
    expected = export.reference(exported)
    for file in (alone, model):
        loaded = runtime.load(file, method="gamma")
        assert loaded.facts == checkpoints.read_facts(exported)
        found = export.parity(expected, loaded.network, loaded.facts, batches(loaded.facts.view))
        assert found.logit_error < 1e-4
        with pytest.raises(IncompatibleCheckpointError, match="not of 'effort'"):
            runtime.load(file, method="effort")


def test_a_runtime_that_is_not_installed_is_named_with_its_package(alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="pip install onnxruntime"):
        runtime.OnnxRuntimeNetwork(alone)


def test_outputs_have_the_names_that_the_document_gives(alone):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(alone)
    assert [one.name for one in session.get_inputs()] == ["pixels"]
    names = [one.name for one in session.get_outputs()]
    origin = runtime.Origin.parse(runtime.origin_text(alone), alone.parent)
    assert names[origin.outputs["logit"]] == "logit"
    for name, place in origin.outputs.items():
        assert names[place] in (name.replace("/", "_"), "logit")
    assert "masks_edited" in names


def test_the_python_of_the_document_runs_an_exported_graph(
    exported, tmp_path, photos, monkeypatch, capsys
):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    with_pipeline, by_hand = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "runtime.md").read_text("utf-8"), re.DOTALL
    )
    checkpoint = shutil.copy(exported, tmp_path / "checkpoint.safetensors")
    fitted = checkpoints.Calibration(0.5, -1.0, 1.0, (0.05, 0.01), 100, ("held out",), offset=0.25)
    checkpoints.recalibrate(checkpoint, {"generated": fitted, "edited": fitted})
    graph = export.to_onnx(checkpoint, tmp_path / "exported" / "checkpoint.onnx")
    export.to_openvino(graph, graph.with_suffix(".xml"))
    Image.fromarray(photos["cat"]).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    expected = Pipeline.load(checkpoint, execution=Execution(engine="torch"))
    report = expected.report(tmp_path / "photo.jpg")

    exec(with_pipeline, {})  # noqa: S102 - the document's own words
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["onnxruntime", "openvino"]
    for line in lines:
        assert " ".join(line[1:-1]) == str(report.verdict)
        assert float(line[-1]) == pytest.approx(report.probability, abs=1e-4)

    found: dict[str, Any] = {}
    exec(by_hand, found)  # noqa: S102
    seen = expected.scores(decode(tmp_path / "photo.jpg").image).by_view[""]
    assert len(seen) > 1
    np.testing.assert_allclose(found["logits"], seen, atol=1e-4)


def test_int8_stays_near_and_leaves_stdout_to_json(exported, tmp_path, capfd):
    pytest.importorskip("nncf")
    graph = export.to_onnx(exported, tmp_path / "alone.onnx")
    views = batches(checkpoints.read_facts(exported).view, (4, 4))
    loaded = runtime.load(export.to_openvino(graph, tmp_path / "alone.int8.xml", views))
    found = export.parity(export.reference(exported), loaded.network, loaded.facts, views)
    assert 1e-6 < found.logit_error < 1.0
    assert capfd.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in base.names() if name != "gamma"])
def test_every_method_can_be_exported(name, tmp_path):
    pytest.importorskip("openvino")
    path = checkpoint_of(tmp_path, name)
    export.graph_beside(path)
    found = compared(path, "openvino", (2, 4))
    assert found.logit_error < 1e-3


DROPPED_ELSEWHERE = """
import gc, signal, threading
from gammascope.detection import runtime
from gammascope.weights import embedded_path

held = [runtime.load(embedded_path(), engine="openvino").network]

def drop():
    held.clear()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
signal.raise_signal(signal.SIGTERM)
print("heard", len(heard))
"""


def test_signals_are_heard_after_another_thread_threw_the_network_away():
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", DROPPED_ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard 1\n"), done.stderr


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\xff" * 40])
def test_what_is_no_graph_is_refused(content, tmp_path):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(IncompatibleCheckpointError):
        runtime.load(path)


@pytest.mark.parametrize(
    ("engine", "precision", "device"),
    [("torch", "bf16", "cpu"), ("auto", "bf16", "cuda"), ("openvino", "f32", "cuda")],
)
def test_what_does_not_go_together_is_refused(engine, precision, device):
    with pytest.raises(RecipeError):
        runtime.load(checkpoints.default_path(), engine=engine, precision=precision, device=device)


def test_profiles_look_at_few_or_all_views(photos):
    image = np.ascontiguousarray(np.tile(photos["coffee"], (4, 4, 1)))
    spec = Pipeline.load().view
    fast, thorough = (
        Pipeline.load(execution=Execution(profile=profile)) for profile in ("fast", "thorough")
    )
    assert fast.scores(image[: 5 * spec.size]).views == (spec.max_tiles + 1) // 2
    assert thorough.view.max_tiles is None


def test_the_fast_profile_of_the_small_detector_looks_at_three_views(photos):
    image = np.ascontiguousarray(np.tile(photos["coffee"], (4, 4, 1)))
    fast = Pipeline.load("mobilenet", execution=Execution(profile="fast"))
    assert fast.scores(image).views == FAST_VIEWS


def test_the_fast_profile_does_not_look_for_earlier_saves(photos, tmp_path):
    once = codecs.encode(photos["coffee"], codecs.Encoding("jpeg", 70))
    twice = codecs.encode(decode(once).image, codecs.Encoding("jpeg", 95))
    found: dict[str, Any] = {}
    for profile in ("default", "fast"):
        report = Pipeline.load(execution=Execution(profile=profile)).report(twice)
        found[profile] = {e.name for e in report.evidence if e.name.startswith("provenance")}
    assert found["default"] - found["fast"] == {"provenance:double_jpeg"}


WITHOUT_TORCH = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "openvino_telemetry"):
            raise ImportError(name + " must not be imported")
sys.meta_path.insert(0, Refused())
sys.argv = ["gammascope", "scan", "--json", sys.argv[1]]
from gammascope.cli.app import main
main()
"""


def test_a_scan_with_the_embedded_detector_imports_neither_torch_nor_telemetry(photos, tmp_path):
    if runtime.installed() == "torch":
        pytest.skip("no engine but torch is installed")
    import PIL.Image

    picture = tmp_path / "cat.png"
    PIL.Image.fromarray(photos["cat"]).save(picture)
    command = [sys.executable, "-c", WITHOUT_TORCH, str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout)
    expected = Pipeline.load().report(picture)
    assert row["probability"] == pytest.approx(expected.probability, abs=1e-4)
