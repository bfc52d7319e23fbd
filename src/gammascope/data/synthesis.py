"""Training views without end: photos, generated images and manipulations made on the fly (GAMMA's data).

View number ``n`` of a stream depends on its seed and ``n`` alone: any worker, any machine and any resumed run draws
the same one. Both classes pass through one random law of flips, resizing and re-encoding, and fakes that never were
JPEG files first get a JPEG's history, or format and size would give the label away.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from jaxtyping import UInt8

from gammascope.data.drawn import (
    Drawn,
    Place,
    Scope,
    crop_start,
    cut,
    place,
    place_showing,
    reduced,
    shorter_side,
    squeezed,
    squeezed_mask,
    turned,
)
from gammascope.data.laws import Mixture, Nuisance, Pairs
from gammascope.data.pictures import Pictures
from gammascope.errors import MissingDataError, RecipeError
from gammascope.imaging import codecs
from gammascope.imaging.views import Fit, crop_at
from gammascope.manipulation.base import Manipulated
from gammascope.manipulation.control import IdentitySeam
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.inpainting import Inpainting, NavierStokes, Telea, TwinPaste
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.sample import Entry, Image, Label, Mask, Sample


class Shelf:
    """Entries of one class, drawn by collection so that a large narrow one does not drown the others.

    A collection has one source, one generator and, where pictures were manipulated, one kind.
    """

    def __init__(self, entries: Iterable[Entry], cap: int | None = None) -> None:
        self.entries = list(entries)
        groups: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            kind = f"/{entry.kind}" if entry.kind else ""
            groups[f"{entry.source}/{entry.generator}{kind}"].append(entry)
        self._groups = [groups[name] for name in sorted(groups)]
        sizes = np.sqrt([min(len(group), cap or len(group)) for group in self._groups])
        self._shares = sizes / sizes.sum() if len(sizes) else sizes

    def draw(self, rng: np.random.Generator) -> Entry:
        """Draw a collection by the root of its size, then one of its entries."""
        group = self._groups[int(rng.choice(len(self._groups), p=self._shares))]
        return group[int(rng.integers(len(group)))]


class Stream:
    """An endless, reproducible sequence of training views.

    Args:
        entries: Photos, generated images, twins and manipulated pictures; the last are left out unless the mixture
            has a share for them.
        pictures: Where decoded images come from.
        size: Side of a view, pixels.
        mixture: What is drawn, how often. Shares that the entries cannot serve are dropped.
        nuisance: What happens to every view.
        cap: Collections of photos, of twins and of manipulated pictures that are larger than this are drawn from no
            more often than one of this size; None: no limit.
        pairs: Photos beside their twins in place of a part of the mixture.
        fit: How an image becomes views: "resize" squeezes all of it (of a collage: of one panel); "tiles" and
            "center_crop" keep native resolution, so that views are windows at random places.
        seed: Of all draws.

    Raises:
        MissingDataError: If there is no photo, nothing that could be a fake, or no twin where pairs are asked for.
        RecipeError: If the cap is below one.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        entries: Sequence[Entry],
        pictures: Pictures,
        size: int,
        mixture: Mixture | None = None,
        nuisance: Nuisance | None = None,
        *,
        cap: int | None = None,
        pairs: Pairs | None = None,
        fit: Fit = "tiles",
        seed: int = 0,
    ) -> None:
        if cap is not None and cap < 1:
            raise RecipeError(f"cap = {cap}: expected 1 or more images of a collection, or none.")
        self.pictures, self.size, self.fit, self.seed = pictures, size, fit, seed
        self.nuisance, self.pairs = nuisance or Nuisance(), pairs or Pairs()
        self.photos = Shelf((e for e in entries if e.label is Label.REAL), cap)
        whole = [e for e in entries if e.label is Label.FAKE and e.kind is None]
        self.fakes = Shelf(e for e in whole if e.host_path is None)
        # Manifests may name one file in different ways.
        self._photos = {entry.path.resolve(): entry for entry in self.photos.entries}
        hosted = (e for e in whole if e.host_path and e.host_path.resolve() in self._photos)
        self.twins = Shelf(hosted, cap)
        if self.pairs.share and not self.twins.entries:
            raise MissingDataError(
                f"data.pairs.share = {self.pairs.share:g}, and no training image is a twin: make some of the photos "
                "with gammascope synthesize --kind twin, and name their manifest, too."
            )
        mixture = mixture or Mixture()
        edits = (e for e in entries if e.label is Label.FAKE and e.kind is not None)
        self.made = Shelf((e for e in edits if can_be_drawn(e, mixture, self.nuisance, fit)), cap)
        self.kinds, self.shares = self._shares(mixture)

    def __getitem__(self, index: int) -> Drawn:
        """Draw view number ``index``, 0 and up."""
        return self.numbered(index)

    def numbered(self, index: int, attempt: int = 0) -> Drawn:
        """Draw view number ``index``; each attempt draws another one in its place.

        An even number and the next may be a photo and its twin: both then start from the same random state.
        """
        if self.pairs.share:
            # Four numbers, of which the last is not 0: no single view starts its generator from the same.
            rng = np.random.default_rng((self.seed, index // 2, attempt, 2))
            if rng.random() < self.pairs.share:
                return self._of_pair(rng, shows_twin=index % 2 == 1)
        again = (attempt,) if attempt else ()
        return self.drawn(np.random.default_rng((self.seed, index, *again)))

    def drawn(self, rng: np.random.Generator) -> Drawn:
        """Draw a view."""
        kind = self.kinds[int(rng.choice(len(self.kinds), p=self.shares))]
        overview = self.nuisance.overview if kind in {"authentic", "generated"} else 0.0
        if self.fit == "resize":
            overview = 0.0  # every view shows all of its picture
        if overview and rng.random() < overview:
            return self._overview(
                kind, (self.fakes if kind == "generated" else self.photos).draw(rng), rng
            )
        if kind == "made":
            return self._drawn_made(self.made.draw(rng), rng)
        return self._drawn_by(_MAKERS[kind], kind, self.nuisance.rescale.draw(rng), rng)

    def _of_pair(self, rng: np.random.Generator, *, shows_twin: bool) -> Drawn:
        """Draw one of a photo and its twin; what ``rng`` gives is used alike for both."""
        twin = self.twins.draw(rng)
        photo = self.host_of(twin)
        shorter = shorter_side(self.pictures.image(photo.path), photo.panels)
        resize = self.pairs.scale(self.size / max(1, shorter), rng)
        make = partial(_pair, twin, shows_twin)
        return self._drawn_by(make, "twins" if shows_twin else "authentic", resize, rng)

    def _drawn_by(
        self,
        make: _Maker,
        kind: str,
        resize: tuple[float, codecs.Kernel] | None,
        rng: np.random.Generator,
    ) -> Drawn:
        """Draw a view of a window, or of all of a picture, as the fit says."""
        needed = self.size / (resize[0] if resize else 1.0)
        if self.fit == "resize":
            # What happens to a picture happens before it is squeezed, at one to three times the view's size.
            scope = Scope(reach=rng.uniform(1.0, 3.0) * needed)
        else:
            # A quarter more than the view needs, so that the final crop's place is free too.
            scope = Scope(side=math.ceil(1.25 * needed))
        made, host = make(self, scope, rng)
        return self._shown(kind, host, self._disturbed(made, resize, rng), rng)

    def _shown(
        self, kind: str, host: Entry, parts: tuple[Image, Mask, Mask], rng: np.random.Generator
    ) -> Drawn:
        """Bring image and masks to the size of a view."""
        image, generated, edited = parts
        if self.fit == "resize":
            pixels = squeezed(image, self.size)
            generated, edited = (squeezed_mask(mask, self.size) for mask in (generated, edited))
        else:
            left, top = self._crop(edited, rng)
            pixels, generated, edited = (crop_at(a, left, top, self.size) for a in parts)
        return Drawn(pixels, generated, edited, kind, host.source or "")

    def _drawn_made(self, entry: Entry, rng: np.random.Generator) -> Drawn:
        """Draw a view of a manipulated picture, and say what is known about it."""
        sample = self.pictures.sample(entry)
        masks = {"generated": sample.generated, "edited": sample.edited}
        unknown = frozenset(name for name, mask in masks.items() if mask is None)
        make, resize = partial(_made, sample), self.nuisance.rescale.draw(rng)
        if "edited" not in unknown:
            view = self._drawn_by(make, "made", resize, rng)
            # Where a generator filled the region, whoever sees the region sees what it made.
            seen = entry.generator is not None and view.was_edited
            return replace(view, unknown=unknown, told={"generated": True} if seen else {})
        told = {"edited": True}
        if entry.generator is not None or sample.generated is not None:
            told["generated"] = sample.generated is None or bool(sample.generated.any())
        view = (
            self._drawn_by(make, "made", resize, rng)
            if self.fit == "resize"
            else self._overview("made", entry, rng)
        )
        return replace(view, unknown=frozenset(masks), told=told)

    def _overview(self, kind: str, host: Entry, rng: np.random.Generator) -> Drawn:
        """Draw a picture's largest square, reduced; on the way it is re-encoded at one to three times the view's size.

        No JPEG's history comes first: at this scale nothing is left of it.
        """
        image = self.pictures.image(host.path)
        square = cut(image, place(image.shape, shorter_side(image, host.panels), host.panels, rng))
        made = _untouched(
            reduced(square, rng.uniform(1.0, 3.0) * self.size), generated=kind == "generated"
        )
        shown, generated, edited = self._disturbed(made, None, rng)
        shown = reduced(shown, rng.uniform(1.0, 1.1) * self.size)
        left, top = (crop_start(extent, self.size, rng) for extent in shown.shape[1::-1])
        # One class all over: any part of the masks will do.
        generated, edited = (crop_at(mask, 0, 0, self.size) for mask in (generated, edited))
        return Drawn(
            crop_at(shown, left, top, self.size), generated, edited, kind, host.source or ""
        )

    @property
    def entries(self) -> list[Entry]:
        """What views are drawn from."""
        shelves = (self.photos, self.fakes, self.twins, self.made)
        return [entry for shelf in shelves for entry in shelf.entries]

    def authentic(self, *, disturbed: bool = True) -> Stream:
        """Return a stream of nothing but the photos, under the same law, or turned and mirrored at most."""
        photos = copy.copy(self)
        photos.kinds, photos.shares, photos.pairs = ["authentic"], np.ones(1), Pairs()
        if not disturbed:
            photos.nuisance = Nuisance.none()
        return photos

    def wholes(self) -> Stream:
        """Return a stream of reduced whole pictures, photos and generated ones half each, under the same law.

        Raises:
            MissingDataError: If there is no generated picture.
        """
        if not self.fakes.entries:
            raise MissingDataError(
                "No generated image to train on: whole pictures cannot be read without."
            )
        whole = copy.copy(self)
        whole.kinds, whole.shares = ["authentic", "generated"], np.array([0.5, 0.5])
        whole.nuisance, whole.pairs = replace(self.nuisance, overview=1.0), Pairs()
        return whole

    def host_of(self, twin: Entry) -> Entry:
        """Return the photo that a twin was made from."""
        return self._photos[cast(Path, twin.host_path).resolve()]

    def window(self, entry: Entry, scope: Scope, rng: np.random.Generator) -> Image:
        """Cut a window at a random place of an entry's picture, and age it."""
        image = self.pictures.image(entry.path)
        where = place(image.shape, scope.side, entry.panels, rng)
        return self.aged(entry, cut(image, where), scope, rng)

    def scene(self, entry: Entry, scope: Scope, rng: np.random.Generator) -> Donor:
        """Cut a window as ``window`` does, and with it the masks of the things in it."""
        image = self.pictures.image(entry.path)
        where = place(image.shape, scope.side, entry.panels, rng)
        things = self.things(entry, where, scope)
        shown = self.aged(entry, cut(image, where), scope, rng)
        return Donor(shown, things, generated=entry.label is Label.FAKE)

    def things(self, entry: Entry, where: Place, scope: Scope) -> list[Mask]:
        """Return the masks of things in a window of a picture, none where the manifest names none."""
        return [scope.reduced_mask(cut(mask, where)) for mask in self.pictures.objects(entry)]

    def aged(
        self, entry: Entry, window: Image, scope: Scope, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "new_h new_w 3"]:
        """Give a JPEG's history to pixels that have none, and another one to a share of those that have; then reduce.

        What is reduced so far that nothing is left of a photo's own history gets none.
        """
        known = self.pictures.saved_as(entry.path) is not None
        if not scope.forgets(window) and not (known and rng.random() >= self.nuisance.again):
            window = self.nuisance.history(window, rng)
        return scope.reduced(window)

    def _shares(self, mixture: Mixture) -> tuple[list[str], np.ndarray]:
        if not self.photos.entries:
            raise MissingDataError(
                "No real photo among the training images: training needs both classes."
            )
        possible = {item.name: float(getattr(mixture, item.name)) for item in fields(mixture)}
        if not self.fakes.entries:
            possible["generated"] = 0.0
        if not self.twins.entries:
            possible |= {"twins": 0.0, "inpainted": 0.0}
        if not self.made.entries:
            possible["made"] = 0.0
        kinds = [name for name, share in possible.items() if share > 0]
        if not set(kinds) - {"authentic", "control"}:
            raise MissingDataError(
                "Nothing fake to train on: no generated image, no manipulation in the mixture. Manipulated pictures of "
                "the manifests are drawn where data.mixture.made has a share; those without a mask of the edit only "
                "where data.nuisance.overview has one, too."
            )
        shares = np.array([possible[name] for name in kinds])
        return kinds, shares / shares.sum()

    def _disturbed(
        self,
        made: Manipulated,
        resize: tuple[float, codecs.Kernel] | None,
        rng: np.random.Generator,
    ) -> tuple[Image, Mask, Mask]:
        """Send image and masks through the nuisance law."""
        image, generated, edited = made.image, made.generated, made.edited
        turns, mirrored = int(rng.integers(4)) if rng.random() < 0.25 else 0, rng.random() < 0.5
        image, generated, edited = (
            turned(a, turns, mirrored=mirrored) for a in (image, generated, edited)
        )
        if resize is not None:
            image = codecs.rescale(image, *resize)
            generated, edited = (codecs.rescale_mask(m, resize[0]) for m in (generated, edited))
        if rng.random() < self.nuisance.blur:
            image = codecs.blur(image, rng.uniform(0.2, 1.0))
        if rng.random() < self.nuisance.noise:
            image = codecs.add_noise(image, rng.uniform(0.5, 4.0), rng)
        if rng.random() < self.nuisance.tone:
            image = codecs.adjust(
                image, rng.uniform(-0.1, 0.1), rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.25)
            )
        return self.nuisance.encoding(image, rng), generated, edited

    def _crop(self, edited: Mask, rng: np.random.Generator) -> tuple[int, int]:
        """Choose the final crop, if possible one that shows some of the edit (four tries)."""
        height, width = edited.shape
        for _ in range(4):
            left, top = (crop_start(extent, self.size, rng) for extent in (width, height))
            if (
                not edited.any()
                or edited[max(0, top) :, max(0, left) :][: self.size, : self.size].mean() > 0.01
            ):
                break
        return left, top


def can_be_drawn(edited: Entry, mixture: Mixture, nuisance: Nuisance, fit: Fit) -> bool:
    """Whether a manipulated picture of a manifest is ever drawn: see ``Mixture.made``."""
    shows_wholes = fit == "resize" or nuisance.overview > 0
    return mixture.made > 0 and (edited.edited_path is not None or shows_wholes)


_Made: TypeAlias = tuple[Manipulated, Entry]
_Maker: TypeAlias = Callable[[Stream, Scope, np.random.Generator], _Made]

_AIMED = 0.8
"""Share of the windows of manipulated pictures that show some of the edit; the others show what was left alone."""


def _authentic(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    host = stream.photos.draw(rng)
    return _untouched(stream.window(host, scope, rng), generated=False), host


def _control(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    host = stream.photos.draw(rng)
    return IdentitySeam()(stream.window(host, scope, rng), rng), host


def _generated(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    host = stream.fakes.draw(rng)
    return _untouched(stream.window(host, scope, rng), generated=True), host


def _twins(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    host = stream.twins.draw(rng)
    return _untouched(stream.window(host, scope, rng), generated=True), host


def _inpainted(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    twin = stream.twins.draw(rng)
    host = stream.host_of(twin)
    photo = stream.pictures.image(host.path)
    where = place(photo.shape, scope.side, host.panels, rng)
    regenerated = scope.reduced(cut(stream.pictures.image(twin.path), where))
    things = stream.things(host, where, scope)
    shown = stream.aged(host, cut(photo, where), scope, rng)
    return TwinPaste(regenerated)(shown, rng, things), host


def _filled(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    host = stream.photos.draw(rng)
    fill = Inpainting(Telea() if rng.random() < 0.5 else NavierStokes())
    scene = stream.scene(host, scope, rng)
    return fill(scene.image, rng, scene.objects), host


def _copy_move(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    host = stream.photos.draw(rng)
    scene = stream.scene(host, scope, rng)
    return CopyMove()(scene.image, rng, scene.objects), host


def _spliced(stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    """Splice photo into photo, generated into photo, photo into generated: 60, 25 and 15 %."""
    case = rng.random() if stream.fakes.entries else 0.0
    host_generated, donor_generated = case >= 0.85, 0.60 <= case < 0.85
    host = (stream.fakes if host_generated else stream.photos).draw(rng)
    shelf = stream.fakes if donor_generated else stream.photos

    def donor(rng: np.random.Generator) -> Donor:
        return stream.scene(shelf.draw(rng), scope, rng)

    image = stream.window(host, scope, rng)
    return Splicing(donor, host_generated=host_generated)(image, rng), host


def _pair(
    twin: Entry, shows_twin: bool, stream: Stream, scope: Scope, rng: np.random.Generator
) -> _Made:
    """Cut the same window of a photo or of its twin, and age it as the photo is aged."""
    pairs, photo = stream.pairs, stream.host_of(twin)
    image, copied = (stream.pictures.image(entry.path) for entry in (photo, twin))
    if image.shape != copied.shape:
        raise MissingDataError(
            f"{twin.path} is {copied.shape[1]} x {copied.shape[0]} px and its photo {photo.path} {image.shape[1]} x "
            f"{image.shape[0]} px: a twin has its photo's size."
        )
    where = place(image.shape, scope.side, photo.panels, rng)
    # Drawn for the photo as well: the chain must go on alike.
    saved, blended, ratio = rng.random(), rng.random(), rng.uniform(0.0, pairs.most)
    window = cut(image, where)
    if shows_twin:
        encoding = stream.pictures.saved_as(photo.path) if saved < pairs.own_quality else None
        made = _resaved(copied, where, encoding)
        window = codecs.blend(made, window, ratio) if blended < pairs.blend else made
    window = stream.aged(photo, window, scope, rng)
    return _untouched(window, generated=shows_twin), photo


def _resaved(
    image: Image, where: Place, encoding: codecs.Encoding | None
) -> UInt8[np.ndarray, "cut_h cut_w 3"]:
    """Cut a window of a picture as if the whole had been saved: its blocks start at multiples of 16 pixels."""
    if encoding is None:
        return cut(image, where)
    rows, columns = (slice(axis.start // 16 * 16, axis.stop) for axis in where)
    saved = codecs.reencode(image[rows, columns], encoding)
    inside = [
        slice(axis.start - part.start, axis.stop - part.start)
        for axis, part in zip(where, (rows, columns), strict=True)
    ]
    return cut(saved, (inside[0], inside[1]))


def _made(sample: Sample, stream: Stream, scope: Scope, rng: np.random.Generator) -> _Made:
    """Cut a window of a picture that was manipulated elsewhere; masks that are not known are empty."""
    entry, nowhere = sample.entry, np.zeros(sample.image.shape[:2], bool)
    generated, edited = (
        nowhere if mask is None else mask for mask in (sample.generated, sample.edited)
    )
    if edited.any() and rng.random() < _AIMED:
        where = place_showing(edited, scope.side, entry.panels, rng)
    else:
        where = place(edited.shape, scope.side, entry.panels, rng)
    image = stream.aged(entry, cut(sample.image, where), scope, rng)
    generated, edited = (scope.reduced_mask(cut(mask, where)) for mask in (generated, edited))
    return Manipulated(image, generated, edited, entry.kind), entry


_MAKERS: Mapping[str, _Maker] = {
    "authentic": _authentic,
    "control": _control,
    "generated": _generated,
    "twins": _twins,
    "inpainted": _inpainted,
    "filled": _filled,
    "copy_move": _copy_move,
    "spliced": _spliced,
}


def _untouched(image: Image, *, generated: bool) -> Manipulated:
    shape = image.shape[:2]
    return Manipulated(image, np.full(shape, generated), np.zeros(shape, bool), kind=None)
