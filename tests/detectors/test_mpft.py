"""MPFT: hides in training what it should, nothing otherwise, and learns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from gammascope.detectors import mpft
from gammascope.detectors.mpft import TINY, build, mask_of
from gammascope.errors import RecipeError
from gammascope.networks.compact import CompactConfig
from gammascope.prediction import Batch

COMPACT = replace(
    TINY,
    backbone="compact",
    architecture="",
    compact=CompactConfig(widths=(4, 8), depths=(1, 1), fused=8, fused_depth=1, token=16),
    fill="pixel",
    patch=8,
)


def views(count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, TINY.size, TINY.size, generator=generator)


def half_textured(count: int = 2) -> torch.Tensor:
    """Views whose left half is flat and whose right half is noise."""
    pixels = views(count)
    pixels[..., : TINY.size // 2] = 0.1
    return pixels


def tokens_seen(detector: mpft.MPFT, pixels: torch.Tensor) -> int:
    counts: list[int] = []
    block: Any = next(iter(detector.backbone._blocks))
    handle = block.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].shape[1]))
    # Registered first, a hook runs first: this one has to see what the tower's own hook leaves.
    block._forward_pre_hooks.move_to_end(handle.id)
    inner = block.layer_norm1.register_forward_pre_hook(
        lambda _, inputs: counts.append(inputs[0].shape[1])
    )
    detector(pixels)
    handle.remove()
    inner.remove()
    return counts[-1]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_dropped_tokens_never_enter_the_first_block(share):
    always = replace(TINY, lowest=share, highest=share, probability=1.0)
    detector = build(always)
    assert tokens_seen(detector.train(), views()) == 1 + 36 - int(36 * share)
    assert tokens_seen(detector.eval(), views()) == 1 + 36


def test_nothing_is_hidden_at_test_or_with_no_mask():
    pixels = views()
    torch.manual_seed(0)
    detector = build(TINY).eval()
    expected = detector(pixels).logit
    for law in ("none", "texture", "random", "smooth"):
        other = build(replace(TINY, mask=law))
        other.load_state_dict(detector.state_dict())
        assert torch.equal(other.eval()(pixels).logit, expected)
    plain = build(replace(TINY, mask="none"))
    plain.load_state_dict(detector.state_dict())
    assert torch.equal(plain.train()(pixels).logit, expected)


@pytest.mark.parametrize("fill", ["drop", "pixel"])
@pytest.mark.parametrize(("law", "hidden"), [("texture", {3, 4, 5}), ("smooth", {0, 1, 2})])
def test_the_half_that_should_is_hidden_first(fill, law, hidden, monkeypatch):
    masks = []

    def listen(*args, **options):
        masks.append(mask_of(*args, **options))
        return masks[-1]

    monkeypatch.setattr(mpft, "mask_of", listen)
    detector = build(replace(TINY, mask=law, fill=fill, lowest=0.3, highest=0.5, probability=1.0))
    detector.train()(half_textured(8))
    (mask,) = masks
    counts = mask.sum(1)
    assert ((counts >= 10) & (counts <= 18)).all()
    assert (counts.unique().numel() == 1) == (fill == "drop"), (
        "one share for a batch, or for a view"
    )
    assert set(mask.reshape(8, 6, 6).nonzero()[:, 2].tolist()) <= hidden


@pytest.mark.parametrize("config", [TINY, replace(TINY, fill="pixel"), COMPACT])
@pytest.mark.parametrize("law", ["texture", "random", "smooth", "none"])
def test_every_choice_trains(config, law):
    torch.manual_seed(0)
    detector = build(replace(config, mask=law)).train()
    batch = Batch(views(), torch.tensor([0, 1, 0, 1]))
    terms = mpft.loss(config)(detector(batch.pixels), batch)
    terms["label_bce"].backward()
    idle = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_only_the_last_blocks_are_trained(blocks):
    detector = build(replace(TINY, trained_blocks=blocks))
    trained = {n for n, p in detector.named_parameters() if p.requires_grad}
    inside = {name.split(".")[4] for name in trained if ".layers." in name}
    assert inside == ({"1"} if blocks == 1 else {"0", "1"})
    assert {"classify.weight", "backbone.tower.post_layernorm.weight"} <= trained
    assert ("backbone.tower.embeddings.class_embedding" in trained) == (blocks == 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained_blocks": 3}, "The last 3 of 2 blocks"),
        ({"highest": 1.0}, "something left to see"),
        ({"lowest": 0.8}, "expected shares"),
        ({"probability": -0.1}, "expected shares"),
        ({"backbone": "compact"}, "no tokens to drop"),
    ],
)
def test_impossible_choices_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        build(replace(TINY, **changes))


def test_a_tower_that_turns_its_tokens_cannot_drop_them():
    settings = json.loads(TINY.architecture) | {"model_type": "dinov3_vit"}
    detector = build(
        replace(TINY, architecture=json.dumps(settings), trained_blocks=0, probability=1.0)
    )
    with pytest.raises(RecipeError, match="fill the pixels"):
        detector.train()(views())


def test_the_evidence_is_the_texture():
    evidence = build(TINY).eval()(half_textured()).evidence["texture"]
    assert evidence.shape == (2, 6, 6)
    assert (evidence[:, :, 4:] > evidence[:, :, :2]).all()


@pytest.mark.parametrize("law", ["texture", "random"])
def test_a_tiny_one_learns_through_its_masks(law):
    torch.manual_seed(0)
    detector = build(replace(TINY, mask=law, trained_blocks=0))
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)

    def batch(seed: int) -> Batch:
        pixels, label = views(16, seed), torch.arange(16) % 2
        smooth = torch.nn.functional.avg_pool2d(pixels, 3, 1, 1) * 2
        return Batch(torch.where(label[:, None, None, None] == 1, smooth, pixels), label)

    detector.train()
    for step in range(60):
        drawn = batch(100 + step)
        value = mpft.loss(TINY)(detector(drawn.pixels), drawn)["label_bce"]
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    unseen = batch(999)
    fake = detector.eval()(unseen.pixels).logit > 0
    assert (fake == unseen.label.bool()).float().mean() > 0.85
