"""What a run sees: its entries, the views drawn from them, and their batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch.utils.data import DataLoader

from gammascope.data.batches import Collate, Draws, StreamSlice
from gammascope.data.camera import read_camera_tables
from gammascope.data.laws import Pairs
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream, can_be_drawn
from gammascope.data.windows import ShardCache, Windows
from gammascope.detectors import base
from gammascope.errors import MissingDataError, RecipeError
from gammascope.imaging.views import Fit
from gammascope.sample import Entry, Label
from gammascope.training.recipe import Recipe, Streaming
from gammascope.training.run_folder import Progress

Views: TypeAlias = Stream | Windows


def entries_of(recipe: Recipe, cache: ShardCache | None = None) -> tuple[list[Entry], list[Entry]]:
    """List a recipe's training and validation entries, divided by what it keeps apart.

    Pictures in shards are placed in the cache.

    A generated image belongs to validation if its own source is named there, a twin or a manipulated picture also if
    that of its photo is.
    """
    if not recipe.data.manifests:
        raise MissingDataError(
            "The recipe names no data: give --data MANIFEST.csv, or data.manifests."
        )
    entries = [
        entry
        for name in recipe.data.manifests
        for entry in _placed(Path(name), recipe.data.split, cache)
    ]
    if cache is not None and not any(cache.shard_of(entry.path) for entry in entries):
        raise MissingDataError(
            "data.streaming.source is set, but no path in the manifests goes on below a .tar."
        )
    apart = recipe.data.apart
    for what, names, _ in apart.absent(entries):
        raise MissingDataError(
            f"No image of validation {what} {', '.join(names)} in the data: name others as "
            f"data.validation_{what}s=[...], or none as []."
        )
    hosts = {entry.path.resolve() for entry in entries if apart.holds(entry)}
    divided: tuple[list[Entry], list[Entry]] = [], []
    for entry in entries:
        made_of = entry.host_path and entry.host_path.resolve() in hosts
        divided[bool(made_of or apart.holds(entry))].append(entry)
    return divided


def sources_of(entries: Iterable[Entry]) -> list[str]:
    """Name the sources of what is trained on."""
    return sorted({entry.source for entry in entries if entry.source})


def streams(
    recipe: Recipe, detector: base.Detector, report: Callable[[Progress], None]
) -> tuple[Views, Views | None]:
    """Return a recipe's training and validation views; None: no source is kept apart.

    Pictures of this machine are decoded first, and broken ones left out; those of remote shards are fetched and decoded
    when they are drawn.
    """
    _refuse_torn_pairs(recipe)
    cache = _cache(recipe.data.streaming)
    view, data = detector.view, recipe.data
    training, validation = (
        _used(part, recipe, view.fit, report) for part in entries_of(recipe, cache)
    )
    pictures = Pictures(int(recipe.data.memory_gb * 1e9))
    near = [e for e in training + validation if cache is None or not cache.shard_of(e.path)]
    done, total = 0, len(near)

    def count() -> None:
        nonlocal done
        done += 1
        report(Progress("loading", done, total, {}))

    broken = {path for path, _ in pictures.preload((entry.path for entry in near), count)}
    masked = [e for e in near if (e.kind or e.object_paths) and e.path not in broken]
    broken |= {path for path, _ in pictures.preload_masks(masked)}
    if broken:
        report(Progress("loading", total, total, {"broken": float(len(broken))}))

    def views(entries: list[Entry], seed: int, pairs: Pairs) -> Views:
        whole = [e for e in entries if e.path not in broken and e.host_path not in broken]
        make = partial(
            Stream,
            pictures=pictures,
            size=view.size,
            mixture=data.mixture,
            nuisance=data.nuisance,
            cap=data.cap,
            pairs=pairs,
            fit=view.fit,
            seed=seed,
        )
        if cache is None or not any(cache.shard_of(entry.path) for entry in whole):
            return make(whole)
        open_at_once, length = data.streaming.shards, data.streaming.views
        return Windows(whole, cache, make, shards=open_at_once, views=length, seed=seed)

    if cache is not None:
        pictures.keep_no_more()  # shards come and go
    # Validation draws with a seed of its own, the same for every run, so that runs can be compared.
    held_out = views(validation, 777, Pairs()) if validation else None
    return views(training, recipe.seed, data.pairs), held_out


def _refuse_torn_pairs(recipe: Recipe) -> None:
    """Refuse a batch that would divide a photo from its twin: between batches, processes, or parts of a batch."""
    how, processes = recipe.optimisation, int(os.environ.get("WORLD_SIZE", "1"))
    weigh = base.get(recipe.method).weigh
    weights = weigh(recipe.config) if weigh is not None else None
    parts = 2 * processes * (weights.parts if weights is not None else 1)
    if recipe.data.pairs.share and how.batch % parts:
        raise RecipeError(
            f"optimisation.batch = {how.batch} divides photos from their twins: with data.pairs, give a multiple of "
            f"{parts}."
        )


def _used(
    entries: list[Entry], recipe: Recipe, fit: Fit, report: Callable[[Progress], None]
) -> list[Entry]:
    """Leave out, before anything is decoded, the manipulated pictures that will not be drawn; tell how many."""
    law = (recipe.data.mixture, recipe.data.nuisance, fit)
    used = [
        entry
        for entry in entries
        if entry.label is Label.REAL or entry.kind is None or can_be_drawn(entry, *law)
    ]
    if len(used) < len(entries):
        left_out = {"manipulated left out": float(len(entries) - len(used))}
        report(Progress("loading", 0, len(used), left_out))
    return used


def _cache(streaming: Streaming) -> ShardCache | None:
    if not streaming.source:
        return None
    if not streaming.cache:
        raise RecipeError(
            "data.streaming.source needs data.streaming.cache, a folder for the shards that are open."
        )
    return ShardCache(streaming.source, Path(streaming.cache), int(streaming.cache_gb * 1e9))


def _placed(manifest: Path, split: str, cache: ShardCache | None) -> list[Entry]:
    entries = read_manifest(manifest, split)
    return entries if cache is None else [cache.entry(e, manifest.parent) for e in entries]


def pretext(
    definition: base.Method[Any], recipe: Recipe, training: Views, detector: base.Detector
) -> Draws | None:
    """Return what steps see where a method has a pretext task: the same photos, in a way of its own."""
    tables, shown = recipe.data.pretext.tables, None
    if tables and not isinstance(training, Stream):
        raise RecipeError("data.pretext.tables and data.streaming.source exclude each other.")
    if definition.pretext is not None and isinstance(training, Stream):
        settings = read_camera_tables(Path(name) for name in tables)
        entries = training.photos.entries
        photos = base.Photos(entries, training.pictures, settings, recipe.seed)
        shown = definition.pretext(detector, photos)
    if tables and shown is None:
        raise RecipeError(
            f"data.pretext.tables: method {recipe.method!r} learns nothing from camera settings as it is set; leave "
            "them out."
        )
    return shown


def loader_of(
    stream: Draws, start: int, stop: int, batch: int, view: Any, workers: int
) -> DataLoader[Any]:
    """Return batches of the views ``start`` to ``stop`` of a stream, as a detector wants to see them."""
    return DataLoader(
        StreamSlice(stream, start, stop),
        batch_size=batch,
        collate_fn=Collate(view),
        num_workers=workers if stop - start > batch else 0,
        drop_last=False,
        worker_init_fn=_give_way,
        # It would draw from torch's own generator, which the network draws from: a resumed run would go on elsewhere.
        generator=torch.Generator(),
    )


def views_of_photos(stream: Views, recipe: Recipe, view: Any, device: Any) -> base.Views:
    """Return what methods measure on: photos that are trained on, drawn as in training or as they are."""
    return _views_of(stream.authentic, recipe, view, device)


def views_of_wholes(stream: Views, recipe: Recipe, view: Any, device: Any) -> base.Views:
    """Return reduced whole pictures that are trained on, photos and generated ones half each."""
    return _views_of(lambda **_: stream.wholes(), recipe, view, device)


def _views_of(part: Callable[..., Views], recipe: Recipe, view: Any, device: Any) -> base.Views:
    """Draw from a part of a stream, which is made at first use: not every stream has every part."""

    def views(count: int, /, *, disturbed: bool = True) -> Iterator[Any]:
        size, workers = recipe.optimisation.batch, recipe.data.workers
        for batch in loader_of(part(disturbed=disturbed), 0, count, size, view, workers):
            yield batch.to(device)

    return views


def _give_way(worker: int) -> None:
    """Let drawing wait for the network, whose threads wait for each other: they must not lose a core in between."""
    del worker
    if hasattr(os, "nice"):
        os.nice(5)
