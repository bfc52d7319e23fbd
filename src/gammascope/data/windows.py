"""Views of pictures in remote shards, drawn through a window: only a few shards are open at a time.

The sequence of views is divided into windows. In each, a view is drawn as ``synthesis.Stream`` draws it, from the
entries of the shards that are open then and from all entries outside of shards; the next window exchanges one shard of
each kind. Which shards are open depends on the seed and the window's number alone, so view number ``n`` depends on the
seed and ``n`` alone as ever: resume, workers and processes stay exact.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from operator import methodcaller

import numpy as np

from gammascope.data.drawn import Drawn
from gammascope.data.shard_cache import ShardCache
from gammascope.data.synthesis import Stream
from gammascope.errors import MissingDataError, RecipeError, UndecodableImageError
from gammascope.sample import Entry, Label

_TRIES = 8  # draws in place of broken pictures; fetches of shards that others pushed out
_PAUSE_S = 0.05  # more before each further fetch; no view depends on it
_AT_HAND = 2  # windows whose streams are kept: workers are never all in one


class Windows:
    """An endless, reproducible sequence of training views from shards that are fetched when they are drawn from.

    Shards are of one kind if they hold the same of photos, generated images, twins and manipulated pictures. Of each
    kind ``shards`` are open at a time, in an order that is drawn anew for each pass (where passes meet, one may count
    twice); so whatever can be drawn from all shards can be drawn in every window. A picture that is broken is replaced
    by another draw.

    Args:
        entries: As ``ShardCache.entry`` returns them; without those that the streams leave out.
        cache: Holds the shards.
        make: Makes a stream of the entries that are at hand, of the same seed.
        shards: Of each kind, open at a time.
        views: In a window.
        seed: Of all draws; the one of the streams.

    Raises:
        MissingDataError: If a class is missing.
        RecipeError: If less than one shard, or one view, is asked for.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        cache: ShardCache,
        make: Callable[[Sequence[Entry]], Stream],
        *,
        shards: int,
        views: int,
        seed: int,
    ) -> None:
        if shards < 1 or views < 1:
            raise RecipeError(
                f"data.streaming: shards = {shards}, views = {views}: expected 1 or more."
            )
        self.entries, self.cache, self.make = entries, cache, make
        self.shards, self.views, self.seed = shards, views, seed
        self._places: dict[str | None, list[int]] = defaultdict(list)  # of entries, by shard
        for place, entry in enumerate(entries):
            self._places[cache.shard_of(entry.path)].append(place)
        self._kinds = self._by_kind()
        self._part: Callable[[Stream], Stream] | None = None
        self._opened: OrderedDict[int, tuple[list[str], Stream]] = OrderedDict()
        self._open(0)

    def __getitem__(self, index: int) -> Drawn:
        """Draw view number ``index``, 0 and up.

        Raises:
            MissingDataError: If a shard cannot be fetched.
            RecipeError: If the cache is too small.
            MissingDataError, UndecodableImageError: If picture after picture, or its mask, is broken.
        """
        names, stream = self._open(index // self.views)
        for tried in range(_TRIES):
            if tried:  # processes that push out each other's shards would go on doing so in step
                time.sleep(np.random.default_rng().uniform(0, tried * _PAUSE_S))
            stamp = self.cache.hold(names)
            for attempt in range(_TRIES):
                try:
                    return stream.numbered(index, attempt)
                except (MissingDataError, UndecodableImageError) as error:  # the former: a mask
                    if None in stamp or self.cache.stamp(names) != stamp:
                        break  # not broken, but pushed out by another process, perhaps before it was stamped
                    broken = error
            else:
                raise broken
        raise RecipeError(
            "Shards are removed from the cache while they are drawn from: raise data.streaming.cache_gb to twice what "
            "is open at once."
        )

    def authentic(self, *, disturbed: bool = True) -> Windows:
        """Return views of nothing but the photos, as ``Stream.authentic`` does."""
        return self._narrowed(methodcaller("authentic", disturbed=disturbed))

    def wholes(self) -> Windows:
        """Return reduced whole pictures, photos and generated ones half each, under the same law."""
        return self._narrowed(methodcaller("wholes"))

    def _narrowed(self, part: Callable[[Stream], Stream]) -> Windows:
        narrowed = copy.copy(self)
        narrowed._part, narrowed._opened = part, OrderedDict()
        return narrowed

    def open_in(self, window: int) -> list[str]:
        """Name the shards that are open in a window, sorted."""
        chosen: set[str] = set()
        for number, names in enumerate(self._kinds):
            if self.shards >= len(names):
                chosen.update(names)
                continue
            for place in range(window, window + self.shards):
                turn, position = divmod(place, len(names))
                # Four numbers, of which the last is not 0: no view starts its generator from the same.
                rng = np.random.default_rng((self.seed, turn, number, 1))
                chosen.add(names[int(rng.permutation(len(names))[position])])
        return sorted(chosen)

    def _open(self, window: int) -> tuple[list[str], Stream]:
        if window not in self._opened:
            names = self.open_in(window)
            places = sorted(place for name in (None, *names) for place in self._places[name])
            stream = self.make([self.entries[place] for place in places])
            self._opened[window] = names, self._part(stream) if self._part else stream
            while len(self._opened) > _AT_HAND:
                self._opened.popitem(last=False)
        return self._opened[window]

    def _by_kind(self) -> list[list[str]]:
        """Return the names of the shards by what they hold."""
        kinds: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, places in self._places.items():
            held = {_role(self.entries[place]) for place in places}
            if name is not None:
                kinds[tuple(sorted(held))].append(name)
        return [sorted(kinds[kind]) for kind in sorted(kinds)]


def _role(entry: Entry) -> str:
    if entry.label is Label.REAL:
        return "photos"
    if entry.kind is not None:
        return "made"
    return "twins" if entry.host_path else "generated"
