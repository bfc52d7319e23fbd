"""Which generators and photos are left out together when detectors are judged on families they never saw."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gammascope.imaging import codecs
from gammascope.sample import Entry, KeptApart, Label

JPEG90 = codecs.Encoding("jpeg", 90)
"""How everything is re-encoded for the second column."""


@dataclass(frozen=True)
class Fold:
    """A family of generators, and whole sources of photos."""

    name: str
    apart: KeptApart


def _fold(name: str, generators: set[str], photos: set[str]) -> Fold:
    return Fold(name, KeptApart(frozenset(photos), frozenset(generators)))


FOLDS = (
    _fold("sd1.x", {"sd1.4", "sd1.x"}, {"dogs-cats"}),
    _fold("gpt-4o", {"gpt-4o", "gpt-4o-era-gallery"}, {"imagenet-sample"}),
    _fold("nano-banana", {"nano-banana-pro", "mixed-gallery-2025h2"}, {"grocery"}),
    _fold("dalle-mini", {"dalle-mini"}, {"fh-photos", "mrdbourke"}),
    _fold("supagruen", {"sd1.5-finetune(deliberate2/dreamshaper3.2)"}, {"monstree", "sceaux"}),
)
ALL = Fold("all", KeptApart())
"""Nothing left out: for the test split."""


def whole_images(entries: Sequence[Entry], label: Label, most: int | None) -> list[Entry]:
    """Draw at most so many photos, or whole generated images, in their order; the same ones each time."""
    found = [e for e in entries if e.label is label and e.host_path is None and e.kind is None]
    rng = np.random.default_rng(0)
    return [found[i] for i in sorted(rng.permutation(len(found))[:most])]


def options(description: str | None) -> argparse.ArgumentParser:
    """Return what each benchmark over folds is asked."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", nargs="*", choices=[fold.name for fold in FOLDS])
    parser.add_argument("--set", nargs="*", default=[])
    return parser
