"""AlignGemini's pixel expert: adapters, and the contrast of pairs."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from gammascope import losses
from gammascope.detectors import align_gemini

LARGE = json.dumps(
    {
        "model_type": "dinov2",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 518,
    }
)


def test_every_linear_layer_of_a_block_has_an_adapter_of_rank_8():
    with torch.device("meta"):
        detector = align_gemini.build(align_gemini.Config(architecture=LARGE))
    sizes = {n: p.numel() for n, p in detector.named_parameters() if p.requires_grad}
    adapters = sum(size for name, size in sizes.items() if ".lora_" in name)
    # q, k, v and the output: 4 x 2048; the two layers of the MLP: 2 x 5120. The published code fuses q, k and v.
    assert adapters == 24 * 8 * (4 * 2048 + 2 * 5120)
    assert sum(sizes.values()) == adapters + 1025


def test_pixels_are_normalised_as_published_unless_the_backbone_s_own_way_is_wanted():
    clips = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    published, own = (
        align_gemini.build(dataclasses.replace(align_gemini.TINY, normalisation=how))
        for how in ("clip", "backbone")
    )
    assert (published.view.mean, published.view.std) == clips
    assert (own.view.mean, own.view.std) == (own.backbone.mean, own.backbone.std) != clips


def test_it_starts_as_the_frozen_tower():
    torch.manual_seed(0)
    detector = align_gemini.build(align_gemini.TINY).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = detector(pixels).logit
        for name, parameter in detector.named_parameters():
            if "lora_A" in name:
                parameter.zero_()
        torch.testing.assert_close(detector(pixels).logit, before)


def test_the_contrast_of_pairs_is_the_mean_over_those_that_cost():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.8, 0.6])
    embeddings = torch.stack([a, 3 * b, -a])
    label = torch.tensor([0, 1, 1])
    near, far = (a - b).norm(), (b + a).norm()
    # One pair of one label at distance |b + a|; of the two others only the near one is within the margin.
    expected = far + (1 - near)
    found = losses.pair_contrastive(embeddings, label, margin=1.0)
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_equal_views_have_finite_slopes():
    embeddings = torch.ones(4, 8, requires_grad=True)
    losses.pair_contrastive(embeddings, torch.tensor([0, 0, 1, 1]), margin=1.0).backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("adapt", ["frozen", "full"])
def test_a_backbone_of_ours_is_frozen_or_trained_as_a_whole(adapt):
    config = dataclasses.replace(
        align_gemini.TINY, backbone="compact", architecture="", adapt=adapt
    )
    detector = align_gemini.build(config)
    trained = {n.split(".")[0] for n, p in detector.named_parameters() if p.requires_grad}
    assert trained == ({"head"} if adapt == "frozen" else {"head", "backbone"})
