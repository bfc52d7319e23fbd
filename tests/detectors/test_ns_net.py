"""NS-Net: what the text says is removed, patches of extreme entropy are seen, and a tiny one learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from gammascope import losses
from gammascope.detectors import ns_net
from gammascope.detectors.ns_net import TINY, Config, build
from gammascope.errors import MissingDataError, RecipeError
from gammascope.networks import captions
from gammascope.prediction import Batch


def views(count: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, TINY.size, TINY.size, generator=generator)


def photos(count: int) -> Iterator[Batch]:
    yield Batch(views(count, seed=3), torch.zeros(count).long())


def clip(folder: str, **changes) -> Config:
    values = {"backbone": folder, "adapt": "frozen", "hidden": 16, "embedding": 8}
    return Config(**values | {"size": 64, "patch": 8, "across": 4} | changes)


def test_what_captions_say_is_removed_from_the_image_feature(tmp_path, save_tower_with_text):
    save_tower_with_text(tmp_path, "clip")
    detector = build(clip(str(tmp_path)))
    text, _ = captions.shared_space(str(tmp_path), captions.CONCEPTS)
    unit = torch.nn.functional.normalize(text, dim=1)
    left = detector.null_space(unit).square().sum() / unit.square().sum()
    assert left <= 1 - 0.95 + 1e-5
    assert 1 <= detector.null_space.rank < 24
    assert detector.null_space.projection.shape == (24, 24)
    feature = detector.encode(torch.randn(3, 3, 32, 32))
    assert feature.shape == (3, 24)
    assert not detector.to_shared.weight.requires_grad


def test_other_captions_remove_something_else(tmp_path, save_tower_with_text):
    save_tower_with_text(tmp_path / "clip", "clip")
    said = tmp_path / "captions.txt"
    said.write_text("a photo of a dog\na photo of a cat\n", "utf-8")
    usual = build(clip(str(tmp_path / "clip")))
    other = build(clip(str(tmp_path / "clip"), captions=str(said), energy=1.0))
    assert other.null_space.rank == 22
    assert not torch.equal(usual.null_space.projection, other.null_space.projection)
    assert other.config.captions == "", "the name of a file means nothing elsewhere"


def test_a_loaded_detector_is_rebuilt_from_its_config_alone(tmp_path, save_tower_with_text):
    save_tower_with_text(tmp_path, "clip")
    detector = build(clip(str(tmp_path))).eval()
    shutil.rmtree(tmp_path)
    again = build(detector.config).eval()
    assert again.config == detector.config
    again.load_state_dict(detector.state_dict())
    pixels = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(pixels).logit, detector(pixels).logit)
    ns_net.prepare(again, photos)
    assert torch.equal(again.null_space.projection, detector.null_space.projection)


def test_missing_captions_are_named(tmp_path, save_tower_with_text):
    save_tower_with_text(tmp_path, "clip")
    with pytest.raises(MissingDataError, match=r"nowhere\.txt"):
        build(clip(str(tmp_path), captions="nowhere.txt"))


def test_text_without_a_text_tower_is_refused_before_training():
    for config in (
        replace(TINY, semantics="text"),
        clip("x", architecture=json.dumps(_VISION)),
    ):
        detector = build(config)
        with pytest.raises(RecipeError, match=r"choose method\.semantics=content"):
            ns_net.prepare(detector, photos)


_VISION = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64}
_VISION |= {"num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}


def test_content_is_measured_on_photos():
    torch.manual_seed(0)
    detector = build(TINY)
    ns_net.prepare(detector, photos)
    assert 1 <= detector.null_space.rank < TINY.compact.token
    content = ns_net._content(views(16, seed=3), 32)
    unit = torch.nn.functional.normalize(detector.eval().encode(content), dim=1)
    assert detector.null_space(unit).square().sum() / unit.square().sum() <= 0.05 + 1e-5


def test_directions_of_content_keep_their_meaning_while_the_rest_trains():
    """Measured once, they are those of the backbone that is used at the end: it must not move."""
    torch.manual_seed(0)
    detector = build(TINY)
    ns_net.prepare(detector, photos)
    optimiser = torch.optim.AdamW((p for p in detector.parameters() if p.requires_grad), lr=0.05)
    batch = Batch(views(8), torch.arange(8) % 2)
    for _ in range(3):
        terms = ns_net.loss(TINY)(detector.train()(batch.pixels), batch)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    used = detector.null_space.projection.clone()
    ns_net.prepare(detector, photos)
    torch.testing.assert_close(detector.null_space.projection, used)
    with pytest.raises(RecipeError, match=r"choose method\.adapt=frozen"):
        ns_net.prepare(build(replace(TINY, adapt="full")), photos)


def test_without_semantics_everything_passes():
    detector = build(replace(TINY, semantics="none"))
    ns_net.prepare(detector, photos)
    assert detector.null_space.rank == TINY.compact.token


def test_blurred_views_hold_no_fine_detail():
    content = ns_net._content(views(2), 32)
    assert content.shape == (2, 3, 32, 32)
    assert content.diff(dim=3).abs().mean() < 0.1 * views(2).diff(dim=3).abs().mean()


def test_the_backbone_sees_the_patches_of_extreme_entropy():
    """Four noisy and four flat patches among sixteen medium ones."""
    config = replace(TINY, across=2, size=40)
    detector = build(config).eval()
    wave = torch.sin(torch.arange(8.0))
    pixels = wave.expand(3, 40, 40 // 8, 8).reshape(3, 40, 40).clone()
    noise = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels[:, :8, 8:16] = noise
    pixels[:, 32:, 32:] = 2 * noise
    pixels[:, 8:16, :8] = 0.3
    pixels[:, 16:24, :8] = -0.3
    mosaic, entropy = detector.select(pixels[None])
    assert entropy.shape == (1, 5, 5)
    assert int(entropy[0].argmax()) in {1, 24}
    expected = [pixels[:, :8, 8:16], pixels[:, 8:16, :8], pixels[:, 16:24, :8], pixels[:, 32:, 32:]]
    rows = torch.cat([torch.cat(expected[:2], 2), torch.cat(expected[2:], 2)], 1)
    assert torch.equal(mosaic[0], rows)


def test_patches_are_shuffled_in_training_only():
    detector = build(TINY)
    pixels = views(1)
    calm = [detector.eval().select(pixels)[0] for _ in range(2)]
    torch.manual_seed(0)
    wild = [detector.train().select(pixels)[0] for _ in range(2)]
    assert torch.equal(*calm)
    assert not torch.equal(*wild)
    for mosaic in wild:
        torch.testing.assert_close(mosaic.flatten().sort().values, calm[0].flatten().sort().values)


@pytest.mark.parametrize("changes", [{"size": 4}, {"patch": 0}, {"across": 0}])
def test_a_view_without_a_patch_is_refused(changes):
    with pytest.raises(RecipeError, match="at least one patch"):
        build(replace(TINY, **changes))


def test_the_terms_are_weighed():
    detector = build(TINY).eval()
    batch = Batch(views(6), torch.tensor([0, 1, 0, 1, 1, 0]))
    prediction = detector(batch.pixels)
    once = ns_net.loss(TINY)(prediction, batch)
    other = ns_net.loss(replace(TINY, lambda_label=0.2, lambda_contrastive=3.0))(prediction, batch)
    torch.testing.assert_close(other["label_bce"], 0.2 * once["label_bce"])
    torch.testing.assert_close(other["contrastive"], 3 * once["contrastive"])


def test_a_view_with_generated_pixels_is_fake_and_a_montage_is_not():
    detector = build(TINY).eval()
    answers = {"generated": torch.tensor([0, 1]), "edited": torch.tensor([1, 0])}
    batch = Batch(views(2), torch.tensor([1, 1]), answers)
    prediction = detector(batch.pixels)
    value = ns_net.loss(TINY)(prediction, batch)["label_bce"]
    torch.testing.assert_close(value, losses.label_bce(prediction.logit, answers["generated"]))


def test_a_tiny_one_learns_smooth_from_rough():
    """Fakes without their finest detail, in new pictures: more than learnt by heart."""
    torch.manual_seed(0)
    detector = build(TINY)
    ns_net.prepare(detector, photos)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=5e-3)

    def batch(seed: int) -> Batch:
        pixels, label = views(16, seed), torch.arange(16) % 2
        smooth = torch.nn.functional.avg_pool2d(pixels, 3, 1, 1) * 2
        return Batch(torch.where(label[:, None, None, None] == 1, smooth, pixels), label)

    detector.train()
    for step in range(30):
        drawn = batch(100 + step)
        terms = ns_net.loss(TINY)(detector(drawn.pixels), drawn)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    unseen = batch(999)
    fake = detector.eval()(unseen.pixels).logit > 0
    assert (fake == unseen.label.bool()).float().mean() > 0.9
