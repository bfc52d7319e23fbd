"""What a stream of training views holds, how often, and what happens to every view: parts of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from gammascope.imaging import codecs


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of what a stream holds; they need not sum to one.

    Attributes:
        authentic: Photos as they are.
        control: Photos with an identity seam: the traces of pasting without a paste.
        generated: Generated images.
        twins: Photos regenerated as a whole.
        inpainted: Photos with a regenerated region.
        filled: Photos with a region filled by a classical inpainter: edited, but nothing generated.
        copy_move: Photos with a part of themselves pasted elsewhere.
        spliced: Photos or generated images with a part of another one.
        made: Manipulated pictures of the manifests, with their masks: real inpaintings, what ``synthesize`` made, whole
            frames that a generator wrote anew around an edit. Those without a mask of the edit are shown as a whole
            only, for nobody knows what a window of them shows, and only where photos are, too (``Nuisance.overview``,
            or views that are squeezed); they teach no mask.

    Source: kinds as in arXiv:2509.10250; its shares are not public.
    """

    authentic: float = 0.45
    control: float = 0.05
    generated: float = 0.15
    twins: float = 0.10
    inpainted: float = 0.10
    filled: float = 0.025
    copy_move: float = 0.0625
    spliced: float = 0.0625
    made: float = 0.0


@dataclass(frozen=True, slots=True)
class Nuisance:
    """The law of what happens to every view, whatever its label.

    Attributes:
        encoding: Lossy re-encoding.
        rescale: Resizing before it.
        history: JPEG encoding that whatever never was a JPEG file gets first, as photos got in their cameras.
        again: Share of JPEG files that get such an encoding too, so that no quality tells one collection.
        tone: Share of views with changed brightness, contrast and gamma.
        noise: Share with added Gaussian noise of up to 4 grey levels.
        blur: Share with a Gaussian blur of up to 1 pixel.
        overview: Share of the authentic and of the generated views that show a picture's largest square, reduced to
            the view, instead of a window; of no effect where views are squeezed.
    """

    encoding: codecs.EncodingLaw = field(default_factory=codecs.EncodingLaw)
    rescale: codecs.RescaleLaw = field(default_factory=codecs.RescaleLaw)
    history: codecs.EncodingLaw = field(
        default_factory=lambda: codecs.EncodingLaw(0.0, jpeg=0.8, double_jpeg=0.2, webp=0.0)
    )
    again: float = 0.3
    tone: float = 0.1
    noise: float = 0.05
    blur: float = 0.05
    overview: float = 0.0

    @classmethod
    def none(cls) -> Nuisance:
        """Return the law under which nothing happens to a view."""
        untouched = codecs.EncodingLaw(1.0, jpeg=0.0, double_jpeg=0.0, webp=0.0)
        still = codecs.RescaleLaw(0.0)
        return cls(untouched, still, untouched, again=0.0, tone=0.0, noise=0.0, blur=0.0)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Photos beside their twins: two views, one after the other, of one window under one random chain.

    So nothing tells the two apart but what the twin's generator left. Both may be scaled, by one factor and one kernel.

    Attributes:
        share: Share of the views that come in pairs instead of from the mixture.
        own_quality: Share of the twins that are first saved at their photo's own JPEG quality, on its grid.
        blend: Share of the twins that are mixed with their photo, pixel by pixel.
        most: Largest share of the photo in such a mixture, uniform from 0.
        smaller: Share of the pairs that are reduced.
        larger: Share of the pairs that are enlarged.
        smallest: Smallest factor of those, uniform up to 1; never so small that a photo no longer fills a view.
        largest: Largest factor of these, uniform from 1.
        kernels: Of both, equally likely.

    Source: Dual Data Alignment, arXiv:2505.14359, and its published code; there a batch shows every pair at all three
    scales. It also mixes spectra: with one ratio for a whole spectrum that is the same mixture of pixels, so ``blend``
    stands for both. Its mixture of pixels leaves a twin at most ``most`` of itself, and perhaps nothing; ours always
    leaves it the rest.
    """

    share: float = 0.0
    own_quality: float = 0.5
    blend: float = 0.2
    most: float = 0.8
    smaller: float = 1 / 3
    larger: float = 1 / 3
    smallest: float = 0.2
    largest: float = 3.5
    kernels: tuple[codecs.Kernel, ...] = get_args(codecs.Kernel)

    def __post_init__(self) -> None:
        shares = (self.share, self.own_quality, self.blend, self.most, self.smaller, self.larger)
        if min(shares) < 0 or max(*shares, self.smaller + self.larger) > 1:
            raise ValueError(
                f"share, own_quality, blend, most, smaller, larger = {shares}: expected 0 to 1, the last two together."
            )
        if not 0 < self.smallest <= 1 <= self.largest or not self.kernels:
            raise ValueError(
                f"smallest={self.smallest}, largest={self.largest}, kernels={self.kernels}: expected "
                "0 < smallest <= 1 <= largest, and at least one kernel."
            )

    def scale(
        self, available: float, rng: np.random.Generator
    ) -> tuple[float, codecs.Kernel] | None:
        """Choose what a pair is scaled by; None: nothing.

        Args:
            available: Smallest factor at which a photo still fills a view.
            rng: Always gives as many numbers.
        """
        case, place = rng.random(), rng.random()
        kernel = self.kernels[int(rng.integers(len(self.kernels)))]
        if case < self.smaller:
            lowest = min(1.0, max(self.smallest, available))
            return lowest + place * (1 - lowest), kernel
        if case < self.smaller + self.larger:
            return 1 + place * (self.largest - 1), kernel
        return None
