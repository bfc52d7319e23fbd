"""MiraGe: prompts in both halves, anchors, and the discriminative loss."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gammascope.detectors import mirage
from gammascope.errors import RecipeError
from gammascope.networks.captions import Sentences
from gammascope.prediction import Batch, Prediction

PIXELS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
LABEL = torch.tensor([0, 1, 0, 1])


def of_clip(folder, **changes) -> mirage.MiraGe:
    config = mirage.Config(backbone=str(folder), sentences=("a photo", "a painting"), size=32)
    return mirage.build(dataclasses.replace(config, **changes))


@pytest.fixture
def clip(tmp_path, save_tower_with_text):
    return save_tower_with_text(tmp_path, "clip")


def test_without_prompts_it_is_plain_clip(tmp_path, clip):
    from transformers import AutoTokenizer

    detector = of_clip(tmp_path, prompts=0).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.eos_token_id
    with torch.no_grad():
        rows = [
            torch.tensor([[*tokenizer(s)["input_ids"], end]]) for s in ("a photo", "a painting")
        ]
        states = [clip.text_model(row).last_hidden_state[:, -1] for row in rows]
        text = torch.cat([clip.text_projection(state) for state in states])
        image = clip.get_image_features(pixel_values=PIXELS).pooler_output
        cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=2)
        expected = (cosines[:, 1] - cosines[:, 0]) * clip.logit_scale.exp()
        found = detector(PIXELS).logit
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not any(p.requires_grad for p in detector.parameters())


def test_only_prompts_and_their_maps_train_and_the_anchors_part(tmp_path, clip):
    detector = of_clip(tmp_path).train()
    trained = {n.split(".")[0] for n, p in detector.named_parameters() if p.requires_grad}
    assert trained == {"prompts", "to_image"}
    before = detector.anchors().detach()
    optimiser = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], 0.1)
    batch = Batch(PIXELS, LABEL)
    torch.stack(
        list(mirage.loss(detector.config)(detector(PIXELS), batch).values())
    ).sum().backward()
    optimiser.step()
    after = detector.anchors().detach()
    assert not torch.allclose(before, after)
    assert not torch.allclose(after[0], after[1])


def test_a_loaded_one_is_rebuilt_from_its_config_alone(tmp_path, clip):
    detector = of_clip(tmp_path).eval()
    again = mirage.build(dataclasses.replace(detector.config, backbone="nowhere")).eval()
    again.load_state_dict(detector.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(PIXELS).logit, detector(PIXELS).logit)


def test_a_siglip_has_no_text_half_for_prompts(tmp_path, save_tower_with_text):
    save_tower_with_text(tmp_path, "siglip")
    with pytest.raises(RecipeError, match="is no CLIP"):
        of_clip(tmp_path)


def test_a_text_half_of_our_own_goes_with_a_tower_that_lacks_one(tmp_path, clip):
    clip.vision_model.save_pretrained(tmp_path / "eyes")
    detector = of_clip(tmp_path / "eyes", text_architecture=mirage.OWN_TEXT, width=16)
    assert isinstance(detector.text, Sentences)
    assert len(detector.to_image) > 0
    again = mirage.build(detector.config)
    again.load_state_dict(detector.state_dict())
    assert torch.equal(again.eval()(PIXELS).logit, detector.eval()(PIXELS).logit)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_number_of_image_tokens_stays_the_same_behind_the_first_block(depth):
    torch.manual_seed(0)
    detector = mirage.build(dataclasses.replace(mirage.TINY, depth=depth))
    counts = []
    for block in detector.backbone.tower.encoder.layers:
        block.register_forward_hook(lambda *seen: counts.append(seen[2].shape[1]))
    detector(PIXELS)
    assert counts == [1 + 16 + 2] * 2
    assert len(detector.prompts) == depth


def test_prompts_of_a_deeper_layer_matter():
    torch.manual_seed(0)
    detector = mirage.build(mirage.TINY).eval()
    with torch.no_grad():
        before = detector(PIXELS).logit
        detector.prompts[1] += 1.0
        assert not torch.allclose(detector(PIXELS).logit, before)


def test_words_look_at_the_prompts_before_them():
    torch.manual_seed(0)
    text = Sentences(["real photo", "made up thing"], width=8, layers=2, heads=2, out=4).eval()
    none, some = text(), text([torch.ones(2, 8), torch.ones(2, 8)])
    assert some.shape == none.shape == (2, 4)
    assert not torch.allclose(some, none)


def contrast(image: torch.Tensor, label: torch.Tensor = LABEL) -> dict[str, float]:
    anchors = torch.eye(2, 4)
    unit = torch.nn.functional.normalize(image, dim=1)
    compared = {"image": unit, "anchors": anchors.expand(len(image), -1, -1)}
    config = dataclasses.replace(mirage.TINY, lambda_intra=1.0, lambda_inter=1.0)
    prediction = Prediction(torch.zeros(len(image)), features=compared)
    terms = mirage.loss(config)(prediction, Batch(torch.zeros(len(image), 3, 1, 1), label))
    return {name: float(value) for name, value in terms.items()}


def test_the_contrast_falls_as_a_pair_of_one_class_moves_together():
    image = torch.tensor([[1, 0, 0.2, 0], [0, 1, 0.2, 0], [0.2, 0, 0.6, 0.8], [0, 1, 0, 0.2]])
    nearer = image.clone()
    nearer[2] = image[0]
    assert contrast(nearer)["contrastive"] < contrast(image)["contrastive"]


def test_images_on_their_anchors_are_best():
    anchors = torch.eye(2, 4)
    best = contrast(anchors[LABEL])
    assert best["intra"] == pytest.approx(0.0, abs=1e-6)
    assert best["inter"] == 0.0
    assert best["contrastive"] < contrast(anchors[1 - LABEL])["contrastive"]


def test_a_batch_of_one_class_still_has_a_finite_loss():
    image = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    assert all(abs(v) < 100 for v in contrast(image, torch.zeros(4).long()).values())


def test_without_contrast_it_is_maple():
    config = dataclasses.replace(mirage.TINY, lambda_contrastive=0.0)
    torch.manual_seed(0)
    detector = mirage.build(config)
    assert set(mirage.loss(config)(detector(PIXELS), Batch(PIXELS, LABEL))) == {"label_bce"}


@pytest.mark.parametrize("changes", [{"prompts": -1}, {"depth": 0}, {"temperature": 0.0}])
def test_impossible_choices_are_refused(changes):
    with pytest.raises(RecipeError, match="expected at least 0"):
        mirage.build(dataclasses.replace(mirage.TINY, **changes))


def test_a_tiny_one_tells_two_colours_apart():
    torch.manual_seed(0)
    detector = mirage.build(mirage.TINY).train()
    label = torch.arange(16) % 2
    pixels = 0.3 * torch.randn(16, 3, 32, 32)
    pixels[label == 1, 0] += 1.0
    batch = Batch(pixels, label)
    loss = mirage.loss(mirage.TINY)
    optimiser = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], 5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        torch.stack(list(loss(detector(pixels), batch).values())).sum().backward()
        optimiser.step()
    with torch.no_grad():
        assert ((detector.eval()(pixels).logit > 0).long() == label).all()
