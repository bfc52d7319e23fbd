"""From a checkpoint to graphs that run without torch: ONNX, and OpenVINO in float32 and int8; and what they change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope import checkpoints, settings
from gammascope.detection import runtime
from gammascope.detection.runtime import Answered, Network, Origin, TorchNetwork
from gammascope.errors import MissingExtraError
from gammascope.files import complete_or_absent
from gammascope.networks import towers
from gammascope.networks.base import Backbone

if TYPE_CHECKING:
    from gammascope.detectors.base import Detector

_OPSET = 20
"""The first with GELU and float64 resizing as one operation each; OpenVINO and ONNX Runtime know it."""

_SHARED_FROM_BYTES = 64
"""Smaller tensors are kept in the graph: a reference costs as much."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a network's answers are from torch's on the same views.

    Attributes:
        name: What ran it.
        views: How many were compared.
        logit_error: Largest difference of an image-level logit, of any question.
        mask_error: Largest difference of a mask logit.
        changed: Share of views with another verdict on any question, at the checkpoint's thresholds.
    """

    name: str
    views: int
    logit_error: float
    mask_error: float
    changed: float


class _Flat(nn.Module):
    """A detector whose answer is a tuple of distinct tensors: graphs know no names of names."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.outputs: dict[str, int] = {}

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Answer, and note down which output has which names."""
        found = self.detector(pixels)
        named = {"logit": found.logit}
        named |= {f"answers/{name}": value for name, value in found.answers.items()}
        named |= {f"masks/{name}": value for name, value in found.masks.items()}
        distinct: list[Tensor] = []
        for name, value in named.items():
            known = [index for index, other in enumerate(distinct) if other is value]
            self.outputs[name] = known[0] if known else len(distinct)
            if not known:
                distinct.append(value)
        return tuple(distinct)


def graph_beside(checkpoint: Path) -> Path:
    """Write the graph of a checkpoint beside it; the weights stay where they are, and the graph points at them.

    Scans run through it as long as the checkpoint does not change; after that it has to be written anew.

    Returns:
        The file: small, and of no use without the checkpoint.
    """
    loaded = checkpoints.load(checkpoint)
    proto = _proto(loaded)
    _share_weights(proto, checkpoint)
    for place, part in loaded.detector.named_modules():
        if isinstance(part, Backbone) and part.file is not None:
            _share_tower(proto, f"detector.{place}.tower.", _beside(part.file.path, checkpoint))
    return _write(proto, checkpoint.with_suffix(".onnx"))


def to_onnx(checkpoint: Path, graph: Path) -> Path:
    """Write a checkpoint as one ONNX file with weights and all facts, for any batch size.

    Its input is "pixels" (b 3 h w, normalised views), its outputs are logits: "logit" (b,), and where a method has them
    "answers_QUESTION" (b,) and "masks_HEAD" (b gh gw). Two names of one tensor are one output, under the first of them.

    Args:
        checkpoint: Of any method.
        graph: The file to write.

    Raises:
        MissingExtraError: If onnx or onnxscript are not installed.
    """
    return _write(_proto(checkpoints.load(checkpoint)), graph)


def to_openvino(
    graph: Path, target: Path, views: Sequence[Float[np.ndarray, "_b 3 _s _s"]] = ()
) -> Path:
    """Convert an ONNX file of ours to OpenVINO's format: float32, or int8 if there are views to calibrate on.

    Args:
        graph: What ``to_onnx`` wrote.
        target: Name of the ``.xml``; weights go into a ``.bin`` beside it.
        views: Batches of normalised views of training images; empty: nothing is quantised.
    """
    openvino = runtime.import_openvino()
    model = runtime.openvino_core().read_model(graph)
    if views:
        try:
            import nncf
        except ImportError:
            raise MissingExtraError.of("Quantising", "nncf", "export") from None
        samples = [one[None] for batch in views for one in batch]
        with contextlib.redirect_stdout(sys.stderr):  # It draws its progress where JSON may go.
            model = nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples))
    model.set_rt_info(runtime.origin_text(graph), [runtime.KEY])
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, target, compress_to_fp16=False)
    return target


def parity(
    reference: Network,
    other: Network,
    facts: checkpoints.Facts,
    batches: Iterable[Float[np.ndarray, "_b 3 _s _s"]],
) -> Parity:
    """Compare two networks on the same views.

    Args:
        reference: The one to trust, usually torch.
        other: The one in question.
        facts: Whose thresholds turn logits into verdicts.
        batches: Normalised views.
    """
    views, changed, logit_error, mask_error = 0, 0, 0.0, 0.0
    for pixels in batches:
        one, two = reference.look(pixels), other.look(pixels)
        first, second = _logits(one), _logits(two)
        differs = np.zeros(len(pixels), bool)
        for name, values in first.items():
            logit_error = max(logit_error, _apart(values, second[name]))
            known = facts.calibration.get(name, checkpoints.RAW)
            differs |= ~np.isfinite(second[name])
            differs |= [
                known.verdict(float(a)) is not known.verdict(float(b))
                for a, b in zip(values, second[name], strict=True)
            ]
        for name, cells in one.masks.items():
            mask_error = max(mask_error, _apart(cells, two.masks[name]))
        views, changed = views + len(pixels), changed + int(differs.sum())
    return Parity(other.name, views, logit_error, mask_error, changed / max(1, views))


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference; infinite where one is no number, which a comparison would pass over."""
    largest = float(np.abs(one - other).max())
    return largest if math.isfinite(largest) else math.inf


def reference(checkpoint: Path) -> TorchNetwork:
    """Return what exported graphs are compared with."""
    return TorchNetwork(checkpoints.load(checkpoint).detector)


def _logits(answered: Answered) -> dict[str, Float[np.ndarray, " b"]]:
    return dict(answered.answers) or {"fake": answered.logit}


def _proto(loaded: checkpoints.Checkpoint) -> Any:
    """Trace a detector into an ONNX model without anything folded into its weights."""
    try:
        import onnx_ir
        from onnxscript import optimizer
    except ImportError:
        raise MissingExtraError.of("Exporting", "onnx and onnxscript", "export") from None
    flat = _Flat(loaded.detector).eval()
    side = loaded.facts.view.size
    example = torch.linspace(-1, 1, 2 * 3 * side * side).reshape(2, 3, side, side)
    with torch.inference_mode():
        answers = flat(example)
    outputs = dict(flat.outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the exporter, about itself.
        program = torch.onnx.export(
            flat,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            input_names=["pixels"],
            output_names=[_plain_name(outputs, index) for index in range(len(answers))],
            opset_version=_OPSET,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing.")
    model = program.model
    # Shapes are folded, weights are not: engines do that themselves, and ours stay those of the checkpoint.
    optimizer.inline(model)
    optimizer.fold_constants(model, input_size_limit=512, output_size_limit=2**20)
    optimizer.remove_unused_nodes(model)
    proto = onnx_ir.to_proto(model)
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    origin = Origin(loaded.facts, loaded.sha256, outputs)
    proto.metadata_props.add(key=runtime.KEY, value=json.dumps(settings.plain(origin)))
    return proto


def _plain_name(outputs: Mapping[str, int], index: int) -> str:
    """Return what an output is called in the graph: the first of its names, as ONNX allows it: "masks_edited"."""
    first = next(name for name, place in outputs.items() if place == index)
    return first.replace("/", "_").replace("-", "_")


def _beside(tower: Path, checkpoint: Path) -> Path:
    """Return the tower's file in the checkpoint's folder, where the graph may point at it; put it there if need be."""
    place = checkpoint.parent / tower.name
    if not place.exists():
        try:
            place.hardlink_to(tower)
        except OSError:  # another file system
            with complete_or_absent(place) as unfinished:
                unfinished.write_bytes(tower.read_bytes())
    return place


def _share_tower(proto: Any, start: str, tower: Path) -> None:
    """Let a tower's tensors be read from its file: matrices as int8 with a scale for each row, all else in halves.

    Args:
        proto: Changed in place.
        start: What the names of the tower's tensors start with in the graph.
        tower: Its file, in the folder of the graph.
    """
    data, places = _opened(tower)
    # The exporter turns matrices the other way round and takes their names: they are known by their values.
    turned = {
        _turned(data, places, name.removesuffix(towers.INT8)): name.removesuffix(towers.INT8)
        for name in places
        if name.endswith(towers.INT8)
    }
    made = []
    for tensor in list(proto.graph.initializer):
        held = places.get(tensor.name.removeprefix(start).replace(".base_layer.", "."))
        matrix = turned.get(hashlib.sha256(tensor.raw_data).digest())
        if held is not None and _widened(data[slice(*held)]) == tensor.raw_data:
            made.append(_as_half(tensor))
            _point_to(tensor, tower.name, held[0], held[1] - held[0])
        elif matrix is not None:
            begin, end = places[matrix + towers.INT8]
            scales = np.frombuffer(data[slice(*places[matrix + towers.SCALE])], "<f4")
            made += _as_int8(proto, tensor, scales)
            _point_to(tensor, tower.name, begin, end - begin)
    for node in reversed(made):
        proto.graph.node.insert(0, node)


def _turned(data: bytes, places: Mapping[str, tuple[int, int]], name: str) -> bytes:
    """Return the hash of a tower's matrix, in x out, as the float32 numbers that a graph holds."""
    scales = np.frombuffer(data[slice(*places[name + towers.SCALE])], "<f4")
    whole = np.frombuffer(data[slice(*places[name + towers.INT8])], np.int8)
    matrix = whole.reshape(len(scales), -1).astype("<f4") * scales[:, None]
    return hashlib.sha256(matrix.T.tobytes()).digest()


def _as_int8(proto: Any, tensor: Any, scales: Float[np.ndarray, " out"]) -> list[Any]:
    """Turn a float32 matrix, in x out, into int8, out x in; return the nodes that give its old name to its values."""
    import onnx

    name = tensor.name
    inputs, outputs = tensor.dims
    tensor.name, tensor.data_type = f"{name}{towers.INT8}", onnx.TensorProto.INT8
    tensor.ClearField("dims")
    tensor.dims.extend((outputs, inputs))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(scales, name + towers.SCALE))
    whole = onnx.helper.make_node(
        "DequantizeLinear", [tensor.name, name + towers.SCALE], [f"{name}_whole"], axis=0
    )
    return [whole, onnx.helper.make_node("Transpose", [f"{name}_whole"], [name], perm=[1, 0])]


def _opened(file: Path) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """Return the bytes of a safetensors file, and where each of its tensors begins and ends."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    places = json.loads(data[8:start])
    places.pop("__metadata__", None)
    return data, {
        name: (start + place["data_offsets"][0], start + place["data_offsets"][1])
        for name, place in places.items()
    }


def _share_weights(proto: Any, checkpoint: Path) -> None:
    """Let tensors that lie in the checkpoint be read from there; engines widen those in half precision on loading."""
    data, places = _opened(checkpoint)
    widened = []
    for tensor in proto.graph.initializer:
        place = places.get(tensor.name.removeprefix("detector."))
        if place is None or len(tensor.raw_data) < _SHARED_FROM_BYTES:
            continue
        begin, end = place
        stored = data[begin:end]
        if stored != tensor.raw_data:
            if 2 * len(stored) != len(tensor.raw_data) or _widened(stored) != tensor.raw_data:
                continue
            widened.append(_as_half(tensor))
        _point_to(tensor, checkpoint.name, begin, end - begin)
    for node in reversed(widened):
        proto.graph.node.insert(0, node)


def _widened(half: bytes) -> bytes:
    return np.frombuffer(half, "<f2").astype("<f4").tobytes()


def _as_half(tensor: Any) -> Any:
    """Turn a float32 initialiser into one in half precision; return the node that gives its old name to its values."""
    import onnx

    name = tensor.name
    tensor.name, tensor.data_type = f"{name}.half", onnx.TensorProto.FLOAT16
    return onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT)


def _point_to(tensor: Any, location: str, offset: int, length: int) -> None:
    import onnx

    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _write(proto: Any, graph: Path) -> Path:
    graph.parent.mkdir(parents=True, exist_ok=True)
    with complete_or_absent(graph) as unfinished:
        unfinished.write_bytes(proto.SerializeToString(deterministic=True))
    return graph
