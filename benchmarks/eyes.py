"""Fit the embedded detector: linear readings of CLIP's tower, cross-fitted thresholds, one checkpoint.

    python benchmarks/eyes.py --data MANIFEST.csv --data MANIFEST.csv --out runs/eyes

What the tower reads of each picture is kept in ``features`` (``eyes_reading.py``), so a second run goes on where the
first stopped: about an hour on two cores. Pictures of ``--apart`` sources are left out.

Two readings are fitted, of native windows (all three) and of reduced squares: penalised logistic regressions on
principal components, each collection counting as the square root of its pictures. Collections are then left out in
turn, sixths of them at a time, photos and fakes alike; what these fits say of what they did not see sets thresholds
and probabilities.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
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
from gammascope.evaluation.fitting import fit_scale, fit_thresholds
from gammascope.networks.logistic import Logistic, fit_logistic
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
COMPONENTS, PENALTY, GRADIENT = 1024, 0.1, 1e-4
SHARES = {"perturbed": 0.5, "poor light": 0.25}
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
    def of(cls, x: torch.Tensor) -> Space:
        """Find them by randomised range finding with one power step."""
        mean, spread = x.mean(0), x.std(0) + 1e-6
        z = (x - mean) / spread
        size = min(COMPONENTS + 64, *x.shape)
        start = torch.randn(x.shape[1], size, generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(z @ start).Q
        basis = torch.linalg.qr(z @ (z.T @ basis)).Q
        axes = torch.linalg.svd(basis.T @ z, full_matrices=False).Vh[:COMPONENTS]
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

    def __init__(self, pictures: Sequence[Picture], kind: str) -> None:
        self.pictures, self.kind = pictures, kind
        self.space = Space.of(self._features(kind)[1])
        views_read = sorted({v for p in pictures for v in p.read if v.startswith(kind)})
        self.rows = {view: self._features(view) for view in views_read}
        self.x = {view: self.space(features) for view, (_, features) in self.rows.items()}

    def _features(self, view: str) -> tuple[list[int], torch.Tensor]:
        """Return which pictures were seen so, and what was read of them."""
        of = [n for n, p in enumerate(self.pictures) if view in p.read]
        read_of = np.stack([self.pictures[n].read[view] for n in of])
        return of, torch.tensor(read_of.astype(np.float32))

    def fit(self, without: int | None = None) -> Logistic:
        """Fit to all views of all pictures, or of those of other folds."""
        parts = []
        for view, (of, _) in self.rows.items():
            at = [n for n, place in enumerate(of) if fold_of(self.pictures[place]) != without]
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

    def cross_fitted(self) -> dict[str, float]:
        """Return what fits to other collections say of each picture, by its name and view: "NAME/VIEW"."""
        said: dict[str, float] = {}
        for fold in range(FOLDS):
            found = self.fit(fold)
            for view, (of, _) in self.rows.items():
                own = [n for n, place in enumerate(of) if fold_of(self.pictures[place]) == fold]
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


def looked(
    pictures: Sequence[Picture], said: Mapping[str, float], look: Look
) -> tuple[dict[Picture, float], Settled]:
    """Return the logits of pictures, copies left out, as a profile has them, and when its first views are enough.

    The range in which they are not is where verdicts by all views differ from those by the first ones, at the
    thresholds of all views; of the differences, ``CHANGED`` of all pictures are let go, half at each end.
    """
    both = {p: (logit_of(p, said, look.first), logit_of(p, said, look.windows)) for p in pictures}
    seen = [p for p, found in both.items() if not p.copy and None not in found]
    first, last = np.array([both[p] for p in seen], float).T
    fake, sources = photos_and_fakes(seen)
    own = np.array([not p.source.startswith(NOT_PHOTOS) for p in seen])
    photos = own & ~fake
    thresholds = fit_thresholds(last[photos], sources[photos].tolist(), RATES)
    changed = np.sort(first[np.digitize(first, thresholds) != np.digitize(last, thresholds)])
    let_go = min(int(CHANGED * len(seen) / 2), (len(changed) - 1) // 2)
    settled = Settled(
        1 + len(look.first), float(changed[let_go]), float(changed[len(changed) - 1 - let_go])
    )
    enough = np.array([settled.by(z) for z in first])
    print(
        f"{len(look.windows)} windows, {settled}: the first views are enough for {enough[photos].mean():.3f} of photos "
        f"and {enough[own & fake].mean():.3f} of fakes"
    )
    return dict(zip(seen, np.where(enough, first, last).tolist(), strict=True)), settled


def photos_and_fakes(pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray]:
    """Return which are fake, and the collections that count where thresholds are set; small ones are pooled."""
    fake = np.array([p.fake for p in pictures])
    sizes = Counter(
        p.source for p in pictures if not p.fake and not p.source.startswith(NOT_PHOTOS)
    )
    sources = [p.source if sizes[p.source] >= FEWEST else "others" for p in pictures]
    return fake, np.array(sources)


def calibration(name: str, seen: Mapping[Picture, float]) -> Calibration:
    """Fit thresholds, probabilities and ranks to logits of left-out collections (``looked``)."""
    own = [p for p in seen if not p.source.startswith(NOT_PHOTOS)]
    logit = np.array([seen[p] for p in own])
    fake, sources = photos_and_fakes(own)
    photos = logit[~fake]
    uncertain, called = fit_thresholds(photos, sources[~fake].tolist(), RATES)
    temperature, offset = fit_scale(logit, fake.astype(int))
    at = np.quantile(logit, np.linspace(0, 1, 60))
    ranks = [
        (float(z), float((photos >= z).mean()), float((logit[fake] >= z).mean()))
        for z in np.unique(np.append(at, np.quantile(photos, [0.99, 0.995, 0.999])))
    ]
    print(
        f"{name}: {len(photos)} photos of {len(set(sources[~fake]))} groups, {fake.sum()} fakes; "
        f"at or above 'fake': {(photos >= called).mean():.4f} of photos, {(logit[fake] >= called).mean():.3f} of fakes"
    )
    for source in sorted(set(sources[~fake])):
        some = photos[sources[~fake] == source]
        print(
            f"  {source:24} {len(some):4} photos: {(some >= called).mean():.3f} fake, {(some >= uncertain).mean():.3f}"
        )
    drawn = np.array([z for p, z in seen.items() if p.source.startswith(NOT_PHOTOS)])
    if len(drawn):
        print(
            f"  {len(drawn)} pictures by people that are no photos: {(drawn >= called).mean():.3f} fake, "
            f"{(drawn >= uncertain).mean():.3f} uncertain or fake"
        )
    return Calibration(
        temperature=temperature,
        offset=offset,
        uncertain_from=uncertain,
        fake_from=called,
        rates=RATES,
        photos=len(photos),
        sources=tuple(sorted(set(sources[~fake]))),
        ranks=tuple(ranks),
    )


def write(
    path: Path,
    readings: Mapping[str, Readings],
    profiles: Mapping[str, Calibration],
    settled: Mapping[str, Settled],
    trained_on: str,
) -> None:
    """Write the checkpoint: both readings fitted to all pictures, and the calibration of each profile."""
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
    print(path, checkpoints.save(path, detector.eval(), facts))


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
    profiles = {name: calibration(name, logits) for name, (logits, _) in seen.items()}
    write(
        chosen.out / "checkpoint.safetensors",
        readings,
        profiles,
        {name: settled for name, (_, settled) in seen.items()},
        f"{len(pictures)} pictures of {len({p.source for p in pictures})} collections",
    )


if __name__ == "__main__":
    main()
