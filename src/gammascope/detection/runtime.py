"""Networks ready to run: views in, logits out, all NumPy. OpenVINO, ONNX Runtime or torch behind one call.

The file decides what runs: a graph (``x.onnx``, ``x.xml``) written by ``gammascope export`` holds everything; a
checkpoint (``x.safetensors``) is run through the graph beside it, if that was made from this very file, or by torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from gammascope import checkpoints, machine
from gammascope.choices import Engine, Precision
from gammascope.errors import (
    IncompatibleCheckpointError,
    MissingDataError,
    MissingExtraError,
    RecipeError,
    first_line,
)
from gammascope.imaging import views

if TYPE_CHECKING:
    from gammascope.detectors.base import Detector

KEY = "gammascope"
"""Where a graph's metadata says what it is."""

TORCH_AT_ONCE = 8
"""Views per forward pass of torch: more brings nothing on a CPU and costs memory."""

QUANTISED_TOGETHER = 64
"""Activations that share a scale before they meet int8 weights; more are quicker and less exact."""

_MOST_REQUESTS = 8
"""Requests that one caller has under way at most."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a network says of a batch of views: ``prediction.Prediction`` without torch.

    Attributes:
        logit: > 0 leans fake.
        answers: Further image-level logits by question.
        masks: Logits by head; each map covers its whole view.
        patches: Of each view the tokens of its patches; empty where the network gives none.
    """

    logit: Float[np.ndarray, " b"]
    answers: Mapping[str, Float[np.ndarray, " b"]]
    masks: Mapping[str, Float[np.ndarray, "b _gh _gw"]]
    patches: Sequence[Float[np.ndarray, "d rows columns"]] = ()


class Network(ABC):
    """Runs views through a network; may be called from several threads."""

    name: str
    """What runs it and how exactly: "openvino f32"."""

    at_once: int
    """Views that are best handed over together."""

    @abstractmethod
    def look(self, pixels: Float[np.ndarray, "b 3 h w"]) -> Answered:
        """Answer for normalised views, at least one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network, what its file says about it, and the hash of the file with the weights."""

    network: Network
    facts: checkpoints.Facts
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a graph says about itself.

    Attributes:
        facts: Of the checkpoint it was made from.
        weights_sha256: Of that checkpoint.
        outputs: Position of each output by name: "logit", "answers/edited", "masks/edited"; two names may share one.
    """

    facts: checkpoints.Facts
    weights_sha256: str
    outputs: Mapping[str, int]

    @classmethod
    def parse(cls, text: str | None, place: Path) -> Origin:
        """Read what ``export`` wrote.

        Raises:
            IncompatibleCheckpointError: If the graph is not ours.
        """
        if text is None:
            raise IncompatibleCheckpointError(
                f"{place} was not written by gammascope export: it has no {KEY!r} metadata."
            )
        try:
            values = json.loads(text)
            outputs = {str(name): int(index) for name, index in values["outputs"].items()}
            facts = checkpoints.parse_facts(values["facts"], f"graph {place}")
            return cls(facts, str(values["weights_sha256"]), outputs)
        except (ValueError, KeyError, AttributeError, TypeError, RecipeError) as error:
            raise IncompatibleCheckpointError(f"{place} has broken metadata: {error}") from error

    def answered(self, values: Sequence[np.ndarray]) -> Answered:
        """Give the outputs their names back."""
        named: dict[str, dict[str, np.ndarray]] = {"answers": {}, "masks": {}}
        for name, index in self.outputs.items():
            group, _, key = name.partition("/")
            if key:
                named[group][key] = values[index]
        return Answered(values[self.outputs["logit"]], named["answers"], named["masks"])


class TorchNetwork(Network):
    """A detector as it was built. Torch shares the cores out itself, so one caller at a time is let in."""

    at_once = TORCH_AT_ONCE

    def __init__(self, detector: Detector) -> None:
        self._detector, self._turn = detector, threading.Lock()
        self.device = next(detector.parameters()).device
        self.name = f"torch {self.device}"

    def look(self, pixels: Float[np.ndarray, "b 3 h w"]) -> Answered:
        """Answer for normalised views."""
        import torch

        with self._turn, torch.inference_mode():
            found = self._detector(torch.from_numpy(pixels).to(self.device))
        return Answered(
            found.logit.float().cpu().numpy(),
            {name: value.float().cpu().numpy() for name, value in found.answers.items()},
            {name: value.float().cpu().numpy() for name, value in found.masks.items()},
        )


class OpenVinoNetwork(Network):
    """A graph on OpenVINO: one stream for each core, one view for each request.

    Requests of several views bring the embedded detector nothing (docs/runtime.md).

    Args:
        graph: ONNX file, or IR (``.xml`` beside its ``.bin``).
        precision: Of the arithmetic; "bf16" is a hint that processors without it ignore; "auto" computes with int8
            where weights are int8, "f32" never does.
        patches: Also give the patch tokens that a linear probe averages, of all blocks, one after the other.
    """

    def __init__(
        self, graph: Path, precision: Precision = "auto", *, patches: bool = False
    ) -> None:
        self._streams = machine.cores()
        try:
            self._model = openvino_core().read_model(graph)
        except RuntimeError as error:
            raise IncompatibleCheckpointError(
                f"OpenVINO cannot read {graph}: {first_line(error)}"
            ) from error
        self.origin = Origin.parse(
            origin_text(graph) if graph.suffix == ".onnx" else _runtime_info(self._model), graph
        )
        self.name = f"openvino {precision}"
        self._answers = len(self._model.outputs)
        averages = [op for op in self._model.get_ops() if op.get_type_name() == "ReduceMean"]
        self.sees_patches = (
            patches and self.origin.facts.method == "linear_probe" and averages != []
        )
        if self.sees_patches:
            self._model.add_outputs([_as_rows(averages[0])])
        self._compiled = self._made(precision)
        self._of_thread = threading.local()
        self.at_once = min(max(2 * self._streams, 4), _MOST_REQUESTS)
        # OpenVINO's bindings set themselves up on their first call, and wait for each other for ever if two threads
        # make it at the same time (seen with 2026.4): so it is made here.
        side = self.origin.facts.view.size
        self._compiled.create_infer_request().infer([np.zeros((1, 3, side, side), np.float32)])

    def _made(self, precision: Precision) -> Any:
        """Compile the graph for requests of one view."""
        side = self.origin.facts.view.size
        self._model.reshape([1, 3, side, side])
        return openvino_core().compile_model(
            self._model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "NUM_STREAMS": self._streams,
                "INFERENCE_NUM_THREADS": self._streams,
                # Decoding runs beside it: a stream that is bound to a core would wait for that one.
                "ENABLE_CPU_PINNING": False,
                # Its generated kernels for attention crash while compiling heads of some widths (16 and 64 channels,
                # seen with 2026.4); without them it takes 2 % longer.
                "SNIPPETS_MODE": "DISABLE",
                # Only where weights are int8: activations are quantised, too, so many numbers with one scale.
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": QUANTISED_TOGETHER if precision == "auto" else 0,
            },
        )

    def look(self, pixels: Float[np.ndarray, "b 3 h w"]) -> Answered:
        """Answer for normalised views: as many at a time as this thread has requests."""
        requests, parts, patches = self._mine(), [], []
        for start in range(0, len(pixels), len(requests)):
            some = range(start, min(len(pixels), start + len(requests)))
            for request, at in zip(requests, some, strict=False):
                request.start_async([pixels[at : at + 1]], share_inputs=True)
            for request, _ in zip(requests, some, strict=False):
                request.wait()
                # Copied, because the next views overwrite them.
                said = [tensor.data.copy() for tensor in request.output_tensors]
                parts.append(said[: self._answers])
                patches += [_in_square(rows[0]) for rows in said[self._answers :]]
        answered = self.origin.answered(
            [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        )
        return replace(answered, patches=patches)

    def patch_tokens(
        self, squares: UInt8[np.ndarray, "n side side 3"]
    ) -> Float[np.ndarray, "n d rows columns"]:
        """Return ``Answered.patches`` of squares that are not normalised."""
        pixels = [views.normalised(square, self.origin.facts.view) for square in squares]
        return np.stack(self.look(np.stack(pixels)).patches)

    def _mine(self) -> list[Any]:
        """Return the requests of this thread: two threads must not fill the same."""
        if not hasattr(self._of_thread, "requests"):
            made = [self._compiled.create_infer_request() for _ in range(self.at_once)]
            self._of_thread.requests = made
        mine: list[Any] = self._of_thread.requests
        return mine


def _as_rows(average: Any) -> Any:
    """Return what a graph's average is taken of before it is turned, one row for each patch: turning takes time."""
    node = average.input_value(0).get_node()
    while node.get_type_name() in ("Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return node.output(0)


def _in_square(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d rows columns"]:
    side = math.isqrt(len(rows))
    return rows.T.reshape(-1, side, side)


class OnnxRuntimeNetwork(Network):
    """An ONNX file on ONNX Runtime, for machines without OpenVINO."""

    name = "onnxruntime f32"
    at_once = TORCH_AT_ONCE

    def __init__(self, graph: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                "ONNX Runtime is not installed: pip install onnxruntime."
            ) from error

        self.origin = Origin.parse(origin_text(graph), graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = machine.cores()
        options.log_severity_level = 3  # Errors; its warnings are about its own optimiser.
        self._session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def look(self, pixels: Float[np.ndarray, "b 3 h w"]) -> Answered:
        """Answer for normalised views."""
        return self.origin.answered(self._session.run(None, {self._input: pixels}))


def load(
    weights: Path,
    *,
    method: str | None = None,
    device: str = "cpu",
    engine: Engine = "auto",
    precision: Precision = "auto",
    patches: bool = False,
) -> Loaded:
    """Make a checkpoint or an exported graph ready to run.

    Args:
        weights: Checkpoint (``.safetensors``), or what ``export`` wrote (``.onnx``, ``.xml``).
        method: Refuse another method's.
        device: Where torch runs the network; other devices than "cpu" always mean torch.
        engine: What runs it; "auto": OpenVINO, ONNX Runtime or torch, the first that is installed and has a graph.
        precision: "bf16" is for OpenVINO only: faster, and its logits differ by a few per cent. "auto" is what
            thresholds were fitted with.
        patches: A linear probe on OpenVINO also gives its patch tokens.

    Raises:
        MissingDataError: If there is no such file, or no graph for that engine.
        MissingExtraError: If the engine that is needed is not installed.
        IncompatibleCheckpointError: If it is neither checkpoint nor export, or another method's.
        RecipeError: If engine, precision and device do not go together.
    """
    if precision == "bf16" and (engine not in ("auto", "openvino") or device != "cpu"):
        raise RecipeError(f"precision={precision!r} is offered by OpenVINO on the cpu only.")
    if device != "cpu" and engine not in ("auto", "torch"):
        raise RecipeError(f"engine={engine!r} runs on the cpu only, not on {device!r}.")
    if not weights.is_file():
        raise MissingDataError(f"No checkpoint at {weights}.")
    if weights.suffix in (".onnx", ".xml"):
        return _exported(weights, method, engine, precision, patches=patches)
    graph = weights.with_suffix(".onnx")
    if device == "cpu" and engine != "torch":
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        chosen = engine if engine != "auto" else installed()
        fits = graph.is_file() and Origin.parse(origin_text(graph), graph).weights_sha256 == sha256
        if fits and chosen != "torch":
            facts = checkpoints.read_facts(weights)
            _refuse_other(facts, method, weights)
            return Loaded(_network(graph, chosen, precision, patches=patches), facts, sha256)
        if engine != "auto" or precision == "bf16":
            raise MissingDataError(
                f"No graph of this checkpoint at {graph}: write it with gammascope export {weights}."
            )
    return _by_torch(weights, method, device)


def _exported(
    graph: Path, method: str | None, engine: Engine, precision: Precision, *, patches: bool
) -> Loaded:
    chosen = engine if engine != "auto" else installed()
    if chosen == "torch" or (graph.suffix == ".xml" and chosen != "openvino"):
        if engine != "auto":
            raise RecipeError(f"engine={engine!r} cannot run {graph.name}.")
        raise MissingExtraError(f"Running {graph.name} needs openvino: pip install openvino.")
    network = _network(graph, chosen, precision, patches=patches)
    _refuse_other(network.origin.facts, method, graph)
    content = graph if graph.suffix == ".onnx" else graph.with_suffix(".bin")
    return Loaded(network, network.origin.facts, hashlib.sha256(content.read_bytes()).hexdigest())


def _network(
    graph: Path, engine: Engine, precision: Precision, *, patches: bool
) -> OpenVinoNetwork | OnnxRuntimeNetwork:
    if engine == "openvino":
        return OpenVinoNetwork(graph, precision, patches=patches)
    if precision == "bf16":
        raise MissingExtraError(f"precision={precision!r} needs openvino: pip install openvino.")
    return OnnxRuntimeNetwork(graph)


def _by_torch(weights: Path, method: str | None, device: str) -> Loaded:
    facts = checkpoints.read_facts(weights)
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError.of(
            f"Running {facts.method!r} from {weights.name}", "torch", "torch"
        )
    checkpoint = checkpoints.load(weights, method=method)
    return Loaded(TorchNetwork(checkpoint.detector.to(device)), checkpoint.facts, checkpoint.sha256)


def _refuse_other(facts: checkpoints.Facts, method: str | None, place: Path) -> None:
    if method is not None and facts.method != method:
        raise IncompatibleCheckpointError(
            f"{place} is a checkpoint of {facts.method!r}, not of {method!r}."
        )


_WITHOUT_TORCH: tuple[Engine, ...] = ("openvino", "onnxruntime")


def available() -> tuple[Engine, ...]:
    """List the engines for graphs that are installed, the preferred one first."""
    return tuple(name for name in _WITHOUT_TORCH if importlib.util.find_spec(name))


def installed() -> Engine:
    """Return the first engine that is installed; torch, where none for graphs is."""
    return next((name for name in _WITHOUT_TORCH if importlib.util.find_spec(name)), "torch")


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which otherwise tells its makers of every import.

    Raises:
        MissingExtraError: If it is not installed.
    """
    if "openvino" not in sys.modules:
        # It has a stand-in for machines without this package; so has NNCF.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("OpenVINO is not installed: pip install openvino.") from error
    return openvino


@functools.cache
def openvino_core() -> Any:
    """Return the one OpenVINO of this process, kept until its end.

    It lends the thread that makes it a stack for signals, and frees that stack wherever it is thrown away itself: in
    another thread, which the garbage collector may well choose, the next signal would be the end of the process (seen
    with 2026.4).

    Raises:
        MissingExtraError: If it is not installed.
    """
    return import_openvino().Core()


def origin_text(graph: Path) -> str | None:
    """Read our metadata from an ONNX file, without its weights and without the onnx package.

    Raises:
        IncompatibleCheckpointError: If it is no ONNX file.
    """
    try:
        for number, value in _fields(memoryview(graph.read_bytes())):
            if number == _METADATA_PROPS:
                pair = {key: str(content, "utf-8") for key, content in _fields(value)}
                if pair.get(1) == KEY:
                    return pair.get(2)
    except (IndexError, ValueError) as error:
        raise IncompatibleCheckpointError(f"{graph} is no ONNX file: {error}.") from error
    return None


_METADATA_PROPS = 14
"""Number of that field in ONNX's ModelProto (onnx/onnx.proto)."""


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of a protocol buffer's outermost fields that have a length.

    Source: the wire format as in protobuf.dev/programming-guides/encoding.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is longer than the file")
            yield key >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError(f"fields of kind {kind} are unknown")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _runtime_info(model: Any) -> str | None:
    return str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
