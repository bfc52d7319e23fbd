"""Weights divided among processes: PyTorch's FSDP, for backbones too large for one device.

Each process holds a part of every weight, of its gradient, its average and its moments; a layer is put together while
it computes. The state to resume from and the checkpoint hold whole tensors, so a run goes on with any number of
processes, and no later step learns how it was trained.

We call ``torch.distributed.fsdp.fully_shard`` (FSDP 2) ourselves: accelerate (1.15) offers it on accelerators only, and
knows one network where we keep two, the trained one and its average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from gammascope.prediction import Prediction


def divide(network: nn.Module, device: torch.device, processes: int) -> None:
    """Divide a network among the processes, in place; every process must call it, with the same weights.

    The members of ``nn.ModuleList`` (a tower's blocks) are put together one at a time, the rest at once. Buffers stay
    whole: statistics of batch norm are each process's own.

    Args:
        network: On any device; its layers must be called, not only read, for that is when they are put together.
        device: Where the parts are to lie.
        processes: How many share the work; with one, the network moves to the device as it is.
    """
    if processes == 1:
        network.to(device)
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    _let_predictions_be_looked_into()
    mesh = init_device_mesh(device.type, (processes,))
    for layer in _layers(network):
        fully_shard(layer, mesh=mesh)
    # The root, too, is taken apart after each forward pass: between steps no process holds more than its part.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def whole_weights(network: nn.Module) -> dict[str, Any]:
    """Return a divided network's state dict with whole tensors on the CPU; empty but on the main process.

    Every process must call it.
    """
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    return get_model_state_dict(network, options=_whole())


class WholeWeights:
    """The weights of a divided network as accelerate wants state: whole, on the main process."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Any]:
        """Gather the weights; every process must call it."""
        return whole_weights(self.network)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's parts of whole weights; every process must call it."""
        from torch.distributed.checkpoint.state_dict import set_model_state_dict

        set_model_state_dict(self.network, state, options=_whole())


class WholeMoments:
    """The state of a divided network's optimiser: whole, on the main process."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.network, self.optimiser = network, optimiser

    def state_dict(self) -> Mapping[str, Any]:
        """Gather the moments; every process must call it."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return get_optimizer_state_dict(self.network, self.optimiser, options=_whole())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take this process's parts of whole moments; every process must call it."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        set_optimizer_state_dict(self.network, self.optimiser, state, options=_whole())


def _whole() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost members of lists of modules that have parameters."""
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from _layers(child)


@cache
def _let_predictions_be_looked_into() -> None:
    """FSDP looks for tensors in what a network returns, to learn when the backward pass begins."""
    torch.export.register_dataclass(Prediction)
