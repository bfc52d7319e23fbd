"""The patch tokens of the embedded tower, for forensic methods that ask what is seen where (``forensics.collage``)."""

from __future__ import annotations

import functools
import threading

from gammascope import checkpoints
from gammascope.detection import runtime
from gammascope.forensics.base import Eyes

_LOADING = threading.Lock()


def of(network: runtime.Network) -> Eyes | None:
    """Return the eyes of a network that has the embedded tower's, else the embedded tower itself.

    The tower is loaded once in a process, which takes a second and 200 MiB; None where OpenVINO is not installed.
    """
    if isinstance(network, runtime.OpenVinoNetwork) and network.sees_patches:
        return network.patch_tokens
    return embedded()


def embedded() -> Eyes | None:
    """Return the embedded tower's; None where OpenVINO is not installed."""
    with _LOADING:
        return _embedded()


@functools.cache
def _embedded() -> Eyes | None:
    if "openvino" not in runtime.available():
        return None
    graph = checkpoints.default_path().with_suffix(".onnx")
    return runtime.OpenVinoNetwork(graph, patches=True).patch_tokens
