"""Which generators and photos are left out together when detectors are judged on families they never saw."""

from __future__ import annotations

from dataclasses import dataclass

from gammascope.sample import KeptApart


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
