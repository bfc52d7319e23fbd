"""The patch tokens of the embedded tower, for forensic methods that ask what is seen where (``forensics.collage``)."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from gammascope import checkpoints, machine
from gammascope.detection import runtime
from gammascope.imaging import views

_MEAN = "ReduceMean"
"""The operation of the embedded graph that averages patch tokens."""


class Eyes:
    """The tower of an exported linear probe up to its patch tokens, on OpenVINO; may be called from several threads.

    Args:
        graph: ONNX file.

    Raises:
        MissingExtraError: If OpenVINO is not installed.
        IncompatibleCheckpointError: If the graph is not ours.
    """

    def __init__(self, graph: Path) -> None:
        openvino, core = runtime.import_openvino(), runtime.openvino_core()
        self._view = runtime.Origin.parse(runtime.origin_text(graph), graph).facts.view
        whole = core.read_model(graph)
        averaged = next(op for op in whole.get_ops() if op.get_type_name() == _MEAN)
        model = openvino.Model([averaged.input_value(0)], whole.get_parameters(), "patch tokens")
        model.reshape([1, 3, self._view.size, self._view.size])
        streams = machine.cores()
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
                "ENABLE_CPU_PINNING": False,
                "SNIPPETS_MODE": "DISABLE",  # as in ``runtime``
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": runtime.QUANTISED_TOGETHER,
            },
        )
        self._of_thread = threading.local()
        # OpenVINO's bindings must not be called for the first time by two threads at once.
        self(np.zeros((1, self._view.size, self._view.size, 3), np.uint8))

    def __call__(self, squares: UInt8[np.ndarray, "n 224 224 3"]) -> Float[np.ndarray, "n d 14 14"]:
        """Return the tokens of all blocks that the probe averages, one after the other, of each patch."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        request: Any = self._of_thread.request
        found = []
        for square in squares:
            request.infer([views.normalised(square, self._view)[None]], share_inputs=True)
            found.append(request.output_tensors[0].data[0].copy())
        tokens = np.stack(found)
        side = round(tokens[0][0].size ** 0.5)
        return tokens.reshape(len(tokens), -1, side, side)


_LOADING = threading.Lock()


def embedded() -> Eyes | None:
    """Return the embedded tower, loaded once in a process; None where OpenVINO is not installed."""
    with _LOADING:
        return _embedded()


@functools.cache
def _embedded() -> Eyes | None:
    if "openvino" not in runtime.available():
        return None
    return Eyes(checkpoints.default_path().with_suffix(".onnx"))
