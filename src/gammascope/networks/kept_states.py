"""What the frozen first blocks of a tower say of views, kept on disk: runs that see the same view share that work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope.errors import RecipeError
from gammascope.files import complete_or_absent

_FIRST, _LAST = "first", "last"


class KeptStates:
    """States that leave the first blocks, one file for each view, named by all that decides them.

    Of every block but the last of them the leading tokens are kept (class token, registers), of the last one all
    tokens; in half precision.

    Args:
        folder: Where the files lie; runs may share it, at the same time, too.
        tower: The network, of ``transformers``.
        path: Dotted path to its list of blocks.
        blocks: How many are kept; they, and what comes before them, are frozen.
        lead: Tokens before the patches.

    Raises:
        RecipeError: If there are fewer blocks, or one of them is trained.
    """

    def __init__(self, folder: Path, tower: nn.Module, path: str, blocks: int, lead: int) -> None:
        self.folder, self.blocks, self.lead = folder, blocks, lead
        there = len(cast(nn.ModuleList, tower.get_submodule(path)))
        if not 1 <= blocks <= there:
            raise RecipeError(f"keeping.blocks = {blocks}: expected 1 to {there}, this tower's.")
        later = tuple(f"{path}.{number}." for number in range(blocks, there))
        state = tower.state_dict(keep_vars=True)
        used = [name for name in sorted(state) if name.startswith((path, "embeddings", "pre_"))]
        before = [state[name] for name in used if not name.startswith(later)]
        if any(tensor.requires_grad for tensor in before):
            raise RecipeError(
                f"keeping.blocks = {blocks}: some of these blocks are trained, so what they say changes; leave out the "
                "section keeping, or name fewer."
            )
        digest = hashlib.blake2b(digest_size=16)
        for tensor in before:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(_bytes(tensor))
        self._weights = digest.digest()

    @contextmanager
    def of(self, blocks: Iterable[Any], pixels: Float[Tensor, "b 3 h w"]) -> Iterator[None]:
        """Let the first blocks say what they said of these views before, or keep what they say now."""
        first, paths = list(blocks)[: self.blocks], self.paths(pixels)
        said: list[Tensor] = []
        known = self.read(paths, pixels.device)

        def told(state: Tensor) -> Callable[..., Tensor]:
            return lambda *_, **__: state

        def keeping(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def say(*inputs: Any, **options: Any) -> Tensor:
                said.append(rounded(forward(*inputs, **options)))  # as it will come back
                return said[-1]

            return say

        for place, block in enumerate(first):
            block.forward = keeping(block.forward) if known is None else told(known[place])
        try:
            yield
        finally:
            for block in first:
                del block.forward
        if known is None:
            self.write(paths, said)

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

    def write(self, paths: Sequence[Path], states: Sequence[Float[Tensor, "b t d"]]) -> None:
        """Keep what left each block.

        Args:
            paths: Of the views.
            states: All tokens, block by block; half precision must hold them.
        """
        from safetensors.torch import save

        *before, last = (state.detach().cpu() for state in states)
        none = last.new_zeros(0, len(last), self.lead, last.shape[2])
        first = torch.stack([state[:, : self.lead] for state in before]) if before else none
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
