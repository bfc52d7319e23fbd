"""Fit the embedded detector: linear readings of CLIP's tower, cross-fitted thresholds, one checkpoint.

    python benchmarks/eyes.py --data MANIFEST.csv --data MANIFEST.csv --out runs/eyes

What the tower reads of each picture is kept in ``features`` (``eyes_reading.py``), so a second run goes on where the
first stopped: about an hour on two cores. Pictures of ``--apart`` sources are left out.

Two readings are fitted, of native windows (all three) and of reduced squares: penalised logistic regressions on
principal components, each collection counting as the square root of its pictures. Collections are then left out in
turn, sixths of them at a time, photos and fakes alike; what these fits say of what they did not see sets thresholds
and probabilities. It is kept without names of files: ``gammascope evaluate --replay OUT/left_out.parquet`` prints the
tables that this script ends with.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from eyes_reading import Picture, Wish, read

from gammascope import checkpoints, settings
from gammascope.checkpoints import Calibration, Settled
from gammascope.data.manifest import read_manifest
from gammascope.detection import export
from gammascope.detectors import linear_probe
from gammascope.evaluation import left_out
from gammascope.evaluation.fitting import fit_scale, fit_thresholds
from gammascope.evaluation.tables import markdown
from gammascope.networks.fitted import Logistic, fit_logistic
from gammascope.sample import Label

CONFIG = linear_probe.Config(
    backbone="clip-vit-b16",
    feature="both",
    reads=(4, 5, 6, 7, 8, 9, 10, 11, 12),
    layers=(4, 6, 8, 10, 12),
    size=224,
    fit="tiles",
    max_tiles=3,
    overview=0.5,
)
COMPONENTS, PENALTY, GRADIENT = 4096, 0.05, 1e-4
SHARES = {"perturbed": 0.5, "poor light": 0.1}
"""Weight of views by the ends of their names, beside untouched ones; each window counts as one."""
LIGHT = 0.125
"""How much pictures of the small collections of ``proven_pictures.py`` count (docs/experiments.md, E30)."""
SMALL = ("web-", "graphics-", "declared-")
"""How the names of their sources begin."""
FOLDS = 6
FEWEST = 20
"""Photos of a collection that counts as one of its own where thresholds are set; smaller ones are pooled."""
RATES = (0.02, 0.01)
"""Shares of left-out photos called uncertain or worse, and fake."""
NOT_PHOTOS = ("graphics-", "majed-manga109")
"""How names of sources begin whose pictures people drew, rendered or typed: trained on as not generated, but no measure
of a threshold for photographs."""


@dataclass(frozen=True)
class Look:
    """Which windows a profile looks at beside the square, and which of them first."""

    windows: tuple[str, ...]
    first: tuple[str, ...]


LOOKS = {
    "default": Look(("window", "window 2", "window 3"), ("window",)),
    "fast": Look(("window",), ()),
}
CHANGED = 0.002
"""Share of verdicts that may change because further views are not looked at (docs/experiments.md, E31)."""


@dataclass(frozen=True)
class Space:
    """Principal components of standardised features."""

    mean: torch.Tensor
    spread: torch.Tensor
    axes: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, components: int = COMPONENTS) -> Space:
        """Find them by randomised range finding with one power step."""
        mean, spread = x.mean(0), x.std(0) + 1e-6
        z = (x - mean) / spread
        size = min(components + 64, *x.shape)
        start = torch.randn(x.shape[1], size, generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(z @ start).Q
        basis = torch.linalg.qr(z @ (z.T @ basis)).Q
        axes = torch.linalg.svd(basis.T @ z, full_matrices=False).Vh[:components]
        return cls(mean, spread, axes)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return coordinates."""
        return ((x - self.mean) / self.spread) @ self.axes.T

    def unfolded(self, found: Logistic) -> Logistic:
        """Return the same reading of plain features."""
        weight = (self.axes.T @ found.weight.float()) / self.spread
        return Logistic(weight.double(), found.bias - (self.mean @ weight).double())


def counts(pictures: Sequence[Picture]) -> np.ndarray:
    """Let a collection count as the square root of its pictures, many small ones less, and both classes the same."""
    sizes = Counter((p.family, p.fake) for p in pictures)
    weight = np.array([sizes[p.family, p.fake] ** -0.5 for p in pictures])
    weight[[p.source.startswith(SMALL) for p in pictures]] *= LIGHT
    fake = np.array([p.fake for p in pictures])
    for members in (fake, ~fake):
        weight[members] /= weight[members].sum()
    return weight


def fold_of(picture: Picture) -> int:
    """Return which sixth of the collections a picture belongs to."""
    return int(hashlib.sha256(f"f{picture.source}".encode()).hexdigest(), 16) % FOLDS


class Readings:
    """The features of one kind of view in its principal components, and readings of some of the pictures."""

    def __init__(self, pictures: Sequence[Picture], kind: str, space: Space | None = None) -> None:
        self.pictures, self.kind = pictures, kind
        self.space = space or Space.of(self._features(kind)[1])
        self.rows: dict[str, list[int]] = {}
        self.x: dict[str, torch.Tensor] = {}
        for view in sorted({v for p in pictures for v in p.read if v.startswith(kind)}):
            self.rows[view], features = self._features(view)
            self.x[view] = self.space(features)

    def _features(self, view: str) -> tuple[list[int], torch.Tensor]:
        """Return which pictures were seen so, and what was read of them."""
        of = [n for n, p in enumerate(self.pictures) if view in p.read]
        read_of = np.stack([self.pictures[n].read[view] for n in of])
        return of, torch.tensor(read_of.astype(np.float32))

    def fit(self, learnt: Set[Picture] | None = None) -> Logistic:
        """Fit to all views of these pictures; None: of all."""
        parts = []
        for view, of in self.rows.items():
            at = [
                n for n, place in enumerate(of) if learnt is None or self.pictures[place] in learnt
            ]
            some = [self.pictures[of[n]] for n in at]
            share = next((by for end, by in SHARES.items() if view.endswith(end)), 1.0)
            parts.append((self.x[view][at], [p.fake for p in some], share * counts(some)))
        x = torch.cat([part[0] for part in parts])
        truth = torch.tensor([fake for part in parts for fake in part[1]]).long()
        weight = torch.tensor(np.concatenate([part[2] for part in parts]))
        # Coordinates keep the spread of their components: the penalty is that of standardised features.
        trust = (weight / weight.sum()).float() @ x.square()
        mean = (weight / weight.sum()).float() @ x
        return fit_logistic(
            x, truth, PENALTY, (trust - mean.square()).sqrt(), weight, gradient=GRADIENT
        )

    def cross_fitted(
        self,
        part_of: Callable[[Picture], int] = fold_of,
        learnt: Sequence[Picture] | None = None,
    ) -> dict[str, float]:
        """Return what fits to other collections say of each picture, by its name and view: "NAME/VIEW".

        Args:
            part_of: Which sixth of the collections a picture belongs to.
            learnt: Pictures that fits may see; None: all.
        """
        said: dict[str, float] = {}
        seen = self.pictures if learnt is None else learnt
        for fold in range(FOLDS):
            found = self.fit({p for p in seen if part_of(p) != fold})
            for view, of in self.rows.items():
                own = [n for n, place in enumerate(of) if part_of(self.pictures[place]) == fold]
                logits = found.logits(self.x[view][own]).tolist()
                names = [self.pictures[of[n]].name for n in own]
                said |= {f"{name}/{view}": z for name, z in zip(names, logits, strict=True)}
        return said


def logit_of(picture: Picture, said: Mapping[str, float], windows: Sequence[str]) -> float | None:
    """Return the logit of a picture by its square and these windows, if any; None if one was not read."""
    if not all(f"{picture.name}/{view}" in said for view in (*windows, "square")):
        return None
    square = said[f"{picture.name}/square"]
    if not windows:
        return square
    near = float(np.mean([said[f"{picture.name}/{view}"] for view in windows]))
    return (1 - CONFIG.overview) * near + CONFIG.overview * square


@dataclass(frozen=True)
class Said:
    """What fits to other collections say of pictures, copies left out, as a profile has them.

    Attributes:
        fake: Which a generator wrote.
        drawn: Which are neither photos nor taken for such.
        groups: Collections as they count where thresholds are set; small ones are pooled.
        logits: By all views, or by the first ones where these are enough.
        early: Where they are.
        settled: When they are.
    """

    fake: np.ndarray
    drawn: np.ndarray
    groups: np.ndarray
    logits: np.ndarray
    early: np.ndarray
    settled: Settled


def looked(pictures: Sequence[Picture], said: Mapping[str, float], look: Look) -> Said:
    """Return the logits of pictures as a profile has them, and when its first views are enough.

    The range in which they are not is where verdicts by all views differ from those by the first ones, at the
    thresholds of all views; of the differences, ``CHANGED`` of all pictures are let go, half at each end.
    """
    both = {p: (logit_of(p, said, look.first), logit_of(p, said, look.windows)) for p in pictures}
    seen = [p for p, found in both.items() if not p.copy and None not in found]
    first, last = np.array([both[p] for p in seen], float).T
    fake, drawn, groups = classes(seen)
    photos = ~fake & ~drawn
    thresholds = fit_thresholds(last[photos], groups[photos].tolist(), RATES)
    changed = np.sort(first[np.digitize(first, thresholds) != np.digitize(last, thresholds)])
    let_go = min(int(CHANGED * len(seen) / 2), (len(changed) - 1) // 2)
    settled = Settled(
        1 + len(look.first), float(changed[let_go]), float(changed[len(changed) - 1 - let_go])
    )
    enough = np.array([settled.by(z) for z in first])
    return Said(fake, drawn, groups, np.where(enough, first, last), enough, settled)


def classes(pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which are fake, which are drawn, and the collections that count; small ones of a class are pooled."""
    fake = np.array([p.fake for p in pictures])
    drawn = np.array([p.source.startswith(NOT_PHOTOS) for p in pictures])
    own = [(p.source, p.fake) for p in pictures if not p.source.startswith(NOT_PHOTOS)]
    sizes = Counter(own)
    groups = [p.source if sizes[p.source, p.fake] >= FEWEST else left_out.OTHERS for p in pictures]
    return fake, drawn, np.array(groups)


def calibration(seen: Said) -> Calibration:
    """Fit thresholds, probabilities and ranks to logits of left-out collections (``looked``)."""
    logit, fake, groups = (each[~seen.drawn] for each in (seen.logits, seen.fake, seen.groups))
    photos, sources = logit[~fake], groups[~fake].tolist()
    uncertain, called = fit_thresholds(photos, sources, RATES)
    temperature, offset = fit_scale(logit, fake.astype(int))
    at = np.quantile(logit, np.linspace(0, 1, 60))
    ranks = [
        (float(z), float((photos >= z).mean()), float((logit[fake] >= z).mean()))
        for z in np.unique(np.append(at, np.quantile(photos, [0.99, 0.995, 0.999])))
    ]
    return Calibration(
        temperature=temperature,
        offset=offset,
        uncertain_from=uncertain,
        fake_from=called,
        rates=RATES,
        photos=len(photos),
        sources=tuple(sorted(set(sources))),
        ranks=tuple(ranks),
    )


def write(
    path: Path,
    readings: Mapping[str, Readings],
    profiles: Mapping[str, Calibration],
    settled: Mapping[str, Settled],
    trained_on: str,
) -> str:
    """Write the checkpoint: both readings fitted to all pictures, the calibration of each profile. Return its hash."""
    detector = linear_probe.build(CONFIG)
    near, whole = (
        readings[view].space.unfolded(readings[view].fit()) for view in ("window", "square")
    )
    detector.set(near, whole)
    facts = checkpoints.Facts(
        method="linear_probe",
        config=settings.plain(detector.config),
        view=detector.view,
        calibration={"generated": profiles["default"]},
        profiles={
            name: {"generated": found} for name, found in profiles.items() if name != "default"
        },
        settled=settled,
        trained_on=trained_on,
        seen=tuple(sorted({p.source for p in readings["window"].pictures})),
    )
    sha = checkpoints.save(path, detector.eval(), facts)
    print(path, sha)
    return sha


def keep(
    folder: Path, sha: str, profiles: Mapping[str, Calibration], seen: Mapping[str, Said]
) -> None:
    """Keep what was said of left-out collections, and print the tables that follow from it."""
    thresholds = {
        name: left_out.Thresholds(known.uncertain_from, known.fake_from)
        for name, known in profiles.items()
    }
    tables = {
        name: left_out.table(said.logits, said.fake, said.groups, said.drawn, said.early)
        for name, said in seen.items()
    }
    kept = left_out.kept(sha, thresholds, tables)
    print(kept.save(folder / "left_out.parquet"))
    for name, said in seen.items():
        print(f"{name}: {said.settled}")
    print(markdown(left_out.grids(left_out.summarised(kept))))


def listed(chosen: argparse.Namespace) -> list[Wish]:
    """Return whole pictures of a split, at most so many of a collection and class, and copies of photos among them."""
    found: list[Wish] = []
    had: Counter[tuple[str | None, Label]] = Counter()
    for entry in (e for data in chosen.data for e in read_manifest(data, chosen.split)):
        had[entry.source, entry.label] += 1
        number = had[entry.source, entry.label]
        if entry.kind is None and entry.source not in chosen.apart and number <= chosen.cap:
            found.append(Wish(entry, fully=number <= chosen.fully))
    copies = (entry for twins in chosen.twins for entry in read_manifest(twins))
    return found + [Wish(entry, fully=True, copy=True) for entry in copies]


def main() -> None:
    """Read, fit, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--twins", type=Path, action="append", default=[])
    parser.add_argument("--split", default="train")
    parser.add_argument("--apart", action="append", default=[], help="sources to leave out")
    parser.add_argument("--without", type=Path, help="text file of hashes of pictures to leave out")
    parser.add_argument("--cap", type=int, default=200, help="pictures of a collection and class")
    parser.add_argument("--fully", type=int, default=120, help="how many of these get all views")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    left_out = set(chosen.without.read_text().split()) if chosen.without else set()
    blank = linear_probe.build(CONFIG).eval()
    start = chosen.out / "blank.safetensors"
    if not start.with_suffix(".onnx").is_file():
        facts = checkpoints.Facts(
            method="linear_probe", config=settings.plain(blank.config), view=blank.view
        )
        checkpoints.save(start, blank, facts)
        export.graph_beside(start)
    folder, graph = chosen.out / "features", start.with_suffix(".onnx")
    pictures = read(listed(chosen), folder, graph, blank.view)
    pictures = [p for p in pictures if p.name not in left_out]
    readings = {view: Readings(pictures, view) for view in ("square", "window")}
    said = readings["square"].cross_fitted() | readings["window"].cross_fitted()
    seen = {name: looked(pictures, said, look) for name, look in LOOKS.items()}
    profiles = {name: calibration(found) for name, found in seen.items()}
    sha = write(
        chosen.out / "checkpoint.safetensors",
        readings,
        profiles,
        {name: found.settled for name, found in seen.items()},
        f"{len(pictures)} pictures of {len({p.source for p in pictures})} collections",
    )
    keep(chosen.out, sha, profiles, seen)


if __name__ == "__main__":
    main()
