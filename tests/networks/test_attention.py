"""Reverse cross-attention against its formula, written out once more with einsum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gammascope.networks.mask_heads import Branch, ReverseCrossAttention

WIDTH, HEADS, ROWS, COLUMNS = 12, 3, 2, 4
NAMES = ("generated", "edited")

readings = pytest.mark.parametrize("reading", ["direct", "complement", "subtractive"])


def branches(seed: int = 1) -> dict[str, Branch]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        name: Branch(normal(5, ROWS * COLUMNS, WIDTH), normal(5, 1, ROWS, COLUMNS))
        for name in NAMES
    }


def token() -> Tensor:
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))


def attention(
    reading: str = "direct", *, layers: int = 1, mask_bias: bool = False, awake: bool = True
) -> ReverseCrossAttention:
    torch.manual_seed(0)
    module = ReverseCrossAttention(
        WIDTH, NAMES, heads=HEADS, layers=layers, reading=reading, mask_bias=mask_bias
    )
    if awake:
        for layer in module.layers:
            for parameter in (layer.gate, layer.gate_mlp, *layer.norm_query.parameters()):
                torch.nn.init.normal_(parameter)
    return module.eval()


def oracle(module: ReverseCrossAttention, reading: str, steer: dict[str, float]) -> Tensor:
    """The formulas of the specification, for one layer and without the MLP."""
    layer, given = module.layers[0], branches()
    z = torch.cat([given[n].tokens + module.branch_code[n] for n in NAMES], 1)
    q = functional.linear(layer.norm_query(token()), layer.query.weight, layer.query.bias)
    k, v = functional.linear(
        layer.norm_memory(z), layer.key_value.weight, layer.key_value.bias
    ).split(WIDTH, -1)
    q, k, v = (x.reshape(5, -1, HEADS, WIDTH // HEADS) for x in (q, k, v))
    e = torch.einsum("bqhd,bmhd->bhm", q, k) / (WIDTH // HEADS) ** 0.5
    log_p = [steer[n] * torch.log(given[n].logits.flatten(1).sigmoid()) for n in NAMES]
    e = e + torch.cat(log_p, 1)[:, None]
    weights = (e.amax(-1, keepdim=True) - e if reading == "complement" else e).softmax(-1)
    u = layer.out(torch.einsum("bhm,bmhd->bhd", weights, v).reshape(5, WIDTH))
    return token() + (-1 if reading == "subtractive" else 1) * layer.gate * u


@readings
@pytest.mark.parametrize("steer", [None, (0.0, 0.0), (1.5, -0.7)])
def test_equals_the_formula(reading, steer):
    module = attention(reading, mask_bias=steer is not None)
    torch.nn.init.zeros_(module.layers[0].gate_mlp)
    if steer is not None:
        module.layers[0].bias.data = torch.tensor(steer)
    betas = dict(zip(NAMES, steer or (0.0, 0.0), strict=True))
    expected = oracle(module, reading, betas)
    assert not torch.allclose(expected, token())
    torch.testing.assert_close(module(token(), branches()), expected, rtol=1e-5, atol=1e-5)


def test_the_three_readings_differ():
    results = [attention(r)(token(), branches()) for r in ("direct", "complement", "subtractive")]
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    assert not torch.allclose(results[0], results[2], atol=1e-3)
    assert not torch.allclose(results[1], results[2], atol=1e-3)


def test_a_signed_gate_makes_subtractive_out_of_direct():
    direct, subtractive = attention("direct"), attention("subtractive")
    subtractive.load_state_dict(direct.state_dict())
    subtractive.layers[0].gate.data.neg_()
    expected = direct(token(), branches())
    torch.testing.assert_close(subtractive(token(), branches()), expected)


@readings
@pytest.mark.parametrize("mask_bias", [False, True])
def test_the_correction_starts_as_the_identity(reading, mask_bias):
    module = attention(reading, layers=2, mask_bias=mask_bias, awake=False)
    assert torch.equal(module(token(), branches()), token())


def test_gates_get_a_gradient_while_they_are_closed():
    """Closed gates must open by themselves, or the correction would never be learnt."""
    module = attention(layers=2, awake=False)
    module(token(), branches()).square().sum().backward()
    for layer in module.layers:
        assert layer.gate.grad.abs().sum() > 0
        assert layer.gate_mlp.grad.abs().sum() > 0


def test_a_bias_of_zero_changes_nothing():
    plain, biased = attention(), attention(mask_bias=True)
    biased.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(plain(token(), branches()), biased(token(), branches()))


def test_a_large_bias_listens_to_the_marked_cell_alone():
    module = attention(mask_bias=True)
    module.layers[0].bias.data.fill_(50.0)
    logits = torch.full((5, 1, ROWS, COLUMNS), -12.0)
    marked = logits.clone()
    marked[:, 0, 1, 2] = 12.0

    def result(changed_cell: int) -> Tensor:
        given = branches()
        tokens = given["edited"].tokens.clone()
        tokens[:, changed_cell] += 3 * torch.randn(
            WIDTH, generator=torch.Generator().manual_seed(3)
        )
        steered = {
            "generated": Branch(given["generated"].tokens, logits),
            "edited": Branch(tokens, marked),
        }
        return module(token(), steered)

    inside, outside = 1 * COLUMNS + 2, 0
    before = result(changed_cell=1)
    torch.testing.assert_close(result(outside), before)
    assert (result(inside) - before).abs().max() > 0.01


def test_the_bias_does_not_train_the_masks():
    module = attention(mask_bias=True)
    torch.nn.init.ones_(module.layers[0].bias)
    given = {
        name: Branch(branch.tokens.requires_grad_(), branch.logits.requires_grad_())
        for name, branch in branches().items()
    }
    module(token(), given).sum().backward()
    for branch in given.values():
        assert branch.tokens.grad is not None
        assert branch.tokens.grad.any()
        assert branch.logits.grad is None


def test_extreme_logits_stay_finite():
    module = attention("complement", mask_bias=True)
    module.layers[0].bias.data.fill_(10.0)
    given = {
        name: Branch(branch.tokens, 1e4 * branch.logits) for name, branch in branches().items()
    }
    assert torch.isfinite(module(token(), given)).all()


def test_branches_are_told_apart_by_name_not_by_order():
    module = attention()
    given = branches()
    exchanged = {"generated": given["edited"], "edited": given["generated"]}
    torch.nn.init.normal_(module.branch_code["generated"])
    reordered = {name: given[name] for name in reversed(NAMES)}
    expected = module(token(), given)
    assert torch.equal(module(token(), reordered), expected)
    assert not torch.allclose(module(token(), exchanged), expected, atol=1e-3)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 10 is no multiple of heads 3"):
        ReverseCrossAttention(10, NAMES, heads=3)
