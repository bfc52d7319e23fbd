"""GAMMA's parts, switched off one by one: leave one family of generators out, three seeds, one table and one plot.

    python benchmarks/ablations.py MANIFEST.csv --data TWINS.csv ... --pretrained MOBILENETV2.safetensors \
        --out runs/ablations [--folds gpt nano] [--variants A5 A6] [--seeds 3] [--steps 150] [--dev] [--set K=V ...]

The embedded recipe at a smaller size (SMALL below). Its backbone is frozen, so what ImageNet's layers see of a pool of
training views is computed once for each fold, and every variant trains its own layers on it, with the same views,
schedule and loss. Folds leave out a family of generators together with whole sources of photos; seeds change first
weights and the order of views. What is done is skipped: start it again with the same options.

Scores are the label's logit: mean over at most four tiles, plus half of the overview's difference to it. "edited" ranks
copy-moves and splices of held-out photos against these photos by the method's edited answer, or its label where there
is none; everything at JPEG 90. With --dev the test split is scored too, with the networks of the fold that has no test.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from folds import ALL, FOLDS, JPEG90, options, whole_images
from rich.progress import track
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gammascope.data.batches import Collate
from gammascope.data.drawn import Drawn
from gammascope.data.laws import Nuisance
from gammascope.data.manifest import read_manifest
from gammascope.data.pictures import Pictures
from gammascope.data.synthesis import Stream
from gammascope.detectors import gamma
from gammascope.imaging import codecs, views
from gammascope.imaging.decode import decode
from gammascope.manipulation.copy_move import CopyMove
from gammascope.manipulation.splicing import Donor, Splicing
from gammascope.networks.mobilenet import MobileNetBackbone
from gammascope.sample import Entry, Image, Label
from gammascope.training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[1]
SMALL = (
    "method.size=128",
    "method.max_tiles=4",
    "method.width=48",
    "method.mobilenetv2.fused=48",
    "method.mobilenetv2.bands=0",
    "method.mobilenetv2.traces=[]",
)
BATCH = 32
MOST = 120
"""Held-out images of a class that are scored in each fold."""


PLAIN = ("authentic", "control", "generated", "twins")
MOVED = ("copy_move", "spliced", "filled")


@dataclass(frozen=True)
class Variant:
    """One row: which kinds of views it learns from, and what of the network it has."""

    what: str
    kinds: tuple[str, ...]
    seg_heads: str = "none"
    correction: str = "none"
    detach_seg: bool = False
    manip_label: str = "fake"
    label_from: str = "all"
    aligned: bool = True


EVERY = (*PLAIN, "inpainted", *MOVED)
VARIANTS = {
    "A0": Variant("classifier alone", PLAIN),
    "A1": Variant("A0 + inpaintings", (*PLAIN, "inpainted")),
    "A2": Variant("A0 + copy-moves, splices, fills", (*PLAIN, *MOVED)),
    "A3": Variant("A0 + both", EVERY),
    "A4": Variant("A3 + head for generated pixels", EVERY, "first"),
    "A5": Variant("A3 + both heads", EVERY, "both"),
    "A6": Variant("A5 + correction, direct", EVERY, "both", "direct"),
    "A7": Variant("A5 + correction, complement", EVERY, "both", "complement"),
    "A8": Variant("A6, label loss kept out of heads", EVERY, "both", "direct", detach_seg=True),
    "A9": Variant("A6, label by pixels", EVERY, "both", "direct", manip_label="by_pixels"),
    "A9w": Variant(
        "A9, label learns from whole views alone",
        EVERY,
        "both",
        "direct",
        manip_label="by_pixels",
        label_from="whole",
    ),
    "A9t": Variant(
        "A9w without whole twins",
        tuple(kind for kind in EVERY if kind != "twins"),
        "both",
        "direct",
        manip_label="by_pixels",
        label_from="whole",
    ),
    "A10": Variant("A6 without format alignment", EVERY, "both", "direct", aligned=False),
}
"""As in A0 to A10 of our plan for arXiv:2509.10250; each claim of its abstract is the step between two rows."""


@dataclass
class Pool:
    """What the frozen layers see of views, in half precision, and what a loss needs to know of each view."""

    seen: list[Tensor]
    pixels: Tensor
    drawn: list[Drawn]

    def rows(self, index: np.ndarray) -> tuple[Tensor, list[Tensor]]:
        at = torch.from_numpy(index)
        return self.pixels[at].float(), [part[at].float() for part in self.seen]


class Eyes:
    """The frozen part, shared by all variants."""

    def __init__(self, recipe: Recipe, pretrained: Path) -> None:
        self.network = gamma.build(replace(recipe.config, pretrained=str(pretrained))).eval()
        self.backbone, self.view = _backbone(self.network), self.network.view

    def see(self, pixels: Sequence[np.ndarray], drawn: Sequence[Drawn] = ()) -> Pool:
        parts, shown = [], []
        for start in range(0, len(pixels), BATCH):
            x = torch.from_numpy(np.stack(pixels[start : start + BATCH]))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                parts.append([part.half() for part in self.backbone.seen(x)])
            shown.append(x.half())
        seen = [torch.cat(column) for column in zip(*parts, strict=True)]
        return Pool(seen, torch.cat(shown), list(drawn))


def _backbone(network: gamma.Gamma) -> MobileNetBackbone:
    if not isinstance(network.backbone, MobileNetBackbone):
        raise TypeError(f"Expected MobileNetV2 as backbone, not {type(network.backbone).__name__}.")
    return network.backbone


@dataclass
class Exam:
    """Images to score: their views in one pool, and which of them belong to which image."""

    pool: Pool
    first: list[int]
    overview: list[bool]

    def scores(self, network: gamma.Gamma) -> dict[str, np.ndarray]:
        """Return each image's label logit under "label" and the logit of its edited answer under "edited"."""
        backbone = _backbone(network)
        label, edited = [], []
        for start in range(0, len(self.pool.pixels), 2 * BATCH):
            rows = np.arange(start, min(len(self.pool.pixels), start + 2 * BATCH))
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                found = network.predict(backbone.fused(*self.pool.rows(rows)))
            label.append(found.logit.float().numpy())
            edited.append(found.answers.get("edited", found.logit).float().numpy())
        return {
            "label": self._pooled(np.concatenate(label)),
            "edited": self._pooled(np.concatenate(edited)),
        }

    def _pooled(self, values: np.ndarray) -> np.ndarray:
        ends = [*self.first[1:], len(values)]
        result = []
        for start, end, over in zip(self.first, ends, self.overview, strict=True):
            near = values[start : end - over].mean()
            result.append(near + 0.5 * (values[end - 1] - near) if over else near)
        return np.array(result)


def exam(eyes: Eyes, images: Iterator[Image]) -> Exam:
    pixels: list[np.ndarray] = []
    first, overview = [], []
    for image in images:
        first.append(len(pixels))
        size = (image.shape[1], image.shape[0])
        places = views.places_of(size, eyes.view)
        overview.append(views.has_overview(size, eyes.view))
        pixels += [views.pixels_at(image, one, eyes.view).astype(np.float16) for one in places]
    return Exam(eyes.see([p.astype(np.float32) for p in pixels]), first, overview)


def trained(
    variant: Variant, eyes: Eyes, recipe: Recipe, pool: Pool, steps: int, seed: int
) -> gamma.Gamma:
    """Train a variant's own layers on a pool of views."""
    torch.manual_seed(seed)
    config = replace(
        recipe.config,
        seg_heads=variant.seg_heads,
        correction=variant.correction,
        detach_seg=variant.detach_seg,
        manip_label=variant.manip_label,
        label_from=variant.label_from,
        lambda_was_edited=recipe.config.lambda_was_edited if variant.seg_heads == "both" else 0.0,
    )
    network = gamma.build(config)
    backbone = _backbone(network)
    backbone.load_state_dict(
        {n: v for n, v in eyes.backbone.state_dict().items() if n.split(".")[0] in FROZEN},
        strict=False,
    )
    loss, collate = gamma.loss(config), Collate(eyes.view)
    shares = np.array(
        [getattr(recipe.data.mixture, d.kind) * (d.kind in variant.kinds) for d in pool.drawn]
    )
    kinds = np.array([d.kind for d in pool.drawn])
    for kind in set(kinds):  # a pool's shares are not exactly the mixture's
        shares[kinds == kind] /= (kinds == kind).sum()
    shares /= shares.sum()
    rate = recipe.optimisation.learning_rate
    own = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(own, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    network.train()
    for _ in range(steps):
        rows = rng.choice(len(pool.drawn), BATCH, p=shares)
        pixels, seen = pool.rows(rows)
        batch = collate([pool.drawn[row] for row in rows])
        with torch.autocast("cpu", torch.bfloat16):
            prediction = network.predict(backbone.fused(pixels, seen))
        total = torch.stack(list(loss(prediction, batch).values())).sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(own, recipe.optimisation.clip_norm)
        optimiser.step()
        schedule.step()
    return network.eval()


FROZEN = {"conv_stem", "bn1", "blocks", "conv_head", "bn2"}


def pool_of(eyes: Eyes, stream: Stream, count: int) -> Pool:
    drawn: list[Drawn] = []
    parts: list[Pool] = []
    for start in track(range(0, count, 256), "views"):
        some = [stream[index] for index in range(start, min(count, start + 256))]
        parts.append(eyes.see([views.normalised(d.pixels, eyes.view) for d in some]))
        drawn += some
    seen = [torch.cat(column) for column in zip(*(p.seen for p in parts), strict=True)]
    return Pool(seen, torch.cat([p.pixels for p in parts]), drawn)


def raw(nuisance: Nuisance) -> Nuisance:
    """Leave every file as it came: no common encodings, no history."""
    nothing = codecs.EncodingLaw(1.0, jpeg=0.0, double_jpeg=0.0, webp=0.0)
    return replace(nuisance, encoding=nothing, history=nothing, again=0.0)


@dataclass
class Questions:
    """What a fold's networks are asked."""

    photos: int
    native: Exam
    recoded: Exam
    edits: Exam | None

    def answered(self, network: gamma.Gamma) -> dict[str, float]:
        native, recoded = self.native.scores(network), self.recoded.scores(network)
        result = {
            name: _auroc(found["label"][: self.photos], found["label"][self.photos :])
            for name, found in (("native", native), ("recoded", recoded))
        }
        if self.edits is not None:
            edits = self.edits.scores(network)["edited"]
            result["edited"] = _auroc(recoded["edited"][: self.photos], edits)
        return result


def _auroc(negative: np.ndarray, positive: np.ndarray) -> float:
    truth = np.arange(len(negative) + len(positive)) >= len(negative)
    return float(roc_auc_score(truth, np.concatenate([negative, positive])))


def questions(eyes: Eyes, entries: Sequence[Entry], pictures: Pictures | None) -> Questions:
    def image(entry: Entry) -> Image:
        whole = decode(entry.path).image
        rows, columns = (extent // entry.panels for extent in whole.shape[:2])
        return np.ascontiguousarray(whole[:rows, :columns])

    most = MOST if pictures else None
    photos, fakes = (whole_images(entries, label, most) for label in Label)
    asked = track([*photos, *fakes], "held out")
    native = exam(eyes, (image(e) for e in asked))
    recoded = exam(eyes, (codecs.reencode(image(e), JPEG90) for e in [*photos, *fakes]))

    def edit(entry: Entry) -> Image:
        rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()))
        donor = photos[int(rng.integers(len(photos)))]
        make = CopyMove() if rng.random() < 0.5 else Splicing(lambda _: Donor(image(donor)))
        return codecs.reencode(make(image(entry), rng).image, JPEG90)

    edits = exam(eyes, (edit(e) for e in photos)) if pictures else None
    return Questions(len(photos), native, recoded, edits)


def run(chosen: argparse.Namespace) -> None:
    torch.set_num_threads(chosen.threads)
    recipe = read_recipe(ROOT / "recipes" / "gamma_embedded.toml", [*SMALL, *chosen.set])
    results = chosen.out / "results.jsonl"
    chosen.out.mkdir(parents=True, exist_ok=True)
    done = {(r["fold"], r["variant"], r["seed"]) for r in read(results)}
    eyes = Eyes(recipe, chosen.pretrained)
    entries = [e for m in (chosen.manifest, *chosen.data) for e in read_manifest(m, "train")]
    pictures = Pictures(int(recipe.data.memory_gb * 1e9))
    folds = [f for f in FOLDS if not chosen.folds or f.name in chosen.folds]
    if chosen.dev:
        folds.insert(2, ALL)
    for fold in folds:
        left = [
            (name, seed)
            for seed in range(chosen.seeds)
            for name in chosen.variants or VARIANTS
            if (fold.name, name, seed) not in done
        ]
        if not left:
            continue
        if fold is ALL:
            asked = questions(eyes, read_manifest(chosen.manifest, "dev"), None)
        else:
            asked = questions(eyes, [e for e in entries if fold.apart.holds(e)], pictures)
        learnt = [e for e in entries if not fold.apart.holds(e)]
        for aligned in (True, False):
            mine = [(n, s) for n, s in left if VARIANTS[n].aligned is aligned]
            if not mine:
                continue
            nuisance = recipe.data.nuisance if aligned else raw(recipe.data.nuisance)
            stream = Stream(
                learnt,
                pictures,
                eyes.view.size,
                recipe.data.mixture,
                nuisance,
                seed=recipe.seed,
            )
            pool = pool_of(eyes, stream, chosen.views)
            for name, seed in track(mine, fold.name):
                network = trained(VARIANTS[name], eyes, recipe, pool, chosen.steps, seed)
                row = {"fold": fold.name, "variant": name, "seed": seed} | asked.answered(network)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def read(results: Path) -> list[dict[str, Any]]:
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


BEFORE = {"A1": "A0", "A2": "A0", "A3": "A0", "A4": "A3", "A5": "A4", "A6": "A5", "A7": "A5"}
BEFORE |= {"A8": "A6", "A9": "A6", "A9w": "A9", "A9t": "A9w", "A10": "A6"}
"""The row that a row differs from in one part (A3: in both kinds of manipulations)."""


def by_fold(results: Sequence[Mapping[str, Any]], number: str) -> dict[str, dict[str, float]]:
    """Return the mean over seeds by variant and fold; the test split is no fold."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in results:
        if number in row and row["fold"] != ALL.name:
            found.setdefault(row["variant"], {}).setdefault(row["fold"], []).append(row[number])
    return {v: {f: float(np.mean(x)) for f, x in folds.items()} for v, folds in found.items()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % t-interval; folds are the sample, not images."""
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, float("nan")
    return mean, float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))


def table(results: Sequence[Mapping[str, Any]]) -> str:
    numbers = {n: by_fold(results, n) for n in ("native", "recoded", "edited")}
    head = "variant | what | native | JPEG 90 | step at JPEG 90 [95 % over folds] | sd of seeds"
    lines = [f"| {head} | edited | dev native | dev JPEG 90 |", "| --- " * 2 + "| ---: " * 7 + "|"]
    for name in (v for v in VARIANTS if any(r["variant"] == v for r in results)):
        rows = [r for r in results if r["variant"] == name]
        means = [_mean(found.get(name, {}).values()) for found in numbers.values()]
        tested = [r for r in rows if r["fold"] == ALL.name]
        dev = [_mean([r[n] for r in tested]) for n in ("native", "recoded")]
        cells = [name, VARIANTS[name].what, _number(means[0]), _number(means[1])]
        cells += [_step(numbers["recoded"], name), _number(_spread(rows)), _number(means[2])]
        lines.append("| " + " | ".join([*cells, *map(_number, dev)]) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"


def _step(recoded: Mapping[str, Mapping[str, float]], name: str) -> str:
    """Say what one part changes, over the folds that both rows have."""
    mine, before = recoded.get(name, {}), recoded.get(BEFORE.get(name, ""), {})
    shared = sorted(before.keys() & mine.keys())
    if not shared:
        return ""
    mean, half = interval([mine[f] - before[f] for f in shared])
    if np.isnan(half):  # one fold says nothing of others
        return f"{mean:+.3f} to {BEFORE[name]}"
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}] to {BEFORE[name]}"


def _spread(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the deviation between seeds within a fold, averaged over folds."""
    by_name: dict[str, list[float]] = {}
    for row in rows:
        if row["fold"] != ALL.name:
            by_name.setdefault(row["fold"], []).append(row["recoded"])
    spreads = [np.std(values, ddof=1) for values in by_name.values() if len(values) > 1]
    return float(np.mean(spreads)) if spreads else float("nan")


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw each fold as a dot, the mean over folds with its interval beside them."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.5), sharey=True, layout="constrained")
    titles = {"recoded": "generators never seen, all at JPEG 90", "edited": "edits of photos never seen"}  # fmt: skip
    for axis, (number, title) in zip(axes, titles.items(), strict=True):
        found = by_fold(results, number)
        names = [v for v in VARIANTS if v in found]
        for at, name in enumerate(names):
            values = list(found[name].values())
            mean, half = interval(values)
            axis.plot(values, [at] * len(values), "o", color="#9aa5b1", markersize=4)
            axis.errorbar(mean, at, xerr=half, fmt="s", color="#0b3d91", capsize=3)
        axis.set_yticks(range(len(names)), [f"{n}  {VARIANTS[n].what}" for n in names])
        axis.set_xlabel(f"AUROC: {title}")
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--views", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dev", action="store_true")
    chosen = parser.parse_args()
    run(chosen)
    results = read(chosen.out / "results.jsonl")
    (chosen.out / "table.md").write_text(table(results))
    plot(results, chosen.out / "ablations.png")
    print(table(results))


if __name__ == "__main__":
    main()
