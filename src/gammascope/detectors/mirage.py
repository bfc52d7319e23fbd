"""MiraGe: text anchors, and prompts in both halves of CLIP, trained to keep classes apart (arXiv:2508.01525).

A reconstruction in the style of MiraGe: only abstract and first page were at hand. Theirs are the idea, features of one
class close together and the classes far apart, multimodal prompts, and texts as anchors. Ours are the prompts (those of
MaPLe, arXiv:2210.03117), the losses and every number. With ``lambda_contrastive=0`` it is plain MaPLe, the baseline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import BackboneConfig, Detector, Loss, Method, tiny_clip, view_of
from gammascope.errors import MissingExtraError, RecipeError
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.base import Backbone
from gammascope.networks.captions import Sentences, model_and_tokenizer
from gammascope.networks.pretrained import backbone_for
from gammascope.prediction import Batch, Prediction

OWN_TEXT = "own"
"""How a config asks for a text half of our own beside a tower whose text half is not at hand."""

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


@dataclass(frozen=True, slots=True)
class Config(BackboneConfig):
    """Sizes and choices of MiraGe. A tower must be a CLIP, of which both halves are read.

    Attributes:
        text_architecture: The same as ``architecture`` of the text half; "own", or "" beside an ``architecture`` or a
            backbone of ours: a small text transformer of our own, trained with the rest.
        adapt: Whether a backbone of ours is trained as a whole; a tower is always frozen.
        sentences: What stands for real and for fake.
        prompts: Trained tokens in each prompted layer; 0: none, which leaves plain CLIP.
        depth: Layers that see prompts of their own; capped by both halves.
        width: Of our own text transformer, and of the space it shares with images.
        temperature: Divides the cosines; filled in from a CLIP that is loaded.
        contrast_temperature: Of the contrastive loss.
        lambda_contrastive: Weight of the contrast over images and anchors.
        lambda_intra: Weight of the distance of images from their anchor; 0 by default.
        lambda_inter: Weight of the anchors' cosine, where it is above 0; 0 by default.
    """

    text_architecture: str = ""
    adapt: Literal["frozen", "full"] = "frozen"
    sentences: tuple[str, str] = ("real photo", "AI-generated image")
    prompts: int = 2
    depth: int = 9
    width: int = 64
    temperature: float = 0.01
    contrast_temperature: float = 0.1
    lambda_contrastive: float = 1.0
    lambda_intra: float = 0.0
    lambda_inter: float = 0.0


class MiraGe(Detector):
    """Cosines of an image with two sentences; prompts are trained, and the parts of ours."""

    def __init__(self, config: Config, backbone: Backbone, text: Sentences | PromptedText) -> None:
        super().__init__()
        self.config = config
        self.view = view_of(config, backbone.mean, backbone.std)
        self.backbone, self.text = backbone, text
        self.to_shared = nn.Linear(backbone.token_channels, text.out, bias=False)
        self.to_shared.requires_grad_(requires_grad=isinstance(text, Sentences))
        attends = isinstance(backbone, TransformerBackbone)
        layers = [config.depth, text.blocks]
        if isinstance(backbone, TransformerBackbone):
            layers.append(int(backbone.config["num_hidden_layers"]))
        depth = min(layers) if config.prompts else 0
        self.prompts = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(config.prompts, text.width)) for _ in range(depth)
        )
        self.to_image = nn.ModuleList(
            nn.Linear(text.width, backbone.token_channels) for _ in range(depth if attends else 0)
        )

    def anchors(self) -> Float[Tensor, "2 p"]:
        """Return the vectors of the two sentences, real first, of unit length."""
        return functional.normalize(self.text(list(self.prompts)).float(), dim=1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Predict "contains generated pixels": by how much the image is closer to the second sentence."""
        shown = [lead(prompt) for lead, prompt in zip(self.to_image, self.prompts, strict=False)]
        seen = self.backbone(pixels, prompts=shown) if shown else self.backbone(pixels)
        image = functional.normalize(self.to_shared(seen.token).float(), dim=1)
        anchors = self.anchors()
        cosines = image @ anchors.T / self.config.temperature
        logit = cosines[:, 1] - cosines[:, 0]
        compared = {"image": image, "anchors": anchors.expand(len(image), -1, -1)}
        return Prediction(logit, answers={"generated": logit}, features=compared)


def build(config: Config) -> MiraGe:
    """Make the network; weights are read only where the config is not complete.

    Raises:
        RecipeError: If the counts of prompts make no sense.
        GammascopeError: As ``backbone_for`` and ``PromptedText.load``.
    """
    if config.prompts < 0 or config.depth < 1 or not config.temperature > 0:
        raise RecipeError(
            f"prompts={config.prompts}, depth={config.depth}, temperature={config.temperature}: expected at least 0 "
            "and 1, and a temperature above 0."
        )
    if config.reads:
        raise RecipeError(
            "MiraGe compares an image with sentences in the space that CLIP shares, which takes the final token alone: "
            "leave out method.reads."
        )
    backbone, complete = backbone_for(config, frozen=config.adapt == "frozen")
    if config.text_architecture not in {"", OWN_TEXT}:
        return MiraGe(complete, backbone, PromptedText.from_json(config.text_architecture))
    pair = isinstance(backbone, TransformerBackbone) and not config.text_architecture
    if not pair or config.architecture:
        own = Sentences(
            complete.sentences, width=complete.width, layers=2, heads=4, out=complete.width
        )
        return MiraGe(complete, backbone, own)
    text, facts, to_shared, scale = PromptedText.load(config.backbone, config.sentences)
    complete = replace(
        complete, text_architecture=facts, temperature=float(torch.tensor(-scale).exp())
    )
    detector = MiraGe(complete, backbone, text)
    with torch.no_grad():
        detector.to_shared.weight.copy_(to_shared)
        for prompt in list(detector.prompts)[:1]:
            count = min(len(prompt), len(text.start))
            prompt[:count] = text.start[:count]
    return detector


def loss(config: Config) -> Loss:
    """Return the loss: the cross-entropy of the two anchors, contrast with the anchors as samples, and ablations."""

    def terms(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        label = losses.generated_label(batch)
        image, anchors = prediction.features["image"], prediction.features["anchors"][0]
        made = {"label_bce": losses.label_bce(prediction.logit, label)}
        if config.lambda_contrastive:
            together = torch.cat([image, anchors])
            classes = torch.cat([label, label.new_tensor([0, 1])])
            contrast = losses.supervised_contrastive(
                together, classes, temperature=config.contrast_temperature
            )
            made["contrastive"] = config.lambda_contrastive * contrast
        if config.lambda_intra:
            known = label >= 0
            near = 1 - (image * anchors[label.clamp(min=0)]).sum(1)
            made["intra"] = config.lambda_intra * (near * known).sum() / known.sum().clamp(min=1)
        if config.lambda_inter:
            made["inter"] = config.lambda_inter * (anchors[0] @ anchors[1]).clamp(min=0)
        return made

    return terms


TINY = Config(
    backbone="random",
    architecture=tiny_clip(),
    width=32,
    depth=2,
    temperature=0.1,
    size=32,
)

METHOD = Method(
    title="MiraGe (reconstruction)",
    paper="arXiv:2508.01525",
    config=Config(),
    tiny=TINY,
    build=build,
    loss=loss,
)
