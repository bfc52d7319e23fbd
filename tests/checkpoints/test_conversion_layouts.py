"""Published checkpoints whose names come from networks built as their authors built them, and what those answer.

OpenAI's CLIP, DINOv2's repository, timm and torchvision are no packages of ours, so there is no class of theirs to
build: those below are written anew, with the attributes that name the tensors. DDA's tensors are those of
``transformers``' DINOv2, under the names of DINOv2's own repository. All were compared once with torchvision 0.28.0
(ResNet-50), open_clip 3.3.0 (CLIP) and timm 1.0.31 (DINOv2): answers were equal, and so were names and shapes but those
of NPR's own stem and of DINOv2's mask token.
"""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict

import pytest
import torch
from tests.checkpoints.test_conversion import PIXELS, SIZES, State, converted, logit_of
from torch import nn
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model

from gammascope.detectors.npr import diagonals
from gammascope.errors import IncompatibleCheckpointError


class Bottleneck(nn.Module):
    """As torchvision has it: the second convolution takes the stride."""

    def __init__(self, before: int, inner: int, stride: int, *, widens: bool) -> None:
        super().__init__()
        after = 4 * inner
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample = None
        if widens:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class CutResNet(nn.Module):
    """NPR's and SAFE's network behind its front: torchvision's up to the second stage, a finer stem, and ``fc1``."""

    def __init__(self, classes: int, width: int = 4, depths: tuple[int, int] = (2, 1)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._stage(width, width, depths[0], stride=1)
        self.layer2 = self._stage(4 * width, 2 * width, depths[1], stride=2)
        self.fc1 = nn.Linear(8 * width, classes)

    @staticmethod
    def _stage(before: int, inner: int, depth: int, *, stride: int) -> nn.Sequential:
        first = Bottleneck(before, inner, stride, widens=True)
        return nn.Sequential(
            first, *(Bottleneck(4 * inner, inner, 1, widens=False) for _ in range(depth - 1))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.fc1(self.layer2(self.layer1(x)).mean((2, 3)))


def taught_resnet(classes: int) -> CutResNet:
    """With statistics of batches that are not 0 and 1, and scales that differ."""
    torch.manual_seed(9)
    network = CutResNet(classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    for _ in range(3):
        network(torch.randn(4, 3, 32, 32))
    return network.eval()


def neighbours(x: torch.Tensor) -> torch.Tensor:
    half = functional.interpolate(x, scale_factor=0.5, mode="nearest")
    return 2 / 3 * (x - functional.interpolate(half, scale_factor=2.0, mode="nearest"))


@pytest.mark.parametrize("wrapped", [True, False])
def test_npr(tmp_path, wrapped):
    network = taught_resnet(classes=1)
    state = network.state_dict()
    found = converted(tmp_path, {"model": state} if wrapped else state, "npr")
    with torch.no_grad():
        expected = network(neighbours(PIXELS))[:, 0]
    torch.testing.assert_close(logit_of(found), expected, atol=1e-4, rtol=1e-4)
    assert (found.facts.view.fit, found.facts.view.size) == ("resize", 256)
    broken = {n: t for n, t in state.items() if not n.startswith("layer1.1.conv2")}
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks 1 tensors"):
        converted(tmp_path, broken, "npr")


def published_diagonals(x: torch.Tensor) -> torch.Tensor:
    """The wavelet transform as a library does it: long filters on a mirrored picture, every second place."""
    high = torch.tensor([0.0, 0.0, -(0.5**0.5), 0.5**0.5, 0.0, 0.0])
    side = x.shape[-1]
    assert side % 2 == 0
    mirrored = torch.cat([x, x.flip(-1)], -1)
    place = torch.arange(-4, side + 4) % (2 * side)
    wide = mirrored[..., place]
    wide = torch.cat([wide, wide.flip(-2)], -2)[..., place, :]
    kernel = torch.outer(high, high).expand(3, 1, 6, 6)
    band = functional.conv2d(wide, kernel, stride=2, groups=3)
    assert band.shape[-1] == side // 2 + 2
    return functional.interpolate(band, size=x.shape[-2:], mode="bilinear", antialias=True)


def test_safe_is_the_network_of_npr_behind_a_wavelet(tmp_path):
    network = taught_resnet(classes=2)
    state = network.state_dict()
    # Training scripts keep their options beside the weights.
    content = {"model": state, "epoch": 3, "args": argparse.Namespace(lr=1e-4, name="safe")}
    found = converted(tmp_path, content, "safe")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(13))
    with torch.no_grad():
        two = network(published_diagonals(pixels))
        ours = found.detector(pixels).logit
    torch.testing.assert_close(ours, two[:, 1] - two[:, 0], atol=1e-4, rtol=1e-4)
    view = found.facts.view
    assert (view.fit, view.mean, view.std) == ("center_crop", (0, 0, 0), (1, 1, 1))
    assert diagonals(torch.rand(1, 3, 9, 12)).shape == (1, 3, 9, 12)
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks 1 tensors \(fc1|head"):
        converted(tmp_path, {n: t for n, t in state.items() if n != "fc1.bias"}, "safe")


class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Of OpenAI's CLIP, whose attention is that of ``torch.nn``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        parts = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU()}
        self.mlp = nn.Sequential(OrderedDict(parts | {"c_proj": nn.Linear(4 * width, width)}))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resblocks(x)


class Visual(nn.Module):
    """The image half of OpenAI's CLIP."""

    def __init__(
        self, width: int, heads: int, depth: int, patch: int, side: int, shared: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) / 8)
        places = (side // patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.randn(places, width) / 8)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Blocks(width, heads, depth)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, shared) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class OpenAICLIP(nn.Module):
    def __init__(self, visual: Visual, words: int = 9, width: int = 32, shared: int = 48) -> None:
        super().__init__()
        self.visual = visual
        self.transformer = Blocks(width, 1, 1)
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.ones(7, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.ones(width, shared))
        self.logit_scale = nn.Parameter(torch.ones(()))


class Projected(nn.Module):
    """DRCT's: CLIP's embedding, then one layer; the class around it adds another."""

    def __init__(self, feature: int = 40, shared: int = 48) -> None:
        super().__init__()
        self.model = OpenAICLIP(Visual(64, 1, 2, 14, 28, shared), shared=shared)
        self.fc = nn.Linear(shared, feature)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.model.visual(x))


class DRCT(nn.Module):
    def __init__(self, feature: int = 40) -> None:
        super().__init__()
        self.model = Projected(feature)
        self.fc = nn.Linear(feature, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.model(x))


@pytest.mark.parametrize("parallel", [False, True])
def test_drct_is_a_linear_probe_of_clip_under_its_first_names(tmp_path, parallel):
    torch.manual_seed(19)
    network = DRCT().eval()
    # As training on several devices writes it, with a prefix.
    state = (nn.DataParallel(network) if parallel else network).state_dict()
    found = converted(tmp_path, state, "drct")
    with torch.no_grad():
        expected = functional.softmax(network(PIXELS), 1)[:, 1]
    torch.testing.assert_close(logit_of(found).sigmoid(), expected, atol=1e-4, rtol=1e-4)
    view = found.facts.view
    assert (view.fit, view.mean) == ("center_crop", (0.485, 0.456, 0.406))
    with pytest.raises(IncompatibleCheckpointError, match=r"lacks 1 tensors \(visual\.proj\)"):
        converted(tmp_path, {n: t for n, t in state.items() if "visual.proj" not in n}, "drct")
    with pytest.raises(IncompatibleCheckpointError, match="no CLIP vision tower"):
        converted(
            tmp_path, {"model.stem.0.weight": torch.ones(1), "fc.bias": torch.ones(2)}, "drct"
        )


def dinov2(**more: int) -> Dinov2Model:
    sizes = SIZES | {"mlp_ratio": 2} | more
    del sizes["intermediate_size"]
    torch.manual_seed(11)
    network = Dinov2Model(Dinov2Config(**sizes)).eval()
    for name, parameter in network.named_parameters():
        if "norm" in name or "lambda1" in name:  # which are all 1 and 0 in the beginning
            nn.init.normal_(parameter, mean=float("lambda1" not in name), std=0.3)
    return network


HUB = "base_model.model"
HUB_NAMES = (
    (r"embeddings\.(cls_token|mask_token)", rf"{HUB}.\1"),
    (r"embeddings\.position_embeddings", rf"{HUB}.pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.+)", rf"{HUB}.patch_embed.proj.\1"),
    (r"layernorm\.(.+)", rf"{HUB}.norm.\1"),
    (r"encoder\.layer\.(\d+)\.(norm[12]\..+)", rf"{HUB}.blocks.\1.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", rf"{HUB}.blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.attention\.o_proj\.(.+)", rf"{HUB}.blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.([qkv])_proj\.(.+)", rf"{HUB}.blocks.\1.attn.\2.\3"),
    (r"encoder\.layer\.(\d+)\.(mlp\.fc[12]\..+)", rf"{HUB}.blocks.\1.\2"),
)
"""Names of transformers' DINOv2 in its own repository, whose q, k and v are one layer."""

UPDATED = re.compile(rf"({re.escape(HUB)}\.blocks\.\d+\.(?:attn|mlp)\.\w+)\.(weight|bias)")


def dda_state(network: Dinov2Model, rank: int = 2) -> State:
    """A real DINOv2 under the names of its own repository, with an update beside each of four kinds of layers."""
    plain: State = {}
    for own, tensor in network.state_dict().items():
        pattern, theirs = next(rule for rule in HUB_NAMES if re.fullmatch(rule[0], own))
        plain[re.sub(pattern, theirs, own)] = tensor
    for query in [name for name in plain if ".attn.q." in name]:
        thirds = [plain.pop(query.replace(".q.", f".{part}.")) for part in "qkv"]
        plain[query.replace(".q.", ".qkv.")] = torch.cat(thirds)
    width = network.config.hidden_size
    state = {"base_model.fc.weight": torch.randn(1, width), "base_model.fc.bias": torch.randn(1)}
    for name, tensor in plain.items():
        layer = UPDATED.fullmatch(name)
        state[f"{layer[1]}.original_layer.{layer[2]}" if layer else name] = tensor
        if layer and layer[2] == "weight":
            rows, columns = tensor.shape
            state[f"{layer[1]}.lora.lora_A"] = torch.randn(rank, columns) / 8
            state[f"{layer[1]}.lora.lora_B"] = torch.randn(rows, rank) / 8
    return state


def published_dda(state: State, x: torch.Tensor) -> torch.Tensor:
    """The published formula: DINOv2 with layer scale, every update beside its layer and divided by the rank."""

    def layer(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = (state[f"{name}.original_layer.{part}"] for part in ("weight", "bias"))
        down, up = state[f"{name}.lora.lora_A"], state[f"{name}.lora.lora_B"]
        return functional.linear(x, weight, bias) + x @ down.T @ up.T / len(down)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(
            x, (64,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6
        )

    proj = f"{HUB}.patch_embed.proj"
    cells = functional.conv2d(x, state[f"{proj}.weight"], state[f"{proj}.bias"], stride=14)
    tokens = cells.flatten(2).transpose(1, 2)
    tokens = torch.cat([state[f"{HUB}.cls_token"].expand(len(x), -1, -1), tokens], 1)
    tokens = tokens + state[f"{HUB}.pos_embed"]
    for block in range(2):
        stem = f"{HUB}.blocks.{block}"
        q, k, v = layer(norm(tokens, f"{stem}.norm1"), f"{stem}.attn.qkv").chunk(3, -1)
        seen = (q @ k.transpose(1, 2) / 8).softmax(-1) @ v
        tokens = tokens + state[f"{stem}.ls1.gamma"] * layer(seen, f"{stem}.attn.proj")
        inner = functional.gelu(layer(norm(tokens, f"{stem}.norm2"), f"{stem}.mlp.fc1"))
        tokens = tokens + state[f"{stem}.ls2.gamma"] * layer(inner, f"{stem}.mlp.fc2")
    token = norm(tokens, f"{HUB}.norm")[:, 0]
    return (token @ state["base_model.fc.weight"].T + state["base_model.fc.bias"])[:, 0]


CLIPS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def normalised(picture: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]):
    return (picture - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def test_dda_is_a_linear_probe_of_a_merged_tower(tmp_path):
    """Its network was trained on CLIP's normalisation; ours gets DINOv2's, of the same picture."""
    state, picture = dda_state(dinov2()), torch.rand(2, 3, 28, 28)
    found = converted(tmp_path, {"model": state}, "dda")
    expected = published_dda(state, normalised(picture, *CLIPS))
    view = found.facts.view
    with torch.no_grad():
        ours = found.detector(normalised(picture, view.mean, view.std)).logit
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    assert (found.facts.method, view.fit, view.size) == ("linear_probe", "center_crop", 336)
    lonely = {n: t for n, t in state.items() if not n.endswith("blocks.1.mlp.fc2.lora.lora_B")}
    with pytest.raises(IncompatibleCheckpointError, match=r"no place for 1 tensors .*fc2.lora"):
        converted(tmp_path, {"model": lonely}, "dda")


def test_dda_without_updates_answers_as_transformers_dinov2_does(tmp_path):
    network = dinov2(num_attention_heads=1)
    state = dda_state(network)
    state |= {n: torch.zeros_like(t) for n, t in state.items() if n.endswith("lora_B")}
    picture = torch.rand(2, 3, 28, 28)
    found = converted(tmp_path, {"model": state}, "dda")
    view = found.facts.view
    with torch.no_grad():
        token = network(normalised(picture, *CLIPS)).pooler_output
        ours = found.detector(normalised(picture, view.mean, view.std)).logit
    fc = (state["base_model.fc.weight"], state["base_model.fc.bias"])
    torch.testing.assert_close(ours, functional.linear(token, *fc)[:, 0], atol=1e-4, rtol=1e-4)
