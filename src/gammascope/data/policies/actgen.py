"""ActGen: pictures are made of what the detector gets wrong, and some of them against it.

The original classifies objects, makes a picture near each one that the classifier in training misses, and keeps its
class. Here the question is authenticity. A guide is a photo with an edit of it by the same generator, both encoded
alike, neither learnt: the detector is wrong about it where it calls the photo fake, or the edit real. New edits of the
photos it is wrong about, each beside its photo as control, are learnt in the next round (``training.rounds``).

Source: arXiv:2403.06517 and its repository (Apache-2.0), written anew. From there: rounds, guides from the errors, and
a share of pictures made against the detector that grows from 0 to a half. Guesses of ours: authenticity in the class's
place; the worst errors first, where the original draws among them: of a detector that is wrong about every guide, a
draw is as good as none; edits of noised photos in place of attentive guidance; twins and controls; no photo twice in a
round in place of the bank of what was made before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from gammascope.choices import GuideChoice
from gammascope.data.policies.base import Policy, beside_itself, whole
from gammascope.sample import Entry

MOST_GUIDED = 0.5

_STRENGTHS = (0.4, 0.6)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a detector says of a guide.

    Attributes:
        host: The photo.
        photo: Its logit; above 0 it is called fake.
        edit: The logit of its edit; 0 or below it is called real.
    """

    host: Entry
    photo: float
    edit: float

    @property
    def wrong(self) -> bool:
        """Whether photo or edit is called what it is not."""
        return self.margin > 0 or self.edit == 0

    @property
    def margin(self) -> float:
        """How far the worse of both is on the wrong side; negative: both are on their own."""
        return max(self.photo, -self.edit)


def chosen(
    opinions: Sequence[Opinion], budget: int, choice: GuideChoice, rng: np.random.Generator
) -> list[Entry]:
    """Choose the photos of a round.

    Args:
        opinions: Of all guides.
        budget: How many; fewer where there are fewer guides.
        choice: "errors": those that the detector is most wrong about, then those next to them; "random": whatever it
            says.
        rng: Of the draw, and of the order of equals.
    """
    order = [opinions[index] for index in rng.permutation(len(opinions))]
    if choice == "errors":
        order.sort(key=lambda opinion: (not opinion.wrong, -opinion.margin))
    return [opinion.host for opinion in order[:budget]]


def either_way(opinions: Sequence[Opinion], budget: int, state: Sequence[int]) -> int:
    """Count the photos that both choices take; where these are many, their arms hardly differ.

    Args:
        opinions: Of all guides.
        budget: As in ``chosen``.
        state: Seed of the draws.
    """
    taken = (
        {host.path for host in chosen(opinions, budget, choice, np.random.default_rng(state))}
        for choice in get_args(GuideChoice)
    )
    return len(set.intersection(*taken))


def guided_share(number: int, count: int) -> float:
    """Return the share of a round's pictures that are made against the detector.

    >>> [guided_share(number, 3) for number in range(3)]
    [0.0, 0.25, 0.5]
    """
    return MOST_GUIDED * number / max(1, count - 1)


POLICY = Policy(
    title="ActGen",
    paper="arXiv:2403.06517",
    needs="edit",
    plan=beside_itself(_STRENGTHS),
    finish=whole,
)
