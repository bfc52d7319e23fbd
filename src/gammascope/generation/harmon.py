"""Harmon: a masked autoregressive encoder, a language model and a decoder write tokens of an autoencoder's latents.

Visible tokens are encoded, read by the language model behind the words of what is asked for, and decoded to a vector
for each place; a small diffusion model draws from it the tokens that are next. One random order, more and more at once.

**A reconstruction, not a reproduction**: the half that draws, without the half that describes pictures. The original
works on KL-16 and asks Qwen2.5; both fit (``PUBLISHED``), under the names of its published files. Guesses of ours:
inpainting and edits; a bound on estimates of tokens; coarse classes in place of captions, each one word; a plain
language model without position codes; no dropout. Sizes are ours where no file is loaded.

Source: arXiv:2503.21979; masked autoregression: arXiv:2406.11838. Nothing of the original's code, whose licence is
non-commercial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gammascope.errors import IncompatibleCheckpointError, MissingDataError, RecipeError
from gammascope.generation import base
from gammascope.generation.autoencoder import TinyAutoencoder
from gammascope.generation.base import Condition, Generator, GeneratorKind, Shown, Stage
from gammascope.generation.kl_autoencoder import GROUPS, KlAutoencoder
from gammascope.generation.masked_autoregression import TIMES, Block, MaskedAutoregressor, Sizes, at
from gammascope.generation.small_autoencoder import Design, SmallAutoencoder
from gammascope.networks.published import transformers_package
from gammascope.sample import Image, Mask

_HIDDEN = 0.1
"""Share of classes hidden in training, so that there is something to guide away from."""

_MASKED = (0.7, 1.0)
_UNUSED = ("mar.class_emb.weight", "llm.lm_head.weight")


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The autoencoder whose latents are written.

    Attributes:
        kind: "taef2": a TinyAutoencoder that mixes; "taesd": one that does not; "small": of ``small``'s design; "kl16".
        channels: Of its latents; of no effect on "small".
        width: Of its layers; of no effect on "small".
        scale: Latents times this have a standard deviation near 1.
        small: A design of ``training.autoencoders``.
    """

    kind: Literal["taef2", "taesd", "small", "kl16"] = "taef2"
    channels: int = 32
    width: int = 64
    scale: float = 1.0
    small: Design = field(default_factory=Design)

    def __post_init__(self) -> None:
        multiple = GROUPS if self.kind == "kl16" else 1
        if min(self.channels, self.width) < 1 or self.width % multiple:
            raise RecipeError(
                f"{self}: expected channels of 1 or more, a width that is a multiple of {multiple}."
            )
        if not 0 < self.scale < math.inf or self.small.channels != 3:
            raise RecipeError(f"{self}: expected a finite scale above 0, small.channels of 3.")

    def built(self) -> Any:
        """Build it with random weights."""
        if self.kind == "small":
            return SmallAutoencoder(self.small)
        if self.kind == "kl16":
            return KlAutoencoder(self.channels, self.width)
        return TinyAutoencoder(self.channels, self.width, mixing=self.kind == "taef2")


@dataclass(frozen=True, slots=True)
class Language:
    """The language model.

    Attributes:
        kind: "plain": a causal transformer of ours that knows the classes alone; "qwen2": one of ``transformers``.
        hidden: Its width.
        layers: Its depth.
        heads: Of its attention.
        key_heads: Of keys and values, fewer than heads; of "qwen2".
        inner: Width of its perceptrons; of "qwen2".
        vocabulary: How many words it knows; of "qwen2".
    """

    kind: Literal["plain", "qwen2"] = "plain"
    hidden: int = 192
    layers: int = 2
    heads: int = 4
    key_heads: int = 2
    inner: int = 4864
    vocabulary: int = 151_936

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.heads) < 1 or self.hidden % self.heads:
            raise RecipeError(
                f"{self}: expected 1 or more of each, and a width that is a multiple of heads."
            )


@dataclass(frozen=True, slots=True)
class Config:
    """How it is built and sampled.

    Attributes:
        px: Side of pictures.
        classes: Names; none: nothing can be asked for.
        prompts: Words of each class, then of asking for nothing, as numbers; none: one word of its own for each.
        first_stage: The autoencoder.
        patch: Side of a token, in cells of the latent.
        network: Of encoder, decoder, and the diffusion of tokens.
        language: The language model.
        steps: In which all tokens are drawn.
        head_steps: Of each token's diffusion.
        guidance: 1 follows the class as learnt, more exaggerates it.
        bound: Estimates of a token stay within plus and minus this; 0: no bound.
    """

    px: int = 256
    classes: tuple[str, ...] = ()
    prompts: tuple[tuple[int, ...], ...] = ()
    first_stage: FirstStage = field(default_factory=FirstStage)
    patch: int = 2
    network: Sizes = field(default_factory=Sizes)
    language: Language = field(default_factory=Language)
    steps: int = 16
    head_steps: int = 50
    guidance: float = 3.0
    bound: float = 5.0

    def __post_init__(self) -> None:
        if min(self.patch, self.steps) < 1 or not 2 <= self.head_steps <= TIMES:
            raise RecipeError(
                f"patch={self.patch}, steps={self.steps}: expected 1 or more; "
                f"head_steps={self.head_steps}: 2 to {TIMES}."
            )
        if not self.bound >= 0 or not math.isfinite(self.guidance):
            raise RecipeError(
                f"bound={self.bound}, guidance={self.guidance}: expected 0 or more, a finite number."
            )
        if self.prompts and (len(self.prompts) != len(self.classes) + 1 or not all(self.prompts)):
            raise RecipeError(
                f"{len(self.prompts)} prompts for {len(self.classes)} classes: expected one more, none of them empty."
            )
        known = len(self.asked)
        if self.language.kind == "qwen2":
            known = self.language.vocabulary
            if self.classes and not self.prompts:
                raise RecipeError("A qwen2 language model needs prompts: make them by prompts_of.")
        if not all(0 <= word < known for prompt in self.asked for word in prompt):
            raise RecipeError(f"The prompts hold a word that is not among the {known} known ones.")

    @property
    def asked(self) -> tuple[tuple[int, ...], ...]:
        """The words of each class, then of nothing."""
        return self.prompts or tuple((index,) for index in range(len(self.classes) + 1))


class _Plain(nn.Module):
    """A causal transformer; visual tokens bring their positions along."""

    def __init__(self, language: Language, words: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(words, language.hidden)
        self.blocks = nn.ModuleList(
            Block(language.hidden, language.heads, causal=True) for _ in range(language.layers)
        )
        self.norm = nn.LayerNorm(language.hidden)

    def forward(self, tokens: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
        for block in self.blocks:
            tokens = block(tokens)
        result: Tensor = self.norm(tokens)
        return result

    def words(self, numbers: Int[Tensor, "b p"]) -> Float[Tensor, "b p h"]:
        """Embed words."""
        result: Tensor = self.embed_tokens(numbers)
        return result


class _Qwen(nn.Module):
    """A language model of ``transformers``."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        package = transformers_package()
        self.model = package.Qwen2Model(
            package.Qwen2Config(
                vocab_size=language.vocabulary,
                hidden_size=language.hidden,
                intermediate_size=language.inner,
                num_hidden_layers=language.layers,
                num_attention_heads=language.heads,
                num_key_value_heads=language.key_heads,
                rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
                use_cache=False,
            )
        )

    def forward(self, tokens: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
        result: Tensor = self.model(inputs_embeds=tokens).last_hidden_state
        return result

    def words(self, numbers: Int[Tensor, "b p"]) -> Float[Tensor, "b p h"]:
        """Embed words."""
        result: Tensor = self.model.embed_tokens(numbers)
        return result


def _between(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, out))


class Harmon(Generator):
    """Writes tokens of an autoencoder's latents."""

    rewrites = True
    any_size = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.native_px = config, config.px
        named: frozenset[base.Ability] = frozenset({"class"} if config.classes else ())
        self.abilities = frozenset[base.Ability]({"sample", "inpaint", "edit"}) | named
        self.vae = config.first_stage.built()
        channels = (
            config.first_stage.small.latent_channels
            if config.first_stage.kind == "small"
            else config.first_stage.channels
        )
        self.cell = self.vae.stride * config.patch
        if config.px < 1 or config.px % self.cell:
            raise RecipeError(f"px={config.px}: expected a multiple of {self.cell}.")
        self.mar = MaskedAutoregressor(channels * config.patch**2, config.network)
        hidden = config.language.hidden
        self.llm = (
            _Plain(config.language, len(config.asked))
            if config.language.kind == "plain"
            else _Qwen(config.language)
        )
        self.proj_in = _between(config.network.width, hidden, hidden)
        self.proj_out = _between(hidden, hidden, config.network.width)

    def train(self, mode: bool = True) -> Harmon:
        """Switch everything but the autoencoder, which stays as it is."""
        super().train(mode)
        self.vae.eval()
        return self

    def adopt(self, folder: Path) -> None:
        """Take the weights of the autoencoder in a folder.

        Raises:
            MissingDataError: If there is none.
            IncompatibleCheckpointError: If it is of another kind or size.
        """
        kind = self.config.first_stage.kind
        if kind == "kl16":
            files = sorted(folder.glob("*.ckpt"))
            if len(files) != 1:
                raise MissingDataError(f"Expected one file *.ckpt in {folder}, found {len(files)}.")
            found = base.tensors_of(files[0])
        elif kind == "small":
            found = SmallAutoencoder.from_folder(folder).state_dict()
        else:
            found = TinyAutoencoder.from_folder(folder).state_dict()
        _filled(self.vae, found, f"The autoencoder in {folder}")

    @torch.no_grad()
    def tokens(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n c"]:
        """Return pictures (0..1) as tokens, row by row."""
        latent = self.vae.encode(pixels) * self.config.first_stage.scale
        return functional.pixel_unshuffle(latent, self.config.patch).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def decoded(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b 3 s s"]:
        """Return the pictures of tokens, 0..1."""
        side = math.isqrt(tokens.shape[1])
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        latent = functional.pixel_shuffle(grid, self.config.patch) / self.config.first_stage.scale
        pixels: Tensor = self.vae.decode(latent)
        return pixels

    def told(
        self,
        tokens: Float[Tensor, "b n c"],
        known: Int[Tensor, "b k"],
        classes: Int[Tensor, " b"],
    ) -> Float[Tensor, "b n d"]:
        """Return, for each place, what its token is drawn from.

        Args:
            tokens: Those at unknown places count for nothing.
            known: Places, as many in each picture.
            classes: -1: none.
        """
        encoded = self.mar.encode(tokens, known)
        buffers = self.mar.slots
        turned = self.proj_in(torch.cat([encoded[:, buffers:], encoded[:, :buffers]], 1))
        back = self.proj_out(self._read(turned, classes))
        visible = known.shape[1]
        encoded = encoded + torch.cat([back[:, visible:], back[:, :visible]], 1)
        return self.mar.decode(encoded, known, tokens.shape[1])

    def _read(
        self, visual: Float[Tensor, "b m h"], classes: Int[Tensor, " b"]
    ) -> Float[Tensor, "b m h"]:
        """Let the language model read visual tokens behind each picture's prompt."""
        asked = self.config.asked
        prompts = [asked[label] for label in classes.tolist()]  # the last one: nothing
        heard = torch.empty_like(visual)
        for length in sorted({len(prompt) for prompt in prompts}):  # no padding to be told apart
            rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
            numbers = torch.tensor([prompts[row] for row in rows], device=visual.device)
            sequence = torch.cat([self.llm.words(numbers).to(visual.dtype), visual[rows]], 1)
            heard[rows] = self.llm(sequence)[:, length:]
        return heard

    @torch.no_grad()
    def drawn_tokens(
        self,
        label: int,
        tokens: Float[Tensor, "n c"],
        kept: Bool[Tensor, " n"],
        rng: np.random.Generator,
    ) -> Float[Tensor, "n c"]:
        """Draw all tokens that are not kept, which are not changed.

        Args:
            label: Of the class; -1: nothing is asked for.
            tokens: Values of the kept ones.
            kept: Which.
            rng: Of order and noise.
        """
        drawn = torch.where(kept[:, None], tokens, 0)
        order = rng.permutation(np.flatnonzero(~kept.cpu().numpy()))
        standing = np.flatnonzero(kept.cpu().numpy())
        open_, guided = len(order), label >= 0 and self.config.guidance != 1
        for left in remaining(open_, self.config.steps):
            places = order[len(order) - open_ : len(order) - left]
            known = torch.from_numpy(np.sort(standing))[None].to(drawn.device)
            drawn[places] = self.mar.diffloss.draw(
                self._wanted(drawn, known, places, label),
                self._wanted(drawn, known, places, -1) if guided else None,
                self.config.guidance,
                self.config.head_steps,
                rng,
                self.config.bound or math.inf,
            )
            standing, open_ = np.append(standing, places), left
        return drawn

    def _wanted(
        self, drawn: Tensor, known: Tensor, places: np.ndarray, label: int
    ) -> Float[Tensor, "m d"]:
        told = self.told(drawn[None], known, torch.tensor([label], device=drawn.device))
        return told[0, torch.from_numpy(places).to(drawn.device)]

    def sample(
        self, condition: Condition | None, size: tuple[int, int], rng: np.random.Generator
    ) -> Image:
        """Write a picture, of a class if one is named."""
        self.require("sample", size)
        label = self.class_of(condition)
        count = (self.native_px // self.cell) ** 2
        empty = torch.zeros(count, self.mar.z_proj.in_features, device=self.device)
        return self._written(label, empty, torch.zeros(count, dtype=torch.bool), rng)

    def inpaint(self, image: Image, mask: Mask, rng: np.random.Generator) -> Image:
        """Draw the tokens that the mask touches; the others are kept, and everything is decoded."""
        self.require("inpaint", (image.shape[0], image.shape[1]))
        tokens = self.tokens(base.to_pixels(image))[0]
        touched = functional.max_pool2d(torch.from_numpy(mask)[None].float(), self.cell)
        return self._written(-1, tokens, touched.flatten() == 0, rng)

    def edit(self, image: Image, prompt: str, strength: float, rng: np.random.Generator) -> Image:
        """Draw a share of the tokens anew, in random places; the prompt is a class. 0 decodes the photo's own."""
        self.require("edit", (image.shape[0], image.shape[1]))
        if not 0 <= strength <= 1:
            raise RecipeError(f"strength={strength}: expected 0..1.")
        tokens = self.tokens(base.to_pixels(image))[0]
        kept = torch.ones(len(tokens), dtype=torch.bool)
        kept[rng.permutation(len(tokens))[: round(strength * len(tokens))]] = False
        return self._written(self.class_of(prompt or None), tokens, kept, rng)

    def _written(self, label: int, tokens: Tensor, kept: Tensor, rng: np.random.Generator) -> Image:
        made = self.drawn_tokens(label, tokens, kept.to(self.device), rng)
        return base.to_image(self.decoded(made[None]))


def remaining(count: int, steps: int) -> list[int]:
    """Say how many of ``count`` tokens are still to be drawn after each step: a falling cosine that ends at 0.

    >>> remaining(16, 4)
    [14, 11, 6, 0]
    """
    left: list[int] = []
    now = count
    for step in range(1, steps + 1):
        if now == 0:
            break
        planned = math.floor(count * math.cos(math.pi / 2 * step / steps))
        now = 0 if step == steps else min(max(1, planned), now - 1)
        left.append(now)
    return left


def _terms(network: Harmon, shown: Shown) -> dict[str, Tensor]:
    tokens = shown.pictures.to(network.device)
    count, places = tokens.shape[:2]
    ratio = nn.init.trunc_normal_(torch.empty(1), 1.0, 0.25, *_MASKED)
    masked = max(1, math.ceil(float(ratio) * places))
    order = torch.rand(count, places, device=tokens.device).argsort(1)
    open_, known = order[:, :masked], order[:, masked:].sort(1).values
    classes = torch.where(torch.rand(count) < _HIDDEN, -1, shown.classes)
    told = network.told(tokens, known, classes.to(tokens.device))
    error, bound = network.mar.diffloss.terms(
        at(tokens, open_).flatten(0, 1), at(told, open_).flatten(0, 1)
    )
    return {"noise": error.mean(), "variance": bound.mean()}


def _trained(network: Harmon) -> Iterator[nn.Parameter]:
    for part in (network.mar, network.llm, network.proj_in, network.proj_out):
        yield from part.parameters()


def published(files: Sequence[Path], config: Config) -> Harmon:
    """Load the original's tensors, which a user brings: all of one network, in one or several files.

    Args:
        files: Such as ``harmon_0.5b.pth`` and ``kl16.ckpt`` of ``wusize/harmon``; nothing in them is executed.
        config: One of ``PUBLISHED``, with classes and prompts.

    Raises:
        MissingDataError: If a file is missing.
        IncompatibleCheckpointError: With the first tensor that is missing, unknown, or of another shape.
    """
    network = Harmon(config)
    network.name = "harmon"
    found: dict[str, Tensor] = {}
    for path in files:
        tensors = base.tensors_of(path)
        alone = not any(key.startswith("mar.") for key in tensors)  # the autoencoder's own file
        found |= {f"vae.{key}" if alone else key: value for key, value in tensors.items()}
    used = {key: value.float() for key, value in found.items() if key not in _UNUSED}
    _filled(network, used, ", ".join(path.name for path in files))
    network.weights = "pretrained"
    return network.eval().requires_grad_(requires_grad=False)


def _filled(network: nn.Module, found: Mapping[str, Tensor], what: str) -> None:
    wanted = network.state_dict()
    for key in [*wanted, *found]:
        have, want = found.get(key), wanted.get(key)
        if have is None or want is None or have.shape != want.shape:
            told = "is missing" if have is None else f"is {tuple(have.shape)}"
            asked = "not known here" if want is None else f"expected {tuple(want.shape)}"
            raise IncompatibleCheckpointError(f"{what} does not fit: {key} {told}, {asked}.")
    network.load_state_dict(dict(found))


def prompts_of(
    classes: Sequence[str], numbers: Callable[[str], Sequence[int]]
) -> tuple[tuple[int, ...], ...]:
    """Return ``Config.prompts`` for a published language model.

    Args:
        classes: What can be asked for: words or sentences.
        numbers: The encoding of the language model's own tokenizer.
    """
    asked = [f"Generate an image: {name}" for name in classes] + ["Generate an image."]
    chat = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    return tuple(tuple(numbers(chat.format(words))) for words in asked)


_KL16: Final = FirstStage("kl16", 16, 128, 0.2325)

PUBLISHED: Final[Mapping[str, Config]] = {
    "harmon_0_5b": Config(
        first_stage=_KL16,
        patch=1,
        network=Sizes(768, 12, 12, 64, 16, 1024, 6),
        language=Language("qwen2", 896, 24, 14, 2, 4864),
        steps=64,
        head_steps=100,
        bound=0.0,
    ),
    "harmon_1_5b": Config(
        first_stage=_KL16,
        patch=1,
        network=Sizes(1280, 20, 16, 64, 16, 1536, 12),
        language=Language("qwen2", 1536, 28, 12, 2, 8960),
        steps=64,
        head_steps=100,
        bound=0.0,
    ),
}
"""Designs of the original's published files."""

GENERATOR = GeneratorKind(
    title="Harmon (a reconstruction)",
    paper="arXiv:2503.21979",
    family="masked autoregression",
    licence="the original's weights: NTU S-Lab License 1.0, non-commercial; what you train is yours",
    config=Config(),
    tiny=Config(
        px=16,
        classes=("dog", "cat"),
        first_stage=FirstStage("small", small=Design(4, 4, "nearest", "plain", width=4)),
        patch=1,
        network=Sizes(16, 1, 2, 2, 4, 16, 1),
        language=Language(hidden=16, layers=1, heads=2),
        steps=3,
        head_steps=5,
    ),
    build=Harmon,
    stages=(Stage("tokens", _terms, _trained),),
)
