"""Do pictures that generators of one's own made help the detector with generators that it never saw?

    python benchmarks/made_pictures.py --data MANIFEST.csv --data MANIFEST.csv --graph runs/eyes/blank.onnx \
        --features runs/eyes/features --out runs/made --made sd=runs/sd/manifest.csv --made iq=runs/iq/manifest.csv \
        --arm sd --arm sd,iq [--rounds runs/judged/manifest.csv runs/anew/manifest.csv] [--watch edits.csv] [--seeds 3]

``eyes.py``'s readings (square and middle window, fewer components) are fitted without made pictures and with those of
each arm; collections are left out by sixths, and with them all that was made of their photos. ``--made`` are manifests
of ``gammascope synthesize``; what is made counts as a collection for each generator, its controls among the photos of
their source. ``--rounds`` are two manifests of ActGen's pairs of the same photos: by the first the detector is judged,
of the second ``--budget`` pairs are learnt, of photos that it is wrong about or of any. ``--watch`` names pictures that
are judged and never learnt. A seed is a division into sixths and a draw.

Printed: AUROC and TPR at 1 % on collections left out, and the step to nothing added with its 95 % interval over
collections; what the threshold of 1 % calls fake; how much better fakes are told from photos of other collections than
from those of their own (the content gap), likewise; and AUROC of what was made against its controls. What is done is
kept under a name that follows from all that it was fitted to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from eyes import (
    CONFIG,
    FOLDS,
    NOT_PHOTOS,
    RATES,
    Readings,
    Space,
    classes,
    listed,
    logit_of,
)
from eyes_reading import Picture, Wish, read

from gammascope.choices import GuideChoice
from gammascope.data.manifest import read_manifest
from gammascope.data.policies import actgen
from gammascope.detectors import linear_probe
from gammascope.evaluation.fitting import fit_thresholds
from gammascope.evaluation.intervals import Rows, Value, Weights, bootstrap
from gammascope.evaluation.metrics import Metric, auroc, tpr_at_fpr
from gammascope.sample import Entry

VIEWS = ("square", "window", "square, perturbed", "window, perturbed")
KINDS = ("square", "window")
NOTHING = "nothing"
BOTH_SIDES = 10
"""Photos and fakes that a collection with a content gap has at least."""


@dataclass(frozen=True)
class Arm:
    """What is learnt beside the old pictures."""

    name: str
    made: frozenset[Picture]
    seed: int


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--apart", action="append", default=[], help="sources to leave out")
    parser.add_argument("--without", type=Path, help="text file of hashes to leave out")
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--made", action="append", default=[], help="NAME=MANIFEST")
    parser.add_argument("--arm", action="append", default=[], help="NAME,NAME, of --made")
    parser.add_argument("--rounds", type=Path, nargs=2)
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--watch", type=Path)
    parser.add_argument("--cap", type=int, default=24, help="pictures of a collection and class")
    parser.add_argument("--components", type=int, default=384)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    return argparse.Namespace(**vars(asked), twins=[], split="train", fully=asked.cap)


class Judge:
    """Fits readings to old pictures and an arm's, and says what they think of what they did not see."""

    def __init__(self, pictures: Sequence[Picture], components: int, out: Path) -> None:
        self.out = out
        seen = [replace(p, read={v: p.read[v] for v in VIEWS if v in p.read}) for p in pictures]
        old = [p for p in seen if not p.copy]
        self.old = frozenset(p.name for p in old)
        self.key = key_of(seen, components)
        self.readings = [
            # The same coordinates, whatever is added.
            Readings(seen, kind, Space.of(tokens_of(old, kind), components))
            for kind in KINDS
        ]

    def __call__(self, arm: Arm) -> dict[str, float]:
        """Return the logit of each picture's views, "NAME/VIEW", by the fit that left its collection out."""
        learnt = self.old | {p.name for p in arm.made}
        key = hashlib.sha256(" ".join([self.key, *sorted(learnt)]).encode()).hexdigest()[:16]
        kept = self.out / f"{arm.name}-{arm.seed}-{key}.json"
        if not kept.is_file():
            said: dict[str, float] = {}
            for readings in self.readings:
                seen = [p for p in readings.pictures if p.name in learnt]
                said |= readings.cross_fitted(partial(fold_of, seed=arm.seed), seen)
            kept.write_text(json.dumps(said))
        return dict(json.loads(kept.read_text()))


def key_of(pictures: Sequence[Picture], components: int) -> str:
    """Return a hash of all that fits depend on, but for which pictures are learnt and how they are divided."""
    digest = hashlib.sha256(str(components).encode())
    for p in sorted(pictures, key=lambda p: p.name):
        digest.update(f"\n{p.name} {p.source} {p.family} {p.fake} {p.copy}".encode())
        for view, features in sorted(p.read.items()):
            digest.update(f" {view} ".encode() + np.ascontiguousarray(features).tobytes())
    return digest.hexdigest()


def tokens_of(pictures: Sequence[Picture], view: str) -> torch.Tensor:
    return torch.tensor(np.stack([p.read[view] for p in pictures]).astype(np.float32))


def fold_of(picture: Picture, seed: int) -> int:
    """Return a picture's sixth; each seed divides the collections otherwise."""
    name = f"made {seed} {picture.source}"
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % FOLDS


def difference(metric: Metric, before: np.ndarray, after: np.ndarray) -> Callable[..., np.ndarray]:
    """Return a kernel of ``bootstrap``: the step of a number between two ways to score the same pictures."""

    def kernel(label: np.ndarray, rows: Rows, weight: Weights) -> np.ndarray:
        step = metric.kernel(after[rows], label[rows], weight)
        return step - metric.kernel(before[rows], label[rows], weight)

    return kernel


def step(
    metric: Metric, before: np.ndarray, after: np.ndarray, label: np.ndarray, sources: np.ndarray
) -> Value:
    """Measure a step, its interval over collections."""
    kernel = difference(metric, before, after)
    return bootstrap(lambda rows, weight: kernel(label, rows, weight), label, sources)


def content_gaps(logit: np.ndarray, fake: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return of each collection how much better its fakes are told from photos of others than from its own.

    Collections with too few pictures are left out; which, and their order, does not depend on the logits.
    """
    gaps = []
    for source in np.unique(sources):
        own = sources == source
        fakes, photos = logit[own & fake], logit[own & ~fake]
        if min(len(fakes), len(photos)) >= BOTH_SIDES:
            gaps.append(told(fakes, logit[~own & ~fake]) - told(fakes, photos))
    return np.array(gaps)


def mean_of(numbers: np.ndarray) -> Value:
    """Return the mean of a number for each collection, its interval over collections."""
    return bootstrap(
        lambda rows, weight: weight @ numbers[rows] / weight.sum(1), np.zeros(len(numbers), int)
    )


def told(fakes: np.ndarray, photos: np.ndarray) -> float:
    label = np.repeat([1, 0], [len(fakes), len(photos)])
    return auroc(np.concatenate([fakes, photos]), label)


class Table:
    """Compares arms on old pictures, on what was made, and on what is watched."""

    def __init__(
        self,
        old: Sequence[Picture],
        made: dict[str, list[Picture]],
        watched: Sequence[Picture],
        judge: Judge,
    ) -> None:
        self.old = [p for p in old if not p.source.startswith(NOT_PHOTOS)]
        self.made, self.watched, self.judge = made, watched, judge
        self.fake, _, self.groups = classes(self.old)
        self.label = self.fake.astype(int)
        self.sources = np.array([p.source for p in self.old])

    def row(self, arm: Arm) -> None:
        """Print what an arm brought."""
        said, plain = self.judge(arm), self.judge(Arm(NOTHING, frozenset(), arm.seed))
        logit, before = logits(self.old, said), logits(self.old, plain)
        tpr = tpr_at_fpr(0.01)
        gain = [step(m, before, logit, self.label, self.sources) for m in (auroc, tpr)]
        photos = logit[~self.fake]
        (called,) = fit_thresholds(photos, self.groups[~self.fake].tolist(), RATES[-1:])
        gap, gap_before = (content_gaps(z, self.fake, self.sources) for z in (logit, before))
        print(
            f"{arm.name}, seed {arm.seed}, {len(arm.made)} pictures: AUROC {auroc(logit, self.label):.4f} "
            f"(step {shown(gain[0])}), TPR {tpr(logit, self.label):.3f} (step {shown(gain[1])}); "
            f"called fake: {(photos >= called).mean():.4f} of photos, {(logit[self.fake] >= called).mean():.3f} of "
            f"fakes; content gap of {len(gap)} collections {shown(mean_of(gap))} "
            f"(step {shown(mean_of(gap - gap_before))})",
            flush=True,
        )
        parts = [f"{name} {self._told(pictures, said)}" for name, pictures in self.made.items()]
        if self.watched:
            own = {p.source for p in self.watched}
            beside = [p for p in self.old if p.source in own and not p.fake]
            parts.append(f"watched {self._told([*self.watched, *beside], said)}")
        print(f"  AUROC against controls: {', '.join(parts)}", flush=True)

    def _told(self, pictures: Sequence[Picture], said: dict[str, float]) -> str:
        fake = np.array([p.fake for p in pictures])
        if fake.all() or not fake.any():
            return "-"
        return str(auroc.measure(logits(pictures, said), fake.astype(int), resamples=300))


def shown(value: Value) -> str:
    return f"{value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def logits(pictures: Sequence[Picture], said: dict[str, float]) -> np.ndarray:
    return np.array([logit_of(p, said, ("window",)) for p in pictures], float)


@dataclass(frozen=True)
class Pair:
    """A photo, saved, and an edit of it."""

    entry: Entry
    photo: Picture
    edit: Picture


def pairs(pictures: Sequence[Picture], manifest: Path) -> dict[str, Pair]:
    """Return the pairs of a policy's manifest by the hash of the photo as it was saved."""
    arms: dict[str, dict[bool, tuple[Entry, Picture]]] = {}
    for entry, picture in zip(read_manifest(manifest), pictures, strict=True):
        twin = entry.origin.twin if entry.origin else ""
        arms.setdefault(twin, {})[picture.fake] = (entry, picture)
    found = (Pair(*both[False], both[True][1]) for both in arms.values())
    return {pair.photo.name: pair for pair in found}


def chosen(
    judged: dict[str, Pair], anew: dict[str, Pair], said: dict[str, float], budget: int, seed: int
) -> list[Arm]:
    """Return ActGen's arm and the random one, at the same budget."""
    opinions = []
    for name in sorted(judged.keys() & anew.keys()):
        pair = judged[name]
        photo, edit = logits([pair.photo, pair.edit], said)
        opinions.append(actgen.Opinion(anew[name].entry, float(photo), float(edit)))
    wrong = sum(opinion.wrong for opinion in opinions)
    both = actgen.either_way(opinions, budget, (seed,))
    print(
        f"seed {seed}: wrong about {wrong} of {len(opinions)} guides; {both} pairs of {budget} in both choices",
        flush=True,
    )
    of = {pair.entry.path: (pair.photo, pair.edit) for pair in anew.values()}
    arms = []
    for choice in get_args(GuideChoice):
        photos = actgen.chosen(opinions, budget, choice, np.random.default_rng((seed,)))
        made = frozenset(picture for photo in photos for picture in of[photo.path])
        arms.append(Arm(f"actgen {choice}", made, seed))
    return arms


def main() -> None:
    asked = parsed()
    asked.out.mkdir(parents=True, exist_ok=True)
    view = linear_probe.build(CONFIG).view
    wished = listed(asked)
    old = read(wished, asked.features, asked.graph, view)
    left_out = set(asked.without.read_text().split()) if asked.without else set()
    old = [p for p in old if p.name not in left_out]

    def of(manifest: Path, split: str | None = None) -> list[Picture]:
        wishes = [Wish(e, fully=False, copy=True) for e in read_manifest(manifest, split)]
        return read(wishes, asked.out / "features", asked.graph, view)

    made = {name: of(Path(path)) for name, path in (each.split("=") for each in asked.made)}
    rounds = [of(manifest) for manifest in asked.rounds or ()]
    watched = of(asked.watch) if asked.watch else []
    everything = {p.name: p for some in (*made.values(), *rounds, watched) for p in some}
    judge = Judge([*old, *everything.values()], asked.components, asked.out)
    table = Table(old, made, watched, judge)
    for seed in range(asked.seeds):
        nothing = Arm(NOTHING, frozenset(), seed)
        table.row(nothing)
        for names in asked.arm:
            added = (p for name in names.split(",") for p in made[name])
            table.row(Arm(names, frozenset(added), seed))
        if rounds:
            judged, anew = (pairs(p, m) for p, m in zip(rounds, asked.rounds, strict=True))
            for arm in chosen(judged, anew, judge(nothing), asked.budget, seed):
                table.row(arm)


if __name__ == "__main__":
    main()
