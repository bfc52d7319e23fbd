"""A small text transformer over a fixed list of sentences, whose words are all its vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
