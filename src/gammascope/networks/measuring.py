"""Look with a network without teaching it anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def only_looking(network: nn.Module) -> Iterator[None]:
    """Evaluate a network without gradients; whether it was training is restored afterwards."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)
