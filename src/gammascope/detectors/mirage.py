"""MiraGe: text anchors, and prompts in both halves of CLIP, trained to keep classes apart (arXiv:2508.01525).

A reconstruction in the style of MiraGe: only abstract and first page were at hand. Theirs are the idea, features of one
class close together and the classes far apart, multimodal prompts, and texts as anchors. Ours are the prompts (those of
MaPLe, arXiv:2210.03117), the losses and every number. With ``lambda_contrastive=0`` it is plain MaPLe, the baseline.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gammascope import losses
from gammascope.detectors.base import BackboneConfig, Detector, Loss, Method, view_of
from gammascope.errors import RecipeError
from gammascope.networks.backbones import TransformerBackbone
from gammascope.networks.base import Backbone
from gammascope.networks.pretrained import backbone_for
from gammascope.networks.prompts import PromptedText
from gammascope.networks.sentences import Sentences
from gammascope.prediction import Batch, Prediction

OWN_TEXT = "own"
"""How a config asks for a text half of our own beside a tower whose text half is not at hand."""


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
    architecture=json.dumps(
        {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 8,
            "image_size": 32,
        }
    ),
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
