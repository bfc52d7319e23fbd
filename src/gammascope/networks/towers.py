"""Vision towers that lie beside detectors: one file of quantised weights, never changed, that many checkpoints name.

A tower's file is a safetensors file. Matrices of linear layers are int8 with one scale for each output
(``NAME_int8``: out x in, ``NAME_scale``: out), symmetric; all else is in half precision. Its metadata hold the
configuration as ``transformers`` writes it, and where the weights come from. Checkpoints leave out what lies there and
name the file by its sha256, so that what is trained stays small.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gammascope.errors import IncompatibleCheckpointError, MissingDataError
from gammascope.weights import towers as embedded

INT8, SCALE = "_int8", "_scale"
"""Ends of the names of a quantised matrix and of its scales."""

SHA256 = "tower_sha256"
"""Key of a backbone's configuration that says which file its weights lie in."""


@dataclass(frozen=True, slots=True)
class Tower:
    """A file with the weights of a vision tower.

    Attributes:
        path: Where it lies.
        sha256: Of its bytes.
        config: As in ``config.json`` of ``transformers``.
        origin: For people: where the weights come from, and their licence.
    """

    path: Path
    sha256: str
    config: Mapping[str, Any]
    origin: str

    def tensors(self) -> dict[str, Tensor]:
        """Read the weights by their names in the network, dequantised, in float32."""
        from safetensors.torch import load_file

        stored = load_file(self.path)
        plain = {name: t.float() for name, t in stored.items() if not name.endswith((INT8, SCALE))}
        for name in [name for name in stored if name.endswith(INT8)]:
            whole = name.removesuffix(INT8)
            plain[whole] = stored[name].float() * stored[whole + SCALE][:, None]
        return plain


def named(name: str) -> Tower | None:
    """Return the tower of that name that came with the package; None if there is none."""
    path = embedded().get(name)
    return None if path is None else read(path)


def with_sha256(sha256: str) -> Tower:
    """Return the tower that a checkpoint names by its hash.

    Raises:
        MissingDataError: If it did not come with the package.
    """
    there = {name: read(path) for name, path in embedded().items()}
    for tower in there.values():
        if tower.sha256 == sha256:
            return tower
    known = ", ".join(f"{name} {tower.sha256[:12]}" for name, tower in there.items()) or "none"
    raise MissingDataError(
        f"The checkpoint sees with a tower of sha256 {sha256[:12]}..., and this package has: {known}. Install "
        "gammascope anew, or the version that wrote it."
    )


@functools.cache
def read(path: Path) -> Tower:
    """Read what a tower's file says about itself; its bytes are hashed once in a process.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is no tower's file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingDataError(f"No tower at {path}: install gammascope anew.")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
        config = json.loads(facts["config"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise IncompatibleCheckpointError(f"{path} is no file of a tower: {error}.") from error
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Tower(path, digest, config, facts.get("origin", ""))


def write(path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], origin: str) -> str:
    """Write a tower's file from tensors that are quantised already, under the names ``Tower`` expects.

    Returns:
        Its sha256.
    """
    from safetensors.torch import save

    # One order, whatever the order they came in: safetensors sorts by size and name itself.
    data = save(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        {"config": json.dumps(config, sort_keys=True), "origin": origin},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def quantised(tensors: Mapping[str, Tensor], matrices: Iterable[str]) -> dict[str, Tensor]:
    """Quantise some matrices to int8, symmetrically, one scale for each row, and halve the precision of all else.

    Args:
        tensors: By name.
        matrices: Names of those that become int8; each is out x in.
    """
    chosen, found = set(matrices), {}
    for name, tensor in tensors.items():
        if name not in chosen:
            found[name] = tensor.half()
            continue
        scale = tensor.abs().amax(1).clamp(min=1e-12) / 127
        found[name + INT8] = (tensor / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
        found[name + SCALE] = scale.float()
    return found
