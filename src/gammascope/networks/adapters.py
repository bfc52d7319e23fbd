"""Low-rank adaptation (LoRA): train a small correction beside frozen weights."""

from __future__ import annotations

from torch import nn

from gammascope.errors import MissingExtraError

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
    tower: nn.Module, *, blocks: str, targets: tuple[str, ...], rank: int, alpha: int
) -> None:
    """Add adapters to the blocks of a tower, in place; afterwards only they are trainable.

    The output is exactly that of the tower without adapters until the first training step, because
    the second factor of every adapter starts at zero.

    Args:
        tower: Changed in place.
        blocks: Dotted path of its list of blocks. A layer outside of them is left alone, even if it
            bears the name of a target: a pooling head has an MLP too.
        targets: Last part of the names of the linear layers to adapt.
        rank: Inner width of an adapter.
        alpha: The correction is scaled by ``alpha / rank``.

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
        lora_dropout=0.0,
        target_modules=rf"{blocks}\.\d+\.(?:\w+\.)*(?:{leaves})",
    )
    inject_adapter_in_model(config, tower)
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(".lora_" in name)
