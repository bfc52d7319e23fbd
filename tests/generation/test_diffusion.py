from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gammascope.errors import GammascopeError, MissingDataError, MissingExtraError
from gammascope.generation.diffusion import InpaintingPipeline
from gammascope.manipulation.inpainting import Inpainter, Inpainting

PHOTO = np.ascontiguousarray(skimage.data.astronaut()[:43, 100:158])
MASK = np.zeros(PHOTO.shape[:2], dtype=bool)
MASK[10:30, 20:45] = True


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A vocabulary of single letters: real tokenisation without downloaded files."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Stable Diffusion inpainting pipeline with random weights, a few thousand parameters."""
    torch.manual_seed(0)
    words = tokenizer(tmp_path_factory.mktemp("words"))
    pipeline = StableDiffusionInpaintPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            latent_channels=4,
            sample_size=32,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=16,
                projection_dim=8,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        ),
        tokenizer=words,
        unet=UNet2DConditionModel(
            sample_size=4,
            in_channels=9,
            out_channels=4,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    where = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def paint(folder):
    return InpaintingPipeline.load(folder, steps=2, prompts=("", "a cat"))


def test_it_is_an_inpainter(paint):
    assert isinstance(paint, Inpainter)
    assert paint.generative
    assert paint.replaces_content


def test_sizes_that_are_no_multiple_of_eight_are_kept(paint):
    before = PHOTO.copy()
    made = paint.paint(PHOTO, MASK, "a dog", np.random.default_rng(0))
    assert made.shape == PHOTO.shape
    assert made.dtype == np.uint8
    assert np.array_equal(PHOTO, before)


def test_the_generator_decides_and_the_prompt_matters(paint):
    made = [
        paint.paint(PHOTO, MASK, prompt, np.random.default_rng(seed))
        for prompt, seed in [("a dog", 0), ("a dog", 0), ("a dog", 1), ("zebra", 0)]
    ]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0], made[3])


def test_masks_state_whether_the_background_was_restored(paint):
    restored = Inpainting(paint)(PHOTO, np.random.default_rng(0))
    assert np.array_equal(restored.generated, restored.edited)
    assert np.array_equal(restored.image[~restored.edited], PHOTO[~restored.edited])
    whole = Inpainting(paint, paste_back=False)(PHOTO, np.random.default_rng(0))
    assert whole.generated.all()
    assert not np.array_equal(whole.image[~whole.edited], PHOTO[~whole.edited])


def test_a_blanked_answer_is_an_error(paint):
    def blanked(**_):
        return type("Answer", (), {"images": [np.zeros((48, 64, 3))], "nsfw_content_detected": [1]})

    with pytest.raises(GammascopeError, match="blanked the answer to prompt 'a cat'"):
        InpaintingPipeline(blanked).paint(PHOTO, MASK, "a cat", np.random.default_rng(0))


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="No inpainting pipeline at"):
        InpaintingPipeline.load(tmp_path)


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`")  # the hub's, of diffusers
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", "no folder 'nope'; a hub id is owner/name"),
        ("owner/nope", "no such folder here, and the Hugging Face hub could not be reached"),
    ],
)
def test_a_mistyped_folder_is_said_to_be_missing(name, said):
    with pytest.raises(MissingDataError, match=said):
        InpaintingPipeline.load(name)


def test_precision_can_be_chosen(folder):
    loaded = InpaintingPipeline.load(folder, dtype=torch.bfloat16)
    assert loaded.pipeline.unet.dtype == torch.bfloat16


def test_without_diffusers_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"\.\[diffusion\]"):
        InpaintingPipeline.load(tmp_path)
