"""The root of the covariance against eigenvalues, and where there is no covariance."""

from __future__ import annotations

import torch

from gammascope.detectors.sdaie import isqrt_covariance


def features(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def spectrum(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    centred = x - x.mean(2, keepdim=True)
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2) / x.shape[2])
    return values, vectors


def upper(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    matrix = vectors @ torch.diag_embed(values) @ vectors.transpose(1, 2)
    rows, columns = torch.triu_indices(*matrix.shape[1:])
    return matrix[:, rows, columns]


def test_many_steps_reach_the_root():
    x = features(3, 6, 50)
    values, vectors = spectrum(x)
    found = isqrt_covariance(x, steps=20, epsilon=0.0)
    assert found.shape == (3, 21)
    torch.testing.assert_close(found, upper(values.sqrt(), vectors), rtol=1e-4, atol=1e-4)


def test_five_steps_are_five_steps_of_the_same_iteration_on_the_eigenvalues():
    x = features(2, 8, 40)
    values, vectors = spectrum(x)
    trace = values.sum(1, keepdim=True)
    root, inverse = values / trace, torch.ones_like(values)
    for _ in range(5):
        turn = 0.5 * (3 - inverse * root)
        root, inverse = root * turn, turn * inverse
    found = isqrt_covariance(x, steps=5, epsilon=0.0)
    torch.testing.assert_close(found, upper(root * trace.sqrt(), vectors))


def test_a_flat_spectrum_of_32_channels_is_left_low_by_five_steps():
    x = torch.eye(32, dtype=torch.float64)[None].repeat(1, 1, 2)
    x[:, :, 32:] *= -1
    ratio = isqrt_covariance(x, steps=5) / isqrt_covariance(x, steps=30)
    assert 0.88 < float(ratio[0, 0]) < 0.94


def test_gradients_are_those_of_differences():
    x = features(2, 3, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: isqrt_covariance(value, steps=3), (x,))


def test_constant_features_give_zeros_and_finite_gradients():
    x = torch.full((2, 4, 9), 3.0).requires_grad_()
    found = isqrt_covariance(x)
    assert torch.equal(found.detach(), torch.zeros(2, 10))
    found.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
