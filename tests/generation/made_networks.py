"""Tiny networks in the file formats that generators are read from, with weights that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HALF_FLAG = np.uint32(0x01306B47)


def halves(*values: float) -> bytes:
    """float16 weights behind their flag, padded to four bytes."""
    data = np.array(values, "<f2").tobytes()
    return HALF_FLAG.tobytes() + data + bytes(-len(data) % 4)


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def ncnn(path: Path, layers: str, weights: bytes = b"") -> Path:
    """Write a .param file of the layers, a line each, and the .bin file beside it."""
    lines = [line.strip() for line in layers.strip().splitlines()]
    path.write_text("\n".join(["7767517", f"{len(lines)} 99", *lines]) + "\n")
    path.with_suffix(".bin").write_bytes(weights)
    return path


def upscaler(path: Path) -> Path:
    """Enlarge twice: each pixel four times in red and green; blue is the mean of red and green, plus 0.25."""
    kernels = np.zeros((12, 3))
    kernels[0:4, 0] = kernels[4:8, 1] = 1
    kernels[8:12, :2] = 0.5
    return ncnn(
        path,
        """
        Input        in   0 1 data
        Convolution  mix  1 1 data mixed 0=12 1=1 5=1 6=36
        PixelShuffle up   1 1 mixed out 0=2
        """,
        halves(*kernels.ravel()) + floats(*[0.0] * 8, *[0.25] * 4),
    )


def _saved(path: Path, nodes, inputs, output, constants=()) -> Path:
    values = [helper.make_tensor_value_info(*each) for each in (*inputs, output)]
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "made", values[:-1], values[-1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def numbered_styles(path: Path, styles: int = 3, *, halved: bool = False) -> Path:
    """Style k is the photo times 1 - k / 4, perhaps of half its size; channels first, any size."""
    factors = (1 - np.arange(styles) / 4).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["weights", "factors"], ["parts"]),
        helper.make_node("ReduceSum", ["parts"], ["factor"], keepdims=1),
        helper.make_node("Mul", ["image", "factor"], ["painted"]),
    ]
    if halved:
        pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(helper.make_node("AveragePool", ["painted"], ["small"], **pool))
    inputs = [
        ("image", TensorProto.FLOAT, [1, 3, "h", "w"]),
        ("weights", TensorProto.FLOAT, [styles]),
    ]
    output = (nodes[-1].output[0], TensorProto.FLOAT, [1, 3, "y", "x"])
    return _saved(path, nodes, inputs, output, [("factors", factors)])


def styles_of_pictures(folder: Path, repeated: int = 2) -> Path:
    """A style is the mean colour of a picture, so many times; two are understood, and the photo is painted half in it.

    Channels last, sizes fixed.
    """
    folder.mkdir()
    _saved(
        folder / "tiny_predict.onnx",
        [
            helper.make_node("ReduceMean", ["style"], ["mean"], axes=[1, 2], keepdims=1),
            helper.make_node("Concat", ["mean"] * repeated, ["vector"], axis=3),
        ],
        [("style", TensorProto.FLOAT, [1, 8, 8, 3])],
        ("vector", TensorProto.FLOAT, [1, 1, 1, 3 * repeated]),
    )
    _saved(
        folder / "tiny_transform.onnx",
        [
            helper.make_node("Split", ["vector"], ["colour", "again"], axis=3),
            helper.make_node("Add", ["colour", "content"], ["both"]),
            helper.make_node("Mul", ["both", "half"], ["painted"]),
        ],
        [
            ("vector", TensorProto.FLOAT, [1, 1, 1, 6]),
            ("content", TensorProto.FLOAT, [1, 16, 16, 3]),
        ],
        ("painted", TensorProto.FLOAT, [1, 16, 16, 3]),
        [("half", np.float32(0.5))],
    )
    return folder
