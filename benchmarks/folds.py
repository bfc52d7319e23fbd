"""Which generators and photos are left out together when detectors are judged on families they never saw."""

from __future__ import annotations

from dataclasses import dataclass

from gammascope.sample import Entry, Label


@dataclass(frozen=True)
class Fold:
    """What is left out together: generators, or whole sources of fakes, and sources of photos."""

    name: str
    fakes: frozenset[str]
    photos: frozenset[str]

    def holds(self, entry: Entry) -> bool:
        if entry.label is Label.REAL or entry.host_path is not None:
            return entry.source in self.photos
        return bool({entry.generator, entry.source} & self.fakes)


FOLDS = (
    Fold("sd1.x", frozenset({"sd1.4", "sd1.x"}), frozenset({"dogs-cats"})),
    Fold("gpt-4o", frozenset({"gpt-4o", "gpt-4o-era-gallery"}), frozenset({"imagenet-sample"})),
    Fold("nano-banana", frozenset({"nano-banana-pro", "mixed-gallery-2025h2"}), frozenset({"grocery"})),
    Fold("dalle-mini", frozenset({"dalle-mini"}), frozenset({"fh-photos", "mrdbourke"})),
    Fold("supagruen", frozenset({"supagruen"}), frozenset({"monstree", "sceaux"})),
)  # fmt: skip
ALL = Fold("all", frozenset(), frozenset())
"""Nothing left out: for the test split."""
