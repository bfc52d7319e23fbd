"""Fit the embedded detector: linear readings of CLIP's tower, cross-fitted thresholds, one checkpoint.

    python benchmarks/eyes.py --data MANIFEST.csv --data MANIFEST.csv --out runs/eyes --apart NAME --apart NAME

Every picture of the split is seen once natively (a centred window, and two more), once as its largest square reduced,
and both once more after a random law of resizing and re-encoding. What the tower reads of each view is kept in
``features``, so a second run goes on where the first stopped. The pictures of ``--apart`` sources are left out.

Two readings are fitted, of native windows and of reduced squares: penalised logistic regressions on principal
components, each collection counting as the square root of its pictures. Collections are then left out in turn, sixths
of them at a time, photos and fakes alike; what these fits say of what they did not see sets thresholds and
probabilities. Features are computed by torch in float32: hours on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gammascope import checkpoints, settings
from gammascope.checkpoints import Calibration
from gammascope.data.manifest import read_manifest
from gammascope.detectors import linear_probe
from gammascope.errors import UndecodableImageError
from gammascope.evaluation.calibration import fit_scale, fit_thresholds
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import decode
from gammascope.networks.logistic import Logistic, fit_logistic
from gammascope.sample import Entry, Image, Label

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
COMPONENTS, PENALTY, GRADIENT = 1024, 0.1, 1e-5
PERTURBED = 0.5
"""Weight of a perturbed view beside an untouched one."""
FOLDS = 6
FEWEST = 20
"""Photos of a collection that counts as one of its own where thresholds are set; smaller ones are pooled."""
RATES = (0.05, 0.005)
"""Shares of left-out photos called uncertain or worse, and fake."""
NOT_PHOTOS = frozenset({"majed-manga109"})
"""Art by humans: trained on as not generated, but no measure of a threshold for photographs."""


@dataclass(frozen=True)
class Picture:
    """What is known of a picture, and what the tower read of its views by name."""

    name: str
    source: str
    fake: bool
    read: Mapping[str, np.ndarray]


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


def square(image: Image) -> Image:
    """Return the largest centred square, 224 px; smaller pictures are enlarged."""
    height, width = image.shape[:2]
    side = min(height, width)
    box = (float((width - side) // 2), float((height - side) // 2), float(side), float(side))
    spec = views.ViewSpec(CONFIG.size, "resize", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if side > CONFIG.size:
        spec = dataclasses.replace(spec, fit="tiles", overview=0.5)
    pixels = views.pixels_at(image, box, spec)
    return (pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8)


def window(image: Image, across: float, down: float) -> Image:
    """Return a native window at a place, 0..1 in each direction; small pictures are mirrored."""
    height, width = image.shape[:2]
    side = CONFIG.size
    left = int((width - side) * across) if width > side else (width - side) // 2
    top = int((height - side) * down) if height > side else (height - side) // 2
    return views.crop_at(image, left, top, side)


def seen(image: Image, name: str) -> dict[str, Image]:
    """Return all views of a picture; the random law depends on its name alone."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    changed = image
    if rng.random() < 0.5:
        changed = codecs.rescale(changed, float(np.exp(rng.uniform(np.log(0.4), np.log(1.3)))))
    law = codecs.EncodingLaw(untouched=0.0, jpeg=0.8, double_jpeg=0.0, webp=0.2)
    changed = law(changed, rng)
    return {
        "square": square(image),
        "window": window(image, 0.5, 0.5),
        "window 2": window(image, 0.15, 0.2),
        "window 3": window(image, 0.85, 0.8),
        "square, perturbed": square(changed),
        "window, perturbed": window(changed, rng.random(), rng.random()),
    }


def read(entries: Sequence[Entry], folder: Path) -> list[Picture]:
    """Read every picture with the tower, or what is kept of it."""
    detector = linear_probe.build(CONFIG).eval()
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, entry in enumerate(entries):
        name = hashlib.sha256(entry.path.read_bytes()).hexdigest()
        kept = folder / f"{name}.npz"
        if not kept.is_file():
            try:
                shown = seen(decode(entry.path).image, name)
            except UndecodableImageError as error:
                print(f"left out: {error}")
                continue
            pixels = np.stack([views.normalised(view, detector.view) for view in shown.values()])
            with torch.inference_mode():
                features = detector.features(torch.from_numpy(pixels)).half().numpy()
            np.savez(kept, **dict(zip(shown, features, strict=True)))
        with np.load(kept) as values:
            views_read = {view: values[view] for view in values.files}
        found.append(Picture(name, entry.source or "", entry.label is not Label.REAL, views_read))
        if number % 100 == 0:
            print(f"{number} of {len(entries)} pictures read", flush=True)
    return found


def counts(pictures: Sequence[Picture]) -> np.ndarray:
    """Let a collection count as the square root of its pictures, and both classes the same."""
    sizes = Counter((p.source, p.fake) for p in pictures)
    weight = np.array([sizes[p.source, p.fake] ** -0.5 for p in pictures])
    fake = np.array([p.fake for p in pictures])
    for members in (fake, ~fake):
        weight[members] /= weight[members].sum()
    return weight


def fold_of(picture: Picture) -> int:
    """Return which sixth of the collections a picture belongs to."""
    return int(hashlib.sha256(f"f{picture.source}".encode()).hexdigest(), 16) % FOLDS


class Readings:
    """The features of one kind of view in its principal components, and readings of some of the pictures."""

    def __init__(self, pictures: Sequence[Picture], view: str) -> None:
        self.pictures, self.view = pictures, view
        plain = torch.tensor(np.stack([p.read[view] for p in pictures]).astype(np.float32))
        self.space = Space.of(plain)
        self.plain = self.space(plain)
        self.bent_of = [p for p in pictures if f"{view}, perturbed" in p.read]
        bent = np.stack([p.read[f"{view}, perturbed"] for p in self.bent_of]).astype(np.float32)
        self.bent = self.space(torch.tensor(bent))

    def fit(self, without: int | None = None) -> Logistic:
        """Fit to all pictures, or to those of other folds, untouched and perturbed."""
        parts = []
        for pictures, x, share in (
            (self.pictures, self.plain, 1.0),
            (self.bent_of, self.bent, PERTURBED),
        ):
            rows = [n for n, p in enumerate(pictures) if fold_of(p) != without]
            some = [pictures[n] for n in rows]
            parts.append((x[rows], [p.fake for p in some], share * counts(some)))
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
            found = self.space.unfolded(self.fit(fold))
            own = [p for p in self.pictures if fold_of(p) == fold]
            for view in {view for p in own for view in p.read if view.startswith(self.view)}:
                some = [p for p in own if view in p.read]
                x = torch.tensor(np.stack([p.read[view] for p in some]).astype(np.float32))
                logits = found.logits(x).tolist()
                said |= {f"{p.name}/{view}": z for p, z in zip(some, logits, strict=True)}
        return said


def logit_of(picture: Picture, said: Mapping[str, float], windows: Sequence[str]) -> float | None:
    """Return the logit of a picture as a profile that looks at these windows has it; None if one was not read."""
    if not all(f"{picture.name}/{view}" in said for view in (*windows, "square")):
        return None
    near = float(np.mean([said[f"{picture.name}/{view}"] for view in windows]))
    return (1 - CONFIG.overview) * near + CONFIG.overview * said[f"{picture.name}/square"]


def calibration(
    pictures: Sequence[Picture],
    said: Mapping[str, float],
    windows: Sequence[str],
    fakes_by: Sequence[str] | None = None,
) -> Calibration:
    """Fit thresholds, probabilities and ranks to left-out collections.

    Args:
        pictures: All.
        said: ``Readings.cross_fitted`` of both kinds of views.
        windows: Which windows the profile looks at.
        fakes_by: The same for fakes, if they were seen through other windows; None: the same ones.
    """
    rows: dict[str, list[Any]] = defaultdict(list)
    sizes = Counter(p.source for p in pictures if not p.fake)
    for picture in pictures:
        chosen = fakes_by if picture.fake and fakes_by is not None else windows
        said_of_it = logit_of(picture, said, chosen)
        if said_of_it is None or picture.source in NOT_PHOTOS:
            continue
        rows["logit"].append(said_of_it)
        rows["fake"].append(picture.fake)
        rows["source"].append(picture.source if sizes[picture.source] >= FEWEST else "others")
    logit, fake = np.array(rows["logit"], float), np.array(rows["fake"], bool)
    sources = np.array(rows["source"])
    photos = logit[~fake]
    uncertain, called = fit_thresholds(photos, sources[~fake].tolist(), RATES)
    temperature, offset = fit_scale(logit, fake.astype(int))
    at = np.quantile(logit, np.linspace(0, 1, 60))
    ranks = [
        (float(z), float((photos >= z).mean()), float((logit[fake] >= z).mean()))
        for z in np.unique(np.append(at, np.quantile(photos, [0.99, 0.995, 0.999])))
    ]
    print(
        f"{len(windows)} windows: {len(photos)} photos of {len(set(sources[~fake]))} groups, {fake.sum()} fakes; "
        f"at or above 'fake': {(photos >= called).mean():.4f} of photos, {(logit[fake] >= called).mean():.3f} of fakes"
    )
    for source in sorted(set(sources[~fake])):
        own = photos[sources[~fake] == source]
        print(
            f"  {source:24} {len(own):4} photos: {(own >= called).mean():.3f} fake, {(own >= uncertain).mean():.3f}"
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
        trained_on=trained_on,
        seen=tuple(sorted({p.source for p in readings["window"].pictures})),
    )
    print(path, checkpoints.save(path, detector.eval(), facts))


def main() -> None:
    """Read, fit, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--apart", action="append", default=[], help="sources to leave out")
    parser.add_argument("--cap", type=int, default=200, help="pictures of a collection and class")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    entries: list[Entry] = []
    had: Counter[tuple[str | None, Label]] = Counter()
    for entry in (e for data in chosen.data for e in read_manifest(data, chosen.split)):
        had[entry.source, entry.label] += 1
        whole = entry.kind is None and entry.source not in chosen.apart
        if whole and had[entry.source, entry.label] <= chosen.cap:
            entries.append(entry)
    pictures = read(entries, chosen.out / "features")
    readings = {view: Readings(pictures, view) for view in ("square", "window")}
    said = readings["square"].cross_fitted() | readings["window"].cross_fitted()
    profiles = {
        "default": calibration(pictures, said, ("window", "window 2", "window 3")),
        "fast": calibration(pictures, said, ("window",)),
    }
    write(
        chosen.out / "checkpoint.safetensors",
        readings,
        profiles,
        f"{len(pictures)} pictures of {len({p.source for p in pictures})} collections",
    )


if __name__ == "__main__":
    main()
