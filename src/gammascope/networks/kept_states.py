"""What the frozen first blocks of a tower say of views, kept on disk: several runs that see a view look once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gammascope.errors import RecipeError
from gammascope.files import complete_or_absent

_FIRST, _LAST = "first", "last"


class KeptStates:
    """States that leave the first blocks, one file for each view, named by all that decides them.

    Of every block but the last of them the class token is kept, with what stands beside it before the patches; of the
    last one, all tokens. All in half precision.

    Args:
        folder: Where the files lie; runs may share it, at the same time, too.
        weights: What comes before the last kept block.
    """

    def __init__(self, folder: Path, weights: Iterable[Tensor]) -> None:
        self.folder = folder
        digest = hashlib.blake2b(digest_size=16)
        for tensor in weights:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(_bytes(tensor))
        self._weights = digest.digest()

    def paths(self, pixels: Float[Tensor, "b 3 h w"]) -> list[Path]:
        """Return the file of each view, there or not."""
        device = pixels.device.type
        half = torch.is_autocast_enabled(device)
        precision = torch.get_autocast_dtype(device) if half else pixels.dtype
        about = f"{tuple(pixels.shape[1:])} {precision}".encode()
        return [self.folder / f"{self._name(about, view)}.safetensors" for view in pixels]

    def _name(self, about: bytes, view: Tensor) -> str:
        return hashlib.blake2b(self._weights + about + _bytes(view), digest_size=16).hexdigest()

    def read(
        self, paths: Sequence[Path], device: torch.device
    ) -> list[Float[Tensor, "b _t d"]] | None:
        """Return what left each block, first one first, in single precision; None if a view's file is missing."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            views = [load(path.read_bytes()) for path in paths]
        except (FileNotFoundError, SafetensorError):  # broken by whatever else: made again
            return None
        # Single precision first: under autocast nothing stacks halves.
        states = torch.stack([view[_FIRST].float() for view in views], 1).to(device)
        last = torch.stack([view[_LAST].float() for view in views]).to(device)
        return [*states, last]

    def write(
        self, paths: Sequence[Path], states: Sequence[Float[Tensor, "b t d"]], lead: int
    ) -> None:
        """Keep what left each block.

        Args:
            paths: Of the views.
            states: All tokens, block by block; half precision must hold them.
            lead: Tokens before the patches.
        """
        from safetensors.torch import save

        *before, last = (state.detach().cpu() for state in states)
        none = last.new_zeros(0, len(last), lead, last.shape[2])
        first = torch.stack([state[:, :lead] for state in before]) if before else none
        for number, path in enumerate(paths):
            parts = {_FIRST: first[:, number], _LAST: last[number]}
            kept = {name: part.half().contiguous() for name, part in parts.items()}
            with complete_or_absent(path) as unfinished:
                unfinished.write_bytes(save(kept))


def rounded(state: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
    """Return a state as it comes back from disk.

    Raises:
        RecipeError: If half precision does not hold it.
    """
    half = state.half()
    if not torch.isfinite(half).all():
        raise RecipeError(
            "A state of the frozen blocks is too large for half precision: leave out the section keeping."
        )
    return half.float()


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous().flatten()
    return plain.view(torch.uint8).numpy().tobytes()
