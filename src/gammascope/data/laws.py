"""What a stream of training views holds, how often, and what happens to every view: parts of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

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
