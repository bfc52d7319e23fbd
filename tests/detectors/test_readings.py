"""Readings of whole pictures: fitted to the optimum, silent before, and only of what they are told to read."""

from __future__ import annotations

import pytest
import torch

from gammascope.detectors.gamma import Readings
from gammascope.errors import MissingDataError
from gammascope.networks.fitted import fit_logistic

KINDS = {"content": torch.ones(4), "spectrum": torch.ones(6), "unread": torch.ones(2)}


def seen(count: int = 300) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pictures whose class shows in the first number of content and of spectrum."""
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(count, generator=generator) > 0.5).long()
    summary = {k: 3 + torch.randn(count, len(t), generator=generator) for k, t in KINDS.items()}
    for kind in ("content", "spectrum"):
        summary[kind][:, 0] += truth
    return summary, truth


def test_before_they_are_fitted_they_say_nothing():
    summary, truth = seen()
    assert torch.equal(Readings(KINDS, {"content": 2.0})(summary), torch.zeros(len(truth)))


def test_they_add_up_regressions_by_their_shares():
    summary, truth = seen()
    readings = Readings(KINDS, {"content": 2.0, "spectrum": 0.5})
    readings.fit(summary, truth, penalty=0.1)
    expected = sum(
        share * fit_logistic(summary[kind], truth, 0.1).logits(summary[kind])
        for kind, share in readings.shares.items()
    )
    torch.testing.assert_close(readings(summary), expected.float(), atol=1e-4, rtol=1e-4)
    assert readings(summary)[truth == 1].mean() > readings(summary)[truth == 0].mean() + 1


def test_numbers_that_are_trusted_less_count_less():
    summary, truth = seen()
    wary = {**KINDS, "content": torch.tensor([0.1, 1.0, 1.0, 1.0])}
    told = []
    for trust in (KINDS, wary):
        readings = Readings(trust, {"content": 1.0})
        readings.fit(summary, truth, penalty=1.0)
        told.append(float(readings.get_buffer("content_weight")[0]))
    assert 0 < told[1] < 0.1 * told[0]


def test_what_was_fitted_is_part_of_the_state_and_is_not_trained():
    summary, truth = seen()
    readings = Readings(KINDS, {"content": 1.0})
    readings.fit(summary, truth, penalty=1.0)
    again = Readings(KINDS, {"content": 1.0})
    again.load_state_dict(readings.state_dict())
    assert torch.equal(again(summary), readings(summary))
    assert not list(readings.parameters())


def test_pictures_of_one_class_are_refused():
    summary, truth = seen()
    with pytest.raises(MissingDataError, match="both classes"):
        Readings(KINDS, {"content": 1.0}).fit(summary, torch.ones_like(truth), penalty=1.0)
