"""GAPL: two stages, constant prototypes, and the controls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional

from gammascope import checkpoints, settings
from gammascope.detectors.base import Seen
from gammascope.detectors.gapl import (
    TINY,
    Config,
    Gapl,
    build,
    principal_directions,
    random_directions,
)
from gammascope.detectors.gapl import loss as loss_of
from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.prediction import Batch

CLIP_TINY = json.dumps(
    {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "patch_size": 8,
        "image_size": 32,
    }
)
# What a fresh second stage is built from: a backbone that is read from a checkpoint.
EMBEDDED = replace(TINY, backbone="embedded", normalisation="backbone")


def gapl(config: Config) -> Gapl:
    torch.manual_seed(0)
    return build(config)


def seen(count: int = 300, width: int = 128) -> Seen:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(count, width, generator=generator)
    truth = (features[:, :4].sum(1) > 0).long()
    return Seen(features, truth, {"generated": truth})


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory) -> Path:
    detector = gapl(replace(EMBEDDED, stage="projection"))
    detector.fit(seen(), None)
    path = tmp_path_factory.mktemp("first") / "checkpoint.safetensors"
    facts = checkpoints.Facts("gapl", settings.plain(detector.config), detector.view)
    checkpoints.save(path, detector, facts)
    return path


def test_principal_directions_are_those_of_scikit_learn():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)
    found = principal_directions(rows, 3)
    expected = torch.from_numpy(PCA(3).fit(rows.numpy()).components_)
    torch.testing.assert_close((found * expected).sum(1).abs(), torch.ones(3), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found @ found.T, torch.eye(3), atol=1e-5, rtol=1e-5)


def test_random_directions_are_orthonormal_as_far_as_there_is_room():
    torch.manual_seed(0)
    found = random_directions(20, 16)
    torch.testing.assert_close(found[:16] @ found[:16].T, torch.eye(16), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(20), atol=1e-5, rtol=1e-5)


def test_the_first_stage_learns_and_leaves_prototypes_of_both_classes():
    detector = gapl(
        replace(
            EMBEDDED,
            stage="projection",
            projecting=replace(TINY.projecting, epochs=30, learning_rate=1e-2),
        )
    )
    assert not detector.mix.prototypes.any()
    figures = detector.fit(seen(), seen())
    assert figures["log_loss"] < 0.35
    assert figures["log_loss_judged"] == pytest.approx(figures["log_loss"])
    found = detector.mix.prototypes
    assert found.shape == (8, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(8), atol=1e-5, rtol=1e-5)
    truth = seen().generated
    with torch.no_grad():
        embedded = detector.embed(seen().features)
    for label, rows in ((0, found[:4]), (1, found[4:])):
        expected = principal_directions(embedded[truth == label], 4)
        torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)


def test_the_second_stage_starts_from_the_first(first_stage):
    first = checkpoints.load(first_stage).detector
    second = gapl(replace(EMBEDDED, start=str(first_stage)))
    assert torch.equal(second.project.weight, first.project.weight)
    assert torch.equal(second.mix.prototypes, first.mix.prototypes)
    assert second.config.start == "", "a checkpoint rebuilds without the first stage"


def test_the_control_has_random_prototypes_and_the_same_projection(first_stage):
    second = gapl(replace(EMBEDDED, start=str(first_stage), prototype_source="random"))
    first = checkpoints.load(first_stage).detector
    assert torch.equal(second.project.weight, first.project.weight)
    found = second.mix.prototypes
    assert not torch.allclose(found, first.mix.prototypes, atol=0.1)
    torch.testing.assert_close(found @ found.T, torch.eye(8), atol=1e-5, rtol=1e-5)


def test_prototypes_are_constant_and_travel_in_the_state(first_stage, tmp_path):
    detector = gapl(replace(EMBEDDED, start=str(first_stage))).train()
    assert "mix.prototypes" in detector.state_dict()
    assert "mix.prototypes" not in dict(detector.named_parameters())
    before = detector.mix.prototypes.clone()
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(pixels, torch.tensor([0, 1, 0, 1]))
    optimiser = torch.optim.AdamW(detector.parameters(), lr=0.01)
    loss_of(EMBEDDED)(detector(pixels), batch)["label_bce"].backward()
    optimiser.step()
    assert torch.equal(detector.mix.prototypes, before)
    facts = checkpoints.Facts("gapl", settings.plain(detector.config), detector.view)
    checkpoints.save(tmp_path / "second.safetensors", detector, facts)
    again = checkpoints.load(tmp_path / "second.safetensors").detector
    assert torch.equal(again.mix.prototypes, before)
    torch.testing.assert_close(again(pixels).logit, detector.eval()(pixels).logit)


def test_the_answer_is_a_function_of_the_attention_weights_alone():
    """softmax over prototypes, per head, written out; no residual."""
    detector = gapl(TINY).eval()
    z = functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    weights = detector.mix.attention
    q, k, v = weights.in_proj_weight.chunk(3)
    prototypes, heads = detector.mix.prototypes, TINY.attention_heads

    def divided(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (heads, -1)).transpose(0, 1)

    scores = divided(z @ q.T) @ divided(prototypes @ k.T).transpose(1, 2) / (16 / heads) ** 0.5
    mixed = (scores.softmax(2) @ divided(prototypes @ v.T)).transpose(0, 1).flatten(1)
    expected = mixed @ weights.out_proj.weight.T + weights.out_proj.bias
    torch.testing.assert_close(detector.mix(z), expected, atol=1e-5, rtol=1e-5)


def test_the_residual_is_an_ablation():
    plain, added = gapl(TINY).eval(), gapl(replace(TINY, residual=True)).eval()
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(added.mix(z), plain.mix(z) + z)


def test_lora_sits_on_query_key_and_value_and_its_dropout_wakes_in_training():
    config = replace(TINY, backbone="some/tower", architecture=CLIP_TINY, adapt="lora")
    detector = gapl(config)
    adapted = {
        n.split(".lora_A")[0].rsplit(".", 1)[1]
        for n, _ in detector.named_parameters()
        if ".lora_A" in n
    }
    assert adapted == {"q_proj", "k_proj", "v_proj"}
    frozen = [n for n, p in detector.backbone.named_parameters() if not p.requires_grad]
    assert all(".lora_" not in n for n in frozen)
    for parameter in detector.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter)
    pixels = torch.randn(2, 3, 32, 32)
    detector.train()
    assert not torch.equal(detector.features(pixels), detector.features(pixels))
    detector.eval()
    assert torch.equal(detector.features(pixels), detector.features(pixels))


def test_the_published_sizes():
    """q, k and v of 24 blocks at rank 16: 2.36 million; projection, attention and classifier: 0.2 million."""
    architecture = json.dumps(
        json.loads(CLIP_TINY)
        | {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        | {"intermediate_size": 4096, "patch_size": 14, "image_size": 224}
    )
    with torch.device("meta"):
        detector = build(replace(Config(), architecture=architecture))
    trained = {n: p.numel() for n, p in detector.named_parameters() if p.requires_grad}
    lora = sum(count for n, count in trained.items() if ".lora_" in n)
    assert lora == 24 * 3 * 2 * 16 * 1024
    assert sum(trained.values()) - lora == 1024 * 128 + 4 * (128 * 128 + 128) + 128
    assert detector.mix.prototypes.shape == (64, 128)
    assert detector.view.mean == (0.485, 0.456, 0.406), "ImageNet's, not CLIP's"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prototypes": 7}, "expected an even number"),
        ({"prototypes": 34}, "at most 32"),
        ({"adapt": "lora"}, "needs a transformer"),
    ],
)
def test_impossible_configs_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        gapl(replace(TINY, **changes))


def test_a_second_stage_without_a_first_is_refused(tmp_path, first_stage):
    with pytest.raises(MissingDataError, match="starts from the first"):
        gapl(EMBEDDED)
    with pytest.raises(MissingDataError, match="starts from the first"):
        gapl(replace(EMBEDDED, start=str(tmp_path / "none.safetensors")))
    with pytest.raises(IncompatibleCheckpointError, match="expected"):
        gapl(replace(EMBEDDED, start=str(first_stage), prototypes=16))
    with pytest.raises(IncompatibleCheckpointError, match="no checkpoint of GAPL"):
        gapl(replace(EMBEDDED, start=str(checkpoints.default_path())))


def test_a_first_stage_that_was_never_fitted_is_refused(tmp_path):
    detector = gapl(replace(EMBEDDED, stage="projection"))
    facts = checkpoints.Facts("gapl", settings.plain(detector.config), detector.view)
    checkpoints.save(tmp_path / "empty.safetensors", detector, facts)
    with pytest.raises(IncompatibleCheckpointError, match="not all zero"):
        gapl(replace(EMBEDDED, start=str(tmp_path / "empty.safetensors")))


def test_each_stage_is_trained_in_its_own_way():
    with pytest.raises(RecipeError, match="give the recipe a section probing"):
        loss_of(replace(TINY, stage="projection"))
    with pytest.raises(RecipeError, match="leave out the section probing"):
        _ = gapl(TINY).seen_through


def test_too_few_views_of_a_class_are_refused():
    detector = gapl(replace(EMBEDDED, stage="projection"))
    one_sided = seen(40)
    few = Seen(one_sided.features, one_sided.label, {"generated": torch.tensor([1] * 3 + [0] * 37)})
    with pytest.raises(MissingDataError, match="3 generated views"):
        detector.fit(few, None)
