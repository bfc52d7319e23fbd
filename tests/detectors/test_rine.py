"""RINE: what it reads of each block, what is trained, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gammascope import losses
from gammascope.detectors.rine import TINY, Config, build, loss
from gammascope.errors import RecipeError
from gammascope.prediction import Batch

PIXELS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_the_tower_says_the_same_when_its_blocks_are_read():
    """Behind the last block stands what the tower itself gives out."""
    torch.manual_seed(0)
    network = build(TINY).eval()
    seen = []
    for block in network.backbone.tower.encoder.layers:
        block.layer_norm2.register_forward_hook(lambda _, __, out: seen.append(out[:, 0]))
    with torch.no_grad():
        network.backbone(PIXELS)
        own = torch.stack(seen, 1)
        seen.clear()
        assert torch.allclose(network.tokens(PIXELS), own, atol=1e-5)


def test_views_of_another_size_than_the_tower_s_are_read():
    network = build(TINY).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 48, 40)).logit.shape == (1,)


def test_the_importance_of_blocks_adds_up_to_one_for_each_feature():
    network = build(replace(TINY, dropout=0.0)).eval()
    with torch.no_grad():
        network.importance.copy_(torch.tensor([50.0, -50.0])[:, None].expand_as(network.importance))
        alone = network(PIXELS).logit
        tokens = network.tokens(PIXELS)[:, 0]
        expected = network.head(network.gather(network.project(tokens)))[:, 0]
    assert torch.allclose(alone, expected, atol=1e-5)


def test_clip_stays_as_it_is():
    network = build(TINY).train()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert not any(name.startswith("backbone") for name in trained)
    assert not network.backbone.tower.training


def test_the_contrast_is_of_what_the_head_reads_and_weighs_a_view_s_share():
    """The authors add 0.2 of it to a sum over 128 views."""
    assert Config().lambda_contrastive * 128 == pytest.approx(0.2)
    network = build(TINY).eval()
    prediction = network(PIXELS)
    batch = Batch(PIXELS, torch.tensor([0, 1, 0, 1]))
    terms = loss(replace(TINY, lambda_contrastive=3.0))(prediction, batch)
    contrast = losses.supervised_contrastive(
        prediction.features["embedding"], batch.label, temperature=0.07
    )
    assert terms["contrastive"].item() == pytest.approx(3 * contrast.item(), rel=1e-6)
    assert terms["label_bce"].item() > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 0}, "expected at least 1"),
        ({"reads": (1, 2)}, "leave out method.reads"),
        ({"backbone": "compact", "architecture": ""}, "blocks of a CLIP"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(RecipeError, match=words):
        build(replace(TINY, **changes))
