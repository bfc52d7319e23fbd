"""Can the labels of the training stream be told from compression or borders alone? A probe that ought to fail.

    python benchmarks/stream_probe.py MANIFEST.csv --data TWINS.csv ... [--views 2000] [--set KEY=VALUE ...]

Draws authentic and wholly generated views, as training sees them, from the embedded recipe's stream and from the same
stream without its nuisance law (files as they came). Of each view only what files and borders leave behind is shown to
gradient-boosted trees: the strength of the 8 x 8 JPEG grid, alone or with how much is left of high frequencies; or
brightness, spread and clipping of the outer 4 pixels. Sizes and formats are not there to be seen: every view has one
size and no header. Five folds, over views, or over whole collections, so that what is learnt of one must hold for
others; 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy.fft import dctn
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from gammascope.data.laws import Mixture, Nuisance
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.imaging import codecs
from gammascope.sample import Image
from gammascope.training.recipe import read_recipe

ROOT = Path(__file__).parents[1]
RIM = 4
WHOLE = Mixture(
    authentic=0.5, control=0.0, generated=0.35, twins=0.15, inpainted=0.0, filled=0.0, copy_move=0.0, spliced=0.0
)  # fmt: skip


def compression(image: Image) -> list[float]:
    """Return how strong the JPEG grid is on each axis, and what is left of high frequencies on the strongest phase."""
    luma = image.astype(np.float64) @ (0.299, 0.587, 0.114)
    found: list[float] = []
    phases = []
    for axis in (0, 1):
        bends = np.abs(np.diff(luma, 2, axis)).mean(1 - axis)
        strength = np.array([bends[phase::8].mean() for phase in range(8)])
        best = int(strength.argmax())
        phases.append(best)
        found += [strength[best] / (strength.mean() + 1e-6), float(np.log(bends.mean() + 1e-6))]
    rows, columns = (-((phase + 2) % 8) % 8 for phase in phases)
    cut = luma[rows % 8 :, columns % 8 :]
    high, wide = (side // 8 for side in cut.shape)
    blocks = cut[: 8 * high, : 8 * wide].reshape(high, 8, wide, 8).transpose(0, 2, 1, 3)
    waves = np.abs(dctn(blocks, axes=(2, 3), norm="ortho"))
    for start, stop in ((2, 5), (5, 9), (9, 15)):
        band = np.add.outer(range(8), range(8))
        some = waves[..., (band >= start) & (band < stop)]
        found += [float((some < 0.5).mean()), float(np.log(some.mean() + 1e-3))]
    return found


def border(image: Image) -> list[float]:
    """Return brightness, spread and clipping of the rim, and how it differs from what it surrounds."""
    inside = image[RIM:-RIM, RIM:-RIM].astype(np.float64)
    mask = np.ones(image.shape[:2], bool)
    mask[RIM:-RIM, RIM:-RIM] = False
    rim = image[mask].astype(np.float64)
    clipped = [float((rim <= 1).mean()), float((rim >= 254).mean())]
    return [rim.std() / (inside.std() + 1), rim.mean() - inside.mean(), *clipped]


PROBES: dict[str, Callable[[Image], list[float]]] = {
    "JPEG grid": lambda image: compression(image)[:4:2],
    "JPEG grid and spectrum": compression,
    "border": border,
}


def judged(features: np.ndarray, label: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return each view's score by trees that saw none of its fold."""
    scores = np.zeros(len(label))
    folds = StratifiedKFold if groups is None else StratifiedGroupKFold
    for learn, test in folds(5, shuffle=True, random_state=0).split(features, label, groups):
        trees = HistGradientBoostingClassifier(max_iter=60, max_depth=3, random_state=0)
        scores[test] = trees.fit(features[learn], label[learn]).predict_proba(features[test])[:, 1]
    return scores


def interval(label: np.ndarray, scores: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(500):
        rows = rng.integers(len(label), size=len(label))
        values.append(roc_auc_score(label[rows], scores[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{roc_auc_score(label, scores):.3f} [{low:.3f}, {high:.3f}]"


def raw(nuisance: Nuisance) -> Nuisance:
    nothing = codecs.EncodingLaw(1.0, jpeg=0.0, double_jpeg=0.0, webp=0.0)
    return replace(
        nuisance, encoding=nothing, history=nothing, again=0.0, rescale=codecs.RescaleLaw(0.0), overview=0.0
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--views", type=int, default=2000)
    parser.add_argument("--set", nargs="*", default=[])
    chosen = parser.parse_args()
    recipe = read_recipe(ROOT / "recipes" / "gamma_embedded.toml", chosen.set)
    entries = [e for m in (chosen.manifest, *chosen.data) for e in read_manifest(m, "train")]
    pictures = Pictures(int(recipe.data.memory_gb * 1e9))
    print("| stream | shown | AUROC, folds of views | AUROC, folds of collections |")
    print("| --- | --- | ---: | ---: |")
    laws = {"training": recipe.data.nuisance, "files as they came": raw(recipe.data.nuisance)}
    for name, law in laws.items():
        stream = Stream(entries, pictures, recipe.config.size, WHOLE, law, seed=12345)
        drawn = [stream[index] for index in track(range(chosen.views), name)]
        label = np.array([int(d.contains_generated) for d in drawn])
        groups = np.array([f"{d.source}/{d.kind}" for d in drawn])
        for probe, see in PROBES.items():
            features = np.array([see(d.pixels) for d in drawn])
            cells = [
                interval(label, judged(features, label, grouped)) for grouped in (None, groups)
            ]
            print(f"| {name} | {probe} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
