"""Interventions: style and content are changed in both arms alike, so that neither predicts authenticity.

A photo is put into a style by a classical filter, in both arms; then one arm is edited, with one of the generator's
prompts and at one of three strengths. The control of every second pair is the same photo, that of the others an unused
photo of the same source, retrieved from the pool. Styles, prompts, strengths and controls are drawn independently.

A generator may have learnt the styles as words: then its prompt decides the style. What another prompt changes has no
counterpart in the control but that retrieved photos show something else, too: there are no captions to retrieve by.

Source: "Not Just Pretty Pictures", arXiv:2212.11237, whose interventions keep an object's class; that authenticity
takes the class's place, the two arms, the filters, and retrieval by source are guesses of ours. The paper found
filtering by CLIP of no use: only failed answers are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import PIL.Image
from PIL import ImageFilter, ImageOps

from gammascope.data.policies.base import Job, Policy, pair, spread, whole
from gammascope.sample import Entry, Image

STRENGTHS = (0.3, 0.5, 0.75)

_DUSK = (1.8, 1.5, 1.2)  # exponents of red, green and blue: darker, and bluer


def plan(
    photos: Sequence[Entry], prompts: Sequence[str], budget: int, rng: np.random.Generator
) -> list[Job]:
    """Draw each pair's factors; each value of a factor is as frequent as the others, but for a rest."""
    order = [photos[index] for index in rng.permutation(len(photos))]
    unused = defaultdict(list)
    for photo in order[budget:]:
        unused[photo.source, photo.split].append(photo)
    drawn = zip(
        order[:budget],
        spread(prompts, budget, rng),
        spread(STRENGTHS, budget, rng),
        spread(tuple(STYLES), budget, rng),
        spread((True, False), budget, rng),
        strict=True,
    )
    made: list[Job] = []
    for twin, (host, prompt, strength, style, retrieved) in enumerate(drawn):
        others = unused[host.source, host.split]
        control = others.pop() if retrieved and others else host
        made += pair(twin, host, control, prompt, strength, prompt if prompt in STYLES else style)
    return made


def styled(job: Job, photo: Image) -> Image:
    """Return the photo in the style of its pair."""
    return STYLES[job.style](photo)


def _sketch(photo: Image) -> Image:
    edges = PIL.Image.fromarray(photo).convert("L").filter(ImageFilter.CONTOUR)
    return np.array(edges.convert("RGB"))


def _poster(photo: Image) -> Image:
    return np.array(ImageOps.posterize(PIL.Image.fromarray(photo), 3))


def _dusk(photo: Image) -> Image:
    darker: Image = np.rint(255 * (photo / 255) ** _DUSK).astype(np.uint8)
    return darker


STYLES: Mapping[str, Callable[[Image], Image]] = {
    "plain": lambda photo: photo,
    "sketch": _sketch,
    "poster": _poster,
    "dusk": _dusk,
}
"""Classical filters by name."""

POLICY = Policy(
    title="Interventions (Not Just Pretty Pictures)",
    paper="arXiv:2212.11237",
    needs="edit",
    plan=plan,
    prepare=styled,
    finish=whole,
)
