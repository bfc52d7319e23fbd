"""GAMMA: what its heads segment, what its label means, and every ablation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from safetensors.torch import save_file

from gammascope import losses
from gammascope.detectors import gamma
from gammascope.detectors.gamma import HEADS, TINY, Config, build, most_suspicious, targets_of
from gammascope.errors import RecipeError
from gammascope.networks.mask_heads import Neck
from gammascope.networks.mobilenet import MobileNetBackbone, MobileNetConfig
from gammascope.prediction import Batch

SIDE = TINY.size

# What a picture consists of, as shares (generated, edited) of its two halves: outside and inside of the mask. And
# whether it contains generated pixels, and whether it was edited.
SAMPLES = {
    "authentic": ((0, 0), (0, 0)),
    "generated": ((1, 0), (1, 0)),
    "inpainted, pasted back": ((0, 0), (1, 1)),
    "inpainted, regenerated": ((1, 0), (1, 1)),
    "copy-move": ((0, 0), (0, 1)),
    "splice, authentic into authentic": ((0, 0), (0, 1)),
    "splice, generated into authentic": ((0, 0), (1, 1)),
    "splice, authentic into generated": ((1, 0), (0, 1)),
}
OUTSIDE, INSIDE = (0, 0), (-1, -1)

# The specification's table (source), and the same pictures under its three alternatives.
EXPECTED = {
    "source": {
        "authentic": {"generated": (0, 0), "edited": (0, 0)},
        "generated": {"generated": (1, 1), "edited": (0, 0)},
        "inpainted, pasted back": {"generated": (0, 1), "edited": (0, 1)},
        "inpainted, regenerated": {"generated": (1, 1), "edited": (0, 1)},
        "copy-move": {"generated": (0, 0), "edited": (0, 1)},
        "splice, authentic into authentic": {"generated": (0, 0), "edited": (0, 1)},
        "splice, generated into authentic": {"generated": (0, 1), "edited": (0, 1)},
        "splice, authentic into generated": {"generated": (1, 0), "edited": (0, 1)},
    },
    "family": {
        "authentic": {"inpainted": (0, 0), "moved": (0, 0)},
        "generated": {"inpainted": (0, 0), "moved": (0, 0)},
        "inpainted, pasted back": {"inpainted": (0, 1), "moved": (0, 0)},
        "inpainted, regenerated": {"inpainted": (0, 1), "moved": (0, 0)},
        "copy-move": {"inpainted": (0, 0), "moved": (0, 1)},
        "splice, authentic into authentic": {"inpainted": (0, 0), "moved": (0, 1)},
        # Not told from an inpainting without its history.
        "splice, generated into authentic": {"inpainted": (0, 1), "moved": (0, 0)},
        "splice, authentic into generated": {"inpainted": (0, 0), "moved": (0, 1)},
    },
    "authenticity": {
        "authentic": {"fake": (0, 0), "authentic": (1, 1)},
        "generated": {"fake": (1, 1), "authentic": (0, 0)},
        "inpainted, pasted back": {"fake": (0, 1), "authentic": (1, 0)},
        "inpainted, regenerated": {"fake": (1, 1), "authentic": (0, 0)},
        "copy-move": {"fake": (0, 1), "authentic": (1, 0)},
        "splice, authentic into authentic": {"fake": (0, 1), "authentic": (1, 0)},
        "splice, generated into authentic": {"fake": (0, 1), "authentic": (1, 0)},
        "splice, authentic into generated": {"fake": (1, 1), "authentic": (0, 0)},
    },
    "softmax": {
        "authentic": {"authentic": (1, 1), "edited": (0, 0), "generated": (0, 0)},
        "generated": {"authentic": (0, 0), "edited": (0, 0), "generated": (1, 1)},
        "inpainted, pasted back": {"authentic": (1, 0), "edited": (0, 0), "generated": (0, 1)},
        "inpainted, regenerated": {"authentic": (0, 0), "edited": (0, 0), "generated": (1, 1)},
        "copy-move": {"authentic": (1, 0), "edited": (0, 1), "generated": (0, 0)},
        "splice, authentic into authentic": {
            "authentic": (1, 0),
            "edited": (0, 1),
            "generated": (0, 0),
        },
        "splice, generated into authentic": {
            "authentic": (1, 0),
            "edited": (0, 0),
            "generated": (0, 1),
        },
        "splice, authentic into generated": {
            "authentic": (0, 0),
            "edited": (0, 1),
            "generated": (1, 0),
        },
    },
}

variants = pytest.mark.parametrize("seg_targets", HEADS)
samples = pytest.mark.parametrize("sample", SAMPLES)


def masks_of(sample: str, boundary: int = SIDE // 2) -> dict[str, torch.Tensor]:
    """Return the two masks: columns from ``boundary`` on are inside the edit."""
    outside, inside = SAMPLES[sample]
    masks = torch.zeros(2, 1, SIDE, SIDE)
    for index in range(2):
        masks[index, :, :, :boundary] = outside[index]
        masks[index, :, :, boundary:] = inside[index]
    return {"generated": masks[0], "edited": masks[1]}


def batch_of(*chosen: str, boundary: int = SIDE // 2) -> Batch:
    parts = [masks_of(sample, boundary) for sample in chosen]
    masks = {name: torch.cat([part[name] for part in parts]) for name in ("generated", "edited")}
    answers = {name: mask.flatten(1).amax(1).long() for name, mask in masks.items()}
    pixels = torch.randn(
        len(chosen), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(len(chosen))
    )
    label = torch.maximum(answers["generated"], answers["edited"])
    return Batch(pixels, label, answers, masks, {name: torch.ones(len(chosen)) for name in masks})


def awake(config: Config) -> gamma.Gamma:
    torch.manual_seed(0)
    detector = build(config)
    for parameter in detector.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return detector


@variants
@samples
def test_targets_are_those_of_the_table(seg_targets, sample):
    masks = masks_of(sample)
    targets = targets_of(
        replace(TINY, seg_targets=seg_targets), masks["generated"], masks["edited"]
    )
    assert tuple(targets) == HEADS[seg_targets]
    found = {
        name: (float(target[0][OUTSIDE]), float(target[0][INSIDE]))
        for name, target in targets.items()
    }
    assert found == EXPECTED[seg_targets][sample]


@pytest.mark.parametrize(
    ("sample", "by_pixels"),
    [
        ("authentic", 0),
        ("generated", 1),
        ("inpainted, pasted back", 1),
        ("inpainted, regenerated", 1),
        ("copy-move", 0),
        ("splice, authentic into authentic", 0),
        ("splice, generated into authentic", 1),
        ("splice, authentic into generated", 1),
    ],
)
@pytest.mark.parametrize("manip_label", ["fake", "by_pixels"])
def test_the_label_calls_fake_what_the_config_says(sample, by_pixels, manip_label):
    config = replace(TINY, manip_label=manip_label)
    detector, batch = awake(config).eval(), batch_of(sample)
    prediction = detector(batch.pixels)
    expected = by_pixels if manip_label == "by_pixels" else int(sample != "authentic")
    value = gamma.loss(config)(prediction, batch)["label_bce"]
    label = torch.tensor([expected])
    torch.testing.assert_close(value, losses.label_bce(prediction.logit, label))


@variants
@pytest.mark.parametrize("boundary", [SIDE // 2, SIDE // 2 + 1, SIDE // 2 + 2])
def test_targets_of_cells_on_the_edge_are_shares_of_the_pixels_targets(
    seg_targets, boundary, monkeypatch
):
    """Half a cell generated and the other half pasted is no cell that is half inpainted."""
    seen: dict[int, torch.Tensor] = {}

    def listen(logits, target, weight, **_):
        seen[len(seen)] = target
        return logits.sum() * 0

    for name in ("mask_bce", "mask_dice", "pixel_cross_entropy"):
        monkeypatch.setattr(losses, name, listen)
    config = replace(TINY, seg_targets=seg_targets)
    batch = batch_of(*SAMPLES, boundary=boundary)
    gamma.loss(config)(awake(config).eval()(batch.pixels), batch)
    pixelwise = targets_of(config, batch.masks["generated"], batch.masks["edited"])
    rows = SIDE // 4
    expected = [losses.at_grid(pixelwise[name], rows, rows) for name in HEADS[seg_targets]]
    if seg_targets == "softmax":
        torch.testing.assert_close(seen[0], torch.stack(expected, 1))
    else:
        assert len(seen) == 4
        for index, target in enumerate(expected):
            torch.testing.assert_close(seen[2 * index], target)
            torch.testing.assert_close(seen[2 * index + 1], target)


@variants
def test_a_target_made_of_both_masks_needs_both_to_be_trusted(seg_targets):
    weights = {"generated": torch.tensor([1.0, 1.0, 0.0]), "edited": torch.tensor([1.0, 0.0, 1.0])}
    trusted = gamma.targets_weight(replace(TINY, seg_targets=seg_targets), weights)
    assert set(trusted) == set(HEADS[seg_targets])
    for name, weight in trusted.items():
        expected = weights[name] if seg_targets == "source" else torch.tensor([1.0, 0.0, 0.0])
        assert torch.equal(weight, expected)


def test_the_two_mask_losses_are_weighed_apart():
    batch = batch_of("inpainted, pasted back", "splice, authentic into generated")
    config = replace(TINY, lambda_generated=0.25, lambda_edited=0.75)
    double = replace(TINY, lambda_generated=0.5, lambda_edited=0.75)
    prediction = awake(config).eval()(batch.pixels)
    once, twice = (gamma.loss(c)(prediction, batch) for c in (config, double))
    for term, value in once.items():
        factor = 2 if term.startswith("generated") else 1
        torch.testing.assert_close(twice[term], factor * value)


MOBILE = MobileNetConfig(8, (8, 8, 12), (1, 1, 1), (1, 2, 2), expansion=2, fused=8, token=16)

ABLATIONS = [
    pytest.param(
        {"seg_targets": targets, "seg_heads": heads, "correction": correction},
        id=f"{targets}-{heads}-{correction}",
    )
    for targets, heads, correction in product(
        HEADS, ("both", "first", "none"), ("direct", "complement", "none")
    )
] + [
    pytest.param(changes, id="-".join(f"{k}={v}" for k, v in changes.items()))
    for changes in (
        {"correction": "subtractive"},
        {"mask_bias": True},
        {"mask_bias": True, "seg_targets": "softmax"},
        {"detach_seg": True},
        {"seg_mixing": "transformer"},
        {"seg_blocks": 0},
        {"manip_label": "by_pixels"},
        {"lambda_was_edited": 0.0},
        {"backbone": "mobilenetv2", "mobilenetv2": MOBILE},
    )
]


@pytest.mark.parametrize("changes", ABLATIONS)
def test_every_ablation_trains_all_of_its_parameters(changes):
    config = replace(TINY, **changes)
    detector = awake(config).train()
    batch = batch_of("authentic", "generated", "inpainted, pasted back", "copy-move")
    terms = gamma.loss(config)(detector(batch.pixels), batch)
    total = torch.stack(list(terms.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    idle = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("correction", ["direct", "complement", "subtractive"])
def test_training_starts_from_the_plain_classifier(correction):
    """At first, segmentation neither helps nor harms: the gates are closed."""
    torch.manual_seed(0)
    detector = build(replace(TINY, correction=correction)).eval()
    plain = build(replace(TINY, correction="none")).eval()
    state = {k: v for k, v in detector.state_dict().items() if not k.startswith("correct.")}
    plain.load_state_dict(state)
    pixels = batch_of("authentic", "copy-move").pixels
    assert torch.equal(detector(pixels).logit, plain(pixels).logit)


@pytest.mark.parametrize("detach", [False, True])
def test_detaching_keeps_the_label_out_of_the_branches(detach):
    detector = awake(replace(TINY, detach_seg=detach, mask_bias=True)).eval()
    batch = batch_of("authentic", "generated")
    losses.label_bce(detector(batch.pixels).logit, batch.label).backward()
    for part in (detector.branches, detector.neck):
        reached = any(p.grad is not None and p.grad.any() for p in part.parameters())
        assert reached != detach
    assert all(p.grad is not None for p in detector.correct.parameters() if p.ndim > 1)


def test_detaching_changes_no_prediction():
    pixels = batch_of("authentic", "generated").pixels
    attached, detached = (awake(replace(TINY, detach_seg=d)).eval()(pixels) for d in (False, True))
    assert torch.equal(attached.logit, detached.logit)


def test_segmentation_changes_the_verdict_once_the_gates_are_open():
    detector = awake(TINY).eval()
    pixels = batch_of("authentic", "generated").pixels
    before = detector(pixels).logit
    for parameter in detector.branches.parameters():
        torch.nn.init.normal_(parameter)
    assert (detector(pixels).logit - before).abs().max() > 1e-3


def test_softmax_log_odds_give_the_probabilities_back():
    detector = awake(replace(TINY, seg_targets="softmax")).eval()
    pixels = batch_of("authentic", "generated").pixels
    prediction = detector(pixels)
    assert tuple(prediction.masks) == HEADS["softmax"]
    total = torch.stack([mask.sigmoid() for mask in prediction.masks.values()]).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))
    grid = detector.neck(detector.backbone(pixels).grid)
    expected = detector.branches["source"](grid).logits.softmax(1)
    for index, name in enumerate(HEADS["softmax"]):
        torch.testing.assert_close(prediction.masks[name].sigmoid(), expected[:, index])


def test_most_suspicious_is_the_mean_of_the_highest_share():
    mask = torch.arange(100.0).reshape(1, 10, 10)
    assert most_suspicious(mask, 0.02).tolist() == [98.5]
    assert most_suspicious(mask, 1.0).tolist() == [49.5]
    assert most_suspicious(mask[:, :1, :1], 0.02).tolist() == [0.0]
    shuffled = mask.flatten()[torch.randperm(100)].reshape(1, 10, 10)
    assert torch.equal(most_suspicious(shuffled, 0.1), most_suspicious(mask, 0.1))


def test_by_pixels_the_label_is_the_answer():
    prediction = awake(replace(TINY, manip_label="by_pixels")).eval()(batch_of("generated").pixels)
    assert torch.equal(prediction.answers["generated"], prediction.logit)


def test_otherwise_generated_needs_label_and_mask():
    """``p(generated) = p(fake) p(most suspicious cells)``, so never above either."""
    detector = awake(TINY).eval()
    prediction = detector(batch_of("authentic", "generated", "copy-move").pixels)
    pooled = most_suspicious(prediction.masks["generated"], TINY.pooled_share)
    expected = prediction.logit.sigmoid() * pooled.sigmoid()
    torch.testing.assert_close(prediction.answers["generated"].sigmoid(), expected)
    for certain in (-80.0, 80.0):
        answers = gamma._answers(
            TINY, torch.tensor([certain]), {"generated": torch.full((1, 2, 2), certain)}
        )
        assert torch.isfinite(answers["generated"]).all()
        assert (answers["generated"] > 0) == (certain > 0)


@pytest.mark.parametrize("seg_targets", ["source", "family"])
def test_an_edit_of_any_family_answers_edited(seg_targets):
    config = replace(TINY, seg_targets=seg_targets)
    for name in HEADS[seg_targets]:
        if name == "generated":
            continue
        masks = {other: torch.full((1, 8, 8), -9.0) for other in HEADS[seg_targets]}
        assert gamma._answers(config, torch.zeros(1), masks)["edited"] < 0
        masks[name][0, 2:4, 2:4] = 9
        assert gamma._answers(config, torch.zeros(1), masks)["edited"] > 0, name


def test_the_view_is_normalised_as_the_backbone_wants():
    detector = build(TINY)
    assert (detector.view.mean, detector.view.std) == (
        detector.backbone.mean,
        detector.backbone.std,
    )
    assert (detector.view.size, detector.view.fit) == (TINY.size, TINY.fit)


def test_a_detector_that_started_from_foreign_weights_forgets_where_they_lay(tmp_path):
    source = MobileNetBackbone(MOBILE)
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    config = replace(
        TINY,
        backbone="mobilenetv2",
        mobilenetv2=MOBILE,
        pretrained=str(tmp_path / "net.safetensors"),
    )
    detector = build(config)
    assert torch.equal(detector.backbone.conv_stem.weight, source.conv_stem.weight)
    assert detector.config.pretrained == ""
    build(detector.config).load_state_dict(detector.state_dict())


READING = replace(
    TINY,
    backbone="mobilenetv2",
    mobilenetv2=replace(MOBILE, bands=16, last=24, last_in_token=False),
    overview=0.3,
    whole=gamma.WholeConfig(content=2.0, spectrum=1.0, penalty=0.1, views=48),
)


def test_readings_of_the_whole_are_fitted_to_pictures_of_both_classes():
    torch.manual_seed(0)
    detector = build(READING).eval()
    pixels = torch.randn(48, 3, 32, 32)
    label = torch.arange(48) % 2
    pixels[label == 1] *= 0.5
    batches = [Batch(pixels[n : n + 16], label[n : n + 16]) for n in range(0, 48, 16)]
    asked = []

    def views(count):
        asked.append(count)
        return iter(batches)

    plain = detector(pixels)
    assert not plain.answers["whole"].any()
    gamma.read(detector, views)
    told = detector(pixels)
    assert asked == [48]
    assert told.answers["whole"][label == 1].min() > told.answers["whole"][label == 0].max()
    assert torch.equal(told.logit, plain.logit), "what was trained stays as it is"
    build(detector.config).load_state_dict(detector.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overview": 0.0}, "no view shows the whole picture"),
        ({"backbone": "compact"}, "no such statistics"),
        ({"mobilenetv2": replace(MOBILE, bands=0)}, r"whole.spectrum: .*\(it has: content\)"),
    ],
)
def test_readings_of_what_nothing_shows_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        build(replace(READING, **changes))


def test_without_heads_there_is_no_neck_to_train():
    detector = build(replace(TINY, seg_heads="none"))
    assert not any(isinstance(module, Neck) for module in detector.modules())
