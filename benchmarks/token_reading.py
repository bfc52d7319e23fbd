"""What CLIP's tower reads of pictures and edits, cell by cell, for ``gamma_on_tokens.py``: which pictures, and folds.

Families of generators are left out in turn, and with them every collection that has pictures of theirs, and a share of
the collections that have photos alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from eyes import NOT_PHOTOS
from eyes_reading import SIDE, before_head, square, window
from folds import JPEG90
from rich.progress import track
from torch import Tensor

from gammascope.data.manifest import load_sample, read_manifest
from gammascope.errors import UndecodableImageError
from gammascope.imaging import codecs, views
from gammascope.networks.backbones import FAMILIES
from gammascope.sample import Entry, Image, Label

CELLS, BLOCK, TAPS = 14, 768, (2, 4)
"""Side of the grid; numbers of a token; which of the graph's patch tokens are kept: blocks 8 and 12 of 4, 6, ... 12."""
LAST = slice(8 * BLOCK, 9 * BLOCK)
"""Where the last block's class token lies among the features."""
_NORMAL = FAMILIES["clip"].normalisation
VIEW = views.ViewSpec(SIDE, "center_crop", mean=_NORMAL[0], std=_NORMAL[1])
LAW_OF = 200
"""Pictures that means and deviations are taken of."""
OF_FAMILY = {
    "art": ("midjourney", "flux", "ckpt:flux", "qwen", "ernie", "fibo", "ideogram", "krea", "z-image", "omnigen"),
    "sd": ("sd", "ckpt:", "unknown-model"),
    "assistants": ("gpt", "chatgpt", "dalle3", "gemini", "nano", "mixed-gallery"),
    "older": ("dalle", "disco", "glid", "latent-diffusion", "majesty", "simulacra", "stylegan", "unnamed-face"),
}  # fmt: skip
"""How names of generators begin; the others nobody named, and no other family learns from them."""
UNNAMED = "unnamed"
FOLDS = (*OF_FAMILY, UNNAMED)
NAMES = {"splicing": "spliced", "inpainting_classical": "filled", "inpainting": "inpainted"}
"""Kinds of manifests as the ablations call them."""
EDITS: tuple[str, ...] = ("inpainted", "filled", "copy_move", "spliced")


def family_of(entry: Entry) -> str:
    name = (entry.generator or "").lower()
    return next((f for f, starts in OF_FAMILY.items() if name.startswith(starts)), UNNAMED)


def chosen_of(
    manifests: Sequence[Path], without: set[str], apart: Sequence[str], cap: int
) -> list[Entry]:
    """Return at most so many whole pictures of a collection and class, the first of each first."""
    found: list[tuple[int, Entry]] = []
    had: Counter[tuple[str | None, Label]] = Counter()
    listed = [e for m in manifests for e in read_manifest(m, "train")]
    for entry in sorted(listed, key=lambda e: hashlib.sha256(e.path.name.encode()).hexdigest()):
        drawn = (entry.source or "").startswith(NOT_PHOTOS)
        if entry.kind or entry.source in apart or drawn or had[entry.source, entry.label] >= cap:
            continue
        if hashlib.sha256(entry.path.read_bytes()).hexdigest() not in without:
            had[entry.source, entry.label] += 1
            found.append((had[entry.source, entry.label], entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def folds_of(entries: Sequence[Entry]) -> dict[str | None, str]:
    """Return the fold of each source's photos: that of its generated pictures, or the smallest so far."""
    fakes: dict[str | None, Counter[str]] = {}
    for entry in entries:
        if entry.label is Label.FAKE:
            fakes.setdefault(entry.source, Counter())[family_of(entry)] += 1
    photos = Counter(e.source for e in entries if e.label is Label.REAL)
    found = {source: fakes[source].most_common(1)[0][0] for source in photos if source in fakes}
    size = Counter(dict.fromkeys(FOLDS, 0))
    for source, fold in found.items():
        size[fold] += photos[source]
    for source in sorted(photos.keys() - found.keys(), key=str):
        found[source] = min(FOLDS, key=lambda fold: size[fold])
        size[found[source]] += photos[source]
    return found


def shown(
    entry: Entry, place: tuple[float, float], recode: bool
) -> tuple[list[Image], list[np.ndarray]]:
    """Return both views, and of each the share of every cell that is generated, and edited."""
    sample = load_sample(entry)
    code = np.zeros_like(sample.image)
    for channel, mask in enumerate((sample.generated, sample.edited)):
        if mask is not None:
            code[..., channel] = 255 * mask
    rows, columns = (extent // entry.panels for extent in sample.image.shape[:2])
    image = np.ascontiguousarray(sample.image[:rows, :columns])
    code = np.ascontiguousarray(code[:rows, :columns])
    if recode:
        image = codecs.reencode(image, JPEG90)
    pair = [[square(x), window(x, *place)] for x in (image, code)]
    side = SIDE // CELLS
    cells = [x.reshape(CELLS, side, CELLS, side, 3).mean((1, 3)) / 255 for x in pair[1]]
    return pair[0], [c[..., :2].transpose(2, 0, 1) for c in cells]


def places_of(edits: Sequence[Entry]) -> dict[Path, tuple[float, float]]:
    """Return where the window lies over each edit, 0..1 in each direction, and over its untouched host."""
    found: dict[Path, tuple[float, float]] = {}
    controls = {_host_of(e.path): e.path.resolve() for e in edits if not e.kind}
    for entry in (e for e in edits if e.kind):
        edited = load_sample(entry).edited
        if edited is None or not edited.any():
            continue
        middle = np.argwhere(edited).mean(0)
        room = np.array(edited.shape) - SIDE
        down, across = np.clip((middle - SIDE / 2) / np.maximum(room, 1), 0, 1)
        found[entry.path.resolve()] = (float(across), float(down))
        found.setdefault(controls[_host_of(entry.path)], found[entry.path.resolve()])
    return found


def _host_of(path: Path) -> str:
    """Return what ``synthesize`` puts into the names of everything that it makes of one photo."""
    return path.name.removesuffix(path.suffix).rstrip("0123456789").removesuffix(".")


@dataclass
class Pool:
    """All pictures, and what the tower read of both views of each: standardised, which helps what learns by steps."""

    entries: list[Entry]
    kinds: np.ndarray
    folds: np.ndarray
    families: np.ndarray
    features: Tensor
    cells: Tensor
    masks: Tensor

    @cached_property
    def sources(self) -> np.ndarray:
        return np.array([e.source for e in self.entries])

    def tested(self, fold: str) -> np.ndarray:
        own = np.where(self.kinds == "generated", self.families, self.folds)
        return np.flatnonzero(own == fold)

    def learnt(self, fold: str) -> np.ndarray:
        """Return what has neither family nor collection in common with what is tested, unnamed fakes left out."""
        apart = set(self.sources[self.tested(fold)])
        other = (self.families != UNNAMED) & (self.families != fold)
        return np.flatnonzero(other & ~np.isin(self.sources, list(apart)))


def read_pool(whole: Sequence[Entry], edits: Sequence[Entry], folder: Path, graph: Path) -> Pool:
    """Read all pictures; what was read before is kept in the folder."""
    kept = {e.path: _file_of(e, folder) for e in [*edits, *whole]}
    folder.mkdir(exist_ok=True)
    places, own = places_of(edits), {e.path for e in edits}
    tower = before_head(graph, cells=True)
    for entry in track([e for e in [*edits, *whole] if not kept[e.path].is_file()], "reading"):
        try:
            place = places.get(entry.path.resolve(), (0.5, 0.5))
            images, masks = shown(entry, place, recode=entry.path not in own)
        except UndecodableImageError as error:
            print(f"left out: {error}")
            continue
        found = [tower([views.normalised(image, VIEW)[None]]).values() for image in images]
        partial = kept[entry.path].with_suffix(".part.npz")
        np.savez(
            partial,
            features=np.stack([tokens[0] for tokens, _ in found]).astype(np.float16),
            cells=np.stack([_tapped(cells) for _, cells in found]).astype(np.float16),
            masks=np.stack(masks).astype(np.float16),
        )
        partial.replace(kept[entry.path])
    entries = [e for e in [*whole, *edits] if kept[e.path].is_file()]
    kinds = [kind_of(e, made=e.path in own) for e in entries]
    families = [
        family_of(e) if k == "generated" else "" for e, k in zip(entries, kinds, strict=True)
    ]
    fold_of = folds_of(whole)
    features, cells, shares = zip(*(_loaded(kept[e.path]) for e in entries), strict=True)
    return Pool(
        entries,
        np.array(kinds),
        np.array([fold_of.get(e.source, "") for e in entries]),
        np.array(families),
        _standardised(features, torch.float32),
        _standardised(cells, torch.bfloat16),
        torch.stack(shares).float(),
    )


def _standardised(read_of: Sequence[Tensor], kind: torch.dtype) -> Tensor:
    """Stack what was read of all pictures, views x channels (x cells), each channel by the law of some of them."""
    some = torch.stack(list(read_of[:: len(read_of) // LAW_OF + 1])).float().flatten(0, 1)
    flat = some[:, :, None].flatten(2).transpose(1, 2).flatten(0, 1)
    mean, spread = (
        x.view(-1, *[1] * (read_of[0].dim() - 2)) for x in (flat.mean(0), flat.std(0) + 1e-6)
    )
    return torch.stack([((x.float() - mean) / spread).to(kind) for x in read_of])


def _file_of(entry: Entry, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(str(entry.path.resolve()).encode()).hexdigest()[:24]}.npz"


def _loaded(path: Path) -> list[Tensor]:
    with np.load(path) as found:
        return [torch.from_numpy(found[name]) for name in ("features", "cells", "masks")]


def _tapped(cells: np.ndarray) -> np.ndarray:
    return cells.reshape(-1, BLOCK, CELLS, CELLS)[list(TAPS)].reshape(-1, CELLS, CELLS)


def kind_of(entry: Entry, *, made: bool) -> str:
    if entry.kind:
        return NAMES.get(entry.kind, entry.kind)
    if entry.label is Label.REAL:
        return "control" if made else "authentic"
    return "generated"
