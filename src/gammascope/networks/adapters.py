"""Adapters: small trained additions beside frozen weights (LoRA, residual SVD)."""

from __future__ import annotations

import re
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import MissingExtraError, RecipeError

LORA_TARGETS: dict[str, tuple[str, ...]] = {
    "clip": ("q_proj", "v_proj", "fc1", "fc2"),
    "siglip": ("q_proj", "v_proj", "fc1", "fc2"),
    # The largest models of these families have a gated MLP, made of three layers instead of two.
    "dinov2": ("q_proj", "v_proj", "fc1", "fc2", "gate_proj", "up_proj", "down_proj"),
    "dinov3": ("q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"),
}
"""Linear layers of a transformer block that get an adapter, by family: query, value and MLP.

The key projection is left out. Source: our choice.
"""


def add_lora(
    tower: nn.Module,
    *,
    blocks: str,
    targets: tuple[str, ...],
    rank: int,
    alpha: int,
    dropout: float = 0.0,
) -> None:
    """Add adapters to the blocks of a tower, in place; afterwards only they are trainable.

    The output is exactly that of the tower without adapters until the first training step, because
    the second factor of every adapter starts at zero.

    Args:
        tower: Changed in place.
        blocks: Regular expression for the names of its blocks to adapt, as ``last_blocks`` gives it. A layer outside
            of them is left alone, even if it bears the name of a target: a pooling head has an MLP too.
        targets: Last part of the names of the linear layers to adapt.
        rank: Inner width of an adapter.
        alpha: The correction is scaled by ``alpha / rank``.
        dropout: Share of an adapter's input that is dropped while it is in training mode.

    Raises:
        MissingExtraError: If ``peft`` is not installed.

    Source: arXiv:2106.09685, section 4.1.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError.of("LoRA", "peft", "backbones") from error
    leaves = "|".join(targets)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{blocks}\.(?:\w+\.)*(?:{leaves})",
    )
    inject_adapter_in_model(config, tower)
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def last_blocks(tower: nn.Module, blocks: str, last: int) -> str:
    """Return a regular expression for the names of the last so many blocks of a tower; 0: of all.

    Args:
        tower: The tower.
        blocks: Dotted path of its list of blocks.
        last: How many.

    Raises:
        RecipeError: If there are fewer.
    """
    there = len(cast(nn.ModuleList, tower.get_submodule(blocks)))
    if not 0 <= last <= there:
        raise RecipeError(
            f"trained_blocks={last}: the tower has {there} blocks; expected 1 to that many, or 0 for all."
        )
    numbers = "|".join(str(number) for number in range(there - (last or there), there))
    return rf"{re.escape(blocks)}\.(?:{numbers})"


ATTENTION_LAYERS = r"(?:self_attn|attention)\.\w+"
"""Names of the linear layers of self-attention in a block of a vision tower, of whatever family."""


class ResidualSVDLinear(nn.Module):
    """A linear layer split by its singular values: the principal part is frozen, the rest is trained.

    ``y = x main^T + ((x v^T) * s) u^T + bias``: the weight is never rebuilt, so with rank r a call costs r vectors
    more than the original layer. ``u`` and ``v`` are free: only the penalties, where a loss adds them, hold them
    orthogonal to the principal part.

    Attributes:
        main: Frozen part of the weight.
        u: Left directions of the trained part, one per column.
        s: Their strengths.
        v: Right directions, one per row.

    Source: arXiv:2411.15633; the factored call is ours.
    """

    main: Tensor
    start_u: Tensor
    start_s: Tensor
    start_v: Tensor

    def __init__(
        self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None, rank: int
    ) -> None:
        """Start from a weight as it is, with a trained part of strength 0; ``split`` starts from its SVD."""
        super().__init__()
        if not 1 <= rank <= min(weight.shape):
            raise RecipeError(
                f"residual rank {rank}: a layer of {weight.shape[0]} x {weight.shape[1]} weights has "
                f"{min(weight.shape)} singular directions; expected 1 to that many."
            )
        outputs, inputs = weight.shape
        self.register_buffer("main", weight.detach().clone())
        self.bias = (
            None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        )
        self.u = nn.Parameter(torch.randn_like(self.main[:, :rank]) / outputs**0.5)
        self.s = nn.Parameter(torch.zeros_like(self.main[0, :rank]))
        self.v = nn.Parameter(torch.randn_like(self.main[:rank]) / inputs**0.5)
        for name in (
            "u",
            "s",
            "v",
        ):  # what the penalties compare with; known again once split again
            start = getattr(self, name).detach().clone()
            self.register_buffer(f"start_{name}", start, persistent=False)

    @torch.no_grad()
    def split(self) -> None:
        """Move the weakest singular directions of ``main`` into the trained part; the sum stays what it was."""
        rank = len(self.s)
        left, strengths, right = torch.linalg.svd(self.main.float(), full_matrices=False)
        parts = {"u": left[:, -rank:], "s": strengths[-rank:], "v": right[-rank:]}
        for name, value in parts.items():
            getattr(self, name).copy_(value)
            getattr(self, f"start_{name}").copy_(value)
        self.main -= (
            self.u * self.s
        ) @ self.v  # less rounding than a product of the kept directions

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        """Return what the layer with the sum of both parts as weight would return."""
        return functional.linear(x, self.main, self.bias) + ((x @ self.v.T) * self.s) @ self.u.T

    def orthogonality(self) -> Float[Tensor, ""]:
        """Return how far the trained directions have left the orthogonal complement of the frozen ones; 0 at the start.

        ``0.5 |U U^T - I|_F + 0.5 |V V^T - I|_F`` with all directions, frozen and trained, in U and V. For a square
        weight the frozen ones span what the trained ones left at the start, so the identity cancels and the frozen
        directions need not be stored: ``|u u^T - u0 u0^T|_F``. For other shapes this difference is the definition.
        """
        left = _projector_distance(self.u, self.start_u)
        return (left + _projector_distance(self.v.T, self.start_v.T)) / 2

    def energy(self) -> Float[Tensor, ""]:
        """Return by how much the squared Frobenius norm of the weight has changed; 0 at the start."""
        u, s, v, start = (part.double() for part in (self.u, self.s, self.v, self.start_s))
        crossed = ((self.u * (self.main @ self.v.T)).double().sum(0) * s).sum()
        trained = ((u.T @ u) * (v @ v.T) * torch.outer(s, s)).sum()
        return (2 * crossed + trained - start.square().sum()).abs().float()


class ResidualSVDPointwise(ResidualSVDLinear):
    """The same for a 1 x 1 convolution, which is a linear layer at every pixel. Ours: the paper has none."""

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Return what the convolution with the sum of both parts as weight would return."""
        main, u, v = (part[:, :, None, None] for part in (self.main, self.u, self.v))
        seen = functional.conv2d(x, v) * self.s[:, None, None]
        return functional.conv2d(x, main, self.bias) + functional.conv2d(seen, u)


def add_residual_svd(
    network: nn.Module, *, targets: str, rank: int, split: bool
) -> list[ResidualSVDLinear]:
    """Replace linear layers by residual-SVD layers, in place; afterwards only their trained parts are trainable.

    Args:
        network: Changed in place.
        targets: Regular expression that the whole name of a layer must match. Linear layers and 1 x 1 convolutions
            are replaced, others that match are left alone.
        rank: Singular directions that are trained.
        split: Decompose the weights. False makes the same layers without the cost: for a checkpoint to fill.

    Returns:
        The new layers.

    Raises:
        RecipeError: If no layer matches, or one has fewer directions than ``rank``.

    Source: arXiv:2411.15633.
    """
    network.requires_grad_(requires_grad=False)
    found = [(n, layer) for n, layer in network.named_modules() if re.fullmatch(targets, n)]
    added = []
    for name, layer in found:
        if isinstance(layer, nn.Linear):
            new = ResidualSVDLinear(layer.weight, layer.bias, rank)
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            new = ResidualSVDPointwise(layer.weight[:, :, 0, 0], layer.bias, rank)
        else:
            continue
        if split:
            new.split()
        network.set_submodule(name, new)
        added.append(new)
    if not added:
        raise RecipeError(f"No linear layer of the backbone matches {targets!r}.")
    return added


def _projector_distance(u: Float[Tensor, "n k"], start: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return ``|u u^T - start start^T|_F`` from k x k products; in double, for it is a small difference."""
    a, b = u.double(), start.double()
    own, others = (a.T @ a).square().sum() + (b.T @ b).square().sum(), (a.T @ b).square().sum()
    return (own - 2 * others).clamp(min=1e-12).sqrt().float()  # the root has no slope at 0
