"""Pictures of stochastic context models on disk, with masks of broken rules, and a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gammascope.data.manifest import write_manifest
from gammascope.data.products import MANIFEST, claim, write_mask, write_picture
from gammascope.errors import RecipeError
from gammascope.generation.spatial_context import draw
from gammascope.imaging.codecs import Encoding
from gammascope.sample import Entry, Label


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What is drawn; the arguments of ``generation.spatial_context.draw``.

    Attributes:
        family: Its name.
        side: Pixels.
        breaks: The rule to break; "": none.
        amount: How many tiles, cells or letters break it.
        seed: Of all draws.
    """

    family: str
    side: int = 256
    breaks: str = ""
    amount: int = 4
    seed: int = 0


def make_contexts(
    folder: Path,
    plan: ContextPlan,
    count: int,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Entry]:
    """Draw pictures as PNG files; those that are there are kept.

    Pictures that keep the rules are labelled real; those that break one are fakes, edited where the mask says. The
    family is their source.

    Args:
        folder: Where pictures, masks and ``manifest.csv`` go.
        plan: What is drawn.
        count: How many; picture n depends on the seed and n alone, so more may be asked for later.
        progress: Called with (done, all).

    Raises:
        RecipeError: If the plan is impossible, or the folder holds another one's pictures.
    """
    if count < 1:
        raise RecipeError(f"count={count}: expected 1 or more.")
    draw(plan.family, np.random.default_rng(0), side=plan.side, breaks=plan.breaks)
    claim(folder, plan)
    entries = []
    for number in range(count):
        entries.append(_made(folder, plan, number))
        progress(number + 1, count)
    write_manifest(entries, folder / MANIFEST)
    return entries


def _made(folder: Path, plan: ContextPlan, number: int) -> Entry:
    path = folder / plan.family / f"{number:06}.png"
    masks = {name: folder / "masks" / f"{number:06}.{name}.png" for name in ("generated", "edited")}
    if not path.exists():
        rng = np.random.default_rng((plan.seed, number))
        drawn = draw(plan.family, rng, side=plan.side, breaks=plan.breaks, amount=plan.amount)
        if plan.breaks:
            write_mask(masks["generated"], np.zeros_like(drawn.broken))
            write_mask(masks["edited"], drawn.broken)
        write_picture(path, drawn.image, Encoding("png"))
    if not plan.breaks:
        return Entry(path, Label.REAL, source=plan.family)
    return Entry(
        path,
        Label.FAKE,
        kind=f"broken_{plan.breaks}",
        source=plan.family,
        generated_path=masks["generated"],
        edited_path=masks["edited"],
    )
