"""Text features and the way into the space they share with images, from tiny towers with random weights."""

from __future__ import annotations

import pytest
import torch

from gammascope.errors import MissingDataError, RecipeError
from gammascope.networks import captions


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_text_features_and_map_live_in_the_shared_space(kind, tmp_path, save_tower_with_text):
    model = save_tower_with_text(tmp_path, kind)
    text, to_shared = captions.shared_space(str(tmp_path), captions.CONCEPTS)
    width = 24 if kind == "clip" else 32
    assert text.shape == (len(captions.CONCEPTS), width)
    assert to_shared.shape == (width, 32)
    assert len({tuple(row) for row in text.tolist()}) == len(captions.CONCEPTS)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.get_image_features(pixel_values=pixels).pooler_output
        token = model.vision_model(pixels).pooler_output
    torch.testing.assert_close(token @ to_shared.T, expected)


def test_a_model_without_text_is_refused(tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="'dinov2' and has no text half"):
        captions.shared_space(str(tmp_path), ["a dog"])


def test_a_model_without_tokenizer_is_missing_data(tmp_path, save_tower_with_text):
    save_tower_with_text(tmp_path, "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(MissingDataError, match="No text tower with its tokenizer at"):
        captions.shared_space(str(tmp_path), ["a dog"])


def test_captions_are_read_line_by_line(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("a dog\n\n  two cats on a sofa \n", "utf-8")
    assert captions.read_captions(path) == ("a dog", "two cats on a sofa")


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\xff"])
def test_a_file_without_captions_is_named(tmp_path, content):
    path = tmp_path / "captions.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MissingDataError, match=r"captions\.txt"):
        captions.read_captions(path)
