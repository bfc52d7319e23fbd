"""Interventions: style and content are changed in both arms alike, so that neither predicts authenticity.

Photos are edited over a grid of prompts and strengths. The control of every second pair is the photo itself, that of
the others another photo of the same source, retrieved from the pool.

Source: "Not Just Pretty Pictures", arXiv:2212.11237, whose interventions keep an object's class; that authenticity
takes the class's place, the two arms, and retrieval by source (there are no captions to retrieve by) are guesses of
ours. The paper found filtering by CLIP of no use: only failed answers are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gammascope.data.policies.base import Job, Policy, whole
from gammascope.sample import Entry

STRENGTHS = (0.3, 0.5, 0.75)


def plan(
    photos: Sequence[Entry], prompts: Sequence[str], budget: int, rng: np.random.Generator
) -> list[Job]:
    """Give each photo drawn one cell of the grid; all cells are equally frequent, but for a rest."""
    grid = [(prompt, strength) for prompt in prompts for strength in STRENGTHS]
    beside = defaultdict(list)
    for photo in photos:
        beside[photo.source].append(photo)
    made: list[Job] = []
    for twin, index in enumerate(rng.permutation(len(photos))[:budget]):
        host, (prompt, strength) = photos[index], grid[twin % len(grid)]
        others = [other for other in beside[host.source] if other is not host]
        retrieved = others[int(rng.integers(len(others)))] if others and twin % 2 else host
        made += [
            Job(twin, "generated", host, prompt, strength),
            Job(twin, "control", retrieved, prompt, strength),
        ]
    return made


POLICY = Policy(
    title="Interventions (Not Just Pretty Pictures)",
    paper="arXiv:2212.11237",
    needs="edit",
    plan=plan,
    finish=whole,
)
