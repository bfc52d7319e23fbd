"""How a detector looks at pictures: views in common batches, and what it says of them pooled, uncalibrated."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, UInt8

from gammascope import checkpoints
from gammascope.detection import runtime
from gammascope.errors import InterruptedScanError
from gammascope.imaging import views
from gammascope.imaging.views import Box, ViewSpec
from gammascope.sample import Image


@dataclass(frozen=True, slots=True)
class Scores:
    """A detector's raw answer for one whole image.

    Attributes:
        logit: Of the method's main question.
        answers: Further image-level logits by question.
        maps: Probabilities 0..1 per pixel by mask, in the image's frame; NaN where no view looked. Made when asked for.
        views: How many views were read.
        boxes: Where they lie, in pixels of the image.
        by_view: Logits of each view by question; the main question's under "".
        overview: Whether the last view is no tile, but the reduced whole.
        mosaic: Whether the last view, or the one before the overview, is the mosaic.
        settled: Whether the first views were enough, so that others were not read.
        middle: Tokens of the patches of the overview; None: there is none, or the network gives none.
    """

    logit: float
    answers: Mapping[str, float]
    maps: Mapping[str, Float[np.ndarray, "h w"]]
    views: int
    boxes: tuple[Box, ...] = ()
    by_view: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    overview: bool = False
    mosaic: bool = False
    settled: bool = False
    middle: Float[np.ndarray, "d rows columns"] | None = None

    @property
    def tiles(self) -> int:
        """How many of the views, the first ones, are tiles."""
        return self.views - self.overview - self.mosaic

    @property
    def question(self) -> str:
        """The method's main question: "generated" where it answers that, else "fake"."""
        return "generated" if "generated" in self.answers else "fake"


class Maps(Mapping[str, Float[np.ndarray, "h w"]]):
    """Maps that are pasted into the image's frame when they are asked for: most are not, and each is of its size."""

    def __init__(
        self,
        cells: Mapping[str, Float[np.ndarray, "n gh gw"]],
        boxes: Sequence[Box],
        size: tuple[int, int],
    ) -> None:
        self._cells, self._boxes, self._size = cells, boxes, size

    def __getitem__(self, name: str) -> Float[np.ndarray, "h w"]:
        return self._pasted(name, 1.0)

    def reduced(self, name: str, side: int) -> Float[np.ndarray, "h w"]:
        """Return a map of which the longer side is ``side`` pixels, or the image's own if that is less."""
        return self._pasted(name, min(1.0, side / max(self._size)))

    def _pasted(self, name: str, scale: float) -> Float[np.ndarray, "h w"]:
        width, height = (max(1, round(scale * side)) for side in self._size)
        boxes = [
            (scale * left, scale * top, scale * across, scale * down)
            for left, top, across, down in self._boxes
        ]
        pasted = views.paste(self._cells[name], boxes, (width, height))
        for _, band in views.bands(pasted):
            if np.isfinite(band).any():
                band[:] = checkpoints.expit(band)
        return pasted

    def __contains__(self, name: object) -> bool:
        # The parent would make the map to know.
        return name in self._cells

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


_FIRST: Sequence[views.Kind] = ("mosaic", "overview", "tile")
"""The order in which kinds of views are read where few may be enough."""


class _Seen:
    """What the network said of one image's views so far.

    Args:
        image: The picture.
        spec: How it is seen.
        settled: Which views are read first, and what they settle; None: all at once.
        most: How many tiles count for the picture's answer, evenly spread; None: all. Others are looked at where the
            network says something of places.
    """

    def __init__(
        self,
        image: Image,
        spec: ViewSpec,
        settled: checkpoints.Settled | None,
        most: int | None,
    ) -> None:
        self.image, self._spec, self._settled = image, spec, settled
        self.size = (image.shape[1], image.shape[0])
        self.places = views.places_of(self.size, spec)
        counting = self.places
        if most is not None:
            counting = views.places_of(self.size, replace(spec, max_tiles=most))
        self._counts = [place.kind != "tile" or place in counting for place in self.places]
        self.shown: list[int] = []
        self._logits: list[np.float32] = []
        self._answers: dict[str, list[np.float32]] = {}
        self._masks: dict[str, list[Float[np.ndarray, "gh gw"]]] = {}
        self._middle: Float[np.ndarray, "d rows columns"] | None = None

    def first(self) -> list[int]:
        """Return which views are looked at first: those of the whole picture and what lies nearest to the middle.

        Where nothing may settle the matter, these are all that count for the picture's answer.
        """
        every = [number for number, counts in enumerate(self._counts) if counts]
        # No view shows all of a narrow strip: there the first ones settle nothing.
        overview = views.has_overview(self.size, self._spec)
        if self._settled is None or not overview or len(every) <= self._settled.views:
            return every
        middle = np.array(self.size) / 2

        def rank(number: int) -> tuple[int, float]:
            place = self.places[number]
            left, top, width, height = place.box
            apart = float(np.hypot(*(middle - (left + width / 2, top + height / 2))))
            return _FIRST.index(place.kind), apart

        return sorted(sorted(every, key=rank)[: self._settled.views])

    def left(self) -> list[int]:
        """Return which views are still to be looked at: none where the first ones settle the matter."""
        rest = sorted(set(self._wanted()) - set(self.shown))
        if not rest or self._settled is None or not self._settled.by(self.scores().logit):
            return rest
        return []

    def _wanted(self) -> list[int]:
        """Return the views that tell anything: further tiles do where the network says something of places."""
        local = self._masks or "edited" in self._answers
        return [number for number, counts in enumerate(self._counts) if counts or local]

    def note(self, number: int, found: runtime.Answered, row: int) -> None:
        """Note down what was said of one view."""
        self.shown.append(number)
        self._logits.append(found.logit[row])
        for name, values in found.answers.items():
            self._answers.setdefault(name, []).append(values[row])
        for name, maps in found.masks.items():
            self._masks.setdefault(name, []).append(maps[row])
        if found.patches and self.places[number].kind == "overview":
            self._middle = found.patches[row]

    def scores(self) -> Scores:
        """Pool what was said of the views that were looked at."""
        spec = self._spec
        order = np.argsort(self.shown)
        places = [self.places[self.shown[at]] for at in order]
        kinds = [place.kind for place in places]
        overview, mosaic = "overview" in kinds, "mosaic" in kinds
        main = np.array(self._logits, np.float32)[order]
        by_view = {
            name: np.array(values, np.float32)[order] for name, values in self._answers.items()
        }
        tiles = kinds.count("tile")
        wholes, patched = (
            by_view.pop(name, np.zeros(len(places), np.float32))
            for name in (views.WHOLE, views.MOSAIC)
        )
        # Counts for the view that shows all of the picture. A narrow strip of tiles has none, so all of them do.
        shows_all = wholes[-1:] if overview else wholes[:tiles]
        whole = float(shows_all.mean()) if len(shows_all) else 0.0
        counts = [self._counts[self.shown[at]] for at in order[:tiles]]

        def pooled(name: str, logits: Float[np.ndarray, " n"]) -> float:
            # An edit is local, so the most suspicious quarter of the tiles decides; one view alone is too noisy. Chosen
            # on held-out sources (docs/experiments.md). Other questions pool as the label does.
            if name == "edited" and tiles:
                return views.pool_logits(logits[:tiles], "top")
            if kinds == ["overview"]:  # The reduced whole alone, which then counts all.
                return float(logits[-1]) + whole / spec.overview
            near = views.pool_logits(logits[:tiles][counts], spec.pool) if any(counts) else 0.0
            if mosaic:
                laid = float(logits[tiles] + patched[tiles])
                near += (spec.mosaic if any(counts) else 1.0) * (laid - near)
            if overview:
                near += spec.overview * (float(logits[-1]) - near)
            return near + whole

        boxes = [place.box for place in places]
        return Scores(
            logit=pooled("", main),
            answers={name: pooled(name, values) for name, values in by_view.items()},
            maps=Maps(
                {
                    name: np.stack([maps[at] for at in order[:tiles]])
                    for name, maps in self._masks.items()
                    if tiles
                },
                boxes[:tiles],
                self.size,
            ),
            views=len(boxes),
            boxes=tuple(boxes),
            by_view={"": main} | by_view,
            overview=overview,
            mosaic=mosaic,
            settled=len(boxes) < len(self._wanted()),
            middle=self._middle,
        )


def scores_of(
    network: runtime.Network,
    spec: ViewSpec,
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]],
    settled: checkpoints.Settled | None = None,
    stop: threading.Event | None = None,
    most: int | None = None,
) -> list[Scores]:
    """Look at several images; their views go through the network in common batches.

    Args:
        network: What looks.
        spec: How it wants to see an image.
        images: Of any sizes. Views are cut as they are needed, but the maps of all images are held until the end.
        settled: Which views are read first, and from which logits on they are enough; None: all, always.
        stop: Once it is set, nothing more is read.
        most: How many tiles count for a picture's answers, evenly spread; None: all. Others are read where the network
            says something of places: for its maps, and for *edited*, which goes by all, for edits are local.

    Returns:
        One for each image, in order; equal to what each has alone up to the rounding of the network.

    Raises:
        InterruptedScanError: If it was told to stop.
    """
    seen = [_Seen(image, spec, settled, most) for image in images]
    for chosen in (_Seen.first, _Seen.left):
        places = [(one, number) for one in seen for number in chosen(one)]
        for start in range(0, len(places), network.at_once):
            if stop is not None and stop.is_set():
                raise InterruptedScanError("Stopped before the image was examined.")
            some = places[start : start + network.at_once]
            pixels = np.stack([views.pixels_at(o.image, o.places[at], spec) for o, at in some])
            found = network.look(pixels)
            for row, (one, number) in enumerate(some):
                one.note(number, found, row)
    return [one.scores() for one in seen]
