"""What all tests share: reproducible settings and a few real photographs.

Nothing here imports gammascope at its top: the annotation checks are switched on after this file is read, and a module
imported earlier would go unchecked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# Libraries read it when they are imported, which is later.
os.environ["HF_HUB_OFFLINE"] = "1"

torch.set_num_threads(1)
torch.use_deterministic_algorithms(mode=True)

# "ci" repeats the same examples; "dev" (GAMMASCOPE_HYPOTHESIS=dev) looks for new ones.
_SLOW_IMPORTS = [HealthCheck.too_slow]
settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, suppress_health_check=_SLOW_IMPORTS
)
settings.register_profile(
    "dev", max_examples=300, deadline=None, suppress_health_check=_SLOW_IMPORTS
)
settings.load_profile(os.environ.get("GAMMASCOPE_HYPOTHESIS", "ci"))


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Let accelerate forget the precision of a run: it fixes it once per process, and many tests share one."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """Real photographs that come with scikit-image: public domain, never downloaded."""
    from skimage import data

    return {
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "motorcycle": data.stereo_motorcycle()[0],
        "rocket": data.rocket(),
    }


@pytest.fixture(scope="session")
def composite(photos) -> bytes:
    """A photo that was saved as JPEG, got a part of another one, and was saved again."""
    from gammascope.imaging.codecs import Encoding, encode, reencode

    host = reencode(photos["coffee"], Encoding("jpeg", 70, "4:4:4")).copy()
    host[120:240, 200:320] = photos["astronaut"][100:220, 150:270]
    return encode(host, Encoding("jpeg", 95, "4:4:4"))


@pytest.fixture(scope="session")
def save_tower_with_text() -> Callable[[Path, str], Any]:
    """Return what writes a tiny CLIP or SigLIP with random weights, and a tokenizer of whole words, into a folder."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = sizes | {"hidden_size": 32, "intermediate_size": 64, "patch_size": 8, "image_size": 32}

    def save(folder: Path, kind: str) -> Any:
        from gammascope.networks.captions import CONCEPTS

        words = sorted({word for caption in CONCEPTS for word in caption.split()})
        known = {word: index for index, word in enumerate(["<pad>", "<unk>", "<end>", *words])}
        tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))  # noqa: S106 - a word
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        marks = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(
            folder
        )
        text = sizes | {"intermediate_size": 16, "vocab_size": len(known), "eos_token_id": 0}
        text |= {"max_position_embeddings": 8}
        if kind == "clip":
            config = transformers.CLIPConfig(
                text_config=text, vision_config=vision, projection_dim=24
            )
            model = transformers.CLIPModel
        else:
            text |= {"projection_size": 32}
            config = transformers.SiglipConfig(text_config=text, vision_config=vision)
            model = transformers.SiglipModel
        torch.manual_seed(0)
        built = model(config).eval()
        built.save_pretrained(folder)
        return built

    return save


@pytest.fixture(scope="session")
def collection(photos, tmp_path_factory) -> Path:
    """Return the manifest of a small training collection.

    Five photos as JPEG, five generated images and a twin of every photo as PNG. What stands for a generator is a
    blur: strong enough to be learnt by a tiny detector, and no format or size gives it away. The source "held-out" is
    there for validation.
    """
    from gammascope.data.manifest import write_manifest
    from gammascope.imaging import codecs
    from gammascope.sample import Entry, Label

    root = tmp_path_factory.mktemp("collection")
    entries = []
    for name, whole in photos.items():
        photo = np.ascontiguousarray(whole[:300, :400])
        source = "held-out" if name in {"cat", "rocket"} else name
        original, twin, generated = (root / f"{name}{end}" for end in (".jpg", "-t.png", "-g.png"))
        original.write_bytes(codecs.encode(photo, codecs.Encoding("jpeg", 92)))
        twin.write_bytes(codecs.encode(codecs.blur(photo, 1.2), codecs.Encoding("png")))
        upside_down = np.ascontiguousarray(codecs.blur(photo, 1.2)[::-1])
        generated.write_bytes(codecs.encode(upside_down, codecs.Encoding("png")))
        entries += [
            Entry(original, Label.REAL, source=source, split="train"),
            Entry(
                twin, Label.FAKE, generator="blur", source=source, split="train", host_path=original
            ),
            Entry(generated, Label.FAKE, generator="blur", source=source, split="train"),
        ]
    manifest = root / "manifest.csv"
    write_manifest(entries, manifest)
    return manifest


@pytest.fixture(scope="session")
def lively() -> Callable[[str], Any]:
    """Build a tiny generator, frozen, in which no layer starts at 0: without, every picture that it makes is alike."""
    from gammascope.generation import base

    def built(name: str) -> Any:
        torch.manual_seed(0)
        network = base.build(name, base.get(name).tiny)
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        return network.requires_grad_(requires_grad=False)

    return built


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of two layers with random weights and a tokenizer of whole words: a folder, as the hub has them."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from gammascope.detection.judge import QUESTION

    template = (
        "{% for m in messages %}user {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} assistant "
    )
    place = tmp_path_factory.mktemp("llava")
    words = [
        "This",
        "picture",
        "is",
        "real",
        ".",
        "fake",
        "because",
        "of",
        "light",
        "shadows",
        "user",
        "assistant",
    ]
    words += [w for w in dict.fromkeys(QUESTION.split()) if w not in words]
    known = {w: i for i, w in enumerate(["<pad>", "<unk>", "<end>", "<image>", *words])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))  # noqa: S106 - a word
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        eos_token="<end>",  # noqa: S106
        additional_special_tokens=["<image>"],
    )
    side = {"height": 28, "width": 28}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=side)
    transformers.LlavaProcessor(
        pictures,
        fast,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(place)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes, image_size=28, patch_size=14),
        text_config=transformers.LlamaConfig(
            **sizes,
            vocab_size=len(known),
            num_key_value_heads=4,
            eos_token_id=2,
            bos_token_id=None,
            pad_token_id=0,
        ),
        image_token_id=3,
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(place)
    return place
