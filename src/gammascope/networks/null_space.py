"""Keep of a feature what lies outside of given directions: the null space of semantics (NS-Net)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def null_space(
    vectors: Float[Tensor, "n d"], *, energy: float, centre: bool = False
) -> tuple[Float[Tensor, "d d"], int]:
    """Return the projection on what is left after the strongest directions of some vectors, and its rank.

    The exact null space of more vectors than dimensions is empty. So the fewest right singular vectors that hold the
    share ``energy`` of the squared singular values are dropped, and never all of them.

    Args:
        vectors: One per row; scaled to unit length first.
        energy: Share of the energy that counts as occupied, 0..1; 0 drops nothing.
        centre: Subtract the mean of the unit vectors first; else their common direction is dropped, too.

    Returns:
        A symmetric, idempotent matrix and its rank, 1..d.

    Raises:
        ValueError: If there are no vectors, one of them is not finite, or ``energy`` is no share.

    Source: arXiv:2508.01248 (the idea); the truncation by energy is our reading.
    """
    if not 0 <= energy <= 1:
        raise ValueError(f"energy={energy}: expected a share, 0 to 1.")
    if len(vectors) == 0 or not torch.isfinite(vectors).all():
        raise ValueError(f"{len(vectors)} vectors: expected at least one, and finite numbers.")
    unit = functional.normalize(vectors.double(), dim=1)
    if centre:
        unit = unit - unit.mean(0)
    _, strengths, directions = torch.linalg.svd(unit, full_matrices=False)
    held = strengths.square().cumsum(0)
    # Counted from below, with room for rounding: the direction that reaches the share is the last one dropped.
    occupied = int((held < energy * held[-1] * (1 - 1e-12)).sum()) + 1 if held[-1] > 0 else 0
    occupied = min(occupied, unit.shape[1] - 1) if energy > 0 else 0
    dropped = directions[:occupied]
    projection = torch.eye(unit.shape[1], dtype=unit.dtype, device=unit.device)
    return (projection - dropped.T @ dropped).to(vectors.dtype), unit.shape[1] - occupied


class NullSpaceProjector(nn.Module):
    """Project features on a null space that was measured once; until then everything passes.

    Args:
        width: Length of the features.
    """

    projection: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.eye(width))

    def measure(
        self, vectors: Float[Tensor, "n d"], *, energy: float, centre: bool = False
    ) -> None:
        """Take the null space of these vectors from now on."""
        projection, _ = null_space(vectors, energy=energy, centre=centre)
        self.projection.copy_(projection)

    @property
    def rank(self) -> int:
        """How many dimensions pass: the trace of a projection."""
        return round(float(self.projection.double().trace()))

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Return the part of the features in the null space, in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return features.float() @ self.projection
