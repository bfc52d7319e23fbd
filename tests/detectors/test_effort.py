"""Effort: what is trained, what it starts as, and what its penalties do."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from gammascope.detectors import effort
from gammascope.detectors.effort import TINY, Config, build
from gammascope.detectors.effort import loss as loss_of
from gammascope.networks.adapters import ResidualSVDLinear
from gammascope.networks.pretrained import backbone_for, backbone_in
from gammascope.prediction import Batch
from gammascope.training.loop import _groups
from gammascope.training.recipe import Optimisation
from gammascope.weights import embedded_path

CLIP_LARGE = json.dumps(
    {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "patch_size": 14,
        "image_size": 224,
    }
)

# Trained weights, so that splitting them means something; views as small as the network allows keep it quick.
EMBEDDED = replace(TINY, backbone="embedded", architecture="", size=32, fit="tiles")


def batch_of(detector: effort.Effort, count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, 3, detector.view.size, detector.view.size, generator=generator)
    return Batch(pixels, torch.tensor([0, 1, 0, 1])[:count])


def test_the_paper_trains_196704_adapter_parameters():
    with torch.device("meta"):
        detector = build(replace(Config(), architecture=CLIP_LARGE))
    trained = {n: p.numel() for n, p in detector.named_parameters() if p.requires_grad}
    head = {n: count for n, count in trained.items() if n.startswith("head.")}
    assert sum(trained.values()) - sum(head.values()) == 196_704
    assert head == {"head.weight": 1024, "head.bias": 1}
    layers = [m for m in detector.modules() if isinstance(m, ResidualSVDLinear)]
    assert len(layers) == 96
    assert {tuple(layer.main.shape) for layer in layers} == {(1024, 1024)}


def test_it_starts_as_the_pretrained_backbone():
    config = EMBEDDED
    torch.manual_seed(0)
    detector = build(config).eval()
    original, _ = backbone_for(config)
    pixels = batch_of(detector).pixels
    expected = original(pixels).token
    torch.testing.assert_close(detector.backbone(pixels).token, expected, atol=1e-4, rtol=1e-4)


def test_it_rebuilds_without_reading_anything():
    detector = build(EMBEDDED)
    name, sizes = backbone_in(embedded_path())
    assert detector.config.backbone == name == "mobilenetv2"
    assert detector.config.mobilenetv2 == sizes
    again = build(detector.config)
    again.load_state_dict(detector.state_dict())
    pixels = batch_of(detector).pixels
    expected = detector.eval()(pixels).logit
    torch.testing.assert_close(again.eval()(pixels).logit, expected)


def test_batch_norms_of_a_frozen_backbone_learn_nothing():
    detector = build(EMBEDDED)
    before = {n: b.clone() for n, b in detector.named_buffers()}
    detector.train()(batch_of(detector).pixels)
    assert all(torch.equal(before[n], b) for n, b in detector.named_buffers())


def test_by_default_the_loss_is_that_of_the_published_code():
    detector = build(TINY).train()
    batch = batch_of(detector)
    assert list(loss_of(TINY)(detector(batch.pixels), batch)) == ["label_bce"]


def test_penalties_join_on_request_and_only_in_training():
    config = replace(TINY, lambda_orthogonality=2.0, lambda_energy=0.5)
    detector = build(config)
    batch = batch_of(detector)
    terms = loss_of(config)(detector.train()(batch.pixels), batch)
    assert list(terms) == ["label_bce", "orthogonality", "energy"]
    torch.testing.assert_close(terms["orthogonality"], 2 * detector.penalty("orthogonality"))
    assert not detector.eval()(batch.pixels).penalties


def test_a_penalty_keeps_the_directions_near_their_start():
    def left_after_training(weight: float) -> float:
        torch.manual_seed(0)
        config = replace(EMBEDDED, lambda_orthogonality=weight)
        detector = build(config).train()
        batch = batch_of(detector)
        loss = loss_of(config)
        optimiser = torch.optim.AdamW(
            [p for p in detector.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0
        )
        for _ in range(6):
            optimiser.zero_grad()
            torch.stack(list(loss(detector(batch.pixels), batch).values())).sum().backward()
            optimiser.step()
        return float(detector.penalty("orthogonality").detach())

    free, held = left_after_training(0.0), left_after_training(10.0)
    assert 0 < held < 0.7 * free


def test_weight_decay_never_takes_a_pretrained_direction_away():
    """Whatever a recipe asks for: pulled to 0, they would leave the weights without what they held there."""
    detector = build(TINY)
    decayed, spared = _groups(detector, Optimisation(weight_decay=0.01))
    assert [group["weight_decay"] for group in (decayed, spared)] == [0.01, 0.0]
    named = {id(parameter): name for name, parameter in detector.named_parameters()}
    assert [named[id(parameter)] for parameter in decayed["params"]] == ["head.weight"]
    assert {named[id(p)].rpartition(".")[2] for p in spared["params"]} == {"u", "s", "v", "bias"}


def test_a_few_steps_learn_eight_images():
    """A real training check: half of the images are blurred."""
    torch.manual_seed(0)
    detector = build(EMBEDDED)
    pixels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    pixels[4:] = torch.nn.functional.avg_pool2d(pixels[4:], 3, 1, 1)
    batch = Batch(pixels, torch.tensor([0] * 4 + [1] * 4))
    loss, detector = loss_of(TINY), detector.train()
    optimiser = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=1e-2)
    values = []
    for _ in range(30):
        optimiser.zero_grad()
        value = loss(detector(pixels), batch)["label_bce"]
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0] / 10
