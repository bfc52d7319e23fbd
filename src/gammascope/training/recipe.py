"""Recipes: everything a training run needs, as a TOML file that becomes frozen dataclasses."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from gammascope import settings
from gammascope.data.laws import Mixture, Nuisance, Pairs
from gammascope.detectors import base
from gammascope.errors import MissingDataError, RecipeError, did_you_mean
from gammascope.sample import KeptApart


@dataclass(frozen=True, slots=True)
class Pretext:
    """Photos whose camera settings are learnt instead of a label, by methods with a pretext task.

    Attributes:
        tables: CSV files of EXIF tags (``data.camera``); steps see photos of these tables only, as the method shows
            them.
    """

    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Streaming:
    """How pictures come from tar shards that lie elsewhere (``data.windows``).

    Attributes:
        source: Folder, or URL that fsspec understands, that stands for the manifest's folder where a path goes on below
            a ``.tar``; "": all pictures are on this machine.
        cache: Folder for the shards that are open.
        cache_gb: It never holds more; twice what is open at once is enough.
        shards: Open at a time, of each kind.
        views: After so many, one shard of each kind is exchanged.
    """

    source: str = ""
    cache: str = ""
    cache_gb: float = 50.0
    shards: int = 8
    views: int = 4096


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on.

    Attributes:
        manifests: Manifest files; relative paths count from the working directory.
        split: Rows of this split are used.
        validation_sources: Sources kept apart for validation and calibration: never a photo of theirs is trained on.
        validation_generators: Generators kept apart likewise, whatever source their images are of.
        mixture: What the stream holds.
        pairs: Photos beside their twins in place of a part of the mixture, in training; validation keeps to the
            mixture.
        nuisance: What happens to every view.
        cap: A collection of photos, of twins or of manipulated pictures that is larger than this is drawn from no more
            often than one of this size, so that a large narrow one does not decide what a photo looks like; None: no
            limit.
        pretext: What steps see instead of the mixture; validation and all that is measured still see the latter.
        streaming: Where pictures in shards come from, if not from this machine.
        memory_gb: Decoded pictures are kept up to this.
        workers: Processes that draw views; 0 draws in the training process.
    """

    manifests: tuple[str, ...] = ()
    split: str = "train"
    validation_sources: tuple[str, ...] = ()
    validation_generators: tuple[str, ...] = ()
    mixture: Mixture = field(default_factory=Mixture)
    pairs: Pairs = field(default_factory=Pairs)
    nuisance: Nuisance = field(default_factory=Nuisance)
    cap: int | None = None
    pretext: Pretext = field(default_factory=Pretext)
    streaming: Streaming = field(default_factory=Streaming)
    memory_gb: float = 8.0
    workers: int = 2

    @property
    def apart(self) -> KeptApart:
        """What is never trained on."""
        return KeptApart(frozenset(self.validation_sources), frozenset(self.validation_generators))


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How it is trained.

    Attributes:
        steps: Updates in all.
        batch: Views per update, over all processes.
        learning_rate: Peak, reached after the warm-up.
        tower_rate: Factor on it for weights of the backbone: blocks that were trained before want a far lower rate than
            a new head.
        final_learning_rate: At the lowest point of the cosine.
        cosine_steps: Steps from the peak to there; a longer run goes on along the same cosine, which rises again. 0: to
            the end.
        warmup_share: Share of the steps over which the rate rises linearly.
        weight_decay: Of AdamW; biases, norms and gates are spared.
        clip_norm: Gradients are scaled down to this norm.
        ema: Highest decay of the averaged weights, which are the ones kept; it rises to this over the first steps.
        precision: "bf16" computes forward passes in bfloat16.
        channels_last: Memory layout that convolutions on CPUs prefer; of no effect on divided weights.
        divided: Each process holds a part of the weights, gradients, averages and moments only (``training.dividing``),
            for backbones too large for one device.
    """

    steps: int = 3000
    batch: int = 64
    learning_rate: float = 1e-3
    tower_rate: float = 1.0
    final_learning_rate: float = 1e-6
    cosine_steps: int = 0
    warmup_share: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.999
    precision: Literal["no", "bf16"] = "bf16"
    channels_last: bool = True
    divided: bool = False


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What happens how often, in steps.

    Attributes:
        log: Losses go to TensorBoard.
        validate: The averaged weights are scored on validation views.
        save: The state is written, to resume from.
        validation_views: How many views validation reads; always the same ones.
    """

    log: int = 20
    validate: int = 500
    save: int = 250
    validation_views: int = 1024


@dataclass(frozen=True, slots=True)
class Probing:
    """How a method with a frozen backbone is fitted to cached features, instead of trained by the loop.

    Validation reads ``rhythm.validation_views`` views; of ``optimisation`` only ``batch`` is used.

    Attributes:
        views: Training views to fit to.
        cache: Folder of the features, which several runs may share; "": ``features`` in the run's folder.
    """

    views: int = 8192
    cache: str = ""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the frozen first blocks of a tower say of each view, kept on disk for other runs that see the same views.

    Attributes:
        folder: Where it is kept.
        blocks: How many blocks; they are frozen.
    """

    folder: str
    blocks: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """A complete training run.

    Attributes:
        method: Name of the method.
        config: Its config.
        data: What is trained on.
        optimisation: How.
        rhythm: How often.
        probing: How features are fitted; None: the loop trains.
        keeping: Where what frozen blocks say is kept; None: nowhere.
        seed: Of all randomness.
        trained_on: One line about the data and its terms, for the checkpoint.
    """

    method: str
    config: Any
    data: Data = field(default_factory=Data)
    optimisation: Optimisation = field(default_factory=Optimisation)
    rhythm: Rhythm = field(default_factory=Rhythm)
    probing: Probing | None = None
    keeping: Keeping | None = None
    seed: int = 0
    trained_on: str = ""


_SECTIONS: dict[str, type] = {"data": Data, "optimisation": Optimisation, "rhythm": Rhythm}
_CHOOSING: dict[str, type] = {"probing": Probing, "keeping": Keeping}
"""Sections that mean something by being there."""
_RETIRED: Sequence[tuple[Any, ...]] = (
    ("data", "pretext", "faces", lambda value: value is False),
    (
        "optimisation",
        "weighting",
        lambda value: isinstance(value, Mapping) and not value.get("proxy"),
    ),
)
"""Where a key lay, and whether its value asked for nothing."""
_PLAIN: Mapping[str, type] = {"seed": int, "trained_on": str}


def read_values(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe's values and apply ``section.key=value`` overrides.

    Raises:
        MissingDataError: If there is no such file.
        RecipeError: If it is no TOML.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MissingDataError(f"Cannot read recipe {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {path} is no TOML: {error}.") from error
    return settings.override(values, list(overrides))


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``section.key=value`` overrides.

    Raises:
        MissingDataError: If there is no such file.
        RecipeError: If it is no TOML, has an unknown section or key (the nearest is offered), or an impossible value.
        UnknownMethodError: If there is no such method.
    """
    return recipe_of(read_values(path, overrides), f"recipe {path.name}")


def recipe_of(values: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain types, as a TOML file or a checkpoint holds them."""
    values = _without_retired(values)
    _check_layout(values, where)
    method = dict(values.get("method", {}))
    name = method.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(
            f"{where}: section method needs name = '...', one of {', '.join(base.names())}."
        )
    definition = base.get(name)
    kind = type(definition.config)
    config = settings.parse(
        kind, settings.plain(definition.config) | method, f"{where}, section method"
    )
    sections: dict[str, Any] = {
        key: settings.parse(kind, values.get(key, {}), f"{where}, section {key}")
        for key, kind in (_SECTIONS | {k: v for k, v in _CHOOSING.items() if k in values}).items()
    }
    plain = {key: values[key] for key in _PLAIN if key in values}
    return Recipe(method=name, config=config, **sections, **plain)


def _without_retired(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out keys that every older run wrote down and methods hold now, where they asked for nothing."""
    kept = dict(values)
    for *above, name, nothing in _RETIRED:
        inner = kept
        for key in above:
            if not isinstance(inner.get(key), Mapping):
                break
            inner[key] = dict(inner[key])
            inner = inner[key]
        else:
            if nothing(inner.get(name)):
                inner.pop(name, None)
    return kept


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain types, in the layout of its TOML file."""
    values: dict[str, Any] = settings.plain(recipe)
    config = values.pop("config")
    values = {key: value for key, value in values.items() if value is not None}
    return values | {"method": {"name": recipe.method} | config}


def _check_layout(values: Mapping[str, Any], where: str) -> None:
    """Refuse unknown keys, values where sections belong, and sections where values belong."""
    sections = dict.fromkeys(("method", *_SECTIONS, *_CHOOSING), Mapping)
    known: dict[str, type] = {**sections, **_PLAIN}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(
                f"{where}: unknown key {key!r}.{did_you_mean(key, known)} Known: {', '.join(known)}."
            )
        if not isinstance(value, known[key]) or isinstance(value, bool):
            expected = f"[{key}], a section" if known[key] is Mapping else known[key].__name__
            raise RecipeError(f"{where}: {key} = {value!r}: expected {expected}.")


def without_places(recipe: Recipe) -> Recipe:
    """Return a recipe without the paths of its files, which mean nothing, or too much, on other machines.

    Of an absolute path in the method's config the last name stays.
    """
    data = replace(
        recipe.data,
        manifests=(),
        pretext=replace(recipe.data.pretext, tables=()),
        streaming=replace(recipe.data.streaming, source="", cache=""),
    )
    probing = recipe.probing and replace(recipe.probing, cache="")
    names = {
        item.name: Path(value).name
        for item in fields(recipe.config)
        if isinstance(value := getattr(recipe.config, item.name), str) and Path(value).is_absolute()
    }
    config = replace(recipe.config, **names)
    return replace(recipe, data=data, probing=probing, keeping=None, config=config)
