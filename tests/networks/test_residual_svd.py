"""Residual-SVD layers: they start as the layer they replace, and their penalties are those of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gammascope.errors import RecipeError
from gammascope.networks.adapters import (
    ATTENTION_LAYERS,
    ResidualSVDLinear,
    ResidualSVDPointwise,
    add_residual_svd,
)
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.compact import CompactBackbone, CompactConfig
from gammascope.networks.mobilenet import MobileNetBackbone, MobileNetConfig

TOWERS = {
    "clip_vision_model": {"intermediate_size": 64},
    "siglip_vision_model": {"intermediate_size": 64},
    "dinov2": {"mlp_ratio": 2},
    "dinov3_vit": {"intermediate_size": 64},
}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 16,
}

every_tower = pytest.mark.parametrize("model_type", TOWERS)


def tower(model_type: str) -> TransformerBackbone:
    torch.manual_seed(0)
    settings = {"model_type": model_type} | SIZES | TOWERS[model_type]
    return TransformerBackbone.from_config(settings).eval()


def split_layer(
    outputs: int, inputs: int, *, rank: int, seed: int = 0
) -> tuple[Tensor, ResidualSVDLinear]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    layer = ResidualSVDLinear(weight, torch.randn(outputs, generator=generator), rank)
    layer.split()
    return weight, layer


def moved(layer: ResidualSVDLinear) -> ResidualSVDLinear:
    """Take a step away from the start."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in (layer.u, layer.s, layer.v):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return layer


def weight_of(layer: ResidualSVDLinear) -> Tensor:
    return layer.main + layer.u @ torch.diag(layer.s) @ layer.v


@pytest.mark.parametrize(("size", "rank"), [(1024, 1), (1024, 256)])
def test_a_layer_of_the_papers_size_starts_as_the_original(size, rank):
    """r = 1023 and r = 768 of 1024."""
    weight, layer = split_layer(size, size, rank=rank)
    x = torch.randn(8, size, generator=torch.Generator().manual_seed(1)) / size**0.5
    assert (weight_of(layer) - weight).abs().max() < 1e-4
    original = nn.functional.linear(x, weight, layer.bias)
    assert (layer(x) - original).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(6, 6), (9, 5), (5, 9), (1, 4)])
def test_the_trained_part_holds_the_weakest_directions(shape):
    outputs, inputs = shape
    weight, layer = split_layer(outputs, inputs, rank=1)
    strengths = torch.linalg.svdvals(weight)
    torch.testing.assert_close(layer.s.detach(), strengths[-1:])
    left_over = torch.linalg.svdvals(layer.main)
    torch.testing.assert_close(left_over[:-1], strengths[:-1], atol=1e-5, rtol=1e-5)
    assert left_over[-1] < 1e-5


def test_the_weight_is_never_rebuilt():
    """Also after training the output is that of the sum, and no matrix of the weight's shape is made on the way."""
    _, layer = split_layer(40, 30, rank=2)
    moved(layer)
    x = torch.randn(3, 7, 30)
    expected = nn.functional.linear(x, weight_of(layer), layer.bias)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    layer(x).sum().backward()
    assert layer.u.grad is not None
    assert not layer.main.requires_grad
    assert not layer.bias.requires_grad
    shapes: list[torch.Size] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.data_ptr() != layer.main.data_ptr():
                shapes.append(result.shape)
            return result

    with Watch(), torch.no_grad():
        layer(x)
    assert shapes
    assert torch.Size([40, 30]) not in shapes
    assert torch.Size([30, 40]) not in shapes


@pytest.mark.parametrize("rank", [1, 3])
def test_orthogonality_is_the_papers_for_square_weights(rank):
    """0.5 |U U^T - I|_F + 0.5 |V V^T - I|_F over all directions, without storing the frozen ones."""
    weight, layer = split_layer(12, 12, rank=rank)
    assert layer.orthogonality() < 1e-5
    left, _, right = torch.linalg.svd(weight)
    moved(layer)
    u = torch.cat([left[:, :-rank], layer.u], 1)
    v = torch.cat([right[:-rank], layer.v], 0)
    parts = [(u @ u.T - torch.eye(12)).norm(), (v @ v.T - torch.eye(12)).norm()]
    expected = 0.5 * parts[0] + 0.5 * parts[1]
    torch.testing.assert_close(layer.orthogonality(), expected, atol=1e-4, rtol=1e-4)
    assert expected > 0.1


@pytest.mark.parametrize("shape", [(12, 12), (7, 12), (12, 7)])
def test_energy_is_the_change_of_the_squared_norm(shape):
    outputs, inputs = shape
    weight, layer = split_layer(outputs, inputs, rank=2)
    assert layer.energy() < 1e-3
    moved(layer)
    expected = (weight_of(layer).norm() ** 2 - weight.norm() ** 2).abs()
    torch.testing.assert_close(layer.energy(), expected, atol=1e-3, rtol=1e-4)
    assert expected > 0.01


def test_penalties_have_finite_slopes_at_the_start():
    _, layer = split_layer(8, 8, rank=1)
    (layer.orthogonality() + layer.energy()).backward()
    for parameter in (layer.u, layer.s, layer.v):
        assert torch.isfinite(parameter.grad).all()


def test_a_pointwise_convolution_is_split_like_a_linear_layer():
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 4, 1)
    layer = ResidualSVDPointwise(plain.weight[:, :, 0, 0], plain.bias, 1)
    layer.split()
    x = torch.randn(2, 6, 5, 3)
    torch.testing.assert_close(layer(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [0, 5])
def test_an_impossible_rank_is_refused(rank):
    with pytest.raises(RecipeError, match="4 singular directions"):
        ResidualSVDLinear(torch.zeros(4, 6), None, rank)


@every_tower
def test_attention_of_every_family_is_found_and_nothing_else(model_type):
    backbone = tower(model_type)
    x = torch.randn(2, 3, 16, 16)
    before = backbone(x)
    targets = rf".*\.\d+\.{ATTENTION_LAYERS}"
    layers = add_residual_svd(backbone, targets=targets, rank=1, split=True)
    assert len(layers) == 2 * 4  # blocks x (query, key, value, output)
    after = backbone(x)
    torch.testing.assert_close(after.token, before.token, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.grid, before.grid, atol=1e-4, rtol=1e-4)
    trained = {n.rsplit(".", 1)[1] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"u", "s", "v"}
    assert all(
        ".self_attn." in n or ".attention." in n
        for n, p in backbone.named_parameters()
        if p.requires_grad
    )


@pytest.mark.parametrize(
    "backbone",
    [
        CompactBackbone(
            CompactConfig(widths=(4, 8), depths=(1, 1), fused=8, fused_depth=1, token=16)
        ),
        MobileNetBackbone(MobileNetConfig(8, (8, 8, 16), (1, 1, 2), (1, 2, 2), fused=8, token=16)),
    ],
    ids=["compact", "mobilenetv2"],
)
def test_backbones_of_ours_start_as_they_were(backbone):
    torch.manual_seed(0)
    backbone.freeze()
    x = torch.randn(2, 3, 32, 32)
    before = backbone(x).token
    layers = add_residual_svd(backbone, targets=".*", rank=1, split=True)
    assert {type(layer) for layer in layers} == {ResidualSVDLinear, ResidualSVDPointwise}
    torch.testing.assert_close(backbone(x).token, before, atol=1e-4, rtol=1e-4)


def test_without_a_split_nothing_changes_until_a_checkpoint_fills_it():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 5))
    x = torch.randn(2, 5)
    before = network(x)
    add_residual_svd(network, targets="0", rank=1, split=False)
    assert torch.equal(network(x), before)


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(RecipeError, match="No linear layer"):
        add_residual_svd(nn.Sequential(nn.ReLU()), targets=".*", rank=1, split=True)
