"""Take over a part of a network that another run of the same method trained."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import nn

from gammascope.errors import IncompatibleCheckpointError, MissingDataError

KNOWN = "sha256:"
"""How a config names a checkpoint that was taken over already, and lies in the network's own weights since."""


def take_over(part: nn.Module, name: str, path: Path) -> str:
    """Fill a part from the tensors of that name in a safetensors file, strictly.

    Args:
        part: Filled in place.
        name: Its name in the file: tensors that start with "name." are used, others are left.
        path: The file.

    Returns:
        "sha256:" and the hash of the file.

    Raises:
        MissingDataError: If there is no such file.
        IncompatibleCheckpointError: If it is no safetensors file, or the part does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise MissingDataError(f"No checkpoint at {path} to take the {name} from.")
    data = path.read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise IncompatibleCheckpointError(f"{path} is not a safetensors file: {error}.") from error
    start = f"{name}."
    own = {
        key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)
    }
    try:
        part.load_state_dict(own)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise IncompatibleCheckpointError(
            f"{path}: its {name} does not fit this network: {' '.join(lines[:2])[:300]}"
        ) from error
    return KNOWN + hashlib.sha256(data).hexdigest()
