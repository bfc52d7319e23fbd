"""Pretrained vision transformers as backbones: CLIP, SigLIP, SigLIP 2, DINOv2 and DINOv3.

The architectures come from the optional package ``transformers``. Weights come from a local folder
or, on request, from the Hugging Face hub; only safetensors files are read and no foreign code runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from gammascope.errors import RecipeError
from gammascope.networks import published, towers
from gammascope.networks.adapters import LORA_TARGETS, add_lora, last_blocks
from gammascope.networks.base import Backbone, Features
from gammascope.networks.kept_states import KeptStates

Training: TypeAlias = Literal["frozen", "lora", "full"]
"""What is trained: nothing, low-rank adapters beside frozen weights, or everything."""

_Triple: TypeAlias = tuple[float, float, float]

_IMAGENET: tuple[_Triple, _Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between towers that otherwise look alike.

    Attributes:
        name: Key of ``LORA_TARGETS``.
        tower: Class in ``transformers``; its configuration class follows from it.
        blocks: Dotted path to the list of blocks.
        class_tokens: Tokens before the registers and patches: 1, or 0 if the tower pools instead.
        interpolates: Whether another size than the trained one must be asked for explicitly.
        normalisation: Mean and std of training, where a checkpoint does not state its own.
    """

    name: str
    tower: str
    blocks: str
    class_tokens: int
    interpolates: bool
    normalisation: tuple[_Triple, _Triple]


_CLIP = Family(
    name="clip",
    tower="CLIPVisionModel",
    blocks="encoder.layers",
    class_tokens=1,
    interpolates=True,
    normalisation=((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
)
_SIGLIP = Family(
    name="siglip",
    tower="SiglipVisionModel",
    blocks="encoder.layers",
    class_tokens=0,
    interpolates=True,
    normalisation=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)
_DINOV2 = Family(
    name="dinov2",
    tower="Dinov2Model",
    blocks="encoder.layer",
    class_tokens=1,
    interpolates=False,
    normalisation=_IMAGENET,
)
_DINOV2_REGISTERS = Family(
    name="dinov2",
    tower="Dinov2WithRegistersModel",
    blocks="encoder.layer",
    class_tokens=1,
    interpolates=False,
    normalisation=_IMAGENET,
)
_DINOV3 = Family(
    name="dinov3",
    tower="DINOv3ViTModel",
    blocks="model.layer",
    class_tokens=1,
    interpolates=False,
    normalisation=_IMAGENET,
)

FAMILIES: Mapping[str, Family] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    # The fixed-resolution checkpoints of SigLIP 2 have the architecture of SigLIP and say so.
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2_REGISTERS,
    "dinov3_vit": _DINOV3,
}
"""The supported values of ``model_type`` in the ``config.json`` of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """How a pretrained tower is trained.

    Attributes:
        train: What is trained.
        lora_rank: Inner width of the adapters; only with ``train="lora"``.
        lora_alpha: Adapters are scaled by ``lora_alpha / lora_rank``.
        trained_blocks: Only so many last blocks are trained or adapted; 0: all.
    """

    train: Training = "frozen"
    lora_rank: int = 8
    lora_alpha: int = 16
    trained_blocks: int = 0


class TransformerBackbone(Backbone):
    """A vision transformer that gives its class token and the patch tokens of chosen blocks.

    ``Features.token`` is the class token after the final LayerNorm; SigLIP has no class token, so
    there it is the output of its attention pooling. ``Features.grid`` holds the patch tokens as
    they leave each tapped block, before any final LayerNorm, concatenated on channels in the order
    of ``taps``; class and register tokens are left out.

    With ``reads``, ``Features.token`` holds instead the class tokens that leave those blocks, each scaled to mean 0 and
    variance 1, one after the other; ``Features.summary["content"]`` holds them as they are, for readings.

    Any view whose sides are multiples of ``stride`` is accepted: learnt position embeddings are
    interpolated (CLIP, SigLIP, DINOv2), rotary ones need no interpolation (DINOv3).

    A frozen tower, with or without adapters, stays in evaluation mode even while the rest of a
    detector trains: no dropout, no stochastic depth, no random position scaling.

    Attributes:
        config: JSON types; with them ``from_config`` rebuilds the same network without a download.
    """

    config: dict[str, Any]

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        tower: Any,
        family: Family,
        adaptation: Adaptation,
        *,
        taps: Sequence[int] | None,
        reads: Sequence[int] = (),
        normalisation: tuple[_Triple, _Triple] | None = None,
        file: towers.Tower | None = None,
    ) -> None:
        super().__init__()
        config = tower.config
        self.taps = _checked_taps(taps, config.num_hidden_layers)
        self.reads = _checked_reads(reads, config.num_hidden_layers, family)
        if (
            self.reads
            and adaptation.train != "frozen"
            and max(self.reads) < config.num_hidden_layers
        ):
            raise RecipeError(
                f"reads={list(self.reads)}: blocks behind the last of them would be trained for nothing; add block "
                f"{config.num_hidden_layers}, or choose method.adapt=frozen."
            )
        self.token_channels = config.hidden_size * max(1, len(self.reads))
        self.grid_channels = config.hidden_size * len(self.taps)
        self.stride = _square(config.patch_size, "patch_size")
        self.mean, self.std = normalisation or family.normalisation
        self.config = _settings_of(config, self.mean, self.std)
        self.file = file
        if file is not None:
            self.config[towers.SHA256] = file.sha256
        self._native = _square(config.image_size, "image_size")
        self._interpolates = family.interpolates
        self._skipped_tokens = family.class_tokens + getattr(config, "num_register_tokens", 0)
        self._trains_tower = adaptation.train == "full"
        self._path_of_blocks = family.blocks
        self._rotary = family is _DINOV3
        self._states: KeptStates | None = None
        tower.requires_grad_(self._trains_tower)
        if adaptation.train == "lora":
            add_lora(
                tower,
                blocks=last_blocks(tower, family.blocks, adaptation.trained_blocks),
                targets=LORA_TARGETS[family.name],
                rank=adaptation.lora_rank,
                alpha=adaptation.lora_alpha,
            )
        for name, parameter in tower.named_parameters():
            behind = not name.startswith((family.blocks, "embeddings", "pre_layrnorm"))
            # Used by its pretraining only, or by the final token: never gets a gradient.
            if name.endswith("mask_token") or (self.reads and behind):
                parameter.requires_grad_(False)
        self.tower = tower
        if self._trains_tower and adaptation.trained_blocks:
            self.train_only_last(adaptation.trained_blocks)
        self.train(self.training)

    @classmethod
    def load(
        cls,
        name_or_path: str,
        *,
        taps: Sequence[int] | None = None,
        reads: Sequence[int] = (),
        adaptation: Adaptation = Adaptation(),
        revision: str | None = None,
    ) -> TransformerBackbone:
        """Load pretrained weights, in float32.

        A checkpoint of a text-and-image model is fine: its text half is not loaded.

        Args:
            name_or_path: "clip-vit-b16", the tower that comes with the package; a local folder with ``config.json``
                and safetensors; or a hub id such as "openai/clip-vit-large-patch14", which is downloaded once and
                kept.
            taps: Blocks whose patch tokens make up the grid, counted from 1; None: the last one.
            reads: Blocks whose class tokens make up ``Features.token``, counted from 1; none: the final one.
            adaptation: How it is trained.
            revision: Commit, tag or branch on the hub; None: the newest.

        Raises:
            MissingDataError: If there is no such folder or hub id, or it holds no safetensors.
            IncompatibleCheckpointError: If the weights do not fill the network.
            RecipeError: If the architecture is not supported or a tap does not exist.
            MissingExtraError: If ``transformers`` or ``peft`` is not installed.
        """
        file = towers.named(name_or_path)
        if file is not None:
            known = {**file.config, towers.SHA256: file.sha256}
            return cls.from_config(known, taps=taps, reads=reads, adaptation=adaptation)
        settings = published.settings_of(name_or_path, revision)
        family, config = _configured(settings)
        tower = published.tower_of(name_or_path, family.tower, config, revision)
        stated = _normalisation(published.preprocessing_of(name_or_path, revision), family)
        return cls(tower, family, adaptation, taps=taps, reads=reads, normalisation=stated)

    @classmethod
    def from_config(
        cls,
        config: Any,
        *,
        taps: Sequence[int] | None = None,
        reads: Sequence[int] = (),
        adaptation: Adaptation = Adaptation(),
    ) -> TransformerBackbone:
        """Build a tower with random weights; downloads nothing, and takes no memory on ``meta``.

        Args:
            config: A configuration of ``transformers``, or the same as a mapping: the content of
                ``config.json``, or the ``config`` of another backbone. The keys ``image_mean`` and
                ``image_std`` replace the normalisation of the family; with ``tower_sha256`` the weights are those of
                the tower's file with that hash.
            taps: As in ``load``.
            reads: As in ``load``.
            adaptation: As in ``load``.

        Raises:
            RecipeError: If the architecture is not supported or a tap does not exist.
            MissingExtraError: If ``transformers`` or ``peft`` is not installed.
            MissingDataError: If there is no tower's file with the hash that is asked for.
        """
        settings = config if isinstance(config, Mapping) else config.to_dict()
        family, own_config = _configured(settings)
        sha256 = settings.get(towers.SHA256)
        file = towers.with_sha256(str(sha256)) if sha256 else None
        tower = _filled(getattr(published.transformers_package(), family.tower), own_config, file)
        stated = _normalisation(settings, family)
        return cls(
            tower, family, adaptation, taps=taps, reads=reads, normalisation=stated, file=file
        )

    def elsewhere(self) -> Mapping[str, Tensor]:
        """Return what the tower's file holds for this network; nothing where it came from the hub or a folder."""
        if self.file is None:
            return {}
        held = self.file.tensors()
        # An adapter moves the layer that it stands beside one level down.
        names = {name: name.replace(".base_layer.", ".") for name in self.tower.state_dict()}
        return {f"tower.{own}": held[name] for own, name in names.items() if name in held}

    @property
    def _blocks(self) -> Any:
        return self.tower.get_submodule(self._path_of_blocks)

    def train(self, mode: bool = True) -> TransformerBackbone:
        """Switch between training and evaluation; a frozen tower stays in evaluation."""
        super().train(mode)
        if not self._trains_tower:
            self.tower.eval()
        return self

    def last_blocks(self, count: int) -> str:
        """Return a regular expression for the names of the tower's last so many blocks; 0: of all."""
        return last_blocks(self.tower, self._path_of_blocks, count)

    def train_only_last(self, blocks: int) -> None:
        """Freeze everything before the last so many blocks; what comes after the blocks is trained, too.

        Raises:
            RecipeError: If the tower is frozen or adapted, or has fewer blocks.
        """
        there = len(self._blocks)
        if not self._trains_tower or not 1 <= blocks <= there:
            raise RecipeError(
                f"The last {blocks} of {there} blocks can be trained alone if there are as many and adapt='full'."
            )
        trained = tuple(f"{self._path_of_blocks}.{i}." for i in range(there - blocks, there))
        for name, parameter in self.tower.named_parameters():
            after = not name.startswith((self._path_of_blocks, "embeddings", "pre_layrnorm"))
            wanted = name.startswith(trained) or after
            parameter.requires_grad_(parameter.requires_grad and wanted)

    def keep(self, folder: Path, blocks: int) -> None:
        """Keep what leaves the first so many blocks for each view, and read it from there when the view comes again.

        So several runs share the work on views that they have in common. Views of which patches are dropped, or beside
        which prompts are shown, are encoded anew.

        Args:
            folder: Where it is kept; three hundred kilobytes for a view of 224 px and CLIP ViT-B/16.
            blocks: How many; they, and what comes before them, are frozen.

        Raises:
            RecipeError: If there are fewer blocks, one of them is trained, or patch tokens of an earlier one are read.
        """
        states = KeptStates(folder, self.tower, self._path_of_blocks, blocks, self._skipped_tokens)
        if min(self.taps) < blocks:
            raise RecipeError(
                f"keeping.blocks = {blocks}: of earlier blocks class tokens alone are kept, and the patch tokens of "
                f"block {min(self.taps)} are read; name at most {min(self.taps)}."
            )
        self._states = states

    def forward(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        kept: Int[Tensor, "b k"] | None = None,
        prompts: Sequence[Float[Tensor, "p d"]] = (),
    ) -> Features:
        """Encode normalised views.

        Args:
            pixels: The views.
            kept: Patches that are seen, row by row from 0; the others are dropped before the first block, with
                their position codes, and their cells of the grid are 0. None: all.
            prompts: Tokens after those of the view, as many for each of the first blocks; later ones take the place
                of what came out of the block before. Behind the last of them they just go on.

        Raises:
            RecipeError: If a side of the views is not a multiple of ``stride``, or patches are to be dropped from, or
                prompts shown to, a tower that adds no position codes.
        """
        height, width = pixels.shape[-2:]
        rows, columns = height // self.stride, width // self.stride
        if (rows * self.stride, columns * self.stride) != (height, width) or not rows * columns:
            fitting = max(1, round(height / self.stride)) * self.stride
            raise RecipeError(
                f"Views of {width} x {height} px do not divide into patches of {self.stride} px: "
                f"choose a view size that is a multiple of {self.stride}, such as {fitting}."
            )
        options: dict[str, Any] = {"output_hidden_states": sorted({*self.taps, *self.reads})}
        if self._interpolates:
            options["interpolate_pos_encoding"] = (height, width) != (self._native, self._native)
        plain = kept is None and not prompts
        known = self._states.of(self._blocks, pixels) if self._states and plain else nullcontext()
        with self._dropping(kept), self._prompted(prompts), known:
            seen = self.tower(pixels, **options)
        # Hidden state 0 is the embedding, so number k is what leaves block k; prompts come last.
        shown = self._skipped_tokens + (rows * columns if kept is None else kept.shape[1])
        tapped = [seen.hidden_states[tap][:, self._skipped_tokens : shown] for tap in self.taps]
        cells = torch.cat(tapped, dim=2).transpose(1, 2)
        if kept is not None:
            places = kept[:, None].expand_as(cells)
            cells = cells.new_zeros(*cells.shape[:2], rows * columns).scatter(2, places, cells)
        grid = cells.reshape(-1, self.grid_channels, rows, columns)
        if not self.reads:
            return Features(token=seen.pooler_output, grid=grid)
        read = [seen.hidden_states[block][:, 0].float() for block in self.reads]
        even = [functional.layer_norm(token, token.shape[1:]) for token in read]
        return Features(torch.cat(even, 1), grid, summary={"content": torch.cat(read, 1)})

    @contextmanager
    def _dropping(self, kept: Int[Tensor, "b k"] | None) -> Iterator[None]:
        """Let only some patch tokens into the first block."""
        if kept is None:
            yield
            return
        if self._rotary:
            raise RecipeError(
                "This tower turns its tokens by their places in every block, so none can be dropped: fill the pixels "
                "of masked patches instead."
            )

        def drop(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            first, patches = inputs[0].split(
                [self._skipped_tokens, inputs[0].shape[1] - self._skipped_tokens], 1
            )
            rows = torch.arange(len(kept), device=kept.device)[:, None]
            return (torch.cat([first, patches[rows, kept]], 1), *inputs[1:])

        handle = self._blocks[0].register_forward_pre_hook(drop)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _prompted(self, prompts: Sequence[Float[Tensor, "p d"]]) -> Iterator[None]:
        """Add tokens behind those of the view before each of the first blocks."""
        if not prompts or not len(prompts[0]):
            yield
            return
        if self._rotary or len(prompts) > len(self._blocks):
            raise RecipeError(
                f"{len(prompts)} blocks are to see prompts, of {len(self._blocks)}: expected at most as many, in a "
                "tower that adds position codes (none that turns its tokens by their places)."
            )

        def adding(prompt: Tensor, place: int) -> Any:
            def add(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                tokens = inputs[0] if place == 0 else inputs[0][:, : -len(prompt)]
                there = prompt.to(tokens).expand(len(tokens), -1, -1)
                return (torch.cat([tokens, there], 1), *inputs[1:])

            return add

        handles = [
            self._blocks[place].register_forward_pre_hook(adding(prompt, place))
            for place, prompt in enumerate(prompts)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@runtime_checkable
class _TowerChoice(Protocol):
    """The part of a method's config that chooses a tower; methods lie to the right of networks."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def backbone(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def adapt(self) -> Training: ...
    @property
    def taps(self) -> Sequence[int] | None: ...
    @property
    def reads(self) -> Sequence[int]: ...
    @property
    def lora_rank(self) -> int: ...
    @property
    def lora_alpha(self) -> int: ...
    @property
    def trained_blocks(self) -> int: ...


_Chosen = TypeVar("_Chosen", bound=_TowerChoice)


def for_config(config: _Chosen) -> tuple[TransformerBackbone, _Chosen]:
    """Build the tower that a method's config chooses, and complete the config.

    With an ``architecture`` the weights are random, for a checkpoint to fill, and nothing is read
    or downloaded. Without, pretrained weights are loaded and the returned config has it filled in.

    Args:
        config: A dataclass with ``backbone`` (hub id or local folder), ``architecture`` (the
            ``config`` of a ``TransformerBackbone`` as JSON, or "" as long as nothing was loaded),
            and ``adapt``, ``taps``, ``reads``, ``lora_rank``, ``lora_alpha`` and ``trained_blocks``, as in ``load``
            and ``Adaptation``.

    Raises:
        RecipeError: If ``architecture`` is not JSON, or as ``TransformerBackbone.from_config``.
        GammascopeError: As ``TransformerBackbone.load``.
    """
    adaptation = Adaptation(
        config.adapt, config.lora_rank, config.lora_alpha, config.trained_blocks
    )
    options: dict[str, Any] = {"taps": config.taps, "reads": config.reads, "adaptation": adaptation}
    if not config.architecture:
        backbone = TransformerBackbone.load(config.backbone, **options)
        architecture = json.dumps(backbone.config, sort_keys=True)
        return backbone, dataclasses.replace(config, architecture=architecture)
    try:
        settings = json.loads(config.architecture)
    except ValueError as error:
        raise RecipeError(f"architecture is not JSON: {error}.") from error
    return TransformerBackbone.from_config(settings, **options), config


def _configured(settings: Mapping[str, Any]) -> tuple[Family, Any]:
    """Return the family and the vision configuration that ``config.json`` describes."""
    model_type = str(settings.get("model_type"))
    if model_type not in FAMILIES:
        hint = (
            " SigLIP 2 is supported in its fixed resolutions, not as NaFlex."
            if model_type.startswith("siglip2")
            else ""
        )
        known = ", ".join(FAMILIES)
        raise RecipeError(f"No backbone of model_type {model_type!r}; known: {known}.{hint}")
    family = FAMILIES[model_type]
    tower = getattr(published.transformers_package(), family.tower)
    # Checkpoints with a text tower keep the settings of the vision tower one level down.
    own = dict(settings.get("vision_config") or settings)
    for ours in ("image_mean", "image_std", towers.SHA256):
        own.pop(ours, None)
    config = tower.config_class.from_dict(own)
    if not getattr(config, "vision_use_head", True):
        raise RecipeError("A SigLIP tower without its pooling head (vision_use_head) has no token.")
    return family, config


def _filled(kind: Any, config: Any, file: towers.Tower | None) -> Any:
    """Build a tower with random weights, or with those of a file, which are not drawn first: that takes seconds."""
    if file is None or torch.empty(0).is_meta:
        return kind(config)
    with torch.device("meta"):
        tower = kind(config)
    tower.load_state_dict(file.tensors(), assign=True)
    # What is no weight is made anew: it has no values on ``meta``.
    for module in tower.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                module.register_buffer(name, torch.arange(buffer.numel()).view_as(buffer), False)
    return tower.eval()


def _normalisation(stated: Mapping[str, Any], family: Family) -> tuple[_Triple, _Triple]:
    """Prefer what a checkpoint states: one architecture is trained with several normalisations."""
    mean = stated.get("image_mean") or family.normalisation[0]
    std = stated.get("image_std") or family.normalisation[1]
    return _triple(mean), _triple(std)


def _settings_of(config: Any, mean: _Triple, std: _Triple) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(config.to_dict()))
    settings.pop("_name_or_path", None)  # says where it lay on one machine
    return settings | {"image_mean": list(mean), "image_std": list(std)}


def _triple(values: Sequence[float]) -> _Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _checked_taps(taps: Sequence[int] | None, blocks: int) -> tuple[int, ...]:
    chosen = (blocks,) if taps is None else tuple(taps)
    if not chosen or not all(1 <= tap <= blocks for tap in chosen):
        raise RecipeError(f"taps={list(chosen)}: name at least one of the blocks 1 to {blocks}.")
    return chosen


def _checked_reads(reads: Sequence[int], blocks: int, family: Family) -> tuple[int, ...]:
    if reads and not family.class_tokens:
        raise RecipeError(f"reads={list(reads)}: {family.name} has no class token to read.")
    if not all(1 <= block <= blocks for block in reads):
        raise RecipeError(f"reads={list(reads)}: name blocks from 1 to {blocks}.")
    return tuple(reads)


def _square(size: int | Sequence[int], what: str) -> int:
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(set(sides)) != 1:
        raise RecipeError(f"{what}={size}: only squares are supported.")
    return sides[0]
