"""Pictures of stochastic context models on disk, with masks of broken rules, and a manifest."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gammascope.data.folder import SCANNED_SUFFIXES, find_images, hold_masks
from gammascope.data.manifest import read_manifest, write_manifest
from gammascope.data.products import MANIFEST, claim, write_mask, write_picture
from gammascope.errors import MissingDataError, RecipeError
from gammascope.generation.spatial_context import FAMILIES, draw
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
        RecipeError: If the plan is impossible, or the folder holds another one's pictures, or more of them.
    """
    if count < 1:
        raise RecipeError(f"count={count}: expected 1 or more.")
    draw(plan.family, np.random.default_rng(0), side=plan.side, breaks=plan.breaks)
    if plan.amount > FAMILIES[plan.family].parts:
        raise RecipeError(
            f"amount={plan.amount}: a picture of {plan.family} has {FAMILIES[plan.family].parts} parts at most."
        )
    claim(folder, plan)
    there = _there(folder, plan)
    if count < there:
        raise RecipeError(
            f"--count {count}: {folder} holds more, which its manifest would forget. Give --count {there} or more, "
            "or choose another folder."
        )
    entries = []
    for number in range(count):
        entries.append(_made(folder, plan, number))
        progress(number + 1, count)
    write_manifest(entries, folder / MANIFEST)
    return entries


def _place(folder: Path, plan: ContextPlan, number: int) -> Path:
    return folder / plan.family / f"{number:06}.png"


def _there(folder: Path, plan: ContextPlan) -> int:
    number = 0
    while _place(folder, plan, number).exists():
        number += 1
    return number


def _made(folder: Path, plan: ContextPlan, number: int) -> Entry:
    path = _place(folder, plan, number)
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


def pictures_to_test(names: Sequence[str]) -> tuple[list[Path], int]:
    """List pictures as ``find_images`` does, without masks: they are no pictures, and break every rule.

    A mask lies in a folder that is called so, or is named by the manifest of the folder. A file that is named itself
    is always a picture.

    Args:
        names: Files, folders and patterns.

    Returns:
        The pictures, and how many masks were left out. Camera raws are listed, so that each is reported.

    Raises:
        MissingDataError: If a name leads nowhere, or to nothing but masks.
    """
    # Not name by name: a name that leads nowhere is refused first, and nothing is listed twice.
    every = find_images(names, suffixes=SCANNED_SUFFIXES)
    masks = {path for name in names if not Path(name).is_file() for path in _masks_at(name)}
    masks -= {Path(name) for name in names if Path(name).is_file()}
    pictures = [path for path in every if path not in masks]
    if not pictures:
        raise MissingDataError(
            f"Only masks in {', '.join(names)}: name the folder of the pictures."
        )
    return pictures, len(every) - len(pictures)


def _masks_at(name: str) -> Iterator[Path]:
    """Yield the files at a folder or pattern that are masks."""
    root = Path(name)
    while glob.has_magic(str(root)) and not root.exists():
        root = root.parent
    named = _masks_named_in(root / MANIFEST)
    for path in find_images([name], suffixes=SCANNED_SUFFIXES):
        # The folder's own name counts, those above it are the user's.
        folders = path.absolute().parent.relative_to(root.absolute().parent).parts
        if hold_masks(folders) or path.absolute() in named:
            yield path


def _masks_named_in(manifest: Path) -> set[Path]:
    """Return the masks that a manifest names; none if there is no manifest, or the file is some other table."""
    try:
        entries = read_manifest(manifest)
    except MissingDataError:
        return set()
    named = [p for e in entries for p in (e.generated_path, e.edited_path, *e.object_paths) if p]
    return {path.absolute() for path in named}
