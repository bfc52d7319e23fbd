"""The mixture of Gaussians against scikit-learn, and its threshold against what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Oracle

from gammascope.networks.fitted import GaussianMixture

kinds = pytest.mark.parametrize("covariance", ["full", "diag"])


def clusters(count: int = 600, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 0, 0], [8, 0, 1], [0, 9, -2]])
    chosen = torch.randint(3, (count,), generator=generator)
    shape = torch.tensor([[1.0, 0.5, 0], [0, 0.7, 0.2], [0, 0, 0.4]])
    return centres[chosen] + torch.randn(count, 3, generator=generator) @ shape


@kinds
def test_the_likelihood_is_scikit_learns(covariance):
    seen = clusters()
    mixture = GaussianMixture(3, 3, covariance).double()
    mixture.fit(seen, seed=0)
    oracle = Oracle(3, covariance_type=covariance)
    oracle.weights_ = mixture.log_weights.exp().numpy()
    oracle.means_ = mixture.means.numpy()
    factors = mixture.whitening
    oracle.precisions_cholesky_ = (
        factors.transpose(1, 2) if covariance == "full" else factors
    ).numpy()
    other = clusters(50, seed=1).double()
    np.testing.assert_allclose(
        mixture.log_likelihood(other).numpy(), oracle.score_samples(other.numpy()), rtol=1e-9
    )


@kinds
def test_the_fit_is_as_good_as_scikit_learns(covariance):
    seen = clusters()
    mixture = GaussianMixture(3, 3, covariance)
    mixture.fit(seen, seed=0)
    oracle = Oracle(3, covariance_type=covariance, n_init=3, random_state=0).fit(seen.numpy())
    assert float(mixture.log_likelihood(seen).mean()) == pytest.approx(
        oracle.score(seen.numpy()), abs=2e-3
    )


@kinds
@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
def test_the_threshold_calls_its_share_of_photos_fake(covariance, share):
    mixture = GaussianMixture(3, 3, covariance)
    mixture.fit(clusters(), seed=0)
    mixture.set_threshold(clusters(3000, seed=1), share)
    unseen = clusters(3000, seed=2)
    assert float((mixture(unseen) > 0).float().mean()) == pytest.approx(share, abs=0.02)
    far = torch.full((1, 3), 40.0)
    assert mixture(far) > 5


def test_the_same_seed_gives_the_same_fit():
    first, second = GaussianMixture(3, 3), GaussianMixture(3, 3)
    first.fit(clusters(), seed=4)
    second.fit(clusters(), seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


@kinds
def test_fewer_features_than_dimensions_are_held_up_by_the_ridge(covariance):
    few = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    mixture = GaussianMixture(40, 2, covariance, ridge=1e-3)
    mixture.fit(few, seed=0)
    mixture.set_threshold(few, 0.1)
    assert torch.isfinite(mixture(few)).all()


def test_equal_features_are_no_obstacle():
    mixture = GaussianMixture(2, 2)
    mixture.fit(torch.ones(8, 2), seed=0)
    mixture.set_threshold(torch.ones(8, 2), 0.5)
    assert torch.isfinite(mixture(torch.tensor([[1.0, 1.0], [5.0, 5.0]]))).all()


def test_before_any_fit_there_is_an_answer():
    assert torch.isfinite(GaussianMixture(4, 2)(torch.ones(3, 4))).all()


@pytest.mark.parametrize("seen", [torch.ones(1, 3), torch.full((9, 3), float("nan"))])
def test_impossible_fits_are_refused(seen):
    with pytest.raises(ValueError, match="for 2 components"):
        GaussianMixture(3, 2).fit(seen, seed=0)
