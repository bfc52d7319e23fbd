"""Reverse cross-attention: what the segmentation branches saw corrects the image token (GAMMA)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope.networks.mask_heads import Branch


class ReverseCrossAttention(nn.Module):
    """Correct the image token by attending from it to the tokens of all segmentation branches.

    A mask decoder lets a global query act on pixels; here the direction is reversed: the image-level token
    asks and the pixel-level tokens answer. The paper's formula is not public; three readings stand behind one
    argument, with ``e = (q W_Q)(Z W_K)^T / sqrt(d)`` and ``u = W_O(softmax(.) Z W_V)``:

    - ``"direct"`` (R1): ``softmax(e)``, ``q + gate * u``;
    - ``"complement"`` (R2): ``softmax(max(e) - e)``: the token hears what its own attention overlooks;
    - ``"subtractive"`` (R3): ``softmax(e)``, ``q - gate * u``: what was heard is a bias to remove.

    Source: arXiv:2509.10250 (idea); the formulas are our reconstruction, the gates knowingly our own.
    """

    def __init__(
        self,
        width: int,
        branches: Sequence[str],
        *,
        heads: int = 8,
        layers: int = 2,
        reading: Literal["direct", "complement", "subtractive"] = "direct",
        mask_bias: bool = False,
    ) -> None:
        super().__init__()
        self.names = tuple(branches)
        self.branch_code = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names}
        )
        self.layers = nn.ModuleList(
            _Layer(width, len(self.names), heads, reading, mask_bias=mask_bias)
            for _ in range(layers)
        )

    def forward(
        self, token: Float[Tensor, "b d"], branches: Mapping[str, Branch]
    ) -> Float[Tensor, "b d"]:
        """Return the corrected token; equal to ``token`` while all gates are 0, their initial value.

        Args:
            token: Image token before correction.
            branches: By name; their logits steer the attention when ``mask_bias`` is on (detached: the bias
                must not train the masks).
        """
        memory = torch.cat([branches[n].tokens + self.branch_code[n] for n in self.names], 1)
        steer = [branches[n].suspicion.detach().flatten(1) for n in self.names]
        belief = torch.stack([functional.logsigmoid(s.float()).clamp(min=-14.0) for s in steer], 1)
        for layer in self.layers:
            token = layer(token, memory, belief)
        return token


class _Layer(nn.Module):
    def __init__(
        self, width: int, branches: int, heads: int, reading: str, *, mask_bias: bool
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of heads {heads}.")
        self.heads = heads
        self.sign = -1.0 if reading == "complement" else 1.0
        self.direction = -1.0 if reading == "subtractive" else 1.0
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.zeros(width))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        # The MLP is gated too, or training would not start from the plain classifier.
        self.gate_mlp = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(branches)) if mask_bias else None

    def forward(
        self,
        token: Float[Tensor, "b d"],
        memory: Float[Tensor, "b m d"],
        belief: Float[Tensor, "b k n"],
    ) -> Float[Tensor, "b d"]:
        batch, width = token.shape
        split = (batch, -1, self.heads, width // self.heads)
        q = self.query(self.norm_query(token)).view(split).transpose(1, 2)
        k, v = self.key_value(self.norm_memory(memory)).chunk(2, -1)
        k, v = (x.view(split).transpose(1, 2) for x in (k, v))
        energy = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        if self.bias is not None:
            energy = energy + (self.bias[:, None] * belief).flatten(1)[:, None, None, :].to(
                energy.dtype
            )
        heard = (self.sign * energy).softmax(-1) @ v
        heard = self.out(heard.transpose(1, 2).reshape(batch, width))
        token = token + self.direction * self.gate * heard
        result: Tensor = token + self.gate_mlp * self.mlp(self.norm_mlp(token))
        return result
