"""The null space of semantics: a projection that is never empty, and drops what it says it drops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gammascope.detectors.ns_net import NullSpaceProjector, null_space


def vectors(count: int, width: int, seed: int = 0, decay: float = 0.7) -> torch.Tensor:
    """Vectors whose directions differ in strength, as those of captions do."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, width, generator=generator) * decay ** torch.arange(width)
    turned, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return mixed @ turned


@given(
    count=st.integers(1, 60),
    width=st.integers(1, 16),
    energy=st.floats(0, 1),
    centre=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_a_projection_of_the_stated_rank_and_never_empty(count, width, energy, centre, seed):
    projection, rank = null_space(
        vectors(count, width, seed).double(), energy=energy, centre=centre
    )
    torch.testing.assert_close(projection, projection.T)
    torch.testing.assert_close(projection @ projection, projection)
    assert 1 <= rank <= width
    assert int(torch.linalg.matrix_rank(projection, atol=1e-6)) == rank
    assert float(projection.trace()) == pytest.approx(rank)


def test_more_vectors_than_dimensions_leave_something():
    """Their exact null space is empty: without the truncation nothing, or one number, would pass."""
    many = vectors(500, 12, decay=0.8)
    assert np.linalg.matrix_rank(many.numpy()) == 12
    _, rank = null_space(many, energy=0.95)
    assert 1 < rank < 11
    assert null_space(many, energy=1.0)[1] == 1


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.95, 0.99])
def test_the_fewest_directions_with_the_share_of_the_energy_are_dropped(energy):
    rows = vectors(200, 12)
    projection, rank = null_space(rows, energy=energy)
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    left = float((unit @ projection.double()).square().sum() / unit.square().sum())
    assert left <= 1 - energy + 1e-6
    strengths = np.linalg.svd(unit.numpy(), compute_uv=False) ** 2
    one_fewer = strengths[: 12 - rank - 1].sum() / strengths.sum()
    assert one_fewer < energy


def test_what_lies_in_the_span_vanishes_and_what_is_orthogonal_passes():
    rows = torch.zeros(3, 6)
    rows[0, 0], rows[1, 1], rows[2, :2] = 2, 3, 1
    projector = NullSpaceProjector(6)
    projector.measure(rows, energy=1.0)
    assert projector.rank == 4
    torch.testing.assert_close(projector(rows), torch.zeros(3, 6))
    other = torch.zeros(2, 6)
    other[:, 2:] = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(projector(other), other)


def test_centring_spares_the_common_direction():
    """Text features share a large mean: uncentred it is the first to go."""
    common = torch.zeros(1, 8)
    common[0, 0] = 5
    rows = common + 0.1 * vectors(50, 8) * (torch.arange(8) > 0)
    for centre, survives in ((False, False), (True, True)):
        projector = NullSpaceProjector(8)
        projector.measure(rows, energy=0.6, centre=centre)
        assert (projector(common).norm() > 4) == survives


def test_before_anything_is_measured_everything_passes():
    features = vectors(3, 5)
    assert torch.equal(NullSpaceProjector(5)(features), features)


def test_half_precision_features_are_projected_in_full():
    projector = NullSpaceProjector(4)
    with torch.autocast("cpu", torch.bfloat16):
        assert projector(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "energy", "message"),
    [
        (torch.ones(2, 3), 1.5, "energy=1.5"),
        (torch.ones(0, 3), 0.9, "0 vectors"),
        (torch.full((2, 3), float("nan")), 0.9, "finite"),
    ],
)
def test_impossible_requests_are_refused(rows, energy, message):
    with pytest.raises(ValueError, match=message):
        null_space(rows, energy=energy)
