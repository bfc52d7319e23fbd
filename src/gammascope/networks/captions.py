"""What the text half of a vision-language model says: directions of content in the space it shares with images.

``Sentences`` is a small stand-in: a transformer over a fixed list of sentences, whose words are its vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope.errors import MissingDataError, MissingExtraError, RecipeError
from gammascope.files import refuse_no_model, why_no_model


class Sentences(nn.Module):
    """Encode a fixed list of sentences; each word looks at those before it, and the end of a sentence speaks for it.

    Args:
        sentences: Split at spaces; their words, in alphabetical order, are the vocabulary.
        width: Of the tokens.
        layers: Of the transformer.
        heads: Of its attention.
        out: Length of a sentence's vector.
    """

    tokens: Tensor
    ends: Tensor
    width: int
    blocks: int
    out: int

    def __init__(
        self, sentences: Sequence[str], *, width: int, layers: int, heads: int, out: int
    ) -> None:
        super().__init__()
        self.width, self.blocks, self.out = width, layers, out
        split = [sentence.split() for sentence in sentences]
        number = {
            word: 2 + index for index, word in enumerate(sorted({w for s in split for w in s}))
        }
        longest = 1 + max(len(words) for words in split)
        # 0 fills up, 1 ends.
        rows = [[number[word] for word in words] + [1] for words in split]
        padded = [row + [0] * (longest - len(row)) for row in rows]
        self.register_buffer("tokens", torch.tensor(padded))
        self.register_buffer("ends", torch.tensor([len(words) for words in split]))
        self.words = nn.Embedding(2 + len(number), width)
        self.places = nn.Parameter(0.01 * torch.randn(longest, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, out)

    def forward(self, prompts: Sequence[Float[Tensor, "k w"]] = ()) -> Float[Tensor, "n d"]:
        """Return the vectors of all sentences, in their order.

        Args:
            prompts: Tokens before the words, as many for each of the first layers; later ones take the place of what
                came out of the layer before.
        """
        x = self.words(self.tokens) + self.places
        first = len(prompts[0]) if prompts else 0
        if first:
            x = torch.cat([prompts[0].expand(len(x), -1, -1), x], 1)
        length = x.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for number, layer in enumerate(self.layers.layers):
            if 0 < number < len(prompts):
                x = torch.cat([prompts[number].expand(len(x), -1, -1), x[:, first:]], 1)
            x = layer(x, src_mask=later)
        x = self.norm(x)
        # What fills up comes after the end, where nothing looks.
        last = x[torch.arange(len(x), device=x.device), first + self.ends]
        vectors: Tensor = self.project(last)
        return vectors


_NOUNS = (
    "person woman man child baby face hand crowd family bride athlete soldier dancer dog cat horse cow sheep "
    "elephant bear zebra giraffe lion monkey bird eagle duck fish shark whale snake frog turtle insect butterfly "
    "spider flower rose tree forest leaf grass garden mushroom fruit apple banana orange vegetable bread cake "
    "pizza salad coffee wine bottle cup plate bowl knife table chair sofa bed lamp mirror clock book letter "
    "newspaper poster painting statue toy doll ball guitar piano violin drum phone laptop keyboard screen "
    "television camera car bus truck train tram bicycle motorcycle aeroplane helicopter ship boat bridge road "
    "street tunnel railway airport harbour house castle church temple tower skyscraper factory farm barn kitchen "
    "bathroom bedroom office classroom library hospital shop market restaurant museum stadium beach sea lake "
    "river waterfall mountain valley desert snow glacier cave island sky cloud sunset moon star rain storm "
    "lightning fire smoke shadow reflection hat shirt dress shoe bag umbrella glasses watch ring helmet machine "
    "engine robot tool hammer ladder rope fence wall window door roof floor pattern texture logo map"
)

CONCEPTS: tuple[str, ...] = tuple(f"a photo of a {noun}" for noun in _NOUNS.split())
"""Stand for captions where there are none: everyday things, one prompt each. Our choice."""


def read_captions(path: Path) -> tuple[str, ...]:
    """Read one caption per line; empty lines are skipped.

    Raises:
        MissingDataError: If the file cannot be read or holds no caption.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise MissingDataError(f"Cannot read captions from {path}: {error}.") from error
    captions = tuple(line for line in lines if line)
    if not captions:
        raise MissingDataError(f"{path} holds no caption: expected one per line.")
    return captions


def shared_space(
    name_or_path: str, captions: Sequence[str]
) -> tuple[Float[Tensor, "n p"], Float[Tensor, "p d"]]:
    """Return the text features of captions, and the map from the image token into the space they share.

    The map of SigLIP, whose token lies in that space already, is the identity.

    Args:
        name_or_path: A local folder, or a hub id, of a text-and-image model, with its tokenizer.
        captions: Sentences; too long ones are cut.

    Raises:
        RecipeError: If the model has no text half.
        MissingDataError: If model or tokenizer cannot be read.
        MissingExtraError: If ``transformers`` is not installed.
    """
    model, tokenizer = model_and_tokenizer(name_or_path)
    longest = model.config.text_config.max_position_embeddings
    features = []
    with torch.inference_mode():
        for start in range(0, len(captions), 64):
            # SigLIP was trained on padded sentences; CLIP does not mind.
            tokens = tokenizer(
                list(captions[start : start + 64]),
                padding="max_length",
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            wanted = {key: tokens[key] for key in ("input_ids", "attention_mask") if key in tokens}
            features.append(model.get_text_features(**wanted).pooler_output.float())
    text = torch.cat(features).clone()  # out of inference mode
    if hasattr(model, "visual_projection"):
        return text, model.visual_projection.weight.detach().float().clone()
    return text, torch.eye(text.shape[1])


def model_and_tokenizer(name_or_path: str) -> tuple[Any, Any]:
    """Load a text-and-image model with its tokenizer; errors are those of ``shared_space``."""
    try:
        from transformers import AutoConfig, AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError.of("A text tower", "transformers", "backbones") from error
    refuse_no_model("text tower", name_or_path)
    try:
        config = AutoConfig.from_pretrained(name_or_path)
        if config.model_type not in {"clip", "siglip"}:
            raise RecipeError(
                f"{name_or_path!r} is of model_type {config.model_type!r} and has no text half: captions need CLIP or "
                "SigLIP; choose method.semantics=content."
            )
        model = AutoModel.from_pretrained(name_or_path, use_safetensors=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError, KeyError) as error:
        raise MissingDataError(
            f"No text tower with its tokenizer at {name_or_path!r}: {why_no_model(name_or_path, error)}"
        ) from error
    # Where the files of a tokenizer are missing, an empty one is made without a word, to which all captions are alike.
    words = model.config.text_config.vocab_size
    if len(tokenizer) < words / 2:
        raise MissingDataError(
            f"No text tower with its tokenizer at {name_or_path!r}: the tokenizer knows {len(tokenizer)} of "
            f"{words} words."
        )
    return model.eval(), tokenizer
