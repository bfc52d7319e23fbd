"""The text half of CLIP over a few fixed sentences, with trained tokens between their start and their words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gammascope.errors import MissingExtraError, RecipeError
from gammascope.networks.captions import model_and_tokenizer

FIRST_WORDS = "a photo of a"
"""The prompts of the first layer start as the first of these words. Source: arXiv:2210.03117, published code."""


class PromptedText(nn.Module):
    """Frozen text transformer of CLIP, of whose words only those of the sentences are kept.

    Attributes:
        width: Of its tokens.
        blocks: Number of its layers.
        out: Length of a sentence's vector.
        words: Embedded sentences, start and end included, filled up with zeros.
        ends: Place of each sentence's end.
        start: Embedded ``FIRST_WORDS``.
    """

    words: Tensor
    ends: Tensor
    start: Tensor
    width: int
    blocks: int
    out: int

    def __init__(self, settings: dict[str, Any], ends: Sequence[int]) -> None:
        """Build with random weights, for a checkpoint to fill.

        Args:
            settings: ``text_config`` of a CLIP, with ``projection_dim``.
            ends: Place of each sentence's end.
        """
        super().__init__()
        try:
            from transformers import CLIPTextConfig
            from transformers.models.clip.modeling_clip import CLIPEncoder
        except ImportError as error:
            raise MissingExtraError.of("A text tower", "transformers", "backbones") from error
        config = CLIPTextConfig.from_dict(settings)
        config._attn_implementation = "sdpa"  # its own modules take it from here
        self.width, self.blocks = config.hidden_size, config.num_hidden_layers
        self.out = config.projection_dim
        self.register_buffer("words", torch.zeros(len(ends), max(ends) + 1, self.width))
        self.register_buffer("ends", torch.tensor(list(ends)))
        self.register_buffer("start", torch.zeros(len(FIRST_WORDS.split()), self.width))
        self.places = nn.Parameter(torch.zeros(config.max_position_embeddings, self.width))
        self.encoder = CLIPEncoder(config)
        self.norm = nn.LayerNorm(self.width, eps=config.layer_norm_eps)
        self.project = nn.Linear(self.width, self.out, bias=False)
        self.requires_grad_(requires_grad=False).eval()

    @classmethod
    def load(
        cls, name_or_path: str, sentences: Sequence[str]
    ) -> tuple[PromptedText, str, Float[Tensor, "p d"], float]:
        """Take the text half of a CLIP.

        Returns:
            The half, its settings as JSON (with the places of the ends), the map from the image token into the space
            that both halves share, and the logarithm of the logits' scale.

        Raises:
            GammascopeError: As ``captions.shared_space``; a SigLIP is refused.
        """
        model, tokenizer = model_and_tokenizer(name_or_path)
        if not hasattr(model, "text_projection"):
            raise RecipeError(f"{name_or_path!r} is no CLIP: prompts need its text half.")
        rows = [tokenizer(sentence)["input_ids"] for sentence in sentences]
        end = tokenizer.eos_token_id
        rows = [[*row, end] if row[-1] != end else row for row in rows]
        ends = [len(row) - 1 for row in rows]
        settings = json.loads(json.dumps(model.config.text_config.to_dict()))
        settings["projection_dim"] = model.config.projection_dim
        half, tower = cls(settings, ends), model.text_model
        embed = tower.embeddings.token_embedding.weight.detach()
        for number, row in enumerate(rows):
            half.words[number, : len(row)] = embed[row]
        first = [t for t in tokenizer(FIRST_WORDS)["input_ids"] if t not in {end, rows[0][0]}]
        taken = embed[first or [rows[0][0]]][: len(half.start)]
        half.start[: len(taken)] = taken
        half.encoder.load_state_dict(tower.encoder.state_dict())
        half.norm.load_state_dict(tower.final_layer_norm.state_dict())
        half.project.load_state_dict(model.text_projection.state_dict())
        half.places.data.copy_(tower.embeddings.position_embedding.weight)
        shared = model.visual_projection.weight.detach().float().clone()
        facts = json.dumps(settings | {"ends": ends}, sort_keys=True)
        return half, facts, shared, float(model.logit_scale.detach())

    @classmethod
    def from_json(cls, facts: str) -> PromptedText:
        """Rebuild from the settings that ``load`` returned, with random weights."""
        settings = json.loads(facts)
        return cls(settings, settings.pop("ends"))

    def train(self, mode: bool = True) -> PromptedText:
        """Stay in evaluation mode: all of it is frozen."""
        super().train(mode=mode and False)
        return self

    def forward(self, prompts: Sequence[Float[Tensor, "k w"]] = ()) -> Float[Tensor, "n p"]:
        """Return the vectors of the sentences, with prompts between their start and their words.

        Args:
            prompts: As many tokens for each of the first layers; later ones take the place of what came out of the
                layer before.
        """
        x, count = self.words, len(prompts[0]) if prompts else 0
        if count:
            x = torch.cat([x[:, :1], prompts[0].expand(len(x), -1, -1), x[:, 1:]], 1)
        if x.shape[1] > len(self.places):
            raise RecipeError(
                f"Sentences and prompts have {x.shape[1]} tokens, the text half reads {len(self.places)}."
            )
        x = x + self.places[: x.shape[1]]
        length = x.shape[1]
        later = x.new_full((length, length), -torch.inf).triu(1)[None, None]
        for number, layer in enumerate(self.encoder.layers):
            if count and 0 < number < len(prompts):
                there = prompts[number].expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], there, x[:, 1 + count :]], 1)
            x = layer(x, later)
        last = self.norm(x)[torch.arange(len(x), device=x.device), self.ends + count]
        vectors: Tensor = self.project(last)
        return vectors
